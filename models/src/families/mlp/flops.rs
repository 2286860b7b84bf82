//! What a forward pass of an MLP costs.

use super::MlpConfig;

/// The multiply-adds of a forward pass for one image.
pub(super) fn multiply_adds(config: &MlpConfig) -> u64 {
    config.layer_dims().iter().map(|&(input, output)| input as u64 * output as u64).sum()
}
