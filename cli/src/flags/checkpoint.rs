//! Flags that say what is meant where a file of weights does not: which of its networks, which architecture.

use clap::Args;
use serde::Serialize;

/// Every one is a field of [`tallow::train::TrainConfig`] under the same name; `docs/checkpoints.md` has the rules.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(next_help_heading = "Weights")]
pub struct CheckpointFlags {
    /// The architecture of weights in a file: a name of the zoo, with a tag for how their images were normalised [default: what
    /// config.json says, else what the tensors' shapes imply]
    #[arg(long, value_name = "NAME")]
    pub arch: Option<String>,
    /// Which network of a file with several is meant, by its path, such as state_dict_ema or teacher.backbone [default: averaged
    /// weights, then a teacher or target encoder, then what is left]
    #[arg(long, value_name = "KEY")]
    pub checkpoint_key: Option<String>,
    /// Leave out tensors that could be a part of the model but have no place in it, where that is an error otherwise
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ignore_unknown: Option<bool>,
}
