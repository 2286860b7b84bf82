//! The `tallow` binary. Flags are read in `flags`; `commands` has one file a command: it checks them, calls the library and
//! prints what it gives. Nobody else knows the terminal.

mod allocator;
mod attention;
mod commands;
mod download;
mod error;
mod estimate;
mod file_name;
mod flags;
mod images;
mod interrupt;
mod kernels;
mod model;
mod output;
mod progress;
mod recipe;
mod session;
mod settings;
mod threads;
mod wording;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use clap::error::ErrorKind;

use error::Result;
use flags::Cli;
use session::Session;

/// Reads the command line, does what it says, and gives the exit status: 0, 1 (failed) or 2 (usage).
fn main() -> ExitCode {
    allocator::set_up();
    let result = without_panic(|| {
        let cli = match Cli::try_parse() {
            Ok(cli) => cli,
            Err(error) => return refused(&error),
        };
        match run(cli) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error::report(&error),
        }
    });
    result.unwrap_or_else(|message| {
        output::stderr_line(&format!(
            "error: a mistake of Tallow itself: {message}; please report it with the command"
        ));
        ExitCode::FAILURE
    })
}

fn run(cli: Cli) -> Result {
    let session = Session::start(cli.global)?;
    // In the pool: work that is shared among threads then begins on the thread that has it, and wakes only the others.
    let result = rayon::scope(|_| commands::run(cli.command, &session));
    #[cfg(feature = "cuda")]
    for kernel in tallow_models::cuda::kernels() {
        if let Some(fault) = kernel.fault {
            let name = kernel.name;
            session
                .warn(format!("the CUDA kernel {name} was not used: {fault}; the composition of Candle's ops served"));
        }
    }
    result
}

/// Prints what clap has to say: help and version are results, everything else is a wrong command line.
fn refused(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Where nobody reads, there is nobody to tell.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
        }
        _ => output::stderr_line(&error::one_line_of_clap(error)),
    }
    ExitCode::from(2)
}

/// Runs `body`; a panic becomes one line that says what and where, in place of a backtrace.
fn without_panic<T>(body: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static LAST: Mutex<Option<String>> = Mutex::new(None);
    panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = LAST.lock() {
            *last = Some(info.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }));
    panic::catch_unwind(AssertUnwindSafe(body)).map_err(|_| {
        LAST.lock().ok().and_then(|mut last| last.take()).unwrap_or_else(|| "a panic without a message".into())
    })
}
