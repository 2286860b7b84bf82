//! The frame of a study, which is a run without a loop over steps: before anything is measured its data is told apart and its folder made
//! ready, and afterwards predictions and summary are written. What is between them is the study's own.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tallow_weights::save;

use crate::data::Dataset;
use crate::train::config::TrainConfig;
use crate::train::data_record::{self, DataRecord};
use crate::train::error::{Error, Result};
use crate::train::evaluate::Evaluation;
use crate::train::event::{Event, Listener};
use crate::train::metrics_log::MetricsLog;
use crate::train::outcome::{Outcome, Start};
use crate::train::predictions::predictions;
use crate::train::run_folder::{RunFolder, Summary, write_json};
use crate::train::{memory, paths};

/// A study under way.
pub(in crate::train) struct Frame<'a> {
    pub folder: &'a RunFolder,
    pub start: Start,
    pub listener: &'a mut dyn Listener,
    pub stop: &'a AtomicBool,
    began: Instant,
}

impl<'a> Frame<'a> {
    /// A study that is to leave its files in `folder`.
    ///
    /// # Errors
    /// If the folder holds something else.
    pub fn new(
        folder: &'a RunFolder,
        start: Start,
        listener: &'a mut dyn Listener,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let began = Instant::now();
        folder.check_start(start)?;
        memory::reset_peak();
        Ok(Self { folder, start, listener, stop, began })
    }

    /// Seconds since the study began.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Tells that the study was stopped. Nothing of it is kept.
    pub fn interrupted(&mut self) -> Result<Outcome> {
        self.listener.on(&Event::Interrupted { step: 0 });
        Ok(Outcome::Interrupted { step: 0 })
    }

    /// Reads what tells the samples apart, and says what the data set's reader had to say. False where the study was stopped.
    pub fn digest(&mut self, dataset: &mut Dataset) -> bool {
        if !data_record::digest(dataset, self.listener, self.stop) {
            return false;
        }
        dataset.notes.iter().for_each(|note| self.listener.on(&Event::Warning(note.clone())));
        true
    }

    /// The record of the data, with a warning where test samples are among those to learn from.
    ///
    /// # Errors
    /// If a sample has not been told apart.
    pub fn record(&mut self, config: &TrainConfig, dataset: &Dataset) -> Result<DataRecord> {
        let record = data_record::of(config, dataset)?;
        data_record::overlap_warning(&record).into_iter().for_each(|text| self.listener.on(&Event::Warning(text)));
        Ok(record)
    }

    /// Makes the folder ready and writes what was `used`, as far as it is among `settings`. What is there of a study that was
    /// interrupted is made anew.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn begin(&self, mut used: TrainConfig, settings: &[&str], record: &DataRecord) -> Result<MetricsLog> {
        paths::fill(&mut used);
        let goes_on = self.start == Start::Resume && self.folder.config_path().exists();
        std::fs::create_dir_all(self.folder.root()).map_err(Error::io(self.folder.root()))?;
        let mut log = MetricsLog::open(self.folder)?;
        log.cut(0)?;
        if !goes_on {
            record.write(self.folder)?;
        }
        let mut table: toml::Table = used.to_toml()?.parse().map_err(|error: toml::de::Error| {
            Error::config("settings", "values that TOML can hold", error.message())
        })?;
        table.retain(|key, _| settings.contains(&key));
        save::write_text(&self.folder.config_path(), &table.to_string())?;
        Ok(log)
    }

    /// Writes what is said of every test sample, and the summary, whose time is that of the whole study.
    ///
    /// # Errors
    /// If something cannot be written.
    pub fn finish(&mut self, summary: Summary, tested: &Evaluation, dataset: &Dataset) -> Result<Outcome> {
        write_json(&self.folder.predictions_path(), &predictions(tested, &*dataset.test)?)?;
        let summary = summary.with(|s| (s.seconds, s.peak_memory_bytes) = (self.seconds(), memory::peak()));
        write_json(&self.folder.summary_path(), &summary)?;
        self.listener.on(&Event::End { elapsed: Duration::from_secs_f64(summary.seconds) });
        Ok(Outcome::Finished(summary))
    }
}

/// Checks that every setting which is not as it is by default is among `settings`; `expected` says what these are.
///
/// # Errors
/// [`Error::Config`] names one that is not.
pub(in crate::train) fn check_settings(config: &TrainConfig, settings: &[&str], expected: &str) -> Result<()> {
    config.validate()?;
    let as_table = |config: &TrainConfig| {
        toml::Table::try_from(config).map_err(|error| Error::config("settings", "values that TOML can hold", error))
    };
    let (mine, plain) = (as_table(config)?, as_table(&TrainConfig::default())?);
    let other = mine.iter().find(|(key, value)| !settings.contains(&key.as_str()) && plain.get(*key) != Some(*value));
    other.map_or(Ok(()), |(key, value)| Err(Error::config(key, expected, value)))
}
