//! The defaults of a run by kind of model and start: the one table of them.

use tallow_models::Architecture;
use tallow_models::ops::Kernels;
use tallow_models::vit::GlobalPool;

use super::config::{BatchSize, Count, Method, OptimizerKind, ScheduleKind, TrainConfig};

/// Kinds of models, as far as good settings differ between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Vision transformers.
    Vit,
    /// Vision transformers of at most 128 numbers a token, which bear higher rates and need more steps.
    NarrowVit,
    /// Vision transformers of BEiT's and EVA's kind, which learned by predicting masked patches: the rate decays faster over their
    /// layers (Bao et al. 2021 and Fang et al. 2023 fine-tune with 0.65 and 0.7).
    MaskedVit,
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
            Architecture::Vit(config) if config.embed_dim <= 128 => Self::NarrowVit,
            Architecture::Vit(config) if config.has_relative_tables() || config.is_eva() => Self::MaskedVit,
            Architecture::Cnn(_) => Self::Cnn,
            Architecture::Mlp(config) if config.img_size == 1 => Self::Points,
            Architecture::Mlp(_) => Self::Mlp,
            // A family without settings of its own begins with those of ViTs.
            _ => Self::Vit,
        }
    }
}

/// What is trained, as far as good settings differ with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Regime {
    /// Everything, from values drawn from the seed.
    Scratch,
    /// Everything, from a checkpoint.
    Pretrained,
    /// The head alone, on a checkpoint's backbone: a linear probe.
    Probe,
    /// Everything but a head, without labels, as a masked autoencoder.
    Mae,
    /// Everything but a head, without labels, by DINO.
    Dino,
}

impl Regime {
    /// What the settings of a run come to.
    pub fn of(config: &TrainConfig) -> Self {
        match config.pretraining.method {
            Some(Method::Mae) => return Self::Mae,
            Some(Method::Dino) => return Self::Dino,
            Some(Method::Knn) | None => {}
        }
        match (config.model.weights.is_some(), config.model.freeze.as_deref().map(str::trim)) {
            (false, _) => Self::Scratch,
            (true, Some("backbone")) => Self::Probe,
            (true, _) => Self::Pretrained,
        }
    }
}

