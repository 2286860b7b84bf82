//! Training: configuration, optimisers, schedules, the loop, metrics and events, checkpoints.
//!
//! [`run()`] trains what a [`TrainConfig`] says, writes a [`RunFolder`], and tells a [`Listener`] what happens. [`fit()`] does
//! the same with a model and data that a program brings itself, in a [`Setup`].

mod averages;
mod batch_size;
pub mod checkpoint;
pub mod config;
pub mod cost;
pub mod data_record;
pub mod defaults;
mod device;
mod error;
pub mod evaluate;
mod evaluate_run;
pub mod event;
pub mod extension;
mod features;
pub mod fit;
pub mod freeze;
pub mod gradients;
pub mod head_first;
mod img_size;
pub mod interpolate;
mod kernels;
mod median;
pub mod memory;
pub mod metrics_log;
mod objectives;
pub mod optimizer;
mod outcome;
mod paths;
mod predictions;
pub mod pretraining;
mod recorded;
mod relabel;
mod run;
pub mod run_folder;
pub mod schedule;
mod settings;
pub mod setup;
mod shared_features;
pub mod state;
pub mod study;
mod trial;
mod warnings;
mod watch;
mod whitening;
pub mod zero_shot;

pub use config::{Extension, Precision, TrainConfig};
pub use cost::Estimate;
pub use data_record::{DataRecord, RecordedSample};
pub use device::{device, device_name, gpu_problem, precision_is_native, set_precision};
pub use error::{Error, Result};
pub use evaluate::{EvaluateOptions, Evaluation, evaluate};
pub use evaluate_run::{RunEvaluation, RunMeasured, Scores, evaluate_run, score_points};
pub use event::{EpochMetrics, Event, Listener, Pictures, StepMetrics};
pub use fit::{fit, run};
pub use kernels::{KernelsFrom, chosen_kernels, force_kernels, recall_kernels, settle_kernels};
pub use median::median;
pub use outcome::{Outcome, Start};
pub use predictions::predictions;
pub use recorded::Recollection;
pub use relabel::relabelled;
pub use run_folder::{Metrics, Predictions, RunFolder, Summary};
pub use setup::Setup;
