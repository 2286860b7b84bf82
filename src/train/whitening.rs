//! The whitening of a run's input: fitted once to its training images, and taken back from its checkpoint when it goes on.

use std::sync::atomic::{AtomicBool, Ordering};

use tallow_weights::Whitening;

use super::config::Normalize;
use super::error::Result;
use super::event::{Event, Listener};
use super::outcome::Start;
use super::run_folder::RunFolder;
use super::setup::Setup;
use crate::data::whitening::fit;

/// What the run's setting of `normalize` comes to.
pub(super) enum Whitened {
    /// The whitening, where there is one.
    As(Option<Whitening>),
    /// Stopped while it was fitted.
    Stopped,
}

/// Fits the whitening where the settings ask for one, to the training part alone. A run that goes on takes its own, to the
/// last bit.
///
/// # Errors
/// If a sample cannot be read, or the checkpoint's file is damaged or missing.
pub(super) fn whitened(
    setup: &Setup,
    folder: &RunFolder,
    start: Start,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
) -> Result<Whitened> {
    if setup.config.data.normalize != Normalize::Zca {
        return Ok(Whitened::As(setup.checkpoint.whitening.clone()));
    }
    if start == Start::Resume && folder.last_path().exists() {
        return Ok(Whitened::As(Some(Whitening::read(&folder.last_path())?)));
    }
    let preprocessing = &setup.checkpoint.preprocessing;
    let [channels, height, width] = preprocessing.input_size;
    let samples = &setup.dataset.train;
    listener.on(&Event::Note(format!(
        "fitting ZCA whitening of {channels}x{height}x{width} values to {} training images",
        samples.len()
    )));
    let fitted = fit(&**samples, preprocessing, setup.config.data.zca_eps, &|| stop.load(Ordering::Relaxed))?;
    Ok(fitted.map_or(Whitened::Stopped, |whitening| Whitened::As(Some(whitening))))
}
