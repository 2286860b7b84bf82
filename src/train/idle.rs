//! Settings that mean nothing beside the others: those of another method, optimiser or schedule, or of weights where none are loaded. Whoever
//! gives one believes that it does something.

use tallow_models::{Architecture, zoo};
use toml::{Table, Value};

use super::config::{Head, Method, Normalize, OptimizerKind, ScheduleKind, TrainConfig};
use super::error::Error;
use super::study::{knn, svm};

/// Settings of masked autoencoders alone.
const OF_MAE: [&str; 5] = ["mask_ratio", "decoder_dim", "decoder_depth", "decoder_heads", "norm_pix"];

/// Settings of DINO alone.
const OF_DINO: [&str; 17] = [
    "global_crops",
    "local_crops",
    "global_crops_scale",
    "local_crops_scale",
    "local_crops_size",
    "out_dim",
    "head_hidden_dim",
    "head_bottleneck_dim",
    "student_temperature",
    "teacher_temperature",
    "warmup_teacher_temperature",
    "warmup_teacher_epochs",
    "teacher_momentum",
    "center_momentum",
    "weight_decay_end",
    "freeze_last_layer",
    "koleo",
];

/// For every setting of `given` that means nothing to a run as `config` says, which they are a part of, an [`Error::Config`] that tells why.
pub fn idle(given: &Table, config: &TrainConfig) -> Vec<Error> {
    // A support vector machine refuses whatever it has not.
    let given = given.iter().filter(|_| !svm::is_meant(config));
    let told = given.filter_map(|(key, value)| {
        let got = value.as_str().map_or_else(|| value.to_string(), Into::into);
        Some(Error::config(key, why(key, value, config)?, got))
    });
    told.collect()
}

/// What is expected in place of the setting, where it means nothing.
fn why(key: &str, value: &Value, config: &TrainConfig) -> Option<String> {
    if knn::is_meant(config) {
        let other = (!knn::is_setting(key)).then(|| knn::UNTRAINED.into());
        return other.or_else(|| of_training(key, value, config));
    }
    of_method(key, config).or_else(|| of_training(key, value, config)).or_else(|| of_weights(key, value, config))
}

fn of_method(key: &str, config: &TrainConfig) -> Option<String> {
    let own = &config.pretraining;
    let belongs = |method: Method, to: &str| {
        let beside = own.method.map_or("without pre-training".into(), |own| format!("with the method {}", own.name()));
        (own.method != Some(method)).then(|| format!("nothing {beside}: it belongs to {to}"))
    };
    let no_crops = || own.local_crops == Some(0);
    match key {
        _ if OF_MAE.contains(&key) => belongs(Method::Mae, "mae"),
        _ if OF_DINO.contains(&key) => belongs(Method::Dino, "dino").or_else(|| match key {
            "local_crops_scale" | "local_crops_size" if no_crops() => Some("nothing with `local_crops = 0`".into()),
            "warmup_teacher_temperature" if own.warmup_teacher_epochs.unwrap_or(0) == 0 => {
                Some("`warmup_teacher_epochs` above 0 with it".into())
            }
            _ => None,
        }),
        "k" | "temperature" => belongs(Method::Knn, "knn"),
        "knn_limit" if own.method.is_none() => Some("nothing without pre-training".into()),
        _ => None,
    }
}

fn of_training(key: &str, value: &Value, config: &TrainConfig) -> Option<String> {
    let (optimizer, schedule) = (config.optimizer.optimizer, config.schedule.schedule);
    let nothing = matches!(value.as_float(), Some(0.)) || matches!(value.as_integer(), Some(0));
    let off = nothing || value.as_bool() == Some(false);
    let needed = match key {
        "templates" | "classes" if config.model.head != Head::ZeroShot => "`head = zero-shot`",
        "zca_eps" if config.data.normalize != Normalize::Zca => "`normalize = zca`",
        "momentum" | "nesterov" if optimizer != OptimizerKind::Sgd && !off => "`optimizer = sgd`",
        "betas" | "eps" if optimizer == OptimizerKind::Sgd => "`optimizer = adam` or `optimizer = adamw`",
        "min_lr" if schedule != ScheduleKind::Cosine && !off => "`schedule = cosine`",
        "gamma" if !matches!(schedule, ScheduleKind::Exponential | ScheduleKind::Step) => {
            "`schedule = exponential` or `schedule = step`"
        }
        "step_size" if schedule != ScheduleKind::Step => "`schedule = step`",
        _ => return None,
    };
    Some(format!("{needed} beside it"))
}

