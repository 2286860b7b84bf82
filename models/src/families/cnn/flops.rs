//! What a forward pass of the CNN costs.

use super::CnnConfig;
use super::config::{FILTERS, KERNEL};
use crate::ModelConfig;

/// The multiply-adds of a forward pass for one image.
pub(super) fn multiply_adds(c: &CnnConfig) -> u64 {
    let inputs = [c.in_chans, FILTERS[0], FILTERS[1]];
    let convolutions: usize =
        (0..3).map(|i| c.map_sizes()[i].iter().product::<usize>() * inputs[i] * FILTERS[i] * KERNEL.pow(2)).sum();
    (convolutions + c.num_features() * (c.flattened() + c.num_classes)) as u64
}
