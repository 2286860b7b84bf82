//! Everything that a run is made from, as plain data: `config.toml` of its folder.

/// Configuration of a run.
#[derive(Debug, Clone)]
pub struct TrainConfig {}
