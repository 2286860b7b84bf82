//! What a ViT attends to, drawn over the image as the model saw it.

use maud::html;
use tallow_weights::Interpolation;

use super::heatmap::Colours;
use super::raster::{Enlarged, raster};
use super::text::shortened;
use crate::data::resize::resize;
use crate::data::{self, Image};

const WIDTH: f64 = 880.;
const LEFT: f64 = 16.;
const TOP: f64 = 60.;
const COLUMNS: usize = 4;
const PANEL: f64 = 200.;
const GAP: f64 = 16.;
/// The line under a panel.
const CAPTION: f64 = 24.;
/// The least pixels on a side of a panel: small images are enlarged before attention is laid over them.
const LEAST: usize = 168;
/// The most, which is as many as the picture shows.
const MOST: usize = 448;
/// How much of the attention's colour covers the image.
const COVER: f64 = 0.6;

/// How much is taken from each patch.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMap {
    /// Whose it is: a head, their mean, the rollout.
    pub name: String,
    /// `grid * grid` weights, row by row.
    pub weights: Vec<f32>,
}

/// A picture of the `image` that a model saw and, over it, of every map, `grid` patches on a side: dark is 0, bright the map's
/// largest weight. Between the patches' centres weights are interpolated.
///
/// # Errors
/// If the image has a size of 0, or neither 1 nor 3 channels.
pub fn attention_picture(
    title: &str,
    subtitle: &str,
    image: &Image,
    grid: [usize; 2],
    maps: &[AttentionMap],
) -> data::Result<String> {
    let seen = fitted(image)?;
    let longer = seen.width.max(seen.height) as f64;
    let [panel_width, panel_height] = [seen.width, seen.height].map(|side| PANEL * side as f64 / longer);
    let place = |i: usize| {
        let (x, y) = ((i % COLUMNS) as f64, (i / COLUMNS) as f64);
        [LEFT + x * (PANEL + GAP), TOP + y * (PANEL + CAPTION + GAP), panel_width, panel_height]
    };
    let lines = (maps.len() + 1).div_ceil(COLUMNS);
    let bottom = TOP + lines as f64 * (PANEL + CAPTION + GAP) - GAP;
    let height = bottom + 40.;
    let peak = |map: &AttentionMap| map.weights.iter().fold(0f32, |peak, &weight| peak.max(weight));
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure" viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
            aria-label={ (title) ". " (subtitle) } width=(WIDTH)
            font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" {
            rect width=(WIDTH) height=(height) fill="#ffffff" {}
            text x=(LEFT) y="24" font-size="16" font-weight="600" fill="#222222" { (shortened(title, 90)) }
            text x=(LEFT) y="44" fill="#444444" { (shortened(subtitle, 120)) }
            (raster(&seen, place(0), Enlarged::Smooth))
            (caption("as the model sees it", place(0)))
            @for (i, map) in maps.iter().enumerate() {
                (raster(&overlay(&seen, grid, &map.weights, peak(map)), place(i + 1), Enlarged::Smooth))
                (caption(&format!("{}: {:.2} %", map.name, 100. * peak(map)), place(i + 1)))
            }
            (key(bottom + 10.))
        }
    };
    Ok(svg.into_string())
}

fn caption(text: &str, [left, top, _, height]: [f64; 4]) -> maud::Markup {
    html! { text x=(left) y=(top + height + 16.) fill="#444444" { (text) } }
}

/// The colours of the maps, from left to right.
fn key(top: f64) -> maud::Markup {
    const STEPS: usize = 128;
    let shares: Vec<f64> = (0..STEPS).map(|i| (i as f64 + 0.5) / STEPS as f64).collect();
    let bar = Colours::UpTo(1.).paint(&shares, STEPS);
    html! {
        text x=(LEFT) y=(top + 12.) fill="#444444" { "0" }
        (raster(&bar, [LEFT + 14., top, 180., 14.], Enlarged::Smooth))
        text x=(LEFT + 202.) y=(top + 12.) fill="#444444" { "the largest weight of a patch, which stands below the panel (in percent of all that is taken)" }
    }
}

