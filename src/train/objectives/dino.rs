//! DINO: a student learns to say of every crop of an image what its teacher, an average of its own past, says of the large ones.
//!
//! Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021 (arXiv 2104.14294), as in its code: the teacher's
//! outputs are centred and sharpened, which keeps them from becoming the same for every image or the same for every output.

use std::collections::HashMap;
use std::f64::consts::PI;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::Module;
use candle_nn::ops::{log_softmax, softmax};
use tallow_models::optim::Clip;
use tallow_models::pretraining::{DinoHead, DinoHeadConfig, dino_head, dino_loss, koleo_loss};
use tallow_models::{AnyModel, Architecture, Gradients, Mode, Params};
use tallow_weights::Preprocessing;

use super::own::{Own, check_taken, take};
use super::{Objective, Pass, Place, encoder, vit};
use crate::data::{Augment, Batch, Crop, CropKind, LoaderOptions, Transform};
use crate::train::averages::move_towards;
use crate::train::config::TrainConfig;
use crate::train::error::Result;
use crate::train::features::{Batches, ModelInput};
use crate::train::optimizer::Optimizer;
use crate::train::pretraining::DinoSettings;
use crate::train::warnings;

/// The prefix of the head's parameters.
const PREFIX: &str = "dino_head";

/// Before the names of the teacher's parameters in the objective's state.
const TEACHER: &str = "teacher.";

/// What the loss is made of, and the teacher.
pub(in crate::train) struct Dino {
    settings: DinoSettings,
    schedules: Schedules,
    transform: Arc<Transform>,
    /// Channels, height and width of the large crops.
    large: [usize; 3],
    head: DinoHead,
    own: Own,
    params: Params,
    teacher: Teacher,
    /// The running mean of the teacher's outputs, `[1, out_dim]`.
    centre: Tensor,
    /// The means of the batches of the step that is under way.
    outputs: Vec<Tensor>,
    /// Steps that were taken.
    steps: usize,
    watch: Watch,
}

/// The averages of the student's parameters, and the model and head over them.
struct Teacher {
    params: Params,
    /// Those of the model alone.
    encoder: Params,
    model: AnyModel,
    head: DinoHead,
}

impl Teacher {
    /// Begins as the student.
    fn new(architecture: &Architecture, head: &DinoHeadConfig, student: &Params) -> Result<Self> {
        let params = Params::new(0, student.dtype(), student.device());
        for param in student.all() {
            params.provide(param.name, param.var.as_detached_tensor().copy()?);
        }
        let model = architecture.build(params.eval_builder())?;
        let head = dino_head(head, params.eval_builder().pp(PREFIX))?;
        Ok(Self { encoder: encoder(&params, architecture)?, params, model, head })
    }
}

/// `end + (start - end) (1 + cos(π i / steps)) / 2`: half a cosine over all steps of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct HalfCosine {
    start: f64,
    end: f64,
    steps: usize,
}

impl HalfCosine {
    fn at(self, step: usize) -> f64 {
        if step >= self.steps {
            return self.end;
        }
        self.end + 0.5 * (self.start - self.end) * (1. + (PI * step as f64 / self.steps as f64).cos())
    }
}

/// What changes from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Schedules {
    /// How much of the teacher stays.
    momentum: HalfCosine,
    weight_decay: HalfCosine,
    steps_per_epoch: usize,
}

impl Schedules {
    fn new(settings: &DinoSettings, config: &TrainConfig, steps_per_epoch: usize) -> Self {
        // Epochs that were added to a run change nothing about those that it was planned with.
        let planned = config.extended.first().map_or(config.epochs(), |extension| extension.from);
        let steps = planned.saturating_mul(steps_per_epoch);
        let weight_decay = config.optimizer.weight_decay;
        Self {
            momentum: HalfCosine { start: settings.teacher_momentum, end: 1., steps },
            weight_decay: HalfCosine { start: weight_decay, end: settings.weight_decay_end, steps },
            steps_per_epoch: steps_per_epoch.max(1),
        }
    }
}

