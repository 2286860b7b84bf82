//! The pictures of a report: the same charts for the page and for files of their own.

use std::fs;
use std::path::Path;

use super::chart::{Chart, Style};
use super::comparison::Comparison;
use super::curves;
use super::error::{Error, Result};
use super::figure::write_figure;
use super::group::{Sweep, sweep};
use super::learning_speed::learning_speed;
use super::multiples::{Multiples, multiples};
use super::run::Run;
use super::sweep::{KEYS, Results, label, results};

/// The names of the files that only some reports have; the last two are names that earlier versions gave to the learning speed.
const OPTIONAL: [&str; 8] = [
    "results",
    "multiples",
    "learning-speed-by-images",
    "learning-speed-by-seconds",
    "learning-rate",
    "gradient-norm",
    "quickness-by-images",
    "quickness-by-seconds",
];

/// The pictures of a report.
pub(super) struct Pictures {
    /// The courses that are drawn: runs, or where runs are repeated with other seeds the means of their groups.
    pub courses: Vec<Run>,
    /// How their lines are drawn.
    pub styles: Vec<(Style, &'static str)>,
    /// Loss over optimiser steps.
    pub loss: Chart,
    /// Accuracy over epochs.
    pub accuracy: Chart,
    /// Learning rate and gradient norm over optimiser steps.
    pub steps: Option<[Chart; 2]>,
    /// What every group reached.
    pub results: Option<Results>,
    /// The curves of a sweep, one chart for each of its values.
    pub multiples: Option<Multiples>,
    /// Test accuracy over images and over seconds.
    pub learning_speed: Option<[Chart; 2]>,
}

impl Pictures {
    pub fn new(runs: &[Run], comparison: &Comparison) -> Self {
        let courses: Vec<Run> = comparison.groups.iter().map(|group| group.course(runs)).collect();
        let results = results(comparison);
        let multiples = match sweep(&comparison.groups) {
            Sweep::Numbers { setting, values } if results.is_some() => {
                let mut order: Vec<usize> = (0..values.len()).collect();
                order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
                let labels: Vec<String> = values.iter().map(|value| format!("{} {value}", label(&setting))).collect();
                multiples(&courses, &labels, &order, format!("Curves for each {}", label(&setting)))
            }
            _ => None,
        };
        Self {
            styles: curves::styles(&courses),
            loss: curves::loss(&courses),
            accuracy: curves::accuracy(&courses),
            steps: curves::steps(&courses),
            learning_speed: learning_speed(&courses),
            results,
            multiples,
            courses,
        }
    }

    /// Writes them as SVG and PNG; pictures of an earlier report that this one does not have are removed.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let names: Vec<&str> = self.courses.iter().map(|course| course.name.as_str()).collect();
        let curve = |chart: &Chart| chart.standalone(&names, &self.styles);
        let mut pictures = vec![("loss", curve(&self.loss)), ("accuracy", curve(&self.accuracy))];
        match &self.results {
            Some(Results::Line(chart)) => pictures.push(("results", chart.standalone(&KEYS, &[]))),
            Some(Results::Rows(dots)) => pictures.push(("results", dots.standalone(&KEYS))),
            None => {}
        }
        if let Some(multiples) = &self.multiples {
            pictures.push(("multiples", multiples.standalone(&self.styles)));
        }
        if let Some([images, seconds]) = &self.learning_speed {
            pictures.push(("learning-speed-by-images", images.standalone(&names, &[])));
            pictures.push(("learning-speed-by-seconds", seconds.standalone(&names, &[])));
        }
        if let Some([rate, norm]) = &self.steps {
            pictures.push(("learning-rate", rate.standalone(&names, &[])));
            pictures.push(("gradient-norm", norm.standalone(&names, &[])));
        }
        for (name, svg) in &pictures {
            write_figure(&out.join(name), svg)?;
        }
        let stale = OPTIONAL.iter().filter(|name| pictures.iter().all(|(written, _)| written != *name));
        for path in stale.flat_map(|name| ["svg", "png"].map(|ending| out.join(format!("{name}.{ending}")))) {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::Write { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }
}
