//! What is saved is opened again as it was, whatever the model; and a save that fails leaves the old file.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use tallow_models::{Architecture, Params, VitConfig, zoo};
use tallow_weights::save::{self, Quantisation};
use tallow_weights::{
    Checkpoint, CheckpointConfig, Head, Interpolation, LoadOptions, OpenOptions, Preprocessing, Resizing, Source,
    Transparency, Whitening, load, open,
};

fn config(name: Option<&str>, architecture: Architecture) -> CheckpointConfig {
    let classes = architecture.num_classes();
    CheckpointConfig::new(
        architecture.clone(),
        Preprocessing::new(architecture.input_size(), vec![0.1307], vec![0.3081]).with(|c| {
            c.interpolation = Interpolation::Bilinear;
            c.crop_pct = 0.9;
            c.squash = true;
        }),
    )
    .with(|c| {
        c.name = name.map(str::to_owned);
        c.tag = Some("mine".into());
        c.labels = Some((0..classes).map(|class| format!("class {class}")).collect());
        c.license = Some("mit".into());
    })
}

fn tiny() -> VitConfig {
    VitConfig::default().with(|c| {
        c.img_size = 8.into();
        c.patch_size = 4;
        c.embed_dim = 32;
        c.depth = 1;
        c.num_heads = 2;
        c.num_classes = 3;
    })
}

fn built(architecture: &Architecture) -> Params {
    let params = Params::new(7, DType::F32, &Device::Cpu);
    architecture.build(params.builder()).unwrap();
    params
}

fn reopened(path: &Path) -> Checkpoint {
    let source = if path.is_dir() { Source::Folder(path.into()) } else { Source::File(path.into()) };
    open(&source, &OpenOptions::default()).unwrap()
}

/// Loads the checkpoint into a fresh model of its config.
fn loaded(checkpoint: &Checkpoint) -> Params {
    let params = Params::new(1, DType::F32, &Device::Cpu);
    let architecture = &checkpoint.config().unwrap().architecture;
    load(checkpoint, architecture, &LoadOptions::default().with(|c| c.head = Head::Auto), &params).unwrap();
    architecture.build(params.builder()).unwrap();
    params
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn assert_same(a: &Params, b: &Params) {
    assert_eq!(a.names(), b.names());
    for (a, b) in a.all().iter().zip(b.all()) {
        assert_eq!(bits(a.var.as_tensor()), bits(b.var.as_tensor()), "{}", a.name);
    }
}

/// Models of every kind, among them such as timm has no words for.
fn architectures() -> Vec<(Option<&'static str>, Architecture)> {
    let mut all: Vec<(Option<&str>, Architecture)> = ["mlp_mnist", "cnn_cifar10", "vit_mnist"]
        .map(|name| (Some(name), zoo::find(name).unwrap().architecture))
        .into();
    let mut options = vec![(Some("vit_tiny_patch16_224"), Vec::new()), (None, Vec::new())];
    for set in [
        vec![("pos_embed", "sinusoidal")],
        vec![("pos_embed", "none"), ("class_token", "false"), ("global_pool", "avg")],
        vec![("global_pool", "token+avg")],
        vec![("global_pool", "map"), ("qk_norm", "true"), ("act", "quick_gelu")],
        vec![("init_values", "0.1"), ("reg_tokens", "2"), ("no_embed_class", "true"), ("norm_eps", "1e-12")],
        vec![("spt", "true"), ("lsa", "true"), ("qk_norm", "true")],
        vec![("pre_norm", "true"), ("qkv_bias", "false"), ("act", "gelu_tanh"), ("drop_path_rate", "0.2")],
    ] {
        options.push((None, set));
    }
    for (name, set) in options {
        let mut architecture = Architecture::Vit(tiny());
        set.iter().for_each(|(key, value)| architecture.set(key, value).unwrap());
        all.push((name, architecture));
    }
    all
}

#[test]
fn every_model_is_opened_as_it_was_saved() {
    for (name, architecture) in architectures() {
        let folder = tempfile::tempdir().unwrap();
        let (params, config) = (built(&architecture), config(name, architecture));
        save::timm(folder.path(), &params, &config).unwrap();
        let checkpoint = reopened(folder.path());
        assert_eq!(checkpoint.config(), Some(&config));
        assert_same(&params, &loaded(&checkpoint));
    }
}

#[test]
fn what_timm_cannot_say_of_images_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let architecture = Architecture::Vit(tiny());
    let params = built(&architecture);
    let usual = config(None, architecture);
    for change in [
        |c: &mut Preprocessing| c.crop_floor = true,
        |c: &mut Preprocessing| c.resizing = Resizing::Floats,
        |c: &mut Preprocessing| (c.resizing, c.transparency) = (Resizing::Torchvision, Transparency::OnWhite),
        |c: &mut Preprocessing| c.keep_size = true,
    ] {
        let config = usual.clone().with(|c| change(&mut c.preprocessing));
        assert!(usual.preprocessing.is_timms() && !config.preprocessing.is_timms());
        save::timm(folder.path(), &params, &config).unwrap();
        assert_eq!(reopened(folder.path()).config(), Some(&config));
        save::gguf(&file, &params, &config, Quantisation::F32).unwrap();
        assert_eq!(reopened(&file).config(), Some(&config));
    }
}

