//! What a masked autoencoder makes of test images: a sheet of the images, what it sees of them, and what it says of the rest.

use std::fs;

use maud::html;

use super::error::{Error, Result};
use super::figure::Figure;
use super::raster::{Enlarged, raster};
use super::sheet::{SheetRow, draw};
use crate::train::{Pictures, RunFolder};

/// Draws the sheet of an epoch into a run's folder: as `reconstructions/epoch-N.png`, and as the figure of the run's report in place of
/// that of the epoch before. Gives the path of the PNG.
///
/// # Errors
/// If a file cannot be written.
pub fn reconstructions(folder: &RunFolder, pictures: &Pictures) -> Result<std::path::PathBuf> {
    let rows: Vec<SheetRow> =
        pictures.rows.iter().map(|(label, images)| SheetRow { label: label.clone(), images: images.clone() }).collect();
    let sheet =
        draw(&pictures.names[..pictures.names.len().min(rows.first().map_or(0, |row| row.images.len()))], &rows);
    let place = folder.root().join("reconstructions");
    fs::create_dir_all(&place).map_err(|source| Error::Write { path: place.clone(), source })?;
    let path = place.join(format!("epoch-{:04}.png", pictures.epoch + 1));
    super::write(&path, super::raster::png(&sheet))?;
    let (width, height) = (sheet.width as f64, sheet.height as f64);
    let svg = html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) } {
            rect width="100%" height="100%" fill="#ffffff" {}
            (raster(&sheet, [0., 0., width, height], Enlarged::Pixelated))
        }
    };
    let figure = Figure {
        stem: "reconstructions".into(),
        title: format!("Reconstructions after epoch {}", pictures.epoch + 1),
        caption: "Test images, the patches of them that the encoder sees, and these with what the decoder says of the others. Where patches \
                  are normalised, what it says is shown with the mean and the deviation of the true patch."
            .into(),
        svg: svg.into_string(),
    };
    figure.write(folder.root())?;
    Ok(path)
}
