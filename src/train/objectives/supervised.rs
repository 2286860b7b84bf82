//! Supervised training: the cross-entropy between a model's logits and the labels, with label smoothing, mixup and CutMix.

use candle_core::DType;
use tallow_models::{AnyModel, Mode};

use super::targets::Targets;
use super::{Objective, Pass, Place};
use crate::data::{Batch, Mix};
use crate::train::config::TrainConfig;
use crate::train::error::Result;
use crate::train::features::ModelInput;

/// The cross-entropy with the labels.
pub(in crate::train) struct Supervised {
    mix: Mix,
    label_smoothing: f64,
}

impl Supervised {
    /// As `config` says.
    pub fn new(config: &TrainConfig) -> Self {
        Self { mix: config.mix(), label_smoothing: config.regularization.label_smoothing }
    }
}

impl Objective for Supervised {
    fn loss(&mut self, model: &AnyModel, input: &ModelInput, batch: Batch, place: Place) -> Result<Pass> {
        let Batch { images, labels, indices, .. } = batch;
        let labels = labels.to_device(images.device())?;
        let blend = self.mix.draw(place.seed, place.epoch, place.batch, &images)?;
        let images = blend.map_or(Ok(images.clone()), |blend| blend.images(&images))?;
        let targets = Targets::new(labels, blend)?;
        let logits = input.forward(model, &images, Mode::Train { seed: place.pass_seed() })?.to_dtype(DType::F32)?;
        let loss = targets.loss(&logits, self.label_smoothing)?;
        let correct = logits.detach().argmax(1)?.eq(targets.dominant())?.to_dtype(DType::U32)?.sum_all()?;
        Ok(Pass { loss, correct, samples: indices.len(), gradients: None })
    }
}
