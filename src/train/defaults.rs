//! The defaults of a run by kind of model and start: the one table of them.

use tallow_models::Architecture;

use super::config::{OptimizerKind, ScheduleKind, TrainConfig};
use crate::data::OnBadImage;

/// Kinds of models, as far as good settings differ between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Vision transformers.
    Vit,
    /// Convolutional networks.
    Cnn,
    /// Multi-layer perceptrons.
    Mlp,
    /// Multi-layer perceptrons that read points and not images.
    Points,
}

impl Family {
    /// The kind of an architecture.
    pub fn of(architecture: &Architecture) -> Self {
        match architecture {
            Architecture::Vit(_) => Self::Vit,
            Architecture::Cnn(_) => Self::Cnn,
            Architecture::Mlp(config) if config.img_size == 1 => Self::Points,
            Architecture::Mlp(_) => Self::Mlp,
        }
    }
}

/// The settings of a run where the user says nothing else; `pretrained` tells whether it starts from a checkpoint.
pub fn defaults(family: Family, pretrained: bool) -> TrainConfig {
    use OptimizerKind::{Adamw, Sgd};
    use ScheduleKind::{Constant, Cosine};

    struct Row(OptimizerKind, f64, f64, ScheduleKind, f64, usize, usize);
    //                            optimiser  lr   decay schedule clip batch epochs
    let Row(optimizer, lr, weight_decay, schedule, clip_grad, batch_size, epochs) = match (family, pretrained) {
        (Family::Vit, false) => Row(Adamw, 5e-4, 0.05, Cosine, 1., 64, 10),
        (Family::Vit, true) => Row(Adamw, 1e-4, 0.05, Cosine, 1., 32, 3),
        (Family::Cnn, false) => Row(Sgd, 0.05, 5e-4, Cosine, 0., 128, 20),
        (Family::Cnn, true) => Row(Sgd, 0.01, 5e-4, Cosine, 0., 128, 5),
        (Family::Mlp, false) => Row(Sgd, 0.1, 0., Constant, 0., 128, 20),
        (Family::Mlp, true) => Row(Sgd, 0.01, 0., Constant, 0., 128, 5),
        (Family::Points, false) => Row(Sgd, 0.1, 0., Constant, 0., 10, 150),
        (Family::Points, true) => Row(Sgd, 0.03, 0., Constant, 0., 10, 50),
    };
    TrainConfig {
        optimizer,
        lr,
        weight_decay,
        schedule,
        clip_grad,
        batch_size,
        epochs,
        weights: pretrained.then(|| "pretrained".to_string()),
        momentum: if family == Family::Points { 0. } else { TrainConfig::default().momentum },
        ..TrainConfig::default()
    }
}

/// Steps of warm-up where the user names none: a tenth of all for cosine, else none.
pub fn warmup_steps(schedule: ScheduleKind, total_steps: usize) -> usize {
    if schedule == ScheduleKind::Cosine { total_steps / 10 } else { 0 }
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            name: None,
            model: String::new(),
            weights: None,
            arch: None,
            checkpoint_key: None,
            ignore_unknown: false,
            head: Default::default(),
            freeze: None,
            data: String::new(),
            train_split: None,
            test_split: None,
            limit: None,
            test_limit: None,
            val_fraction: 0.,
            on_bad_image: OnBadImage::Error,
            exif: None,
            augment: "auto".into(),
            normalize: Default::default(),
            mixup: 0.,
            cutmix: 0.,
            zca_eps: 0.01,
            interpolation: None,
            crop_pct: None,
            shuffle: true,
            epochs: 10,
            batch_size: 64,
            accumulate: 1,
            eval_batch_size: None,
            implementation: Default::default(),
            optimizer: OptimizerKind::Adamw,
            lr: 5e-4,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.05,
            betas: [0.9, 0.999],
            eps: 1e-8,
            schedule: ScheduleKind::Cosine,
            warmup_steps: None,
            min_lr: 0.,
            gamma: 0.95,
            step_size: 10,
            clip_grad: 1.,
            label_smoothing: 0.,
            layer_decay: None,
            ema: None,
            grad_checkpointing: false,
            allow_missing_gradients: false,
            checkpoint_every: None,
            seed: 0,
            threads: 0,
            device: "auto".into(),
            dtype: Default::default(),
            set: Default::default(),
            extended: Vec::new(),
            paths: Default::default(),
            resolved: None,
        }
    }
}
