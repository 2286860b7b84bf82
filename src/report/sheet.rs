//! A contact sheet: rows of small images under one another, each row with a label, as one PNG.

use font8x8::{BASIC_FONTS, LATIN_FONTS, UnicodeFonts};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageResult};

use crate::data::Image;

/// Images are enlarged by a whole factor until they are about so many pixels wide.
const TILE: usize = 96;
/// Pixels between images.
const GAP: usize = 6;
/// The side of a character in pixels: twice the font's.
const CHARACTER: usize = 16;
/// Characters of a label; the rest is cut off.
const LABEL: usize = 14;

/// A row of a contact sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetRow {
    /// What stands before it.
    pub label: String,
    /// All of one size, one for each column.
    pub images: Vec<Image>,
}

/// Draws a contact sheet, the bytes of a PNG. `columns` are the titles of its columns.
///
/// # Errors
/// If the sheet is larger than a PNG can be.
pub fn contact_sheet(columns: &[String], rows: &[SheetRow]) -> ImageResult<Vec<u8>> {
    let sheet = draw(columns, rows);
    let mut png = Vec::new();
    let size = (sheet.width as u32, sheet.height as u32);
    PngEncoder::new(&mut png).write_image(&sheet.pixels, size.0, size.1, ExtendedColorType::Rgb8)?;
    Ok(png)
}

pub(super) fn draw(columns: &[String], rows: &[SheetRow]) -> Image {
    let (width, height) = rows.iter().flat_map(|row| &row.images).map(|i| (i.width, i.height)).max().unwrap_or((1, 1));
    let factor = ((TILE as f64 / width as f64).round() as usize).max(1);
    let (tile_width, tile_height) = (width * factor + GAP, (height * factor).max(CHARACTER) + GAP);
    let longest = rows.iter().map(|row| row.label.chars().count().min(LABEL)).max().unwrap_or(0);
    let (left, top) = (GAP + longest * CHARACTER + GAP, GAP + CHARACTER + GAP);
    let size = (left + columns.len() * tile_width, top + rows.len() * tile_height);
    let mut sheet = Image { width: size.0, height: size.1, channels: 3, pixels: vec![255; size.0 * size.1 * 3] };
    for (number, title) in columns.iter().enumerate() {
        text(&mut sheet, left + number * tile_width, GAP, title, (tile_width - GAP) / (CHARACTER / 2), 1);
    }
    for (number, row) in rows.iter().enumerate() {
        let y = top + number * tile_height;
        text(&mut sheet, GAP, y + (tile_height - GAP - CHARACTER) / 2, &row.label, LABEL, 2);
        for (column, image) in row.images.iter().enumerate() {
            paste(&mut sheet, left + column * tile_width, y, image, factor);
        }
    }
    sheet
}

/// Draws an image enlarged by a whole factor, every pixel a square.
fn paste(sheet: &mut Image, left: usize, top: usize, image: &Image, factor: usize) {
    for y in 0..image.height * factor {
        for x in 0..image.width * factor {
            let at = (y / factor * image.width + x / factor) * image.channels;
            let pixel = &image.pixels[at..at + image.channels];
            let colour = if let [grey] = pixel { [*grey; 3] } else { [pixel[0], pixel[1], pixel[2]] };
            set(sheet, left + x, top + y, colour);
        }
    }
}

/// Writes at most `room` characters in black, with `scale` pixels for each of the font's. What the font lacks is a `?`.
fn text(sheet: &mut Image, left: usize, top: usize, text: &str, room: usize, scale: usize) {
    for (number, character) in text.chars().take(room).enumerate() {
        let glyph = BASIC_FONTS.get(character).or_else(|| LATIN_FONTS.get(character)).or_else(|| BASIC_FONTS.get('?'));
        for (row, bits) in glyph.unwrap_or_default().into_iter().enumerate() {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                for (x, y) in (0..scale * scale).map(|i| (i % scale, i / scale)) {
                    set(sheet, left + (number * 8 + column) * scale + x, top + row * scale + y, [0; 3]);
                }
            }
        }
    }
}

fn set(sheet: &mut Image, x: usize, y: usize, colour: [u8; 3]) {
    if x < sheet.width && y < sheet.height {
        let at = (y * sheet.width + x) * 3;
        sheet.pixels[at..at + 3].copy_from_slice(&colour);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_stand_enlarged_in_their_columns_after_their_label() {
        let tile = |level| Image { width: 32, height: 32, channels: 1, pixels: vec![level; 32 * 32] };
        let row = |label: &str, levels: [u8; 2]| SheetRow { label: label.into(), images: levels.map(tile).into() };
        let sheet = draw(&["a".into(), "b".into()], &[row("cat", [10, 20]), row("horse", [30, 40])]);
        let left = GAP + 5 * CHARACTER + GAP;
        let top = GAP + CHARACTER + GAP;
        assert_eq!((sheet.width, sheet.height), (left + 2 * (96 + GAP), top + 2 * (96 + GAP)));
        let at = |x: usize, y: usize| sheet.pixels[(y * sheet.width + x) * 3];
        for (row, levels) in [[10, 20], [30, 40]].iter().enumerate() {
            for (column, level) in levels.iter().enumerate() {
                let (x, y) = (left + column * (96 + GAP), top + row * (96 + GAP));
                assert_eq!([at(x, y), at(x + 95, y + 95), at(x + 96, y)], [*level, *level, 255]);
            }
        }
        let black = |from: usize, to: usize| (top..top + 96).any(|y| (from..to).any(|x| at(x, y) == 0));
        assert!(black(GAP, GAP + 3 * CHARACTER) && !black(GAP + 3 * CHARACTER, left), "a label of three characters");
    }
}
