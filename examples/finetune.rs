//! Fine-tunes the bundled ViT from Rust, without the command line: `cargo run --release --example finetune -- OUT [DIGITS]`
//!
//! Trains on as many MNIST digits (default 500) at 56 pixels, tests on 200, and writes the run's folder to OUT.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use tallow::train::defaults::{Family, Regime, defaults};
use tallow::train::{Event, Listener, Outcome, RunFolder, Start, run};

/// Prints a line an epoch; all other events are ignored.
struct Epochs;

impl Listener for Epochs {
    fn on(&mut self, event: &Event) {
        if let Event::Epoch(epoch) = event {
            println!("epoch {}: {:.1} % of the test digits right", epoch.epoch + 1, 100. * epoch.test_accuracy);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let out = PathBuf::from(arguments.next().ok_or("usage: finetune OUT [DIGITS]")?);
    let digits = arguments.next().map_or(Ok(500), |digits| digits.parse())?;
    let config = defaults(Family::Vit, Regime::Pretrained).with(|c| {
        c.model.model = "vit_small_patch14_dinov2.saliency".into();
        c.data.data = "mnist".into();
        c.data.limit = Some(digits);
        c.data.test_limit = Some(200.min(digits));
        c.length.epochs = 1.into();
        c.model.set = [("img_size".to_string(), "56".to_string())].into();
    });
    // Setting the flag, from a signal handler or another thread, ends the run after its step, with a checkpoint.
    let stop = AtomicBool::new(false);
    match run(&config, &RunFolder::new(&out), Start::New, &mut Epochs, &stop)? {
        Outcome::Finished(summary) => println!("{:.1} % in {:.0} s", 100. * summary.test_accuracy, summary.seconds),
        Outcome::Interrupted { step } => println!("stopped after {step} steps"),
        other => println!("ended: {other:?}"),
    }
    Ok(())
}
