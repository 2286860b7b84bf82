//! The data is part of a run's identity: what was tested on stays what is measured, and a resume goes on with the same data.

use std::fs;

use serde_json::Value;

use crate::sandbox::Sandbox;

const MODEL: &str = "mlp_mnist --set in_chans=3 --set img_size=16 --batch-size 8";

/// Images of noise, each another one: `count` in `DIR/CLASS` for every folder named.
pub fn noise(tallow: &Sandbox, folders: &[&str], count: usize) {
    for folder in folders {
        let path = tallow.path(folder);
        fs::create_dir_all(&path).expect("a folder");
        let mut state = folder.bytes().fold(1_u64, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
        for number in 0..count {
            let pixels: Vec<u8> = (0..16 * 16 * 3)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                })
                .collect();
            let file = path.join(format!("{number:03}.png"));
            image::save_buffer(file, &pixels, 16, 16, image::ColorType::Rgb8).expect("a file");
        }
    }
}

/// Two classes of 20 without parts, and a run on them.
fn flat(more: &str) -> Sandbox {
    let tallow = Sandbox::new();
    noise(&tallow, &["photos/a", "photos/b"], 20);
    tallow.ok(&format!("train {MODEL} --data folder:photos --epochs 3 --out run {more}"));
    tallow
}

/// Two classes in a training and a test part, and a run on them.
fn parted() -> Sandbox {
    let tallow = Sandbox::new();
    noise(&tallow, &["photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b"], 6);
    tallow.ok(&format!("train {MODEL} --data folder:photos --epochs 2 --out run"));
    tallow
}

fn record(tallow: &Sandbox, run: &str) -> Value {
    serde_json::from_slice(&tallow.read(&format!("{run}/data.json"))).expect("JSON")
}

/// The names of a part in `data.json`.
fn names(record: &Value, part: &str) -> Vec<String> {
    let list = record[part].as_array().expect("a list");
    list.iter().map(|sample| sample["name"].as_str().expect("a name").to_string()).collect()
}

fn copy(tallow: &Sandbox, from: &str, to: &str) {
    fs::copy(tallow.path(from), tallow.path(to)).expect("a copy");
}

fn rename(tallow: &Sandbox, from: &str, to: &str) {
    fs::rename(tallow.path(from), tallow.path(to)).expect("a new name");
}

fn remove(tallow: &Sandbox, name: &str) {
    fs::remove_file(tallow.path(name)).expect("a file less");
}

/// Accuracy and loss to the last digit.
fn result(measured: &Value) -> (Value, Value) {
    (measured["accuracy"].clone(), measured["loss"].clone())
}

/// A command that has to be refused with one line that holds all of these words.
fn refused(tallow: &Sandbox, line: &str, words: &[&str]) {
    let ended = tallow.run(line);
    assert_eq!(ended.code, Some(1), "tallow {line}: {ended:?}");
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && words.iter().all(|word| errors[0].contains(word)), "tallow {line}: {}", ended.stderr);
}

#[test]
fn a_run_keeps_the_names_hashes_and_labels_of_its_samples_and_the_classes_in_order() {
    let tallow = flat("--val-fraction 0.3");
    let record = record(&tallow, "run");
    assert_eq!(record["classes"], serde_json::json!(["a", "b"]));
    let mut all: Vec<String> = ["train", "val", "test"].iter().flat_map(|part| names(&record, part)).collect();
    all.sort();
    let mut expected: Vec<String> =
        ["a", "b"].iter().flat_map(|class| (0..20).map(move |n| format!("{class}/{n:03}.png"))).collect();
    expected.sort();
    assert_eq!(all, expected, "every image is in one part");
    for part in ["train", "val", "test"] {
        let samples = record[part].as_array().expect("a list");
        assert!(!samples.is_empty(), "{part}");
        for sample in samples {
            let (name, hash) = (sample["name"].as_str().expect("a name"), sample["hash"].as_str().expect("a hash"));
            let contents = tallow.read(&format!("photos/{name}"));
            assert_eq!(hash, tallow::data::Digest::of(&contents).to_string(), "{name}");
            assert_eq!(sample["label"], u64::from(name.starts_with('b')));
        }
    }
    let text = String::from_utf8(tallow.read("run/data.json")).expect("UTF-8");
    assert_eq!(text.lines().filter(|line| line.starts_with("{\"name\":")).count(), 40, "a sample a line");
}