impl Dino {
    /// Over the store of the student `model`, in which its head is declared too. `settings` are checked for the architecture.
    ///
    /// # Errors
    /// If memory cannot be had, or the preprocessing makes no sense.
    pub fn new(
        settings: &DinoSettings,
        config: &TrainConfig,
        architecture: &Architecture,
        params: &Params,
        (preprocessing, augment): (&Preprocessing, &[Augment]),
        steps_per_epoch: usize,
    ) -> Result<Self> {
        let head = DinoHeadConfig::new(architecture.num_features(), settings.out_dim)
            .with(|c| (c.hidden_dim, c.bottleneck_dim) = (settings.head_hidden_dim, settings.head_bottleneck_dim));
        let student = dino_head(&head, params.builder().pp(PREFIX))?;
        let [channels, height, width] = architecture.input_size();
        let small = [settings.local_crops_size; 2];
        let crops = (0..settings.global_crops + settings.local_crops).map(|number| match number {
            0 => Crop::new(CropKind::First, [height, width], settings.global_crops_scale, augment),
            _ if number < settings.global_crops => {
                Crop::new(CropKind::Second, [height, width], settings.global_crops_scale, augment)
            }
            _ => Crop::new(CropKind::Local, small, settings.local_crops_scale, augment),
        });
        Ok(Self {
            schedules: Schedules::new(settings, config, steps_per_epoch),
            transform: Arc::new(Transform::crops(preprocessing, crops.collect())?),
            large: [channels, height, width],
            teacher: Teacher::new(architecture, &head, params)?,
            head: student,
            own: Own::new(params, PREFIX),
            params: params.clone(),
            centre: Tensor::zeros((1, settings.out_dim), DType::F32, params.device())?,
            outputs: Vec::new(),
            steps: 0,
            watch: Watch::new(settings.out_dim),
            settings: settings.clone(),
        })
    }

    /// Large crops `[global crops * batch, channels, height, width]` and small ones, crop by crop, out of what the transform made.
    fn crops(&self, images: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let (batch, [channels, height, width]) = (images.dim(0)?, self.large);
        let flat = images.flatten_from(1)?;
        let side = self.settings.local_crops_size;
        let size = channels * height * width;
        let cut = |from: usize, count: usize, [height, width]: [usize; 2]| {
            let size = channels * height * width;
            let crops = (0..count).map(|crop| flat.narrow(1, from + crop * size, size));
            let crops = Tensor::cat(&crops.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
            crops.reshape((count * batch, channels, height, width))
        };
        let DinoSettings { global_crops, local_crops, .. } = self.settings;
        let small = (local_crops > 0).then(|| cut(global_crops * size, local_crops, [side; 2])).transpose()?;
        Ok((cut(0, global_crops, [height, width])?, small))
    }

    /// The loss of the student on large crops `[global crops * batch, channels, height, width]` and small ones in the given epoch.
    ///
    /// # Errors
    /// Those of the models.
    pub fn loss_of(
        &mut self,
        model: &AnyModel,
        (large, small): (&Tensor, Option<&Tensor>),
        epoch: usize,
        mode: Mode,
    ) -> Result<Tensor> {
        let batch = large.dim(0)? / self.settings.global_crops;
        let said = self.teacher.head.forward(&vit(&self.teacher.model)?.pooled_at(large, Mode::Eval)?)?;
        let said = said.detach().to_dtype(DType::F32)?;
        let centred = (said.broadcast_sub(&self.centre)? / self.settings.temperature_of_teacher(epoch))?;
        let teacher = softmax(&centred, D::Minus1)?;
        let of_large = vit(model)?.pooled_at(large, mode)?;
        let mut features = vec![of_large.clone()];
        if let Some(small) = small {
            features.push(vit(model)?.pooled_at(small, mode)?);
        }
        let student = self.head.forward(&Tensor::cat(&features, 0)?)?.to_dtype(DType::F32)?;
        let student = (student / self.settings.student_temperature)?;
        let loss = dino_loss(&student, &teacher, batch)?;
        self.watch.see(&teacher, &centred, &loss)?;
        self.outputs.push(said.mean_keepdim(0)?);
        if self.settings.koleo == 0. {
            return Ok(loss);
        }
        let near = (0..self.settings.global_crops).map(|crop| koleo_loss(&of_large.narrow(0, crop * batch, batch)?));
        let near = Tensor::stack(&near.collect::<candle_core::Result<Vec<_>>>()?, 0)?.sum_all()?;
        Ok((loss + (near * self.settings.koleo)?)?)
    }
}

impl Objective for Dino {
    fn batches(
        &self,
        input: &ModelInput,
        order: Vec<usize>,
        options: LoaderOptions,
        device: &Device,
    ) -> Result<Batches> {
        ModelInput::images(input.samples(), &self.transform).batches(order, options, device)
    }

    fn loss(&mut self, model: &AnyModel, _: &ModelInput, batch: Batch, place: Place) -> Result<Pass> {
        let (large, small) = self.crops(&batch.images)?;
        let mode = Mode::Train { seed: place.pass_seed() };
        let loss = self.loss_of(model, (&large, small.as_ref()), place.epoch, mode)?;
        let correct = Tensor::zeros((), DType::U32, self.params.device())?;
        Ok(Pass { loss, correct, samples: batch.indices.len(), gradients: None })
    }

