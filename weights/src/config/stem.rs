//! What the shapes of a hybrid's tensors say of the convolutions before its patches.

use tallow_models::VitConfig;
use tallow_models::vit::StemLayers;

use crate::naming::Translation;
use crate::{Error, Result};

/// What is told of a stem.
pub(super) struct Stem {
    layers: StemLayers,
    width: usize,
    pub(super) in_chans: usize,
}

/// Reads it by timm's names; none where patches are cut out of images.
///
/// # Errors
/// If there is another network than a ResNet of BiT's kind, or one of a depth that makes no sense.
pub(super) fn read(origin: &str, translation: &Translation) -> Result<Option<Stem>> {
    const BACKBONE: &str = "patch_embed.backbone.";
    let shape = |name: &str| translation.get(&format!("{BACKBONE}{name}")).map(|mapped| mapped.shape.as_slice());
    let first = [("stem.conv.weight", true), ("conv.weight", false)];
    let first = first.into_iter().find_map(|(name, staged)| Some((shape(name)?, staged)));
    let Some((&[width, in_chans, 7, 7], staged)) = first else {
        return match translation.mapped.iter().find(|mapped| mapped.name.starts_with(BACKBONE)) {
            None => Ok(None),
            Some(mapped) => {
                let place = format!("{origin}: {}", mapped.name);
                Err(Error::unsupported(
                    &place,
                    "a hybrid with another network than BiT's ResNet",
                    "choose one with that",
                ))
            }
        };
    };
    let has = |stage: usize, block: usize| shape(&format!("stages.{stage}.blocks.{block}.conv1.weight")).is_some();
    let blocks = |stage: usize| (0..).take_while(|&block| has(stage, block)).count();
    let stages: Vec<usize> = if staged { (0..).map(blocks).take_while(|&blocks| blocks > 0).collect() } else { vec![] };
    let layers = stages.try_into()?;
    Ok(Some(Stem { layers, width, in_chans }))
}

impl Stem {
    /// Sets what it tells.
    pub(super) fn apply(&self, vit: &mut VitConfig) {
        (vit.stem_layers, vit.stem_width, vit.in_chans) = (Some(self.layers), self.width, self.in_chans);
    }
}
