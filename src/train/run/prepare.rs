//! What comes before the first epoch of a session: what the settings lead one to expect is told, a new head is trained alone, and the
//! features of a frozen backbone are computed.

use std::sync::atomic::Ordering;

use super::begin::objective;
use super::{Run, measuring};
use crate::data::LoaderOptions;
use crate::train::cost::{self, ComputedOnce, Steps};
use crate::train::error::Result;
use crate::train::event::{Event, Listener};
use crate::train::features::ModelInput;
use crate::train::setup::Setup;
use crate::train::shared_features::SharedFeatures;
use crate::train::state::State;
use crate::train::trial::Unlabelled;
use crate::train::{defaults, head_first, memory, warnings};

impl Run<'_> {
    /// Makes the run ready for its first epoch, and tells that it starts. False if it was stopped meanwhile.
    pub fn prepare(&mut self) -> Result<bool> {
        let Setup { config, checkpoint, params, account, .. } = &self.setup;
        let fresh = self.state == State::default();
        let shared = SharedFeatures::of(config, checkpoint, params, self.session.folder)?;
        let head_first = fresh && head_first::is_due(config, &checkpoint.architecture, params, account.as_ref());
        if fresh {
            let settings = defaults::in_words(config, self.setup.steps_per_epoch(), head_first);
            self.listener.on(&Event::Note(format!("settings: {settings}")));
        }
        let keep = self.keeps_features();
        if fresh {
            self.tell_cost(keep, head_first)?;
        }
        if head_first && !self.train_head_first(shared.as_ref())? {
            return Ok(false);
        }
        if keep && !self.keep_features(shared.as_ref())? {
            return Ok(false);
        }
        self.listener.on(&Event::Start {
            run: self.setup.name(self.session.folder),
            epochs: self.setup.config.epochs(),
            steps_per_epoch: self.setup.steps_per_epoch(),
            trainable_parameters: self.trainable_parameters(),
            resumed_at_step: self.state.step,
            kept_features: self.inputs.train.is_kept(),
        });
        self.warn(self.setup.warnings());
        Ok(true)
    }

    /// Samples whose features are the same in every epoch.
    fn fixed_samples(&self) -> usize {
        let inputs = [Some(&self.inputs.train), self.inputs.val.as_ref(), Some(&self.inputs.test)];
        inputs.into_iter().flatten().filter(|input| input.is_fixed()).map(|input| input.samples().len()).sum()
    }

    /// Whether features that are the same in every epoch are kept: there are some, and memory for them. Otherwise it is told why not.
    fn keeps_features(&mut self) -> bool {
        if !self.inputs.test.is_fixed() {
            return false;
        }
        let limit = self.session.features_limit;
        let bytes = 4 * self.setup.checkpoint.architecture.num_features() as u64 * self.fixed_samples() as u64;
        if bytes > limit {
            self.warn([warnings::of_features(bytes, limit)]);
        }
        let config = &self.setup.config;
        let unchanged = config.data.augment.trim() == "none" && config.mix().is_none();
        if !self.inputs.train.is_fixed() && !unchanged {
            self.warn(warnings::of_augmented_features(config));
        }
        bytes <= limit
    }

    /// Tells what the run will take, and whether that is too little to learn in.
    fn tell_cost(&mut self, keep: bool, head_first: bool) -> Result<()> {
        let Setup { config, checkpoint, dataset, .. } = &self.setup;
        let few = warnings::of_few_steps(config, &checkpoint.architecture, self.setup.steps_per_epoch());
        few.into_iter().for_each(|hint| self.listener.on(&Event::Hint(hint)));
        // Timing a step begins the measurement of the peak anew.
        self.state.peak_memory_bytes = self.state.peak_memory_bytes.max(memory::peak());
        let once = ComputedOnce {
            train: self.inputs.train.is_fixed() && keep,
            evaluated: self.inputs.test.is_fixed() && keep,
            head_first: if head_first { head_first::samples(&dataset.train)?.len() } else { 0 },
            optimizer: self.optimizer.state_bytes(),
        };
        let steps = match self.setup.config.trains_head() {
            true => Steps::Labelled(self.inputs.train.transform()),
            // A step changes what the run's own objective remembers.
            false => Steps::Unlabelled(Unlabelled { objective: objective(&self.setup)?, input: &self.inputs.train }),
        };
        cost::tell(&self.setup, &self.model, steps, once, &mut self.listener)
    }

    /// Trains a new head alone, on features of the loaded backbone. False if it was stopped.
    fn train_head_first(&mut self, shared: Option<&SharedFeatures>) -> Result<bool> {
        let (setup, session, listener) = (&self.setup, &self.session, &mut self.listener);
        let Setup { checkpoint, params, dataset, .. } = setup;
        // Where the weights are averaged, the model that evaluates is over the averages.
        let own = self.averages.as_ref().map(|_| checkpoint.architecture.build(params.eval_builder())).transpose()?;
        let model = own.as_ref().unwrap_or(&self.eval_model);
        let samples = head_first::samples(&dataset.train)?;
        let mut input = ModelInput::frozen(&samples, self.inputs.test.transform(), 0);
        let loading = evaluation_loading(setup);
        let computed = input.keep(model, loading, params.device(), shared, |done| {
            listener.on(&Event::Features { done, total: samples.len() });
            !session.stop.load(Ordering::Relaxed)
        })?;
        let Some(computed) = computed else { return Ok(false) };
        let Some(came) = head_first::train(setup, &self.model, &input, computed)? else { return Ok(false) };
        self.seconds_before += if computed.shared { computed.seconds } else { 0. };
        self.averages.iter().try_for_each(|averages| averages.restart(params))?;
        self.listener.on(&Event::Note(came.to_string()));
        Ok(true)
    }

    /// Computes the features that are the same in every epoch. False if it was stopped.
    fn keep_features(&mut self, shared: Option<&SharedFeatures>) -> Result<bool> {
        let (evaluating, training) = (evaluation_loading(&self.setup), self.loading());
        let total = self.fixed_samples();
        let Self { setup, session, listener, inputs, .. } = self;
        let train = inputs.train.is_fixed().then_some((&mut inputs.train, &self.model, training));
        let val = inputs.val.as_mut().map(|val| (val, &self.eval_model, evaluating));
        let test = Some((&mut inputs.test, &self.eval_model, evaluating));
        let mut before = 0;
        // The training part last.
        for (trained, part) in [(false, test), (false, val), (true, train)] {
            let Some((input, model, options)) = part else { continue };
            let samples = input.samples().len();
            let computed = input.keep(model, options, setup.params.device(), shared, |done| {
                listener.on(&Event::Features { done: before + done, total });
                !session.stop.load(Ordering::Relaxed)
            })?;
            let Some(computed) = computed else { return Ok(false) };
            before += samples;
            // They are a part of what the run takes, whoever computed them.
            self.seconds_before += if computed.shared { computed.seconds } else { 0. };
            if trained {
                self.state.running.seconds += computed.seconds;
                self.features_rate = Some(samples as f64 / computed.seconds);
            } else {
                self.state.running.evaluation_seconds += computed.seconds;
            }
        }
        Ok(true)
    }
}

/// How the images of an evaluation are loaded.
fn evaluation_loading(setup: &Setup) -> LoaderOptions {
    let batch_size = measuring(&setup.config).batch_size;
    LoaderOptions { batch_size, seed: setup.config.compute.seed, ..LoaderOptions::default() }
}
