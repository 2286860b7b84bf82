//! The examples do what they say.

use std::path::Path;
use std::process::Command;

/// Runs a built example with arguments split at spaces, and gives what it prints.
fn example(name: &str, arguments: &str) -> String {
    // Cargo builds the examples before it runs tests, and puts them beside the folder of those.
    let tests = std::env::current_exe().expect("a path");
    let folder = tests.parent().and_then(Path::parent).expect("a folder").join("examples");
    let output = Command::new(folder.join(name)).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|e| panic!("example {name}: {e}; cargo build --release --examples makes it"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn embed_prints_features_of_an_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image.png");
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([4 * x as u8, 5 * y as u8, 0])).save(&path).expect("an image");
    let printed = example("embed", &path.display().to_string());
    assert!(printed.contains("384 features"), "{printed}");
}

#[test]
fn finetune_trains_and_leaves_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let printed = example("finetune", &format!("{} 40", out.display()));
    assert!(printed.starts_with("epoch 1: "), "{printed}");
    assert!(out.join("checkpoints/best/model.safetensors").is_file());
}
