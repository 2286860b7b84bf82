//! Downloads on stderr: a bar a file on a terminal, a line a file elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tallow_weights::Progress;

use crate::output::{bytes, stderr_line};

/// Shows how downloads go.
pub struct Downloads {
    terminal: bool,
    bars: MultiProgress,
    files: Mutex<HashMap<String, ProgressBar>>,
}

impl Downloads {
    /// A display for stderr.
    pub fn on_stderr() -> Arc<dyn Progress> {
        let terminal = std::io::stderr().is_terminal();
        Arc::new(Self { terminal, bars: MultiProgress::new(), files: Mutex::default() })
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<String, ProgressBar>) -> T) -> T {
        change(&mut self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Progress for Downloads {
    fn begin(&self, file: &str, total: Option<u64>) {
        if !self.terminal {
            let size = total.map_or(String::new(), |total| format!(" ({})", bytes(total)));
            return stderr_line(&format!("downloading {file}{size}"));
        }
        let template = "{msg}  {bar:24} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style),
            None => ProgressBar::new_spinner(),
        };
        let bar = self.bars.add(bar.with_message(file.to_string()));
        self.with(|files| files.insert(file.into(), bar));
    }

    fn advance(&self, file: &str, done: u64) {
        self.with(|files| files.get(file).map(|bar| bar.set_position(done)));
    }

    fn end(&self, file: &str) {
        if let Some(bar) = self.with(|files| files.remove(file)) {
            bar.finish_and_clear();
        }
    }

    fn note(&self, message: &str) {
        if self.terminal {
            // A message that cannot be shown above the bars is shown below them.
            self.bars.println(message).unwrap_or_else(|_| stderr_line(message));
        } else {
            stderr_line(message);
        }
    }
}
