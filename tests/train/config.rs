//! Settings are read back as they were written, and those that make no sense are refused by name.

use std::path::Path;

use tallow::train::config::{BatchSize, Count, OptimizerKind, ScheduleKind, TrainConfig};
use tallow::train::defaults::{Family, Regime, by_data, defaults, pool_of_dino};

use tallow_models::zoo;

use crate::small;

#[test]
fn a_configuration_is_read_back_as_it_was_written() {
    let mut config = small();
    config.optimizer.lr = 0.1 + 0.2;
    config.model.weights = Some("pretrained".into());
    config.regularization.layer_decay = Some(0.75);
    let text = config.to_toml().unwrap();
    assert_eq!(TrainConfig::from_toml(&text, Path::new("config.toml")).unwrap(), config);
}

#[test]
fn height_and_width_are_read_as_config_files_and_as_flags_write_them() {
    let read = |size: &str| {
        let text = format!("model = \"vit_mnist\"\ndata = \"mnist\"\nset = {{ img_size = {size} }}\n");
        TrainConfig::from_toml(&text, Path::new("config.toml")).unwrap().model.set["img_size"].clone()
    };
    assert_eq!([read("[32, 48]"), read("\"32x48\""), read("32")], ["32x48", "32x48", "32"]);
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_name() {
    let text = "model = \"vit_mnist\"\nlearning_rate = 0.1\n";
    let error = TrainConfig::from_toml(text, Path::new("some/config.toml")).unwrap_err().to_string();
    assert!(
        error.contains("some/config.toml") && error.contains("learning_rate") && error.contains("line 2"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
    let error = TrainConfig::from_toml("", Path::new("some/config.toml")).unwrap_err().to_string();
    assert_eq!(error, "some/config.toml: expected a run's configuration, got no `model`");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    type Change = fn(&mut TrainConfig);
    let changes: [(&str, Change); 22] = [
        ("model", |c| c.model.model.clear()),
        ("data", |c| c.data.data.clear()),
        ("lr", |c| c.optimizer.lr = f64::NAN),
        ("lr", |c| c.optimizer.lr = -1e-3),
        ("lr", |c| c.optimizer.lr = 0.),
        ("lr", |c| c.optimizer.lr = f64::INFINITY),
        ("batch_size", |c| c.length.batch_size = 0.into()),
        ("epochs", |c| c.length.epochs = 0.into()),
        ("accumulate", |c| c.length.accumulate = 0),
        ("val_fraction", |c| c.data.val_fraction = 1.),
        ("val_fraction", |c| c.data.val_fraction = -0.1),
        ("limit", |c| c.data.limit = Some(0)),
        ("momentum", |c| c.optimizer.momentum = 1.),
        ("nesterov", |c| (c.optimizer.nesterov, c.optimizer.momentum) = (true, 0.)),
        ("weight_decay", |c| c.optimizer.weight_decay = -1.),
        ("betas", |c| c.optimizer.betas = [0.9, 1.]),
        ("eps", |c| c.optimizer.eps = f64::NAN),
        ("gamma", |c| c.schedule.gamma = 0.),
        ("step_size", |c| c.schedule.step_size = 0),
        ("clip_grad", |c| c.regularization.clip_grad = -1.),
        ("label_smoothing", |c| c.regularization.label_smoothing = 1.),
        ("layer_decay", |c| c.regularization.layer_decay = Some(1.5)),
    ];
    assert!(small().validate().is_ok());
    for (field, change) in changes {
        let mut config = small();
        change(&mut config);
        let error = config.validate().expect_err(field).to_string();
        assert!(error.starts_with(&format!("{field}: expected ")), "{error}");
    }
}

#[test]
fn a_table_changes_what_it_names_and_nothing_else() {
    let table = "lr = 0.25\noptimizer = \"sgd\"\n[set]\ndepth = 3\nqkv_bias = false".parse().unwrap();
    let changed = small().with_table(&table).unwrap();
    let mut expected = small();
    (expected.optimizer.lr, expected.optimizer.optimizer) = (0.25, OptimizerKind::Sgd);
    expected.model.set.insert("depth".into(), "3".into());
    expected.model.set.insert("qkv_bias".into(), "false".into());
    assert_eq!(changed, expected);

    let error = small().with_table(&"batch = 3".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("`batch`"), "{error}");
}

#[test]
fn differences_name_the_fields_and_both_values() {
    let mut other = small();
    (other.optimizer.lr, other.schedule.schedule) = (0.5, ScheduleKind::Step);
    (other.name, other.compute.threads) = (Some("another name changes no result".into()), 3);
    assert_eq!(small().differences(&other), ["lr (0.001 against 0.5)", "schedule (\"cosine\" against \"step\")"]);
}

#[test]
fn the_defaults_of_every_family_make_sense() {
    for family in [Family::Vit, Family::Cnn, Family::Mlp] {
        for start in [Regime::Scratch, Regime::Pretrained, Regime::Probe] {
            let config = defaults(family, start).with(|c| {
                c.model.model = "m".into();
                c.data.data = "d".into();
            });
            config.validate().unwrap();
            assert_eq!(config.model.weights.is_some(), start != Regime::Scratch);
        }
    }
}

#[test]
fn dino_trains_the_mean_of_patches_of_a_narrow_network_unless_something_else_is_said() {
    let pool_of = |model: &str, regime: Regime, with: &str| {
        let architecture = &zoo::find(model).unwrap().architecture;
        let mut config = defaults(Family::of(architecture), regime).with_table(&with.parse().unwrap()).unwrap();
        pool_of_dino(&mut config, architecture);
        config.model.set.get("global_pool").cloned()
    };
    assert_eq!(pool_of("vit_mnist", Regime::Dino, "").as_deref(), Some("avg"));
    assert_eq!(pool_of("vit_mnist", Regime::Dino, "set.global_pool = 'token'").as_deref(), Some("token"));
    // Weights have a pool of their own, and so have other methods and wider networks.
    assert_eq!(pool_of("vit_mnist", Regime::Dino, "weights = 'x'"), None);
    assert_eq!(pool_of("vit_mnist", Regime::Mae, ""), None);
    assert_eq!(pool_of("vit_mnist", Regime::Scratch, ""), None);
    assert_eq!(pool_of("vit_small_patch16_224", Regime::Dino, ""), None);
}

#[test]
fn few_samples_are_passed_over_more_often_and_in_smaller_batches() {
    let vit = &zoo::find("vit_small_patch14_dinov2").unwrap().architecture;
    let settled = |samples: usize, with: &str| {
        let mut config = defaults(Family::Vit, Regime::Pretrained).with_table(&with.parse().unwrap()).unwrap();
        by_data(&mut config, vit, samples);
        let again = config.clone();
        by_data(&mut config, vit, samples + 100);
        assert_eq!(config, again, "what is settled stays");
        (config.length.batch_size, config.length.epochs, config.length.eval_every)
    };
    let of = |batch_size: usize, epochs: usize, eval_every: usize| -> (BatchSize, Count, Count) {
        (batch_size.into(), epochs.into(), eval_every.into())
    };
    // Two hundred steps, as near as whole epochs come to them, but never fewer than three epochs.
    assert_eq!(settled(120, ""), of(16, 25, 3));
    assert_eq!(settled(2_000, ""), of(32, 3, 1));
    assert_eq!(settled(60_000, ""), of(32, 3, 1));
    assert_eq!(settled(1, ""), of(16, 200, 20));
    // What is said stays, and the rest follows from it.
    assert_eq!(settled(120, "batch_size = 60"), of(60, 100, 10));
    assert_eq!(settled(120, "epochs = 30"), of(16, 30, 1));
    assert_eq!(settled(120, "epochs = 30\neval_every = 4"), of(16, 30, 4));
    assert_eq!(settled(120, "accumulate = 2"), of(16, 50, 5));
    let open = Count::Auto;
    assert_eq!(settled(120, "batch_size = \"auto\""), (BatchSize::Auto, open, open));
}

#[test]
fn an_automatic_batch_size_is_a_word_and_a_wrong_one_is_refused() {
    let with = |text: &str| small().with_table(&text.parse().unwrap());
    let auto = with("batch_size = \"auto\"").unwrap();
    assert_eq!(auto.length.batch_size, BatchSize::Auto);
    let text = auto.to_toml().unwrap();
    assert!(text.contains("batch_size = \"auto\"\n"), "{text}");
    assert_eq!(TrainConfig::from_toml(&text, "config.toml".as_ref()).unwrap(), auto);
    for wrong in ["\"many\"", "-1", "2.5", "[3]"] {
        let error = with(&format!("batch_size = {wrong}")).unwrap_err().to_string();
        assert!(error.contains("expected a number of at least 1, \"auto\" or \"data\""), "{error}");
    }
}
