//! `tallow run`.

use crate::sandbox::Sandbox;

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

#[test]
fn the_recipes_of_the_project_can_be_read() {
    let tallow = Sandbox::new();
    let recipes = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    for entry in std::fs::read_dir(recipes).expect("recipes") {
        let path = entry.expect("a recipe").path();
        let text = std::fs::read_to_string(&path).expect("text");
        let own = format!("cargo run --release -- run recipes/{}", path.file_name().unwrap().to_string_lossy());
        assert!(text.starts_with('#') && text.contains(&own), "{}: opens with its command", path.display());
        tallow.json(&format!("run {} --dry-run", path.display()));
    }
}
