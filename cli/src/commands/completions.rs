//! `tallow completions`: a completion script for a shell.

use clap::CommandFactory;

use crate::error::Result;
use crate::flags::{Cli, CompletionsArgs};
use crate::output;

pub fn run(args: &CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tallow", &mut script);
    output::stdout(&String::from_utf8_lossy(&script))
}
