//! Relative position bias: what is added to the score of two tokens for every way of lying to each other, and for every head.
//!
//! Two patches lie to each other by so many rows and columns. The bias is read from a table, where the class token has three entries
//! of its own, for what it takes, for what it gives, and for itself; or an MLP makes it of the logarithms of these numbers, and the
//! class token has none.
//!
//! Raffel et al., "Exploring the Limits of Transfer Learning", 2019; over two axes as in Bao et al., "BEiT", 2021, parameters as
//! timm's `RelativePositionBias`; by an MLP as in Liu et al., "Swin Transformer V2", 2021, with timm's own logarithms, parameters as
//! its `RelPosMlp`.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use super::{Dropout, Linear, LinearInit, linear};
use crate::{Mode, ops};

/// How the tokens of an image lie to each other: a grid of patches, maybe with the class token before them.
#[derive(Debug, Clone)]
pub struct RelativePositions {
    grid: [usize; 2],
    class_token: bool,
    /// Width of the MLP that a bias comes from; none means a table.
    mlp: Option<usize>,
    /// The row of a table for every pair of tokens.
    index: Tensor,
}

impl RelativePositions {
    /// The positions of a grid of patches (rows and columns), with or without the class token before them.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn new(grid: [usize; 2], class_token: bool, device: &Device) -> Result<Self> {
        let index = index(grid, class_token);
        let count = index.len();
        let index = Tensor::from_vec(index, count, &Device::Cpu)?.to_device(device)?;
        Ok(Self { grid, class_token, mlp: None, index })
    }

    /// The same for a bias from an MLP of this width, or from a table.
    #[must_use]
    pub fn with_mlp(mut self, hidden: Option<usize>) -> Self {
        self.mlp = hidden;
        self
    }

    /// Whether a bias comes from a table.
    pub fn has_table(&self) -> bool {
        self.mlp.is_none()
    }

    /// Ways of lying to each other that two patches have.
    fn distances([rows, columns]: [usize; 2]) -> usize {
        (2 * rows).saturating_sub(1) * (2 * columns).saturating_sub(1)
    }

    fn num_tokens(&self) -> usize {
        usize::from(self.class_token) + self.grid.iter().product::<usize>()
    }

    /// For every way of lying to each other, the logarithms of one more than the rows and columns between two patches, with their
    /// signs: `[distances, 2]`.
    fn logarithms(&self) -> Vec<f32> {
        let [rows, columns] = self.grid.map(|side| side as i64);
        let log = |between: i64| (between as f32).signum() * (1. + between.abs() as f32).ln();
        let pairs = (1 - rows..rows).flat_map(|row| (1 - columns..columns).map(move |column| [row, column]));
        pairs.flat_map(|pair| pair.map(log)).collect()
    }
}

/// A relative position bias with the parameter `relative_position_bias_table` `[distances + 3, heads]`, or with `mlp.fc1` and
/// `mlp.fc2`.
#[derive(Debug, Clone)]
pub struct RelativePositionBias {
    source: Source,
    positions: RelativePositions,
}

/// What a bias comes from.
#[derive(Debug, Clone)]
enum Source {
    Table(Tensor),
    /// Two layers that read `[distances, 2]`, with dropout after the first.
    Mlp(Tensor, Box<[Linear; 2]>, Dropout),
}

/// A bias of `num_heads` heads. A table, for which there is a class token, starts at 0.
///
/// # Errors
/// Those of the builder.
pub fn relative_position_bias(
    positions: &RelativePositions,
    num_heads: usize,
    vb: VarBuilder,
) -> Result<RelativePositionBias> {
    if let Some(hidden) = positions.mlp {
        return relative_position_mlp(positions, hidden, num_heads, vb.pp("mlp"));
    }
    let shape = (RelativePositions::distances(positions.grid) + 3, num_heads);
    let table = vb.get_with_hints(shape, "relative_position_bias_table", Init::Const(0.))?;
    Ok(RelativePositionBias { source: Source::Table(table), positions: positions.clone() })
}