#[test]
fn gguf_without_quantisation_is_exact() {
    for (name, architecture) in architectures() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.gguf");
        let (params, config) = (built(&architecture), config(name, architecture));
        save::gguf(&file, &params, &config, Quantisation::F32).unwrap();
        let checkpoint = reopened(&file);
        assert_eq!(checkpoint.config(), Some(&config));
        assert_same(&params, &loaded(&checkpoint));
    }
}

#[test]
fn gguf_quantises_matrices_and_leaves_vectors_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let architecture = Architecture::Vit(tiny().with(|c| c.img_size = 48.into()));
    let (params, config) = (built(&architecture), config(None, architecture));
    save::gguf(&file, &params, &config, Quantisation::Q8_0).unwrap();
    let checkpoint = reopened(&file);
    let stored = |name: &str| checkpoint.tensors().iter().find(|info| info.name == name).unwrap().dtype.clone();
    assert_eq!(stored("blocks.0.attn.qkv.weight"), "Q8_0");
    assert_eq!(stored("pos_embed"), "F16");
    assert_eq!(stored("cls_token"), "F32");
    assert_eq!(stored("blocks.0.norm1.weight"), "F32");
    for (a, b) in params.all().iter().zip(loaded(&checkpoint).all()) {
        let largest = |t: Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let difference = largest((a.var.as_tensor() - b.var.as_tensor()).unwrap());
        // Half of one of 127 steps up to the largest value, whose size is itself rounded to half precision.
        assert!(difference <= largest(a.var.as_tensor().clone()) / 220., "{}", a.name);
    }
}

#[test]
fn what_timm_cannot_build_is_refused_by_name() {
    for (key, value, word) in [
        ("pos_embed", "sinusoidal", "sinusoidal"),
        ("global_pool", "token+avg", "mean"),
        ("spt", "true", "shifted patch tokenisation"),
        ("lsa", "true", "locality self-attention"),
    ] {
        let mut architecture = Architecture::Vit(tiny());
        architecture.set(key, value).unwrap();
        let error = save::check_timm(&config(None, architecture)).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("GGUF"), "{error}");
    }
    let cnn = zoo::find("cnn_cifar10").unwrap().architecture;
    assert!(save::check_timm(&config(None, cnn)).is_err());
    assert!(save::check_timm(&config(None, Architecture::Vit(tiny()))).is_ok());
}

