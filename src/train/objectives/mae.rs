//! A masked autoencoder: the encoder sees some of an image's patches, and a decoder is to tell the pixels of the others.
//!
//! He et al., "Masked Autoencoders Are Scalable Vision Learners", 2021 (arXiv 2111.06377). Which patches are hidden follows from (seed,
//! epoch, index): every patch gets a random number, and those with the smallest are seen, as in the paper's code.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tallow_models::pretraining::{MaeDecoder, MaeDecoderConfig, mae_decoder, mae_loss, mae_targets};
use tallow_models::{AnyModel, Mode, Params, VitConfig};

use super::own::{Own, check_taken};
use super::{Objective, Pass, Place, Tested, vit};
use crate::data::Batch;
use crate::train::error::Result;
use crate::train::features::ModelInput;
use crate::train::pretraining::MaeSettings;
use crate::train::warnings;

/// The prefix of the decoder's parameters.
const PREFIX: &str = "mae_decoder";

/// In place of an epoch for what is tested: its masks are the same after every one.
const TESTED: u64 = u64::MAX;

/// Evaluations after which there must be something to see of what was learned.
const EARLY: usize = 2;

/// Images of a sheet.
const PICTURES: usize = 8;

/// The reconstruction of what is hidden.
pub(in crate::train) struct Mae {
    decoder: MaeDecoder,
    own: Own,
    patch: usize,
    patches: usize,
    /// Of them, those that are seen.
    seen: usize,
    norm_pix: bool,
    device: Device,
    seed: u64,
    /// The losses since the last evaluation, each with that of a decoder that says the mean patch whatever it sees.
    losses: Vec<[Tensor; 2]>,
    evaluations: usize,
    warned: bool,
}

/// Which patches of a batch are seen, `[batch, seen]`, and which are not, `[batch, hidden]`, in u32.
pub(in crate::train) struct Masks {
    seen: Tensor,
    hidden: Tensor,
}

impl Masks {
    /// By the random number of every patch of every image, `[batch][patches]`: those with the smallest are seen.
    pub fn of(noise: &[Vec<f32>], seen: usize, device: &Device) -> Result<Self> {
        let hidden = noise.first().map_or(0, Vec::len) - seen;
        let mut sorted = Vec::with_capacity(noise.len() * (seen + hidden));
        for noise in noise {
            let mut order: Vec<u32> = (0..noise.len() as u32).collect();
            order.sort_by(|a, b| noise[*a as usize].total_cmp(&noise[*b as usize]));
            sorted.extend(order);
        }
        let sorted = Tensor::from_vec(sorted, (noise.len(), seen + hidden), device)?;
        Ok(Self {
            seen: sorted.narrow(1, 0, seen)?.contiguous()?,
            hidden: sorted.narrow(1, seen, hidden)?.contiguous()?,
        })
    }
}

/// What hiding patches of a batch came to.
struct Reconstructed {
    /// `[batch, hidden, patch_values]`.
    predicted: Tensor,
    /// What was to be said.
    targets: Tensor,
}

