//! Settings of training without labels: what they can be, and what they are where they are left open.

use tallow_models::pretraining::sinusoidal_2d;
use tallow_models::vit::{GlobalPool, PosEmbed, RopeType};
use tallow_models::{Architecture, Params, VitConfig};

use super::config::{BatchSize, Method, Normalize, PretrainingSettings, RegularizationSettings, TrainConfig};
use super::error::{Error, Result};
use crate::data::{Augment, Crop, Dataset};

/// Labelled training images among which neighbours are looked for while a model is trained.
const KNN_LIMIT: usize = 2000;

impl PretrainingSettings {
    /// The same with those left open that `asked` leaves open: what a run has settled of them since is as it was asked for.
    #[must_use]
    pub fn as_left_open(self, asked: &Self) -> Self {
        let table = |settings: &Self| toml::Table::try_from(settings).unwrap_or_default();
        let (mut own, asked) = (table(&self), table(asked));
        own.retain(|key, _| asked.contains_key(key));
        own.try_into().unwrap_or(self)
    }

    /// Checks that every setting makes sense by itself.
    ///
    /// # Errors
    /// [`Error::Config`] names the first one that does not.
    pub(super) fn validate(&self) -> Result<()> {
        let check = |field: &str, holds: bool, expected: &str, got: String| {
            if holds { Ok(()) } else { Err(Error::config(field, expected, got)) }
        };
        let counts = [
            ("decoder_dim", self.decoder_dim),
            ("decoder_heads", self.decoder_heads),
            ("local_crops_size", self.local_crops_size),
            ("out_dim", self.out_dim),
            ("head_hidden_dim", self.head_hidden_dim),
            ("head_bottleneck_dim", self.head_bottleneck_dim),
        ];
        for (field, count) in counts {
            let count = count.unwrap_or(1);
            check(field, (1..=1 << 24).contains(&count), "a number of at least 1", count.to_string())?;
        }
        let crops = self.global_crops.unwrap_or(2);
        check("global_crops", (2..=64).contains(&crops), "a number from 2 to 64", crops.to_string())?;
        let crops = self.local_crops.unwrap_or(0);
        check("local_crops", crops <= 64, "a number of at most 64", crops.to_string())?;
        let depth = self.decoder_depth.unwrap_or(1);
        check("decoder_depth", (1..=1000).contains(&depth), "a number from 1 to 1000", depth.to_string())?;
        let ratio = self.mask_ratio.unwrap_or(0.75);
        check("mask_ratio", ratio > 0. && ratio < 1., "a number above 0 and below 1", ratio.to_string())?;
        let temperatures = [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
            ("warmup_teacher_temperature", self.warmup_teacher_temperature),
            ("temperature", self.temperature),
        ];
        for (field, temperature) in temperatures {
            let temperature = temperature.unwrap_or(1.);
            check(field, temperature.is_finite() && temperature > 0., "a number above 0", temperature.to_string())?;
        }
        for (field, momentum) in
            [("teacher_momentum", self.teacher_momentum), ("center_momentum", self.center_momentum)]
        {
            let momentum = momentum.unwrap_or(0.);
            check(field, (0. ..=1.).contains(&momentum), "a number from 0 to 1", momentum.to_string())?;
        }
        let decay = self.weight_decay_end.unwrap_or(0.);
        check("weight_decay_end", decay.is_finite() && decay >= 0., "a number of at least 0", decay.to_string())?;
        let koleo = self.koleo.unwrap_or(0.);
        check("koleo", koleo.is_finite() && koleo >= 0., "a number of at least 0", koleo.to_string())?;
        let scales = [("global_crops_scale", self.global_crops_scale), ("local_crops_scale", self.local_crops_scale)];
        for (field, scale) in scales {
            let [least, most] = scale.unwrap_or([1.; 2]);
            let expected = "two shares above 0 and at most 1, the smaller one first, such as 0.4,1";
            check(field, 0. < least && least <= most && most <= 1., expected, format!("{least},{most}"))?;
        }
        if let Some(ks) = &self.k {
            let expected = "numbers of at least 1, separated by commas, each once";
            let listed = || ks.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            let once = ks.iter().enumerate().all(|(place, k)| *k > 0 && !ks[..place].contains(k));
            check("k", once && !ks.is_empty(), expected, listed())?;
        }
        Ok(())
    }
}

