//! Text towers of CLIP and SigLIP: found in the files that hold the vision tower too, described by their config or by what their tensors
//! tell, and filled.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use tallow_models::Params;
//! use tallow_models::text::TextTower;
//! use tallow_weights::text::TextCheckpoint;
//! use tallow_weights::{OpenOptions, Source};
//!
//! let source = Source::parse("hf-hub:openai/clip-vit-base-patch32")?;
//! let checkpoint = TextCheckpoint::open(&source, &OpenOptions::default())?;
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! checkpoint.load(&params)?;
//! let tower = TextTower::new(checkpoint.config(), params.eval_builder())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use tallow_models::text::{TextConfig, TextPool};
use tallow_models::vit::Act;
use tallow_models::{Architecture, Params};

use crate::config::{self, StatedText};
pub use crate::config::{Cleaning, Tokenizing};
use crate::format::{TensorFile, TensorInfo};
use crate::naming::{TextFate, TextNaming, TextNetwork, text_networks};
use crate::source::{Opened, read_text};
use crate::{Error, OpenOptions, Result, Source};

/// A text tower in a checkpoint that was opened: its configuration is known, and no value was read but the two of the logits.
pub struct TextCheckpoint {
    origin: String,
    folder: Option<PathBuf>,
    config: TextConfig,
    tokenizing: Tokenizing,
    strips_sep: bool,
    logit_scale: f64,
    logit_bias: Option<f64>,
    notes: Vec<String>,
    /// A tensor of the images' projection, where it is one that no model here has.
    unprojected: Option<String>,
    files: Vec<TensorFile>,
    /// By parameter: the tensors that it is made of, and what is done to them.
    fillings: BTreeMap<String, Filling>,
}

/// What a parameter is made of.
#[derive(Debug, Clone, Default)]
struct Filling {
    /// File and place in it; those of q, k and v one after the other.
    parts: Vec<(usize, usize)>,
    turned: bool,
}

