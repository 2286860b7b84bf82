//! Where a checkpoint is: hub, folder, file, bundled.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tallow_models::zoo;

use crate::config::{Classifier, OPEN_CLIP};
use crate::format::{self, Format, TensorFile};
use crate::{Checkpoint, CheckpointConfig, Error, OpenOptions, Result, Whitening, bundled, expanded};

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A repository on the hub.
    Hub { repo: String, revision: Option<String> },
    /// A folder with `config.json` and weights.
    Folder(PathBuf),
    /// A file with weights.
    File(PathBuf),
    /// Weights inside the binary, by the zoo's name.
    Bundled(String),
}

/// Weights of a folder, the first that is there. A single file of another name is taken too.
const WEIGHTS: [&str; 9] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.gguf",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
];
/// How the names of files with weights end.
const EXTENSIONS: [&str; 9] = ["safetensors", "gguf", "npz", "bin", "pth", "pt", "ckpt", "pkl", "tar"];
/// How the names of files begin that trainers put beside the weights under the same endings.
const NO_WEIGHTS: [&str; 9] = [
    "optimizer",
    "scheduler",
    "scaler",
    "sampler",
    "dl_state_dict",
    "rng_state",
    "random_states",
    "training_args",
    "trainer_state",
];
/// A larger `config.json` than this is refused.
const MAX_CONFIG: u64 = 64 << 20;

impl Source {
    /// Reads what a user writes: `hf-hub:OWNER/REPO[@REVISION]`, a name of the zoo with an optional tag
    /// (`vit_small_patch16_224.augreg_in1k`; without a tag the first of its weights), or a path. A name of the zoo goes before a
    /// path of the same name: write `./NAME` for the path.
    ///
    /// # Errors
    /// If it is none of these, or the zoo knows no weights for the name.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(rest) = text.strip_prefix("hf-hub:").or_else(|| text.strip_prefix("hf_hub:")) {
            let (repo, revision) = match rest.split_once('@') {
                Some((repo, revision)) => (repo, Some(revision.to_owned())),
                None => (rest, None),
            };
            let whole = repo.split('/').count() == 2 && repo.split('/').all(|part| !part.is_empty() && part != "..");
            if !whole || revision.as_deref() == Some("") {
                let got = if rest.is_empty() { "no repository" } else { rest };
                return Err(Error::format(text, "hf-hub:OWNER/REPO or hf-hub:OWNER/REPO@REVISION", got));
            }
            return Ok(Self::Hub { repo: repo.into(), revision });
        }
        let path = expanded(text.strip_prefix("local-dir:").unwrap_or(text));
        let path = path.as_path();
        let looks_like_path =
            text.contains(['/', '\\']) || text.starts_with("local-dir:") || [".", "..", "~"].contains(&text);
        if !looks_like_path {
            match zoo::find(text) {
                Ok(entry) => return Self::of_zoo(text, &entry),
                Err(unknown) if !path.exists() => return Err(unknown.into()),
                Err(_) => {}
            }
        }
        if path.is_dir() {
            Ok(Self::Folder(path.into()))
        } else if path.exists() {
            Ok(Self::File(path.into()))
        } else {
            Err(Error::NotFound {
                what: format!("nothing is at {}", path.display()),
                remedy: "give a folder or file with weights, a name of the zoo, or hf-hub:OWNER/REPO".into(),
            })
        }
    }

    fn of_zoo(text: &str, entry: &zoo::Entry) -> Result<Self> {
        let Some(weights) = entry.pretrained else {
            let remedy = "train it from scratch, or give a path".into();
            return Err(Error::NotFound { what: format!("there are no pretrained weights of {text}"), remedy });
        };
        let name = format!("{}.{}", entry.name, weights.tag);
        match weights.hub {
            _ if name == bundled::NAME => Ok(Self::Bundled(name)),
            Some(repo) => Ok(Self::Hub { repo: repo.into(), revision: None }),
            None => {
                let remedy = "give their path".into();
                Err(Error::NotFound { what: format!("the weights {name} are neither bundled nor on the hub"), remedy })
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repo, revision: None } => write!(f, "hf-hub:{repo}"),
            Self::Hub { repo, revision: Some(revision) } => write!(f, "hf-hub:{repo}@{revision}"),
            Self::Folder(path) | Self::File(path) => write!(f, "{}", path.display()),
            Self::Bundled(name) => write!(f, "{name} (bundled)"),
        }
    }
}

