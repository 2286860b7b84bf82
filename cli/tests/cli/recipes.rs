//! `tallow run`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{Sandbox, lines};

const RECIPE: &str = r#"
out = "out"
[shared]
data = "mnist"
limit = 60
test_limit = 20
epochs = 1
batch_size = 20
[[run]]
name = "one"
command = "train"
model = "mlp_mnist"
[[run]]
name = "a fast one"
command = "train"
model = "mlp_mnist"
lr = 0.2
"#;

#[test]
fn a_recipe_runs_once_and_is_compared() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", RECIPE);
    let compared = tallow.json("run r.toml");
    assert_eq!(compared["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!(compared["runs"][1]["name"], "a fast one");
    assert!(tallow.path("out/report.html").is_file());
    let before = tallow.read("out/one/metrics.jsonl");

    let again = tallow.ok("run r.toml");
    assert!(again.stderr.contains("one: has ended already"), "{}", again.stderr);
    assert_eq!(before, tallow.read("out/one/metrics.jsonl"));
}

#[test]
fn a_recipe_does_not_compare_runs_that_had_other_data() {
    let tallow = Sandbox::new();
    crate::identity::noise(&tallow, &["photos/a", "photos/b"], 12);
    let recipe = RECIPE.replace("\"mnist\"", "\"folder:photos\"").replace("limit = 60\ntest_limit = 20\n", "");
    tallow.write("r.toml", &recipe);
    tallow.ok("run r.toml");
    std::fs::copy(tallow.path("photos/a/000.png"), tallow.path("photos/a/more.png")).expect("a copy");
    for again in ["out", "out/a-fast-one"] {
        let ended = tallow.run("run r.toml");
        assert!(
            ended.code != Some(0) && ended.stderr.contains("1 sample new") && ended.stderr.contains("a/more.png"),
            "{}",
            ended.stderr
        );
        // Also where one of them is to be run anew, and would have the new file.
        if again == "out" {
            let names = std::fs::read_dir(tallow.path("out")).expect("a folder").flatten();
            let second = names
                .map(|entry| entry.path())
                .find(|path| path.is_dir() && path.file_name().is_some_and(|n| n != "one"));
            std::fs::remove_dir_all(second.expect("the second run")).expect("a folder less");
        }
    }
    std::fs::remove_file(tallow.path("photos/a/more.png")).expect("a file less");
    tallow.ok("run r.toml");
}

#[test]
fn a_dry_run_prints_commands_that_do_the_same_and_runs_none() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", RECIPE);
    let plan = tallow.json("run r.toml --dry-run");
    assert!(!tallow.path("out").exists());
    let command = plan["runs"][0]["command"].as_str().expect("a command");
    tallow.ok(command.strip_prefix("tallow ").expect("a command of tallow"));
    // The recipe takes the run that the command did for its own.
    assert_eq!(tallow.json("run r.toml --dry-run")["runs"][0]["state"], "ended");
}

#[test]
fn a_command_of_a_dry_run_leaves_out_shared_settings_that_mean_nothing_to_it() {
    let tallow = Sandbox::new();
    let recipe = RECIPE.replacen("lr = 0.2", "", 1).replacen("\"train\"", "\"knn\"\nk = 3\neval_batch_size = 16", 1);
    tallow.write("r.toml", recipe);
    let plan = tallow.json("run r.toml --dry-run");
    let command = |run: usize| plan["runs"][run]["command"].as_str().expect("a command").to_string();
    assert!(!command(0).contains("--epochs") && command(1).contains("--epochs"), "{plan}");
    assert!(command(0).contains("--batch-size 16") && command(0).contains("--k 3"), "{plan}");
    tallow.ok(command(0).strip_prefix("tallow ").expect("a command of tallow"));
    assert_eq!(tallow.json("run r.toml --dry-run")["runs"][0]["state"], "ended");
}

#[test]
fn a_batch_size_that_was_found_is_no_other_setting_than_auto() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", RECIPE.replace("batch_size = 20", "batch_size = \"auto\""));
    let plan = tallow.json("run r.toml --dry-run");
    let command = plan["runs"][0]["command"].as_str().expect("a command");
    assert!(command.contains("--batch-size auto"), "{command}");
    tallow.ok("run r.toml");
    let settled = tallow.read("out/one/config.toml");
    assert!(String::from_utf8_lossy(&settled).contains("\nbatch_size = 60\n"), "all of 60 samples");
    assert!(tallow.ok("run r.toml").stderr.contains("one: has ended already"));
}

