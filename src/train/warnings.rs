//! What is known to fail, or looks wrong, told before or while it happens.

use tallow_models::Architecture;

use super::config::{OptimizerKind, TrainConfig};
use super::device::precision_is_native;
use super::evaluate::Evaluation;
use super::schedule::Schedule;

/// What the settings of a run lead one to expect. `pretrained` tells whether weights that were loaded are trained further.
pub fn of_settings(config: &TrainConfig, architecture: &Architecture, pretrained: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.device.starts_with("cuda") && !precision_is_native(config.dtype) {
        warnings.push("this CPU has no instructions for bfloat16: computing in float32 (--dtype f32 says so)".into());
    }
    let Architecture::Vit(vit) = architecture else {
        if config.grad_checkpointing {
            warnings.push("only ViTs have gradient checkpointing: --grad-checkpointing changes nothing here".into());
        }
        return warnings;
    };
    if pretrained && config.optimizer != OptimizerKind::Sgd && config.lr > 1e-3 {
        warnings.push(format!(
            "a learning rate of {:e} destroys a pretrained ViT under Adam; from 1e-5 to 5e-4 it learns (--lr 1e-4)",
            config.lr
        ));
    }
    let [height, width] = vit.img_size.sides();
    if vit.patch_size * 3 >= height.max(width) {
        warnings.push(format!(
            "patches of {0}×{0} pixels cut the image of {1}×{2} into {3}: there is little for attention to compare; \
             use smaller patches (--patch-size) or larger images (--img-size)",
            vit.patch_size,
            height,
            width,
            vit.num_patches()
        ));
    }
    warnings
}

/// A warm-up that the run does not outlast: the learning rate never comes to what was asked for.
pub fn of_warmup(config: &TrainConfig, steps_per_epoch: usize) -> Option<String> {
    let schedule = Schedule::new(config, steps_per_epoch);
    let (warmup, steps) = (schedule.warmup_steps(), config.epochs.saturating_mul(steps_per_epoch));
    (steps > 0 && warmup >= steps).then(|| {
        format!(
            "the warm-up of {warmup} steps is not over when the run ends after {steps}: the learning rate comes to {:.3e} and \
             never to {:e} (fewer --warmup-steps, or more --epochs)",
            schedule.lr(steps - 1),
            config.lr
        )
    })
}

/// A frozen backbone whose features would take more memory than they may.
pub fn of_features(bytes: u64, limit: u64) -> String {
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    format!(
        "the features of the frozen backbone would take {} MiB and are not kept above {} MiB: every epoch computes them again",
        mebibytes(bytes),
        mebibytes(limit)
    )
}

/// A frozen backbone that sees other images in every epoch.
pub fn of_augmented_features(config: &TrainConfig) -> Option<String> {
    let augment = config.augment.split(',').filter(|name| *name != "none");
    let mixing = [("mixup", config.mixup), ("cutmix", config.cutmix)];
    let mixing = mixing.into_iter().filter(|(_, alpha)| *alpha > 0.).map(|(name, _)| name);
    let (changes, without) = match augment.chain(mixing).collect::<Vec<_>>() {
        changes if config.mix().is_none() => (changes, "--augment none"),
        changes => (changes, "--augment none --mixup 0 --cutmix 0"),
    };
    (config.epochs > 1).then(|| {
        format!(
            "the backbone is frozen, but {} changes its images in every epoch: with {without} each image passes through it \
             once, and later epochs take no time",
            changes.join(",")
        )
    })
}

/// A model that calls all samples of a test set the same, where they are not.
pub fn of_collapse(evaluation: &Evaluation, classes: &[String], epoch: usize) -> Option<String> {
    let first = *evaluation.predicted.first()?;
    let differ = |values: &[u32]| values.windows(2).any(|pair| pair[0] != pair[1]);
    if differ(&evaluation.predicted) || !differ(&evaluation.labels) {
        return None;
    }
    let class = classes.get(first as usize).map_or("one class", String::as_str);
    Some(format!(
        "after epoch {} the model calls every test sample {class}: the learning rate may be too high or too low, or the \
         head may not learn",
        epoch + 1
    ))
}

/// Parameters that the backward pass did not reach, where that was allowed.
pub fn of_missing_gradients(names: &[String]) -> Option<String> {
    let (first, rest) = names.split_first()?;
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    Some(format!("no gradient reaches {first}{more}: they stay as they are"))
}

/// Parameters that received nothing but zeros in the first epoch.
pub fn of_zero_gradients(names: &[String]) -> Option<String> {
    let (first, rest) = names.split_first()?;
    let more = if rest.is_empty() { String::new() } else { format!(" and of {} more", rest.len()) };
    Some(format!(
        "every gradient of {first}{more} was zero in the first epoch: nothing is learned there; freeze it if that is meant"
    ))
}
