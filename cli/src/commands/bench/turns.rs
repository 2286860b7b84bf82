//! `tallow bench --turns`: measures whenever a line of standard input asks for it, so that a script can let two processes take
//! turns. A machine that grows slower meanwhile then does so for both.

use serde::Serialize;

use super::Measured;
use crate::error::{Result, usage};
use crate::session::Session;

/// One turn.
#[derive(Serialize)]
struct Turn {
    steps: usize,
    images_per_second: f64,
}

/// The end of all turns.
#[derive(Serialize)]
struct End {
    peak_memory_bytes: Option<u64>,
}

/// Says what is ready, then answers every line, which is a number of steps, with the speed of so many steps. The end of
/// standard input is answered with the peak memory.
pub fn take(
    ready: &Measured,
    session: &Session,
    mut speed: impl FnMut(usize) -> Result<f64>,
    peak: impl FnOnce() -> Option<u64>,
) -> Result {
    session.result(ready, || "ready: a number of steps for each turn".into())?;
    for (number, line) in std::io::stdin().lines().enumerate() {
        let line = line?;
        let steps = line.trim().parse().ok().filter(|&steps| steps > 0).ok_or_else(|| {
            let number = number + 1;
            usage(format!("standard input, line {number}: expected a number of steps of at least 1, got {line:?}"))
        })?;
        let turn = Turn { steps, images_per_second: speed(steps)? };
        session.result(&turn, || format!("{:.1} images/s", turn.images_per_second))?;
    }
    let end = End { peak_memory_bytes: peak() };
    session.result(&end, || super::peak_in_words(end.peak_memory_bytes))
}