impl std::fmt::Debug for TextCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextCheckpoint")
            .field("origin", &self.origin)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl TextCheckpoint {
    /// Opens the text tower of a checkpoint; it is downloaded first where it is on the hub.
    ///
    /// # Errors
    /// If there is no such checkpoint, it holds no text tower, or one that is built otherwise than those of CLIP and SigLIP.
    pub fn open(source: &Source, options: &OpenOptions) -> Result<Self> {
        let Opened { origin, folder, is_described, files } = Opened::of(source, options)?;
        let infos: Vec<TensorInfo> = files.iter().flat_map(|file| file.tensors.iter().cloned()).collect();
        let places: Vec<(usize, usize)> = files
            .iter()
            .enumerate()
            .flat_map(|(at, file)| (0..file.tensors.len()).map(move |place| (at, place)))
            .collect();
        let mut notes = Vec::new();
        let network =
            chosen(&origin, &infos, options, &mut notes).map_err(|error| match (error, elsewhere(source)) {
                (Error::NotFound { what, .. }, Some(remedy)) => Error::NotFound { what, remedy },
                (error, _) => error,
            })?;
        let (fillings, shapes) = fillings(&origin, &infos, &places, &network)?;
        let stated = match folder.as_deref().filter(|_| is_described) {
            Some(folder) => stated(folder, network.naming)?,
            None => None,
        };
        // What OpenAI's own files have beside the towers.
        let is_openai = ["input_resolution", "context_length", "vocab_size"]
            .iter()
            .all(|number| infos.iter().any(|info| info.name == format!("{}{number}", network.above)));
        let stated = match stated {
            Some(stated) => StatedText { act: options.act.unwrap_or(stated.act), ..stated },
            None => assumed(&origin, &network, &shapes, is_openai, options, &mut notes)?,
        };
        let config = configuration(&origin, &shapes, &stated)?;
        let value = |name: &str| -> Result<Option<f64>> {
            let name = format!("{}{name}", network.above);
            let Some(at) = infos.iter().position(|info| info.name == name) else { return Ok(None) };
            if !infos[at].is_one_value() {
                let got = format!("one of shape {:?}", infos[at].shape);
                return Err(Error::format(&origin, format!("a {name} of one value"), got));
            }
            let value = files[places[at].0].reader.read(places[at].1)?.to_dtype(DType::F64)?.flatten_all()?;
            let value = value.to_vec1::<f64>()?[0];
            match value.is_finite() {
                true => Ok(Some(value)),
                false => Err(Error::NotFinite { origin: origin.clone(), name, got: value.to_string() }),
            }
        };
        let logit_bias = value("logit_bias")?;
        let logit_scale = match value("logit_scale")? {
            // Whoever has a larger one has something else: CLIP's ends at ln 100.
            Some(scale) if scale < 20. => scale.exp(),
            Some(scale) => return Err(Error::format(&origin, "a logit_scale below 20, a logarithm", scale)),
            None => {
                notes.push("the file has no logit_scale: 100 was taken, with which CLIP's training ends".into());
                100.
            }
        };
        let (tokenizing, strips_sep) = (stated.tokenizing, stated.strips_sep);
        let unprojected = infos.iter().find(|info| info.name.contains("visual.head.mlp."));
        let unprojected = unprojected.map(|info| info.name.clone());
        Ok(Self {
            origin,
            folder,
            config,
            tokenizing,
            strips_sep,
            logit_scale,
            logit_bias,
            notes,
            unprojected,
            files,
            fillings,
        })
    }

    /// Where it came from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The folder of the checkpoint, where its tokenizer lies beside the weights.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// What the tower is made of.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Whose way to make tokens of texts it was trained with.
    pub fn tokenizing(&self) -> Tokenizing {
        self.tokenizing
    }

    /// Whether zeros stand in the place of the tokenizer's `sep_token`, which ends a text (open_clip's `strip_sep_token`, of CLIPA).
    pub fn strips_sep(&self) -> bool {
        self.strips_sep
    }

    /// What the cosine of an image and a text is multiplied with to become a logit: the exponential of `logit_scale`.
    pub fn logit_scale(&self) -> f64 {
        self.logit_scale
    }

    /// What is added to it then; SigLIP has it and CLIP has none.
    pub fn logit_bias(&self) -> Option<f64> {
        self.logit_bias
    }

    /// A tensor of the projection that images need to be where texts are, in a checkpoint whose projection is none that
    /// [`crate::load()`] fills: an MLP (open_clip's `timm_proj`). Vectors of its images must not be set beside those of its texts.
    pub fn unprojected(&self) -> Option<&str> {
        self.unprojected.as_deref()
    }

    /// What a reader should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Provides the tower's values to `params`, before it is built over [`Params::eval_builder`] or [`Params::builder`].
    ///
    /// # Errors
    /// If a value is NaN or infinite, or the file does not hold what its header says.
    pub fn load(&self, params: &Params) -> Result<()> {
        for (name, filling) in &self.fillings {
            let read = |&(file, place): &(usize, usize)| -> Result<Tensor> {
                Ok(self.files[file].reader.read(place)?.to_dtype(DType::F32)?.detach())
            };
            let parts = filling.parts.iter().map(read).collect::<Result<Vec<_>>>()?;
            let value = match parts.as_slice() {
                [one] => one.clone(),
                parts => Tensor::cat(parts, 0)?,
            };
            let value = if filling.turned { value.t()?.contiguous()? } else { value };
            // A sum is finite only where every value is.
            let sum = value.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            if !sum.is_finite() {
                let (origin, name) = (self.origin.clone(), name.clone());
                return Err(Error::NotFinite { origin, name, got: sum.to_string() });
            }
            params.provide(name.clone(), value);
        }
        Ok(())
    }
}

/// Where the text tower is that a folder's weights lack, as far as the folder tells.
fn elsewhere(source: &Source) -> Option<String> {
    let Source::Folder(folder) = source else { return None };
    if folder.join("checkpoints").is_dir() {
        return Some("a run keeps the vision tower alone: words need the CLIP or SigLIP that it began with".into());
    }
    let names = ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"];
    let path = names.iter().map(|name| folder.join(name)).find(|path| path.is_file())?;
    Some(format!("{} beside it is of open_clip, whose models have both towers: give its path", path.display()))
}