    fn step(&mut self, optimizer: &mut Optimizer, gradients: &Gradients, clip: Clip, lr: f64) -> Result<()> {
        optimizer.set_weight_decay(self.schedules.weight_decay.at(self.steps));
        if self.steps / self.schedules.steps_per_epoch < self.settings.freeze_last_layer {
            let rest = gradients.iter().filter(|(name, _)| !name.starts_with(&format!("{PREFIX}.last_layer")));
            let rest: Gradients = rest.map(|(name, gradient)| (name.to_string(), gradient.clone())).collect();
            optimizer.step(&rest, Some(clip), lr)?;
        } else {
            optimizer.step(gradients, Some(clip), lr)?;
        }
        move_towards(&self.teacher.params, &self.params, self.schedules.momentum.at(self.steps))?;
        let outputs = std::mem::take(&mut self.outputs);
        if !outputs.is_empty() {
            let stays = self.settings.center_momentum;
            let mean = Tensor::cat(&outputs, 0)?.mean_keepdim(0)?;
            self.centre = ((&self.centre * stays)? + (mean * (1. - stays))?)?;
        }
        self.steps += 1;
        Ok(())
    }

    fn chosen(&self) -> Option<(&Params, &AnyModel)> {
        Some((&self.teacher.encoder, &self.teacher.model))
    }

    fn warnings(&mut self) -> Result<Vec<String>> {
        self.watch.warnings()
    }

    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let mut state = self.own.state();
        let teacher = self.teacher.params.all().into_iter();
        state.extend(teacher.map(|param| (format!("{TEACHER}{}", param.name), param.var.as_detached_tensor())));
        state.push(("centre".into(), self.centre.clone()));
        state.push(("steps".into(), Tensor::new(self.steps as i64, &Device::Cpu)?));
        Ok(state)
    }

    fn set_state(&mut self, mut state: HashMap<String, Tensor>) -> Result<()> {
        self.own.set_state(&mut state)?;
        for param in self.teacher.params.all() {
            self.teacher.params.set(&param.name, &take(&mut state, &format!("{TEACHER}{}", param.name))?)?;
        }
        let centre = take(&mut state, "centre")?;
        self.centre = centre.reshape(self.centre.shape())?.to_device(self.params.device())?;
        self.steps = usize::try_from(take(&mut state, "steps")?.to_scalar::<i64>()?).unwrap_or(0);
        check_taken(&state)
    }
}

/// What the teacher's outputs come to in the steps since the last evaluation: figure 7 of the paper.
#[derive(Default)]
struct Watch {
    out_dim: usize,
    /// For every batch the mean entropy of the teacher's outputs, the entropy of their mean, and the loss.
    seen: Vec<[Tensor; 3]>,
    /// The largest number of rows that were seen together.
    rows: usize,
    evaluations: usize,
    warned: bool,
}

impl Watch {
    fn new(out_dim: usize) -> Self {
        Self { out_dim, ..Self::default() }
    }

    /// `teacher [rows, out_dim]` is the softmax of `centred`.
    fn see(&mut self, teacher: &Tensor, centred: &Tensor, loss: &Tensor) -> Result<()> {
        let own = (log_softmax(centred, D::Minus1)? * teacher)?.sum_all()?;
        let mean = teacher.mean(0)?;
        let of_mean = ((&mean + 1e-30)?.log()? * &mean)?.sum_all()?.neg()?;
        self.rows = self.rows.max(teacher.dim(0)?);
        self.seen.push([(own / -(teacher.dim(0)? as f64))?, of_mean, loss.detach()]);
        Ok(())
    }

