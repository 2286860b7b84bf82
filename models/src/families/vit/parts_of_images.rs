//! A ViT on less than an image of its own size: on some of the patches alone (masked autoencoders), and on smaller or larger images, for
//! which the positions are resampled in the forward pass (the crops of DINO).

use candle_core::{Result, Tensor, bail};

use super::block::through;
use super::model::apply;
use super::{RopeType, Vit};
use crate::families::check::check_images;
use crate::{Mode, Model, ModelConfig, ops};

/// What DINO's code adds to the number of patches a side before it divides by the grid's.
const DINO_OFFSET: f64 = 0.1;

impl Vit {
    /// Tokens after the final norm, `[batch, prefix + kept, embed_dim]`, of images `[batch, channels, height, width]` of which only the
    /// patches `kept`, `[batch, kept]` in u32, are seen. It costs what these patches cost.
    ///
    /// # Errors
    /// If the images have another shape than the configuration says, or there is no such patch.
    pub fn forward_visible(&self, images: &Tensor, kept: &Tensor, mode: Mode) -> Result<Tensor> {
        let config = self.config();
        check_images(images, config.input_size())?;
        self.check_added_positions()?;
        if config.stem_layers.is_some() {
            bail!(
                "patches: expected some that are cut out of the image, got those of a stem's maps, which show the whole image"
            )
        }
        let (batch, count) = kept.dims2()?;
        if batch != images.dim(0)? || count == 0 {
            bail!("kept: expected [{}, patches] with at least one patch, got: {:?}", images.dim(0)?, kept.dims())
        }
        let patches = rows_of(&self.patch_embed.cut(images)?, kept)?;
        let patches = self.patch_embed.project(&patches)?;
        let narrow = patches.dtype();
        let mut x = patches.to_dtype(self.patch_embed.weight().dtype())?;
        let with_prefix = match &self.pos_embed {
            None => self.with_prefix(&x)?,
            Some(pos_embed) => {
                let prefix = pos_embed.dim(1)? - config.num_patches();
                let positions = pos_embed.narrow(1, prefix, config.num_patches())?.squeeze(0)?;
                let positions = positions.index_select(&kept.flatten_all()?, 0)?.reshape((batch, count, ()))?;
                x = (x + positions)?;
                let all = self.with_prefix(&x)?;
                let all = match prefix {
                    0 => all,
                    _ => {
                        let first = all.narrow(1, 0, prefix)?.broadcast_add(&pos_embed.narrow(1, 0, prefix)?)?;
                        Tensor::cat(&[&first, &x], 1)?
                    }
                };
                self.pos_drop.forward(&all, mode)?
            }
        };
        let x = apply(&self.norm_pre, &with_prefix.to_dtype(narrow)?)?;
        self.final_norm(&through(self.blocks(), x, mode)?)
    }

    /// What the head reads, `[batch, num_features]`, of images of any height and width that patches tile. Where that is not the
    /// configuration's size, the positions are resampled as DINO's code does it, and their gradients with them.
    ///
    /// # Errors
    /// If patches do not tile the images, or the channels differ.
    pub fn pooled_at(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let config = self.config();
        let (_, channels, height, width) = images.dims4()?;
        if config.input_size() == [channels, height, width] {
            return self.pooled(images, mode);
        }
        self.check_added_positions()?;
        let [rows, columns] = config.grid_size();
        let to = config.clone().with(|c| c.img_size = [height, width].into()).grid_size();
        let pos_embed = match &self.pos_embed {
            None => None,
            Some(pos_embed) => {
                let prefix = pos_embed.dim(1)? - rows * columns;
                let grid = pos_embed.narrow(1, prefix, rows * columns)?.squeeze(0)?;
                let grid = ops::resample_grid(&grid, [rows, columns], to, DINO_OFFSET)?.unsqueeze(0)?;
                Some(match prefix {
                    0 => grid,
                    _ => Tensor::cat(&[&pos_embed.narrow(1, 0, prefix)?, &grid], 1)?,
                })
            }
        };
        let x = self.embed_at(images, pos_embed.as_ref(), mode)?;
        let x = through(self.blocks(), x, mode)?;
        self.head_of(&self.final_norm(&x)?, true, mode)
    }
}

impl Vit {
    /// Refuses positions that lie inside of attention, which know the patches of whole images of the configuration's size.
    fn check_added_positions(&self) -> Result<()> {
        let config = self.config();
        if config.rope_type != RopeType::None || config.has_relative_positions() {
            bail!(
                "positions: expected some that are added to the patches, or none, got rotary or relative ones: images are seen whole \
                   and in one size with them"
            )
        }
        Ok(())
    }
}

/// Of `x [batch, rows, width]` the rows `kept [batch, count]` of each sample: `[batch, count, width]`.
fn rows_of(x: &Tensor, kept: &Tensor) -> Result<Tensor> {
    let (batch, rows, width) = x.dims3()?;
    let first: Vec<u32> = (0..batch).map(|sample| (sample * rows) as u32).collect();
    let first = Tensor::from_vec(first, (batch, 1), kept.device())?;
    let places = kept.broadcast_add(&first)?.flatten_all()?;
    x.reshape((batch * rows, width))?.index_select(&places, 0)?.reshape((batch, kept.dim(1)?, width))
}