/// The text tower among the tensors of a file.
fn chosen(origin: &str, infos: &[TensorInfo], options: &OpenOptions, notes: &mut Vec<String>) -> Result<TextNetwork> {
    let mut found = text_networks(infos);
    if let (Some(key), true) = (&options.checkpoint_key, found.len() > 1) {
        let asked = |network: &TextNetwork| network.above.split('.').any(|part| key.split('.').any(|key| key == part));
        if found.iter().any(asked) {
            found.retain(asked);
        }
    }
    if found.len() > 1 {
        let called: Vec<String> = found.iter().map(|network| format!("{:?}", network.prefix)).collect();
        notes.push(format!("the file holds {} text towers, {}: the first was taken", found.len(), called.join(", ")));
    }
    found.into_iter().next().ok_or_else(|| match other_tower(infos) {
        Some((kind, name)) => Error::NotFound {
            what: format!("{origin}: its text tower is {kind} ({name}), which is not supported"),
            remedy: "words need a text tower such as CLIP's or SigLIP's own; its images alone can be embedded".into(),
        },
        None => Error::NotFound {
            what: format!("{origin} holds no text tower: it is a model of images alone"),
            remedy: "words need a CLIP or SigLIP checkpoint with both of its towers".into(),
        },
    })
}

/// What a text tower of another kind is, and the tensor that tells it.
fn other_tower(infos: &[TensorInfo]) -> Option<(&'static str, &str)> {
    let tables =
        ["word_embeddings.weight", "embed_tokens.weight", "shared.weight", "wte.weight", "tok_embeddings.weight"];
    let table = |info: &&TensorInfo| info.shape.len() == 2 && tables.iter().any(|table| info.name.ends_with(table));
    let name = infos.iter().find(table)?.name.as_str();
    let has = |part: &str| infos.iter().any(|info| info.name.contains(part));
    let kind = match name {
        _ if !name.ends_with("word_embeddings.weight") => "a language model",
        _ if name.contains("roberta.") && has("text_model.transformation.") => "AltCLIP's XLM-RoBERTa",
        _ if name.contains("roberta.") => "a RoBERTa",
        _ if has("text_projection") && has("visual_projection") => "Chinese-CLIP's BERT",
        _ => "a BERT",
    };
    Some((kind, name))
}

/// What to do about a text tower of which not every tensor is known or there.
fn built_otherwise<'a>(mut unused: impl Iterator<Item = &'a str>, missing: &[String]) -> String {
    let without_bias =
        !missing.is_empty() && missing.iter().all(|name| name.contains("norm") && name.ends_with(".bias"));
    if without_bias || unused.any(|name| name.contains("rms_norm") || name.contains("rmsnorm")) {
        return "its norms are RMS norms, which have no bias: of text towers those with LayerNorm are read".into();
    }
    "the text tower is not complete, or built otherwise than the plain transformers of CLIP and SigLIP".into()
}

/// Shapes of the tower's parameters, by name.
type Shapes = BTreeMap<String, Vec<usize>>;

/// What the parameters are made of, and their shapes.
fn fillings(
    origin: &str,
    infos: &[TensorInfo],
    places: &[(usize, usize)],
    network: &TextNetwork,
) -> Result<(BTreeMap<String, Filling>, Shapes)> {
    let mut thirds: BTreeMap<String, [Option<usize>; 3]> = BTreeMap::new();
    let (mut whole, mut shapes, mut unknown) = (BTreeMap::new(), Shapes::new(), Vec::new());
    for (at, info) in infos.iter().enumerate() {
        match network.fate(&info.name) {
            None | Some(TextFate::Out) => {}
            Some(TextFate::Unknown) => unknown.push(info.name.clone()),
            Some(TextFate::Third(name, third)) => thirds.entry(name).or_default()[third] = Some(at),
            Some(TextFate::Is(name)) => {
                shapes.insert(name.clone(), info.shape.clone());
                whole.insert(name, Filling { parts: vec![places[at]], turned: false });
            }
            Some(TextFate::Turned(name)) => {
                shapes.insert(name.clone(), info.shape.iter().rev().copied().collect());
                whole.insert(name, Filling { parts: vec![places[at]], turned: true });
            }
        }
    }
    let mut missing = Vec::new();
    for (name, parts) in thirds {
        let [Some(q), Some(k), Some(v)] = parts else {
            missing.push(name);
            continue;
        };
        let mut shape = infos[q].shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows += [k, v].iter().map(|&at| infos[at].shape.first().copied().unwrap_or(0)).sum::<usize>();
        }
        shapes.insert(name.clone(), shape);
        whole.insert(name, Filling { parts: [q, k, v].map(|at| places[at]).into(), turned: false });
    }
    if unknown.is_empty() && missing.is_empty() {
        return Ok((whole, shapes));
    }
    let remedy = built_otherwise(unknown.iter().map(String::as_str), &missing);
    Err(Error::Unaccounted { origin: origin.into(), unused: unknown, missing, remedy })
}