/// Opens a checkpoint: reads its config and the headers of its files, and downloads it first where it is on the hub.
///
/// # Errors
/// If it is not there, cannot be read, or is not what its format says.
pub fn open(source: &Source, options: &OpenOptions) -> Result<Checkpoint> {
    match source {
        Source::Hub { repo, revision } => {
            open_folder(&download(repo, revision.as_deref(), options)?, source.to_string(), options)
        }
        Source::Folder(path) => open_folder(&run_checkpoint(path)?, path.display().to_string(), options),
        Source::File(path) => open_file(path, options),
        Source::Bundled(name) => {
            let file = bundled::open(name)?;
            let config = file.config.as_deref().map(|text| CheckpointConfig::parse(text, None, name)).transpose()?;
            Checkpoint::new(source.to_string(), vec![file], config, options)
        }
    }
}

/// The files of a checkpoint as they are, without a choice among what they hold.
pub(crate) struct Opened {
    pub(crate) origin: String,
    /// Where they lie, if they are files.
    pub(crate) folder: Option<PathBuf>,
    /// Whether the configs in the folder are theirs.
    pub(crate) is_described: bool,
    pub(crate) files: Vec<TensorFile>,
}

impl Opened {
    /// Those of a source, downloaded first where it is on the hub.
    ///
    /// # Errors
    /// As [`open`], and if the weights lie in the binary.
    pub(crate) fn of(source: &Source, options: &OpenOptions) -> Result<Self> {
        let folder = match source {
            Source::Hub { repo, revision } => download(repo, revision.as_deref(), options)?,
            Source::Folder(path) => run_checkpoint(path)?,
            Source::File(path) => {
                let folder = path.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let is_described =
                    folder.is_some_and(|folder| WEIGHTS.contains(&name) || is_only_weights(folder, name));
                let (origin, folder) = (path.display().to_string(), folder.map(Path::to_path_buf));
                return Ok(Self { origin, folder, is_described, files: open_files(path)? });
            }
            Source::Bundled(name) => {
                let files = vec![bundled::open(name)?];
                return Ok(Self { origin: source.to_string(), folder: None, is_described: false, files });
            }
        };
        let files = open_files(&find_weights(&folder)?)?;
        Ok(Self { origin: source.to_string(), folder: Some(folder), is_described: true, files })
    }
}

/// A file with weights, or those that an index names.
fn open_files(path: &Path) -> Result<Vec<TensorFile>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".index.json") { open_shards(path) } else { Ok(vec![format::open(path)?]) }
}

#[cfg(feature = "hub")]
fn download(repo: &str, revision: Option<&str>, options: &OpenOptions) -> Result<PathBuf> {
    crate::hub::download_model(repo, revision, options)
}

#[cfg(not(feature = "hub"))]
fn download(repo: &str, _revision: Option<&str>, _options: &OpenOptions) -> Result<PathBuf> {
    let remedy = format!("build with the feature `hub`, or use {}, which needs no download", bundled::NAME);
    Err(Error::unsupported(&format!("hf-hub:{repo}"), "downloading", remedy))
}