/// The settings of a masked autoencoder, none left open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MaeSettings {
    pub mask_ratio: f64,
    pub decoder_dim: usize,
    pub decoder_depth: usize,
    pub decoder_heads: usize,
    pub norm_pix: bool,
}

impl MaeSettings {
    /// What `settings` say, and what suits `vit` where they say nothing.
    pub fn of(settings: &PretrainingSettings, vit: &VitConfig) -> Self {
        let narrow = vit.embed_dim <= 128;
        // All patches pass through the decoder: one as wide as the encoder would cost more than that saves.
        let dim = if narrow { vit.embed_dim } else { (vit.embed_dim / 2).min(512) };
        let decoder_dim = settings.decoder_dim.unwrap_or(dim);
        let heads = if decoder_dim.is_multiple_of(vit.num_heads.max(1)) { vit.num_heads } else { 1 };
        Self {
            mask_ratio: settings.mask_ratio.unwrap_or(0.75),
            decoder_dim,
            decoder_depth: settings.decoder_depth.unwrap_or(if narrow { 2 } else { 4 }),
            decoder_heads: settings.decoder_heads.unwrap_or(heads),
            norm_pix: settings.norm_pix.unwrap_or(true),
        }
    }

    /// Of so many patches, those that the encoder sees.
    pub fn seen(&self, patches: usize) -> usize {
        // A product that would be whole in exact arithmetic is.
        (patches as f64 * (1. - self.mask_ratio) + 1e-9).floor() as usize
    }

    fn check(&self, vit: &VitConfig) -> Result<()> {
        let (patches, seen) = (vit.num_patches(), self.seen(vit.num_patches()));
        if seen == 0 || seen >= patches {
            let expected = format!(
                "a share that leaves at least one of the {patches} patches of an image, and hides at least one"
            );
            return Err(Error::config("mask_ratio", expected, format!("{}, which leaves {seen}", self.mask_ratio)));
        }
        if !self.decoder_dim.is_multiple_of(self.decoder_heads) {
            let expected = format!("a divisor of decoder_dim, {}", self.decoder_dim);
            return Err(Error::config("decoder_heads", expected, self.decoder_heads));
        }
        if matches!(vit.global_pool, GlobalPool::Map | GlobalPool::None) {
            let expected = "one that gives a row for every image without an attention of its own, such as token or avg";
            return Err(Error::config("global_pool", expected, vit.global_pool.name()));
        }
        if self.norm_pix && vit.patch_size == 1 && vit.in_chans == 1 {
            return Err(Error::config("norm_pix", "false for patches of a single value", "true"));
        }
        Ok(())
    }
}

/// The settings of DINO, none left open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DinoSettings {
    pub global_crops: usize,
    pub local_crops: usize,
    pub global_crops_scale: [f64; 2],
    pub local_crops_scale: [f64; 2],
    pub local_crops_size: usize,
    pub out_dim: usize,
    pub head_hidden_dim: usize,
    pub head_bottleneck_dim: usize,
    pub student_temperature: f64,
    pub teacher_temperature: f64,
    pub warmup_teacher_temperature: f64,
    pub warmup_teacher_epochs: usize,
    pub teacher_momentum: f64,
    pub center_momentum: f64,
    pub weight_decay_end: f64,
    pub freeze_last_layer: usize,
    pub koleo: f64,
}

