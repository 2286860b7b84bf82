//! An opened checkpoint: names, shapes and lazily read tensors, and what its config says.

use std::collections::HashMap;

use candle_core::Tensor;
use tallow_models::Architecture;

use crate::config::{Beside, Classifier, Told};
use crate::format::{ReadTensor, TensorFile, TensorInfo};
use crate::naming::{self, Naming, Network, Translation};
use crate::selection::{self, Wish};
use crate::{CheckpointConfig, Error, OpenOptions, Result, config};

/// A checkpoint. Only headers were read; values are read when they are asked for.
pub struct Checkpoint {
    origin: String,
    config: Option<CheckpointConfig>,
    /// Text and path of an image processor's file beside weights without a config.
    processor: Option<(String, String)>,
    notes: Vec<String>,
    tensors: Vec<TensorInfo>,
    /// What the files hold beside the network that was chosen, and why it is left out.
    beside: Vec<(TensorInfo, String)>,
    /// The ViT among the tensors.
    network: Option<Network>,
    /// What the one who opened it says of weights without a config.
    told: Told,
    index: HashMap<String, usize>,
    /// The files, and for every tensor which file it is in and where.
    readers: Vec<Box<dyn ReadTensor>>,
    places: Vec<(usize, usize)>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("origin", &self.origin).field("tensors", &self.tensors.len()).finish()
    }
}

