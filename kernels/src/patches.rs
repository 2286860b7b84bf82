//! Images cut into patches.

use rayon::prelude::*;

use crate::memory::{copy, filled};
use crate::tasks::rows_per_task;

/// Patches of `[ph, pw]` pixels of images `[batch, channels, height, width]`, which they tile:
/// `[batch, rows * columns, channels * ph * pw]`.
pub fn patches(images: &[f32], [channels, height, width]: [usize; 3], [ph, pw]: [usize; 2]) -> Vec<f32> {
    let tiled = ph > 0 && pw > 0 && height.is_multiple_of(ph) && width.is_multiple_of(pw);
    assert!(tiled, "patches that do not tile an image");
    let (patch, image) = (channels * ph * pw, channels * height * width);
    assert!(images.len().is_multiple_of(image.max(1)), "values that are no images");
    let (rows, columns) = (height / ph, width / pw);
    let task = rows_per_task(images.len() / patch.max(1), patch);
    // SAFETY: the tasks cover the output, and every row of every patch is written.
    unsafe {
        filled(images.len(), |out| {
            out.par_chunks_mut((task * patch).max(1)).enumerate().for_each(|(i, out)| {
                for (at, out) in (i * task..).zip(out.chunks_exact_mut(patch)) {
                    let (image, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
                    for (line, out) in out.chunks_exact_mut(pw).enumerate() {
                        let (channel, y) = (line / ph, line % ph);
                        let start = ((image * channels + channel) * height + row * ph + y) * width + column * pw;
                        copy(&images[start..start + pw], out);
                    }
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_follow_one_another_row_by_row() {
        // Two images of one channel, 2×4, in patches of 2×2.
        let images: Vec<f32> = (0..16u8).map(f32::from).collect();
        let expected = [0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.];
        assert_eq!(patches(&images, [1, 2, 4], [2, 2]), expected);
        assert_eq!(patches(&[], [3, 4, 4], [2, 2]), []);
    }
}
