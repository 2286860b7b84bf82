//! A training step for its time and its memory, on noise or, without labels, on some of the images: nothing of the run is changed by it.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use tallow_models::{AnyModel, Mode, Model, Params, ops};

use super::error::{Error, Result};
use super::features::ModelInput;
use super::objectives::{Objective, Place};
use super::setup::Setup;
use crate::data::{Batch, LoaderOptions};

/// Training steps of a model that is set up.
pub(super) struct Trial<'a> {
    pub setup: &'a Setup,
    pub model: &'a AnyModel,
    /// Where nothing is classified, what is done instead.
    pub unlabelled: Option<Unlabelled<'a>>,
}

/// An objective without labels, beside that of the run, which keeps what it has.
pub(super) struct Unlabelled<'a> {
    pub objective: Box<dyn Objective>,
    /// What it reads.
    pub input: &'a ModelInput,
}

impl Unlabelled<'_> {
    /// A batch of so many samples, spread over the training part, as the objective needs it.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn batch(&self, size: usize, setup: &Setup) -> Result<Batch> {
        let samples = self.input.samples().len();
        let order = (0..size).map(|i| i * samples / size).collect();
        let options = LoaderOptions { batch_size: size, seed: setup.config.compute.seed, ..LoaderOptions::default() };
        let mut batches = self.objective.batches(self.input, order, options, setup.params.device())?;
        batches.next().unwrap_or_else(|| Err(Error::invalid("a trial's batch", "some samples", "none")))
    }
}

/// The seconds of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seconds {
    /// Of the forward pass alone.
    pub forward: f64,
    /// Of forward and backward pass.
    pub all: f64,
}

impl Trial<'_> {
    pub fn device(&self) -> &Device {
        self.setup.params.device()
    }

    /// Forward and backward of `size` samples; nothing but buffers is changed, which [`undisturbed`] puts back.
    ///
    /// # Errors
    /// Those of the model, and of a device whose memory is full.
    pub fn step(&mut self, size: usize) -> Result<Seconds> {
        let Setup { config, checkpoint, params, dataset, .. } = self.setup;
        let device = params.device();
        let [channels, height, width] = checkpoint.architecture.input_size();
        let images = Tensor::randn(0f32, 1., (size, channels, height, width), device)?;
        if let Some(unlabelled) = &mut self.unlabelled {
            device.synchronize()?;
            let start = Instant::now();
            // Without labels the encoder's features are what is evaluated.
            drop(self.model.forward(&images, Mode::Eval)?);
            device.synchronize()?;
            let forward = start.elapsed().as_secs_f64();
            let batch = unlabelled.batch(size, self.setup)?;
            let start = Instant::now();
            let place = Place { seed: config.compute.seed, epoch: 0, batch: 0, pass: 0 };
            let Unlabelled { objective, input } = unlabelled;
            let pass = objective.loss(self.model, input, batch, place)?;
            drop(params.backward_allowing(&pass.loss)?);
            device.synchronize()?;
            return Ok(Seconds { forward, all: start.elapsed().as_secs_f64() });
        }
        let labels = Tensor::from_iter((0..size).map(|i| (i % dataset.classes.len()) as u32), device)?;
        device.synchronize()?;
        let start = Instant::now();
        let logits = self.model.forward(&images, Mode::Train { seed: config.compute.seed })?.to_dtype(DType::F32)?;
        device.synchronize()?;
        let forward = start.elapsed().as_secs_f64();
        let loss = ops::cross_entropy(&logits, &labels, config.regularization.label_smoothing)?;
        drop(params.backward_allowing(&loss)?);
        device.synchronize()?;
        Ok(Seconds { forward, all: start.elapsed().as_secs_f64() })
    }
}

/// What `steps` comes to, with all buffers as they were before: a step in training mode moves the running statistics of batch
/// norms.
///
/// # Errors
/// Those of `steps`.
pub(super) fn undisturbed<T>(params: &Params, steps: impl FnOnce() -> Result<T>) -> Result<T> {
    let buffers: Vec<_> = params.all().into_iter().filter(|param| param.buffer).collect();
    let before = buffers.iter().map(|buffer| buffer.var.copy()).collect::<candle_core::Result<Vec<_>>>()?;
    let outcome = steps();
    buffers.iter().zip(&before).try_for_each(|(buffer, before)| buffer.var.set(before))?;
    outcome
}

/// The memory of a step of `size` samples, on the line through two that were measured.
pub(super) fn needed([(few, less), (many, more)]: [(usize, u64); 2], size: usize) -> u64 {
    let each = more.saturating_sub(less).div_ceil((many - few).max(1) as u64);
    less + each * size.saturating_sub(few) as u64
}

#[cfg(test)]
mod tests {
    use super::needed;

    #[test]
    fn memory_grows_with_the_batch_from_what_the_model_takes() {
        let measured = [(4, 1_400), (16, 2_600)];
        assert_eq!([1, 4, 16, 64].map(|size| needed(measured, size)), [1_400, 1_400, 2_600, 7_400]);
        assert_eq!(needed([(4, 1_400), (16, 1_300)], 1024), 1_400, "pages of the first serve the second");
        assert_eq!(needed([(1, 1_400), (1, 1_400)], 1), 1_400, "there is one size alone");
    }
}
