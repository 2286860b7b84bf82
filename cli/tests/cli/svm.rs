//! Support vector machines, perceptrons by hand and decision boundaries, from the command line.

use crate::sandbox::Sandbox;

const CIRCLES: &str = "train mlp_circles --data circles --epochs 4";

#[test]
fn a_run_on_points_draws_its_boundary_and_one_on_images_does_not() {
    let tallow = Sandbox::new();
    tallow.ok(&format!("{CIRCLES} --implementation manual --out points"));
    let picture = String::from_utf8(tallow.read("points/figures/boundary.svg")).expect("text");
    assert!(
        picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tallow-figure\""),
        "{}",
        &picture[..90]
    );
    assert!(picture.contains("probability of inside") && picture.contains("outside, training"));
    let count = |class: &str, end: &str| {
        let group = picture.split(&format!("class=\"{class}\"")).nth(1).and_then(|rest| rest.split(end).next());
        let group = group.unwrap_or_else(|| panic!("a group {class}"));
        group.matches("<circle").count() + group.matches("<rect").count()
    };
    assert_eq!((count("train", "</g>"), count("test", "</g>")), (200, 200), "every point once");
    let accuracy = tallow.json("eval points")["accuracy"].as_f64().expect("a number");
    assert_eq!(count("wrong", "</g>"), (200. * (1. - accuracy)).round() as usize, "a ring for every mistake");
    assert!(cfg!(not(feature = "png")) || tallow.path("points/figures/boundary.png").is_file());

    tallow.ok("train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 --out images");
    assert!(!tallow.path("images/figures/boundary.svg").exists());
}

#[cfg(feature = "svm")]
#[test]
fn an_svm_is_trained_measured_used_and_compared() {
    let tallow = Sandbox::new();
    let summary = tallow.json("train svm --data mnist --limit 200 --test-limit 100 --out svm");
    assert!(summary["test_accuracy"].as_f64() > Some(0.7), "{summary}");
    assert_eq!(summary["test_loss"], serde_json::Value::Null);
    let measured = tallow.json("eval svm");
    assert_eq!((&measured["accuracy"], &measured["loss"]), (&summary["test_accuracy"], &serde_json::Value::Null));
    assert!(!tallow.ok("eval svm").stdout.contains("loss"));

    tallow.digit(0, "seven.png");
    let predicted = tallow.json("predict svm seven.png --topk 2");
    let top = &predicted["predictions"][0]["top"];
    assert_eq!((&top[0]["label"], &top[0]["duels_won"]), (&"7".into(), &serde_json::json!([9, 9])), "{predicted}");
    assert_eq!(top.as_array().map(Vec::len), Some(2));
    assert!(tallow.ok("predict svm seven.png").stdout.contains("9 of 9 duels  7"));

    tallow.ok("train mlp_mnist --data mnist --limit 200 --test-limit 100 --epochs 1 --out mlp");
    let compared = tallow.json("compare svm mlp --out both");
    assert_eq!(compared["tests"][0]["outcome"], "tested", "the same test samples: {compared}");
    assert_eq!(compared["runs"][0]["test_loss"], serde_json::Value::Null);

    for line in ["info svm", "export svm --out x", "embed svm seven.png --out f.safetensors", "bench svm"] {
        let ended = tallow.run(line);
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains("expected a network, got a support vector machine"), "{line}: {}", ended.stderr);
    }
}

#[cfg(feature = "svm")]
#[test]
fn a_recipe_has_an_svm_beside_perceptrons_and_is_not_run_again() {
    let tallow = Sandbox::new();
    let perceptron = "command = 'train'\nmodel = 'mlp_circles'\nepochs = 2\n";
    let recipe = format!(
        "out = 'out'\n[shared]\ndata = 'circles'\n\
         [[run]]\nname = 'by hand'\nimplementation = 'manual'\n{perceptron}\
         [[run]]\nname = 'optimizer'\n{perceptron}\
         [[run]]\nname = 'SVM'\ncommand = 'train'\nmodel = 'svm'\nset.c = 2.0\n"
    );
    tallow.write("r.toml", recipe);
    let compared = tallow.json("run r.toml");
    let runs = compared["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[0]["test_accuracy"], runs[1]["test_accuracy"], "the same run, to rounding");
    for folder in ["by-hand", "optimizer", "SVM"] {
        assert!(tallow.path(&format!("out/{folder}/figures/boundary.svg")).is_file(), "{folder}");
    }
    let again = tallow.ok("run r.toml");
    assert!(again.stderr.contains("SVM: has ended already"), "{}", again.stderr);
}

#[test]
fn what_means_nothing_to_an_svm_or_to_a_perceptron_by_hand_is_told_with_status_2() {
    let tallow = Sandbox::new();
    for (line, what) in [
        ("train svm --data circles --lr 0.2", "lr: expected only the settings of an SVM"),
        ("train svm --data circles --set c=0", "c: expected a number above 0"),
        ("train svm --data circles --set depth=3", "set: expected the options c, gamma and img_size"),
        ("train svm --data circles --augment flip", "augment: expected none"),
        ("finetune svm --data circles", "tallow train svm"),
        ("train mlp_circles --data circles --implementation magic", "possible values"),
        ("train mlp_circles --data circles --implementation manual --momentum 0.9", "momentum: expected 0"),
        ("train vit_mnist --data mnist --implementation manual", "expected"),
    ] {
        let ended = tallow.run(line);
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains(what), "{line}: {}", ended.stderr);
    }
}

#[cfg(feature = "svm")]
#[test]
fn an_svm_of_one_class_is_refused_before_a_folder_is_made() {
    let tallow = Sandbox::new();
    let ended = tallow.run("train svm --data mnist --limit 1 --out one");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("expected some of at least two classes, got 1"), "{}", ended.stderr);
    assert!(!tallow.path("one").exists());
}
