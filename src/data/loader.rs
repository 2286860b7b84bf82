//! The threads that decode and transform samples ahead of the model.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::transform::Levels;
use super::{Draw, Error, Result, Samples, Transform};

/// A batch, ready for the model.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[batch, channels, height, width]`, float32.
    pub images: Tensor,
    /// `[batch]`, u32.
    pub labels: Tensor,
    /// The samples' indices in their part of the data set.
    pub indices: Vec<usize>,
    /// Samples of this batch that cannot be read and are left out of it, with the reason; see [`Loader::tolerant`]. There may be
    /// no others, and then `images` has no rows.
    pub bad: Vec<(usize, Arc<Error>)>,
}

/// How batches are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoaderOptions {
    /// Samples of a batch.
    pub batch_size: usize,
    /// Threads that decode and transform; 0: none, the iterating thread does the work.
    pub threads: usize,
    /// Batches that are made ready ahead of the one that is asked for.
    pub prefetch: usize,
    /// Seed of what is random about a sample, together with `epoch` and its index.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: usize,
    /// Leave out the last batch where it is smaller than the others.
    pub drop_last: bool,
}

impl LoaderOptions {
    /// The same after `change`, in one expression: `LoaderOptions::default().with(|o| o.batch_size = 64)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for LoaderOptions {
    /// Batches of 32, a thread a core but no more than 16, two batches ahead.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(16));
        Self { batch_size: 32, threads, prefetch: 2, seed: 0, epoch: 0, drop_last: false }
    }
}

/// The order in which an epoch visits `len` samples: `0, 1, …`, or shuffled by (seed, epoch).
pub fn epoch_order(len: usize, seed: u64, epoch: usize, shuffle: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    if shuffle {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(epoch as u64).to_le_bytes());
        key[24..].copy_from_slice(b"shuffle "); // apart from what is drawn for a sample
        order.shuffle(&mut ChaCha8Rng::from_seed(key));
    }
    order
}

/// Samples that one thread makes at a time: small, so that a batch is the work of all threads.
const PIECE: usize = 8;

/// What the threads work on.
struct Work {
    samples: Arc<dyn Samples>,
    order: Vec<usize>,
    transform: Arc<Transform>,
    options: LoaderOptions,
    levels: Option<Levels>,
    /// Whether a bad sample is left out of its batch, and not the end of the iteration.
    tolerant: bool,
}

/// Samples one after the other, and those that are bad.
struct LoadedSamples {
    form: Form,
    bad: Vec<(usize, Arc<Error>)>,
}

/// What samples are made to.
enum Form {
    Values(Vec<f32>),
    Levels(Vec<u8>),
}

impl LoadedSamples {
    fn append(&mut self, more: Self) {
        match (&mut self.form, more.form) {
            (Form::Values(all), Form::Values(more)) => all.extend(more),
            (Form::Levels(all), Form::Levels(more)) => all.extend(more),
            _ => unreachable!("all samples are made in one way"),
        }
        self.bad.extend(more.bad);
    }

    /// Without the room of `size` values at place `at`.
    fn without(&mut self, at: usize, size: usize) {
        let own = at * size..(at + 1) * size;
        match &mut self.form {
            Form::Values(values) => drop(values.drain(own)),
            Form::Levels(levels) => drop(levels.drain(own)),
        }
    }
}

impl Work {
    fn batches(&self) -> usize {
        let (len, size) = (self.order.len(), self.options.batch_size);
        if self.options.drop_last { len / size } else { len.div_ceil(size) }
    }

    /// The samples of a batch.
    fn batch(&self, batch: usize) -> &[usize] {
        let start = batch * self.options.batch_size;
        &self.order[start..(start + self.options.batch_size).min(self.order.len())]
    }

    /// The samples of a piece of a batch.
    fn piece(&self, batch: usize, piece: usize) -> &[usize] {
        self.batch(batch).chunks(PIECE).nth(piece).unwrap_or(&[])
    }

    /// Values or levels of a sample.
    fn size(&self) -> usize {
        self.levels.as_ref().map_or(self.transform.input_size(), |levels| levels.size).iter().product()
    }

