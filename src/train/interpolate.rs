//! Between two sets of weights: `θ = (1 - α) θ₀ + α θ₁`, measured over α. A model that was fine-tuned from a zero-shot head often does best
//! between the two, most of all on data of another kind.
//!
//! Wortsman et al., "Robust fine-tuning of zero-shot models", 2022 (WiSE-FT).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use serde::Serialize;
use tallow_models::{AnyModel, Architecture, Params};
use tallow_weights::{CheckpointConfig, Head, LoadOptions, OpenOptions, Source, save};

use super::config::TrainConfig;
use super::error::{Error, Result};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate};
use super::evaluate_run::chosen;
use super::event::{Event, Listener};
use super::outcome::Start;
use super::relabel::relabelled;
use super::run_folder::RunFolder;
use super::setup;
use super::zero_shot::WordHead;
use crate::data::{Samples, Transform};
use crate::inference::Pretrained;

/// What is measured between two sets of weights.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Interpolate {
    /// Where α is 0: the folder of a run or model with the same parameters, or the CLIP or SigLIP that a zero-shot head of the run's classes is
    /// made by.
    pub base: String,
    /// The values of α.
    pub alphas: Vec<f64>,
    /// Another data set with the same classes to measure on as well.
    pub data: Option<String>,
    /// Another device. Default: the run's own.
    pub device: Option<String>,
    /// The hub.
    pub hub: OpenOptions,
}

/// What one α came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AtAlpha {
    /// 0 is the base, 1 the run.
    pub alpha: f64,
    /// On the run's validation part, where it has one.
    pub val_accuracy: Option<f64>,
    /// As above.
    pub val_loss: Option<f64>,
    /// On the run's test part.
    pub test_accuracy: f64,
    /// As above.
    pub test_loss: f64,
    /// On the other data.
    pub other_accuracy: Option<f64>,
    /// As above.
    pub other_loss: Option<f64>,
}

/// The models between two sets of weights, measured.
#[derive(Debug)]
pub struct Interpolated {
    /// In the order of α.
    pub points: Vec<AtAlpha>,
    /// Which of them was chosen, and why: the best on the validation part, or the only one. None where nothing chooses.
    pub chosen: Option<(usize, &'static str)>,
    /// The data sets: the run's own, and the other one.
    pub data: (String, Option<String>),
    config: CheckpointConfig,
    between: Between,
}

impl Interpolate {
    /// Between `base` and a run, over these values of α.
    pub fn new(base: &str, alphas: Vec<f64>) -> Self {
        Self { base: base.into(), alphas, data: None, device: None, hub: OpenOptions::default() }
    }

    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Measures the models between the base and the chosen checkpoint of the run in `folder`.
    ///
    /// # Errors
    /// If the folder holds no run, the two have not the same parameters, or the run's data is not what it was.
    pub fn run(&self, folder: &RunFolder, listener: &mut dyn Listener) -> Result<Interpolated> {
        self.check()?;
        let config = folder.config()?;
        let (config, dataset) = setup::open_for_run(&config, folder, Start::Resume, &self.hub)?;
        let tuned = chosen(folder, &config, (self.device.as_deref(), None))?;
        let base = self.base(&config, &tuned, &dataset)?;
        let between = Between::new(&base, tuned.params(), &self.base)?;
        let described = tuned.config().clone();
        let model = described.architecture.build(between.params.eval_builder())?;
        let names = described.labels.as_deref();
        let classes = described.architecture.num_classes();
        let other = match &self.data {
            None => None,
            Some(data) => {
                let named = TrainConfig::new(&config.model.model, data).with(|c| {
                    c.data.exif = config.data.exif;
                    c.data.on_bad_image = config.data.on_bad_image;
                });
                let other = setup::open_whole(&named, &self.hub)?;
                other.notes.iter().for_each(|note| listener.on(&Event::Warning(note.clone())));
                Some(relabelled(&other.test, &other, names, classes, listener)?)
            }
        };
        let own = |samples: &Arc<dyn Samples>, listener: &mut dyn Listener| {
            relabelled(samples, &dataset, names, classes, listener)
        };
        let val = dataset.val.as_ref().map(|val| own(val, listener)).transpose()?;
        let test = own(&dataset.test, listener)?;
        let measured = Parts { val, test, other, transform: tuned.transform()? };
        let mut points = Vec::new();
        for &alpha in &self.alphas {
            between.set(alpha)?;
            points.push(measured.at(alpha, &model, &between.params, listener)?);
        }
        let chosen = choose(&points);
        if let Some((at, _)) = chosen {
            between.set(points[at].alpha)?;
        }
        Ok(Interpolated { points, chosen, data: (config.data.data, self.data.clone()), config: described, between })
    }

