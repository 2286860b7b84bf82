//! Pictures of what a ViT attends to, for `tallow predict --attention`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::Tensor;
use tallow_models::vit::{AttnLayer, GlobalPool};
use tallow_models::{AnyModel, Vit, VitConfig};

use crate::error::{Result, usage};
use crate::file_name::file_name;
use tallow::Pretrained;
use tallow::data::Image;
use tallow::report::{self, AttentionMap};

/// A folder in which every image gets its picture.
pub struct AttentionFolder<'a> {
    folder: &'a Path,
    vit: &'a Vit,
    model: &'a str,
    taken: HashSet<String>,
}

impl<'a> AttentionFolder<'a> {
    /// Makes the folder.
    ///
    /// # Errors
    /// If the model has no attention, or there is no such folder to be had.
    pub fn new(folder: &'a Path, loaded: &'a Pretrained, model: &'a str) -> Result<Self> {
        let AnyModel::Vit(vit) = loaded.model() else {
            return Err(usage(format!(
                "--attention: expected a ViT, got {model}, which has no attention; leave it out"
            )));
        };
        if vit.config().attn_layer == AttnLayer::Diff {
            return Err(usage(format!(
                "--attention: expected heads that take shares of the tokens, got {model}, whose heads are differences of two softmaxes; \
                 leave it out"
            )));
        }
        if folder.exists() && !folder.is_dir() {
            return Err(usage(format!("--attention {}: expected a folder, got a file", folder.display())));
        }
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        Ok(Self { folder, vit, model, taken: HashSet::new() })
    }

    /// Draws where attention goes in `seen`, which the model reads as `input [1, channels, height, width]`, and gives the path of
    /// the SVG. `name` is the image's path.
    ///
    /// # Errors
    /// If the weights are not finite, or the picture cannot be written.
    pub fn draw(&mut self, name: &str, seen: &Image, input: &Tensor) -> Result<PathBuf> {
        let config = self.vit.config();
        let flow = self.vit.attention_flow(input)?;
        let map = |name: String, weights: Tensor| -> Result<AttentionMap> {
            Ok(AttentionMap { name, weights: weights.flatten_all()?.to_vec1()? })
        };
        let heads = flow.last_to_patches()?.squeeze(0)?;
        let last = config.depth;
        let mut maps = vec![
            map(format!("rollout of {last} blocks"), flow.rollout_to_patches()?)?,
            map(format!("all heads of block {last}"), heads.mean(0)?)?,
        ];
        // Where two attentions lie side by side, the heads of both.
        for head in 0..heads.dim(0)? {
            maps.push(map(format!("head {} of block {last}", head + 1), heads.get(head)?)?);
        }
        if maps.iter().flat_map(|map| &map.weights).any(|weight| !weight.is_finite()) {
            bail!("{name}: expected finite attention, got others; the weights are damaged, get them again");
        }
        let from = match config.global_pool {
            GlobalPool::Map => "the attention pool reads",
            _ if config.class_token => "the class token takes",
            _ => "the patches take, on average, as there is no class token",
        };
        let seen = &covered(seen, config);
        let [rows, columns] = config.grid_size();
        let subtitle = format!("What {from} from each of {rows}×{columns} patches; {}", self.model);
        let stem = self.free_name(name);
        let title = Path::new(name).file_name().map_or_else(|| name.into(), |name| name.to_string_lossy());
        let svg = report::attention_picture(&title, &subtitle, seen, config.grid_size(), &maps)?;
        let path = self.folder.join(&stem);
        report::write_figure(&path, &svg)?;
        Ok(self.folder.join(stem + ".svg"))
    }

    /// The image's name without its folder and ending; with a number where an earlier image has taken it.
    fn free_name(&mut self, name: &str) -> String {
        let own = Path::new(name).file_stem().map(|stem| file_name(&stem.to_string_lossy())).unwrap_or_default();
        let own = if own.is_empty() { "image".to_string() } else { own };
        let mut free = own.clone();
        let mut number = 2;
        while !self.taken.insert(free.to_lowercase()) {
            free = format!("{own}-{number}");
            number += 1;
        }
        free
    }
}

/// The part of the image that patches cover: all of it but where the last pixels make no whole patch.
fn covered(seen: &Image, config: &VitConfig) -> Image {
    let sides = config.img_size.sides();
    // The last row of a stem's maps may lie half beyond the image.
    let kept = config.grid_size().map(|patches| patches * config.patch_pixels());
    let kept = [kept[0].min(sides[0]), kept[1].min(sides[1])];
    let [height, width] = [seen.height * kept[0] / sides[0].max(1), seen.width * kept[1] / sides[1].max(1)];
    if [height, width] == [seen.height, seen.width] || height * width == 0 {
        return seen.clone();
    }
    let row = |y: usize| &seen.pixels[y * seen.width * seen.channels..][..width * seen.channels];
    Image { width, height, channels: seen.channels, pixels: (0..height).flat_map(row).copied().collect() }
}
