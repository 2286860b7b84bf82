//! Learning rates against PyTorch's schedulers.

use tallow::train::config::{ScheduleKind, TrainConfig};
use tallow::train::schedule::Schedule;

use crate::{numbers, reference, small};

fn config(schedule: ScheduleKind, warmup_steps: usize) -> TrainConfig {
    let (lr, min_lr, gamma) = match schedule {
        ScheduleKind::Cosine => (0.1, 0.01, 0.95),
        ScheduleKind::Exponential => (0.1, 0., 0.8),
        _ => (0.1, 0., 0.3),
    };
    small().with(|c| {
        c.schedule.schedule = schedule;
        c.optimizer.lr = lr;
        c.schedule.min_lr = min_lr;
        c.schedule.gamma = gamma;
        c.schedule.step_size = 2;
        c.length.epochs = 6.into();
        c.schedule.warmup_steps = Some(warmup_steps);
    })
}

#[test]
fn without_warm_up_the_rates_are_those_of_pytorch() {
    let reference = reference("schedules.json");
    for (name, kind) in [
        ("constant", ScheduleKind::Constant),
        ("cosine", ScheduleKind::Cosine),
        ("exponential", ScheduleKind::Exponential),
        ("step", ScheduleKind::Step),
    ] {
        let schedule = Schedule::new(&config(kind, 0), 5);
        let expected = numbers(&reference[name]);
        assert_eq!(expected.len(), 30);
        for (step, expected) in expected.into_iter().enumerate() {
            let lr = schedule.lr(step);
            assert!((lr - expected).abs() < 1e-12, "{name}, step {step}: expected {expected}, got {lr}");
        }
    }
}

#[test]
fn warm_up_rises_in_equal_steps_to_the_peak() {
    let schedule = Schedule::new(&config(ScheduleKind::Cosine, 4), 5);
    for step in 0..4 {
        assert!((schedule.lr(step) - 0.1 * (step + 1) as f64 / 5.).abs() < 1e-15);
    }
    assert_eq!(schedule.lr(4), 0.1);
    assert!(schedule.lr(5) < 0.1);
}

#[test]
fn cosine_warms_up_over_a_tenth_of_the_run_where_nothing_is_said() {
    let open = |kind| config(kind, 0).with(|c| c.schedule.warmup_steps = None);
    assert_eq!(Schedule::new(&open(ScheduleKind::Cosine), 5).warmup_steps(), 3);
    assert_eq!(Schedule::new(&open(ScheduleKind::Constant), 5).warmup_steps(), 0);
}