    fn check(&self) -> Result<()> {
        let sensible = |alpha: &f64| (0. ..=1.).contains(alpha);
        match self.alphas.iter().find(|alpha| !sensible(alpha)) {
            Some(alpha) => Err(Error::config("alpha", "numbers from 0 (the base) to 1 (the run)", alpha)),
            None if self.alphas.is_empty() => Err(Error::config("alpha", "at least one number", "none")),
            None => Ok(()),
        }
    }

    /// The parameters of the base, on the device of the run's model.
    fn base(&self, config: &TrainConfig, tuned: &Pretrained, dataset: &crate::data::Dataset) -> Result<Params> {
        let source = Source::parse(&self.base)?;
        let described = tuned.config();
        let checkpoint = tallow_weights::open(&source, &self.hub)?;
        let (own, _) = checkpoint.config_or_inferred()?;
        // Of the same names: a base for images of another size is adapted as any other checkpoint.
        let named = |architecture: &Architecture| -> Result<Vec<String>> {
            Ok(architecture.parameters()?.into_iter().map(|spec| spec.name).collect())
        };
        let same = named(&own.architecture)? == named(&described.architecture)?;
        let params = Params::new(config.compute.seed, tuned.dtype(), tuned.device());
        let words = match same {
            true => None,
            // The zero-shot model of the run's classes.
            false => {
                let asked = config.clone().with(|c| {
                    c.model.head = super::config::Head::ZeroShot;
                    c.model.weights = Some(self.base.clone());
                    c.compute.device = self.device.clone().unwrap_or(c.compute.device.clone());
                });
                let words = WordHead::of(&asked, dataset, &self.hub).map_err(|error| {
                    let other = other_parameter(&own.architecture, &described.architecture);
                    let other =
                        other.map_or(String::new(), |name| format!(" ({name} is a parameter of one of them alone)"));
                    self.another(&format!("another architecture{other}, and no head made of words: {error}"))
                })?;
                let made = words.as_ref().map(|words| words.architecture(&own)).transpose()?;
                let fits = |made: &Architecture| Ok::<_, Error>(named(made)? == named(&described.architecture)?);
                if !made.as_ref().map_or(Ok(false), fits)? {
                    return Err(self.another("another architecture"));
                }
                if let Some(made) = &made {
                    self.check_alike(made, &described.architecture)?;
                }
                words
            }
        };
        if same {
            self.check_alike(&own.architecture, &described.architecture)?;
        }
        let load = LoadOptions::default().with(|c| {
            c.head = if words.is_some() { Head::New } else { Head::Keep };
            c.labels = if words.is_some() { None } else { described.labels.clone() };
        });
        let mut account = tallow_weights::load(&checkpoint, &described.architecture, &load, &params)?;
        if let Some(words) = words {
            words.provide(&params, &mut account)?;
        }
        drop(described.architecture.build(params.eval_builder())?);
        params.check_taken()?;
        Ok(params)
    }

    /// Refuses a base that computes something else of the same parameters.
    fn check_alike(&self, base: &Architecture, run: &Architecture) -> Result<()> {
        let Some((field, base, run)) = difference(base, run) else { return Ok(()) };
        let expected = format!("a model with {field} = {run}, as the run's");
        let got = format!("{base}: between models that compute something else of their parameters there is nothing");
        Err(Error::invalid(&self.base, expected, got))
    }

