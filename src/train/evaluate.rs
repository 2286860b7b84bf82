//! Measuring a model on samples: loss, accuracy, and what it says of each.

use std::sync::Arc;

use candle_core::{DType, Device};
use tallow_models::{Mode, Model};

use super::error::{Error, Result};
use super::features::ModelInput;
use crate::data::{LoaderOptions, Samples, Transform};

/// What a model says of samples, in their order.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of samples whose label has the largest logit, in [0, 1].
    pub accuracy: f64,
    /// Share of samples whose label is among the five largest logits, in [0, 1].
    pub top5: f64,
    /// True labels.
    pub labels: Vec<u32>,
    /// The class with the largest logit.
    pub predicted: Vec<u32>,
    /// The probability given to it.
    pub confidence: Vec<f32>,
}

/// Options of an evaluation.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct EvaluateOptions {
    /// Samples of one forward pass. Default 64.
    pub batch_size: usize,
    /// Threads that decode and transform samples. Default: one a core, at most 8.
    pub threads: usize,
}

impl EvaluateOptions {
    /// The same after `change`, in one expression: `EvaluateOptions::default().with(|o| o.batch_size = 256)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self { batch_size: 64, threads: LoaderOptions::default().threads }
    }
}

/// Measures `model` on `samples`, in their order; `progress` is told how many are done.
///
/// # Errors
/// If a sample cannot be read, its label is beyond the model's classes, or a logit is no number.
pub fn evaluate(
    model: &dyn Model,
    samples: &Arc<dyn Samples>,
    transform: &Arc<Transform>,
    device: &Device,
    options: &EvaluateOptions,
    mut progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let go_on = |done| {
        progress(done);
        true
    };
    let input = ModelInput::images(samples, transform);
    Ok(evaluate_while(model, &input, device, options, go_on)?.unwrap_or_default())
}

/// [`evaluate`] on a part of a data set, given up as soon as `progress` says false.
pub(super) fn evaluate_while(
    model: &dyn Model,
    input: &ModelInput,
    device: &Device,
    options: &EvaluateOptions,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Evaluation>> {
    let loading =
        LoaderOptions { batch_size: options.batch_size, threads: options.threads, ..LoaderOptions::default() };
    let samples = input.samples().clone();
    let order = (0..samples.len()).collect();
    let (mut evaluation, mut loss, mut correct, mut among_five) = (Evaluation::default(), 0., 0, 0);
    for batch in input.batches(order, loading, device)? {
        let batch = batch?;
        let logits = input.forward(model, &batch.images, Mode::Eval)?;
        let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for (logits, &index) in logits.iter().zip(&batch.indices) {
            let label = samples.label(index);
            let verdict = Verdict::of(logits, label).ok_or_else(|| {
                let got = logits.get(label as usize).map_or_else(
                    || format!("label {label} and {} logits", logits.len()),
                    |_| "a logit that is no number: the weights are damaged, or the training diverged".into(),
                );
                Error::invalid(samples.name(index), "a finite logit for every class", got)
            })?;
            loss += verdict.loss;
            correct += usize::from(verdict.predicted == label);
            among_five += usize::from(verdict.rank < 5);
            evaluation.labels.push(label);
            evaluation.predicted.push(verdict.predicted);
            evaluation.confidence.push(verdict.confidence);
        }
        if !progress(evaluation.labels.len()) {
            return Ok(None);
        }
    }
    let count = evaluation.labels.len().max(1) as f64;
    evaluation.loss = loss / count;
    evaluation.accuracy = correct as f64 / count;
    evaluation.top5 = among_five as f64 / count;
    Ok(Some(evaluation))
}

/// What the logits of one sample come to.
struct Verdict {
    predicted: u32,
    /// The probability of the predicted class.
    confidence: f32,
    /// Classes before the label, by logit; of equal ones the first comes first.
    rank: usize,
    loss: f64,
}

impl Verdict {
    /// None where a logit is no finite number, or there is none for the label.
    fn of(logits: &[f32], label: u32) -> Option<Self> {
        let own = *logits.get(label as usize)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return None;
        }
        let mut predicted = 0;
        let mut rank = 0;
        for (class, &logit) in logits.iter().enumerate() {
            if logit > logits[predicted] {
                predicted = class;
            }
            rank += usize::from(logit > own || (logit == own && class < label as usize));
        }
        let largest = f64::from(logits[predicted]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        let loss = sum.ln() + largest - f64::from(own);
        Some(Self { predicted: predicted as u32, confidence: (1. / sum) as f32, rank, loss })
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn the_first_of_equal_logits_is_predicted_and_ranks_first() {
        let verdict = Verdict::of(&[1., 3., 3., 2.], 2).unwrap();
        assert_eq!((verdict.predicted, verdict.rank), (1, 1));
        assert_eq!(Verdict::of(&[1., 3., 3., 2.], 1).unwrap().rank, 0);
    }

    #[test]
    fn the_loss_is_that_of_pytorch_even_where_exp_overflows() {
        // torch.nn.functional.cross_entropy(torch.tensor([[1000., 999., -1000.]], dtype=torch.float64), torch.tensor([1]))
        let verdict = Verdict::of(&[1000., 999., -1000.], 1).unwrap();
        assert!((verdict.loss - 1.313_261_687_518_222_6).abs() < 1e-12);
        assert!((verdict.confidence - 0.731_058_6).abs() < 1e-6);
    }

    #[test]
    fn a_logit_that_is_no_number_gives_no_verdict() {
        assert!(Verdict::of(&[0., f32::NAN], 0).is_none());
        assert!(Verdict::of(&[0., 1.], 2).is_none());
    }
}
