//! Commands that need no run, and what all commands have in common.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::sandbox::{Ended, Sandbox};

const COMMANDS: [&str; 19] = [
    "list",
    "info",
    "fetch",
    "train",
    "finetune",
    "eval",
    "zeroshot",
    "interpolate",
    "predict",
    "draw",
    "embed",
    "search",
    "data",
    "run",
    "compare",
    "bench",
    "export",
    "doctor",
    "completions",
];

#[test]
fn every_command_has_help_with_examples() {
    let tallow = Sandbox::new();
    let overview = tallow.ok("--help").stdout;
    for command in COMMANDS {
        assert!(overview.contains(command), "{command}");
        let help = tallow.ok(&format!("{command} --help")).stdout;
        assert!(help.contains("Examples:\n") && help.contains(&format!("tallow {command}")), "{command}: {help}");
    }
    for command in ["info", "predict", "embed", "draw positions", "draw filters"] {
        assert!(!tallow.ok(&format!("{command} --help")).stdout.contains("drop-"), "{command}: nothing is trained");
    }
    // Support vector machines have no pretrained weights.
    assert!(tallow.ok("train --help").stdout.contains("support vector machine"));
    assert!(!tallow.ok("finetune --help").stdout.contains("support vector machine"));
}

#[test]
fn list_tells_size_cost_and_licence() {
    let tallow = Sandbox::new();
    let listed = tallow.json("list vit_small_patch16_224");
    let model = &listed["models"][0];
    assert_eq!(model["parameters"], 22_050_664);
    assert!((model["gmacs"].as_f64().unwrap() - 4.6).abs() < 0.1);
    assert_eq!(model["weights"][0]["license"], "apache-2.0");
    assert!(tallow.ok("list *dinov2*").stdout.contains("saliency (bundled)"));
    // What the table calls bundled is found by that word, and nothing else.
    let bundled = tallow.ok("list bundled").stdout;
    assert!(bundled.lines().count() == 2 && bundled.contains("saliency (bundled)"), "{bundled}");
}

#[test]
fn info_accounts_for_the_bundled_weights() {
    let tallow = Sandbox::new();
    let info = tallow.json("info vit_small_patch14_dinov2.saliency --img-size 56");
    assert_eq!(info["layers"].as_array().map(Vec::len), info["account"]["parameters"].as_array().map(Vec::len));
    let adapted = info["account"]["tensors"].as_array().unwrap().iter().filter(|t| t["fate"] == "adapted");
    assert_eq!(adapted.map(|t| t["name"].as_str().unwrap()).collect::<Vec<_>>(), ["pos_embed"]);
    // Without a tag it is the architecture alone, and nothing is downloaded.
    assert_eq!(tallow.json("info vit_base_patch16_224")["parameters"], 86_567_656);
}