    fn another(&self, got: &str) -> Error {
        let expected = "a model with the parameters of the run's (what it was fine-tuned from, or another run of it), or the CLIP or SigLIP \
                        that its zero-shot head was made by";
        Error::invalid(&self.base, expected, got)
    }
}

/// A parameter that one of the two has and the other has not.
fn other_parameter(one: &Architecture, other: &Architecture) -> Option<String> {
    let named = |architecture: &Architecture| -> Option<Vec<String>> {
        Some(architecture.parameters().ok()?.into_iter().map(|spec| spec.name).collect())
    };
    let (one, other) = (named(one)?, named(other)?);
    let lacks = |names: &[String], others: &[String]| names.iter().find(|name| !others.contains(name)).cloned();
    lacks(&one, &other).or_else(|| lacks(&other, &one))
}

/// The first field in which two architectures with the same parameters compute different things, with both of its values. Images of another
/// size are no such difference, nor is what parameters begin with or is dropped in training.
fn difference(one: &Architecture, other: &Architecture) -> Option<(String, String, String)> {
    // What tensors show, too: each has its own check.
    const SHOWN: [&str; 9] = [
        "img_size",
        "patch_size",
        "in_chans",
        "num_classes",
        "init_values",
        "trim",
        "fc_norm",
        "mlp_ratio",
        "head_proj",
    ];
    let fields = |architecture: &Architecture| {
        let mut architecture = architecture.clone();
        if let Architecture::Vit(vit) = &mut architecture {
            // None stands for those of the blocks.
            vit.attn_pool_num_heads = vit.attn_pool_num_heads.filter(|heads| *heads != vit.num_heads);
            vit.attn_pool_mlp_ratio = None;
        }
        serde_json::to_value(architecture).ok()
    };
    let (one, other) = (fields(one)?, fields(other)?);
    let differs = |(name, value): &(&String, &serde_json::Value)| {
        let counts = !SHOWN.contains(&name.as_str()) && !name.contains("drop");
        counts && other.get(name.as_str()) != Some(value)
    };
    let (name, value) = one.as_object()?.iter().find(differs)?;
    Some((name.clone(), value.to_string(), other.get(name).map_or("none".into(), ToString::to_string)))
}

/// The samples that are measured, labelled in the order of the model's classes.
struct Parts {
    val: Option<Arc<dyn Samples>>,
    test: Arc<dyn Samples>,
    other: Option<Arc<dyn Samples>>,
    transform: Arc<Transform>,
}

impl Parts {
    fn at(&self, alpha: f64, model: &AnyModel, params: &Params, listener: &mut dyn Listener) -> Result<AtAlpha> {
        let mut measure = |samples: &Arc<dyn Samples>| -> Result<Evaluation> {
            let total = samples.len();
            let progress = |done| listener.on(&Event::Evaluation { done, total });
            evaluate(model, samples, &self.transform, params.device(), &EvaluateOptions::default(), progress)
        };
        let val = self.val.as_ref().map(&mut measure).transpose()?;
        let test = measure(&self.test)?;
        let other = self.other.as_ref().map(&mut measure).transpose()?;
        Ok(AtAlpha {
            alpha,
            val_accuracy: val.as_ref().map(|val| val.accuracy),
            val_loss: val.as_ref().map(|val| val.loss),
            test_accuracy: test.accuracy,
            test_loss: test.loss,
            other_accuracy: other.as_ref().map(|other| other.accuracy),
            other_loss: other.as_ref().map(|other| other.loss),
        })
    }
}

/// The best on the validation part, of equal ones that with the lowest loss; or the only one there is. The test part chooses nothing.
fn choose(points: &[AtAlpha]) -> Option<(usize, &'static str)> {
    if points.len() == 1 {
        return Some((0, "given"));
    }
    let merit = |point: &AtAlpha| Some((point.val_accuracy?, -point.val_loss?));
    let merits: Vec<(f64, f64)> = points.iter().map(merit).collect::<Option<_>>()?;
    let better = |a: &(f64, f64), b: &(f64, f64)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1));
    let best =
        (0..merits.len()).reduce(|best, at| if better(&merits[at], &merits[best]).is_gt() { at } else { best })?;
    Some((best, "val_accuracy"))
}

