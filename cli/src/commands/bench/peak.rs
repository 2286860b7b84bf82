//! `tallow bench --mode peak`: the most multiply-adds that this CPU can do, with every instruction set that it has.

use std::time::Duration;

use serde::Serialize;
use tallow_kernels::peak::{Instructions, of_all_threads, of_this_thread};

use crate::error::Result;
use crate::output::{Align, Table};
use crate::session::Session;

/// How long each instruction set is measured, on one thread and on all.
const TIME: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Peak {
    mode: &'static str,
    threads: usize,
    instructions: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    instructions: &'static str,
    dtype: &'static str,
    /// 10⁹ floating-point operations a second.
    gflops_one_thread: f64,
    gflops_all_threads: f64,
    /// Of one instruction where it finds its numbers in registers: with AMX, the product of two tiles.
    nanoseconds: f64,
}

pub fn run(session: &Session) -> Result {
    let measured = |instructions: Instructions| {
        let one_thread = of_this_thread(instructions, TIME);
        Measured {
            instructions: instructions.name(),
            dtype: instructions.dtype(),
            gflops_one_thread: one_thread / 1e9,
            gflops_all_threads: of_all_threads(instructions, TIME) / 1e9,
            nanoseconds: 1e9 * instructions.operations() as f64 / one_thread,
        }
    };
    let instructions = Instructions::available().into_iter().map(measured).collect();
    let peak = Peak { mode: "peak", threads: session.threads(), instructions };
    session.result(&peak, || {
        let threads = format!("{} threads", peak.threads);
        let mut table = Table::new([
            ("instructions", Align::Left),
            ("numbers", Align::Left),
            ("one thread", Align::Right),
            (&threads, Align::Right),
            ("one instruction", Align::Right),
        ]);
        for row in &peak.instructions {
            table.row([
                row.instructions.into(),
                row.dtype.into(),
                format!("{:.0} GFLOP/s", row.gflops_one_thread),
                format!("{:.0} GFLOP/s", row.gflops_all_threads),
                format!("{:.2} ns", row.nanoseconds),
            ]);
        }
        table.to_string()
    })
}
