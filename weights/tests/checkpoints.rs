//! A ViT is found in whatever training scripts save around it, gives the tokens that timm computes, and what is left out is said.

#[path = "support/references.rs"]
mod references;
#[path = "support/torch.rs"]
mod torch;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use tallow_models::vit::{BlockFn, NormLayer};
use tallow_models::{AnyModel, Architecture, Mode, Model, Params, VitConfig};
use tallow_weights::{
    Account, Checkpoint, CheckpointConfig, Error, LoadOptions, OpenOptions, Source, load, open, save,
};

use references::{reference, references};
use torch::{Py, dict};

type Tensors = Vec<(String, Tensor)>;
/// Names and shapes.
type More<'a> = &'a [(&'a str, &'a [usize])];

/// The tensors of the ViT in `references/timm`, in an order of their own.
fn vit() -> Tensors {
    let mut tensors: Tensors =
        candle_core::safetensors::load(references().join("timm/model.safetensors"), &Device::Cpu)
            .unwrap()
            .into_iter()
            .collect();
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    tensors
}

/// Another ViT of the same shape, whose tokens are others.
fn other() -> Tensors {
    vit().into_iter().map(|(name, tensor)| (name, (tensor * 0.5).unwrap())).collect()
}

fn is_head(name: &str) -> bool {
    name.starts_with("head.")
}

fn body(tensors: Tensors) -> Tensors {
    tensors.into_iter().filter(|(name, _)| !is_head(name)).collect()
}

/// The classifier, as `weight` and `bias`.
fn head() -> Tensors {
    vit().into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix("head.")?.to_owned(), tensor))).collect()
}

fn at(prefix: &str, tensors: Tensors) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
}

fn plus(mut tensors: Tensors, more: More) -> Tensors {
    tensors.extend(more.iter().map(|(name, shape)| (name.to_string(), ones(shape))));
    tensors
}

fn state(tensors: Tensors) -> Py {
    Py::Dict(tensors.into_iter().map(|(name, tensor)| (name, Py::Tensor(tensor))).collect())
}

fn scalar() -> Py {
    Py::Tensor(Tensor::new(5i64, &Device::Cpu).unwrap())
}

/// An optimiser's state of two parameters.
fn optimizer() -> Py {
    let moments = || dict([("step", scalar()), ("exp_avg", Py::Tensor(ones(&[24])))]);
    dict([("state", dict([("0", moments()), ("1", moments())])), ("param_groups", Py::List(vec![Py::Int(1)]))])
}

/// A folder with the object as its only weights, and the config of the ViT.
fn folder(object: &Py) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("last.ckpt"), torch::save(object)).unwrap();
    std::fs::copy(references().join("timm/config.json"), folder.path().join("config.json")).unwrap();
    folder
}

fn opened(folder: &Path, options: &OpenOptions) -> Result<Checkpoint, Error> {
    open(&Source::Folder(folder.into()), options)
}

/// Loads the checkpoint and compares tokens, and logits where it has a head, with timm's. Gives the account.
fn right(what: &str, checkpoint: &Checkpoint) -> Account {
    let (config, _) = checkpoint.config_or_inferred().unwrap_or_else(|e| panic!("{what}: {e}"));
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(checkpoint, &config.architecture, &LoadOptions::default(), &params);
    let account = account.unwrap_or_else(|e| panic!("{what}: {e}"));
    let AnyModel::Vit(vit) = config.architecture.build(params.builder()).unwrap() else { panic!("no ViT") };
    let expected = reference("expected/timm.safetensors");
    let images = expected.tensor("images").unwrap();
    let differs = |got: Tensor, name: &str| {
        let difference = (got - expected.tensor(name).unwrap()).unwrap().abs().unwrap();
        difference.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
    };
    let tokens = differs(vit.forward_features(&images, Mode::Eval).unwrap(), "tokens");
    assert!(tokens <= 1e-4, "{what}: tokens differ by {tokens:e}");
    if account.initialised().next().is_none() && config.architecture.num_classes() > 0 {
        let logits = differs(vit.forward(&images, Mode::Eval).unwrap(), "logits");
        assert!(logits <= 1e-4, "{what}: logits differ by {logits:e}");
    }
    account
}