    fn warnings(&mut self) -> Result<Vec<String>> {
        let mut sums = [0.; 3];
        let count = self.seen.len().max(1) as f64;
        for seen in self.seen.drain(..) {
            for (sum, value) in sums.iter_mut().zip(seen) {
                *sum += f64::from(value.to_scalar::<f32>()?) / count;
            }
        }
        let [entropy, of_mean, loss] = sums;
        self.evaluations += 1;
        let told = warnings::of_teacher(entropy, of_mean - entropy, loss - entropy, [self.out_dim, self.rows]);
        // An untrained network says nearly the same of every image: the first evaluation is too early to tell.
        let told = told.filter(|_| self.evaluations > 1 && !self.warned);
        self.warned |= told.is_some();
        Ok(told.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use tallow_models::VitConfig;

    use super::*;
    use crate::train::objectives::reference::{self, Reference};

    fn settings() -> DinoSettings {
        DinoSettings {
            global_crops: 2,
            local_crops: 2,
            global_crops_scale: [0.4, 1.],
            local_crops_scale: [0.05, 0.4],
            local_crops_size: 8,
            out_dim: 10,
            head_hidden_dim: 12,
            head_bottleneck_dim: 6,
            student_temperature: 0.1,
            teacher_temperature: 0.07,
            warmup_teacher_temperature: 0.04,
            warmup_teacher_epochs: 3,
            teacher_momentum: 0.9,
            center_momentum: 0.9,
            weight_decay_end: 0.4,
            freeze_last_layer: 1,
            koleo: 0.,
        }
    }

    /// The model of the reference, with the reference's values, and its objective.
    fn small(drop_path_rate: f64) -> (TrainConfig, Params, AnyModel, Dino) {
        let vit = VitConfig::default().with(|c| {
            (c.img_size, c.patch_size, c.in_chans, c.num_classes) = (12.into(), 4, 2, 0);
            (c.embed_dim, c.depth, c.num_heads, c.drop_path_rate) = (8, 1, 2, drop_path_rate);
        });
        let config = reference::config("dino").with(|c| {
            c.length.epochs = 4.into();
            c.optimizer.weight_decay = 0.04;
            c.regularization.clip_grad = 3.;
        });
        let architecture = Architecture::from(vit);
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let model = architecture.build(params.builder()).unwrap();
        // The head is declared first, so that the teacher begins with the reference's values too.
        let head = DinoHeadConfig::new(8, 10).with(|c| (c.hidden_dim, c.bottleneck_dim) = (12, 6));
        dino_head(&head, params.builder().pp(PREFIX)).unwrap();
        reference::fill(&params);
        let preprocessing = Preprocessing::new([2, 12, 12], vec![0.; 2], vec![1.; 2]);
        let dino = Dino::new(&settings(), &config, &architecture, &params, (&preprocessing, &[]), 5).unwrap();
        (config, params, model, dino)
    }

    fn crops(step: usize) -> (Tensor, Tensor) {
        let crop =
            |side: usize, number: usize| reference::wave(&[3, 2, side, side], (200 + 7 * step + number) as f64, 1.5);
        let both = |side, first| Tensor::cat(&[crop(side, first), crop(side, first + 1)], 0).unwrap();
        (both(12, 0), both(8, 3))
    }

    #[test]
    fn twenty_steps_centre_and_teacher_are_those_of_the_reference() {
        let file = Reference::read();
        let reference = &file.0["dino"];
        let (config, params, model, mut dino) = small(0.);
        let mut steps = reference::Steps::new(&config, &params);
        for step in 0..20 {
            let (large, small) = crops(step);
            let loss =
                dino.loss_of(&model, (&large, Some(&small)), step / 5, Mode::Train { seed: step as u64 }).unwrap();
            if step == 0 {
                let gradients = params.backward(&loss).unwrap();
                reference::assert_told(&reference["gradients"], gradients.iter(), 1e-5);
            }
            let expected = reference["losses"][step].as_f64().unwrap();
            let got = f64::from(loss.to_scalar::<f32>().unwrap());
            assert!((got - expected).abs() < 1e-4, "step {step}: {got} for {expected}");
            steps.take(&mut dino, &loss, 0.005);
        }
        let centre = dino.centre.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (got, expected) in centre.iter().zip(reference["centre"].as_array().unwrap()) {
            assert!((f64::from(*got) - expected.as_f64().unwrap()).abs() < 1e-4);
        }
        let teacher: Vec<_> = dino.teacher.params.all();
        // What a softmax takes no notice of: its gradient is nothing but rounding, which Adam makes large.
        let teacher = teacher.iter().filter(|param| !param.name.ends_with("qkv.bias"));
        let teacher = teacher.map(|param| (param.name.as_str(), param.var.as_tensor()));
        reference::assert_told(&reference["teacher"], teacher, 1e-4);
    }

    #[test]
    fn schedules_are_those_of_numpy() {
        let file = Reference::read();
        let (config, ..) = small(0.);
        let (settings, schedules) = (settings(), Schedules::new(&settings(), &config, 5));
        for step in 0..20 {
            let numbers = ["momentum", "weight_decay"].map(|key| file.0["dino"][key][step].as_f64().unwrap());
            let got = [schedules.momentum.at(step), schedules.weight_decay.at(step)];
            got.iter().zip(numbers).for_each(|(got, expected)| assert!((got - expected).abs() < 1e-12));
        }
        for epoch in 0..4 {
            let expected = file.0["dino"]["temperature"][epoch].as_f64().unwrap();
            assert!((settings.temperature_of_teacher(epoch) - expected).abs() < 1e-12);
        }
        assert_eq!((schedules.momentum.at(20), schedules.weight_decay.at(99)), (1., 0.4), "after the last step");
        let one = DinoSettings { warmup_teacher_epochs: 1, ..settings };
        assert_eq!([0, 1].map(|epoch| one.temperature_of_teacher(epoch)), [0.04, 0.07]);
    }

    #[test]
    fn a_state_that_is_taken_back_goes_on_to_the_last_bit() {
        let bits = |params: &Params| -> Vec<Vec<u32>> {
            let values = |param: tallow_models::Param| {
                let values = param.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values.into_iter().map(f32::to_bits).collect()
            };
            params.all().into_iter().map(values).collect()
        };
        let run = |interrupted: bool| {
            let (config, params, model, mut dino) = small(0.3);
            let mut steps = reference::Steps::new(&config, &params);
            let (mut params, mut model) = (params, model);
            for step in 0..8 {
                if interrupted && step == 4 {
                    let values = params.all();
                    let (state, optimizer) = (dino.state().unwrap(), steps.optimizer.state().unwrap());
                    let other = small(0.3);
                    (params, model, dino) = (other.1, other.2, other.3);
                    values.iter().for_each(|param| params.set(&param.name, param.var.as_tensor()).unwrap());
                    dino.set_state(state.into_iter().collect()).unwrap();
                    steps = reference::Steps::new(&config, &params);
                    steps.optimizer.set_state(optimizer).unwrap();
                }
                let (large, small) = crops(step);
                let mode = Mode::Train { seed: step as u64 };
                let loss = dino.loss_of(&model, (&large, Some(&small)), step / 5, mode).unwrap();
                steps.take(&mut dino, &loss, 0.005);
            }
            (bits(&params), bits(&dino.teacher.params), dino.centre.to_vec2::<f32>().unwrap())
        };
        assert!(run(false) == run(true));
    }

    #[test]
    fn crops_are_cut_out_in_the_order_in_which_the_transform_wrote_them() {
        let (_, _, _, dino) = small(0.);
        let size = 2 * (2 * 144 + 2 * 64);
        let images =
            Tensor::arange(0f32, 3. * size as f32, &Device::Cpu).unwrap().reshape((3, 2, 1, size / 2)).unwrap();
        let (large, small) = dino.crops(&images).unwrap();
        let first = |of: &Tensor, row: usize| of.get(row).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        assert_eq!((large.dims(), first(&large, 1), first(&large, 3)), (&[6, 2, 12, 12][..], size as f32, 288.));
        let small = small.unwrap();
        assert_eq!((small.dims(), first(&small, 0), first(&small, 4)), (&[6, 2, 8, 8][..], 576., size as f32 + 704.));
    }

    #[test]
    fn a_teacher_that_says_the_same_of_everything_is_told_once_and_not_at_first() {
        let mut watch = Watch::new(16);
        let mut told = |rows: [[f32; 16]; 4], loss: f32| {
            let centred = Tensor::new(&rows, &Device::Cpu).unwrap();
            let loss = Tensor::new(loss, &Device::Cpu).unwrap();
            watch.see(&softmax(&centred, D::Minus1).unwrap(), &centred, &loss).unwrap();
            watch.warnings().unwrap()
        };
        let peak = |at: usize| std::array::from_fn(|i| if i == at { 9. } else { 0. });
        assert!(told([peak(1), peak(1), peak(1), peak(1)], 0.02).is_empty(), "an untrained network");
        assert!(told([peak(1), peak(7), peak(3), peak(5)], 0.02).is_empty());
        let same = told([peak(1), peak(1), peak(1), peak(1)], 0.02);
        assert!(same.len() == 1 && same[0].contains("the same for every image"), "{same:?}");
        assert!(told([peak(1), peak(1), peak(1), peak(1)], 0.02).is_empty(), "once");
        let mut watch = Watch { evaluations: 1, ..Watch::new(16) };
        let flat = Tensor::zeros((4, 16), DType::F32, &Device::Cpu).unwrap();
        watch.see(&softmax(&flat, D::Minus1).unwrap(), &flat, &Tensor::new(2.77f32, &Device::Cpu).unwrap()).unwrap();
        assert!(watch.warnings().unwrap()[0].contains("uniform"));
    }
}
