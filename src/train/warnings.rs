//! What is known to fail, or looks wrong, told before or while it happens.

use tallow_models::Architecture;

use super::config::{OptimizerKind, TrainConfig};
use super::device::precision_is_native;
use super::evaluate::Evaluation;
use super::median::median;
use super::schedule::Schedule;

/// What the settings of a run lead one to expect. `pretrained` tells whether weights that were loaded are trained further.
pub fn of_settings(config: &TrainConfig, architecture: &Architecture, pretrained: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.compute.device.starts_with("cuda") && !precision_is_native(config.compute.dtype) {
        warnings.push("this CPU has no instructions for bfloat16: computing in float32 (`dtype = f32` says so)".into());
    }
    let Architecture::Vit(vit) = architecture else {
        if config.compute.grad_checkpointing {
            warnings.push("only ViTs have gradient checkpointing: `grad_checkpointing` changes nothing here".into());
        }
        return warnings;
    };
    if pretrained && config.optimizer.optimizer != OptimizerKind::Sgd && config.optimizer.lr > 1e-3 {
        warnings.push(format!(
            "a learning rate of {:e} destroys a pretrained ViT under Adam; from 1e-5 to 5e-4 it learns (`lr = 1e-4`)",
            config.optimizer.lr
        ));
    }
    let [height, width] = vit.img_size.sides();
    if vit.patch_pixels() * 3 >= height.max(width) {
        warnings.push(format!(
            "patches of {0}×{0} pixels cut the image of {1}×{2} into {3}: there is little for attention to compare; \
             use smaller patches (`patch_size`) or larger images (`img_size`)",
            vit.patch_pixels(),
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
    let (warmup, steps) = (schedule.warmup_steps(), config.epochs().saturating_mul(steps_per_epoch));
    (steps > 0 && warmup >= steps).then(|| {
        format!(
            "the warm-up of {warmup} steps is not over when the run ends after {steps}: the learning rate comes to {:.3e} and \
             never to {:e} (fewer `warmup_steps`, or more `epochs`)",
            schedule.lr(steps - 1),
            config.optimizer.lr
        )
    })
}

/// Optimiser steps below which a network has hardly begun to learn.
const FEW_STEPS: usize = 100;

/// A run of so few steps that a network learns little in them. An MLP's steps are quick, and its studies count epochs.
pub fn of_few_steps(config: &TrainConfig, architecture: &Architecture, steps_per_epoch: usize) -> Option<String> {
    let steps = config.epochs().saturating_mul(steps_per_epoch);
    if steps == 0 || steps >= FEW_STEPS || matches!(architecture, Architecture::Mlp(_)) {
        return None;
    }
    let epochs = FEW_STEPS.div_ceil(steps_per_epoch);
    let smaller = match steps_per_epoch {
        0..5 if config.batch_size() > 8 => ", as does a smaller `batch_size`",
        _ => "",
    };
    Some(format!(
        "{steps} {} in all {} few to learn in: `epochs = {epochs}` makes {}{smaller}",
        if steps == 1 { "step" } else { "steps" },
        if steps == 1 { "is" } else { "are" },
        epochs * steps_per_epoch
    ))
}

/// How many times the norm to clip by gradients have to be for the rate to be blamed, and by how much the loss has to rise. A
/// pretrained ViT at a size that is far from its own begins with norms of 40 to 90 and learns all the same.
const BLOWN_UP: f64 = 10.;
const ROSE: f64 = 1.25;

/// The first step of a run and some of those up to step `count`, each a loss and the norm of its gradients, which made the loss
/// larger, with gradients of which clipping left a small part.
pub fn of_first_steps(steps: &[[f64; 2]], count: usize, clip_grad: f64, lr: f64) -> Option<String> {
    let ([first, _], later) = steps.split_first()?;
    let middle = |of: usize| {
        let values: Vec<f64> = later.iter().map(|step| step[of]).collect();
        median(&values)
    };
    let (loss, norm) = (middle(0)?, middle(1)?);
    let blown_up = clip_grad > 0. && norm > BLOWN_UP * clip_grad && loss > ROSE * first;
    blown_up.then(|| {
        format!(
            "the loss rose from {first:.2} to {loss:.2} in the first {count} steps, with gradients of norm {norm:.0} against \
             `clip_grad = {clip_grad}`: the learning rate may be too high (`lr = {:.0e}`)",
            lr / 3.
        )
    })
}

/// Epochs for which a loss has to be above its lowest.
const RISING_EPOCHS: usize = 3;

/// Training samples that are all right while the loss on others rises: `losses` has one an epoch, of the validation part where
/// there is one. Nothing is chosen by it.
pub fn of_learned_by_heart(train_accuracy: f64, losses: &[f64], validated: bool) -> Option<String> {
    let (before, since) = losses.split_at(losses.len().checked_sub(RISING_EPOCHS)?);
    let lowest = before.iter().copied().fold(f64::INFINITY, f64::min);
    let rises =
        lowest.is_finite() && since.iter().all(|&loss| loss > lowest) && since[RISING_EPOCHS - 1] > 1.1 * lowest;
    if !rises || train_accuracy.is_nan() || train_accuracy < 0.999 {
        return None;
    }
    let (what, remedy) = match validated {
        true => ("validation", "fewer `epochs`, or `augment`"),
        false => ("test", "fewer `epochs`, `val_fraction = 0.1` to keep the best one, or `augment`"),
    };
    Some(format!(
        "the training samples are all right and the {what} loss has risen for {RISING_EPOCHS} epochs: they are learned by heart; \
         try {remedy}"
    ))
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
    let augment = config.data.augment.split(',').filter(|name| *name != "none");
    let mixing = [("mixup", config.data.mixup), ("cutmix", config.data.cutmix)];
    let mixing = mixing.into_iter().filter(|(_, alpha)| *alpha > 0.).map(|(name, _)| name);
    let (changes, without) = match augment.chain(mixing).collect::<Vec<_>>() {
        changes if config.mix().is_none() => (changes, "`augment = none`"),
        changes => (changes, "`augment = none` `mixup = 0` `cutmix = 0`"),
    };
    (config.epochs() > 1).then(|| {
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

/// Of the loss of a decoder that says the same patch for whatever it sees, what is not left of it is no learning.
const NO_LEARNING: f64 = 0.97;

/// A masked autoencoder whose loss stays that of the mean patch.
pub fn of_mean_patch(loss: f64, mean_patch: f64) -> Option<String> {
    (loss.is_finite() && mean_patch > 0. && loss > NO_LEARNING * mean_patch).then(|| {
        format!(
            "the loss is {:.0} % of that of a decoder which says the mean patch whatever it sees: nothing of the images is learned; \
             try a higher or lower `lr`, more `epochs`, or a lower `mask_ratio`",
            100. * loss / mean_patch
        )
    })
}

/// Shares of what they can be at most, below and above which the numbers of DINO's teacher mean a collapse.
const SAME: f64 = 0.01;
const UNIFORM: f64 = 0.99;

/// A teacher of DINO whose outputs say nothing of the images: `entropy` is the mean entropy of an output, `information` what the entropy
/// of their mean is above that, `divergence` that of the student's from it, of outputs of so many values in batches of so many rows.
pub fn of_teacher(entropy: f64, information: f64, divergence: f64, [values, rows]: [usize; 2]) -> Option<String> {
    let (most, tellable) = ((values as f64).ln(), (values.min(rows) as f64).ln());
    let how = if entropy > UNIFORM * most {
        "are uniform: all of them are as likely (a lower `teacher_temperature` sharpens them)"
    } else if information < SAME * tellable && divergence < 5. * SAME * most {
        "are the same for every image (a lower `lr`, or a higher `teacher_temperature`, keeps them apart)"
    } else {
        return None;
    };
    Some(format!(
        "the teacher's outputs {how}: it has collapsed. Their entropy is {entropy:.3} of at most {most:.3}, the student's divergence \
         from them {divergence:.4}"
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