/// Two sets of the same parameters, and those between them.
#[derive(Debug)]
struct Between {
    /// By name, at 0 and at 1.
    ends: Vec<(String, Tensor, Tensor)>,
    params: Params,
}

impl Between {
    fn new(base: &Params, tuned: &Params, name: &str) -> Result<Self> {
        let params = Params::new(0, tuned.dtype(), tuned.device());
        let of_base: HashMap<String, Tensor> =
            base.all().into_iter().map(|param| (param.name, param.var.as_detached_tensor())).collect();
        let mut ends = Vec::new();
        for param in tuned.all() {
            let end = param.var.as_detached_tensor();
            let start = of_base.get(&param.name).filter(|start| start.dims() == end.dims());
            let start = start.ok_or_else(|| {
                Error::invalid(name, format!("a parameter {} of shape {:?}", param.name, end.dims()), "none such")
            })?;
            params.provide(&param.name, start.copy()?);
            ends.push((param.name, start.clone(), end));
        }
        Ok(Self { ends, params })
    }

    /// At the ends the values are exactly those of the two.
    fn set(&self, alpha: f64) -> Result<()> {
        for (name, start, end) in &self.ends {
            let value = match alpha {
                0. => start.clone(),
                1. => end.clone(),
                _ => ((start * (1. - alpha))? + (end * alpha)?)?,
            };
            self.params.set(name, &value)?;
        }
        Ok(())
    }
}

impl Interpolated {
    /// Writes the chosen model into the folder `dir`, as other models are written: `model.safetensors` and `config.json`.
    ///
    /// # Errors
    /// If none was chosen, or the folder cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        if self.chosen.is_none() {
            return Err(Error::invalid("alpha", "a validation part that chooses, or one value", "neither"));
        }
        Ok(save::timm(dir, &self.between.params, &self.config)?)
    }
}

#[cfg(test)]
mod tests {
    use tallow_models::VitConfig;

    use super::*;

    fn point(alpha: f64, val: Option<(f64, f64)>, test: f64) -> AtAlpha {
        AtAlpha {
            alpha,
            val_accuracy: val.map(|(accuracy, _)| accuracy),
            val_loss: val.map(|(_, loss)| loss),
            test_accuracy: test,
            test_loss: 1.,
            other_accuracy: None,
            other_loss: None,
        }
    }

    #[test]
    fn what_no_tensor_shows_is_a_difference_and_a_size_is_none() {
        let vit = VitConfig::default();
        let with = |change: fn(&mut VitConfig)| Architecture::Vit(vit.clone().with(change));
        let of = |other: &Architecture| difference(&Architecture::Vit(vit.clone()), other).map(|(field, ..)| field);
        assert_eq!(of(&with(|c| c.act = tallow_models::vit::Act::QuickGelu)).as_deref(), Some("act"));
        assert_eq!(of(&with(|c| c.num_heads = 6)).as_deref(), Some("num_heads"));
        let alike = with(|c| (c.img_size, c.drop_path_rate, c.attn_pool_num_heads) = (384.into(), 0.1, Some(12)));
        assert_eq!(of(&alike), None);
    }

    #[test]
    fn the_validation_part_chooses_and_the_test_part_never() {
        let points =
            [point(0., Some((0.5, 1.)), 0.9), point(0.5, Some((0.8, 0.7)), 0.1), point(1., Some((0.8, 0.6)), 0.2)];
        assert_eq!(choose(&points), Some((2, "val_accuracy")));
        assert_eq!(choose(&[point(0., None, 0.9), point(1., None, 0.2)]), None);
        assert_eq!(choose(&[point(0.3, None, 0.9)]), Some((0, "given")));
    }
}