#[test]
fn the_parts_for_small_data_are_read_off_the_shapes_where_there_is_no_config() {
    let folder = tempfile::tempdir().unwrap();
    let architecture = Architecture::Vit(tiny().with(|c| {
        c.spt = true;
        c.lsa = true;
        c.in_chans = 1;
    }));
    save::timm(folder.path(), &built(&architecture), &config(None, architecture.clone())).unwrap();
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let checkpoint = reopened(&folder.path().join("model.safetensors"));
    assert_eq!(checkpoint.config_or_inferred().unwrap().0.architecture, architecture);
    let params = Params::new(1, DType::F32, &Device::Cpu);
    let other = |vit: VitConfig| {
        load(&checkpoint, &Architecture::Vit(vit), &LoadOptions::default(), &params).unwrap_err().to_string()
    };
    let message = other(tiny().with(|c| c.in_chans = 1));
    assert!(message.contains("set spt"), "{message}");
    let message = other(tiny().with(|c| {
        c.in_chans = 1;
        c.spt = true;
    }));
    assert!(message.contains("set lsa"), "{message}");
    for vit in [
        tiny().with(|c| c.in_chans = 3),
        tiny().with(|c| {
            c.in_chans = 1;
            c.patch_size = 8;
        }),
    ] {
        let message = other(vit.with(|c| {
            c.spt = true;
            c.lsa = true;
        }));
        assert!(message.contains("patch_norm") && message.contains("keep the checkpoint's patch_size"), "{message}");
    }
}

#[test]
fn a_classifier_made_of_words_is_known_without_its_config_or_refused() {
    let architecture = Architecture::Vit(tiny().with(|c| (c.head_proj, c.head_norm) = (Some(12), true)));
    let params = built(&architecture);
    let folder = tempfile::tempdir().unwrap();
    save::timm(folder.path(), &params, &config(None, architecture.clone())).unwrap();
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let file = folder.path().join("model.safetensors");
    assert_eq!(reopened(&file).config().unwrap().architecture, architecture);
    assert_same(&loaded(&reopened(&file)), &params);
    // Another tool keeps the tensors alone.
    let tensors: Vec<_> = params.all().into_iter().map(|p| (p.name, p.var.as_detached_tensor())).collect();
    save::safetensors(&file, &tensors, Default::default()).unwrap();
    let error = reopened(&file).config_or_inferred().unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("head_proj"), "{error}");
}

#[test]
fn what_a_config_says_of_whitening_beside_it_is_not_passed_over_without_it() {
    let architecture = zoo::find("mlp_mnist").unwrap().architecture;
    let [channels, height, width] = architecture.input_size();
    let mean = Tensor::zeros((channels, height, width), DType::F32, &Device::Cpu).unwrap();
    let matrix = Tensor::eye(channels * height * width, DType::F32, &Device::Cpu).unwrap();
    let whitening = Whitening::new(mean, matrix).unwrap();
    let config = config(None, architecture.clone()).with(|c| c.whitening = Some(whitening));
    let folder = tempfile::tempdir().unwrap();
    save::timm(folder.path(), &built(&architecture), &config).unwrap();
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let source = Source::File(folder.path().join("model.safetensors"));
    let error = open(&source, &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("whitening"), "{error}");
}

#[test]
fn a_run_folder_gives_its_best_checkpoint_else_its_last() {
    let folder = tempfile::tempdir().unwrap();
    let run = Source::Folder(folder.path().into());
    std::fs::create_dir(folder.path().join("checkpoints")).unwrap();
    let error = open(&run, &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("no checkpoint yet"), "{error}");
    let architecture = Architecture::Vit(tiny());
    for (name, tag) in [("last", "last"), ("best", "best")] {
        let config = config(None, architecture.clone()).with(|c| c.tag = Some(tag.into()));
        save::timm(&folder.path().join("checkpoints").join(name), &built(&architecture), &config).unwrap();
        let checkpoint = open(&run, &OpenOptions::default()).unwrap();
        assert_eq!(checkpoint.config().unwrap().tag.as_deref(), Some(tag));
    }
}

