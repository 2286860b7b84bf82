//! Where a run is, as its checkpoints hold it.

use serde::{Deserialize, Serialize};

use super::evaluate::Evaluation;
use super::event::EpochMetrics;

/// Where a run is: `state.toml` of its last checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The epoch that is run next or was interrupted, counted from 0.
    pub epoch: usize,
    /// Optimiser steps taken in that epoch.
    pub step_in_epoch: usize,
    /// Optimiser steps taken in all.
    pub step: usize,
    /// Length of `metrics.jsonl` in bytes; what comes after is not part of this checkpoint.
    pub metrics_bytes: u64,
    /// Seconds of the run until here, over all its sessions.
    pub seconds: f64,
    /// Sums over the interrupted epoch.
    pub running: Running,
    /// Training images per second of the epochs that have ended.
    pub rates: Vec<f64>,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// The metrics of the latest epoch that has ended.
    pub latest: Option<EpochMetrics>,
    /// The largest peak of memory in bytes of any session.
    pub peak_memory_bytes: Option<u64>,
}

/// Sums over the part of an epoch that was run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// Of every sample's loss.
    pub loss: f64,
    /// Samples whose label had the largest logit.
    pub correct: usize,
    /// Samples.
    pub samples: usize,
    /// Seconds of training.
    pub seconds: f64,
    /// Seconds in which features of what is evaluated were computed beforehand.
    #[serde(default)]
    pub evaluation_seconds: f64,
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Counts from 0.
    pub epoch: usize,
    /// On the validation split, where there is one.
    pub val_accuracy: Option<f64>,
    /// On the validation split, where there is one.
    pub val_loss: Option<f64>,
}

impl Running {
    /// Adds what a batch came to.
    pub(super) fn add(&mut self, mean_loss: f64, correct: usize, samples: usize) {
        self.loss += mean_loss * samples as f64;
        self.correct += correct;
        self.samples += samples;
    }

    /// The metrics of an epoch that took `seconds` in all.
    pub(super) fn epoch(
        &self,
        epoch: usize,
        validated: Option<&Evaluation>,
        tested: &Evaluation,
        seconds: f64,
    ) -> EpochMetrics {
        let samples = self.samples.max(1) as f64;
        EpochMetrics {
            epoch,
            train_loss: self.loss / samples,
            train_accuracy: self.correct as f64 / samples,
            val_loss: validated.map(|v| v.loss),
            val_accuracy: validated.map(|v| v.accuracy),
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
            test_top5: tested.top5,
            seconds,
            images_per_second: if self.seconds > 0. { samples / self.seconds } else { 0. },
        }
    }
}

impl Best {
    pub(super) fn of(metrics: &EpochMetrics) -> Self {
        Self { epoch: metrics.epoch, val_accuracy: metrics.val_accuracy, val_loss: metrics.val_loss }
    }

    /// By accuracy on the validation split, then by loss on it. Without such a split the later epoch: choosing by the test
    /// set would flatter the result.
    pub(super) fn is_better_than(&self, other: Option<&Self>) -> bool {
        let Some(other) = other else { return true };
        match (self.val_accuracy, other.val_accuracy, self.val_loss, other.val_loss) {
            (Some(mine), Some(theirs), Some(my_loss), Some(their_loss)) => {
                mine > theirs || (mine == theirs && my_loss < their_loss)
            }
            _ => true,
        }
    }
}
