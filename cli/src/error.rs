//! How a command ends: one clear line on stderr and an exit status.

use std::process::ExitCode;

use crate::wording::with_flags;

/// What a command gives.
pub type Result<T = ()> = anyhow::Result<T>;

/// The command line asks for something that makes no sense: exit status 2, as for a flag that clap refuses.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// An error about the command line.
pub fn usage(message: impl std::fmt::Display) -> anyhow::Error {
    Usage(message.to_string()).into()
}

/// Whoever read our output has closed it. That is no failure: `tallow list | head`.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub struct OutputClosed;

/// The run was stopped by Ctrl-C and can be resumed; what there was to say is said.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// What went wrong was told already, line by line: exit status 1.
#[derive(Debug, thiserror::Error)]
#[error("some images cannot be read")]
pub struct Told;

/// Exit status of a run that Ctrl-C stopped.
const INTERRUPTED: u8 = 1;

/// Says what went wrong, and gives the exit status.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<OutputClosed>() {
        return ExitCode::SUCCESS;
    }
    if error.is::<Interrupted>() {
        return ExitCode::from(INTERRUPTED);
    }
    if error.is::<Told>() {
        return ExitCode::FAILURE;
    }
    let remedy = remedy(error).map_or(String::new(), |remedy| format!("; {remedy}"));
    crate::output::stderr_line(&format!("error: {}{remedy}", one_line(error)));
    ExitCode::from(if is_usage(error) { 2 } else { 1 })
}

/// What to do, where the library's message leaves it to the command line.
fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    use std::io::ErrorKind;
    for cause in error.chain() {
        if let Some(tallow_models::Error::UnknownArchitecture { .. }) = of_models(cause) {
            return Some("tallow list shows the names, and a path has to exist");
        }
        if let Some(tallow::data::Error::BadImages { .. }) = of_data(cause) {
            return Some("replace or remove them, or go on without them (--on-bad-image skip)");
        }
        if cause.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY") {
            return Some("the device's memory is full: a smaller --batch-size needs less");
        }
        match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::NotFound | ErrorKind::NotADirectory) => return Some("check the path"),
            Some(ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                return Some("choose a place that this user may read and write");
            }
            Some(ErrorKind::StorageFull) => {
                return Some(
                    "make room on the disk and give the same command again (with --resume where a run is to go on)",
                );
            }
            _ => {}
        }
    }
    None
}

/// The error of the data that training passes on as its own.
fn of_data<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a tallow::data::Error> {
    match error.downcast_ref() {
        Some(tallow::train::Error::Data(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// The error of the models that the errors of other rooms pass on as their own.
fn of_models<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a tallow_models::Error> {
    use tallow::train::Error as Train;
    use tallow_weights::Error as Weights;
    let weights = match error.downcast_ref() {
        Some(Train::Models(error)) => return Some(error),
        Some(Train::Weights(error)) => Some(&**error),
        _ => error.downcast_ref(),
    };
    match weights {
        Some(Weights::Models(error)) => Some(error),
        _ => error.downcast_ref(),
    }
}

/// What clap refuses, in one line: the error, its tip, and where to look.
pub fn one_line_of_clap(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut line = String::new();
    for paragraph in text.split("\n\n") {
        let mut lines = paragraph.lines().map(str::trim).filter(|line| !line.is_empty());
        let Some(first) = lines.next() else { continue };
        // Usage fills a screen, and the last paragraph points to help as this line does.
        if first.starts_with("Usage:") || first.starts_with("For more information") {
            continue;
        }
        let rest = lines.collect::<Vec<_>>().join(", ");
        let gap = if rest.is_empty() { "" } else { " " };
        line.push_str(&format!("{}{first}{gap}{rest}", if line.is_empty() { "" } else { "; " }));
    }
    format!("{line}; see --help")
}

/// The error and its causes in one line, with flags in place of the settings that the library names. A cause that the error above it already quotes is not said twice.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        // With RUST_BACKTRACE Candle writes one behind its errors.
        let text = cause.to_string();
        let text = text.split("\n   0: ").next().unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(&format!(": {text}"));
        }
    }
    with_flags(&line).into_owned()
}

/// Whether the command line itself is to blame, rather than what it names.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<Usage>() || matches!(error.downcast_ref(), Some(tallow::train::Error::Config { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_in_one_line_and_none_twice() {
        let cause = anyhow::anyhow!("no such\n  file").context("photo.jpg: no such file").context("cannot predict");
        assert_eq!(one_line(&cause), "cannot predict: photo.jpg: no such file");
        let traced = anyhow::anyhow!("text: expected tokens\n   0: candle_core::error::Error::bt\n   1: main");
        assert_eq!(one_line(&traced), "text: expected tokens");
    }
}