impl Checkpoint {
    /// Puts the tensors of files together, and chooses among the networks that they hold.
    ///
    /// # Errors
    /// If a name comes twice, or there is no network of the name that was asked for.
    pub(crate) fn new(
        origin: String,
        files: Vec<TensorFile>,
        config: Option<CheckpointConfig>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let (mut infos, mut places, mut readers, mut dictionaries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mut file in files {
            places.extend((0..file.tensors.len()).map(|at| (readers.len(), at)));
            file.dictionaries.resize(file.tensors.len(), String::new());
            infos.extend(file.tensors);
            dictionaries.extend(file.dictionaries);
            readers.push(file.reader);
        }
        if infos.is_empty() {
            return Err(Error::format(&origin, "weights", "no tensor at all"));
        }
        let told = Told { arch: options.arch.clone(), num_heads: options.num_heads, act: options.act };
        let named = told.arch.as_deref().map(config::named).transpose()?;
        let sizes = named.as_ref().or(config.as_ref().map(|config| &config.architecture)).and_then(sizes);
        let wish = Wish { key: options.checkpoint_key.clone(), sizes };
        let selection = selection::select(&origin, &infos, &dictionaries, &wish)?;
        let mut checkpoint = Self {
            origin,
            config,
            processor: None,
            notes: selection.notes,
            tensors: Vec::new(),
            beside: Vec::new(),
            network: selection.network,
            told,
            index: HashMap::with_capacity(infos.len()),
            readers,
            places: Vec::new(),
        };
        for ((info, place), fate) in infos.into_iter().zip(places).zip(selection.fates) {
            match fate {
                Ok(name) => checkpoint.add(TensorInfo { name, ..info }, place)?,
                Err(why) => checkpoint.beside.push((info, why)),
            }
        }
        Ok(checkpoint)
    }

    fn add(&mut self, info: TensorInfo, (file, place): (usize, usize)) -> Result<()> {
        if self.index.insert(info.name.clone(), self.tensors.len()).is_some() {
            return Err(Error::format(&self.origin, "names that are unique", format!("{} twice", info.name)));
        }
        self.tensors.push(info);
        self.places.push((file, place));
        Ok(())
    }

    /// Where it came from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What its `config.json` says, where there is one.
    pub fn config(&self) -> Option<&CheckpointConfig> {
        self.config.as_ref()
    }

    /// What its `config.json` says, or else what the shapes of a ViT's tensors imply, with notes on what was assumed. An
    /// architecture that the options of opening name goes before both.
    ///
    /// # Errors
    /// If there is no config and the shapes do not tell.
    pub fn config_or_inferred(&self) -> Result<(CheckpointConfig, Vec<String>)> {
        if let (Some(config), None) = (&self.config, &self.told.arch) {
            return Ok((config.clone(), Vec::new()));
        }
        let translation = self.translation()?;
        if translation.naming == Naming::Plain {
            return Err(naming::unknown(&self.origin, &self.tensors));
        }
        let processor = self.processor.as_ref().map(|(text, path)| (text.as_str(), path.as_str()));
        let beside = Beside { config: self.config.as_ref(), processor };
        config::infer(&self.origin, &translation, &self.told, beside)
    }

    /// Its tensors in timm's names.
    pub(crate) fn translation(&self) -> Result<Translation> {
        let classes = self.config.as_ref().map(|config| config.architecture.num_classes());
        naming::translate(&self.origin, &self.tensors, self.network.as_ref(), classes)
    }

    /// The head under Hugging Face's name that the weights have and their config does not count. What reads the features through
    /// a pooler of its own, which has values, is none.
    ///
    /// # Errors
    /// If the names are those of two ways to name tensors.
    pub(crate) fn classifier_unsaid(&self) -> Result<Option<Classifier>> {
        let vit = match self.config.as_ref().map(|config| &config.architecture) {
            Some(Architecture::Vit(vit)) if vit.num_classes == 0 => vit,
            _ => return Ok(None),
        };
        let translation = self.translation()?;
        let pooled = || self.tensors.iter().any(|info| info.name.contains("pooler."));
        let Some(&[classes, width]) = translation.get("head.weight").map(|mapped| mapped.shape.as_slice()) else {
            return Ok(None);
        };
        let fits = width == vit.embed_dim || width == 2 * vit.embed_dim;
        let hugging_face = matches!(translation.naming, Naming::HuggingFace | Naming::Clip);
        if !hugging_face || !fits || pooled() {
            return Ok(None);
        }
        let distilled = translation.get("head_dist.weight").is_some();
        Ok(Some(Classifier { classes, width, distilled, projects: translation.projects }))
    }

    /// The same with the text and the path of the image processor's file that lies beside weights without a config.
    pub(crate) fn with_processor(self, processor: Option<(String, String)>) -> Self {
        Self { processor, ..self }
    }

    /// The same with another config.
    pub(crate) fn with_config(self, config: CheckpointConfig) -> Self {
        Self { config: Some(config), ..self }
    }

    /// What the files hold beside the tensors, by its path, and why it is left out.
    pub(crate) fn beside(&self) -> &[(TensorInfo, String)] {
        &self.beside
    }

    /// Rows and columns of patches that the config says, where it is a ViT's.
    pub(crate) fn stored_grid(&self) -> Option<[usize; 2]> {
        match &self.config.as_ref()?.architecture {
            Architecture::Vit(vit) => Some(vit.grid_size()),
            _ => None,
        }
    }

    /// The same with more that a reader should know.
    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// What a reader should know about how the file was read.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Names, shapes and stored types of all tensors.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The names of all tensors, as the checkpoint writes them.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|info| info.name.as_str())
    }

    /// The shape of a tensor, without reading it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.index.get(name).map(|&at| self.tensors[at].shape.as_slice())
    }

    /// Reads a tensor onto the CPU in the type in which it is stored (quantised ones as float32).
    ///
    /// # Errors
    /// If there is none of that name, or the file does not hold what its header says.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        match self.index.get(name) {
            Some(&at) => Ok(self.read(at)?.detach()),
            None => Err(Error::NoTensor { origin: self.origin.clone(), name: name.into() }),
        }
    }

    /// Says why a tensor cannot be read, as far as that is known without reading it.
    pub(crate) fn check(&self, at: usize) -> Result<()> {
        let (file, place) = self.places[at];
        self.readers[file].check(place)
    }

    /// Reads a tensor by its position in [`Checkpoint::tensors`]. It may be a variable that a parameter can take over.
    pub(crate) fn read(&self, at: usize) -> Result<Tensor> {
        let (file, place) = self.places[at];
        self.readers[file].read(place)
    }
}

/// Width and number of blocks.
fn sizes(architecture: &Architecture) -> Option<(usize, usize)> {
    match architecture {
        Architecture::Vit(vit) => Some((vit.embed_dim, vit.depth)),
        _ => None,
    }
}