impl DinoSettings {
    /// What `settings` say, and what suits `vit` where they say nothing: the paper's values; for the crops of small images those of Gani
    /// et al., "How to Train Vision Transformer on Small-scale Datasets?", 2022; and for narrow networks, and for small images in grey, what
    /// did well on digits.
    pub fn of(settings: &PretrainingSettings, vit: &VitConfig) -> Self {
        let side = vit.img_size.sides().into_iter().min().unwrap_or(1);
        let (small, narrow) = (side <= 64, vit.embed_dim <= 128);
        let patch = vit.patch_pixels().max(1);
        let local = ((side as f64 * 96. / 224. / patch as f64).round() as usize).max(1) * patch;
        let scales = match (small, vit.in_chans) {
            // What is left of a digit in a small crop may be a part of any.
            (true, 1) => [[0.5, 1.]; 2],
            (true, _) => [[0.7, 1.], [0.2, 0.5]],
            (false, _) => [[0.4, 1.], [0.05, 0.4]],
        };
        Self {
            global_crops: settings.global_crops.unwrap_or(2),
            local_crops: settings.local_crops.unwrap_or(if narrow { 2 } else { 8 }),
            global_crops_scale: settings.global_crops_scale.unwrap_or(scales[0]),
            local_crops_scale: settings.local_crops_scale.unwrap_or(scales[1]),
            local_crops_size: settings.local_crops_size.unwrap_or(local),
            out_dim: settings.out_dim.unwrap_or(if small { (4 * vit.embed_dim).min(1024) } else { 65_536 }),
            head_hidden_dim: settings.head_hidden_dim.unwrap_or((4 * vit.embed_dim).min(2048)),
            head_bottleneck_dim: settings.head_bottleneck_dim.unwrap_or(256),
            student_temperature: settings.student_temperature.unwrap_or(0.1),
            teacher_temperature: settings.teacher_temperature.unwrap_or(0.04),
            warmup_teacher_temperature: settings.warmup_teacher_temperature.unwrap_or(0.04),
            warmup_teacher_epochs: settings.warmup_teacher_epochs.unwrap_or(0),
            teacher_momentum: settings.teacher_momentum.unwrap_or(if narrow { 0.95 } else { 0.996 }),
            center_momentum: settings.center_momentum.unwrap_or(0.9),
            weight_decay_end: settings.weight_decay_end.unwrap_or(if narrow { 0.04 } else { 0.4 }),
            freeze_last_layer: settings.freeze_last_layer.unwrap_or(1),
            koleo: settings.koleo.unwrap_or(if small { 0.1 } else { 0. }),
        }
    }

    /// The teacher's temperature in an epoch: a straight line through the warm-up, then the same.
    pub fn temperature_of_teacher(&self, epoch: usize) -> f64 {
        let (first, last) = (self.warmup_teacher_temperature, self.teacher_temperature);
        if epoch >= self.warmup_teacher_epochs {
            return last;
        }
        first + (last - first) * epoch as f64 / (self.warmup_teacher_epochs - 1).max(1) as f64
    }

    fn check(&self, config: &TrainConfig, vit: &VitConfig) -> Result<()> {
        let (patch, size) = (vit.patch_pixels(), self.local_crops_size);
        if self.local_crops > 0 && (size < patch || !size.is_multiple_of(patch)) {
            let what = if size < patch { "is smaller than a patch" } else { "patches do not tile" };
            let expected = format!("a multiple of the patches' {patch} pixels");
            return Err(Error::config("local_crops_size", expected, format!("{size}, which {what}")));
        }
        if vit.global_pool == GlobalPool::None {
            return Err(Error::config("global_pool", "one that gives a row for every image", "none"));
        }
        if config.data.normalize == Normalize::Zca {
            let expected = "standard or none: whitening is fitted to inputs of one size, and crops have several";
            return Err(Error::config("normalize", expected, "zca"));
        }
        dino_changes(&config.data.augment, &[]).map(drop)
    }
}

/// What changes in DINO's crops: `augment`, or where that is auto all of its changes, but for what does not suit the data set, whose own
/// augmentation is `of_data`.
pub(super) fn dino_changes(augment: &str, of_data: &[Augment]) -> Result<Vec<Augment>> {
    if augment.trim() == "auto" {
        let suits = |change: &Augment| *change != Augment::Flip || of_data.contains(&Augment::Flip);
        return Ok(Crop::CHANGES.into_iter().filter(suits).collect());
    }
    let changes = Augment::parse_list(augment)?;
    match changes.iter().find(|change| !Crop::CHANGES.contains(change)) {
        None => Ok(changes),
        Some(other) => {
            let known = Crop::CHANGES.map(Augment::name).join(", ");
            let expected = format!("some of {known}, or none, or auto: where DINO's crops lie is random anyway");
            Err(Error::config("augment", expected, other))
        }
    }
}

