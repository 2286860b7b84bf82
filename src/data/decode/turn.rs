//! Turning and mirroring an image as one of the eight orientations of EXIF says.

use crate::data::Image;

/// Rows and columns that are moved together, so that what is read and what is written both stay near the processor.
const BLOCK: usize = 32;

/// The image as it is meant, where its pixels lie in the orientation `value`, from 1 (as they are meant) to 8.
pub(super) fn turned(image: Image, value: u8) -> Image {
    match image.channels {
        _ if !(2..=8).contains(&value) => image,
        1 => of_channels::<1>(&image, value),
        3 => of_channels::<3>(&image, value),
        4 => of_channels::<4>(&image, value),
        _ => image,
    }
}

fn of_channels<const CHANNELS: usize>(image: &Image, value: u8) -> Image {
    let (pixels, _) = image.pixels.as_chunks::<CHANNELS>();
    let [swapped, from_right, from_below] = [value >= 5, [2, 3, 7, 8].contains(&value), [3, 4, 6, 7].contains(&value)];
    let (width, height) = if swapped { (image.height, image.width) } else { (image.width, image.height) };
    let mut turned = vec![[0; CHANNELS]; pixels.len()];
    for (top, left) in (0..height).step_by(BLOCK).flat_map(|top| (0..width).step_by(BLOCK).map(move |left| (top, left)))
    {
        for y in top..height.min(top + BLOCK) {
            for x in left..width.min(left + BLOCK) {
                let (column, row) = if swapped { (y, x) } else { (x, y) };
                let column = if from_right { image.width - 1 - column } else { column };
                let row = if from_below { image.height - 1 - row } else { row };
                turned[y * width + x] = pixels[row * image.width + column];
            }
        }
    }
    Image { width, height, channels: CHANNELS, pixels: turned.into_flattened() }
}