/// The image in three channels, of a size that suits a panel: where it is small every pixel is a square of a whole number of
/// pixels.
fn fitted(image: &Image) -> data::Result<Image> {
    if image.width.max(image.height) > MOST {
        let scaled = |side: usize| (side * MOST).div_ceil(image.width.max(image.height)).clamp(1, MOST);
        return fitted(&resize(image, scaled(image.width), scaled(image.height), Interpolation::Bilinear)?);
    }
    let factor = LEAST.div_ceil(image.width.min(image.height).max(1)).max(1);
    let (width, height) = (image.width * factor, image.height * factor);
    let mut pixels = Vec::with_capacity(width * height * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let start = (y / factor * image.width + x / factor) * image.channels;
        let pixel = &image.pixels[start..start + image.channels];
        pixels.extend(if let [grey] = pixel { [*grey; 3] } else { [pixel[0], pixel[1], pixel[2]] });
    }
    Ok(Image { width, height, channels: 3, pixels })
}

/// The image in grey under the colours of the weights.
fn overlay(image: &Image, grid: [usize; 2], weights: &[f32], peak: f32) -> Image {
    let colours = Colours::UpTo(f64::from(peak).max(f64::MIN_POSITIVE));
    let grey = image.to_grey();
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..image.height {
        for x in 0..image.width {
            let weight = between(weights, grid, [(x, image.width), (y, image.height)]);
            let under = f64::from(grey.pixels[y * image.width + x]);
            pixels.extend(
                colours.of(weight).map(|level| (COVER * f64::from(level) + (1. - COVER) * under).round() as u8),
            );
        }
    }
    Image { width: image.width, height: image.height, channels: 3, pixels }
}

/// The weight at a pixel, linear between the centres of the patches, as PyTorch's `interpolate(mode="bilinear")` has it.
fn between(weights: &[f32], [rows, columns]: [usize; 2], [across, down]: [(usize, usize); 2]) -> f64 {
    let along = |(pixel, pixels): (usize, usize), patches: usize| {
        let at = ((pixel as f64 + 0.5) * patches as f64 / pixels as f64 - 0.5).clamp(0., (patches - 1) as f64);
        let low = at.floor();
        (low as usize, (low as usize + 1).min(patches - 1), at - low)
    };
    let ((left, right, x), (top, bottom, y)) = (along(across, columns), along(down, rows));
    let weight = |row: usize, column: usize| f64::from(weights[row * columns + column]);
    let line = |row: usize| weight(row, left) * (1. - x) + weight(row, right) * x;
    line(top) * (1. - y) + line(bottom) * y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_between_the_patches_are_pytorchs() {
        // F.interpolate(torch.tensor([[[[0., 1.], [2., 5.]]]]), size=(4, 4), mode="bilinear")
        let expected = [[0., 0.25, 0.75, 1.], [0.5, 0.875, 1.625, 2.], [1.5, 2.125, 3.375, 4.], [2., 2.75, 4.25, 5.]];
        for (y, row) in expected.iter().enumerate() {
            for (x, expected) in row.iter().enumerate() {
                let got = between(&[0., 1., 2., 5.], [2, 2], [(x, 4), (y, 4)]);
                assert!((got - expected).abs() < 1e-12, "{x} {y}: {got}");
            }
        }
    }

    #[test]
    fn small_images_are_enlarged_pixel_by_pixel() {
        let image = Image { width: 28, height: 28, channels: 1, pixels: (0..784).map(|i| (i % 251) as u8).collect() };
        let large = fitted(&image).unwrap();
        assert_eq!((large.width, large.height, large.channels), (168, 168, 3));
        let at = |x: usize, y: usize| large.pixels[(y * 168 + x) * 3];
        assert_eq!([at(0, 0), at(5, 5), at(6, 5), at(0, 6)], [0, 0, 1, 28]);
    }

    #[test]
    fn the_largest_weight_is_the_brightest_and_none_is_the_darkest() {
        let black = Image { width: 4, height: 4, channels: 3, pixels: vec![0; 48] };
        let over = overlay(&black, [2, 2], &[0., 0., 0., 0.25], 0.25);
        let at = |i: usize| over.pixels[i * 3..i * 3 + 3].to_vec();
        let shade =
            |value: f64| Colours::UpTo(1.).of(value).map(|level| (0.6 * f64::from(level)).round() as u8).to_vec();
        assert_eq!((at(0), at(15)), (shade(0.), shade(1.)));
    }
}
