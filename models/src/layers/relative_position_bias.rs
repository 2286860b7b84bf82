//! Relative position bias: what is added to the score of two tokens for every way of lying to each other, and for every head.
//!
//! Two patches lie to each other by so many rows and columns; the class token has three entries of its own, for what it takes,
//! for what it gives, and for itself.
//!
//! Raffel et al., "Exploring the Limits of Transfer Learning", 2019; over two axes as in Bao et al., "BEiT", 2021; parameters as
//! timm's `RelativePositionBias`.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// How the tokens of an image lie to each other: the class token and a grid of patches.
#[derive(Debug, Clone)]
pub struct RelativePositions {
    grid: [usize; 2],
    /// The row of a table for every pair of tokens.
    index: Tensor,
}

impl RelativePositions {
    /// The positions of a grid of patches (rows and columns), with the class token before them.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn new(grid: [usize; 2], device: &Device) -> Result<Self> {
        let index = index(grid);
        let count = index.len();
        Ok(Self { grid, index: Tensor::from_vec(index, count, &Device::Cpu)?.to_device(device)? })
    }

    /// The rows of a table: ways of lying to each other, and the class token's three.
    fn distances([rows, columns]: [usize; 2]) -> usize {
        (2 * rows).saturating_sub(1) * (2 * columns).saturating_sub(1) + 3
    }
}

/// A relative position bias with the parameter `relative_position_bias_table` `[distances + 3, heads]`.
#[derive(Debug, Clone)]
pub struct RelativePositionBias {
    table: Tensor,
    positions: RelativePositions,
}

/// A bias of `num_heads` heads, starting at 0.
///
/// # Errors
/// Those of the builder.
pub fn relative_position_bias(
    positions: &RelativePositions,
    num_heads: usize,
    vb: VarBuilder,
) -> Result<RelativePositionBias> {
    let shape = (RelativePositions::distances(positions.grid), num_heads);
    let table = vb.get_with_hints(shape, "relative_position_bias_table", Init::Const(0.))?;
    Ok(RelativePositionBias { table, positions: positions.clone() })
}

/// For every pair of tokens, the row of the table.
fn index([rows, columns]: [usize; 2]) -> Vec<u32> {
    let (count, tokens) = (RelativePositions::distances([rows, columns]), 1 + rows * columns);
    let place = |token: usize| ((token - 1) / columns, (token - 1) % columns);
    let mut index = Vec::with_capacity(tokens * tokens);
    for query in 0..tokens {
        for key in 0..tokens {
            index.push(match (query, key) {
                (0, 0) => count - 1,
                (_, 0) => count - 2,
                (0, _) => count - 3,
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
    /// The table `[distances + 3, heads]`.
    pub fn table(&self) -> &Tensor {
        &self.table
    }

    /// The bias of every head and pair of tokens, `[heads, tokens, tokens]`, the query's token first; with a second one for the
    /// same grid, their sum.
    ///
    /// # Errors
    /// If the other is for another grid.
    pub fn forward(&self, other: Option<&Self>) -> Result<Tensor> {
        let table = match other {
            Some(other) => (&self.table + &other.table)?,
            None => self.table.clone(),
        };
        let (heads, tokens) = (table.dim(1)?, 1 + self.positions.grid.iter().product::<usize>());
        table.index_select(&self.positions.index, 0)?.t()?.reshape((heads, tokens, tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_that_of_beit() {
        // `gen_relative_position_index((1, 2))` of timm.
        assert_eq!(index([1, 2]), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        // Two patches one above the other: row distances of -1, 0 and 1.
        assert_eq!(index([2, 1]), [5, 3, 3, 4, 1, 0, 4, 2, 1]);
        let all = index([2, 3]);
        assert_eq!(all.len(), 49);
        assert_eq!(all[8..14], [7, 6, 5, 2, 1, 0]);
    }
}
