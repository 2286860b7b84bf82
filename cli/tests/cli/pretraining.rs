//! Training without labels from the command line: two methods, what other commands make of their runs, and nearest neighbours.

use crate::sandbox::Sandbox;

const SMALL: &str = "vit_mnist --set embed_dim=16 --set depth=2 --set num_heads=2";

#[test]
fn a_pretrained_encoder_goes_through_every_command() {
    let tallow = Sandbox::new();
    for method in ["mae", "dino"] {
        let flags = "--data mnist --limit 60 --test-limit 30 --epochs 2 --batch-size 20 --out-dim 32 --local-crops 2";
        let flags = if method == "mae" {
            "--data mnist --limit 60 --test-limit 30 --epochs 2 --batch-size 20 --norm-pix=false"
        } else {
            flags
        };
        let summary = tallow.json(&format!("pretrain {SMALL} --method {method} {flags} --out {method}"));
        assert_eq!(summary["method"], method);
        assert!(summary["test_accuracy"].as_f64().is_some());
        assert_eq!(tallow.path(&format!("{method}/reconstructions/epoch-0002.png")).exists(), method == "mae");
        assert_eq!(tallow.path(&format!("{method}/figures/reconstructions.svg")).exists(), method == "mae");

        let knn =
            tallow.json(&format!("knn {method} --data mnist --limit 60 --test-limit 30 -k 5,20 --out {method}-knn"));
        let results = knn["results"].as_array().unwrap();
        assert_eq!(results.iter().map(|at| at["k"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 20]);
        for at in results {
            let [top1, top5] = ["top1", "top5"].map(|key| at[key].as_f64().unwrap());
            assert!(0. <= top1 && top1 <= top5 && top5 <= 1., "{at}");
        }
        tallow.ok(&format!("embed {method} --data mnist --limit 5 --out {method}.safetensors"));
        tallow.ok(&format!("draw filters {method} --out {method}-filters"));
        tallow.ok(&format!("export {method} --out {method}-exported --force"));
        tallow.ok(&format!("info {method}-exported"));
        let tuned = format!("finetune {SMALL} --weights {method} --data mnist --limit 60 --test-limit 30 --epochs 1");
        tallow.ok(&format!("{tuned} --head-first-steps 0 --out {method}-tuned"));
        let student = tallow.run(&format!("export {method} --student --out {method}-student --force"));
        assert_eq!(student.code, Some(if method == "dino" { 0 } else { 2 }), "{student:?}");
    }
    tallow.ok("compare mae dino mae-knn dino-knn mae-tuned dino-tuned --out compared");
    let report = std::fs::read_to_string(tallow.path("compared/report.html")).unwrap();
    assert!(report.contains("of the nearest neighbours") && report.contains("without labels"));
    let resumed = tallow.run("pretrain --out mae --resume --epochs 3");
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
}

#[test]
fn an_untrained_network_of_the_zoo_has_neighbours_and_bad_wishes_are_told() {
    let tallow = Sandbox::new();
    let knn = tallow.json("knn vit_mnist --data mnist --limit 50 --test-limit 20");
    assert_eq!(knn["results"].as_array().unwrap().len(), 2, "of the usual ones 10 and 20, as there are 50 samples");
    assert!(knn["summary"]["weights"].is_null());
    // Points in the plane have neighbours as well, but nothing that could be drawn of a model's answers.
    let points = tallow.json("knn mlp_circles --data circles --limit 50 --test-limit 20 --out points");
    assert!(points["results"].is_array() && tallow.path("points/report.html").is_file());
    let whitened = tallow.json("knn mlp_mnist --data mnist --limit 50 --test-limit 20 --normalize zca --zca-eps 5");
    assert!(whitened["results"].is_array());
    // A name without a tag is the untrained network, whether there are weights of it or not.
    let small = "--data mnist --img-size 28 --limit 30 --test-limit 10 -k 5";
    for (model, weights, said) in [
        ("vit_small_patch14_dinov2", None, "the untrained network, drawn from seed 0; --weights pretrained takes"),
        ("vit_small_patch14_dinov2.saliency", Some("pretrained"), "with its pretrained weights saliency"),
        (
            "vit_small_patch14_dinov2 --weights vit_small_patch14_dinov2.saliency",
            Some("vit_small_patch14_dinov2.saliency"),
            "saliency",
        ),
    ] {
        let ended = tallow.ok(&format!("knn {model} {small} --json"));
        let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(found["summary"]["weights"].as_str(), weights, "{model}");
        assert!(ended.stderr.contains(said), "{model}: {}", ended.stderr);
    }
    for (line, words) in [
        ("knn vit_mnist --data mnist --limit 50 -k 0", "above 0"),
        ("knn vit_mnist --data mnist --limit 50 -k 10,10", "each once"),
        ("knn vit_mnist --data mnist --limit 50 --test-limit 9 -k 60", "at most 50"),
        ("knn vit_mnist --data mnist --limit 50 --temperature 0", "temperature"),
        ("pretrain vit_mnist --data mnist", "--method"),
        ("pretrain vit_mnist --data mnist --method mae --mask-ratio 1", "mask_ratio"),
        ("pretrain cnn_cifar10 --data mnist --in-chans 1 --method dino", "patches"),
        ("pretrain vit_mnist --data mnist --method dino --local-crops-size 5", "smaller than a patch"),
        ("pretrain vit_mnist --data mnist --method mae --limit 1", "at least two"),
    ] {
        let refused = tallow.run(&format!("{line} --out refused"));
        assert!(refused.code == Some(2) || refused.code == Some(1), "{line}: {refused:?}");
        assert!(refused.stderr.contains(words) && refused.stderr.lines().count() <= 2, "{line}: {}", refused.stderr);
        assert!(!tallow.path("refused/config.toml").exists(), "{line}");
    }
}

#[test]
fn bench_compares_a_masked_step_with_one_with_labels() {
    let tallow = Sandbox::new();
    let measured = tallow.json(&format!("bench {SMALL} --method mae --batch-size 4 --steps 2"));
    assert_eq!((&measured["method"], &measured["mask_ratio"]), (&"mae".into(), &0.75.into()));
    for key in ["images_per_second", "supervised_images_per_second", "step_ratio"] {
        assert!(measured[key].as_f64().is_some_and(|value| value > 0.), "{measured}");
    }
}
