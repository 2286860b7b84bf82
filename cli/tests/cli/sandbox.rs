//! A folder of its own for every test, in which `tallow` runs without a network.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub struct Sandbox(TempDir);

/// What a command did.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Sandbox {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command line of `tallow`, split at spaces, that has not started.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command.args(line.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        // Measured, they could be others from day to day, and results with them.
        command.env("TALLOW_KERNELS", "fixed");
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", self.path("hf")).env_remove("RAYON_NUM_THREADS");
        command
    }

    pub fn run(&self, line: &str) -> Ended {
        Ended::from(self.command(line).output().expect("tallow starts"))
    }

    /// Runs a command that has to succeed.
    pub fn ok(&self, line: &str) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(0), "tallow {line}: {ended:?}");
        ended
    }

    /// Runs a command with `--json` that has to succeed and print one object.
    pub fn json(&self, line: &str) -> Value {
        let stdout = self.ok(&format!("{line} --json")).stdout;
        let value: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("tallow {line}: {e}: {stdout}"));
        assert!(value.is_object(), "tallow {line}: {stdout}");
        value
    }

    /// Writes test digit `index` of the bundled MNIST as a PNG.
    pub fn digit(&self, index: usize, name: &str) {
        let mnist = tallow::data::open("mnist", &Default::default()).expect("mnist");
        let image = mnist.test.image(index).expect("a digit");
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        let size = (image.width as u32, image.height as u32);
        image::save_buffer(path, &image.pixels, size.0, size.1, image::ColorType::L8).expect("a file");
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, contents).expect("a file");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The number of whole lines of a file, 0 where there is none.
pub fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count())
}
