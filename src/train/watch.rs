//! A listener between a run and its own: it hears every number first, and tells what looks wrong in them, once a run.

use super::config::TrainConfig;
use super::event::{EpochMetrics, Event, Listener, StepMetrics};
use super::warnings;

/// Steps that are looked at together: the first of the run, and the latest of those up to as many after the warm-up.
const TOGETHER: usize = 10;

/// Passes every event on, and hints of its own after those that bring them.
pub(super) struct Watch<'a> {
    listener: &'a mut dyn Listener,
    lr: f64,
    clip_grad: f64,
    warmup_steps: usize,
    /// Loss and norm of the gradients of the first steps; none once a hint was given, or they are over.
    steps: Option<Vec<[f64; 2]>>,
    /// The losses after every epoch that was heard of; none once a hint was given.
    losses: Option<Vec<f64>>,
}

impl<'a> Watch<'a> {
    pub fn new(config: &TrainConfig, listener: &'a mut dyn Listener) -> Self {
        let (lr, clip_grad) = (config.optimizer.lr, config.regularization.clip_grad);
        let warmup_steps = config.schedule.warmup_steps.unwrap_or(0);
        Self { listener, lr, clip_grad, warmup_steps, steps: Some(vec![]), losses: Some(vec![]) }
    }

    /// Looks at the first steps, if there are so many.
    fn look(&mut self, at_least: usize) -> Option<String> {
        let steps = self.steps.as_ref().filter(|steps| steps.len() >= at_least)?;
        let hint = match &steps[..] {
            // The first step tells where the loss began.
            [first, .., _] if steps.len() > TOGETHER => {
                let mut some = vec![*first];
                some.extend_from_slice(&steps[steps.len() + 1 - TOGETHER..]);
                warnings::of_first_steps(&some, steps.len(), self.clip_grad, self.lr)
            }
            all => warnings::of_first_steps(all, steps.len(), self.clip_grad, self.lr),
        };
        if hint.is_some() || steps.len() >= self.warmup_steps + TOGETHER {
            self.steps = None;
        }
        hint
    }

    fn step(&mut self, step: &StepMetrics) -> Option<String> {
        let steps = self.steps.as_mut()?;
        if step.step != steps.len() {
            // A run that goes on: these are not its first steps.
            self.steps = None;
            return None;
        }
        steps.push([step.loss, step.grad_norm]);
        self.look(TOGETHER)
    }

    fn epoch(&mut self, epoch: &EpochMetrics) -> Option<String> {
        let losses = self.losses.as_mut()?;
        losses.push(epoch.val_loss.unwrap_or(epoch.test_loss));
        let hint = warnings::of_learned_by_heart(epoch.train_accuracy, losses, epoch.val_loss.is_some());
        if hint.is_some() {
            self.losses = None;
        }
        hint
    }
}

