//! Photos whose cameras noted how they lie: turned by default, in every command, and as the run has it that is asked.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// `photos/{train,test}/{up,down}`: the same pixels in both classes, of which those of `down` lie upside down as their files say.
fn photos(tallow: &Sandbox) {
    for part in ["train", "test"] {
        for (class, value) in [("up", 1), ("down", 3)] {
            for i in 0..4u8 {
                let pixels: Vec<u8> = (0..64u8).map(|at| if at < 32 { 220 - 5 * i } else { 20 + 5 * i }).collect();
                tallow.write(&format!("photos/{part}/{class}/{i}.jpg"), noted(&pixels, value));
            }
        }
    }
}

/// A JPEG of 8x8 grey pixels with an orientation noted in it.
fn noted(pixels: &[u8], value: u8) -> Vec<u8> {
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95);
    image::ImageEncoder::write_image(encoder, pixels, 8, 8, image::ExtendedColorType::L8).unwrap();
    let exif =
        [b"\xff\xe1\0\x22Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", &[value, 0, 0, 0][..], &[0; 4]];
    [&jpeg[..2], &exif.concat(), &jpeg[2..]].concat()
}

const TRAIN: &str = "train mlp_mnist --data folder:photos --img-size 8 --epochs 10 --batch-size 8 --lr 0.05 --augment none \
                     --device cpu --seed 1";

/// The most probable class of an image, and its probability.
fn answer(tallow: &Sandbox, line: &str) -> (String, f64) {
    let top = &tallow.json(line)["predictions"][0]["top"][0];
    (top["label"].as_str().unwrap().into(), top["probability"].as_f64().unwrap())
}

/// Makes a run one of a version that had no such setting.
fn make_older(tallow: &Sandbox, run: &str) {
    let path = format!("{run}/config.toml");
    let config = String::from_utf8(tallow.read(&path)).unwrap();
    let older: String =
        config.lines().filter(|line| !line.starts_with("exif")).map(|line| format!("{line}\n")).collect();
    assert_ne!(older, config);
    tallow.write(&path, older);
}

fn setting(tallow: &Sandbox, run: &str) -> Option<String> {
    let config = String::from_utf8(tallow.read(&format!("{run}/config.toml"))).unwrap();
    config.lines().find(|line| line.starts_with("exif")).map(String::from)
}

#[test]
fn a_run_turns_what_cameras_noted_by_default_and_remembers_whether_it_did() {
    let tallow = Sandbox::new();
    photos(&tallow);
    assert_eq!(
        tallow.json(&format!("{TRAIN} --out run"))["test_accuracy"],
        1.0,
        "only the orientation tells the classes"
    );
    assert_eq!(tallow.json(&format!("{TRAIN} --out lying --exif ignore"))["test_accuracy"], 0.5, "they are the same");
    assert_eq!(setting(&tallow, "run").as_deref(), Some("exif = \"apply\""));
    assert_eq!(setting(&tallow, "lying").as_deref(), Some("exif = \"ignore\""));
    for (line, accuracy) in [
        ("eval run", 1.0),
        ("eval run --exif apply", 1.0),
        ("eval run --exif ignore", 0.5),
        ("eval lying", 0.5),
        ("eval run --data folder:photos --split train", 1.0),
        ("eval run --data folder:photos --split train --exif ignore", 0.5),
    ] {
        assert_eq!(tallow.json(line)["accuracy"], accuracy, "{line}");
    }
    let image = "photos/test/down/0.jpg";
    assert_eq!(answer(&tallow, &format!("predict ./run {image}")).0, "down");
    assert_eq!(answer(&tallow, &format!("predict ./run {image} --exif ignore")).0, "up");
    let lying = answer(&tallow, &format!("predict ./lying {image}"));
    assert_eq!(lying, answer(&tallow, &format!("predict ./lying {image} --exif ignore")), "as the run has it");
    assert_ne!(lying, answer(&tallow, &format!("predict ./lying {image} --exif apply")));

    let ended = tallow.run("train --out run --resume --epochs 11 --exif ignore");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("exif (\"apply\" against \"ignore\")"), "{}", ended.stderr);
    assert_eq!(tallow.json("train --out lying --resume --epochs 11")["test_accuracy"], 0.5);
}

