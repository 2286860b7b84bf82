//! Training: configuration, optimisers, schedules, the loop, metrics and events, checkpoints.

pub mod config;
pub mod event;
pub mod run_folder;

pub use config::TrainConfig;
pub use event::{Event, Listener};
pub use run_folder::RunFolder;