impl Listener for Watch<'_> {
    fn on(&mut self, event: &Event) {
        self.listener.on(event);
        let hints = match event {
            Event::Step(step) => [self.step(step), None],
            Event::Epoch(epoch) => [self.look(3), self.epoch(epoch)],
            _ => [None, None],
        };
        hints.into_iter().flatten().for_each(|hint| self.listener.on(&Event::Hint(hint)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Hints(Vec<String>);

    impl Listener for Hints {
        fn on(&mut self, event: &Event) {
            if let Event::Hint(text) = event {
                self.0.push(text.clone());
            }
        }
    }

    fn step(step: usize, loss: f64, grad_norm: f64) -> Event {
        Event::Step(StepMetrics { epoch: 0, step, loss, lr: 1e-4, grad_norm, images_per_second: 1. })
    }

    fn epoch(train_accuracy: f64, test_loss: f64, val_loss: Option<f64>) -> Event {
        Event::Epoch(EpochMetrics {
            epoch: 0,
            train_loss: 0.1,
            train_accuracy,
            val_loss,
            val_accuracy: val_loss.map(|_| 0.5),
            test_loss,
            test_accuracy: 0.5,
            test_top5: 1.,
            seconds: 1.,
            images_per_second: 1.,
        })
    }

    fn told(events: impl IntoIterator<Item = Event>) -> Vec<String> {
        told_with(0, events)
    }

    fn told_with(warmup_steps: usize, events: impl IntoIterator<Item = Event>) -> Vec<String> {
        let mut hints = Hints::default();
        let warmup_steps = Some(warmup_steps);
        let config = TrainConfig::default().with(|c| {
            c.optimizer.lr = 1e-4;
            c.regularization.clip_grad = 1.;
            c.schedule.warmup_steps = warmup_steps;
        });
        let mut watch = Watch::new(&config, &mut hints);
        events.into_iter().for_each(|event| watch.on(&event));
        hints.0
    }

    #[test]
    fn a_rate_that_blows_the_first_steps_up_is_told_once_with_a_lower_one() {
        // The bundled ViT-S/14 on digits of 56 pixels, at 1e-3 and at 1e-4: loss and norm.
        let high = [
            (2.59, 89.),
            (6.03, 104.),
            (2.91, 18.),
            (4.66, 36.),
            (2.35, 11.),
            (3.51, 20.),
            (2.86, 13.),
            (3.70, 41.),
            (4.84, 37.),
            (3.69, 17.),
            (2.86, 11.),
            (2.35, 9.),
            (2.42, 7.),
            (2.64, 10.),
        ];
        let good = [
            (2.52, 46.),
            (2.34, 40.),
            (2.42, 42.),
            (2.16, 41.),
            (2.42, 41.),
            (2.39, 29.),
            (2.73, 43.),
            (2.14, 19.),
            (2.22, 20.),
            (2.01, 17.),
            (1.92, 34.),
            (1.60, 30.),
            (1.77, 39.),
            (1.84, 58.),
        ];
        let course = |of: &[(f64, f64)], from: usize| -> Vec<Event> {
            of.iter().enumerate().map(|(i, &(loss, norm))| step(from + i, loss, norm)).collect()
        };
        let hints = told(course(&high, 0).into_iter().chain([epoch(0.5, 1., None)]));
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(
            hints[0].contains("from 2.59 to 3.69 in the first 10 steps") && hints[0].contains("`lr = 3e-5`"),
            "{hints:?}"
        );
        assert!(told(course(&good, 0)).is_empty(), "large norms alone are no harm");
        assert!(told(course(&high, 100)).is_empty(), "a run that goes on");
        let short = told(course(&high[..3], 0).into_iter().chain([epoch(0.5, 1., None), epoch(0.5, 1., None)]));
        assert_eq!(short.len(), 1, "an epoch of three steps: {short:?}");
        let after_warmup: Vec<_> = [&good[..10], &high[..10]].concat();
        assert!(told(course(&after_warmup, 0)).is_empty(), "later than the first steps");
        assert_eq!(told_with(10, course(&after_warmup, 0)).len(), 1, "but not later than the warm-up");
    }

    #[test]
    fn images_learned_by_heart_are_told_once() {
        let course = |accuracy: f64, losses: &[f64]| told(losses.iter().map(|&loss| epoch(accuracy, loss, None)));
        let hints = course(1., &[0.9, 0.5, 0.6, 0.7, 0.8, 0.9, 1.]);
        assert!(
            hints.len() == 1 && hints[0].contains("test loss") && hints[0].contains("`val_fraction = 0.1`"),
            "{hints:?}"
        );
        assert!(course(0.99, &[0.5, 0.6, 0.7, 0.8]).is_empty(), "not all of them");
        assert!(course(1., &[0.9, 0.5, 0.6, 0.7]).is_empty(), "too few epochs to tell");
        assert!(course(1., &[0.5, 0.501, 0.502, 0.503, 0.504]).is_empty(), "no rise to speak of");
    }

    #[test]
    fn with_a_validation_part_its_loss_is_the_one_that_tells() {
        let rising = |i: usize| 0.5 + 0.1 * i as f64;
        assert!(told((0..6).map(|i| epoch(1., rising(i), Some(0.5)))).is_empty());
        let hints = told((0..6).map(|i| epoch(1., 0.5, Some(rising(i)))));
        assert!(hints.len() == 1 && hints[0].contains("validation loss") && hints[0].contains("`epochs`"), "{hints:?}");
    }
}
