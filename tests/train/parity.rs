//! Twenty steps on real digits beside PyTorch in float64, from the same weights, by the settings that a user has.

use tallow::train::config::{Head, Normalize, OptimizerKind, ScheduleKind};
use tallow::train::{RunFolder, Start, TrainConfig};

use crate::{finish, numbers, reference, references, small};

/// What makes a run plain: no shuffling, warm-up, schedule, clipping or augmentation.
fn plain() -> TrainConfig {
    let set = [("embed_dim", "32"), ("depth", "3"), ("num_heads", "4"), ("pos_embed", "learned")];
    small().with(|c| {
        c.model.weights = Some(references().join("vit.safetensors").display().to_string());
        c.model.head = Head::Keep;
        c.data.limit = Some(320);
        c.data.test_limit = Some(20);
        c.length.epochs = 1.into();
        c.data.normalize = Normalize::None;
        c.data.augment = "none".into();
        c.data.shuffle = false;
        c.schedule.schedule = ScheduleKind::Constant;
        c.schedule.warmup_steps = Some(0);
        c.regularization.clip_grad = 0.;
        c.optimizer.weight_decay = 0.05;
        c.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    })
}

fn compare(name: &str, config: &TrainConfig) {
    compare_in("curves.json", name, config);
}

/// As `name` says in this file of curves.
fn compare_in(file: &str, name: &str, config: &TrainConfig) {
    let directory = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(directory.path().join("run"));
    finish(config, &folder, Start::New).unwrap();
    let steps = folder.metrics().unwrap().steps;
    let reference = &reference(file)[name];
    let (losses, norms) = (numbers(&reference["loss"]), numbers(&reference["grad_norm"]));
    assert_eq!((steps.len(), losses.len(), norms.len()), (20, 20, 20));
    for (step, (loss, norm)) in steps.iter().zip(losses.into_iter().zip(norms)) {
        let at = format!("{name}, step {}", step.step);
        assert!((step.loss - loss).abs() < 2e-4, "{at}: loss {} where PyTorch has {loss}", step.loss);
        assert!((step.grad_norm - norm).abs() < 1e-3, "{at}: norm {} where PyTorch has {norm}", step.grad_norm);
    }
}

#[test]
fn sgd_with_momentum_follows_pytorch_for_twenty_steps() {
    compare(
        "sgd",
        &plain().with(|c| {
            c.optimizer.optimizer = OptimizerKind::Sgd;
            c.optimizer.lr = 0.05;
            c.optimizer.momentum = 0.9;
        }),
    );
}

#[test]
fn sgd_with_nesterov_momentum_follows_pytorch_for_twenty_steps() {
    let sgd = plain().with(|c| {
        c.optimizer.optimizer = OptimizerKind::Sgd;
        c.optimizer.lr = 0.05;
        c.optimizer.momentum = 0.9;
        c.optimizer.nesterov = true;
    });
    compare("nesterov", &sgd);
}

#[test]
fn adamw_follows_pytorch_for_twenty_steps() {
    compare(
        "adamw",
        &plain().with(|c| {
            c.optimizer.optimizer = OptimizerKind::Adamw;
            c.optimizer.lr = 1e-3;
        }),
    );
}

/// A ViT whose weights lie in the file of its name, of timm's architecture `of`, eight numbers wide.
fn blocks(name: &str, of: &str, more: &[(&str, &str)]) {
    let sizes = [("img_size", "28"), ("patch_size", "7"), ("in_chans", "1"), ("embed_dim", "8"), ("depth", "2")];
    let set = sizes.iter().chain(&[("num_heads", "2"), ("mlp_ratio", "2")]).chain(more);
    let config = plain().with(|c| {
        c.model.model = of.into();
        c.model.weights = Some(references().join(format!("{name}.safetensors")).display().to_string());
        c.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).collect();
        c.optimizer.optimizer = OptimizerKind::Adamw;
        c.optimizer.lr = 1e-3;
    });
    compare_in("curves_of_blocks.json", name, &config);
}

#[test]
fn dinov3_with_a_gate_follows_pytorch_for_twenty_steps() {
    blocks("dinov3", "vit_small_plus_patch16_dinov3_qkvb", &[]);
}

#[test]
fn beit_with_biases_of_blocks_and_one_of_all_follows_pytorch_for_twenty_steps() {
    blocks("beit", "beit_base_patch16_224", &[("use_shared_rel_pos_bias", "true")]);
}