/// The checkpoint in a run's folder: the best, else the last. Any other folder is taken as it is.
fn run_checkpoint(path: &Path) -> Result<PathBuf> {
    let checkpoints = path.join("checkpoints");
    if path.join("config.json").exists() || !checkpoints.is_dir() {
        return Ok(path.into());
    }
    let own = ["best", "last"].iter().map(|name| checkpoints.join(name)).find(|path| path.is_dir());
    // Lightning keeps its files there too.
    let others = || candidates(&checkpoints).ok().filter(|files| !files.is_empty()).map(|_| checkpoints.clone());
    own.or_else(others).ok_or_else(|| Error::NotFound {
        what: format!("{} has no checkpoint yet", path.display()),
        remedy: "let the run finish an epoch".into(),
    })
}

fn open_folder(path: &Path, origin: String, options: &OpenOptions) -> Result<Checkpoint> {
    let weights = find_weights(path)?;
    let said = read_config(path, &weights, None)?;
    checkpoint(origin, open_files(&weights)?, Some((path, &weights)), said, options)
}

fn open_file(path: &Path, options: &OpenOptions) -> Result<Checkpoint> {
    // A `config.json` belongs to the weights beside it only under the names that folders use, or where they are the only ones.
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().map(|folder| if folder == Path::new("") { Path::new(".") } else { folder });
    let folder = folder.filter(|folder| WEIGHTS.contains(&file_name) || is_only_weights(folder, file_name));
    let said = folder.map(|folder| read_config(folder, path, None)).transpose()?.flatten();
    checkpoint(path.display().to_string(), open_files(path)?, folder.map(|folder| (folder, path)), said, options)
}

/// The config beside the weights, in a folder that is given with their path, goes before the one inside of them.
fn checkpoint(
    origin: String,
    files: Vec<TensorFile>,
    place: Option<(&Path, &Path)>,
    said: Option<(CheckpointConfig, Vec<String>)>,
    options: &OpenOptions,
) -> Result<Checkpoint> {
    let Some((config, notes)) = said else {
        let inside = files.iter().find_map(|file| file.config.as_deref());
        let config = inside.map(|text| parse_inside(text, &origin)).transpose()?;
        let alone = config.is_none();
        let checkpoint = Checkpoint::new(origin, files, config, options)?;
        let Some((folder, _)) = place.filter(|_| alone) else { return Ok(checkpoint) };
        let processor = read_processor(folder)?;
        return Ok(
            checkpoint.with_processor(processor.map(|(text, name)| (text, folder.join(name).display().to_string())))
        );
    };
    let checkpoint = Checkpoint::new(origin, files, Some(config), options)?;
    // Only the weights tell whether there is a head where a Hugging Face config names no class that has one.
    let told = match (place, checkpoint.classifier_unsaid()?) {
        (Some((folder, weights)), Some(classifier)) => read_config(folder, weights, Some(classifier))?,
        _ => None,
    };
    Ok(match told {
        Some((config, notes)) => checkpoint.with_config(config).with_notes(notes),
        None => checkpoint.with_notes(notes),
    })
}

/// The config that a file of weights carries.
fn parse_inside(text: &str, origin: &str) -> Result<CheckpointConfig> {
    if CheckpointConfig::is_whitened(text, origin)? {
        let what = format!("whitening of the input, which is in {} beside the weights", Whitening::FILE);
        return Err(Error::unsupported(origin, what, "keep it there, with config.json"));
    }
    CheckpointConfig::parse(text, None, origin)
}

/// What a folder says of the model whose weights are these, and what a reader should know about how that was understood.
fn read_config(
    folder: &Path,
    weights: &Path,
    classifier: Option<Classifier>,
) -> Result<Option<(CheckpointConfig, Vec<String>)>> {
    // A folder may hold the same model in two layouts.
    let open_clip =
        weights.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("open_clip"));
    let names = if open_clip { [OPEN_CLIP, "config.json"] } else { ["config.json", OPEN_CLIP] };
    let mut said = None;
    for path in names.map(|name| folder.join(name)) {
        if said.is_none() {
            said = read_text(&path)?.map(|text| (path, text));
        }
    }
    let Some((path, text)) = said else { return Ok(None) };
    let processor = read_processor(folder)?;
    let origin = path.display().to_string();
    let processor = processor.as_ref().map(|(text, name)| (text.as_str(), *name));
    let (mut config, notes) = CheckpointConfig::parse_with(&text, processor, classifier, &origin)?;
    if CheckpointConfig::is_whitened(&text, &origin)? {
        let whitening = Whitening::read(folder)?;
        whitening.check_input(config.preprocessing.input_size)?;
        config.whitening = Some(whitening);
    }
    Ok(Some((config, notes)))
}