/// The whole network, classifier and all.
fn whole(what: &str, object: &Py) -> Account {
    let folder = folder(object);
    let account =
        right(what, &opened(folder.path(), &OpenOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}")));
    assert_eq!(account.initialised().count(), 0, "{what}: {account}");
    account
}

/// All but the classifier.
fn headless(what: &str, object: &Py) -> Account {
    let folder = folder(object);
    let account =
        right(what, &opened(folder.path(), &OpenOptions::default()).unwrap_or_else(|e| panic!("{what}: {e}")));
    let new: Vec<&str> = account.initialised().map(|(name, _)| name).collect();
    assert_eq!(new, ["head.weight", "head.bias"], "{what}: {account}");
    account
}

#[test]
fn what_stands_beside_the_state_dict_is_passed_over_and_listed() {
    let rng = Tensor::zeros(64, DType::U8, &Device::Cpu).unwrap();
    let cases = [
        (
            "an accuracy",
            dict([
                ("epoch", Py::Int(3)),
                ("state_dict", state(vit())),
                ("best_acc1", scalar()),
                ("optimizer", optimizer()),
            ]),
        ),
        ("a loss", dict([("model_state_dict", state(vit())), ("epoch", scalar()), ("loss", scalar())])),
        ("a state of random numbers", dict([("model", state(vit())), ("rng_state", Py::Tensor(rng))])),
        ("an empty average", dict([("model", state(vit())), ("model_ema", dict([]))])),
        ("settings of an average", dict([("model", state(vit())), ("ema", dict([("decay", scalar())]))])),
        ("a key of one's own", dict([("weights_of_mine", state(vit())), ("x", scalar())])),
        ("six dictionaries", dict([("a", dict([("b", dict([("c", dict([("d", dict([("e", state(vit()))]))]))]))]))])),
        ("a list", dict([("models", Py::List(vec![state(vit()), scalar()]))])),
        (
            "a dictionary of another class",
            dict([("model", Py::Like("my", "Dict", vit().into_iter().map(|(n, t)| (n, Py::Tensor(t))).collect()))]),
        ),
        (
            "an object with settings",
            dict([
                ("args", Py::Object("argparse", "Namespace", Box::new(dict([("lr", Py::Int(1))])))),
                ("model", state(vit())),
            ]),
        ),
        ("a set", dict([("model", state(vit())), ("tags", Py::Opcodes(b"(K\x01K\x02\x91".to_vec()))])),
        (
            "an integer of a hundred bits",
            dict([("model", state(vit())), ("n", Py::Opcodes(b"\x8b\x0d\0\0\x00123456789abcd".to_vec()))]),
        ),
    ];
    for (what, object) in &cases {
        let account = whole(what, object);
        assert!(account.notes.is_empty(), "{what}: nothing had to be chosen: {account}");
    }
    let listed: Vec<String> =
        whole("again", &cases[0].1).left_out().map(|(name, why)| format!("{name}: {why}")).collect();
    assert_eq!(listed.len(), 5, "{listed:?}");
    assert!(listed.contains(&"best_acc1: what a metric keeps".into()), "{listed:?}");
    assert!(listed.contains(&"optimizer.state.0.exp_avg: state of the optimiser".into()), "{listed:?}");
}

#[test]
fn of_several_networks_the_choice_follows_a_rule_and_is_told() {
    let incomplete: Tensors = vit().into_iter().filter(|(name, _)| name.contains("patch")).collect();
    let flat = |a: &str, b: &str| state([at(a, vit()), at(b, other())].concat());
    for (what, object, taken) in [
        ("an average", dict([("state_dict", state(other())), ("state_dict_ema", state(vit()))]), "state_dict_ema"),
        (
            "an average of DDP",
            dict([("model", state(other())), ("model_ema", state(at("module.", vit())))]),
            "model_ema",
        ),
        (
            "an average further in",
            dict([("model", state(other())), ("ema", dict([("shadow", state(vit()))]))]),
            "ema.shadow",
        ),
        ("stochastic averaging", dict([("model", state(other())), ("swa_model", state(vit()))]), "swa_model"),
        ("an average by prefix", flat("modelEma.", "model."), "modelEma"),
        (
            "a teacher",
            dict([("student", state(at("module.backbone.", other()))), ("teacher", state(at("backbone.", vit())))]),
            "teacher.backbone",
        ),
        ("a target encoder", flat("target_encoder.", "context_encoder."), "target_encoder"),
        ("a momentum encoder", flat("module.base_encoder.", "module.momentum_encoder."), "base_encoder"),
        ("an average without blocks", dict([("model", state(vit())), ("ema", state(incomplete))]), "model"),
        ("a common name", dict([("last", state(other())), ("state_dict", state(vit()))]), "state_dict"),
    ] {
        let account = whole(what, &object);
        let said: Vec<&String> = account.notes.iter().filter(|note| note.contains("2 networks")).collect();
        assert!(said.len() == 1 && said[0].contains(&format!("{taken:?} was taken")), "{what}: {account}");
        assert!(said[0].contains("`checkpoint_key`"), "{what}: {account}");
        assert!(account.left_out().any(|(_, why)| why.contains("another network")), "{what}: {account}");
    }
}

#[test]
fn the_teacher_of_a_distillation_is_another_network() {
    let teacher: Tensors = other().into_iter().filter(|(name, _)| !name.contains("blocks.1")).collect();
    let object = dict([("teacher", state(teacher)), ("student", state(vit()))]);
    let account = whole("a shallower teacher", &object);
    assert!(account.notes[0].contains("is another network (24 wide, 1 blocks) than the config says"), "{account}");
    // Without a config, what it teaches says so.
    let folder = folder(&object);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let options = OpenOptions::default().with(|c| c.num_heads = Some(3));
    let account = right("no config", &opened(folder.path(), &options).unwrap());
    assert!(account.notes.iter().any(|note| note.contains("than what it teaches")), "{account}");
    // One that is no ViT is left out without more.
    let cnn = plus(at("student.", vit()), &[("teacher.conv1.weight", &[4, 3, 3, 3]), ("teacher.fc.weight", &[5, 24])]);
    assert_eq!(whole("a CNN", &state(cnn)).left_out().count(), 2);
}

#[test]
fn a_key_chooses_and_one_that_is_not_there_lists_those_that_are() {
    let folder = folder(&dict([
        ("student", state(at("module.backbone.", vit()))),
        ("teacher", state(at("module.backbone.", other()))),
    ]));
    let with = |key: &str| opened(folder.path(), &OpenOptions::default().with(|c| c.checkpoint_key = Some(key.into())));
    for key in ["student", "student.backbone", "student.module.backbone"] {
        let account = right(key, &with(key).unwrap());
        assert!(account.notes.is_empty(), "{key}: {account}");
    }
    let error = with("tutor").unwrap_err().to_string();
    assert!(error.contains("checkpoint_key") && error.contains("\"tutor\""), "{error}");
    assert!(error.contains("\"student.backbone\"") && error.contains("\"teacher.backbone\""), "{error}");
}

#[test]
fn siblings_under_one_outer_prefix_belong_together() {
    for (what, tensors) in [
        ("module.backbone and module.head", [at("module.backbone.", body(vit())), at("module.head.", head())].concat()),
        ("model.vit and model.classifier", [at("model.vit.", body(vit())), at("model.classifier.", head())].concat()),
        ("backbone and fc", [at("backbone.", body(vit())), at("fc.", head())].concat()),
        ("encoder and linear_probe", [at("encoder.", body(vit())), at("linear_probe.", head())].concat()),
        ("two levels up", [at("net.encoder.vit.", body(vit())), at("net.fc.", head())].concat()),
        ("a name of one's own", [at("encoder.", body(vit())), at("species.", head())].concat()),
        ("dropout before it", [body(vit()), at("head.1.", head())].concat()),
        (
            "one of two has the classes",
            plus([at("encoder.", body(vit())), at("fc.", head())].concat(), &[("age.weight", &[9, 24])]),
        ),
    ] {
        whole(what, &dict([("state_dict", state(tensors))]));
    }
    let account = whole(
        "dictionaries",
        &dict([("backbone", state(body(vit()))), ("classifier", state(head())), ("optimizer", optimizer())]),
    );
    assert!(account.notes[0].contains("\"classifier\" was taken for the classifier (5 classes)"), "{account}");
}

#[test]
fn what_may_be_no_classifier_is_not_taken_for_one() {
    let vit_and = |more: More| state(plus(at("encoder.", body(vit())), more));
    let cases: [(&str, More, &str); 6] = [
        ("two", &[("fc_a.weight", &[5, 24]), ("fc_b.weight", &[5, 24])], "is unclear"),
        ("a norm before it", &[("bn.weight", &[24]), ("fc.weight", &[5, 24])], "may stand between"),
        (
            "a projection",
            &[("projection_head.layers.0.weight", &[64, 24]), ("projection_head.layers.0.bias", &[64])],
            "",
        ),
        ("an MLP", &[("head.mlp.0.weight", &[64, 24]), ("head.last_layer.weight", &[9, 64])], ""),
        ("another width", &[("fc.weight", &[5, 48])], ""),
        ("classes of a loss", &[("criterion.weight", &[5, 24])], ""),
    ];
    for (what, more, note) in cases {
        let account = headless(what, &vit_and(more));
        assert_eq!(account.left_out().count(), more.len(), "{what}: {account}");
        assert!(note.is_empty() == account.notes.is_empty() && account.to_string().contains(note), "{what}: {account}");
    }
}

#[test]
fn tensors_outside_of_the_vit_are_left_out_with_the_reason() {
    let decoder: More = &[
        ("mask_token", &[1, 1, 8]),
        ("masked_embed", &[1, 24]),
        ("decoder_embed.weight", &[8, 24]),
        ("decoder_pos_embed", &[1, 17, 8]),
        ("decoder_blocks.0.norm1.weight", &[8]),
        ("decoder_pred.weight", &[48, 8]),
    ];
    let masked = headless("MAE", &dict([("model", state(plus(body(vit()), decoder)))]));
    assert!(masked.left_out().filter(|(_, why)| why.contains("masked pre-training")).count() >= 4, "{masked}");
    assert!(masked.left_out().any(|(name, why)| name.ends_with("masked_embed") && why.contains("masks are predicted")));
    let mut counted = at("module.", vit());
    counted.push(("n_averaged".into(), Tensor::new(5i64, &Device::Cpu).unwrap()));
    whole("an averaged model", &state(counted));
    whole(
        "weights of a loss",
        &dict([("state_dict", state(plus(at("model.", vit()), &[("criterion.weight", &[5])])))]),
    );
    whole(
        "text",
        &state(plus(at("visual.trunk.", vit()), &[("text.token_embedding.weight", &[9, 24]), ("logit_scale", &[1])])),
    );
    let joint = plus(at("context_encoder.", vit()), &[("predictor.predictor_blocks.0.norm1.weight", &[12])]);
    whole("a context encoder", &state(joint));
}

#[test]
fn names_of_wrappers_vanish_wherever_they_stand() {
    let wrapped = |name: &str| {
        let name = name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module.");
        format!("_orig_mod.module._fsdp_wrapped_module.{}", name.replace("attn.", "attn._orig_mod."))
    };
    let tensors = vit().into_iter().map(|(name, tensor)| (wrapped(&name), tensor)).collect();
    whole("FSDP, DDP, checkpointing and a compiler", &dict([("model", state(tensors))]));
    let inside = [at("backbone.module.", body(vit())), at("head.module.", head())].concat();
    whole("DDP inside", &state(inside));
}

#[test]
fn what_could_be_a_part_of_the_vit_is_an_error_until_it_is_to_be_ignored() {
    for name in ["blocks.0.attn.relative_bias", "prompt_embed", "patch_embed.more.weight"] {
        let folder = folder(&state(plus(vit(), &[(name, &[4, 24])])));
        let checkpoint = opened(folder.path(), &OpenOptions::default()).unwrap();
        let architecture = checkpoint.config().unwrap().architecture.clone();
        let load = |ignore_unknown| {
            let options = LoadOptions::default().with(|c| c.ignore_unknown = ignore_unknown);
            load(&checkpoint, &architecture, &options, &Params::new(0, DType::F32, &Device::Cpu))
        };
        let error = load(false).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("`ignore_unknown`"), "{error}");
        let account = load(true).unwrap();
        assert_eq!(account.left_out().map(|(name, _)| name).collect::<Vec<_>>(), [name]);
        assert!(account.notes[0].contains(name), "{account}");
    }
    // What is missing cannot be ignored; what was left out may be it.
    let folder = folder(&state(plus(vit(), &[("projector.weight", &[4, 24])])).without("norm.weight"));
    let checkpoint = opened(folder.path(), &OpenOptions::default()).unwrap();
    let options = LoadOptions::default().with(|c| c.ignore_unknown = true);
    let architecture = checkpoint.config().unwrap().architecture.clone();
    let error =
        load(&checkpoint, &architecture, &options, &Params::new(0, DType::F32, &Device::Cpu)).unwrap_err().to_string();
    assert!(error.contains("norm.weight") && error.contains("projector.weight"), "{error}");
}

