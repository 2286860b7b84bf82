//! The reference checkpoints that `references/make.py` wrote. Test code includes this file with `#[path]`.
#![allow(dead_code, reason = "each user of this file needs another part of it")]

use std::path::{Path, PathBuf};

use tallow_models::VitConfig;
use tallow_weights::{Checkpoint, OpenOptions, Source, open};

/// Where they are.
pub fn references() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references")
}

/// Opens one of them, a folder or a file.
pub fn reference(name: &str) -> Checkpoint {
    let path = references().join(name);
    let source = if path.is_dir() { Source::Folder(path) } else { Source::File(path) };
    open(&source, &OpenOptions::default()).unwrap()
}

/// The sizes of the ViT that most of them hold.
pub fn vit() -> VitConfig {
    VitConfig::default().with(|c| {
        c.img_size = 16.into();
        c.patch_size = 4;
        c.embed_dim = 24;
        c.depth = 2;
        c.num_heads = 3;
        c.num_classes = 5;
    })
}
