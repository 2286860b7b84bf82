//! Classifies images: `cargo run --release --example classify -- MODEL IMAGE…`
//!
//! MODEL is the folder of a run, `hf-hub:OWNER/REPO`, a name of the zoo, or a path to weights.

use tallow::Classifier;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [model, images @ ..] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: classify MODEL IMAGE…".into());
    };
    for prediction in Classifier::from_pretrained(model)?.predict(images)? {
        println!("{prediction}");
    }
    Ok(())
}