#[test]
fn a_save_that_fails_leaves_the_old_file_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "old").unwrap();
    let failed = save::replace(&file, |temporary| {
        std::fs::write(temporary, "half").unwrap();
        Err(std::io::Error::other("disk full"))
            .map_err(|source| tallow_weights::Error::Io { path: file.clone(), source })
    });
    assert!(failed.unwrap_err().to_string().contains("disk full"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let write = |temporary: &Path| {
        std::fs::write(temporary, "new").unwrap();
        Ok::<(), tallow_weights::Error>(())
    };
    save::replace(&file, write).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    for path in [&socket, &link] {
        let error = save::write_text(path, "text").unwrap_err().to_string();
        assert!(error.ends_with("expected a file or nothing, got a device, a pipe or a socket"), "{error}");
    }
    assert!(std::fs::metadata(&link).unwrap().file_type().is_socket());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_stream_writes_the_file_that_is_written_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let [at_once, streamed] = ["at_once", "streamed"].map(|name| folder.path().join(name));
    let features = Tensor::arange(0f32, 30., &Device::Cpu).unwrap().reshape((5, 2, 3)).unwrap();
    let labels = Tensor::new(&[3i64, 1, 4, 1, 5], &Device::Cpu).unwrap();
    let about = std::collections::HashMap::from([("model".to_string(), "größe".to_string())]);
    let tensors = [("features".to_string(), features.clone()), ("labels".into(), labels.clone())];
    ::safetensors::serialize_to_file(
        tensors.iter().map(|(name, tensor)| (name, tensor)),
        Some(about.clone()),
        &at_once,
    )
    .unwrap();
    let ours = folder.path().join("ours");
    save::safetensors(&ours, &tensors, about.clone()).unwrap();
    assert_eq!(std::fs::read(&at_once).unwrap(), std::fs::read(&ours).unwrap());

    let shapes = [("labels", DType::I64, vec![5]), ("features", DType::F32, vec![5, 2, 3])];
    save::stream(&streamed, &shapes, about.clone(), |stream| {
        assert!(stream.write(&features).unwrap_err().to_string().contains("40 bytes of labels"), "labels come first");
        stream.write(&labels)?;
        for rows in [0..2, 2..5] {
            // A transposed view of the same values: what counts is their order, not where they lie.
            let part = features.narrow(0, rows.start, rows.len())?.t()?.contiguous()?.t()?;
            stream.write(&part)?;
        }
        assert!(stream.write(&features).unwrap_err().to_string().contains("no values"));
        Ok::<(), tallow_weights::Error>(())
    })
    .unwrap();
    let whole = std::fs::read(at_once).unwrap();
    assert_eq!(whole, std::fs::read(&streamed).unwrap());

    let unfinished = save::stream(&streamed, &shapes, about, |stream| stream.write(&labels)).unwrap_err();
    assert!(unfinished.to_string().contains("120 bytes too few"), "{unfinished}");
    assert_eq!(whole, std::fs::read(&streamed).unwrap(), "the old file stands");
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("a".to_string(), Tensor::new(&[1f32, 2.], &Device::Cpu).unwrap())];
    let written = |index: usize| {
        let path = folder.path().join(index.to_string());
        let metadata = ["format", "config", "third", "fourth"].map(|key| (key.to_string(), "text".to_string()));
        save::safetensors(&path, &tensors, metadata.into()).unwrap();
        std::fs::read(path).unwrap()
    };
    let first = written(0);
    assert!((1..20).all(|index| written(index) == first));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in_the_way");
    std::fs::write(&file, "").unwrap();
    let architecture = Architecture::Vit(tiny());
    let error = save::timm(&file.join("run"), &built(&architecture), &config(None, architecture)).unwrap_err();
    assert!(error.to_string().contains("in_the_way"), "{error}");
}