#[test]
fn bench_prints_the_keys_of_the_script_it_is_compared_with() {
    let tallow = Sandbox::new();
    for mode in ["train", "infer"] {
        let measured = tallow.json(&format!("bench mlp_mnist --mode {mode} --batch-size 8 --steps 2 --threads 1"));
        assert_eq!((&measured["model"], &measured["mode"]), (&"mlp_mnist".into(), &mode.into()));
        assert_eq!((&measured["dtype"], &measured["batch_size"]), (&"f32".into(), &8.into()));
        assert_eq!(measured["threads"], 1);
        assert!(measured["images_per_second"].as_f64().unwrap() > 0.);
        assert!(measured["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    }
}

#[test]
fn bench_takes_a_turn_for_every_line_and_ends_with_the_input() {
    let tallow = Sandbox::new();
    let turns = |input: &str| {
        let mut command = tallow.command("bench mlp_mnist --mode train --batch-size 8 --turns --threads 1 --json");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ended::from(child.wait_with_output().unwrap())
    };
    let ended = turns("2\n3\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let answers: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [ready, first, second, end] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&ready["model"], ready.get("images_per_second")), (&"mlp_mnist".into(), None));
    assert_eq!((&first["steps"], &second["steps"]), (&2.into(), &3.into()));
    assert!([first, second].iter().all(|turn| turn["images_per_second"].as_f64().unwrap() > 0.));
    assert!(end["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);

    for line in ["0", "many", ""] {
        let ended = turns(&format!("1\n{line}\n"));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("standard input, line 2: expected a number of steps"), "{ended:?}");
    }
    assert!(tallow.run("bench --mode peak --turns").stderr.contains("--turns: expected --mode train or infer"));
}

#[test]
fn bench_measures_the_peak_without_a_model_and_anything_else_with_one() {
    let tallow = Sandbox::new();
    let peak = tallow.json("bench --mode peak --threads 2");
    assert_eq!((&peak["mode"], &peak["threads"]), (&"peak".into(), &2.into()));
    for row in peak["instructions"].as_array().unwrap() {
        for key in ["gflops_one_thread", "gflops_all_threads", "nanoseconds"] {
            assert!(row[key].as_f64().is_some_and(|value| value > 0. && value.is_finite()), "{key}: {row}");
        }
    }
    let ended = tallow.run("bench --mode infer");
    assert!(ended.code == Some(2) && ended.stderr.contains("expected a MODEL"), "{ended:?}");
}

#[test]
fn bench_loads_images_over_and_over_and_asks_for_data() {
    let tallow = Sandbox::new();
    for digit in 0..4 {
        tallow.digit(digit, &format!("photos/{}/{digit}.png", digit % 2));
    }
    let measured = tallow.json("bench vit_mnist --mode load --data folder:photos --batch-size 3 --steps 5 --threads 2");
    assert_eq!((&measured["mode"], &measured["batch_size"]), (&"load".into(), &3.into()));
    assert!(measured["images_per_second"].as_f64().unwrap() > 0.);
    assert!(tallow.run("bench vit_mnist --mode load").stderr.contains("--data"));
}

#[test]
fn doctor_tells_what_is_used_and_why() {
    let tallow = Sandbox::new();
    let found = tallow.json("doctor --threads 3");
    assert_eq!((&found["threads"], &found["threads_from"]), (&3.into(), &"--threads".into()));
    assert!(found["device"].is_string() && found["device_reason"].is_string());
    assert!(found["vit_blocks"].as_str().is_some_and(|blocks| blocks.contains("one operation for attention")));
    assert_eq!(found["kernels"]["from"], "forced");
    let found = tallow.json("doctor --kernels gemm");
    assert_eq!((&found["kernels"]["large"], &found["kernels"]["small"]), (&"gemm".into(), &"gemm".into()));
    assert_eq!((&found["kernels"]["bf16"], &found["kernels"]["from"]), (&Value::Null, &"forced".into()));
    let token = tallow.command("doctor").env("HF_TOKEN", "hf_secret").output().unwrap();
    assert!(!String::from_utf8_lossy(&token.stdout).contains("hf_secret"));
}

#[test]
fn a_run_records_the_kernels_that_it_computes_with_and_goes_on_with_them() {
    let tallow = Sandbox::new();
    let train = "mlp_mnist --data mnist --limit 64 --test-limit 16 --out r";
    tallow.ok(&format!("train {train} --epochs 1 --kernels gemm"));
    let config = || std::fs::read_to_string(tallow.path("r/config.toml")).unwrap();
    assert!(config().contains("kernels = \"gemm\""), "{}", config());
    // Nobody forces others now.
    let mut resume = tallow.command("train --out r --resume --epochs 2");
    let resumed = resume.env_remove("TALLOW_KERNELS").env("XDG_CACHE_HOME", tallow.path("caches")).output().unwrap();
    assert!(resumed.status.success(), "{resumed:?}");
    assert!(config().contains("kernels = \"gemm\""), "{}", config());
}

/// Where Linux tells the processor, of which there may be several kinds in one home.
#[test]
fn kernels_are_measured_once_for_a_long_command_and_kept() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !["cpu family", "stepping", "microcode", "model name"].iter().all(|field| cpu.contains(field)) {
        eprintln!("skipped: nothing tells the processor");
        return;
    }
    let tallow = Sandbox::new();
    let run = |line: &str| {
        let mut command = tallow.command(line);
        let output =
            command.env_remove("TALLOW_KERNELS").env("XDG_CACHE_HOME", tallow.path("caches")).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let doctor = || serde_json::from_str::<Value>(&run("doctor --json")).unwrap()["kernels"].clone();
    assert_eq!(doctor()["from"], "default");
    let kept = tallow.path("caches/tallow/kernels.json");
    assert!(!kept.exists(), "a short command measures nothing");
    run("train mlp_mnist --data mnist --limit 64 --test-limit 16 --epochs 1 --out r");
    let text = std::fs::read_to_string(&kept).unwrap();
    assert_eq!(doctor()["from"], "kept");
    run("eval r");
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), text);
    // What is no list of kernels is measured anew.
    std::fs::write(&kept, "{").unwrap();
    assert_eq!(doctor()["from"], "default");
}

#[test]
fn fetch_says_what_there_is_already() {
    let tallow = Sandbox::new();
    let fetched = tallow.json("fetch vit_small_patch14_dinov2.saliency mnist");
    assert_eq!(fetched["fetched"].as_array().map(Vec::len), Some(2));
}

#[test]
fn completions_come_for_every_shell() {
    let tallow = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(tallow.ok(&format!("completions {shell}")).stdout.contains("finetune"), "{shell}");
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let tallow = Sandbox::new();
    for line in ["list", "list --json", "completions bash", "--help"] {
        let mut child = tallow.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    }
}

#[test]
fn data_tells_what_a_data_set_holds_and_draws_it() {
    let tallow = Sandbox::new();
    let facts = tallow.json("data mnist --limit 300 --augment crop,erase --count 12 --sheet sheet.png");
    assert_eq!([&facts["train"], &facts["test"]], [300, 10_000]);
    let classes = facts["classes"].as_array().unwrap();
    // of the 10,000 labels of t10k-labels-idx1-ubyte.gz
    let test: Vec<_> = classes.iter().map(|class| class["test"].as_u64().unwrap()).collect();
    assert_eq!(test, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    assert_eq!(classes.iter().map(|class| class["train"].as_u64().unwrap()).sum::<u64>(), 300);
    assert_eq!(facts["images"]["width"], serde_json::json!([28, 28]));
    let sheet = image::load_from_memory(&tallow.read("sheet.png")).unwrap();
    // a label of one character, eight images of 3 * 28 pixels and what is between them; 12 rows under their titles
    assert_eq!((sheet.width(), sheet.height()), (6 + 16 + 6 + 8 * 90, 6 + 16 + 6 + 12 * 90));

    let points = tallow.run("data circles --sheet points.png");
    assert_eq!(points.code, Some(2));
    assert!(points.stderr.contains("expected a data set of images, got circles"), "{}", points.stderr);
    assert_eq!(tallow.json("data circles")["images"], serde_json::Value::Null);
}
