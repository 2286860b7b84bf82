//! The `tallow` binary: one file a command. Flags are read in `flags`; commands check them, call the library and print
//! what it gives.

mod download;
mod error;
mod estimate;
mod flags;
mod images;
mod interrupt;
mod model;
mod output;
mod progress;
mod recipe;
mod session;
mod settings;
mod threads;

mod attention;
mod bench;
mod compare;
mod completions;
mod data;
mod doctor;
mod draw;
mod embed;
mod eval;
mod export;
mod fetch;
mod info;
mod list;
mod predict;
mod run;
mod train;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use clap::error::ErrorKind;

use error::Result;
use flags::{Cli, Command};
use session::Session;

/// Reads the command line, does what it says, and gives the exit status: 0, 1 (failed) or 2 (usage).
pub fn main() -> ExitCode {
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
    rayon::scope(|_| run_command(cli.command, &session))
}

fn run_command(command: Command, session: &Session) -> Result {
    match command {
        Command::List(args) => list::run(&args, session),
        Command::Info(args) => info::run(&args, session),
        Command::Fetch(args) => fetch::run(&args, session),
        Command::Train(args) => train::run(&args, settings::Start::Scratch, session),
        Command::Finetune(args) => train::run(&args, settings::Start::Pretrained, session),
        Command::Run(args) => run::run(&args, session),
        Command::Eval(args) => eval::run(&args, session),
        Command::Predict(args) => predict::run(&args, session),
        Command::Draw(args) => draw::run(&args, session),
        Command::Embed(args) => embed::run(&args, session),
        Command::Data(args) => data::run(&args, session),
        Command::Compare(args) => compare::run(&args, session),
        Command::Bench(args) => bench::run(&args, session),
        Command::Export(args) => export::run(&args, session),
        Command::Doctor => doctor::run(session),
        Command::Completions(args) => completions::run(&args),
    }
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
