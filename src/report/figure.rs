//! A picture in its two files: `NAME.svg` as it was drawn, and, with the feature `png`, `NAME.png` of the same.

use std::path::{Path, PathBuf};

use super::error::Result;

/// Pixels of a PNG for each of the SVG's own units: sharp on a dense screen and in print.
#[cfg(feature = "png")]
const SCALE: f32 = 2.;

/// Wider or higher than this is no picture for a report.
#[cfg(feature = "png")]
const LARGEST: u32 = 16_384;

/// Writes a picture as `stem.svg` and, with the feature `png`, as `stem.png`; each as a whole.
///
/// # Errors
/// If a file cannot be written, or `svg` is none.
pub fn write_figure(stem: &Path, svg: &str) -> Result<()> {
    super::write(&with_ending(stem, ".svg"), svg)?;
    #[cfg(feature = "png")]
    {
        let path = with_ending(stem, ".png");
        let png =
            png(svg).map_err(|got| super::Error::Damaged { path: path.clone(), expected: "a picture".into(), got })?;
        super::write(&path, png)?;
    }
    Ok(())
}

/// Whatever dots there are in the name, they are part of it.
fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// The picture as a PNG on white, its text in DejaVu Sans: the same on every machine, whatever fonts it has.
#[cfg(feature = "png")]
fn png(svg: &str) -> std::result::Result<Vec<u8>, String> {
    use resvg::{tiny_skia, usvg};

    let mut options = usvg::Options { font_family: "DejaVu Sans".into(), ..usvg::Options::default() };
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("an empty one")?;
    let (width, height) = (size.width(), size.height());
    let mut pixels = (width.max(height) <= LARGEST).then(|| tiny_skia::Pixmap::new(width, height)).flatten();
    let pixels = pixels.as_mut().ok_or_else(|| format!("one of {width}x{height} pixels"))?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}

#[cfg(all(test, feature = "png"))]
mod tests {
    use super::*;

    #[test]
    fn a_png_shows_what_the_svg_draws_text_included() {
        let picture = |inside: &str| {
            let svg = format!(
                r##"<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20" font-family="system-ui, sans-serif">{inside}</svg>"##
            );
            let decoded = image::load_from_memory(&png(&svg).unwrap()).unwrap().to_rgb8();
            assert_eq!(decoded.dimensions(), (80, 40));
            decoded
        };
        let red = picture(r##"<rect x="0" y="0" width="20" height="20" fill="#ff0000"/>"##);
        assert_eq!((red.get_pixel(10, 10).0, red.get_pixel(60, 10).0), ([255, 0, 0], [255; 3]));
        let text = picture(r##"<text x="2" y="15" font-size="14">W</text>"##);
        assert!(text.pixels().any(|pixel| pixel.0[0] < 50), "no text was drawn");
        assert!(png("<svg").is_err());
    }
}
