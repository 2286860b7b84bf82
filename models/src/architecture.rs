//! Any model of the zoo as plain data ([`Architecture`]) and as a module ([`AnyModel`]), and what all models share.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::{Cnn, CnnConfig, Mlp, MlpConfig, ParamSpec, Params, Vit, VitConfig};

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

/// What every model of the zoo does.
pub trait Model: Send + Sync {
    /// Logits `[batch, num_classes]` of images `[batch, channels, height, width]`; where `num_classes` is 0, what
    /// [`Model::pooled`] gives.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;

    /// What the classification head reads: `[batch, num_features]` (timm's pre-logits).
    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;
}

/// A model as plain data: everything that is needed to build it, and nothing about weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// A vision transformer.
    Vit(VitConfig),
    /// A convolutional network.
    Cnn(CnnConfig),
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
}

/// A built model of any family.
#[derive(Debug, Clone)]
pub enum AnyModel {
    /// A vision transformer.
    Vit(Vit),
    /// A convolutional network.
    Cnn(Cnn),
    /// A multi-layer perceptron.
    Mlp(Mlp),
}

impl Architecture {
    /// Builds the model over a builder, as Candle's own constructors do.
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    pub fn build(&self, vb: VarBuilder) -> Result<AnyModel> {
        Ok(match self {
            Self::Vit(config) => AnyModel::Vit(Vit::new(config, vb)?),
            Self::Cnn(config) => AnyModel::Cnn(Cnn::new(config, vb)?),
            Self::Mlp(config) => AnyModel::Mlp(Mlp::new(config, vb)?),
        })
    }

    /// Names and shapes of all parameters and buffers, in order, without allocating them.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn parameters(&self) -> crate::Result<Vec<ParamSpec>> {
        Params::declared_by(|vb| self.build(vb))
    }

    /// The shape of one input image, `[channels, height, width]`.
    pub fn input_size(&self) -> [usize; 3] {
        match self {
            Self::Vit(c) => [c.in_chans, c.img_size, c.img_size],
            Self::Cnn(c) => [c.in_chans, c.img_size, c.img_size],
            Self::Mlp(c) => [c.in_chans, c.img_size, c.img_size],
        }
    }

    /// The number of classes; 0 where the model has no head.
    pub fn num_classes(&self) -> usize {
        match self {
            Self::Vit(c) => c.num_classes,
            Self::Cnn(c) => c.num_classes,
            Self::Mlp(c) => c.num_classes,
        }
    }

    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        match self {
            Self::Vit(c) => c.num_features(),
            Self::Cnn(c) => c.num_features(),
            Self::Mlp(c) => c.num_features(),
        }
    }
}

impl Model for AnyModel {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Vit(m) => m.forward(images, mode),
            Self::Cnn(m) => m.forward(images, mode),
            Self::Mlp(m) => m.forward(images, mode),
        }
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Vit(m) => m.pooled(images, mode),
            Self::Cnn(m) => m.pooled(images, mode),
            Self::Mlp(m) => m.pooled(images, mode),
        }
    }
}