#[test]
fn the_record_of_all_of_mnist_takes_a_few_megabytes() {
    let tallow = Sandbox::new();
    tallow.ok("train mlp_mnist --data mnist --epochs 1 --batch-size 1000 --out run");
    let bytes = tallow.read("run/data.json").len();
    assert!((2_000_000..6_000_000).contains(&bytes), "{bytes}");
    assert_eq!(names(&record(&tallow, "run"), "train").len(), 60_000);
}

#[test]
fn what_is_measured_again_is_what_was_tested_whatever_is_added_or_renamed() {
    for more in ["", "--val-fraction 0.3"] {
        let tallow = flat(more);
        let before = result(&tallow.json("eval run"));
        let record = record(&tallow, "run");
        let (trained, tested) = (&names(&record, "train")[0], &names(&record, "test")[0]);
        copy(&tallow, &format!("photos/{trained}"), "photos/a/copy.png");
        noise(&tallow, &["photos/other"], 9);
        for number in 0..9 {
            rename(&tallow, &format!("photos/other/{number:03}.png"), &format!("photos/b/0000{number}.png"));
        }
        fs::remove_dir(tallow.path("photos/other")).expect("no folder any more");
        rename(&tallow, &format!("photos/{tested}"), "photos/a/renamed.png");
        rename(&tallow, &format!("photos/{}", names(&record, "train")[1]), "photos/a/0.png");
        let measured = tallow.json("eval run");
        assert_eq!(result(&measured), before, "{more}: to the last digit");
        let counts =
            ["recorded", "missing", "changed", "new", "renamed", "relabelled"].map(|key| measured[key].as_u64());
        let tests = Some(names(&record, "test").len() as u64);
        assert_eq!(counts, [tests, Some(0), Some(0), Some(10), Some(1), Some(0)], "{more}");
        let told = tallow.ok("eval run");
        assert!(told.stdout.contains("recorded test samples; 10 new, 1 renamed"), "{}", told.stdout);
        assert!(told.stderr.contains(&format!("({tested} is a/renamed.png)")), "{}", told.stderr);
        assert!(told.stderr.contains("and 7 more)"), "{}", told.stderr);
    }
}

#[test]
fn test_samples_that_are_gone_or_changed_are_left_out_and_told() {
    let tallow = flat("");
    let record = record(&tallow, "run");
    let tested = names(&record, "test");
    remove(&tallow, &format!("photos/{}", tested[0]));
    noise(&tallow, &["more"], 1);
    copy(&tallow, "more/000.png", &format!("photos/{}", tested[1]));
    remove(&tallow, &format!("photos/{}", names(&record, "train")[0]));
    let measured = tallow.json("eval run");
    assert_eq!(measured["samples"], tested.len() - 2);
    assert_eq!([&measured["missing"], &measured["changed"], &measured["new"]], [1, 1, 0]);
    let told = tallow.ok("eval run").stderr;
    for name in &tested[..2] {
        assert!(told.contains(&format!("({name})")), "{told}");
    }
    for name in &tested {
        let _ = fs::remove_file(tallow.path("photos").join(name));
    }
    refused(&tallow, "eval run", &["none of them", "--data"]);
}

#[test]
fn a_test_sample_that_was_trained_on_is_an_error_that_names_it() {
    let tallow = parted();
    let before = result(&tallow.json("eval run"));
    rename(&tallow, "photos/train/a/002.png", "photos/test/a/moved.png");
    refused(&tallow, "eval run", &["test/a/moved.png", "train/a/002.png"]);
    rename(&tallow, "photos/test/a/moved.png", "photos/train/a/002.png");
    copy(&tallow, "photos/test/b/001.png", "kept.png");
    copy(&tallow, "photos/train/b/003.png", "photos/test/b/001.png");
    refused(&tallow, "eval run", &["test/b/001.png", "train/b/003.png"]);
    copy(&tallow, "kept.png", "photos/test/b/001.png");
    assert_eq!(result(&tallow.json("eval run")), before);

    // Without a test part of its own, only what took a test image's place can be one.
    let tallow = flat("");
    let record = record(&tallow, "run");
    let (trained, tested) = (&names(&record, "train")[0], &names(&record, "test")[0]);
    copy(&tallow, &format!("photos/{trained}"), &format!("photos/{tested}"));
    refused(&tallow, "eval run", &[tested, trained]);
}