    /// Decodes and transforms samples, one after the other in one vector.
    fn make(&self, indices: &[usize], stop: impl Fn() -> bool) -> Result<LoadedSamples> {
        let size = self.size();
        let form = match self.levels {
            None => Form::Values(vec![0.0; indices.len() * size]),
            Some(_) => Form::Levels(vec![0; indices.len() * size]),
        };
        let mut made = LoadedSamples { form, bad: Vec::new() };
        for (order, &index) in indices.iter().enumerate() {
            if stop() {
                break;
            }
            let at = order - made.bad.len();
            let own = at * size..(at + 1) * size;
            let sample = || match &mut made.form {
                Form::Values(values) => self.sample(index, &mut values[own]),
                Form::Levels(levels) => self.levels_of(index, &mut levels[own]),
            };
            // a decoder that panics on a strange file is a bad sample, not the end of the process
            let result = catch_unwind(AssertUnwindSafe(sample)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                let got = format!("a failure of the decoder ({})", text.as_deref().unwrap_or("no message"));
                Err(Error::invalid(self.samples.name(index), "a sample that can be read", got))
            });
            match result {
                Err(error) if self.tolerant => {
                    made.without(at, size);
                    made.bad.push((index, Arc::new(error)));
                }
                result => result?,
            }
        }
        Ok(made)
    }

    fn draw(&self, index: usize) -> Draw {
        Draw { seed: self.options.seed, epoch: self.options.epoch as u64, index: index as u64 }
    }

    fn levels_of(&self, index: usize, out: &mut [u8]) -> Result<()> {
        let Some(levels) = &self.levels else { unreachable!("asked for only where there are some") };
        self.transform.apply_levels(&self.transform.read(&*self.samples, index)?, self.draw(index), levels, out)
    }

    fn sample(&self, index: usize, out: &mut [f32]) -> Result<()> {
        if let Some(point) = self.samples.point(index) {
            if point.len() != out.len() {
                let expected = format!("{} coordinates, as many as the model reads", out.len());
                return Err(Error::invalid(self.samples.name(index), expected, point.len()));
            }
            out.copy_from_slice(point);
            return Ok(());
        }
        let image = self.transform.read(&*self.samples, index)?;
        self.transform.apply(&image, self.draw(index), out)
    }
}