impl Mae {
    /// Over the model's store, in which its decoder is declared too. `settings` are checked for `config`.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn new(settings: &MaeSettings, config: &VitConfig, params: &Params, seed: u64) -> Result<Self> {
        let decoder = MaeDecoderConfig::new(config).with(|c| {
            (c.dim, c.depth, c.num_heads) = (settings.decoder_dim, settings.decoder_depth, settings.decoder_heads);
        });
        Ok(Self {
            decoder: mae_decoder(&decoder, params.builder().pp(PREFIX))?,
            own: Own::new(params, PREFIX),
            patch: config.patch_size,
            patches: config.num_patches(),
            seen: settings.seen(config.num_patches()),
            norm_pix: settings.norm_pix,
            device: params.device().clone(),
            seed,
            losses: Vec::new(),
            evaluations: 0,
            warned: false,
        })
    }

    fn masks(&self, epoch: u64, indices: &[usize]) -> Result<Masks> {
        let noise: Vec<Vec<f32>> = indices
            .iter()
            .map(|&index| {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&self.seed.to_le_bytes());
                key[8..16].copy_from_slice(&epoch.to_le_bytes());
                key[16..24].copy_from_slice(&(index as u64).to_le_bytes());
                key[24..].copy_from_slice(b"masking "); // apart from what is drawn for the sample otherwise
                let mut rng = ChaCha8Rng::from_seed(key);
                (0..self.patches).map(|_| rng.random()).collect()
            })
            .collect();
        Masks::of(&noise, self.seen, &self.device)
    }

    fn reconstruct(&self, model: &AnyModel, images: &Tensor, masks: &Masks, mode: Mode) -> Result<Reconstructed> {
        let tokens = vit(model)?.forward_visible(images, &masks.seen, mode)?;
        let predicted = self.decoder.forward(&tokens, &masks.seen, &masks.hidden, mode)?.to_dtype(DType::F32)?;
        let targets = mae_targets(images, &masks.hidden, self.patch, self.norm_pix)?.to_dtype(DType::F32)?;
        Ok(Reconstructed { predicted, targets })
    }

    /// The loss of a batch with these masks.
    ///
    /// # Errors
    /// Those of the model.
    pub fn loss_of(&mut self, model: &AnyModel, images: &Tensor, masks: &Masks, mode: Mode) -> Result<Tensor> {
        let Reconstructed { predicted, targets } = self.reconstruct(model, images, masks, mode)?;
        let loss = mae_loss(&predicted, &targets)?;
        let all = targets.flatten(0, 1)?;
        let mean_patch = all.broadcast_sub(&all.mean_keepdim(0)?)?.sqr()?.mean_all()?;
        self.losses.push([loss.detach(), mean_patch]);
        Ok(loss)
    }

    /// The image, what is seen of it, and that with what was said of the rest, of the first images.
    fn pictures(&self, images: &Tensor, masks: &Masks, said: &Reconstructed) -> Result<Vec<(String, Vec<Tensor>)>> {
        let mut rows = ["image", "seen", "reconstructed"].map(|title| (title.to_string(), Vec::new()));
        let (_, channels, height, width) = images.dims4()?;
        let patch = self.patch;
        for sample in 0..images.dim(0)?.min(PICTURES) {
            let image = images.get(sample)?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
            let mut values = image.flatten_all()?.to_vec1::<f32>()?;
            let mut shown = values.clone();
            let said = said.predicted.get(sample)?.to_vec2::<f32>()?;
            for (place, said) in masks.hidden.get(sample)?.to_vec1::<u32>()?.into_iter().zip(said) {
                let (top, left) = (place as usize / (width / patch) * patch, place as usize % (width / patch) * patch);
                let pixel = |value: usize| {
                    let (channel, row, column) = (value / (patch * patch), value / patch % patch, value % patch);
                    (channel * height + top + row) * width + left + column
                };
                let own: Vec<f32> = (0..said.len()).map(|value| values[pixel(value)]).collect();
                let (mean, deviation) = if self.norm_pix { moments(&own) } else { (0., 1.) };
                for (value, said) in said.iter().enumerate() {
                    shown[pixel(value)] = said * deviation + mean;
                    values[pixel(value)] = 0.;
                }
            }
            let tensor = |values| Tensor::from_vec(values, (channels, height, width), &Device::Cpu);
            rows[0].1.push(image);
            rows[1].1.push(tensor(values)?);
            rows[2].1.push(tensor(shown)?);
        }
        Ok(rows.into())
    }
}

/// Mean and deviation, as targets are normalised.
fn moments(values: &[f32]) -> (f32, f32) {
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    let squares: f32 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len().max(2) - 1) as f32 + 1e-6).sqrt())
}

impl Objective for Mae {
    fn loss(&mut self, model: &AnyModel, input: &ModelInput, batch: Batch, place: Place) -> Result<Pass> {
        let Batch { images, indices, .. } = batch;
        debug_assert!(!input.is_fixed(), "an encoder that is trained");
        let masks = self.masks(place.epoch as u64, &indices)?;
        let loss = self.loss_of(model, &images, &masks, Mode::Train { seed: place.pass_seed() })?;
        let correct = Tensor::zeros((), DType::U32, &self.device)?;
        Ok(Pass { loss, correct, samples: indices.len(), gradients: None })
    }

    fn test(&mut self, model: &AnyModel, images: &Tensor, indices: &[usize]) -> Result<Tested> {
        let masks = self.masks(TESTED, indices)?;
        let said = self.reconstruct(model, images, &masks, Mode::Eval)?;
        let losses = (&said.predicted - &said.targets)?.sqr()?.detach().mean((1, 2))?.to_vec1::<f32>()?;
        let pictures = if indices.first() == Some(&0) { self.pictures(images, &masks, &said)? } else { Vec::new() };
        Ok(Tested { losses: losses.into_iter().map(f64::from).collect(), pictures })
    }

    fn warnings(&mut self) -> Result<Vec<String>> {
        let mut sums = [0.; 2];
        for pair in self.losses.drain(..) {
            for (sum, value) in sums.iter_mut().zip(pair) {
                *sum += f64::from(value.to_scalar::<f32>()?);
            }
        }
        let [loss, mean_patch] = sums;
        self.evaluations += 1;
        let warning = warnings::of_mean_patch(loss, mean_patch);
        let warning = warning.filter(|_| self.evaluations > EARLY && !self.warned);
        self.warned |= warning.is_some();
        Ok(warning.into_iter().collect())
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(self.own.state())
    }

