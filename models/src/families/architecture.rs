//! Any model of the zoo as plain data ([`Architecture`]) and as a module ([`AnyModel`]). Both have a variant for every line of the
//! registry, and only pass on what the family's own configuration and model do.

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

use super::{AnyModel, Architecture, Model, Stage};
use crate::{ImgSize, Mode, ParamSpec, Params};

/// A variant of both enums for every family, and what has to be said for each of them.
macro_rules! registry {
    ($($(#[$doc:meta])* $family:ident($config:ty, $model:ty);)*) => {
        /// A model as plain data: everything that is needed to build it, and nothing about weights.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "family", rename_all = "lowercase")]
        #[allow(clippy::large_enum_variant, reason = "there are few of them, and who matches on one wants its fields")]
        #[non_exhaustive]
        pub enum Architecture {
            $($(#[$doc])* $family($config),)*
        }

        /// A built model of any family.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum AnyModel {
            $($(#[$doc])* $family(Box<$model>),)*
        }

        impl Architecture {
            /// The architectures that have a name in the zoo, in the order in which they are listed.
            pub(crate) fn named() -> Vec<(&'static str, Self)> {
                let mut named = Vec::new();
                $(named.extend(<$config>::named().into_iter().map(|(name, config)| (name, Self::$family(config))));)*
                named
            }

            /// Builds the model over a builder, as Candle's own constructors do.
            ///
            /// # Errors
            /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
            pub fn build(&self, vb: VarBuilder) -> Result<AnyModel> {
                Ok(match self {
                    $(Self::$family(config) => AnyModel::$family(Box::new(config.build(vb)?)),)*
                })
            }

            /// The family's name, as configuration files have it: `vit`, `cnn`, `mlp`.
            pub fn family(&self) -> String {
                match self {
                    $(Self::$family(_) => stringify!($family).to_ascii_lowercase(),)*
                }
            }

            fn config(&self) -> &dyn ModelConfig {
                match self {
                    $(Self::$family(config) => config,)*
                }
            }

            fn config_mut(&mut self) -> &mut dyn ModelConfig {
                match self {
                    $(Self::$family(config) => config,)*
                }
            }
        }

        impl AnyModel {
            fn model(&self) -> &dyn Model {
                match self {
                    $(Self::$family(model) => model.as_ref(),)*
                }
            }

            fn model_mut(&mut self) -> &mut dyn Model {
                match self {
                    $(Self::$family(model) => model.as_mut(),)*
                }
            }
        }

        $(
            impl From<$config> for Architecture {
                fn from(config: $config) -> Self {
                    Self::$family(config)
                }
            }

            impl ModuleT for $model {
                /// As [`Model::forward`], in the mode that [`Mode::of`] gives.
                fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
                    self.forward(images, Mode::of(train))
                }
            }
        )*
    };
}

pub(super) use registry;

impl Architecture {
    /// As [`ModelConfig::validate`](super::ModelConfig::validate).
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field, what it can be, and what it is.
    pub fn validate(&self) -> crate::Result<()> {
        self.config().validate()
    }

    /// Names and shapes of all parameters and buffers, in order, without allocating them.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn parameters(&self) -> crate::Result<Vec<ParamSpec>> {
        self.validate()?;
        Params::declared_by(|vb| self.build(vb))
    }

    /// The number of values in all parameters, buffers not counted.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn num_parameters(&self) -> crate::Result<usize> {
        Ok(self.parameters()?.iter().filter(|spec| !spec.is_buffer()).map(ParamSpec::elem_count).sum())
    }

    /// The shape of one input image, `[channels, height, width]`.
    pub fn input_size(&self) -> [usize; 3] {
        self.config().input_size()
    }

    /// The number of classes; 0 where the model has no head.
    pub fn num_classes(&self) -> usize {
        self.config().num_classes()
    }

    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        self.config().num_features()
    }

    /// The same architecture with another number of classes; 0 leaves out the head.
    #[must_use]
    pub fn with_num_classes(mut self, num_classes: usize) -> Self {
        self.config_mut().set_num_classes(num_classes);
        self
    }

    /// The same architecture for images of another height and width in pixels; one number means a square.
    #[must_use]
    pub fn with_img_size(mut self, img_size: impl Into<ImgSize>) -> Self {
        self.config_mut().set_img_size(img_size.into());
        self
    }

    /// The same architecture for images with another number of channels.
    #[must_use]
    pub fn with_in_chans(mut self, in_chans: usize) -> Self {
        self.config_mut().set_in_chans(in_chans);
        self
    }

    /// As [`ModelConfig::set`](super::ModelConfig::set): the option `key`, a field of the configuration, from text.
    ///
    /// # Errors
    /// [`crate::Error::UnknownOption`] lists the keys; [`crate::Error::Config`] if the value is of another type.
    pub fn set(&mut self, key: &str, value: &str) -> crate::Result<()> {
        self.config_mut().set(key, value)
    }

    /// The part of the model that the parameter called `name` belongs to.
    pub fn stage_of(&self, name: &str) -> Stage {
        self.config().stage_of(name)
    }

    /// The number of blocks: transformer blocks, or the layers before the head.
    pub fn num_blocks(&self) -> usize {
        self.config().num_blocks()
    }

    /// As [`ModelConfig::layer_id`](super::ModelConfig::layer_id): the layer of a parameter for layer-wise decay of the learning rate.
    pub fn layer_id(&self, name: &str) -> usize {
        self.config().layer_id(name)
    }

    /// The number of layers that [`Architecture::layer_id`] tells apart.
    pub fn num_layers(&self) -> usize {
        self.config().num_layers()
    }

    /// As [`ModelConfig::flops`](super::ModelConfig::flops): floating-point operations of a forward pass for one image.
    pub fn flops(&self) -> u64 {
        self.config().flops()
    }

    /// Whether a training pass draws anything: dropout, stochastic depth.
    pub fn is_random(&self) -> bool {
        self.config().is_random()
    }

    /// As [`ModelConfig::head_reads_pooled`](super::ModelConfig::head_reads_pooled).
    pub fn head_reads_pooled(&self) -> bool {
        self.config().head_reads_pooled()
    }

    /// As [`ModelConfig::filters`](super::ModelConfig::filters): the weight whose filters read the image itself, and how many of its channels are the image's.
    pub fn filters(&self) -> Option<(&'static str, usize)> {
        self.config().filters()
    }
}

impl AnyModel {
    /// As [`Model::set_grad_checkpointing`]; ViTs have it.
    pub fn set_grad_checkpointing(&mut self, on: bool) {
        self.model_mut().set_grad_checkpointing(on);
    }

    /// As [`Model::set_prepacking`]; ViTs have it.
    pub fn set_prepacking(&mut self, on: bool) {
        self.model_mut().set_prepacking(on);
    }

    /// As [`Model::head`].
    ///
    /// # Errors
    /// If the model is a distilled ViT, whose two heads read two tokens.
    pub fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        self.model().head(pooled)
    }
}

impl Model for AnyModel {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.model().forward(images, mode)
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.model().pooled(images, mode)
    }

    fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        self.model().head(pooled)
    }

    fn set_grad_checkpointing(&mut self, on: bool) {
        self.model_mut().set_grad_checkpointing(on);
    }

    fn set_prepacking(&mut self, on: bool) {
        self.model_mut().set_prepacking(on);
    }

    fn is_packed(&self) -> bool {
        self.model().is_packed()
    }
}

impl ModuleT for AnyModel {
    /// As [`Model::forward`], in the mode that [`Mode::of`] gives.
    fn forward_t(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(images, Mode::of(train))
    }
}
