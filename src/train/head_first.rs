//! A new head that is trained alone before everything is, on features of the loaded backbone.
//!
//! A head that knows nothing yet sends gradients into a pretrained backbone that destroy some of what it knows; from a linear probe
//! on, fine-tuning keeps it (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
//! arXiv 2202.10054: LP-FT). Every image passes through the backbone once, as in an evaluation; the head's steps on the features take
//! next to no time.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use tallow_models::Stage;
use tallow_models::ops;
use tallow_models::optim::Clip;
use tallow_models::{AnyModel, Architecture, Params};
use tallow_weights::Account;

use super::config::{OptimizerKind, ScheduleKind, TrainConfig};
use super::error::Result;
use super::features::{self, Computed, ModelInput};
use super::gradients::sums_of_squares;
use super::optimizer::Optimizer;
use super::schedule::Schedule;
use super::setup::Setup;
use crate::data::{Pick, Picked, Samples, epoch_order};

/// Samples of one step.
const BATCH_SIZE: usize = 32;
/// Where the learning rate of AdamW begins.
const LR: f64 = 1e-3;
/// No more samples than these are read for it: a head of some thousand numbers learns nothing from more.
const MOST: usize = 10_000;

/// What it came to.
pub(super) struct Came {
    /// Samples that it was trained on.
    pub samples: usize,
    /// Steps that were taken.
    pub steps: usize,
    /// The share of the samples of the last passes that were right, in [0, 1], measured while training.
    pub accuracy: f64,
    pub seconds: f64,
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, steps, accuracy, seconds } = self;
        write!(
            f,
            "the head alone first: {steps} steps on the features of {samples} images, {:.1} % of them right, {seconds:.0} s",
            100. * accuracy
        )
    }
}

/// Whether a head of its own is to be trained first: there is one that is new, at least in part, in front of a backbone that was
/// loaded and is trained too.
pub(super) fn is_due(
    config: &TrainConfig,
    architecture: &Architecture,
    params: &Params,
    account: Option<&Account>,
) -> bool {
    let Some(account) = account.filter(|_| config.optimizer.head_first_steps > 0) else { return false };
    let new = account.initialised().chain(account.partly_initialised());
    new.into_iter().any(|(name, _)| architecture.stage_of(name) == Stage::Head)
        && architecture.head_reads_pooled()
        && params.trainable().iter().any(|param| architecture.stage_of(&param.name) == Stage::Head)
        && !features::trains_head_alone(architecture, params)
}

/// The training samples that it is trained on: all, or as many of them as it learns something from, the same for every seed.
///
/// # Errors
/// None that is known.
pub(super) fn samples(train: &Arc<dyn Samples>) -> Result<Arc<dyn Samples>> {
    if train.len() <= MOST {
        return Ok(train.clone());
    }
    let mut chosen = epoch_order(train.len(), 0, 0, true);
    chosen.truncate(MOST);
    chosen.sort_unstable();
    let picks = chosen.into_iter().map(|index| Pick { part: 0, index, label: train.label(index) }).collect();
    Ok(Arc::new(Picked::new(vec![train.clone()], picks)?))
}

/// Trains the head of `model`, which is over the run's parameters, on the features of `input`, which are kept. `computed` is
/// the time that they took.
///
/// # Errors
/// Those of the model.
pub(super) fn train(setup: &Setup, model: &AnyModel, input: &ModelInput, computed: Computed) -> Result<Option<Came>> {
    let Some(features) = input.features() else { return Ok(None) };
    let Setup { config, params, .. } = setup;
    let architecture = &setup.checkpoint.architecture;
    let began = Instant::now();
    let device = params.device();
    let samples = input.samples().len();
    let labels = Tensor::from_iter((0..samples).map(|index| input.samples().label(index)), &Device::Cpu)?;
    let labels = labels.to_device(device)?;

    let head = config.clone().with(|c| {
        c.optimizer.optimizer = OptimizerKind::Adamw;
        c.optimizer.lr = LR;
        c.schedule.schedule = ScheduleKind::Cosine;
        c.schedule.warmup_steps = Some(0);
        c.length.epochs = (config.optimizer.head_first_steps).into();
        c.regularization.layer_decay = None;
        c.extended = Vec::new();
    });
    let of_head = |name: &str| architecture.stage_of(name) == Stage::Head;
    let trained = params.trainable().into_iter().filter(|param| of_head(&param.name)).collect();
    let mut optimizer = Optimizer::over(&head, architecture, trained)?;
    let schedule = Schedule::new(&head, 1);
    let steps_per_pass = samples.div_ceil(BATCH_SIZE).max(1);
    // The last passes, of some hundred samples at least.
    let measured = config.optimizer.head_first_steps.saturating_sub(steps_per_pass.max(8));
    let (mut order, mut right, mut seen) = (Vec::new(), 0, 0);
    for step in 0..config.optimizer.head_first_steps {
        if step % steps_per_pass == 0 {
            order = epoch_order(samples, config.compute.seed, step / steps_per_pass, true);
        }
        let batch = order.iter().skip(step % steps_per_pass * BATCH_SIZE).take(BATCH_SIZE);
        let rows = Tensor::from_iter(batch.map(|&index| index as u32), device)?;
        let (images, labels) = (features.index_select(&rows, 0)?, labels.index_select(&rows, 0)?);
        let logits = model.head(&images)?.to_dtype(DType::F32)?;
        let loss = ops::cross_entropy(&logits, &labels, config.regularization.label_smoothing)?;
        let (gradients, _) = params.backward_allowing(&loss)?;
        let squares = sums_of_squares(&gradients)?;
        optimizer.step(&gradients, Some(Clip { squares: &squares, largest: 0. }), schedule.lr(step))?;
        if step >= measured {
            let correct = logits.detach().argmax(1)?.eq(&labels)?.to_dtype(DType::U32)?.sum_all()?;
            right += correct.to_scalar::<u32>()?;
            seen += rows.elem_count();
        }
    }
    let accuracy = f64::from(right) / seen.max(1) as f64;
    let seconds = computed.seconds + began.elapsed().as_secs_f64();
    Ok(Some(Came { samples, steps: config.optimizer.head_first_steps, accuracy, seconds }))
}