#[test]
fn a_run_that_fails_does_not_end_the_others() {
    let tallow = Sandbox::new();
    tallow.write(
        "r.toml",
        RECIPE.replacen("model = \"mlp_mnist\"", "model = \"mlp_mnist\"\ndata = \"folder:nowhere\"", 1),
    );
    let ended = tallow.run("run r.toml");
    assert_eq!(ended.code, Some(1));
    assert!(tallow.path("out/a-fast-one/summary.json").is_file());
    assert!(ended.stderr.contains("error: r.toml: 1 of 2 runs failed: one: "), "{}", ended.stderr);
}

#[test]
fn an_ended_run_with_other_settings_is_not_taken_for_this_one() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", RECIPE);
    tallow.ok("run r.toml");
    tallow.write("r.toml", RECIPE.replace("lr = 0.2", "lr = 0.3"));
    let ended = tallow.run("run r.toml");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("was run with other settings: lr (0.3 against 0.2)"), "{}", ended.stderr);
}

#[test]
fn all_runs_are_checked_before_the_first_starts() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", RECIPE.replace("lr = 0.2", "lr = -0.2"));
    let ended = tallow.run("run r.toml");
    assert_ne!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("r.toml: run \"a fast one\": lr: expected a number above 0, got -0.2"),
        "{}",
        ended.stderr
    );
    assert!(!tallow.path("out").exists());
}

/// Four runs: two widths with two seeds each.
const SWEEP: &str = r#"
out = "out"
[shared]
command = "train"
model = "vit_mnist"
data = "mnist"
limit = 64
test_limit = 40
epochs = 1
batch_size = 16
set.depth = 1
set.num_heads = 2
seeds = [0, 1]
[[run]]
grid = { embed_dim = [16, 32] }
"#;

#[test]
fn a_grid_with_seeds_is_run_and_compared_in_groups() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", SWEEP);
    let ended = tallow.ok("run r.toml --json");
    assert!(ended.stderr.contains("run 3 of 4: embed_dim=32 seed 0, about "), "{}", ended.stderr);
    let compared: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let names: Vec<&str> =
        compared["runs"].as_array().expect("runs").iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(names, ["embed_dim=16 seed 0", "embed_dim=16 seed 1", "embed_dim=32 seed 0", "embed_dim=32 seed 1"]);
    let config = |folder: &str| {
        let text = String::from_utf8(tallow.read(&format!("out/{folder}/config.toml"))).expect("text");
        let config: toml::Table = text.parse().expect("TOML");
        (config["seed"].as_integer(), config["set"]["embed_dim"].as_str().map(str::to_string))
    };
    assert_eq!(config("embed_dim-32-seed-1"), (Some(1), Some("32".into())));
    assert_eq!(config("embed_dim-16-seed-0"), (Some(0), Some("16".into())));
    assert_ne!(
        tallow.read("out/embed_dim-16-seed-0/predictions.json"),
        tallow.read("out/embed_dim-16-seed-1/predictions.json"),
        "another seed is another run"
    );
    // The run of a grid is the run of the command that it stands for.
    let command =
        tallow.json("run r.toml --dry-run --out other")["runs"][3]["command"].as_str().expect("text").to_string();
    tallow.ok(&command.replacen("tallow ", "", 1).replace("'embed_dim=32 seed 1'", "again"));
    let weights = |out: &str| tallow.read(&format!("{out}/embed_dim-32-seed-1/checkpoints/last/model.safetensors"));
    assert!(weights("out") == weights("other"), "other weights");
}

#[test]
fn a_point_of_a_grid_that_no_model_can_have_is_refused_before_the_first_run() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", SWEEP.replace("[16, 32]", "[16, 17]"));
    let ended = tallow.run("run r.toml");
    assert_ne!(ended.code, Some(0));
    let message = "r.toml: run \"embed_dim=17 seed 0\": num_heads: expected a divisor of embed_dim 17, got 2";
    assert!(ended.stderr.contains(message), "{}", ended.stderr);
    assert!(!tallow.path("out").exists());
}

