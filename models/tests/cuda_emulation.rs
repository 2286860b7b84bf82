//! The CUDA kernels on a CPU that plays the device; see cuda/emulation.h. Needs bash and a C++ compiler, no CUDA and no GPU:
//!
//!     cargo test --release -p tallow-models --test cuda_emulation -- --ignored

use std::process::Command;

#[test]
#[ignore = "compiles C++, and takes a minute"]
fn every_kernel_gives_its_formula_and_every_gradient_its_slope() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cuda/emulate.sh");
    let done = Command::new("bash").arg(script).output().expect("bash runs");
    let text = String::from_utf8_lossy(&done.stdout);
    let wrong: Vec<_> = text.lines().filter(|line| !line.ends_with(" ok")).collect();
    assert!(
        done.status.success() && wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(text.lines().count() > 250, "all checks ran: {} lines", text.lines().count());
}