#[test]
fn images_that_are_in_both_parts_from_the_start_are_a_warning_then_and_no_error_later() {
    let tallow = Sandbox::new();
    noise(&tallow, &["photos/train/a", "photos/train/b", "photos/test/a", "photos/test/b"], 4);
    copy(&tallow, "photos/train/a/001.png", "photos/test/a/twin.png");
    let ended = tallow.ok(&format!("train {MODEL} --data folder:photos --epochs 1 --out run"));
    let warning = "1 sample of the test part holds the same as one of the training part (test/a/twin.png)";
    assert_eq!(ended.stderr.matches(warning).count(), 1, "{}", ended.stderr);
    assert_eq!(tallow.json("eval run")["samples"], 9);
}

#[test]
fn a_part_and_a_limit_are_taken_from_the_record() {
    let tallow = flat("");
    let record = record(&tallow, "run");
    let (trained, tested) = (names(&record, "train").len(), names(&record, "test").len());
    copy(&tallow, &format!("photos/{}", names(&record, "train")[0]), "photos/a/copy.png");
    let train = tallow.json("eval run --split train");
    assert_eq!((&train["samples"], &train["recorded"], &train["new"]), (&trained.into(), &trained.into(), &1.into()));
    let few = tallow.json("eval run --limit 4");
    assert_eq!((&few["samples"], &few["recorded"]), (&4.into(), &tested.into()));

    let limited = "--limit 9 --test-limit 3 --out limited --epochs 2";
    tallow.ok(&format!("train {MODEL} --data folder:photos {limited}"));
    let before = result(&tallow.json("eval limited"));
    noise(&tallow, &["photos/aa"], 3);
    for number in 0..3 {
        rename(&tallow, &format!("photos/aa/{number:03}.png"), &format!("photos/a/{number:05}.png"));
    }
    fs::remove_dir(tallow.path("photos/aa")).expect("no folder any more");
    assert_eq!(result(&tallow.json("eval limited")), before);
}

#[test]
fn other_data_with_images_that_the_run_was_trained_on_is_told() {
    let tallow = parted();
    noise(&tallow, &["new/train/a", "new/train/b", "new/test/a", "new/test/b"], 5);
    let measured = tallow.json("eval run --data folder:new");
    assert_eq!(measured["trained_on"], 0);
    copy(&tallow, "photos/train/a/002.png", "new/test/a/seen.png");
    let ended = tallow.run("eval run --data folder:new --json");
    let measured: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(measured["trained_on"], 1);
    assert!(ended.stderr.contains("trained on 1 sample of 11 (test/a/seen.png)"), "{}", ended.stderr);
}

#[test]
fn a_resume_on_other_data_is_refused_and_says_what_differs_also_of_a_run_that_has_ended() {
    type Change = fn(&Sandbox);
    let changes: [(Change, &[&str]); 8] = [
        (|t| copy(t, "photos/train/a/001.png", "photos/train/a/more.png"), &["1 sample new", "train/a/more.png"]),
        (|t| remove(t, "photos/train/b/005.png"), &["1 sample gone from the training part", "train/b/005.png"]),
        (|t| remove(t, "photos/test/b/005.png"), &["1 sample gone from the test part", "test/b/005.png"]),
        (|t| copy(t, "photos/test/a/000.png", "photos/train/b/005.png"), &["other contents", "train/b/005.png"]),
        (
            |t| rename(t, "photos/train/a/001.png", "photos/train/a/9.png"),
            &["renamed", "train/a/001.png is train/a/9.png"],
        ),
        (|t| rename(t, "photos/train/a/001.png", "photos/train/b/9.png"), &["train/a/001.png is train/b/9.png"]),
        (
            |t| {
                rename(t, "photos/train/a", "photos/train/z");
                rename(t, "photos/test/a", "photos/test/z");
            },
            &["class \"a\" is called \"z\""],
        ),
        (|t| noise(t, &["photos/train/aa", "photos/test/aa"], 1), &["class \"aa\" is new"]),
    ];
    for (change, words) in changes {
        let tallow = parted();
        // One that has ended, one that has not.
        copy_folder(&tallow, "run", "begun");
        remove(&tallow, "begun/summary.json");
        change(&tallow);
        for run in ["run", "begun"] {
            let weights = tallow.read(&format!("{run}/checkpoints/last/model.safetensors"));
            refused(&tallow, &format!("train --out {run} --resume"), words);
            assert_eq!(weights, tallow.read(&format!("{run}/checkpoints/last/model.safetensors")));
        }
    }
}