#[test]
fn a_run_of_a_version_that_turned_nothing_goes_on_so() {
    let tallow = Sandbox::new();
    photos(&tallow);
    tallow.ok(&format!("{TRAIN} --out run"));
    make_older(&tallow, "run");
    assert_eq!(tallow.json("eval run")["accuracy"], 0.5);
    assert_eq!(tallow.json("eval run --data folder:photos")["accuracy"], 0.5);
    assert_eq!(tallow.json("eval run --exif apply")["accuracy"], 1.0);
    let image = "photos/test/down/0.jpg";
    for model in ["./run", "run/checkpoints/best", "run/checkpoints/last", "run/checkpoints/best/model.safetensors"] {
        assert_eq!(answer(&tallow, &format!("predict {model} {image}")).0, "up", "{model}");
        assert_eq!(answer(&tallow, &format!("predict {model} {image} --exif apply")).0, "down", "{model}");
    }
    // Elsewhere nothing tells.
    tallow.ok("export run --format gguf --quantisation f32 --out elsewhere.gguf");
    assert_eq!(answer(&tallow, &format!("predict elsewhere.gguf {image}")).0, "down");

    let features = |line: &str| {
        tallow.ok(&format!("embed {line} --out f.safetensors"));
        let file = tallow.read("f.safetensors");
        let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        file[8 + header..].to_vec()
    };
    for what in [image, "--data folder:photos"] {
        let own = features(&format!("./run {what}"));
        assert_eq!(own, features(&format!("./run {what} --exif ignore")), "{what}");
        assert_ne!(own, features(&format!("./run {what} --exif apply")), "{what}");
    }

    // A report of both tells them apart.
    tallow.ok(&format!("{TRAIN} --out newer"));
    tallow.ok("compare run newer --out both");
    let report = String::from_utf8(tallow.read("both/report.html")).unwrap();
    let row = report.split("<tr").find(|row| row.contains(">exif<")).unwrap_or_else(|| panic!("no row of exif"));
    assert!(row.contains("ignore") && row.contains("apply"), "{row}");

    let ended = tallow.run("train --out run --resume --epochs 11 --exif apply");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("exif (\"ignore\" against \"apply\")"), "{}", ended.stderr);
    assert_eq!(tallow.json("train --out run --resume --epochs 11")["test_accuracy"], 0.5);
    assert_eq!(setting(&tallow, "run").as_deref(), Some("exif = \"ignore\""), "written down now");
}

#[test]
fn a_recipe_says_it_for_its_runs_and_finds_older_ones_as_they_were() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let recipe = |exif: &str| {
        let settings =
            "data = \"folder:photos\"\nepochs = 2\nbatch_size = 8\naugment = \"none\"\nset = { img_size = \"8\" }";
        format!(
            "[shared]\nmodel = \"mlp_mnist\"\n{settings}\n{exif}\n[[run]]\nname = \"a\"\ncommand = \"train\"\n[[run]]\nname = \"b\"\ncommand = \"train\"\n"
        )
    };
    tallow.write("lying.toml", recipe("exif = \"ignore\""));
    assert!(tallow.ok("run lying.toml --dry-run --device cpu").stdout.contains("--exif ignore"));
    tallow.ok("run lying.toml --device cpu --out lying");
    assert_eq!(setting(&tallow, "lying/a").as_deref(), Some("exif = \"ignore\""));
    let ended = tallow.run("run lying.toml --device cpu --out lying --with exif=apply");
    assert!(ended.code == Some(1) && ended.stderr.contains("other settings: exif"), "{ended:?}");
    tallow.write("wrong.toml", recipe("exif = \"never\""));
    let ended = tallow.run("run wrong.toml --device cpu");
    assert_ne!(ended.code, Some(0));
    assert!(ended.stderr.contains("never") && ended.stderr.contains("apply"), "{}", ended.stderr);

    // Where the recipe says nothing, runs that are there already are not others for it.
    tallow.write("open.toml", recipe(""));
    tallow.ok("run open.toml --device cpu --out open");
    assert_eq!(setting(&tallow, "open/a").as_deref(), Some("exif = \"apply\""));
    make_older(&tallow, "open/a");
    make_older(&tallow, "open/b");
    std::fs::remove_file(tallow.path("open/b/summary.json")).unwrap();
    let plan = tallow.ok("run open.toml --device cpu --out open --dry-run").stdout;
    assert!(plan.contains("has ended") && plan.contains("to go on"), "{plan}");
    tallow.ok("run open.toml --device cpu --out open");
    assert_eq!(setting(&tallow, "open/b"), None, "it went on as it was");
    assert_eq!(tallow.json("eval open/b")["accuracy"], 0.5);
}

