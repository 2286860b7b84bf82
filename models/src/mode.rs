//! Whether a forward pass is for training or for evaluation.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a forward pass is for training (dropout, stochastic depth, batch statistics) or for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing is random; batch norm uses its running statistics.
    #[default]
    Eval,
    /// Training. All masks of this pass are drawn from `seed` and the place of the layer in the model, so that the same
    /// seed gives the same pass: use another one for every step.
    Train {
        /// The seed of this step.
        seed: u64,
    },
}

impl Mode {
    /// The mode of a pass that is asked for as Candle's [`ModuleT`](candle_nn::ModuleT) asks: for training or not. Every training
    /// pass of the process gets the next number as its seed, from 0 on, so that no two draw the same masks. A run that is to be
    /// repeated or resumed says its seeds itself.
    pub fn of(train: bool) -> Self {
        static PASSES: AtomicU64 = AtomicU64::new(0);
        if train { Self::Train { seed: PASSES.fetch_add(1, Ordering::Relaxed) } } else { Self::Eval }
    }

    /// Whether this is a training pass.
    pub fn is_train(self) -> bool {
        matches!(self, Mode::Train { .. })
    }
}
