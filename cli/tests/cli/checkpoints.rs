//! Weights without a config, files with several networks: what the flags say of them, and what is said where they are not given.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::sandbox::Sandbox;

/// A ViT of 16 pixels, 24 wide, with 3 heads and 5 classes; `../../../weights/tests/references/make.py` made it.
fn vit() -> HashMap<String, Tensor> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../weights/tests/references/timm/model.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).expect("a reference")
}

fn write(tallow: &Sandbox, name: &str, tensors: &HashMap<String, Tensor>) {
    std::fs::create_dir_all(tallow.path(name).parent().expect("a folder")).expect("a folder");
    candle_core::safetensors::save(tensors, tallow.path(name)).expect("a file");
}

/// Every command that takes a model, with this model in place of MODEL.
const COMMANDS: [&str; 9] = [
    "info MODEL",
    "predict MODEL seven.png",
    "embed MODEL seven.png --out f.safetensors",
    "export MODEL --out exported",
    "bench MODEL --steps 1 --batch-size 1 --mode infer",
    "draw filters MODEL --out filters",
    "draw positions MODEL --out positions",
    "train MODEL --data mnist --limit 8 --test-limit 4 --epochs 1 --out runs/a",
    "finetune MODEL --data mnist --limit 8 --test-limit 4 --epochs 1 --out runs/b",
];

#[test]
fn weights_without_a_config_need_their_heads_and_every_command_hears_them() {
    let tallow = Sandbox::new();
    tallow.digit(0, "seven.png");
    write(&tallow, "x.safetensors", &vit());
    for command in COMMANDS {
        let line = command.replace("MODEL", "x.safetensors");
        let refused = tallow.run(&line);
        assert_ne!(refused.code, Some(0), "{line}");
        for word in ["x.safetensors", "--arch NAME", "--set num_heads=N"] {
            assert!(refused.stderr.contains(word), "{line}: {}", refused.stderr);
        }
        tallow.ok(&format!("{line} --set num_heads=3"));
    }
    let tuned = tallow.json("info runs/b");
    assert_eq!(tuned["architecture"]["num_heads"], 3);
    let notes = tallow.json("info x.safetensors --set num_heads=3")["account"]["notes"].to_string();
    assert!(notes.contains("no config.json"), "{notes}");
}

#[test]
fn a_name_of_the_zoo_says_what_a_file_of_weights_does_not() {
    let tallow = Sandbox::new();
    tallow.digit(0, "seven.png");
    // The name says depth and width too: those of another model do not fit.
    write(&tallow, "x.safetensors", &vit());
    let refused = tallow.run("info x.safetensors --arch vit_tiny_patch16_224");
    assert!(refused.code == Some(1) && refused.stderr.contains("[1, 1, 192]"), "{}", refused.stderr);
    for (line, words) in [
        ("info x.safetensors --arch vit_tiny_patch16_225", ["vit_tiny_patch16_225", "vit_tiny_patch16_224"]),
        ("info vit_mnist --arch vit_tiny_patch16_224", ["--arch", "vit_mnist"]),
        ("embed vit_mnist seven.png --out f --arch vit_tiny_patch16_224", ["--arch", "vit_mnist"]),
        ("train vit_mnist --data mnist --arch vit_tiny_patch16_224", ["arch", "vit_mnist"]),
    ] {
        let refused = tallow.run(line);
        assert!(
            refused.code != Some(0) && words.iter().all(|word| refused.stderr.contains(word)),
            "{line}: {refused:?}"
        );
    }
    tallow.ok("train vit_mnist --data mnist --limit 8 --test-limit 4 --epochs 1 --out runs/a");
    std::fs::copy(tallow.path("runs/a/checkpoints/best/model.safetensors"), tallow.path("alone.safetensors"))
        .expect("a file");
    for command in COMMANDS {
        let line = command.replace("MODEL", "alone.safetensors").replace("runs/", "runs/of-");
        tallow.ok(&format!("{line} --arch vit_mnist"));
    }
    let config = String::from_utf8(tallow.read("runs/of-b/config.toml")).expect("text");
    assert!(config.contains("arch = \"vit_mnist\""), "{config}");
    assert_eq!(tallow.json("info runs/of-b")["architecture"], tallow.json("info runs/a")["architecture"]);
}

#[test]
fn a_network_of_several_is_chosen_by_its_key_and_the_choice_is_told() {
    let tallow = Sandbox::new();
    tallow.digit(0, "seven.png");
    let half = |tensor: &Tensor| (tensor * 0.5).expect("numbers");
    let mut both: HashMap<String, Tensor> =
        vit().iter().map(|(name, tensor)| (format!("ema.{name}"), half(tensor))).collect();
    both.extend(vit().into_iter().map(|(name, tensor)| (format!("model.{name}"), tensor)));
    both.insert("model.blocks.0.attn.bias_table".into(), vit().remove("cls_token").expect("a token"));
    write(&tallow, "both.safetensors", &both);
    let flags = "--set num_heads=3";
    let chosen = tallow.ok(&format!("embed both.safetensors seven.png --out f.safetensors {flags}"));
    assert!(
        chosen.stderr.contains("\"ema\" was taken") && chosen.stderr.contains("--checkpoint-key"),
        "{}",
        chosen.stderr
    );
    let refused = tallow.run(&format!("info both.safetensors --checkpoint-key emma {flags}"));
    assert!(refused.code == Some(1) && refused.stderr.contains("one of \"ema\", \"model\""), "{}", refused.stderr);
    let refused = tallow.run(&format!("info both.safetensors --checkpoint-key model {flags}"));
    assert!(refused.stderr.contains("bias_table") && refused.stderr.contains("--ignore-unknown"), "{}", refused.stderr);

    write(&tallow, "one.safetensors", &vit());
    let features = |line: &str| {
        tallow.ok(&format!("embed {line} seven.png --out f.safetensors {flags} -q"));
        let read = candle_core::safetensors::load(tallow.path("f.safetensors"), &Device::Cpu).expect("features");
        read["features"].flatten_all().and_then(|features| features.to_vec1::<f32>()).expect("numbers")
    };
    let key = "--checkpoint-key model --ignore-unknown";
    assert_eq!(features(&format!("both.safetensors {key}")), features("one.safetensors"));
    assert_ne!(features("both.safetensors"), features("one.safetensors"));

    tallow.ok(&format!(
        "finetune both.safetensors --data mnist --limit 8 --test-limit 4 --epochs 1 --out runs/a {key} {flags}"
    ));
    let config = String::from_utf8(tallow.read("runs/a/config.toml")).expect("text");
    assert!(config.contains("checkpoint_key = \"model\"") && config.contains("ignore_unknown = true"), "{config}");
}
