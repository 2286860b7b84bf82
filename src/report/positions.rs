//! Pictures of position encodings: the table itself, and how alike the positions of a grid of patches are.

use super::heatmap::{Colours, HeatMap, places};
use crate::data::Image;

/// A table of encodings `[positions, dim]` as a heat map, positions downwards.
///
/// `values` are its rows one after the other.
pub fn position_table(title: &str, subtitle: &str, values: &[f32], dim: usize) -> String {
    let values: Vec<f64> = values.iter().copied().map(f64::from).collect();
    let largest = values.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let colours = Colours::Signed(if largest > 0. { largest } else { 1. });
    HeatMap {
        title: title.into(),
        subtitle: subtitle.into(),
        x: places("dimension", dim, 1),
        y: places("position in the sequence", values.len() / dim.max(1), 1),
        image: colours.paint(&values, dim),
        colours,
        values: "value".into(),
    }
    .svg()
}

/// Tiles on a side at most: a tile has to be large enough to be seen.
const TILES: usize = 16;

/// The cosine similarity of every position with every other, as Dosovitskiy et al. 2020 draw it in figure 7: a tile for every
/// patch, where the patch stands in the image; in the tile, its similarity with all patches, where they stand.
///
/// `values` are the encodings `[grid * grid, dim]`, row by row.
pub fn position_similarity(title: &str, values: &[f32], grid: usize, dim: usize) -> String {
    let rows = unit_rows(values, dim);
    let every = grid.div_ceil(TILES);
    let chosen: Vec<usize> = (0..grid).step_by(every).collect();
    let colours = Colours::Signed(1.);
    // White lines, a pixel wide, between the tiles.
    let side = chosen.len() * (grid + 1) - 1;
    let mut image = Image { width: side, height: side, channels: 3, pixels: vec![255; side * side * 3] };
    for (tile_row, &y) in chosen.iter().enumerate() {
        for (tile_column, &x) in chosen.iter().enumerate() {
            let own = &rows[y * grid + x];
            for (at, other) in rows.iter().enumerate() {
                let cosine = own.iter().zip(other).map(|(a, b)| a * b).sum();
                let (row, column) = (tile_row * (grid + 1) + at / grid, tile_column * (grid + 1) + at % grid);
                let start = (row * side + column) * 3;
                image.pixels[start..start + 3].copy_from_slice(&colours.of(cosine));
            }
        }
    }
    let which = if every == 1 { "every patch".to_string() } else { format!("one in {every} patches each way") };
    HeatMap {
        title: title.into(),
        subtitle: format!("a tile for {which}: how alike to each of {grid}×{grid}"),
        x: places("patch column", chosen.len(), every),
        y: places("patch row", chosen.len(), every),
        image,
        colours,
        values: "cosine".into(),
    }
    .svg()
}

/// The rows at length 1; one of zeros stays as it is.
fn unit_rows(values: &[f32], dim: usize) -> Vec<Vec<f64>> {
    let unit = |row: &[f32]| {
        let length = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        row.iter().map(|&value| f64::from(value) / length).collect()
    };
    values.chunks_exact(dim.max(1)).map(unit).collect()
}
