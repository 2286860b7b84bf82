//! The learning rate as a function of the optimiser step.
//!
//! With peak rate `lr`, warm-up of `w` steps, `t` steps in all, and step `s` in epoch `e`, all counted from 0:
//!
//! | schedule | rate at step s ≥ w |
//! |---|---|
//! | constant | lr |
//! | cosine | min_lr + (lr − min_lr) · (1 + cos(π (s − w) / (t − w))) / 2 |
//! | exponential | lr · gammaᵉ (PyTorch's `ExponentialLR`, stepped after every epoch) |
//! | step | lr · gamma^⌊e / step_size⌋ (PyTorch's `StepLR`, stepped after every epoch) |
//!
//! Without warm-up, cosine is PyTorch's `CosineAnnealingLR(T_max = t)`, stepped after every step. During warm-up, s < w, the
//! rate is lr · (s + 1) / (w + 1): it rises from step to step and would reach lr at step w.
//!
//! Where a run was extended, its first schedule ends with the epochs that were planned then, and every extension is a schedule of
//! its own, without warm-up, whose steps and epochs count from its beginning.

use super::config::{Extension, ScheduleKind, TrainConfig};

/// A schedule of a run whose length is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    lr: f64,
    min_lr: f64,
    gamma: f64,
    step_size: usize,
    warmup_steps: usize,
    steps_per_epoch: usize,
    total_steps: usize,
    /// The schedule that takes over, and from which step on.
    then: Option<(usize, Box<Schedule>)>,
}

impl Schedule {
    /// The schedule of `config` over its epochs of `steps_per_epoch` steps each. Where the configuration names no steps of
    /// warm-up, [`super::defaults::warmup_steps`] does.
    pub fn new(config: &TrainConfig, steps_per_epoch: usize) -> Self {
        let planned = config.extended.first().map_or(config.epochs(), |extension| extension.from);
        let total_steps = planned.saturating_mul(steps_per_epoch);
        let warmup = config.schedule.warmup_steps;
        Self {
            kind: config.schedule.schedule,
            lr: config.optimizer.lr,
            min_lr: config.schedule.min_lr,
            gamma: config.schedule.gamma,
            step_size: config.schedule.step_size.max(1),
            warmup_steps: warmup
                .unwrap_or_else(|| super::defaults::warmup_steps(config.schedule.schedule, total_steps)),
            steps_per_epoch: steps_per_epoch.max(1),
            total_steps,
            then: Self::of(&config.extended, config.epochs(), steps_per_epoch.max(1)).map(|then| (total_steps, then)),
        }
    }

    /// The schedule of the first extension and those after it, in a run that ends after `epochs`.
    fn of(extensions: &[Extension], epochs: usize, steps_per_epoch: usize) -> Option<Box<Self>> {
        let (first, rest) = extensions.split_first()?;
        let end = rest.first().map_or(epochs, |next| next.from);
        let total_steps = end.saturating_sub(first.from).saturating_mul(steps_per_epoch);
        Some(Box::new(Self {
            kind: first.schedule,
            lr: first.lr,
            min_lr: first.min_lr,
            gamma: first.gamma,
            step_size: first.step_size.max(1),
            warmup_steps: 0,
            steps_per_epoch,
            total_steps,
            then: Self::of(rest, epochs, steps_per_epoch).map(|then| (total_steps, then)),
        }))
    }

    /// Steps of warm-up.
    pub fn warmup_steps(&self) -> usize {
        self.warmup_steps
    }

    /// The learning rate of `step`, counted from 0 over the whole run.
    pub fn lr(&self, step: usize) -> f64 {
        if let Some((from, then)) = &self.then
            && step >= *from
        {
            return then.lr(step - from);
        }
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let epoch = step / self.steps_per_epoch;
        match self.kind {
            ScheduleKind::Constant => self.lr,
            ScheduleKind::Cosine => {
                let length = self.total_steps.saturating_sub(self.warmup_steps).max(1);
                let done = (step - self.warmup_steps) as f64 / length as f64;
                let share = 0.5 * (1. + (std::f64::consts::PI * done.min(1.)).cos());
                self.min_lr + (self.lr - self.min_lr) * share
            }
            ScheduleKind::Exponential => self.lr * self.gamma.powf(epoch as f64),
            ScheduleKind::Step => self.lr * self.gamma.powf((epoch / self.step_size) as f64),
        }
    }
}
