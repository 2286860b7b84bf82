//! An opened checkpoint: names, shapes and lazily read tensors, and what its config says.

use std::collections::HashMap;

use candle_core::Tensor;
use tallow_models::Architecture;

use crate::format::{ReadTensor, TensorFile, TensorInfo};
use crate::naming::{self, Naming};
use crate::{CheckpointConfig, Error, Result, config};

/// A checkpoint. Only headers were read; values are read when they are asked for.
pub struct Checkpoint {
    origin: String,
    config: Option<CheckpointConfig>,
    notes: Vec<String>,
    tensors: Vec<TensorInfo>,
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
    /// Puts the tensors of files together.
    ///
    /// # Errors
    /// If a name comes twice.
    pub(crate) fn new(origin: String, files: Vec<TensorFile>, config: Option<CheckpointConfig>) -> Result<Self> {
        let (mut tensors, mut places, mut readers, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for file in files {
            places.extend((0..file.tensors.len()).map(|at| (readers.len(), at)));
            tensors.extend(file.tensors);
            notes.extend(file.notes);
            readers.push(file.reader);
        }
        let mut index = HashMap::with_capacity(tensors.len());
        for (at, info) in tensors.iter().enumerate() {
            if index.insert(info.name.clone(), at).is_some() {
                return Err(Error::format(&origin, "names that are unique", format!("{} twice", info.name)));
            }
        }
        if tensors.is_empty() {
            return Err(Error::format(&origin, "weights", "no tensor at all"));
        }
        Ok(Self { origin, config, notes, tensors, index, readers, places })
    }

    /// Where it came from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What its `config.json` says, where there is one.
    pub fn config(&self) -> Option<&CheckpointConfig> {
        self.config.as_ref()
    }

    /// What its `config.json` says, or else what the shapes of a ViT's tensors imply, with notes on what was assumed.
    ///
    /// # Errors
    /// If there is no config and the shapes do not tell.
    pub fn config_or_inferred(&self) -> Result<(CheckpointConfig, Vec<String>)> {
        if let Some(config) = &self.config {
            return Ok((config.clone(), Vec::new()));
        }
        let translation = naming::translate(&self.origin, &self.tensors)?;
        if translation.naming == Naming::Plain {
            return Err(naming::unknown(&self.origin, &self.tensors));
        }
        config::infer(&self.origin, &translation)
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

    /// Reads a tensor by its position in [`Checkpoint::tensors`]. It may be a variable that a parameter can take over.
    pub(crate) fn read(&self, at: usize) -> Result<Tensor> {
        let (file, place) = self.places[at];
        self.readers[file].read(place)
    }
}