/// What the files of a folder say of a tower in these names: the config of the same library, or else of the other one.
fn stated(folder: &Path, naming: TextNaming) -> Result<Option<StatedText>> {
    let hugging_face = || -> Result<Option<StatedText>> {
        let path = folder.join("config.json");
        let text = read_text(&path)?;
        text.map_or(Ok(None), |text| config::text_of_hugging_face(&text, &path.display().to_string()))
    };
    let open_clip = || -> Result<Option<StatedText>> {
        let path = folder.join("open_clip_config.json");
        let text = read_text(&path)?;
        text.map(|text| config::text_of_open_clip(&text, &path.display().to_string())).transpose()
    };
    match naming {
        TextNaming::HuggingFace => Ok(hugging_face()?.map_or_else(open_clip, |own| Ok(Some(own)))?),
        TextNaming::OpenAi => Ok(open_clip()?.map_or_else(hugging_face, |own| Ok(Some(own)))?),
    }
}

/// What the names and shapes of a tower without a config lead one to assume.
fn assumed(
    origin: &str,
    network: &TextNetwork,
    shapes: &Shapes,
    is_openai: bool,
    options: &OpenOptions,
    notes: &mut Vec<String>,
) -> Result<StatedText> {
    // SigLIP's projections have a bias.
    let siglip = shapes.contains_key("proj.bias");
    let gemma = shapes.get("token_embed").is_some_and(|shape| shape.first().is_some_and(|&rows| rows > 100_000));
    let (assumed, why) = match (network.naming, siglip) {
        (TextNaming::HuggingFace, true) => (Act::GeluTanh, "of transformers' SigLIP"),
        (TextNaming::OpenAi, true) if gemma => (Act::GeluTanh, "of open_clip's SigLIP 2"),
        (TextNaming::OpenAi, true) => (Act::Gelu, "of open_clip's SigLIP"),
        (TextNaming::OpenAi, false) if is_openai => (Act::QuickGelu, "of OpenAI's CLIP"),
        (naming, false) => {
            let why = match naming {
                TextNaming::HuggingFace => "of transformers' CLIP",
                TextNaming::OpenAi => "of open_clip's CLIP",
            };
            (told_act(options)?.ok_or_else(|| config::act_unknown(origin))?, why)
        }
    };
    let act = options.act.unwrap_or(assumed);
    notes.push(format!(
        "no config says what the text tower is made of: {} and {} were taken, as {why}",
        act.in_words(),
        if siglip { "no mask" } else { "a causal mask" }
    ));
    Ok(StatedText {
        num_heads: None,
        act,
        norm_eps: if siglip { 1e-6 } else { 1e-5 },
        layer_scale: None,
        causal: !siglip,
        pool: if siglip { TextPool::Last } else { TextPool::Largest },
        tokenizing: match (network.naming, siglip) {
            (TextNaming::HuggingFace, _) => Tokenizing::HuggingFace,
            (TextNaming::OpenAi, false) => Tokenizing::OpenClip(Cleaning::Lower),
            (TextNaming::OpenAi, true) => Tokenizing::OpenClipOverHuggingFace(Cleaning::Canonicalize),
        },
        strips_sep: false,
        sizes: Vec::new(),
        context_length: None,
        proj_dim: None,
    })
}

