//! Curves, tables, confusion matrices and the comparison of runs: one HTML file that stands alone, and SVG.
//!
//! [`compare`] reads any number of runs' folders and writes a report of them; [`single`] does so for one run, into its
//! folder. Unfinished runs are shown with what is there.

mod answers;
mod attention;
mod boundary;
mod chart;
mod comparison;
mod configuration;
mod confusion;
mod curves;
mod dots;
mod error;
mod figure;
mod filters;
mod group;
mod heatmap;
mod interpolation;
mod learning_speed;
#[cfg(feature = "png")]
mod lettering;
mod multiples;
pub mod numbers;
mod page;
mod per_class;
mod pictures;
mod positions;
mod raster;
mod reconstructions;
mod run;
mod sheet;
pub mod statistics;
mod sweep;
mod text;

use std::fs;
use std::path::Path;

use tallow_weights::save;

pub use attention::{AttentionMap, attention_picture};
pub use boundary::boundary;
pub use comparison::{Comparison, GroupOutcome, GroupTest, Outcome, PairTest, Row};
pub use error::{Error, Result};
pub use figure::{Figure, write_figure};
pub use filters::{draw_filters, filters, first_layer};
pub use group::{Group, Spread};
pub use interpolation::interpolation;
pub use positions::{position_similarity, position_table};
pub use reconstructions::reconstructions;
pub use sheet::{SheetRow, contact_sheet};

use crate::train::RunFolder;
use pictures::Pictures;

/// Compares runs, and writes `report.html`, `comparison.json`, and as SVG and PNG the pictures of the report into the folder
/// `out`, which is made if it is not there: `loss` and `accuracy`, and where there is something to show `results`, `multiples`,
/// `learning-speed-by-images` and `learning-speed-by-seconds`. Files of these names are replaced, each as a whole.
///
/// # Errors
/// If there are no runs, a folder is not a run's, a file of a run is damaged, or `out` cannot be written.
pub fn compare(runs: &[RunFolder], out: &Path) -> Result<Comparison> {
    if runs.is_empty() {
        return Err(Error::NoRuns);
    }
    let runs = run::Run::read_all(runs)?;
    let comparison = Comparison::new(&runs, out.join("report.html"));
    fs::create_dir_all(out).map_err(|source| Error::Write { path: out.into(), source })?;
    let pictures = Pictures::new(&runs, &comparison);
    pictures.write(out)?;
    let json = serde_json::to_string_pretty(&comparison)
        .map_err(|error| Error::Write { path: out.join("comparison.json"), source: error.into() })?;
    write(&out.join("comparison.json"), json + "\n")?;
    write(&comparison.report, page::page(&runs, &comparison, &pictures))?;
    Ok(comparison)
}

/// Writes the report of one run, finished or not, to `report.html` in its folder, with `loss` and `accuracy` as SVG and PNG.
///
/// # Errors
/// As [`compare`].
pub fn single(run: &RunFolder) -> Result<Comparison> {
    let runs = run::Run::read_all(std::slice::from_ref(run))?;
    let comparison = Comparison::new(&runs, run.root().join("report.html"));
    let pictures = Pictures::new(&runs, &comparison);
    pictures.write(run.root())?;
    write(&comparison.report, page::page(&runs, &comparison, &pictures))?;
    Ok(comparison)
}

/// Writes a file as a whole, so that no reader ever sees a part of it.
fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    save::write_bytes(path, contents.as_ref()).map_err(|error| {
        let source = match error {
            tallow_weights::Error::Io { source, .. } => source,
            other => std::io::Error::other(other),
        };
        Error::Write { path: path.into(), source }
    })
}
