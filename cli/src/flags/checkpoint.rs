//! Flags that say what is meant where a file of weights does not: which of its networks, which architecture.

use clap::Args;
use serde::Serialize;

use super::training::help_of;

/// Every one is a field of [`tallow::train::TrainConfig`] under the same name and has its text; `docs/checkpoints.md` has the rules.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Weights")]
pub struct CheckpointFlags {
    #[arg(long, value_name = "NAME", help = help_of("arch"))]
    pub arch: Option<String>,
    #[arg(long, value_name = "KEY", help = help_of("checkpoint_key"))]
    pub checkpoint_key: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        help = help_of("ignore_unknown"))]
    pub ignore_unknown: Option<bool>,
}
