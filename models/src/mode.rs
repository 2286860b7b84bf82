//! Whether a forward pass is for training or for evaluation.

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
    /// Whether this is a training pass.
    pub fn is_train(self) -> bool {
        matches!(self, Mode::Train { .. })
    }
}
