//! Training: configuration, optimisers, schedules, the loop, metrics and events, checkpoints.

pub mod config;
pub mod defaults;
mod device;
mod error;
pub mod evaluate;
pub mod event;
pub mod fit;
pub mod run_folder;
pub mod setup;

pub use config::TrainConfig;
pub use device::{device, device_name};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, evaluate, evaluate_run};
pub use event::{EpochMetrics, Event, Listener, StepMetrics};
pub use fit::{Outcome, Start, fit, run};
pub use run_folder::{Metrics, Predictions, RunFolder, Summary};
pub use setup::Setup;