    fn set_state(&mut self, mut state: HashMap<String, Tensor>) -> Result<()> {
        self.own.set_state(&mut state)?;
        check_taken(&state)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tallow_models::Architecture;

    use super::*;
    use crate::train::objectives::reference::{self, Reference};
    use crate::train::pretraining;

    /// The model of the reference, with the reference's values, and its objective.
    fn small(norm_pix: bool) -> (Params, AnyModel, Mae) {
        let vit = VitConfig::default().with(|c| {
            (c.img_size, c.patch_size, c.in_chans, c.num_classes) = ([12, 8].into(), 4, 2, 0);
            (c.embed_dim, c.depth, c.num_heads) = (8, 2, 2);
        });
        let config = reference::config("mae");
        let architecture = Architecture::from(vit.clone());
        let params = Params::new(0, DType::F32, &Device::Cpu);
        pretraining::prepare(&config, &architecture, &params, false).unwrap();
        let model = architecture.build(params.builder()).unwrap();
        let settings = MaeSettings { mask_ratio: 0.5, decoder_dim: 12, decoder_depth: 1, decoder_heads: 3, norm_pix };
        let mae = Mae::new(&settings, &vit, &params, 0).unwrap();
        reference::fill(&params);
        (params, model, mae)
    }

    fn masks(reference: &Value, step: usize) -> Masks {
        let noise: Vec<Vec<f32>> = serde_json::from_value(reference["noise"][step].clone()).unwrap();
        Masks::of(&noise, 3, &Device::Cpu).unwrap()
    }

    #[test]
    fn twenty_steps_are_those_of_a_reference_whose_encoder_has_all_patches_and_attends_to_none_that_is_hidden() {
        let file = Reference::read();
        for (key, norm_pix) in [("plain", false), ("norm_pix", true)] {
            let reference = &file.0["mae"][key];
            let (params, model, mut mae) = small(norm_pix);
            let mode = Mode::Train { seed: 0 };
            let images = |step: usize| reference::wave(&[3, 2, 12, 8], 100. + step as f64, 1.5);
            let tokens = vit(&model).unwrap().forward_visible(&images(0), &masks(reference, 0).seen, mode).unwrap();
            // The reference lists them in the order of the patches, and we in that of the noise: the length is the same.
            let length = tokens.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            assert!((f64::from(length) / reference["tokens"][0].as_f64().unwrap() - 1.).abs() < 1e-6);
            let loss = mae.loss_of(&model, &images(0), &masks(reference, 0), mode).unwrap();
            let gradients = params.backward(&loss).unwrap();
            reference::assert_told(&reference["gradients"], gradients.iter(), 1e-5);
            let config = reference::config("mae").with(|c| c.optimizer.betas = [0.9, 0.95]);
            let mut steps = reference::Steps::new(&config, &params);
            for step in 0..20 {
                let loss = mae.loss_of(&model, &images(step), &masks(reference, step), mode).unwrap();
                steps.take(&mut mae, &loss, 0.01);
                let expected = reference["losses"][step].as_f64().unwrap();
                let got = f64::from(loss.to_scalar::<f32>().unwrap());
                assert!((got - expected).abs() < 1e-4 * expected, "{key}, step {step}: {got} for {expected}");
            }
        }
    }

    #[test]
    fn masks_follow_from_the_sample_and_the_epoch_and_leave_a_share() {
        let (_, _, mae) = small(true);
        let seen = |epoch, indices: &[usize]| mae.masks(epoch, indices).unwrap().seen.to_vec2::<u32>().unwrap();
        assert_eq!(seen(3, &[5, 6])[1], seen(3, &[6])[0], "whatever stands beside it");
        assert_ne!(seen(3, &(0..9).collect::<Vec<_>>()), seen(4, &(0..9).collect::<Vec<_>>()));
        let Masks { seen, hidden } = mae.masks(0, &[1]).unwrap();
        let mut all: Vec<u32> = seen.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(all.len(), 3);
        all.extend(hidden.flatten_all().unwrap().to_vec1::<u32>().unwrap());
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_said_of_hidden_patches_is_shown_in_their_places() {
        let (_, model, mae) = small(true);
        let images = reference::wave(&[2, 2, 12, 8], 1., 1.);
        let masks = mae.masks(0, &[0, 1]).unwrap();
        let mut said = mae.reconstruct(&model, &images, &masks, Mode::Eval).unwrap();
        // A perfect decoder shows the image.
        said.predicted = said.targets.clone();
        let rows = mae.pictures(&images, &masks, &said).unwrap();
        let off = |of: &Tensor, sample: usize| -> f32 {
            let apart = (of - images.get(sample).unwrap()).unwrap().abs().unwrap();
            apart.max_all().unwrap().to_scalar().unwrap()
        };
        for sample in 0..2 {
            assert!(off(&rows[0].1[sample], sample) == 0. && off(&rows[2].1[sample], sample) < 1e-5);
            assert!(off(&rows[1].1[sample], sample) > 0.5, "half of it is not seen");
        }
    }

    #[test]
    fn a_loss_that_stays_that_of_the_mean_patch_is_told_once() {
        let (_, _, mut mae) = small(true);
        let scalar = |value: f32| Tensor::new(value, &Device::Cpu).unwrap();
        let mut told = |loss: f32| {
            mae.losses.push([scalar(loss), scalar(1.)]);
            mae.warnings().unwrap()
        };
        assert!(told(0.99).is_empty() && told(0.6).is_empty(), "it is too early to tell, or it learns");
        let warnings = told(0.99);
        assert!(
            warnings.len() == 1 && warnings[0].contains("99 %") && warnings[0].contains("mean patch"),
            "{warnings:?}"
        );
        assert!(told(0.99).is_empty(), "once");
    }
}
