//! The parts of models whose layers are numbered through.

use crate::Stage;

/// The part that the parameter called `name` belongs to in a model whose layers end in a number, counted from 1, and whose head is
/// the layer after `num_blocks`.
pub(super) fn stage_of_numbered(name: &str, num_blocks: usize) -> Stage {
    let layer = name.split('.').next().unwrap_or(name);
    match layer.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse::<usize>() {
        Ok(number) if number > num_blocks => Stage::Head,
        Ok(number) => Stage::Block(number.saturating_sub(1)),
        Err(_) => Stage::Stem,
    }
}
