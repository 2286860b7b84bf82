//! Images to tokens: a convolution whose kernel is as large as its stride, which is a matrix product over patches.

use candle_core::{Result, Tensor, bail};
use tallow_kernels::patches as kernel;

use super::linear::{self, linear};
use crate::autograd::{Call, Function, take_storage};
use crate::slices::{CpuValues, serves, tensor};

/// Projects the patches of `images [batch, channels, height, width]` with `w [dim, channels, p, p]` and `b [dim]` to
/// `[batch, height / p * width / p, dim]`, row by row.
///
/// # Errors
/// If the patches do not tile the image, or the channels differ.
pub fn patch_embed(images: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (_, channels, height, width) = images.dims4()?;
    let (dim, expected, ph, pw) = w.dims4()?;
    if channels != expected || ph == 0 || pw == 0 || height % ph != 0 || width % pw != 0 {
        bail!(
            "patch_embed: expected images [batch, {expected}, height, width] that patches of {ph}x{pw} pixels tile, got {:?}",
            images.dims()
        )
    }
    let rows = w.reshape((dim, channels * ph * pw))?;
    let function = Function::new("patch_embed", [images, w].into_iter().chain(b));
    if !function.is_tracked() || images.track_op() || !serves([images, w].into_iter().chain(b)) {
        return linear(&patches(images, [ph, pw])?, &rows, b);
    }
    // The backward cuts the images again, which the caller mostly has anyway: their patches are as large as they are.
    let y = linear(&patches(images, [ph, pw])?, &rows.detach(), b.map(Tensor::detach).as_ref())?;
    function.output(take_storage(&y)?, y.shape()).backward(move |call| {
        let mut operands = call.operands.to_vec();
        operands[0] = patches(&operands[0], [ph, pw])?;
        operands[1] = operands[1].reshape((dim, channels * ph * pw))?;
        let mut gradients = linear::backward(&Call { operands: &operands, ..*call })?;
        gradients[1] = gradients[1].take().map(|gradient| gradient.reshape((dim, channels, ph, pw))).transpose()?;
        Ok(gradients)
    })
}

/// The patches of `[ph, pw]` pixels of `images [batch, channels, height, width]`, row by row:
/// `[batch, height / ph * width / pw, channels * ph * pw]`.
///
/// # Errors
/// If the patches do not tile the image.
pub fn patches(images: &Tensor, [ph, pw]: [usize; 2]) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    if ph == 0 || pw == 0 || height % ph != 0 || width % pw != 0 {
        bail!("patches: expected images that patches of {ph}x{pw} pixels tile, got {:?}", images.dims())
    }
    if !serves([images]) || images.track_op() {
        return composed_cut(images, [ph, pw]);
    }
    let values = kernel::patches(&CpuValues::of(&images.contiguous()?)?, [channels, height, width], [ph, pw]);
    tensor(values, &[batch, (height / ph) * (width / pw), channels * ph * pw])
}

/// Patches `[batch, rows * columns, channels * ph * pw]` of images.
fn composed_cut(images: &Tensor, [ph, pw]: [usize; 2]) -> Result<Tensor> {
    let (batch, channels, height, width) = images.dims4()?;
    let (rows, columns) = (height / ph, width / pw);
    let patches = images.reshape(vec![batch, channels, rows, ph, columns, pw])?.permute(vec![0, 2, 4, 1, 3, 5])?;
    patches.reshape((batch, rows * columns, channels * ph * pw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{check, distance, values};

    #[test]
    fn tracked_images_and_parameters_get_their_gradients() -> Result<()> {
        check("patch_embed", &[&[2, 3, 8, 12], &[5, 3, 4, 3], &[5]], |t| patch_embed(&t[0], &t[1], Some(&t[2])))
    }

    #[test]
    fn cutting_is_the_permutation() -> Result<()> {
        for (dims, patch) in [([1, 1, 1, 1], [1, 1]), ([2, 3, 8, 12], [4, 3]), ([3, 2, 28, 14], [14, 14])] {
            let images = values(&dims, 1)?;
            let got = kernel::patches(&CpuValues::of(&images)?, [dims[1], dims[2], dims[3]], patch);
            let exact = composed_cut(&images, patch)?;
            assert_eq!(distance(&tensor(got, exact.dims())?, &exact)?, 0.);
        }
        Ok(())
    }

    #[test]
    fn patches_that_do_not_tile_the_image_are_an_error() -> Result<()> {
        let w = values(&[5, 3, 4, 4], 1)?;
        let message = patch_embed(&values(&[1, 3, 8, 10], 0)?, &w, None).unwrap_err().to_string();
        assert!(message.contains("4x4") && message.contains("[1, 3, 8, 10]"), "{message}");
        assert!(patch_embed(&values(&[1, 1, 8, 8], 0)?, &w, None).is_err());
        Ok(())
    }
}
