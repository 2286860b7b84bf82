//! Features of a frozen backbone, kept in memory: where only the head is trained and nothing about a sample is random, it
//! passes through the backbone once, before the first epoch, and the head alone reads its features from then on.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use tallow_models::Stage;
use tallow_models::{Architecture, Mode, Model, Params};

use super::error::Result;
use super::shared_features::SharedFeatures;
use crate::data::{Augment, Batch, Input, LoaderOptions, Mix, Samples, Transform};

/// Bytes that the features of all parts of a data set may take: 1 GiB, 700,000 samples of a ViT-S.
pub(super) const LIMIT: u64 = 1 << 30;

/// Which features are the same in every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct FixedFeatures {
    /// Those of the training part.
    pub train: bool,
    /// Those of the parts that are evaluated.
    pub evaluated: bool,
}

impl FixedFeatures {
    /// What the parameters that are trained, the architecture, the augmentation and the mixing lead to.
    pub fn of(architecture: &Architecture, params: &Params, augment: &[Augment], mix: &Mix) -> Self {
        let evaluated = architecture.head_reads_pooled() && trains_head_alone(architecture, params);
        Self { train: evaluated && augment.is_empty() && mix.is_none() && !architecture.is_random(), evaluated }
    }
}

/// Whether nothing but the head is trained.
pub(super) fn trains_head_alone(architecture: &Architecture, params: &Params) -> bool {
    let trainable = params.trainable();
    !trainable.is_empty() && trainable.iter().all(|param| architecture.stage_of(&param.name) == Stage::Head)
}

/// A part of a data set as what a model reads: its images, or what a frozen backbone makes of them.
pub(super) struct ModelInput {
    samples: Arc<dyn Samples>,
    transform: Arc<Transform>,
    form: Form,
}

enum Form {
    /// The whole model reads images.
    Images,
    /// The same in two steps, through features that stay as they are. A batch is filled up to at least so many images.
    ThroughFeatures(usize),
    /// The head reads the features of all samples, `[samples, num_features]`.
    Features(Tensor),
}

/// What the features of a part took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Computed {
    /// Seconds in which they were computed.
    pub seconds: f64,
    /// Whether that was done by another run, whose features these are.
    pub shared: bool,
}

impl ModelInput {
    /// Samples that pass through the whole model every time.
    pub fn images(samples: &Arc<dyn Samples>, transform: &Arc<Transform>) -> Self {
        Self { samples: samples.clone(), transform: transform.clone(), form: Form::Images }
    }

    /// Samples whose features are always the same.
    ///
    /// A matrix product may round a row differently where it has fewer rows. Batches smaller than `at_least` are filled up,
    /// so that a sample has the same features in whichever batch it comes.
    pub fn frozen(samples: &Arc<dyn Samples>, transform: &Arc<Transform>, at_least: usize) -> Self {
        let form = Form::ThroughFeatures(at_least.min(samples.len()));
        Self { samples: samples.clone(), transform: transform.clone(), form }
    }

    pub fn samples(&self) -> &Arc<dyn Samples> {
        &self.samples
    }

    pub fn transform(&self) -> &Arc<Transform> {
        &self.transform
    }

    /// Whether features are the same in every epoch.
    pub fn is_fixed(&self) -> bool {
        !matches!(self.form, Form::Images)
    }

