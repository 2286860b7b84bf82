//! Images to tokens: a convolution whose kernel is as large as its stride, which is a matrix product over patches.

use candle_core::{Result, Tensor, bail};

use super::linear;

/// Projects the patches of `images [batch, channels, height, width]` with `w [dim, channels, p, p]` and `b [dim]` to
/// `[batch, height / p * width / p, dim]`, row by row.
///
/// # Errors
/// If the patches do not tile the image, or the channels differ.
pub fn patch_embed(images: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    let (dim, expected, ph, pw) = w.dims4()?;
    if channels != expected || ph == 0 || pw == 0 || height % ph != 0 || width % pw != 0 {
        bail!(
            "patch_embed: expected images [batch, {expected}, height, width] that patches of {ph}x{pw} pixels tile, got {:?}",
            images.dims()
        )
    }
    let (rows, columns) = (height / ph, width / pw);
    let patches = images.reshape(vec![batch, channels, rows, ph, columns, pw])?.permute(vec![0, 2, 4, 1, 3, 5])?;
    let patches = patches.reshape((batch, rows * columns, channels * ph * pw))?;
    linear(&patches, &w.reshape((dim, channels * ph * pw))?, b)
}
