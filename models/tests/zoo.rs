//! The zoo against timm: every architecture's parameters, cost and weights. `references/zoo.py` wrote what timm says.

use serde_json::Value;
use tallow_models::zoo::{self, Entry};
use tallow_models::{Architecture, Error, VitConfig};

fn reference() -> serde_json::Map<String, Value> {
    let text = include_str!("references/zoo.json");
    serde_json::from_str(text).expect("zoo.json is an object")
}

/// Timm's ViTs of the zoo, without the one that is ours.
fn entries_of_timm() -> Vec<(Entry, Value)> {
    let mut reference = reference();
    let entries: Vec<_> = zoo::names()
        .filter(|name| !["vit_mnist", "cnn_cifar10", "mlp_mnist", "mlp_circles"].contains(name))
        .map(|name| {
            let facts = reference.remove(name).unwrap_or_else(|| panic!("{name} is not in timm"));
            (zoo::find(name).expect("a listed name is found"), facts)
        })
        .collect();
    assert!(reference.is_empty(), "not in the zoo: {:?}", reference.keys().collect::<Vec<_>>());
    entries
}

fn vit(architecture: &Architecture) -> &VitConfig {
    match architecture {
        Architecture::Vit(config) => config,
        other => panic!("not a ViT: {other:?}"),
    }
}

#[test]
fn every_vit_has_the_numbers_of_timms_constructor() {
    for (entry, facts) in entries_of_timm() {
        let mut expected = facts["config"].clone();
        let config = vit(&entry.architecture);
        // timm reads the integer 3 where we write 3.0.
        if let Some(ratio) = expected["mlp_ratio"].as_f64() {
            expected["mlp_ratio"] = ratio.into();
        }
        let expected: VitConfig = serde_json::from_value(expected).expect("timm's arguments are our fields");
        assert_eq!(config, &expected, "{}", entry.name);
    }
}

#[test]
fn every_vit_has_timms_parameters_by_name_shape_and_order() {
    for (entry, facts) in entries_of_timm() {
        let parameters = entry.architecture.parameters().expect("the zoo is valid");
        let shapes: String = parameters.iter().map(|p| format!("{}{:?}\n", p.name, p.shape)).collect();
        assert_eq!(fnv1a(&shapes), facts["shapes"], "{}", entry.name);
        assert_eq!(entry.architecture.num_parameters().ok(), facts["parameters"].as_u64().map(|n| n as usize));
    }
}

#[test]
fn every_vit_costs_the_operations_that_pytorch_counts() {
    for (entry, facts) in entries_of_timm() {
        assert_eq!(Some(entry.architecture.flops()), facts["flops"].as_u64(), "{}", entry.name);
    }
}

#[test]
fn every_tag_has_timms_preprocessing_and_licence_and_timms_default_comes_first() {
    for (entry, facts) in entries_of_timm() {
        let mut weights = entry.weights;
        // Ours alone: it comes with the program.
        weights.retain(|w| (w.architecture, w.tag) != ("vit_small_patch14_dinov2", "saliency"));
        let expected = facts["weights"].as_array().expect("a list");
        assert_eq!(weights.len(), expected.len(), "{}", entry.name);
        for (w, expected) in weights.into_iter().zip(expected) {
            let mut expected = expected.clone();
            if expected["hub"].is_null() && w.hub.is_some() {
                expected["hub"] = format!("timm/{}.{}", entry.name, w.tag).into();
            }
            let ours = serde_json::json!({
                "tag": w.tag, "hub": w.hub, "num_classes": w.num_classes, "input_size": w.input_size,
                "interpolation": w.interpolation, "crop_pct": w.crop_pct,
                "crop_mode": if w.squash { "squash" } else { "center" },
                "mean": w.mean, "std": w.std, "license": w.license,
            });
            for (key, value) in ours.as_object().expect("an object") {
                // timm writes some numbers as integers.
                let same =
                    value == &expected[key] || value.as_f64().is_some() && value.as_f64() == expected[key].as_f64();
                assert!(same, "{}.{}: {key} is {value}, timm's is {}", entry.name, w.tag, expected[key]);
            }
        }
    }
}

#[test]
fn a_tag_decides_the_classes() {
    let classes = |name| zoo::find(name).map(|e| e.architecture.num_classes()).ok();
    assert_eq!(classes("vit_small_patch16_224"), Some(1000));
    assert_eq!(classes("vit_small_patch16_224.augreg_in21k"), Some(21_843));
    assert_eq!(classes("vit_small_patch16_224.dino"), Some(0));
    assert_eq!(classes("vit_base_patch16_gap_224"), Some(1000));
}

