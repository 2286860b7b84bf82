//! Patch kernels for another number of input channels, as timm's `adapt_input_conv`.

use candle_core::{Result, Tensor};

/// Adapts kernels `[dim, channels, height, width]` to `new` input channels: to one they are summed; to more they are repeated and
/// scaled by `channels / new`, so that equal channels give what they gave before. Of red, green, blue and alpha, the kernels of
/// alpha are left out first: what is opaque has no alpha to read.
///
/// # Errors
/// If the kernels have another rank.
pub fn adapt_channels(kernels: &Tensor, new: usize) -> Result<Tensor> {
    let (_, old, _, _) = kernels.dims4()?;
    if new == old {
        return Ok(kernels.clone());
    }
    if old == 0 {
        candle_core::bail!("kernels without input channels: {:?}", kernels.dims());
    }
    if old == 4 && new < old {
        return adapt_channels(&kernels.narrow(1, 0, 3)?, new);
    }
    if new == 1 {
        return kernels.sum_keepdim(1);
    }
    let repeated = Tensor::cat(&vec![kernels; new.div_ceil(old)], 1)?.narrow(1, 0, new)?;
    repeated.affine(old as f64 / new as f64, 0.)
}
