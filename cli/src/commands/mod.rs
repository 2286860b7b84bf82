//! One file a command. A command checks its flags, calls the library and prints what it gives.

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
mod interpolate;
mod knn;
mod list;
mod predict;
mod run;
mod search;
pub mod train;
mod zeroshot;

use crate::error::Result;
use crate::flags::Command;
use crate::kernels;
use crate::session::Session;
use crate::settings;

/// Does what a command line says.
///
/// # Errors
/// Whatever the command ends with; [`crate::error::report`] says it.
pub fn run(command: Command, session: &Session) -> Result {
    if kernels::matter(&command) {
        tallow::train::settle_kernels();
    }
    match command {
        Command::List(args) => list::run(&args, session),
        Command::Info(args) => info::run(&args, session),
        Command::Fetch(args) => fetch::run(&args, session),
        Command::Train(args) => train::run(&args, None, settings::Start::Scratch, session),
        Command::Finetune(args) => train::run(&args, None, settings::Start::Pretrained, session),
        Command::Pretrain(args) => {
            train::run(&args.train, Some(&args.pretraining), settings::Start::Unlabelled, session)
        }
        Command::Zeroshot(args) => zeroshot::run(&args, session),
        Command::Interpolate(args) => interpolate::run(&args, session),
        Command::Run(args) => run::run(&args, session),
        Command::Knn(args) => knn::run(&args, session),
        Command::Eval(args) => eval::run(&args, session),
        Command::Predict(args) => predict::run(&args, session),
        Command::Draw(args) => draw::run(&args, session),
        Command::Embed(args) => embed::run(&args, session),
        Command::Search(args) => search::run(&args, session),
        Command::Data(args) => data::run(&args, session),
        Command::Compare(args) => compare::run(&args, session),
        Command::Bench(args) => bench::run(&args, session),
        Command::Export(args) => export::run(&args, session),
        Command::Doctor => doctor::run(session),
        Command::Completions(args) => completions::run(&args),
    }
}
