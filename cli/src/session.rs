//! What every command has at hand: the checked global flags, and where output goes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device};
use serde::Serialize;
use tallow_weights::OpenOptions;

use crate::download::Downloads;
use crate::error::Result;
use crate::flags::GlobalFlags;
use crate::kernels;
use crate::output;
use crate::threads::{self, Threads};
use tallow::train::{self, Precision};

/// The checked global flags.
pub struct Session {
    flags: GlobalFlags,
    threads: Threads,
    /// What was said once and for all.
    said: Mutex<HashSet<String>>,
}

impl Session {
    /// Checks the global flags and sets the number of threads.
    pub fn start(flags: GlobalFlags) -> Result<Self> {
        let threads = threads::set(flags.threads)?;
        kernels::set(flags.kernels.as_deref())?;
        Ok(Self { flags, threads, said: Mutex::default() })
    }

    /// The global flags as they were given.
    pub fn flags(&self) -> &GlobalFlags {
        &self.flags
    }

    /// Threads for compute and for loading images.
    pub fn threads(&self) -> usize {
        self.threads.count
    }

    /// Who said how many threads there are.
    pub fn threads_from(&self) -> &'static str {
        self.threads.from
    }

    /// The seed, 0 where none was given.
    pub fn seed(&self) -> u64 {
        self.flags.seed.unwrap_or(0)
    }

    /// The device to compute on, and the type of the weights there. On a CPU and on CUDA `--dtype` sets the arithmetic, over
    /// float32 weights.
    pub fn device(&self) -> Result<(Device, DType)> {
        let spec = self.flags.device.as_deref().unwrap_or("auto");
        let device = train::device(spec)?;
        if let (true, Some(problem)) = (spec == "auto" && device.is_cpu(), train::gpu_problem()) {
            self.warn(format!("{problem}: computing on the CPU (--device cpu says so)"));
        }
        let precision = self.precision();
        if !device.is_cpu() && !device.is_cuda() && matches!(precision, Precision::F32 | Precision::Bf16) {
            return Ok((device, if precision == Precision::Bf16 { DType::BF16 } else { DType::F32 }));
        }
        train::set_precision(precision, &device)?;
        if device.is_cpu() && !train::precision_is_native(precision) {
            self.warn("this CPU has no instructions for bfloat16: computing in float32");
        }
        Ok((device, DType::F32))
    }

    /// The type of the arithmetic.
    pub fn precision(&self) -> Precision {
        match self.flags.dtype.as_deref() {
            Some("f32x2") => Precision::F32x2,
            Some("bf16") => Precision::Bf16,
            Some("int8") => Precision::Int8,
            Some("tf32") => Precision::Tf32,
            _ => Precision::F32,
        }
    }

    /// How checkpoints and data sets are opened: as the environment says, with progress on stderr.
    pub fn open_options(&self) -> OpenOptions {
        let progress = (!self.flags.quiet).then(Downloads::on_stderr);
        OpenOptions::default().with(|c| c.progress = progress)
    }

    /// Prints a result: as JSON with `--json`, else as `text`.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result {
        output::stdout(&if self.flags.json { serde_json::to_string(value)? } else { text() })
    }

    /// Says on stderr what is going on, unless told to be quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.flags.quiet {
            output::stderr_line(text.as_ref());
        }
    }

    /// As [`Session::note`], but a text that was said before is not said again: the runs of a recipe load the same weights.
    pub fn note_once(&self, text: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.contains(&text) {
            self.note(&text);
            said.insert(text);
        }
    }

    /// Warns on stderr, unless told to be quiet.
    pub fn warn(&self, text: impl std::fmt::Display) {
        self.note(format!("warning: {text}"));
    }
}
