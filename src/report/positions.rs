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
pub fn position_similarity(title: &str, values: &[f32], [high, wide]: [usize; 2], dim: usize) -> String {
    let rows = unit_rows(values, dim);
    let every = high.max(wide).div_ceil(TILES);
    let [tall, broad] = [high, wide].map(|side| side.div_ceil(every));
    let colours = Colours::Signed(1.);
    // White lines, a pixel wide, between the tiles.
    let (width, height) = (broad * (wide + 1) - 1, tall * (high + 1) - 1);
    let mut image = Image { width, height, channels: 3, pixels: vec![255; width * height * 3] };
    for (tile_row, y) in (0..high).step_by(every).enumerate() {
        for (tile_column, x) in (0..wide).step_by(every).enumerate() {
            let own = &rows[y * wide + x];
            for (at, other) in rows.iter().enumerate() {
                let cosine = own.iter().zip(other).map(|(a, b)| a * b).sum();
                let (row, column) = (tile_row * (high + 1) + at / wide, tile_column * (wide + 1) + at % wide);
                let start = (row * width + column) * 3;
                image.pixels[start..start + 3].copy_from_slice(&colours.of(cosine));
            }
        }
    }
    let which = if every == 1 { "every patch".to_string() } else { format!("one in {every} patches each way") };
    HeatMap {
        title: title.into(),
        subtitle: format!("a tile for {which}: how alike to each of {high}×{wide}"),
        x: places("patch column", broad, every),
        y: places("patch row", tall, every),
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
