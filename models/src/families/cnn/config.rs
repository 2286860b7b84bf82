//! What the CNN is made of, as plain data.

use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::{Cnn, flops};
use crate::families::check::{check, check_parameters, check_rate, check_size};
use crate::families::option::plain_fields;
use crate::families::stages::stage_of_numbered;
use crate::families::{ModelConfig, Stage};
use crate::{ImgSize, Result};

/// Filters of the three convolutions.
pub(super) const FILTERS: [usize; 3] = [32, 64, 64];
/// Height and width of their kernels.
pub(super) const KERNEL: usize = 5;
/// Width of the hidden linear layer.
pub(super) const FEATURES: usize = 1000;

/// Configuration of the CNN. The default is for CIFAR-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CnnConfig {
    /// Height and width of the input image in pixels, at least 4 each. Default 32, a square.
    pub img_size: ImgSize,
    /// Input channels. Default 3.
    pub in_chans: usize,
    /// Classes; 0 leaves out the head. Default 10.
    pub num_classes: usize,
    /// Dropout between `fc4` and `fc5`. Default 0.
    pub drop_rate: f64,
    /// Batch normalisation after every convolution. Default false.
    pub batch_norm: bool,
}

impl CnnConfig {
    /// The same after `change`, in one expression: `CnnConfig::default().with(|c| c.batch_norm = true)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Height and width of the maps before each of the three pools and after the last.
    pub(super) fn map_sizes(&self) -> [[usize; 2]; 4] {
        let shrunk = |by: fn(usize) -> usize| self.img_size.sides().map(by);
        [shrunk(|side| side), shrunk(|side| side / 2), shrunk(|side| side / 4), shrunk(|side| (side / 4).div_ceil(2))]
    }

    /// Values that the first linear layer reads.
    pub(super) fn flattened(&self) -> usize {
        FILTERS[2] * self.map_sizes()[3].iter().product::<usize>()
    }
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self { img_size: ImgSize::square(32), in_chans: 3, num_classes: 10, drop_rate: 0., batch_norm: false }
    }
}

impl ModelConfig for CnnConfig {
    type Model = Cnn;

    fn named() -> Vec<(&'static str, Self)> {
        vec![("cnn_cifar10", Self::default())]
    }

    fn build(&self, vb: VarBuilder) -> candle_core::Result<Cnn> {
        Cnn::new(self, vb)
    }

    fn validate(&self) -> Result<()> {
        let fits = self.img_size.sides().iter().all(|side| (4..=1 << 13).contains(side));
        check(fits, "img_size", || format!("4 to {}", 1 << 13), self.img_size)?;
        check_size("in_chans", self.in_chans, 1 << 16)?;
        check(self.num_classes <= 1 << 20, "num_classes", || format!("at most {}", 1 << 20), self.num_classes)?;
        check_rate("drop_rate", self.drop_rate)?;
        check_parameters((FEATURES * (self.flattened() + self.num_classes)) as u64)
    }

    plain_fields!();

    fn num_features(&self) -> usize {
        FEATURES
    }

    fn flops(&self) -> u64 {
        2 * flops::multiply_adds(self)
    }

    fn stage_of(&self, name: &str) -> Stage {
        stage_of_numbered(name, self.num_blocks())
    }

    /// Three convolutions and `fc4`.
    fn num_blocks(&self) -> usize {
        FILTERS.len() + 1
    }

    fn is_random(&self) -> bool {
        self.drop_rate > 0.
    }

    fn head_reads_pooled(&self) -> bool {
        !self.batch_norm
    }

    fn filters(&self) -> Option<(&'static str, usize)> {
        Some(("conv1.weight", self.in_chans))
    }
}