/// The activation that was told, or that of the architecture that was.
fn told_act(options: &OpenOptions) -> Result<Option<Act>> {
    let of_arch = match options.arch.as_deref().map(config::named).transpose()? {
        Some(Architecture::Vit(vit)) => Some(vit.act),
        _ => None,
    };
    Ok(options.act.or(of_arch))
}

/// The tower's configuration from the shapes of its tensors and what was said of it; every parameter has a tensor of its shape.
fn configuration(origin: &str, shapes: &Shapes, stated: &StatedText) -> Result<TextConfig> {
    let shape = |name: &str| match shapes.get(name).map(Vec::as_slice) {
        Some(&[rows, columns]) => Ok([rows, columns]),
        _ => Err(Error::format(origin, format!("a matrix {name} of the text tower"), "none")),
    };
    let [vocab_size, embed_dim] = shape("token_embed")?;
    let [context_length, _] = shape("pos_embed")?;
    let [mlp_dim, _] = shape("blocks.0.mlp.fc1.weight")?;
    let depth = shapes.keys().filter(|name| name.ends_with(".norm1.weight")).count();
    let proj_dim = shapes.get("proj.weight").map(|_| shape("proj.weight")).transpose()?.map(|[rows, _]| rows);
    for ((field, said), got) in stated.sizes.iter().zip([embed_dim, depth, vocab_size]) {
        if *said != got {
            let expected = format!("the text tower's {field} {said}, as the config says");
            return Err(Error::format(origin, expected, format!("{got} in the weights")));
        }
    }
    if let Some((field, said)) = stated.context_length.filter(|(_, said)| *said != context_length) {
        let expected = format!("as many positions as the text tower's {field} says, {said}");
        return Err(Error::format(origin, expected, format!("{context_length} in the weights")));
    }
    if let Some((field, said)) = stated.proj_dim.filter(|(_, said)| Some(*said) != proj_dim) {
        let expected = format!("a projection of texts to {said} values, as the config says ({field})");
        let got = proj_dim.map_or("none in the weights".into(), |got| format!("one to {got} in the weights"));
        return Err(Error::format(origin, expected, got));
    }
    let layer_scale = shapes.contains_key("blocks.0.ls1.gamma");
    if let Some(said) = stated.layer_scale.filter(|said| *said != layer_scale) {
        let [expected, got] = [said, layer_scale].map(|is| if is { "LayerScale" } else { "no LayerScale" });
        let expected = format!("{expected} in the text tower, as the config says (ls_init_value)");
        return Err(Error::format(origin, expected, format!("{got} in the weights")));
    }
    let num_heads = stated.num_heads.unwrap_or(embed_dim.div_ceil(64));
    let config = TextConfig::default().with(|c| {
        (c.vocab_size, c.context_length, c.embed_dim, c.depth) = (vocab_size, context_length, embed_dim, depth);
        (c.num_heads, c.mlp_dim, c.act, c.norm_eps) = (num_heads, mlp_dim, stated.act, stated.norm_eps);
        (c.causal, c.pool, c.proj_dim) = (stated.causal, stated.pool, proj_dim);
        // What it starts from, the values take the place of.
        c.init_values = layer_scale.then_some(1.);
        c.proj_bias = shapes.contains_key("proj.bias");
    });
    let specs = config.parameters()?;
    let missing: Vec<String> =
        specs.iter().filter(|spec| !shapes.contains_key(&spec.name)).map(|spec| spec.name.clone()).collect();
    let unused: Vec<String> =
        shapes.keys().filter(|name| !specs.iter().any(|spec| spec.name == **name)).cloned().collect();
    if !missing.is_empty() || !unused.is_empty() {
        let remedy = built_otherwise(unused.iter().map(String::as_str), &missing);
        return Err(Error::Unaccounted { origin: origin.into(), unused, missing, remedy });
    }
    match specs.into_iter().find(|spec| shapes.get(&spec.name) != Some(&spec.shape)) {
        None => Ok(config),
        Some(spec) => Err(Error::Shape {
            place: format!("{origin}: {} of the text tower", spec.name),
            got: shapes.get(&spec.name).cloned().unwrap_or_default(),
            expected: spec.shape,
            remedy: "the weights and their config do not belong together".into(),
        }),
    }
}