#[test]
fn a_grid_that_is_killed_goes_on_where_it_was() {
    let tallow = Sandbox::new();
    let recipe = SWEEP.replace("epochs = 1", "epochs = 3\ncheckpoint_every = 2");
    tallow.write("r.toml", &recipe);
    tallow.ok("run r.toml --out whole");
    let mut command = tallow.command("run r.toml");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tallow starts");
    let since = Instant::now();
    while lines(&tallow.path("out/embed_dim-16-seed-1/metrics.jsonl")) < 6 {
        assert!(since.elapsed() < Duration::from_secs(60), "no step after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("a child");
    let states = |plan: &serde_json::Value| -> Vec<String> {
        plan["runs"].as_array().expect("runs").iter().map(|run| run["state"].as_str().expect("text").into()).collect()
    };
    let plan = tallow.json("run r.toml --dry-run");
    assert_eq!(states(&plan), ["ended", "interrupted", "new", "new"]);
    let before = tallow.read("out/embed_dim-16-seed-0/summary.json");
    let again = tallow.ok("run r.toml");
    assert!(again.stderr.contains("embed_dim=16 seed 0: has ended already"), "{}", again.stderr);
    assert!(again.stderr.contains("run 2 of 4: embed_dim=16 seed 1"), "{}", again.stderr);
    assert_eq!(before, tallow.read("out/embed_dim-16-seed-0/summary.json"));
    for run in ["embed_dim-16-seed-1", "embed_dim-32-seed-1"] {
        let weights = |out: &str| tallow.read(&format!("{out}/{run}/checkpoints/last/model.safetensors"));
        assert!(weights("out") == weights("whole"), "{run}: other weights than without the interruption");
    }
}

#[test]
fn a_point_of_a_grid_that_fails_does_not_end_the_others() {
    let tallow = Sandbox::new();
    let recipe = SWEEP
        .replace("embed_dim = [16, 32]", "lr = [1e-3, 1e30, 1e-2]")
        .replace("seeds = [0, 1]", "clip_grad = 0.0\noptimizer = 'sgd'\nseed = 0");
    tallow.write("r.toml", recipe);
    let ended = tallow.run("run r.toml");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error: r.toml: 1 of 3 runs failed: lr="), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("1 of 3 runs failed") && ended.stderr.contains("run 3 of 3: lr=0.01"),
        "{}",
        ended.stderr
    );
    for run in ["lr-0.001", "lr-0.01"] {
        assert!(tallow.path(&format!("out/{run}/summary.json")).is_file(), "{run}");
    }
    assert!(ended.stdout.contains("lr=0.01") && tallow.path("out/report.html").is_file(), "{}", ended.stdout);
}

#[test]
fn a_dry_run_says_how_many_runs_there_are_and_about_how_long_they_take() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", SWEEP);
    let plan = tallow.json("run r.toml --dry-run");
    let seconds = |plan: &serde_json::Value, run: usize| plan["runs"][run]["seconds"].as_f64().expect("an estimate");
    assert!((0..4).all(|run| seconds(&plan, run) > 0.));
    let total = (0..4).map(|run| seconds(&plan, run)).sum::<f64>();
    assert!((plan["seconds"].as_f64().expect("an estimate") - total).abs() < 1e-9);
    assert!(tallow.ok("run r.toml --dry-run").stdout.contains("# 4 runs, about "));

    tallow.ok("run r.toml");
    assert!(tallow.ok("run r.toml --dry-run").stdout.ends_with("# 4 runs, 4 of them ended\n"));
    // Ten times the epochs of runs that have ended.
    tallow.write("longer.toml", SWEEP.replace("epochs = 1", "epochs = 10").replace("seeds = [0, 1]", "seeds = [2]"));
    let plan = tallow.json("run longer.toml --dry-run");
    for (run, name) in ["embed_dim-16", "embed_dim-32"].iter().enumerate() {
        let took = |seed: usize| {
            let summary = tallow.read(&format!("out/{name}-seed-{seed}/summary.json"));
            serde_json::from_slice::<serde_json::Value>(&summary).expect("JSON")["seconds"].as_f64().expect("seconds")
        };
        let (low, high) = (took(0).min(took(1)), took(0).max(took(1)));
        let estimate = seconds(&plan, run) / 10.;
        assert!(low * 0.99 <= estimate && estimate <= high * 1.01, "{estimate} is not between {low} and {high}");
    }
    // Nobody knows about data that is not here.
    tallow.write(
        "hub.toml",
        SWEEP.replace("data = \"mnist\"", "data = \"hf:nobody/nothing\"").replace("\"out\"", "\"hub\""),
    );
    assert_eq!(tallow.json("run hub.toml --dry-run")["seconds"], serde_json::Value::Null);
}