impl Py {
    fn without(self, key: &str) -> Self {
        match self {
            Self::Dict(items) => Self::Dict(items.into_iter().filter(|(name, _)| name != key).collect()),
            other => other,
        }
    }
}

#[test]
fn a_whole_pickled_module_is_refused_with_what_to_save_instead() {
    let parts = dict([("_modules", dict([("proj", state(vit()))])), ("training", Py::Int(1))]);
    let module = Py::Object("my.models", "Net", Box::new(parts));
    for object in [module.clone(), dict([("model", module), ("optimizer", optimizer())])] {
        let error = opened(folder(&object).path(), &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains("my.models.Net") && error.contains("model.state_dict()"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_pytorch_alone_can_write_is_read() {
    // Parameters with attributes, a set, bytes and a large number beside them, in protocol 4; see references/make.py.
    let checkpoint = reference("torch_objects.pth");
    let (objects, expected) = (&checkpoint, reference("expected/torch_objects.safetensors"));
    assert_eq!(objects.names().collect::<Vec<_>>(), ["parameter", "with_attributes", "expanded", "transposed"]);
    for name in expected.names() {
        let values =
            |checkpoint: &Checkpoint| checkpoint.tensor(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(objects), values(&expected), "{name}");
    }
}

#[test]
fn networks_in_safetensors_are_told_apart_by_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let tensors: std::collections::HashMap<String, Tensor> =
        plus([at("ema.", vit()), at("model.", other())].concat(), &[("ema.projector.weight", &[3, 24])])
            .into_iter()
            .collect();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    std::fs::copy(references().join("timm/config.json"), folder.path().join("config.json")).unwrap();
    let account = right("safetensors", &opened(folder.path(), &OpenOptions::default()).unwrap());
    assert!(account.notes[0].contains("\"ema\" was taken"), "{account}");
    assert_eq!(account.initialised().count(), 0);
}

#[test]
fn the_one_file_of_weights_in_a_folder_is_taken_whatever_its_name() {
    for name in ["last.ckpt", "final.pkl", "model_best.pth.tar", "epoch=3.PT", "pytorch_model.bin", "x.pth"] {
        let folder = folder(&state(vit()));
        std::fs::rename(folder.path().join("last.ckpt"), folder.path().join(name)).unwrap();
        // What trainers put beside it.
        for beside in [
            "optimizer.pt",
            "rng_state_0.pth",
            "scheduler.pt",
            "training_args.bin",
            "random_states_0.pkl",
            "sampler.bin",
        ] {
            std::fs::write(folder.path().join(beside), "").unwrap();
        }
        right(name, &opened(folder.path(), &OpenOptions::default()).unwrap());
        // The file itself finds the config, too.
        right(name, &open(&Source::File(folder.path().join(name)), &OpenOptions::default()).unwrap());
    }
    let folder = folder(&state(vit()));
    std::fs::copy(folder.path().join("last.ckpt"), folder.path().join("best.ckpt")).unwrap();
    let error = opened(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("best.ckpt") && error.contains("last.ckpt") && error.contains("give the path"), "{error}");
}

/// Weights of these sizes, of zeros, alone in a file.
fn raw(vit: VitConfig) -> (tempfile::TempDir, Architecture) {
    let architecture = Architecture::Vit(vit);
    let specs = architecture.parameters().unwrap();
    let zeros = specs.into_iter().map(|spec| (spec.name, Py::Zeros(spec.shape))).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.pth"), torch::save(&dict([("model", Py::Dict(zeros))]))).unwrap();
    (folder, architecture)
}

#[test]
fn raw_weights_have_the_heads_that_the_field_gives_their_width_and_say_so() {
    for (embed_dim, depth, heads) in
        [(192, 12, 3), (384, 12, 6), (768, 12, 12), (768, 3, 12), (1024, 1, 16), (1280, 1, 16)]
    {
        let vit = VitConfig::default().with(|c| {
            c.embed_dim = embed_dim;
            c.depth = depth;
            c.num_heads = heads;
            c.img_size = 32.into();
            c.mlp_ratio = 1.;
            c.num_classes = 0;
        });
        let (folder, architecture) = raw(vit);
        let (config, notes) = opened(folder.path(), &OpenOptions::default()).unwrap().config_or_inferred().unwrap();
        assert_eq!(config.architecture, architecture, "{embed_dim} × {depth}");
        assert!(notes.iter().any(|note| note.contains(&format!("{heads} attention heads were assumed"))), "{notes:?}");
    }
}

#[test]
fn what_is_told_of_raw_weights_is_heard() {
    let small = VitConfig::default().with(|c| {
        c.embed_dim = 48;
        c.depth = 2;
        c.num_heads = 4;
        c.img_size = 32.into();
        c.patch_size = 8;
        c.num_classes = 3;
    });
    let (folder, architecture) = raw(small);
    let told = |options: OpenOptions| opened(folder.path(), &options)?.config_or_inferred();
    let error = told(OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`arch") && error.contains("num_heads"), "{error}");
    let (config, _) = told(OpenOptions::default().with(|c| c.num_heads = Some(4))).unwrap();
    assert_eq!(config.architecture, architecture);
    // A name of the zoo says what shapes do not: here CLIP's activation.
    let name = "vit_base_patch16_clip_quickgelu_224";
    let clip = vit_of(name).with(|c| {
        c.img_size = 64.into();
        c.num_classes = 7;
        c.depth = 1;
    });
    let (folder, _) = raw(clip.clone());
    let options = OpenOptions::default().with(|c| c.arch = Some(name.into()));
    let (config, notes) = opened(folder.path(), &options).unwrap().config_or_inferred().unwrap();
    assert_eq!(config.architecture, Architecture::Vit(clip.with(|c| c.depth = 12)));
    assert_eq!(config.name.as_deref(), Some(name));
    assert!(notes[0].contains(name), "{notes:?}");
    let options = OpenOptions::default().with(|c| c.arch = Some("vit_base_patch16_clop".into()));
    assert!(opened(folder.path(), &options).unwrap_err().to_string().contains("vit_base_patch16_clop"));
}

#[test]
fn periods_beside_the_weights_that_are_not_the_models_are_an_error() {
    let vit = vit_of("vit_small_patch16_dinov3").with(|c| {
        (c.embed_dim, c.depth, c.num_heads, c.num_classes, c.swiglu_align_to) = (24, 1, 2, 0, 0);
    });
    let architecture = Architecture::Vit(vit.clone());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.safetensors");
    let load_with = |periods: [f32; 3], vit: &VitConfig| {
        let specs = architecture.parameters().unwrap().into_iter();
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let mut tensors: std::collections::HashMap<_, _> = specs.map(|spec| (spec.name, zeros(&spec.shape))).collect();
        tensors.insert("rope_embed.periods".into(), Tensor::new(&periods, &Device::Cpu).unwrap());
        candle_core::safetensors::save(&tensors, &file).unwrap();
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let checkpoint = opened(folder.path(), &OpenOptions::default())?;
        load(&checkpoint, &Architecture::Vit(vit.clone()), &LoadOptions::default(), &params)
    };
    // As bfloat16 keeps the powers of 100.
    load_with([1., 4.65625, 21.5], &vit).unwrap();
    let error = load_with([1., 10., 100.], &vit).unwrap_err().to_string();
    assert!(error.contains("of the base 100 (`rope_temperature`)") && error.contains("the base 1000.0000"), "{error}");
    load_with([1., 10., 100.], &vit.clone().with(|c| c.rope_temperature = 1000.)).unwrap();
    let error = load_with([1., 1., 7.], &vit).unwrap_err().to_string();
    assert!(error.contains("the powers of no base"), "{error}");
}

fn vit_of(name: &str) -> VitConfig {
    match tallow_models::zoo::find(name).unwrap().architecture {
        Architecture::Vit(vit) => vit,
        _ => panic!("{name} is no ViT"),
    }
}

#[test]
fn model_args_may_state_every_default_of_timm() {
    // As `inspect.signature(VisionTransformer.__init__)` of timm 1.0.31 lists them.
    let defaults = r#"{"img_size": 224, "patch_size": 16, "in_chans": 3, "num_classes": 1000, "global_pool": "token",
        "embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4.0, "qkv_bias": true, "qk_norm": false,
        "scale_attn_norm": false, "scale_mlp_norm": false, "proj_bias": true, "init_values": null, "class_token": true,
        "pos_embed": "learn", "no_embed_class": false, "reg_tokens": 0, "pre_norm": false, "final_norm": true, "fc_norm": null,
        "pool_include_prefix": false, "dynamic_img_size": false, "dynamic_img_pad": false, "drop_rate": 0.0,
        "pos_drop_rate": 0.0, "patch_drop_rate": 0.0, "proj_drop_rate": 0.0, "attn_drop_rate": 0.0, "drop_path_rate": 0.0,
        "weight_init": "", "fix_init": false, "embed_layer": "PatchEmbed", "embed_norm_layer": null, "norm_layer": null,
        "act_layer": null, "block_fn": "Block", "mlp_layer": "Mlp", "attn_layer": "Attention", "device": null, "dtype": null}"#;
    let parse = |args: &str| {
        let text = format!(r#"{{"architecture": "vit_base_patch16_224", "model_args": {args}}}"#);
        CheckpointConfig::parse(&text, None, "config.json")
    };
    assert_eq!(parse(defaults).unwrap().architecture, Architecture::Vit(VitConfig::default()));
    let stated =
        r#"{"scale_attn_norm": true, "proj_bias": false, "norm_layer": "rmsnorm", "block_fn": "ParallelThingsBlock"}"#;
    let expected = VitConfig::default().with(|c| {
        (c.scale_attn_inner, c.proj_bias) = (true, false);
        (c.norm_layer, c.block_fn) = (NormLayer::RmsNorm, BlockFn::ParallelThings);
    });
    assert_eq!(parse(stated).unwrap().architecture, Architecture::Vit(expected));
    for (args, word) in [
        (r#"{"norm_layer": "groupnorm"}"#, "norm_layer"),
        (r#"{"block_fn": "CrossBlock"}"#, "block_fn"),
        (r#"{"attn_layer": "rope"}"#, "attn_layer"),
        (r#"{"embed_norm_layer": "rmsnorm"}"#, "embed_norm_layer"),
        (r#"{"mlp_layer": "SwiGLUPacked"}"#, "mlp_layer"),
    ] {
        let error = parse(args).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("not supported"), "{error}");
    }
}

#[test]
fn the_epsilon_of_norms_goes_with_a_name_of_timm_or_is_refused() {
    let with = |name: Option<&str>, norm_eps: f64| {
        let mut config = reference("timm").config().unwrap().clone();
        config.name = name.map(str::to_owned);
        config.architecture.set("norm_eps", &norm_eps.to_string()).unwrap();
        config
    };
    for (name, norm_eps, written) in [
        (None, 1e-6, "vit_base_patch16_224"),
        (None, 1e-5, "vit_base_patch16_clip_224"),
        (Some("vit_base_patch16_clip_384"), 1e-5, "vit_base_patch16_clip_384"),
        (Some("vit_base_patch16_clip_384"), 1e-6, "vit_base_patch16_224"),
        (Some("vit_tiny_patch16_224"), 1e-6, "vit_tiny_patch16_224"),
    ] {
        let config = with(name, norm_eps);
        save::check_timm(&config).unwrap();
        assert_eq!(save::config_json(&config).unwrap()["architecture"], written, "{name:?} with {norm_eps:e}");
    }
    let error = save::check_timm(&with(None, 1e-12)).unwrap_err().to_string();
    assert!(error.contains("norm_eps = 1e-12") && error.contains("GGUF"), "{error}");
    // What the name of the base says otherwise is stated.
    let mut config = with(Some("vit_base_patch16_clip_quickgelu_224"), 1e-5);
    config.architecture.set("act", "gelu").unwrap();
    save::check_timm(&config).unwrap();
    assert_eq!(save::config_json(&config).unwrap()["model_args"]["act_layer"], "gelu");
}

#[test]
fn counters_of_whole_numbers_in_npz_are_left_out() {
    let jax = std::fs::read(references().join("jax.npz")).unwrap();
    let mut zip = zip::ZipWriter::new_append(std::io::Cursor::new(jax)).unwrap();
    for (name, descr, bytes) in [("step", "<i4", 4), ("opt/state/step", "<i8", 8), ("note", "<U2", 8)] {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (), }}\n");
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        let npy = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]]
            .concat();
        std::io::Write::write_all(&mut zip, &npy).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npz");
    std::fs::write(&path, zip.finish().unwrap().into_inner()).unwrap();
    let checkpoint = open(&Source::File(path), &OpenOptions::default()).unwrap();
    let architecture = Architecture::Vit(references::vit());
    let account =
        load(&checkpoint, &architecture, &LoadOptions::default(), &Params::new(0, DType::F32, &Device::Cpu)).unwrap();
    assert_eq!(account.left_out().filter(|(name, _)| ["step", "opt/state/step", "note"].contains(name)).count(), 3);
}