/// The settings of a run where the user says nothing else. Those that depend on the number of training samples are left open:
/// [`by_data`] settles them. RESULTS.md has the sweeps that they come from.
pub fn defaults(family: Family, regime: Regime) -> TrainConfig {
    use OptimizerKind::{Adamw, Sgd};
    use ScheduleKind::{Constant, Cosine};

    struct Row(OptimizerKind, f64, f64, ScheduleKind, f64);
    //                                                         optimiser  lr   decay schedule clip
    let Row(optimizer, lr, weight_decay, schedule, clip_grad) = match (family, regime) {
        (Family::Vit | Family::MaskedVit, Regime::Scratch) => Row(Adamw, 5e-4, 0.05, Cosine, 1.),
        (Family::NarrowVit, Regime::Scratch) => Row(Adamw, 2e-3, 0.05, Cosine, 1.),
        (Family::Vit | Family::MaskedVit, Regime::Pretrained) => Row(Adamw, 1e-4, 0.05, Cosine, 1.),
        (Family::NarrowVit, Regime::Pretrained) => Row(Adamw, 5e-4, 0.05, Cosine, 1.),
        (Family::Vit | Family::NarrowVit | Family::MaskedVit | Family::Cnn, Regime::Probe) => {
            Row(Adamw, 1e-3, 0.05, Cosine, 0.)
        }
        (Family::NarrowVit, Regime::Mae) => Row(Adamw, 1.5e-3, 0.05, Cosine, 0.),
        (_, Regime::Mae) => Row(Adamw, 3e-4, 0.05, Cosine, 0.),
        (Family::NarrowVit, Regime::Dino) => Row(Adamw, 2e-3, 0.04, Cosine, 3.),
        (_, Regime::Dino) => Row(Adamw, 2.5e-4, 0.04, Cosine, 3.),
        (Family::Cnn, Regime::Scratch) => Row(Sgd, 0.02, 5e-4, Cosine, 0.),
        (Family::Cnn, Regime::Pretrained) => Row(Sgd, 0.01, 5e-4, Cosine, 0.),
        (Family::Mlp, Regime::Scratch) => Row(Sgd, 0.01, 0., Cosine, 0.),
        (Family::Mlp, _) => Row(Sgd, 3e-3, 0., Cosine, 0.),
        (Family::Points, Regime::Scratch) => Row(Sgd, 0.1, 0., Constant, 0.),
        (Family::Points, _) => Row(Sgd, 0.03, 0., Constant, 0.),
    };
    let is_vit = matches!(family, Family::Vit | Family::NarrowVit | Family::MaskedVit);
    let layer_decay = match family {
        Family::Vit => Some(0.8),
        Family::MaskedVit => Some(0.7),
        _ => None,
    };
    TrainConfig::default().with(|c| {
        c.optimizer.optimizer = optimizer;
        c.optimizer.lr = lr;
        c.optimizer.weight_decay = weight_decay;
        c.schedule.schedule = schedule;
        c.regularization.clip_grad = clip_grad;
        c.length.batch_size = BatchSize::ByData;
        c.length.epochs = Count::Auto;
        c.length.eval_every = Count::Auto;
        // A head that knows nothing yet pulls a pretrained backbone about.
        c.optimizer.head_first_steps = if is_vit && regime == Regime::Pretrained { 300 } else { 0 };
        c.regularization.layer_decay = layer_decay.filter(|_| regime == Regime::Pretrained);
        c.data.augment = if regime == Regime::Probe { "none" } else { "auto" }.into();
        c.model.weights = matches!(regime, Regime::Pretrained | Regime::Probe).then(|| "pretrained".to_string());
        c.pretraining.method = match regime {
            Regime::Mae => Some(Method::Mae),
            Regime::Dino => Some(Method::Dino),
            _ => None,
        };
        if regime == Regime::Mae {
            c.optimizer.betas = [0.9, 0.95];
        }
        // Other families are refused by what they lack, and have no such option; a narrow network needs all of its layers.
        if regime == Regime::Dino && is_vit && family != Family::NarrowVit {
            c.model.set.insert("drop_path_rate".into(), "0.1".into());
        }
        c.optimizer.momentum = if family == Family::Points { 0. } else { TrainConfig::default().optimizer.momentum };
    })
}

/// What DINO trains of a narrow network from scratch where nothing else is said: the mean of the patches, if `own`, the model as its name
/// says, has them and the class token to choose from. In runs of a few thousand steps it comes to know more of an image.
pub fn pool_of_dino(config: &mut TrainConfig, own: &Architecture) {
    let Architecture::Vit(vit) = own else { return };
    let chooses = vit.class_token && vit.global_pool == GlobalPool::Token && Family::of(own) == Family::NarrowVit;
    if config.pretraining.method == Some(Method::Dino) && config.model.weights.is_none() && chooses {
        config.model.set.entry("global_pool".into()).or_insert_with(|| "avg".into());
    }
}

