//! Runs that are killed or stopped go on as if nothing had happened.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Ended, Sandbox, lines};

const STEPS: usize = 4 * 20;
const TRAIN: &str = "train vit_mnist --set depth=2 --data mnist --limit 160 --test-limit 20 --epochs 4 --batch-size 8 \
                     --set drop_path_rate=0.1 --augment crop,flip --checkpoint-every 3";

/// What a process that is about to start does with SIGINT: where the tests run in the background, it would be ignored.
#[cfg(unix)]
fn on_sigint(command: &mut std::process::Command, action: libc::sighandler_t) {
    use std::os::unix::process::CommandExt;
    // SAFETY: `signal` may be called between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGINT, action);
            Ok(())
        })
    };
}

/// Starts the run and waits until it has logged `steps` steps.
fn start(tallow: &Sandbox, line: &str, out: &str, steps: usize) -> Child {
    let mut command = tallow.command(&format!("{line} --out {out}"));
    #[cfg(unix)]
    on_sigint(&mut command, libc::SIG_DFL);
    begin(command, tallow, out, steps)
}

/// As [`start`], with a command that is ready.
fn begin(mut command: std::process::Command, tallow: &Sandbox, out: &str, steps: usize) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tallow starts");
    let since = Instant::now();
    while lines(&tallow.path(out).join("metrics.jsonl")) < steps {
        assert!(since.elapsed() < Duration::from_secs(60), "no step after a minute");
        if let Some(status) = child.try_wait().expect("a child") {
            panic!("the run ended too early, with {status}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_weights_of_one_that_was_not() {
    let tallow = Sandbox::new();
    tallow.ok(&format!("{TRAIN} --out whole"));
    let mut line = TRAIN.to_string();
    for steps in [1, 17, 40] {
        let mut child = start(&tallow, &line, "killed", steps);
        child.kill().expect("SIGKILL");
        child.wait().expect("a child");
        assert!(!tallow.path("killed/summary.json").exists(), "it was killed before its end");
        line = "train --resume".into();
    }
    tallow.ok("train --resume --out killed");
    for file in ["checkpoints/last/model.safetensors", "checkpoints/best/model.safetensors", "predictions.json"] {
        assert!(tallow.read(&format!("whole/{file}")) == tallow.read(&format!("killed/{file}")), "{file} differs");
    }
    assert_eq!(losses(&tallow, "whole"), losses(&tallow, "killed"), "every step is in the log once");
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on() {
    let tallow = Sandbox::new();
    let child = start(&tallow, TRAIN, "run", 5);
    // SAFETY: a signal to a child that has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let ended = Ended::from(child.wait_with_output().expect("a child"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("go on with: tallow train --out run --resume"), "{}", ended.stderr);
    let summary = tallow.json("train --out run --resume");
    assert_eq!(summary["steps"], STEPS);
}

#[cfg(unix)]
#[test]
fn a_run_in_the_background_is_not_stopped_by_the_ctrl_c_that_is_meant_for_others() {
    let tallow = Sandbox::new();
    let line = "train mlp_mnist --data mnist --limit 2000 --test-limit 10 --epochs 3 --batch-size 20 --out run";
    let mut command = tallow.command(line);
    on_sigint(&mut command, libc::SIG_IGN);
    let child = begin(command, &tallow, "run", 1);
    // SAFETY: a signal to a child that has not been waited for, so the number is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let ended = Ended::from(child.wait_with_output().expect("a child"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_run_that_has_ended_is_resumed_to_its_result() {
    let tallow = Sandbox::new();
    let line = "train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 --out run";
    let first = tallow.json(line);
    let again = tallow.json(&format!("{line} --resume"));
    assert_eq!(first["test_accuracy"], again["test_accuracy"]);
}

#[test]
fn a_run_that_has_ended_is_extended_and_a_kill_meanwhile_changes_nothing() {
    let tallow = Sandbox::new();
    for run in ["whole", "killed"] {
        tallow.ok(&format!("{TRAIN} --out {run}"));
    }
    let more = "train --resume --epochs 6 --schedule constant --lr 1e-4";
    let ended = tallow.ok(&format!("{more} --out whole"));
    let line =
        "2 more epochs, 5 to 6: the cosine schedule ends with epoch 4, the rate is constant then, learning rate 1e-4";
    assert!(ended.stderr.contains(line), "{}", ended.stderr);
    let lines_before = STEPS + 4;
    let mut child = start(&tallow, more, "killed", lines_before + 9);
    child.kill().expect("SIGKILL");
    child.wait().expect("a child");
    assert!(!tallow.path("killed/summary.json").exists(), "it was killed before its end");
    let summary = tallow.json("train --resume --out killed");
    assert_eq!((&summary["epochs"], &summary["steps"]), (&6.into(), &(6 * 20).into()));
    for file in ["checkpoints/last/model.safetensors", "predictions.json"] {
        assert!(tallow.read(&format!("whole/{file}")) == tallow.read(&format!("killed/{file}")), "{file} differs");
    }
    assert_eq!(losses(&tallow, "whole"), losses(&tallow, "killed"), "every step is in the log once");
    let fewer = tallow.run("train --resume --epochs 5 --out whole");
    assert_eq!(fewer.code, Some(2), "{fewer:?}");
    assert!(fewer.stderr.contains("epochs: expected at least 6") && fewer.stderr.contains("got 5"), "{}", fewer.stderr);
}

fn losses(tallow: &Sandbox, run: &str) -> Vec<(u64, f64)> {
    let text = String::from_utf8(tallow.read(&format!("{run}/metrics.jsonl"))).expect("UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines
        .filter(|line| line["kind"] == "step")
        .map(|line| (line["step"].as_u64().expect("a step"), line["loss"].as_f64().expect("a loss")))
        .collect()
}
