//! The largest batch that the device's memory holds: [`BatchSize::Auto`].

use candle_core::Tensor;

use super::config::BatchSize;
use super::error::{Error, Result};
use super::event::{Event, Listener};
use super::memory;
use super::optimizer::Optimizer;
use super::outcome::Start;
use super::run_folder::RunFolder;
use super::setup::Setup;
use super::trial::{Trial, needed, undisturbed};

/// The most that is looked for: beyond it a step is no quicker by the image, and there are few of them.
const MOST: usize = 1024;

/// Batches from whose memory that of larger ones follows, where a full memory would end the process.
const MEASURED: [usize; 2] = [4, 16];

/// Settles the size of the batches where the settings leave it to the memory: that of the run that goes on in `folder`, else what
/// [`largest`] finds. Which one it is, is told.
///
/// # Errors
/// Those of [`largest`]; if another run is in the folder, or its settings cannot be read.
pub(super) fn settle(setup: &mut Setup, folder: &RunFolder, start: Start, listener: &mut dyn Listener) -> Result<()> {
    if setup.config.length.batch_size != BatchSize::Auto {
        return Ok(());
    }
    folder.check_start(start)?;
    setup.config.length.batch_size = match (start, folder.config_path().exists()) {
        (Start::Resume, true) => folder.config()?.length.batch_size,
        _ => {
            listener.on(&Event::Note("Looking for the largest batch that fits".into()));
            largest(setup)?.into()
        }
    };
    listener.on(&Event::Note(format!("Batches of {}", setup.config.length.batch_size)));
    Ok(())
}

/// The largest power of two, at most 1,024, or all training samples if they are fewer, of which a training step fits the
/// memory of the run's device. On a GPU steps on noise are tried until one does not fit; on the CPU two are measured, and the
/// memory of others, which grows with the batch, has to fit three quarters of what is free.
///
/// # Errors
/// If not even one sample fits, or the system does not tell its memory.
fn largest(setup: &Setup) -> Result<usize> {
    let Setup { config, checkpoint, params, .. } = setup;
    let mut model = checkpoint.architecture.build(params.builder())?;
    model.set_grad_checkpointing(config.compute.grad_checkpointing);
    // Held for their memory, which a run takes beside a batch: the average of the weights, and the optimiser.
    let averages: Vec<Tensor> = match config.regularization.ema {
        Some(_) => params.all().iter().map(|param| param.var.copy()).collect::<candle_core::Result<_>>()?,
        None => vec![],
    };
    let optimizer = Optimizer::new(config, &checkpoint.architecture, params)?;
    let mut trial = Trial { setup, model: &model, unlabelled: None };
    let found = undisturbed(params, || found(&mut trial, MOST.min(setup.dataset.train.len().max(1))))?;
    drop((averages, optimizer));
    found.ok_or(Error::DeviceFull { batch_size: 1 })
}

fn found(trial: &mut Trial, most: usize) -> Result<Option<usize>> {
    if trial.device().is_cpu() {
        let untold = || Error::config("batch_size", "a number, as this system does not tell its memory", "auto");
        let budget = memory::available().ok_or_else(untold)? / 4 * 3;
        memory::reset_peak();
        let before = memory::peak().ok_or_else(untold)?;
        let mut measured = [(0, 0); 2];
        for (measured, size) in measured.iter_mut().zip(MEASURED) {
            memory::reset_peak();
            trial.step(size)?;
            *measured = (size, memory::peak().ok_or_else(untold)?.saturating_sub(before));
        }
        search(most, |size| Ok(needed(measured, size) <= budget))
    } else {
        search(most, |size| fits(trial.step(size).map(drop), size))
    }
}

/// The largest size that fits, of the powers of two below `most` and `most` itself; none where not even 1 does.
fn search(most: usize, mut fits: impl FnMut(usize) -> Result<bool>) -> Result<Option<usize>> {
    let (mut found, mut size) = (None, 1);
    while found != Some(most) && fits(size.min(most))? {
        found = Some(size.min(most));
        size *= 2;
    }
    Ok(found)
}

/// Whether a step of `size` samples went well; an error that does not say that the memory is full is passed on.
fn fits(outcome: Result<()>, size: usize) -> Result<bool> {
    match outcome.map_err(|error| error.with_batch_size(size)) {
        Ok(()) => Ok(true),
        Err(Error::DeviceFull { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_that_fits_is_found_in_as_few_trials_as_doubling_takes() {
        let mut tried = vec![];
        let mut up_to = |most, room| {
            tried.clear();
            let found = search(most, |size| {
                tried.push(size);
                Ok(size <= room)
            });
            (found.unwrap(), tried.clone())
        };
        assert_eq!(up_to(1024, 5000).0, Some(1024));
        assert_eq!(up_to(1024, 100), (Some(64), vec![1, 2, 4, 8, 16, 32, 64, 128]));
        assert_eq!(up_to(50, 100), (Some(50), vec![1, 2, 4, 8, 16, 32, 50]), "all samples there are");
        assert_eq!(up_to(50, 0), (None, vec![1]));
        assert_eq!(up_to(1, 100), (Some(1), vec![1]));
    }

    #[test]
    fn only_a_full_memory_ends_the_search() {
        let error = |text: &str| Err(Error::from(candle_core::Error::Msg(text.into())));
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        assert_eq!(search(64, |size| fits(if size > 16 { error(full) } else { Ok(()) }, size)).unwrap(), Some(16));
        let other = search(64, |size| fits(error("shapes differ"), size));
        assert_eq!(other.unwrap_err().to_string(), "shapes differ");
    }
}