#[test]
fn a_run_goes_on_with_the_same_data_at_another_place_and_with_no_other() {
    let tallow = flat("");
    rename(&tallow, "photos", "moved");
    let ended = tallow.ok(&format!("train {MODEL} --data folder:moved --epochs 4 --out run --resume"));
    assert!(ended.stderr.contains("nothing is at") && ended.stderr.contains("moved"), "{}", ended.stderr);
    copy(&tallow, "moved/a/000.png", "moved/a/more.png");
    refused(&tallow, &format!("train {MODEL} --data folder:moved --epochs 5 --out run --resume"), &["1 sample new"]);
    // Where the old place is still there, another one is another data set.
    let tallow = flat("");
    copy_folder(&tallow, "photos", "copied");
    refused(&tallow, &format!("train {MODEL} --data folder:copied --out run --resume"), &["other settings", "copied"]);
}

#[test]
fn what_a_limit_left_out_is_not_told_as_new() {
    for limit in ["--limit 8", "--test-limit 2", "--limit 8 --val-fraction 0.5"] {
        let tallow = flat(limit);
        let measured = tallow.run("eval run --json");
        assert!(
            measured.stdout.contains("\"new\":0") && !measured.stderr.contains("not know"),
            "{limit}: {measured:?}"
        );
    }
}

#[test]
fn the_own_data_by_name_is_measured_as_without_its_name() {
    let tallow = flat("");
    copy(&tallow, "photos/a/000.png", "photos/b/more.png");
    let plain = tallow.json("eval run");
    for data in ["folder:photos", "folder:./photos/"] {
        let named = tallow.json(&format!("eval run --data {data}"));
        assert_eq!(result(&named), result(&plain));
        assert_eq!((&named["recorded"], &named["new"]), (&plain["recorded"], &plain["new"]), "{data}");
    }
}

/// Copies a folder with all that is in it.
fn copy_folder(tallow: &Sandbox, from: &str, to: &str) {
    fs::create_dir_all(tallow.path(to)).expect("a folder");
    for entry in fs::read_dir(tallow.path(from)).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        let (from, to) = (format!("{from}/{name}"), format!("{to}/{name}"));
        if entry.path().is_dir() { copy_folder(tallow, &from, &to) } else { copy(tallow, &from, &to) }
    }
}