/// Settles what `config` leaves to the number of training samples: the size of batches, the number of epochs, which few samples
/// need more of to come to as many steps, and how often is evaluated. What it says in numbers stays as it is, and so do the epochs
/// while the size of the batches is still looked for ([`BatchSize::Auto`]).
pub fn by_data(config: &mut TrainConfig, architecture: &Architecture, samples: usize) {
    struct Row {
        /// The size of batches of few samples, and of as many as make a hundred steps an epoch.
        batches: [usize; 2],
        /// The least of both that a run comes to.
        epochs: usize,
        steps: usize,
    }
    let row = |batches, epochs, steps| Row { batches, epochs, steps };
    let Row { batches, epochs, steps } = match (Family::of(architecture), Regime::of(config)) {
        (Family::Vit | Family::MaskedVit, Regime::Scratch) => row([16, 64], 10, 1000),
        (Family::NarrowVit, Regime::Scratch) => row([128, 128], 10, 2000),
        (Family::Vit | Family::NarrowVit | Family::MaskedVit | Family::Cnn, Regime::Probe) => row([32, 32], 30, 300),
        (Family::Vit | Family::NarrowVit | Family::MaskedVit, Regime::Pretrained) => row([16, 32], 3, 200),
        (Family::NarrowVit, Regime::Mae) => row([64, 128], 20, 5000),
        (_, Regime::Mae) => row([32, 128], 50, 5000),
        (Family::NarrowVit, Regime::Dino) => row([32, 32], 10, 5000),
        (_, Regime::Dino) => row([32, 64], 20, 5000),
        (Family::Cnn, Regime::Scratch) => row([16, 128], 20, 1200),
        (Family::Cnn, Regime::Pretrained) => row([16, 128], 5, 300),
        (Family::Mlp, Regime::Scratch) => row([16, 128], 20, 2400),
        (Family::Mlp, _) => row([16, 128], 5, 300),
        (Family::Points, Regime::Scratch) => row([10, 10], 150, 0),
        (Family::Points, _) => row([10, 10], 50, 0),
    };
    let length = &mut config.length;
    if length.batch_size == BatchSize::ByData {
        let [few, many] = batches;
        // The largest power of two of which an epoch has some sixty batches, between the two.
        length.batch_size = (samples / 60 + 1).next_power_of_two().clamp(few, many).into();
    }
    let mut chosen = false;
    if let (Count::Auto, Some(batch_size)) = (length.epochs, length.batch_size.number()) {
        let steps_per_epoch = samples.div_ceil(batch_size).div_ceil(length.accumulate).max(1);
        length.epochs = Count::Of((steps as f64 / steps_per_epoch as f64).round().max(epochs as f64) as usize);
        chosen = true;
    }
    if let (Count::Auto, Some(epochs)) = (length.eval_every, length.epochs.number()) {
        length.eval_every = Count::Of(if chosen { epochs.div_ceil(10) } else { 1 });
    }
}

/// What the settings came to, in a line.
pub fn in_words(config: &TrainConfig, steps_per_epoch: usize, head_first: bool) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let optimizer = match config.optimizer.optimizer {
        OptimizerKind::Sgd => "SGD",
        OptimizerKind::Adam => "Adam",
        OptimizerKind::Adamw => "AdamW",
    };
    let mut words = vec![
        optimizer.to_string(),
        format!("lr {:e}", config.optimizer.lr),
        format!("batches of {}", config.batch_size()),
        format!("{} of {}", count(config.epochs(), "epoch"), count(steps_per_epoch, "step")),
    ];
    words.extend(config.regularization.layer_decay.map(|decay| format!("layer decay {decay}")));
    words.push(format!("augment {}", config.data.augment));
    let pool = config.model.set.get("global_pool").filter(|_| config.pretraining.method == Some(Method::Dino));
    words.extend(pool.map(|pool| match pool.as_str() {
        "avg" => "global pool avg (the mean of the patches)".into(),
        pool => format!("global pool {pool}"),
    }));
    if head_first {
        words.push(format!("the head alone first for {}", count(config.optimizer.head_first_steps, "step")));
    }
    if config.eval_every() > 1 {
        words.push(format!("evaluated every {} epochs", config.eval_every()));
    }
    let kernels = config.compute.kernels.iter().filter(|_| config.compute.device == "cpu");
    words.extend(kernels.filter(|kernels| **kernels != Kernels::fixed().to_string()).map(|k| format!("kernels {k}")));
    words.join(", ")
}

/// Steps of warm-up where the user names none: a tenth of all for cosine, else none.
pub fn warmup_steps(schedule: ScheduleKind, total_steps: usize) -> usize {
    if schedule == ScheduleKind::Cosine { total_steps / 10 } else { 0 }
}