/// Checks the settings of pre-training, before data is opened for it.
///
/// # Errors
/// [`Error::Config`] names one that means nothing without labels.
pub fn check_settings(config: &TrainConfig) -> Result<()> {
    let Some(method) = config.pretraining.method.filter(|method| *method != Method::Knn) else { return Ok(()) };
    let plain = TrainConfig::default();
    let only = |field: &str, holds: bool, expected: &str, got: String| {
        let expected = || format!("{expected} with the method {}", method.name());
        if holds { Ok(()) } else { Err(Error::config(field, expected(), got)) }
    };
    let RegularizationSettings { label_smoothing, layer_decay, ema, .. } = &config.regularization;
    only("mixup", config.data.mixup == 0., "0", config.data.mixup.to_string())?;
    only("cutmix", config.data.cutmix == 0., "0", config.data.cutmix.to_string())?;
    only("val_fraction", config.data.val_fraction == 0., "0", config.data.val_fraction.to_string())?;
    only("label_smoothing", *label_smoothing == 0., "0", label_smoothing.to_string())?;
    only("layer_decay", layer_decay.is_none(), "none", layer_decay.unwrap_or_default().to_string())?;
    only("ema", ema.is_none(), "none", ema.unwrap_or_default().to_string())?;
    let freeze = config.model.freeze.as_deref().unwrap_or("none");
    only("freeze", freeze.trim() == "none", "none", freeze.into())?;
    let steps = config.optimizer.head_first_steps;
    only("head_first_steps", steps == 0, "0", steps.to_string())?;
    only("head", config.model.head == plain.model.head, "auto", format!("{:?}", config.model.head).to_lowercase())?;
    let automatic = config.length.batch_size == BatchSize::Auto;
    only("batch_size", !automatic, "a number, or data,", config.length.batch_size.to_string())
}

/// Checks that the model can be pre-trained on the data set as `config` says.
///
/// # Errors
/// If the model cuts no images into patches, there is a single image, or a setting does not fit the model.
pub(super) fn check(config: &TrainConfig, architecture: &Architecture, dataset: &Dataset) -> Result<()> {
    let Some(method) = config.pretraining.method.filter(|method| *method != Method::Knn) else { return Ok(()) };
    if dataset.train.coordinates().is_some() {
        return Err(Error::invalid(&dataset.spec, "images, which have patches", "points"));
    }
    let vit = encoder(config, architecture)?;
    if dataset.train.len() < 2 {
        let got = if dataset.train.len() == 1 { "a single one" } else { "none" };
        return Err(Error::invalid(format!("{}: training images", dataset.spec), "at least two", got));
    }
    if vit.rope_type != RopeType::None || vit.use_rel_pos_bias || vit.use_shared_rel_pos_bias {
        let expected = "positions that are added to the patches, or none: hidden patches and crops have no rotary or relative ones";
        return Err(Error::config("model", expected, format!("{}, which has such", config.model.model)));
    }
    if method == Method::Mae && vit.stem_layers.is_some() {
        let expected =
            "a ViT that cuts patches out of the image itself: a hybrid's convolutions see those that are to be hidden";
        return Err(Error::config("model", expected, &config.model.model));
    }
    match method {
        Method::Mae => MaeSettings::of(&config.pretraining, vit).check(vit),
        _ => DinoSettings::of(&config.pretraining, vit).check(config, vit),
    }
}

/// How many patches of an image the encoder of a masked autoencoder sees.
///
/// # Errors
/// If the model has none, or the settings leave none or all of them.
pub fn seen(config: &TrainConfig, architecture: &Architecture) -> Result<usize> {
    let vit = encoder(config, architecture)?;
    let settings = MaeSettings::of(&config.pretraining, vit);
    settings.check(vit)?;
    Ok(settings.seen(vit.num_patches()))
}

/// About how many whole images the encoder sees of every one in a step.
pub(super) fn views(config: &TrainConfig, architecture: &Architecture) -> f64 {
    let Architecture::Vit(vit) = architecture else { return 1. };
    match config.pretraining.method {
        Some(Method::Mae) => 1. - MaeSettings::of(&config.pretraining, vit).mask_ratio,
        Some(Method::Dino) => {
            let settings = DinoSettings::of(&config.pretraining, vit);
            let small = settings.local_crops_size.pow(2) as f64 / vit.img_size.sides().iter().product::<usize>() as f64;
            // The teacher has no backward pass.
            settings.global_crops as f64 * 4. / 3. + settings.local_crops as f64 * small
        }
        _ => 1.,
    }
}

/// The encoder: a vision transformer.
fn encoder<'a>(config: &TrainConfig, architecture: &'a Architecture) -> Result<&'a VitConfig> {
    match architecture {
        Architecture::Vit(vit) => Ok(vit),
        other => {
            let got = format!("{}, of the family {}, which has no patches", config.model.model, other.family());
            Err(Error::config("model", "a vision transformer, which cuts images into patches", got))
        }
    }
}