#[test]
fn runs_of_a_recipe_share_no_features_of_images_that_lie_differently() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let shared = "model = \"mlp_mnist\"\ncommand = \"train\"\ndata = \"folder:photos\"\nfreeze = \"backbone\"\nepochs = 20\n\
                  batch_size = 8\nlr = 0.05\naugment = \"none\"\nset = { img_size = \"8\" }";
    let run = |name: &str, exif: &str| format!("[[run]]\nname = \"{name}\"\nexif = \"{exif}\"\n");
    tallow.write("probes.toml", format!("[shared]\n{shared}\n{}{}", run("turned", "apply"), run("lying", "ignore")));
    tallow.ok("run probes.toml --device cpu --out probes");
    let accuracy = |run: &str| -> f64 {
        let summary: Value = serde_json::from_slice(&tallow.read(&format!("probes/{run}/summary.json"))).unwrap();
        summary["test_accuracy"].as_f64().unwrap()
    };
    assert_eq!((accuracy("turned"), accuracy("lying")), (1.0, 0.5));
}

#[test]
fn data_tells_how_many_images_are_turned_and_shows_them_so() {
    let tallow = Sandbox::new();
    photos(&tallow);
    for (flag, line) in [
        ("", "turned images    8, as their cameras noted (--exif ignore"),
        (" --exif ignore", "unturned images  8, although their cameras noted how they lie (--exif apply"),
    ] {
        let text = tallow.ok(&format!("data folder:photos{flag}")).stdout;
        assert!(text.lines().any(|l| l.starts_with(line)), "{text}");
    }
    let facts: Value = tallow.json("data folder:photos");
    assert_eq!((&facts["orientation_noted"], &facts["exif"]), (&8.into(), &"apply".into()));
    assert!(!tallow.ok("data mnist").stdout.contains("turned"));
    let sheet = |flag: &str| {
        tallow.ok(&format!("data folder:photos --augment none --sheet sheet.png{flag}"));
        tallow.read("sheet.png")
    };
    assert_eq!(sheet(""), sheet(" --exif apply"));
    assert_ne!(sheet(""), sheet(" --exif ignore"));
}

#[test]
fn every_command_that_reads_images_takes_the_flag_and_no_other_value() {
    let tallow = Sandbox::new();
    photos(&tallow);
    for command in ["train", "finetune", "eval", "predict", "embed", "data", "bench"] {
        let help = tallow.ok(&format!("{command} --help")).stdout;
        assert!(help.contains("--exif <WHAT>"), "{command}: {help}");
    }
    tallow.ok("bench mlp_mnist --mode load --data folder:photos --img-size 8 --steps 1 --batch-size 2 --exif ignore");
    let ended = tallow.run("data folder:photos --exif never");
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("never") && ended.stderr.contains("apply, ignore"), "{}", ended.stderr);
}

#[cfg(feature = "svm")]
#[test]
fn a_support_vector_machine_turns_as_its_run_says() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let line = "train svm --data folder:photos --set img_size=8 --set c=100";
    assert_eq!(tallow.json(&format!("{line} --out svm"))["test_accuracy"], 1.0);
    assert_eq!(tallow.json(&format!("{line} --out lying --exif ignore"))["test_accuracy"], 0.5);
    let image = "photos/test/down/0.jpg";
    let label = |line: &str| tallow.json(line)["predictions"][0]["top"][0]["label"].as_str().unwrap().to_string();
    assert_eq!(label(&format!("predict ./svm {image}")), "down");
    make_older(&tallow, "svm");
    assert_eq!(label(&format!("predict ./svm {image}")), "up");
    assert_eq!(tallow.json("eval svm")["accuracy"], 0.5);
}