#[test]
fn the_bundled_weights_have_no_repository_and_the_default_of_their_architecture_is_stock_dinov2() {
    let entry = zoo::find("vit_small_patch14_dinov2.saliency").expect("it is in the zoo");
    let bundled = entry.pretrained.expect("the tag was given");
    assert_eq!((bundled.hub, bundled.license, bundled.input_size), (None, Some("apache-2.0"), [3, 518, 518]));
    let stock = zoo::find("vit_small_patch14_dinov2").expect("it is in the zoo").pretrained.expect("a default");
    assert_eq!(stock.hub, Some("timm/vit_small_patch14_dinov2.lvd142m"));
}

#[test]
fn the_models_for_small_images_have_the_stated_sizes() {
    let input_and_parameters = |name| {
        let architecture = zoo::find(name).expect("it is in the zoo").architecture;
        (architecture.input_size(), architecture.num_parameters().expect("it is valid"))
    };
    // Class token; 17 positions; 49 pixels and a bias; 6 blocks; norm; 10 classes.
    let vit = 64 + 17 * 64 + 50 * 64 + 6 * 49_984 + 128 + 650;
    assert_eq!(input_and_parameters("vit_mnist"), ([1, 28, 28], vit));
    // 1,190,000 weights and 32 + 64 + 64 + 1000 + 10 biases.
    assert_eq!(input_and_parameters("cnn_cifar10"), ([3, 32, 32], 1_190_000 + 1170));
    assert_eq!(input_and_parameters("mlp_mnist"), ([1, 28, 28], 785 * 256 + 257 * 10));
    assert_eq!(input_and_parameters("mlp_circles"), ([2, 1, 1], 3 * 10 + 11 * 2));
}

#[test]
fn a_mistyped_name_is_answered_with_the_nearest() {
    let message = zoo::find("vit_smal_patch16_224").expect_err("there is none").to_string();
    assert!(message.contains("did you mean vit_small_patch16_224"), "{message}");
    assert!(matches!(zoo::find("qqqq"), Err(Error::UnknownArchitecture { nearest, .. }) if nearest.is_empty()));
    let message = zoo::find("vit_small_patch16_224.dinos").expect_err("there is none").to_string();
    assert_eq!(
        message,
        "vit_small_patch16_224 has no weights called \"dinos\": there are augreg_in21k_ft_in1k, augreg_in1k, augreg_in21k, dino"
    );
    for name in ["", ".", "vit_mnist.", "vit_mnist.x", "*"] {
        assert!(zoo::find(name).is_err(), "{name:?}");
    }
}

#[test]
fn what_timm_has_and_the_zoo_has_not_is_refused_by_name_as_the_page_on_checkpoints_says() {
    for (name, reason) in zoo::refused() {
        let message = zoo::find(name).expect_err("it is refused").to_string();
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
    // The table of the page has the same rows, in the same order.
    let page = include_str!("../../docs/checkpoints.md");
    let table = page.split("| What it has that ours have not | Names |\n|---|---|\n").nth(1).expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|')).flat_map(|line| {
        let (reason, names) = line.trim_matches(['|', ' ']).split_once(" | ").expect("two cells");
        names.split(", ").map(move |name| (name.trim_matches('`'), reason))
    });
    let (rows, refused): (Vec<_>, Vec<_>) = (rows.collect(), zoo::refused().collect());
    assert_eq!(rows, refused);
}

#[test]
fn wildcards_match_names_and_tags() {
    let names = |pattern| zoo::list(pattern).iter().map(|e| e.name).collect::<Vec<_>>();
    assert_eq!(names("vit_?????_patch8_224"), ["vit_small_patch8_224"]);
    assert_eq!(names("vit_*_patch8_224"), ["vit_base_patch8_224", "vit_small_patch8_224"]);
    assert_eq!(names("mnist"), ["mlp_mnist", "vit_mnist"]);
    assert_eq!(names("*"), zoo::names().collect::<Vec<_>>());
    assert_eq!(names(""), names("*"));
    assert!(names("vit_small_patch16_22").contains(&"vit_small_patch16_224"));
    assert!(names("?").is_empty() && names("nothing").is_empty());

    let dino = zoo::list("*.dino");
    assert_eq!(dino.len(), 4);
    for entry in &dino {
        assert_eq!(entry.weights.iter().map(|w| w.tag).collect::<Vec<_>>(), ["dino"]);
        assert_eq!(entry.architecture.num_classes(), 0);
    }
}

#[test]
fn a_pattern_matches_all_of_a_text_or_not_at_all() {
    for (pattern, text) in
        [("blocks.*.attn.*", "blocks.11.attn.qkv.weight"), ("*.bias", "head.bias"), ("*", ""), ("h?ad*", "head")]
    {
        assert!(zoo::matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in
        [("*.bias", "head.weight"), ("head", "head.bias"), ("blocks.1*1.x", "blocks.1.x"), ("", "head"), ("?", "")]
    {
        assert!(!zoo::matches(pattern, text), "{pattern} {text}");
    }
}

/// FNV-1a of 64 bits, to compare hundreds of shapes with what Python hashed without storing them.
fn fnv1a(text: &str) -> String {
    format!("{:016x}", tallow_models::fnv1a(text.as_bytes()))
}
