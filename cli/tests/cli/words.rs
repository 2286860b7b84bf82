//! Classes, searches and texts in words, with a small CLIP.

use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use crate::sandbox::Sandbox;

/// A sandbox with a small CLIP in open_clip's layout in its folder `clip`.
fn sandbox() -> Sandbox {
    let tallow = Sandbox::new();
    for (name, contents) in clip() {
        tallow.write(&format!("clip/{name}"), contents);
    }
    tallow
}

/// The files of the reference model in open_clip's layout.
pub fn clip() -> Vec<(String, Vec<u8>)> {
    reference("open_clip")
}

/// The files of a reference model with two towers.
pub fn reference(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/references/text").join(name);
    let files = fs::read_dir(folder).expect("a folder").map(|entry| {
        let path = entry.expect("a file").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let bytes = fs::read(&path).expect("a file");
        match name.strip_suffix(".gz").filter(|_| !name.starts_with("bpe")) {
            Some(plain) => {
                let mut contents = Vec::new();
                GzDecoder::new(bytes.as_slice()).read_to_end(&mut contents).expect("contents");
                (plain.to_owned(), contents)
            }
            None => (name, bytes),
        }
    });
    files.collect()
}

#[test]
fn from_words_to_fine_tuned_and_between_the_two() {
    let tallow = sandbox();
    let data = "--data mnist --test-split test --templates simple";
    let zero = tallow.json("zeroshot clip --data mnist --limit 60 --templates simple --out runs/words");
    assert_eq!((&zero["samples"], &zero["sentences"], &zero["templates"]), (&60.into(), &1.into(), &"simple".into()));
    assert_eq!(zero["confusion"].as_array().map(Vec::len), Some(10));
    assert_eq!(tallow.json("eval runs/words")["accuracy"], zero["accuracy"], "it is a run like any other");
    let text = tallow.ok("zeroshot clip --data mnist --limit 60 --templates {} --out runs/alone").stdout;
    assert!(text.starts_with("zero-shot ") && text.contains("10 classes, 1 sentence each ({})"), "{text}");

    let tuned = format!(
        "finetune clip {data} --head zero-shot --limit 160 --test-limit 60 --val-fraction 0.2 --epochs 1 --batch-size 16 --out runs/tuned"
    );
    let tuned = tallow.json(&tuned.replace(" --test-split test", ""));
    let account = String::from_utf8(tallow.read("runs/tuned/load.json")).unwrap();
    assert!(account.contains("the names of 10 classes, 1 sentences each (simple)"), "{account}");
    let compared = tallow.json("compare runs/words runs/tuned --out runs/both");
    assert_eq!(compared["runs"].as_array().map(Vec::len), Some(2), "{compared}");

    let between = tallow.json("interpolate runs/words runs/tuned --alpha 0:1:0.5 --data mnist --out between");
    let points = between["alphas"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["alpha"].as_f64().unwrap()).collect::<Vec<_>>(), [0., 0.5, 1.]);
    assert_eq!(points[0]["test_accuracy"], zero["accuracy"]);
    assert_eq!(points[2]["test_accuracy"], tuned["test_accuracy"]);
    assert_eq!(between["chosen_by"], "val_accuracy");
    assert!(String::from_utf8(tallow.read("between/alpha.svg")).unwrap().contains("validation part"));
    tallow.digit(0, "seven.png");
    assert_eq!(tallow.json("predict between seven.png")["predictions"][0]["top"].as_array().map(Vec::len), Some(5));
    let refused = tallow.run("export runs/tuned --format timm --out timm");
    assert!(refused.code == Some(1) && refused.stderr.contains("(zero-shot) is not supported"), "{refused:?}");
    assert!(tallow.run("interpolate runs/words runs/tuned --alpha 1:0").stderr.contains("FROM:TO:STEP"));
}