/// Where the threads and the iterator meet.
#[derive(Default)]
struct Handover {
    state: Mutex<State>,
    /// Something was made, or a thread ended.
    made: Condvar,
    /// There is room for more, or it is time to stop.
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    /// The batch and piece that is to be made next.
    next: (usize, usize),
    /// The batch that is asked for.
    current: usize,
    /// What was made, by batch and piece.
    pieces: HashMap<(usize, usize), Result<LoadedSamples>>,
    stop: bool,
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, State> {
        // no thread leaves the state half-changed: what a panicking one holds is whole
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The batches of one epoch, in order whatever the number of threads. An error ends the iteration; dropping it stops the
/// threads.
pub struct Loader {
    work: Arc<Work>,
    handover: Arc<Handover>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
}

impl Loader {
    /// Loads the samples at `order`, which is [`epoch_order`] or, to go on within an epoch, the rest of it.
    ///
    /// # Errors
    /// If the batch size is 0, an index of the order is out of range, or a thread cannot be started.
    pub fn new(
        samples: Arc<dyn Samples>,
        order: Vec<usize>,
        transform: Arc<Transform>,
        options: LoaderOptions,
    ) -> Result<Self> {
        Self::start(samples, order, transform, options, None, false)
    }

    /// As [`Loader::new`], but a sample that cannot be read is left out of its batch and told with it ([`Batch::bad`]).
    ///
    /// # Errors
    /// As there.
    pub fn tolerant(
        samples: Arc<dyn Samples>,
        order: Vec<usize>,
        transform: Arc<Transform>,
        options: LoaderOptions,
    ) -> Result<Self> {
        Self::start(samples, order, transform, options, None, true)
    }

    /// As [`Loader::new`], but images stay levels `[batch, height, width, channels]` (u8) where the transform can do with these, for a
    /// device to finish.
    ///
    /// # Errors
    /// As there.
    pub(super) fn of_levels(
        samples: Arc<dyn Samples>,
        order: Vec<usize>,
        transform: Arc<Transform>,
        options: LoaderOptions,
    ) -> Result<Self> {
        let levels = transform.levels(&*samples);
        Self::start(samples, order, transform, options, levels, false)
    }

    fn start(
        samples: Arc<dyn Samples>,
        order: Vec<usize>,
        transform: Arc<Transform>,
        options: LoaderOptions,
        levels: Option<Levels>,
        tolerant: bool,
    ) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(Error::invalid("batch size", "at least 1", 0));
        }
        if let Some(index) = order.iter().find(|&&index| index >= samples.len()) {
            return Err(Error::invalid("order of samples", format!("indices below {}", samples.len()), index));
        }
        let work = Arc::new(Work { samples, order, transform, options, levels, tolerant });
        let handover = Arc::new(Handover::default());
        let mut loader = Self { work, handover, threads: Vec::new(), next: 0 };
        let pieces = loader.work.order.len().div_ceil(PIECE);
        for number in 0..options.threads.min(pieces) {
            let (work, handover) = (loader.work.clone(), loader.handover.clone());
            let thread = std::thread::Builder::new().name(format!("loader-{number}")).spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| run(&work, &handover))).is_err() {
                    handover.lock().stop = true; // so that nobody waits for what this thread was making
                    handover.made.notify_all();
                }
            });
            loader.threads.push(thread.map_err(|e| Error::invalid("loader", "a thread for loading samples", e))?);
        }
        Ok(loader)
    }

    /// The number of batches, those already given included.
    pub fn batches(&self) -> usize {
        self.work.batches()
    }

    /// In which form images are left to a device, if they are.
    pub(super) fn levels(&self) -> Option<&Levels> {
        self.work.levels.as_ref()
    }

    /// Whether the next batch is made already.
    #[cfg(feature = "cuda")]
    pub(super) fn is_ready(&self) -> bool {
        let state = self.handover.lock();
        let pieces = || self.work.batch(self.next).len().div_ceil(PIECE);
        self.next < self.work.batches() && (0..pieces()).all(|piece| state.pieces.contains_key(&(self.next, piece)))
    }

    /// The samples at `indices`, which are batch number `batch`.
    fn made(&mut self, batch: usize, indices: &[usize]) -> Result<LoadedSamples> {
        if self.threads.is_empty() {
            return self.work.make(indices, || false);
        }
        let room = indices.len() * self.work.size();
        let form = match self.work.levels {
            None => Form::Values(Vec::with_capacity(room)),
            Some(_) => Form::Levels(Vec::with_capacity(room)),
        };
        let mut all = LoadedSamples { form, bad: Vec::new() };
        for piece in 0..indices.len().div_ceil(PIECE) {
            let mut state = self.handover.lock();
            let made = loop {
                if let Some(made) = state.pieces.remove(&(batch, piece)) {
                    break made;
                }
                if state.stop {
                    return Err(Error::invalid("loader", "threads that load samples", "one that failed"));
                }
                state = self.handover.made.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            all.append(made?);
        }
        self.handover.lock().current = batch + 1;
        self.handover.wanted.notify_all();
        Ok(all)
    }

    fn load(&mut self, batch: usize) -> Result<Batch> {
        let mut indices = self.work.batch(batch).to_vec();
        let LoadedSamples { form, bad } = self.made(batch, &indices)?;
        indices.retain(|index| bad.iter().all(|(other, _)| other != index));
        let images = match (form, &self.work.levels) {
            (Form::Levels(levels), Some(Levels { size: [height, width, channels], .. })) => {
                Tensor::from_vec(levels, (indices.len(), *height, *width, *channels), &Device::Cpu)?
            }
            (Form::Values(values), _) => {
                let at_least = self.work.options.batch_size.min(self.work.samples.len());
                self.work.transform.batch(values, indices.len(), at_least)?
            }
            _ => unreachable!("levels are made only where they have a form"),
        };
        let labels: Vec<u32> = indices.iter().map(|&index| self.work.samples.label(index)).collect();
        Ok(Batch { images, labels: Tensor::from_vec(labels, indices.len(), &Device::Cpu)?, indices, bad })
    }
}

/// What a thread does: takes the next piece as long as it is wanted.
fn run(work: &Work, handover: &Handover) {
    let mut state = handover.lock();
    loop {
        let (batch, piece) = state.next;
        if state.stop || batch >= work.batches() {
            return;
        }
        if batch > state.current + work.options.prefetch {
            state = handover.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let last = (piece + 1) * PIECE >= work.batch(batch).len();
        state.next = if last { (batch + 1, 0) } else { (batch, piece + 1) };
        drop(state);
        let made = work.make(work.piece(batch, piece), || handover.lock().stop);
        state = handover.lock();
        state.pieces.insert((batch, piece), made);
        handover.made.notify_all();
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.work.batches() {
            return None;
        }
        let batch = self.load(self.next);
        self.next = if batch.is_ok() { self.next + 1 } else { usize::MAX };
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.handover.lock().stop = true;
        self.handover.wanted.notify_all();
        for thread in self.threads.drain(..) {
            // a panic of a thread was already given as an error, or nobody asks for it any more
            let _ = thread.join();
        }
    }
}
