//! Heat maps as SVG: a matrix of values as colours, axes with round ticks, a colour bar.
//!
//! The colour maps are published ones that any kind of colour vision can read: matplotlib's viridis for quantities that start
//! somewhere, ColorBrewer's red to blue, with white for 0, for those with a sign.

use colorous::{Color, Gradient, RED_BLUE, VIRIDIS};
use maud::{Markup, html};

use super::chart::{Axis, round};
use super::raster::{Enlarged, raster};
use super::text::shortened;
use crate::data::Image;

const WIDTH: f64 = 440.;
const LEFT: f64 = 58.;
const TOP: f64 = 54.;
const BOTTOM: f64 = 46.;
/// The side of the map.
const SIDE: f64 = 300.;
/// Between the map and its colour bar.
const GAP: f64 = 14.;
/// The width of a colour bar.
const BAR: f64 = 14.;
/// More values on a side than the map has pixels on a screen are averaged, so that none of those that share a
/// pixel wins.
const PIXELS: usize = 600;

/// Which colours values get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Colours {
    /// From `0` to the number, dark to bright.
    UpTo(f64),
    /// From minus the number to the number, red over white to blue.
    Signed(f64),
}

impl Colours {
    /// Where the values begin and end.
    pub fn range(self) -> [f64; 2] {
        match self {
            Self::UpTo(end) => [0., end],
            Self::Signed(end) => [-end, end],
        }
    }

    /// The colour of a value; beyond the range it is that of the end.
    pub fn of(self, value: f64) -> [u8; 3] {
        let (gradient, [low, high]): (Gradient, _) = match self {
            Self::UpTo(_) => (VIRIDIS, self.range()),
            Self::Signed(_) => (RED_BLUE, self.range()),
        };
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        let Color { r, g, b } = gradient.eval_continuous(share.clamp(0., 1.));
        [r, g, b]
    }

    /// A matrix as an image, a pixel for every value.
    pub fn paint(self, values: &[f64], columns: usize) -> Image {
        let pixels = values.iter().flat_map(|&value| self.of(value)).collect();
        Image { width: columns, height: values.len() / columns.max(1), channels: 3, pixels }
    }

    /// The colour bar over `[left, top, width, height]`, and its ticks to the right of it.
    pub fn bar(self, label: &str, [left, top, width, height]: [f64; 4]) -> Markup {
        const STEPS: usize = 128;
        let [low, high] = self.range();
        let values: Vec<f64> = (0..STEPS).map(|i| high - (high - low) * (i as f64 + 0.5) / STEPS as f64).collect();
        let axis = Axis { label: label.into(), range: [low, high], log: false, whole: false, at: None };
        let right = left + width;
        html! {
            (raster(&self.paint(&values, 1), [left, top, width, height], Enlarged::Smooth))
            g fill="#444444" stroke="#888888" stroke-width="0" {
                @for (tick, text) in axis.ticks(4) {
                    @let y = round(top + height * (high - tick) / (high - low));
                    line x1=(right) x2=(right + 4.) y1=(y) y2=(y) stroke-width="1" {}
                    text x=(right + 7.) y=(round(y + 4.)) { (text) }
                }
                text x=(left) y=(top - 8.) { (label) }
            }
        }
    }
}

/// A heat map.
#[derive(Debug, Clone)]
pub(super) struct HeatMap {
    /// What it shows, in a few words.
    pub title: String,
    /// More of it, in a line below the title.
    pub subtitle: String,
    /// To the right.
    pub x: Axis,
    /// Downwards.
    pub y: Axis,
    /// A pixel for every value.
    pub image: Image,
    /// How its values became colours.
    pub colours: Colours,
    /// What the values are.
    pub values: String,
}

/// An axis over places that are counted from 0 and lie `every` apart.
pub(super) fn places(label: &str, count: usize, every: usize) -> Axis {
    let half = every as f64 / 2.;
    let last = (count.saturating_sub(1) * every) as f64;
    Axis { label: label.into(), range: [-half, last + half], log: false, whole: true, at: None }
}