fn of_weights(key: &str, value: &Value, config: &TrainConfig) -> Option<String> {
    let named = || zoo::find(&config.model.model).ok().map(|entry| entry.architecture);
    let off = value.as_bool() == Some(false) || value.as_integer() == Some(0);
    match key {
        "head" if value.as_str() == Some("keep") => {}
        "checkpoint_key" if named().is_some() => {}
        "head_first_steps" if !off && config.model.freeze.as_deref().map(str::trim) == Some("backbone") => {
            return Some("nothing with `freeze = backbone`, which trains nothing but the head".into());
        }
        "ignore_unknown" | "head_first_steps" if !off => {}
        "grad_checkpointing" if !off && named().is_some_and(|own| !matches!(own, Architecture::Vit(_))) => {
            return Some("false for a model that is no ViT".into());
        }
        _ => return None,
    }
    config.model.weights.is_none().then(|| "nothing where no weights are loaded (`weights`)".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(given: &str, change: impl FnOnce(&mut TrainConfig)) -> Vec<String> {
        let given: Table = given.parse().unwrap();
        let config = TrainConfig::new("vit_mnist", "mnist").with_table(&given).unwrap().with(change);
        idle(&given, &config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_belongs_to_another_method_optimiser_or_schedule_is_told() {
        for key in OF_MAE.into_iter().chain(OF_DINO) {
            assert!(super::super::config::SETTINGS.iter().any(|setting| setting.name == key), "{key}");
        }
        let none: [&str; 0] = [];
        assert_eq!(told("method = 'mae'\nmask_ratio = 0.5\nknn_limit = 0", |_| {}), none);
        let got = told("method = 'mae'\nout_dim = 64", |_| {});
        assert_eq!(got, ["out_dim: expected nothing with the method mae: it belongs to dino, got 64"]);
        let got = told("method = 'dino'\nnorm_pix = false", |_| {});
        assert_eq!(got, ["norm_pix: expected nothing with the method dino: it belongs to mae, got false"]);
        assert_eq!(told("method = 'dino'\nlocal_crops = 0\nlocal_crops_size = 14", |_| {}).len(), 1);
        assert_eq!(told("method = 'dino'\nwarmup_teacher_temperature = 0.02", |_| {}).len(), 1);
        assert_eq!(told("method = 'dino'\nwarmup_teacher_temperature = 0.02\nwarmup_teacher_epochs = 3", |_| {}), none);
        assert_eq!(told("mask_ratio = 0.5", |_| {}).len(), 1);
        assert_eq!(told("optimizer = 'adamw'\nmomentum = 0.9\nnesterov = true", |_| {}).len(), 2);
        assert_eq!(told("optimizer = 'adamw'\nmomentum = 0.0\nbetas = [0.9, 0.95]", |_| {}), none);
        assert_eq!(told("optimizer = 'sgd'\nmomentum = 0.9\nbetas = [0.9, 0.95]", |_| {}).len(), 1);
        assert_eq!(told("schedule = 'cosine'\ngamma = 0.9\nstep_size = 2\nmin_lr = 1e-5", |_| {}).len(), 2);
        assert_eq!(told("schedule = 'step'\ngamma = 0.9\nstep_size = 2", |_| {}), none);
        assert_eq!(told("head = 'keep'\nignore_unknown = true\nhead_first_steps = 3", |_| {}).len(), 3);
        let loaded = |c: &mut TrainConfig| c.model.weights = Some("pretrained".into());
        assert_eq!(told("head = 'keep'\nignore_unknown = true\nhead_first_steps = 3", loaded), none);
        assert_eq!(told("templates = 'openai-7'\nclasses = 'a,b'", loaded).len(), 2);
        assert_eq!(told("templates = 'openai-7'\nhead = 'zero-shot'", loaded), none);
        assert_eq!(told("method = 'knn'\nlr = 0.1\nk = [3]", |_| {}).len(), 1);
        assert_eq!(told("method = 'knn'\nzca_eps = 0.1", |_| {}).len(), 1);
        assert_eq!(told("method = 'knn'\nnormalize = 'zca'\nzca_eps = 0.1", |_| {}), none);
    }
}