#[test]
fn with_shortens_a_recipe_into_a_folder_of_its_own() {
    let tallow = Sandbox::new();
    tallow.write("r.toml", SWEEP);
    let short = "run r.toml --with limit=32 --with seeds=5 --with embed_dim=16";
    let ended = tallow.ok(&format!("{short} --out short"));
    assert!(ended.stderr.contains("r.toml: with limit=32, seeds=5, embed_dim=16"), "{}", ended.stderr);
    let config = String::from_utf8(tallow.read("short/embed_dim-16-seed-5/config.toml")).expect("text");
    assert!(config.contains("limit = 32") && config.contains("seed = 5"), "{config}");

    tallow.ok("run r.toml --with seeds=0 --with embed_dim=16");
    let refused = tallow.run("run r.toml --with seeds=0 --with embed_dim=16 --with epochs=2");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("epochs (2 against 1)") && refused.stderr.contains("(--out)"),
        "{}",
        refused.stderr
    );
    let refused = tallow.run("run r.toml --seed 3");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--seed: r.toml names seeds of its own"), "{}", refused.stderr);
    let refused = tallow.run("run r.toml --with epochs=many");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

#[test]
fn the_recipes_of_the_project_can_be_read() {
    let tallow = Sandbox::new();
    let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
    for entry in std::fs::read_dir(recipes).expect("recipes") {
        let path = entry.expect("a recipe").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let own = format!("cargo run --release -- run recipes/{}", path.file_name().unwrap().to_string_lossy());
        assert!(text.starts_with('#') && text.contains(&own), "{}: opens with its command", path.display());
        tallow.json(&format!("run {} --dry-run", path.display()));
    }
}

#[test]
fn probes_of_a_recipe_compute_their_features_once_and_say_what_their_settings_came_to() {
    let tallow = Sandbox::new();
    tallow.ok("train mlp_mnist --data mnist --limit 60 --test-limit 20 --epochs 1 --out base");
    let shared = "command = \"finetune\"\nmodel = \"base\"\ndata = \"mnist\"\nlimit = 60\ntest_limit = 20\n";
    let probes =
        "[[run]]\nname = \"probe\"\nhead = \"new\"\nfreeze = \"backbone\"\ngrid = { lr = [0.1, 0.01, 0.001] }\n";
    tallow.write("r.toml", format!("[shared]\n{shared}{probes}"));
    let ran = tallow.ok("run r.toml --out out");
    let files = std::fs::read_dir(tallow.path("out/features")).expect("features beside the runs").count();
    assert_eq!(files, 2, "of the training part and of the test part");
    assert!(
        ran.stderr.contains("settings: SGD, lr 1e-1, batches of 16, 75 epochs of 4 steps, augment none"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains(" kept features/s"), "{}", ran.stderr);
    let config = String::from_utf8(tallow.read("out/probe-lr-0.1/config.toml")).expect("text");
    for line in ["batch_size = 16", "epochs = 75", "eval_every = 8", "augment = \"none\""] {
        assert!(config.lines().any(|of_file| of_file == line), "{line}: {config}");
    }
    // The settings that were left open are no others when the recipe goes on.
    assert!(tallow.ok("run r.toml --out out").stderr.contains("has ended already"));

    // A run alone leaves nothing beside it.
    tallow.ok("finetune base --data mnist --limit 60 --test-limit 20 --freeze backbone --out alone/run");
    assert!(!tallow.path("alone/features").exists());
}