impl HeatMap {
    /// The map as a file of its own.
    pub fn svg(&self) -> String {
        let (right, bottom) = (LEFT + SIDE, TOP + SIDE);
        let height = bottom + BOTTOM;
        let image = averaged(&self.image, PIXELS);
        let at = |axis: &Axis, start: f64| {
            let ticks = axis.ticks(6).into_iter();
            ticks.filter_map(|(tick, text)| Some((round(start + SIDE * axis.place(tick)?), text))).collect::<Vec<_>>()
        };
        html! {
            svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure" viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
                aria-label={ (self.title) ". " (self.subtitle) } width=(2. * WIDTH)
                font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" {
                rect width=(WIDTH) height=(height) fill="#ffffff" {}
                text x="12" y="20" font-size="14" font-weight="600" fill="#222222" { (shortened(&self.title, 52)) }
                text x="12" y="37" fill="#444444" { (self.subtitle) }
                (raster(&image, [LEFT, TOP, SIDE, SIDE], Enlarged::Pixelated))
                rect x=(LEFT) y=(TOP) width=(SIDE) height=(SIDE) fill="none" stroke="#888888" {}
                g fill="#444444" stroke="#888888" stroke-width="0" {
                    @for (x, text) in at(&self.x, LEFT) {
                        line x1=(x) x2=(x) y1=(bottom) y2=(bottom + 4.) stroke-width="1" {}
                        text x=(x) y=(bottom + 18.) text-anchor="middle" { (text) }
                    }
                    @for (y, text) in at(&self.y, TOP) {
                        line x1=(LEFT - 4.) x2=(LEFT) y1=(y) y2=(y) stroke-width="1" {}
                        text x=(LEFT - 7.) y=(round(y + 4.)) text-anchor="end" { (text) }
                    }
                    text x=((LEFT + right) / 2.) y=(height - 8.) text-anchor="middle" { (self.x.label) }
                    text transform={ "translate(14 " ((TOP + bottom) / 2.) ") rotate(-90)" } text-anchor="middle" {
                        (self.y.label)
                    }
                }
                (self.colours.bar(&self.values, [right + GAP, TOP + 16., BAR, SIDE - 16.]))
            }
        }
        .into_string()
    }
}

/// The image with at most `most` pixels on a side: means over blocks of equal size where there are more. The last block of a
/// side may be smaller.
fn averaged(image: &Image, most: usize) -> Image {
    let (across, down) = (image.width.div_ceil(most), image.height.div_ceil(most));
    if across <= 1 && down <= 1 {
        return image.clone();
    }
    let (width, height) = (image.width.div_ceil(across), image.height.div_ceil(down));
    let mut pixels = Vec::with_capacity(width * height * image.channels);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let (rows, columns) =
            (y * down..(y * down + down).min(image.height), x * across..(x * across + across).min(image.width));
        for channel in 0..image.channels {
            let level = |row: usize, column: usize| {
                u64::from(image.pixels[(row * image.width + column) * image.channels + channel])
            };
            let sum: u64 = rows
                .clone()
                .flat_map(|row| columns.clone().map(move |column| (row, column)))
                .map(|(r, c)| level(r, c))
                .sum();
            let count = (rows.len() * columns.len()) as u64;
            pixels.push(((sum + count / 2) / count) as u8);
        }
    }
    Image { width, height, channels: image.channels, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_the_published_maps() {
        // matplotlib's table of viridis, entries 0, 128 and 255, to a level.
        for (value, expected) in [(0., [68, 1, 84]), (128. / 255., [33, 145, 140]), (1., [253, 231, 37])] {
            let got = Colours::UpTo(1.).of(value);
            assert!(
                got.iter().zip(expected).all(|(&a, b): (&u8, i32)| (i32::from(a) - b).abs() <= 1),
                "{value}: {got:?}"
            );
        }
        let [red, white, blue] = [-2., 0., 2.].map(|value| Colours::Signed(2.).of(value));
        assert!(red[0] > 2 * red[2] && blue[2] > 2 * blue[0] && white.iter().all(|&level| level > 235));
        assert_eq!(Colours::Signed(2.).of(9.), blue, "beyond the end");
    }

    #[test]
    fn a_map_paints_rows_from_the_top() {
        let image = Colours::UpTo(3.).paint(&[0., 1., 2., 3., 0., 1.], 2);
        assert_eq!((image.width, image.height), (2, 3));
        assert_eq!(image.pixels[9..12], Colours::UpTo(3.).of(3.));
    }

    #[test]
    fn more_pixels_than_a_page_shows_become_means() {
        let image = Image { width: 5, height: 2, channels: 1, pixels: vec![0, 10, 20, 30, 50, 2, 12, 22, 32, 52] };
        let small = averaged(&image, 3);
        assert_eq!((small.width, small.height, small.pixels), (3, 2, vec![5, 25, 50, 7, 27, 52]));
        assert_eq!(averaged(&image, 5), image);
    }

    #[test]
    fn axes_of_places_have_their_ticks_in_the_middle_of_the_cells() {
        let axis = places("position", 4, 1);
        assert_eq!(axis.place(0.), Some(0.125));
        assert_eq!(axis.place(3.), Some(0.875));
        assert_eq!(places("row", 4, 3).range, [-1.5, 10.5]);
    }
}