/// Gives an autoencoder's encoder its fixed positions, unless weights were `loaded`, whose own stay fixed; and leaves alone what no loss
/// reaches. It comes before the model is built.
///
/// # Errors
/// If memory cannot be had.
pub fn prepare(config: &TrainConfig, architecture: &Architecture, params: &Params, loaded: bool) -> Result<()> {
    let (Some(Method::Mae), Architecture::Vit(vit)) = (config.pretraining.method, architecture) else { return Ok(()) };
    params.freeze(|name| name == "pos_embed" || name.starts_with("fc_norm."));
    if !loaded && vit.pos_embed == PosEmbed::Learned {
        let positions = sinusoidal_2d(vit.grid_size(), vit.embed_dim, vit.num_positions() - vit.num_patches())?;
        params.provide("pos_embed", positions.unsqueeze(0)?.to_device(params.device())?);
    }
    Ok(())
}

/// Every setting of the method that was left open takes the value that is used; those of other methods stay open.
pub fn settle(config: &mut TrainConfig, architecture: &Architecture) {
    let Architecture::Vit(vit) = architecture else { return };
    let own = &mut config.pretraining;
    match own.method {
        Some(Method::Mae) => {
            let MaeSettings { mask_ratio, decoder_dim, decoder_depth, decoder_heads, norm_pix } =
                MaeSettings::of(own, vit);
            own.mask_ratio = Some(mask_ratio);
            own.decoder_dim = Some(decoder_dim);
            own.decoder_depth = Some(decoder_depth);
            own.decoder_heads = Some(decoder_heads);
            own.norm_pix = Some(norm_pix);
        }
        Some(Method::Dino) => {
            let settled = DinoSettings::of(own, vit);
            own.global_crops = Some(settled.global_crops);
            own.local_crops = Some(settled.local_crops);
            own.global_crops_scale = Some(settled.global_crops_scale);
            own.local_crops_scale = Some(settled.local_crops_scale);
            own.local_crops_size = Some(settled.local_crops_size);
            own.out_dim = Some(settled.out_dim);
            own.head_hidden_dim = Some(settled.head_hidden_dim);
            own.head_bottleneck_dim = Some(settled.head_bottleneck_dim);
            own.student_temperature = Some(settled.student_temperature);
            own.teacher_temperature = Some(settled.teacher_temperature);
            own.warmup_teacher_temperature = Some(settled.warmup_teacher_temperature);
            own.warmup_teacher_epochs = Some(settled.warmup_teacher_epochs);
            own.teacher_momentum = Some(settled.teacher_momentum);
            own.center_momentum = Some(settled.center_momentum);
            own.weight_decay_end = Some(settled.weight_decay_end);
            own.freeze_last_layer = Some(settled.freeze_last_layer);
            own.koleo = Some(settled.koleo);
        }
        _ => return,
    }
    own.knn_limit = Some(own.knn_limit.unwrap_or(KNN_LIMIT));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_has_its_values_and_small_images_and_narrow_networks_have_theirs() {
        let of = |img_size: usize, in_chans: usize, embed_dim: usize| {
            let vit = VitConfig::default().with(|c| {
                (c.img_size, c.patch_size, c.in_chans, c.embed_dim) =
                    (img_size.into(), img_size / 4, in_chans, embed_dim);
            });
            DinoSettings::of(&PretrainingSettings::default(), &vit)
        };
        let paper = of(224, 3, 384);
        assert_eq!((paper.out_dim, paper.koleo, paper.local_crops, paper.teacher_momentum), (65_536, 0., 8, 0.996));
        assert_eq!([paper.global_crops_scale, paper.local_crops_scale], [[0.4, 1.], [0.05, 0.4]]);
        let small = of(32, 3, 192);
        assert_eq!((small.out_dim, small.koleo, small.local_crops, small.weight_decay_end), (768, 0.1, 8, 0.4));
        assert_eq!([small.global_crops_scale, small.local_crops_scale], [[0.7, 1.], [0.2, 0.5]]);
        let digits = of(28, 1, 64);
        assert_eq!((digits.out_dim, digits.local_crops, digits.teacher_momentum), (256, 2, 0.95));
        assert_eq!(
            [digits.global_crops_scale, digits.local_crops_scale, [digits.weight_decay_end; 2]],
            [[0.5, 1.], [0.5, 1.], [0.04; 2]]
        );
    }
}