fn relative_position_mlp(
    positions: &RelativePositions,
    hidden: usize,
    num_heads: usize,
    vb: VarBuilder,
) -> Result<RelativePositionBias> {
    let layer = |name, from, to| linear(from, to, true, LinearInit::Torch, vb.pp(name));
    let layers = Box::new([layer("fc1", 2, hidden)?, layer("fc2", hidden, num_heads)?]);
    let read = Tensor::from_vec(positions.logarithms(), ((), 2), &Device::Cpu)?;
    let read = read.to_device(vb.device())?.to_dtype(vb.dtype())?;
    // timm's rate, which no argument changes.
    let drop = Dropout::new(0.125, &vb.pp("drop1").prefix());
    Ok(RelativePositionBias { source: Source::Mlp(read, layers, drop), positions: positions.clone() })
}

/// For every pair of tokens, the row of the table. The class token's three entries are the last.
fn index([rows, columns]: [usize; 2], class_token: bool) -> Vec<u32> {
    let (count, first) = (RelativePositions::distances([rows, columns]) + 3, usize::from(class_token));
    let tokens = first + rows * columns;
    let place = |token: usize| ((token - first) / columns, (token - first) % columns);
    let mut index = Vec::with_capacity(tokens * tokens);
    for query in 0..tokens {
        for key in 0..tokens {
            index.push(match (query, key) {
                (0, 0) if class_token => count - 1,
                (_, 0) if class_token => count - 2,
                (0, _) if class_token => count - 3,
                _ => {
                    let ((row, column), (to_row, to_column)) = (place(query), place(key));
                    (row + rows - 1 - to_row) * (2 * columns - 1) + (column + columns - 1 - to_column)
                }
            } as u32);
        }
    }
    index
}

impl RelativePositionBias {
    /// Every tensor that it computes with.
    pub fn parameters(&self) -> Vec<&Tensor> {
        match &self.source {
            Source::Table(table) => vec![table],
            Source::Mlp(_, layers, _) => {
                layers.iter().flat_map(|layer| [Some(layer.weight()), layer.bias()]).flatten().collect()
            }
        }
    }

    /// The bias of every head and pair of tokens, `[heads, tokens, tokens]`, the query's token first; with a second one for the
    /// same grid, their sum.
    ///
    /// # Errors
    /// If the other is for another grid.
    pub fn forward(&self, other: Option<&Self>, mode: Mode) -> Result<Tensor> {
        let table = match other {
            Some(other) => (self.table(mode)? + other.table(mode)?)?,
            None => self.table(mode)?,
        };
        let (heads, tokens) = (table.dim(1)?, self.positions.num_tokens());
        table.index_select(&self.positions.index, 0)?.t()?.reshape((heads, tokens, tokens))
    }

    /// The bias of every way of lying to each other, `[distances + 3, heads]`; without a class token the last three may miss.
    fn table(&self, mode: Mode) -> Result<Tensor> {
        match &self.source {
            Source::Table(table) => Ok(table.clone()),
            Source::Mlp(read, layers, drop) => {
                let [first, second] = layers.as_ref();
                let of_patches = second.forward(&drop.forward(&ops::relu(&first.forward(read)?)?, mode)?)?;
                if !self.positions.class_token {
                    return Ok(of_patches);
                }
                let of_class = Tensor::zeros((3, of_patches.dim(1)?), of_patches.dtype(), of_patches.device())?;
                Tensor::cat(&[of_patches, of_class], 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_that_of_beit() {
        // `gen_relative_position_index((1, 2))` of timm.
        assert_eq!(index([1, 2], true), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        assert_eq!(index([1, 2], false), [1, 0, 2, 1]);
        // Two patches one above the other: row distances of -1, 0 and 1.
        assert_eq!(index([2, 1], true), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        let all = index([2, 3], true);
        assert_eq!(all.len(), 49);
        assert_eq!(all[8..14], [7, 6, 5, 2, 1, 0]);
    }
}