#[test]
fn labels_on_the_command_line_and_a_search_by_words_and_by_an_image() {
    let tallow = sandbox();
    (0..6).for_each(|digit| tallow.digit(digit, &format!("digits/{digit}.png")));
    let mut command = tallow.command("predict clip digits/0.png --json --labels");
    let predicted = command.arg("a cat, a dog,a one").output().unwrap();
    let predicted: serde_json::Value = serde_json::from_slice(&predicted.stdout).unwrap();
    let top = predicted["predictions"][0]["top"].as_array().unwrap();
    let labels: Vec<&str> = top.iter().map(|class| class["label"].as_str().unwrap()).collect();
    assert!(labels.len() == 3 && labels.contains(&"a dog"), "{labels:?}");
    let sum: f64 = top.iter().map(|class| class["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.).abs() < 1e-5);

    tallow.ok("embed clip digits --features logits --out digits.safetensors");
    let found = tallow.json("search digits.safetensors digits/3.png --topk 4 --sheet found.png");
    assert_eq!(found["results"][0]["image"], "digits/3.png");
    assert!((found["results"][0]["similarity"].as_f64().unwrap() - 1.).abs() < 1e-5);
    let sheet = image::load_from_memory(&tallow.read("found.png")).unwrap();
    assert!(sheet.width() > 2 * 96 && sheet.height() > 2 * 96, "two rows of two");
    let found = tallow.json("search digits.safetensors --text seven --topk 2");
    assert_eq!((found["results"].as_array().map(Vec::len), &found["text"]), (Some(2), &"seven".into()));

    tallow.ok("embed clip digits --features pooled --out pooled.safetensors");
    let refused = tallow.run("search pooled.safetensors --text seven");
    assert!(refused.code == Some(1) && refused.stderr.contains("--features logits"), "{refused:?}");
    // Samples of a data set are found by their names.
    tallow.ok("embed clip --data mnist --limit 20 --features logits --out mnist.safetensors");
    tallow.ok("search mnist.safetensors --text seven --sheet mnist.png");
}

#[test]
fn texts_are_embedded_and_what_has_no_words_is_refused_before_anything_is_written() {
    let tallow = sandbox();
    let embedded = tallow.json("embed clip --text cat --text dog");
    assert_eq!(embedded["shape"], serde_json::json!([2, 12]));
    assert_eq!(embedded["tokens"][0].as_array().map(Vec::len), Some(32));
    assert_eq!(embedded["features"].as_array().map(Vec::len), Some(2));
    assert_eq!(tallow.json("embed clip --text cat --out cat.safetensors")["features"], serde_json::Value::Null);
    assert!(tallow.path("cat.safetensors").is_file());

    let refused = |line: &str, expected: &str| {
        let ended = tallow.run(line);
        assert!(ended.code != Some(0) && ended.stderr.contains(expected), "{line}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    refused("embed vit_small_patch14_dinov2.saliency --text cat --out x.safetensors", "holds no text tower");
    refused("zeroshot vit_small_patch14_dinov2.saliency --data mnist --out runs/x", "holds no text tower");
    refused("zeroshot clip --data mnist --classes a,b --out runs/x", "classes: expected 10 names");
    refused("zeroshot clip --data mnist --classes a,b,c,d,e,f,g,h,i,A --out runs/x", "names that differ");
    refused("zeroshot clip --data mnist --classes lists/names --out runs/x", "no such file is there");
    tallow.write("x.png", "");
    refused("predict clip x.png --labels names.txt", "labels: expected names separated by commas, or a file");
    refused("zeroshot clip --data mnist --templates openai-8 --out runs/x", "openai-80, openai-7, simple");
    refused("train vit_mnist --data mnist --head zero-shot --out runs/x", "zero-shot");
    fs::remove_file(tallow.path("clip/bpe_simple_vocab_16e6.txt.gz")).unwrap();
    refused("embed clip --text cat --out x.safetensors", "the tokenizer: expected bpe_simple_vocab_16e6.txt.gz");
    assert!(!tallow.path("runs").exists() && !tallow.path("x.safetensors").exists());
}