    /// Computes the features of all samples by `model`, or takes those that another run has left in `shared`, so that
    /// [`ModelInput::batches`] gives these and no images from now on; `progress` is told how many are done. None if that says false.
    ///
    /// # Errors
    /// If a sample cannot be read, or those of the model.
    pub fn keep(
        &mut self,
        model: &dyn Model,
        options: LoaderOptions,
        device: &Device,
        shared: Option<&SharedFeatures>,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Option<Computed>> {
        let Form::ThroughFeatures(at_least) = self.form else { return Ok(None) };
        let place = shared.map(|shared| shared.place(&*self.samples, options.batch_size, at_least)).transpose()?;
        if let Some((features, seconds)) = place.as_ref().and_then(|place| place.read(self.samples.len(), device)) {
            self.form = Form::Features(features);
            progress(self.samples.len());
            return Ok(Some(Computed { seconds, shared: true }));
        }
        let began = Instant::now();
        let (order, mut rows, mut done) = ((0..self.samples.len()).collect(), Vec::new(), 0);
        for batch in Input::new(self.samples.clone(), order, self.transform.clone(), options, device)? {
            let batch = batch?;
            rows.push(pooled(model, &batch.images, at_least, Mode::Eval)?.detach());
            done += batch.indices.len();
            if !progress(done) {
                return Ok(None);
            }
        }
        let features = Tensor::cat(&rows, 0)?.contiguous()?;
        let seconds = began.elapsed().as_secs_f64();
        if let Some(place) = place {
            place.write(&features, seconds)?;
        }
        self.form = Form::Features(features);
        Ok(Some(Computed { seconds, shared: false }))
    }

    /// The features of all samples, `[samples, num_features]`, where they are kept.
    pub fn features(&self) -> Option<&Tensor> {
        match &self.form {
            Form::Features(features) => Some(features),
            _ => None,
        }
    }

    /// Whether the features of all samples are kept, so that [`ModelInput::batches`] gives these and no images.
    pub fn is_kept(&self) -> bool {
        self.features().is_some()
    }

    /// The batches of the samples at `order`, their images on `device`.
    ///
    /// # Errors
    /// Those of [`Input::new`].
    pub fn batches(&self, order: Vec<usize>, options: LoaderOptions, device: &Device) -> Result<Batches> {
        Ok(match &self.form {
            Form::Features(features) => Batches::Features {
                features: features.clone(),
                samples: self.samples.clone(),
                order,
                batch_size: options.batch_size,
                done: 0,
            },
            _ => {
                let input = Input::new(self.samples.clone(), order, self.transform.clone(), options, device)?;
                Batches::Images(Box::new(input))
            }
        })
    }

    /// The logits of `model` for one of the batches.
    ///
    /// # Errors
    /// Those of the model.
    pub fn forward(&self, model: &dyn Model, input: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(match &self.form {
            Form::Images => model.forward(input, mode)?,
            Form::ThroughFeatures(at_least) => model.head(&pooled(model, input, *at_least, mode)?)?,
            Form::Features(_) => model.head(input)?,
        })
    }
}

/// What the head reads of a batch that is filled up.
fn pooled(model: &dyn Model, images: &Tensor, at_least: usize, mode: Mode) -> Result<Tensor> {
    Ok(model.pooled(&filled_up(images, at_least)?, mode)?.narrow(0, 0, images.dim(0)?)?)
}

/// A batch with its first image repeated at the end, so that there are at least so many.
fn filled_up(images: &Tensor, at_least: usize) -> Result<Tensor> {
    let missing = at_least.saturating_sub(images.dim(0)?);
    if missing == 0 {
        return Ok(images.clone());
    }
    let fill = images.narrow(0, 0, 1)?;
    Ok(Tensor::cat(&[&[images][..], &vec![&fill; missing]].concat(), 0)?)
}

/// The batches of a [`ModelInput`], in order.
pub(super) enum Batches {
    Images(Box<Input>),
    Features { features: Tensor, samples: Arc<dyn Samples>, order: Vec<usize>, batch_size: usize, done: usize },
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Images(input) => input.next().map(|batch| Ok(batch?)),
            Self::Features { features, samples, order, batch_size, done } => {
                let indices: Vec<usize> = order[*done..].iter().take(*batch_size).copied().collect();
                *done += indices.len();
                (!indices.is_empty()).then(|| {
                    let rows = Tensor::from_iter(indices.iter().map(|&index| index as u32), features.device())?;
                    let labels = Tensor::from_iter(indices.iter().map(|&index| samples.label(index)), &Device::Cpu)?;
                    Ok(Batch { images: features.index_select(&rows, 0)?, labels, indices, bad: Vec::new() })
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use candle_core::{DType, Device, Tensor};
    use tallow_models::{Mode, Model, Params, zoo};

    use super::{FixedFeatures, LIMIT};
    use crate::data::{self, Augment, Image, Mix, Samples};
    use crate::train::config::Normalize;
    use crate::train::fit::fit_in;
    use crate::train::run::Session;
    use crate::train::{Event, Listener, Outcome, RunFolder, Setup, Start, TrainConfig, freeze};

    #[derive(Default)]
    struct Warnings(Vec<String>);

    impl Listener for Warnings {
        fn on(&mut self, event: &Event) {
            if let Event::Warning(text) = event {
                self.0.push(text.clone());
            }
        }
    }

    /// Counts how often a sample is decoded.
    struct Counting(Arc<dyn Samples>, Arc<AtomicUsize>);

    impl Samples for Counting {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn label(&self, index: usize) -> u32 {
            self.0.label(index)
        }

        fn image(&self, index: usize) -> data::Result<Image> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.image(index)
        }

        fn name(&self, index: usize) -> String {
            self.0.name(index)
        }

        fn digest(&self, index: usize) -> data::Result<data::Digest> {
            self.0.digest(index)
        }
    }

    /// A run of three epochs of six steps, the last of which has a single sample.
    fn config(model: &str, freeze: &str, augment: &str) -> TrainConfig {
        let set: &[(&str, &str)] = match model {
            "vit_mnist" => &[("embed_dim", "16"), ("depth", "2"), ("num_heads", "2")],
            _ => &[("in_chans", "1")],
        };
        TrainConfig::default().with(|c| {
            c.model.model = model.into();
            c.data.data = "mnist".into();
            c.data.limit = Some(91);
            c.data.test_limit = Some(40);
            c.data.val_fraction = 0.1;
            c.length.epochs = 3.into();
            c.length.batch_size = 16.into();
            c.optimizer.lr = 1e-2;
            c.compute.seed = 3;
            c.compute.device = "cpu".into();
            c.data.augment = augment.into();
            c.model.freeze = Some(freeze.into());
            c.model.set = set.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        })
    }

    /// What a run comes to.
    struct Came {
        /// The trained weights.
        weights: Vec<Vec<u32>>,
        /// Those of the epochs.
        losses: Vec<[f64; 3]>,
        /// How often a training image was decoded.
        decoded: usize,
        warnings: Vec<String>,
    }

    fn result(config: &TrainConfig, limit: u64) -> Came {
        let directory = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(directory.path().join("run"));
        let mut setup = Setup::new(config).unwrap();
        let decoded = Arc::new(AtomicUsize::new(0));
        setup.dataset.train = Arc::new(Counting(setup.dataset.train.clone(), decoded.clone()));
        let (params, mut warnings) = (setup.params.clone(), Warnings::default());
        let stop = &AtomicBool::new(false);
        let (folder, began) = (&folder, std::time::Instant::now());
        let session = Session { folder, start: Start::New, stop, began, features_limit: limit };
        let outcome = fit_in(session, setup, &mut warnings).unwrap();
        assert!(matches!(outcome, Outcome::Finished(_)));
        let bits = |tensor: &Tensor| -> Vec<u32> {
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|value| value.to_bits()).collect()
        };
        let weights = params.all().iter().map(|param| bits(param.var.as_tensor())).collect();
        let epochs = folder.metrics().unwrap().epochs;
        let losses = epochs.iter().map(|e| [e.train_loss, e.val_loss.unwrap(), e.test_loss]).collect();
        Came { weights, losses, decoded: decoded.load(Ordering::Relaxed), warnings: warnings.0 }
    }

    #[test]
    fn kept_features_give_the_run_that_computing_them_anew_gives_to_the_last_bit() {
        for (model, freeze, normalize) in [
            ("vit_mnist", "backbone", Normalize::Auto),
            ("vit_mnist", "blocks.*,patch_embed.*,cls_token,pos_embed,norm.*", Normalize::Auto),
            ("mlp_mnist", "backbone", Normalize::Zca),
            ("cnn_cifar10", "backbone", Normalize::Auto),
        ] {
            let config = config(model, freeze, "none").with(|c| c.data.normalize = normalize);
            let (kept, anew) = (result(&config, LIMIT), result(&config, 0));
            // The whitening is fitted to them first.
            let before = if normalize == Normalize::Zca { 81 } else { 0 };
            let decoded = (kept.decoded - before, anew.decoded - before);
            assert_eq!(decoded, (81, 3 * 81), "{model}: decoded training images");
            assert!(kept.weights == anew.weights, "{model}: other weights");
            assert_eq!(kept.losses, anew.losses, "{model}");
            assert!(
                !kept.warnings.concat().contains("MiB") && anew.warnings[0].contains("MiB"),
                "{:?}, {:?}",
                kept.warnings,
                anew.warnings
            );
        }
    }

    #[test]
    fn augmentation_is_drawn_anew_in_every_epoch_and_only_the_evaluated_features_are_kept() {
        let config = config("vit_mnist", "backbone", "crop");
        let (kept, anew) = (result(&config, LIMIT), result(&config, 0));
        assert_eq!((kept.decoded, anew.decoded), (3 * 81, 3 * 81));
        assert!(kept.weights == anew.weights && kept.losses == anew.losses);
        assert!(kept.warnings[0].contains("`augment = none`"), "{:?}", kept.warnings);
    }

    #[test]
    fn features_are_kept_only_where_every_epoch_would_give_the_same() {
        let fixed = |model: &str, set: &[(&str, &str)], freeze: &str, augment: &[Augment]| {
            let mut architecture = zoo::find(model).unwrap().architecture.clone();
            set.iter().for_each(|(key, value)| architecture.set(key, value).unwrap());
            let params = Params::new(0, DType::F32, &Device::Cpu);
            params.freeze(freeze::rule(freeze, &architecture).unwrap());
            architecture.build(params.builder()).unwrap();
            let fixed = FixedFeatures::of(&architecture, &params, augment, &Mix::default());
            for mix in [Mix { mixup: 0.2, cutmix: 0. }, Mix { mixup: 0., cutmix: 1. }] {
                let mixed = FixedFeatures::of(&architecture, &params, augment, &mix);
                assert_eq!((mixed.train, mixed.evaluated), (false, fixed.evaluated), "{mix:?}");
            }
            (fixed.train, fixed.evaluated)
        };
        let small = [("embed_dim", "16"), ("depth", "2"), ("num_heads", "2")];
        let vit = |more: &[(&str, &str)], freeze: &str, augment: &[Augment]| {
            fixed("vit_mnist", &[&small, more].concat(), freeze, augment)
        };
        assert_eq!(vit(&[], "backbone", &[]), (true, true));
        assert_eq!(vit(&[], "backbone", &[Augment::Flip]), (false, true));
        assert_eq!(vit(&[("drop_path_rate", "0.1")], "backbone", &[]), (false, true));
        assert_eq!(vit(&[("drop_rate", "0.1")], "backbone", &[]), (false, true));
        assert_eq!(vit(&[], "2", &[]), (false, false), "the final norm is trained");
        assert_eq!(vit(&[], "none", &[]), (false, false));
        assert_eq!(vit(&[("distilled", "true")], "backbone", &[]), (false, false), "two heads");
        assert_eq!(fixed("cnn_cifar10", &[("batch_norm", "true")], "backbone", &[]), (false, false), "statistics move");
        assert_eq!(fixed("cnn_cifar10", &[], "backbone", &[]), (true, true));
        assert_eq!(fixed("mlp_mnist", &[("drop_rate", "0.5")], "backbone", &[]), (false, true));
    }

    #[test]
    fn a_frozen_backbone_leaves_no_history_for_the_backward_pass() {
        let mut architecture = zoo::find("vit_mnist").unwrap().architecture.clone();
        architecture.set("drop_path_rate", "0.1").unwrap();
        let params = Params::new(0, DType::F32, &Device::Cpu);
        params.freeze(freeze::rule("backbone", &architecture).unwrap());
        let model = architecture.build(params.builder()).unwrap();
        let images = Tensor::zeros((2, 1, 28, 28), DType::F32, &Device::Cpu).unwrap();
        let pooled = model.pooled(&images, Mode::Train { seed: 0 }).unwrap();
        assert!(!pooled.track_op());
        assert!(model.head(&pooled).unwrap().track_op());
    }
}