/// `tallow LINE --json` in the folder `from` of the sandbox.
fn json_in(tallow: &Sandbox, from: &str, line: &str) -> (Value, String) {
    let folder = tallow.path(from);
    fs::create_dir_all(&folder).expect("a folder");
    let output = tallow.command(&format!("{line} --json")).current_dir(folder).output().expect("tallow starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "tallow {line}: {stderr}");
    (serde_json::from_slice(&output.stdout).expect("JSON"), stderr)
}

#[test]
fn a_run_is_measured_and_resumed_from_any_working_directory_and_after_a_move() {
    let tallow = flat("");
    tallow.ok(&format!("train --weights run {MODEL} --data folder:photos --epochs 2 --out tuned"));
    tallow.ok("train svm --data folder:photos --set img_size=8 --out svm");
    let words = "--batch-size 8 --set in_chans=3 --set img_size=16 --epochs 2";
    for run in ["run", "tuned", "svm"] {
        let before = tallow.json(&format!("eval {run}"));
        let (elsewhere, _) = json_in(&tallow, "some/where", &format!("eval ../../{run}"));
        assert_eq!(result(&elsewhere), result(&before), "{run}");
        assert_eq!(elsewhere["data"], "folder:photos", "the user's own spelling");
        let (resumed, _) = json_in(&tallow, "some/where", &format!("train --out ../../{run} --resume"));
        assert_eq!(
            (&resumed["test_accuracy"], &resumed["data"]),
            (&before["accuracy"], &"folder:photos".into()),
            "{run}"
        );
    }
    // The same folder in other words is no other setting.
    let line =
        format!("train mlp_mnist --weights ../../run --data folder:../../photos {words} --out ../../tuned --resume");
    json_in(&tallow, "some/where", &line);
    let config = String::from_utf8(tallow.read("run/config.toml")).expect("UTF-8");
    let absolute = format!("folder:{}", tallow.path("photos").display());
    assert!(
        config.contains("data = \"folder:photos\"") && config.contains(&format!("data = {absolute:?}")),
        "{config}"
    );

    let before = result(&tallow.json("eval tuned"));
    fs::create_dir(tallow.path("project")).expect("a folder");
    for name in ["photos", "run", "tuned"] {
        rename(&tallow, name, &format!("project/{name}"));
    }
    for (from, run) in [("project", "tuned"), ("some/where", "../../project/tuned")] {
        let (moved, said) = json_in(&tallow, from, &format!("eval {run}"));
        assert_eq!(result(&moved), before, "from {from}");
        assert!(said.contains(&format!("nothing is at {absolute} any more; using folder:")), "{said}");
    }
    json_in(&tallow, "project", "train --out tuned --resume");
}

#[test]
fn a_run_without_a_record_opens_with_a_note() {
    for make in [flat as fn(&str) -> Sandbox, |_| parted()] {
        let tallow = make("");
        let before = result(&tallow.json("eval run"));
        remove(&tallow, "run/data.json");
        let ended = tallow.ok("eval run");
        assert!(ended.stderr.contains("data.json") && ended.stderr.contains("cannot be checked"), "{}", ended.stderr);
        let measured = tallow.json("eval run");
        assert_eq!(result(&measured), before);
        assert_eq!(measured["missing"], Value::Null);
        let ended = tallow.ok("train --out run --resume");
        assert!(ended.stderr.contains("cannot be checked"), "{}", ended.stderr);
        assert!(!tallow.path("run/data.json").exists(), "what was not checked is not written down as if it had been");
    }
    // What it was tested on is known by names and labels all the same.
    let tallow = flat("");
    let tested = names(&record(&tallow, "run"), "test");
    remove(&tallow, "run/data.json");
    remove(&tallow, &format!("photos/{}", tested[0]));
    let ended = tallow.ok("eval run");
    assert!(
        ended.stderr.contains("warning: ") && ended.stderr.contains("not those that the run was tested on"),
        "{}",
        ended.stderr
    );
}

/// Writes idx files of noise in two classes, in turn, without those at `left_out`; `added` come first.
fn write_idx(tallow: &Sandbox, left_out: &[usize], added: usize) {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let mut state = 1_u64;
    let mut image = |number: usize, pixels: &mut Vec<u8>, labels: &mut Vec<u8>| {
        let start = pixels.len();
        for _ in 0..64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            pixels.push((state >> 56) as u8);
        }
        if left_out.contains(&number) { pixels.truncate(start) } else { labels.push((number % 2) as u8) }
    };
    let (mut first_pixels, mut first_labels) = (Vec::new(), Vec::new());
    (0..60).for_each(|number| image(number, &mut pixels, &mut labels));
    (60..60 + added).for_each(|number| image(number, &mut first_pixels, &mut first_labels));
    let (pixels, labels) = ([first_pixels, pixels].concat(), [first_labels, labels].concat());
    let header = |kind: u8, sizes: &[u32]| {
        let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
        [&[0, 0, 8, kind], &sizes[..]].concat()
    };
    let count = labels.len() as u32;
    tallow.write("digits/train-images-idx3-ubyte", [header(3, &[count, 8, 8]), pixels].concat());
    tallow.write("digits/train-labels-idx1-ubyte", [header(1, &[count]), labels].concat());
}

#[test]
fn where_images_have_no_files_they_are_known_by_their_contents_wherever_they_stand_in_the_list() {
    let tallow = Sandbox::new();
    write_idx(&tallow, &[], 0);
    let line = "train mlp_mnist --data idx:digits --set img_size=8 --epochs 2 --batch-size 8 --out run";
    tallow.ok(line);
    let before = result(&tallow.json("eval run"));
    let tested = names(&record(&tallow, "run"), "test");
    let places: Vec<usize> = tested.iter().map(|name| name["train/".len()..].parse().expect("a place")).collect();
    let trained = (0..60).find(|place| !places.contains(place)).expect("some are trained on");

    write_idx(&tallow, &[], 1);
    let measured = tallow.json("eval run");
    assert_eq!(result(&measured), before, "one more, before all others");
    assert_eq!([&measured["new"], &measured["missing"], &measured["changed"]], [1, 0, 0]);
    refused(&tallow, "train --out run --resume", &["1 sample new"]);

    write_idx(&tallow, &[trained], 0);
    let measured = tallow.json("eval run");
    assert_eq!(result(&measured), before, "one less that was trained on");
    refused(&tallow, "train --out run --resume", &["begun with: 1 sample gone from the training part"]);

    write_idx(&tallow, &[places[1]], 0);
    let measured = tallow.json("eval run");
    assert_eq!([&measured["samples"], &measured["missing"]], [tested.len() as u64 - 1, 1].map(Value::from).each_ref());
    refused(&tallow, "train --out run --resume", &["begun with: 1 sample gone from the test part"]);
}