/// The text and the name of the file of an image processor in a folder.
fn read_processor(folder: &Path) -> Result<Option<(String, &'static str)>> {
    let read = |name| Ok::<_, Error>(read_text(&folder.join(name))?.map(|text| (text, name)));
    // In this order, as transformers looks for them.
    Ok(match read("processor_config.json")? {
        Some((text, name)) if text.contains("image_processor\"") => Some((text, name)),
        other => read("preprocessor_config.json")?.or(other),
    })
}

/// The text of a file, or nothing where there is none.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path)(e)),
    };
    if length > MAX_CONFIG {
        let origin = path.display().to_string();
        return Err(Error::format(&origin, format!("at most {MAX_CONFIG} bytes"), length));
    }
    fs::read_to_string(path).map(Some).map_err(Error::io(path))
}

fn find_weights(folder: &Path) -> Result<PathBuf> {
    if let Some(path) = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file()) {
        return Ok(path);
    }
    let names = candidates(folder)?;
    match names.as_slice() {
        [one] => Ok(folder.join(one)),
        [] => Err(Error::NotFound {
            what: format!("{} holds no weights", folder.display()),
            remedy: format!("expected model.safetensors, pytorch_model.bin, or a single file that ends in .{}", {
                EXTENSIONS.join(", .")
            }),
        }),
        many => Err(Error::NotFound {
            what: format!("{}: which of {many:?} is meant is unclear", folder.display()),
            remedy: "give the path of the file".into(),
        }),
    }
}

/// The names of the files in a folder that can be weights, sorted.
fn candidates(folder: &Path) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hidden = name.starts_with('.') || NO_WEIGHTS.iter().any(|start| name.starts_with(start));
        if !hidden && ending.is_some_and(|ending| EXTENSIONS.contains(&ending.as_str())) && path.is_file() {
            names.insert(name.to_owned());
        }
    }
    Ok(names.into_iter().collect())
}

/// Whether a folder has this file of weights and no other.
fn is_only_weights(folder: &Path, name: &str) -> bool {
    candidates(folder).is_ok_and(|names| names == [name])
}

/// Opens the files of `weight_map` in an index as Hugging Face writes it.
fn open_shards(index: &Path) -> Result<Vec<TensorFile>> {
    let origin = index.display().to_string();
    let text = read_text(index)?.unwrap_or_default();
    let value: Value = serde_json::from_str(&text).map_err(|e| Error::format(&origin, "JSON", e))?;
    let map = value.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::format(&origin, "a weight_map", "none"))?;
    let folder = index.parent().unwrap_or(Path::new("."));
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        // A shard lies beside its index, never elsewhere.
        let file = file.as_str().filter(|file| !file.contains(['/', '\\']) && *file != "..");
        names.insert(file.ok_or_else(|| Error::format(&origin, format!("the file of {tensor}"), "no file name"))?);
    }
    let files = names.iter().map(|name| format::open(&folder.join(name))).collect::<Result<Vec<_>>>()?;
    let held: BTreeSet<&str> =
        files.iter().flat_map(|file| file.tensors.iter().map(|info| info.name.as_str())).collect();
    if let Some(missing) = map.keys().find(|tensor| !held.contains(tensor.as_str())) {
        return Err(Error::format(&origin, format!("{missing} in one of its files"), "no such tensor"));
    }
    if files.iter().any(|file| file.format != Format::Safetensors && file.format != Format::PyTorch) {
        return Err(Error::format(&origin, "shards in safetensors or PyTorch's format", "another format"));
    }
    Ok(files)
}
