//! What the configuration of every family says of its model.

use std::fmt::Debug;

use candle_nn::VarBuilder;

use super::Model;
use crate::{ImgSize, ParamSpec, Params, Result};

/// The part of a model that a parameter belongs to, from the input to the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// What turns an image into the first features: patch embedding, tokens, positions.
    Stem,
    /// One block, counted from 0: a transformer block, a convolution with its norm, a hidden linear layer.
    Block(usize),
    /// Between the last block and the head: final norm, attention pool.
    Neck,
    /// The classifier.
    Head,
}

/// The configuration of a family's models as plain data: everything that is needed to build one, and nothing about weights.
pub trait ModelConfig: Debug + Send + Sync {
    /// The model that it describes.
    type Model: Model
    where
        Self: Sized;

    /// The family's architectures that have a name in the [zoo](crate::zoo), in the order in which they are listed.
    fn named() -> Vec<(&'static str, Self)>
    where
        Self: Sized;

    /// Builds the model over a builder, as Candle's own constructors do.
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    fn build(&self, vb: VarBuilder) -> candle_core::Result<Self::Model>
    where
        Self: Sized;

    /// Checks that the configuration makes sense and that the model is of a size that can be built. Building does it too.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field, what it can be, and what it is.
    fn validate(&self) -> Result<()>;

    /// Sets the option `key`, a field of the configuration, from text: `set("embed_dim", "64")`, `set("global_pool", "avg")`,
    /// `set("init_values", "none")`, `set("hidden", "128,64")`, `set("img_size", "224x160")` (height and width).
    ///
    /// It does not ask whether the whole still makes sense, as the next option may change that: see [`ModelConfig::validate`].
    ///
    /// # Errors
    /// [`crate::Error::UnknownOption`] lists the keys; [`crate::Error::Config`] if the value is of another type.
    fn set(&mut self, key: &str, value: &str) -> Result<()>;

    /// The shape of one input image, `[channels, height, width]`.
    fn input_size(&self) -> [usize; 3];

    /// Another height and width of the input, in pixels.
    fn set_img_size(&mut self, img_size: ImgSize);

    /// Another number of input channels.
    fn set_in_chans(&mut self, in_chans: usize);

    /// The number of classes; 0 where the model has no head.
    fn num_classes(&self) -> usize;

    /// Another number of classes; 0 leaves out the head.
    fn set_num_classes(&mut self, num_classes: usize);

    /// The width of what the head reads.
    fn num_features(&self) -> usize;

    /// Floating-point operations of a forward pass for one image: two for every multiply-add of a linear layer, a convolution
    /// or an attention, nothing else counted, as PyTorch's `FlopCounterMode` does. The multiply-adds (MACs) that papers and
    /// timm's tables call FLOPs are half of it. A training step takes about three times as many.
    fn flops(&self) -> u64;

    /// The part of the model that the parameter called `name` belongs to.
    fn stage_of(&self, name: &str) -> Stage;

    /// The number of blocks: transformer blocks, or the layers before the head.
    fn num_blocks(&self) -> usize;

    /// The layer of a parameter for layer-wise decay of the learning rate, whose scale is `decay^(num_layers - 1 - layer_id)`.
    fn layer_id(&self, name: &str) -> usize {
        match self.stage_of(name) {
            Stage::Stem => 0,
            Stage::Block(i) => i,
            Stage::Neck | Stage::Head => self.num_layers() - 1,
        }
    }

    /// The number of layers that [`ModelConfig::layer_id`] tells apart.
    fn num_layers(&self) -> usize {
        self.num_blocks() + 1
    }

    /// Whether a training pass draws anything: dropout, stochastic depth.
    fn is_random(&self) -> bool;

    /// Whether the head reads nothing but the pooled features, one row for an image, and these depend on nothing but the image
    /// and the parameters (not on running statistics, which change even in frozen layers).
    fn head_reads_pooled(&self) -> bool;

    /// The weight `[filters, channels, height, width]` whose filters read the image itself, and how many of its channels are the
    /// image's own; none where the first layer has no filters.
    fn filters(&self) -> Option<(&'static str, usize)>;

    /// Names and shapes of all parameters and buffers, in order, without allocating them.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    fn parameters(&self) -> Result<Vec<ParamSpec>>
    where
        Self: Sized,
    {
        self.validate()?;
        Params::declared_by(|vb| self.build(vb))
    }

    /// The number of values in all parameters, buffers not counted.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    fn num_parameters(&self) -> Result<usize>
    where
        Self: Sized,
    {
        Ok(self.parameters()?.iter().filter(|spec| !spec.is_buffer()).map(ParamSpec::elem_count).sum())
    }
}
