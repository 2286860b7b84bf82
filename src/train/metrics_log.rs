//! Writing `metrics.jsonl`: a line a step and a line an epoch. The open file is also what keeps a second process out of the
//! run's folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::error::{Error, Result};
use super::run_folder::{MetricsLine, RunFolder};

/// The open file.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl MetricsLog {
    /// Opens the file for a run that goes on after `bytes` bytes of it: what comes after them is cut off. A new run goes on
    /// after none.
    ///
    /// # Errors
    /// If the file cannot be opened, another process has it open, or it is shorter than that.
    pub fn open(folder: &RunFolder) -> Result<Self> {
        let path = folder.metrics_path();
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: folder.root().into() }),
            // A file system without locks: a run there has no guard, and works.
            Err(TryLockError::Error(_)) | Ok(()) => (),
        }
        Ok(Self { file, path, bytes: 0 })
    }

    /// Cuts off what comes after the first `bytes` bytes, so that the next line follows them.
    ///
    /// # Errors
    /// If the file is shorter, or that is not the end of a line.
    pub fn cut(&mut self, bytes: u64) -> Result<()> {
        let length = self.file.metadata().map_err(Error::io(&self.path))?.len();
        let mut end = [b'\n'];
        if bytes > 0 && bytes <= length {
            self.file.seek(SeekFrom::Start(bytes - 1)).map_err(Error::io(&self.path))?;
            self.file.read_exact(&mut end).map_err(Error::io(&self.path))?;
        }
        if length < bytes || end != *b"\n" {
            let expected = format!("at least {bytes} bytes in whole lines, as the last checkpoint says");
            return Err(Error::File { path: self.path.clone(), expected, got: format!("{length} bytes") });
        }
        self.file.set_len(bytes).map_err(Error::io(&self.path))?;
        self.file.seek(SeekFrom::Start(bytes)).map_err(Error::io(&self.path))?;
        self.bytes = bytes;
        Ok(())
    }

    /// Adds a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, line: &MetricsLine) -> Result<()> {
        let mut text = serde_json::to_string(line).map_err(|error| Error::File {
            path: self.path.clone(),
            expected: "metrics".into(),
            got: error.to_string(),
        })?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(Error::io(&self.path))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Makes what was added last through a loss of power, and tells the length in bytes.
    ///
    /// # Errors
    /// If the system cannot.
    pub fn sync(&mut self) -> Result<u64> {
        self.file.sync_data().map_err(Error::io(&self.path))?;
        Ok(self.bytes)
    }
}
