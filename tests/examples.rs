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

/// A picture of stripes: as many as asked for, in a colour.
fn stripes(folder: &Path, name: &str, count: u32, colour: [u8; 3]) -> String {
    let path = folder.join(name);
    let pixel = |x: u32, _| image::Rgb(if (x * count / 96).is_multiple_of(2) { colour } else { [255; 3] });
    image::RgbImage::from_fn(96, 96, pixel).save(&path).expect("an image");
    path.display().to_string()
}

#[test]
fn classify_names_the_class_of_every_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two] = [3, 9].map(|count| stripes(folder.path(), &format!("{count}.png"), count, [200, 30, 30]));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tests/references/timm");
    let printed = example("classify", &format!("{} {one} {two}", model.display()));
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 2, "{printed}");
    assert!(lines[0].starts_with(&format!("{one}: ")) && lines[1].ends_with(" %)"), "{printed}");
}

#[test]
fn similar_finds_the_picture_of_the_same_kind() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = stripes(folder.path(), "first.png", 12, [200, 30, 30]);
    let near = stripes(folder.path(), "near.png", 13, [200, 30, 30]);
    let path = folder.path().join("far.png");
    image::RgbImage::from_fn(96, 96, |x, y| image::Rgb([0, x as u8, (2 * y) as u8])).save(&path).expect("an image");
    let printed = example("similar", &format!("{first} {} {near}", path.display()));
    assert!(printed.ends_with(&format!("most like {first}: {near}\n")), "{printed}");
}

#[test]
fn own_loop_learns_more_than_the_half() {
    let printed = example("own_loop", "");
    assert!(printed.contains("174 of 174 parameters"), "{printed}");
    let losses: Vec<f32> = printed.lines().filter_map(|line| line.split_once("loss ")?.1.parse().ok()).collect();
    assert!(losses.len() == 10 && losses[9] < 0.5 * losses[0], "{printed}");
    let last = printed.lines().last().expect("a line");
    let right: f32 = last.split(' ').next().and_then(|share| share.parse().ok()).expect("a share");
    assert!(right > 60., "{printed}");
}

#[test]
fn finetune_trains_and_leaves_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let printed = example("finetune", &format!("{} 40", out.display()));
    assert!(printed.starts_with("epoch 1: "), "{printed}");
    assert!(out.join("checkpoints/best/model.safetensors").is_file());
}
