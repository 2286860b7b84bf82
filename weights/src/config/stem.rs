//! What the shapes of a hybrid's tensors say of the convolutions before its patches, and transformers' configs.

use tallow_models::VitConfig;
use tallow_models::vit::StemLayers;

use super::fields::Fields;
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

/// The ResNet that transformers' config of a ViT-Hybrid says, in a BiT's own config inside of it.
///
/// # Errors
/// If it is another than timm's hybrids have.
pub(super) fn of_hugging_face(root: &Fields, vit: &mut VitConfig) -> Result<()> {
    let bit = root.object("backbone_config")?;
    // What a ViT-Hybrid takes where nothing is said, and what a BiT takes.
    let (mut depths, mut widths, mut first) = (vec![3, 4, 9], vec![256, 512, 1024, 2048], 64);
    if let Some(bit) = &bit {
        depths = bit.sizes("depths")?.unwrap_or_else(|| vec![3, 4, 6, 3]);
        widths = bit.sizes("hidden_sizes")?.unwrap_or(widths);
        first = bit.size("embedding_size")?.unwrap_or(first);
        let known = "known are BiT's bottlenecks with activations behind them, 32 groups and \"same\" padding, as timm's hybrids have them";
        let same = bit.text("global_padding")?.is_some_and(|padding| padding.eq_ignore_ascii_case("same"));
        let of_kind = [
            ("model_type", bit.text("model_type")?.is_none_or(|kind| kind == "bit")),
            ("layer_type", bit.text("layer_type")? == Some("bottleneck")),
            ("hidden_act", bit.text("hidden_act")?.is_none_or(|act| act == "relu")),
            ("global_padding", same),
            ("embedding_dynamic_padding", bit.bool("embedding_dynamic_padding")? == Some(true)),
            ("num_groups", bit.size("num_groups")?.is_none_or(|groups| groups == 32)),
            ("width_factor", bit.size("width_factor")?.is_none_or(|factor| factor == 1)),
            ("output_stride", bit.size("output_stride")?.is_none_or(|stride| stride == 32)),
        ];
        if let Some((field, _)) = of_kind.iter().find(|(_, holds)| !holds) {
            return Err(bit.unsupported(field, known));
        }
        let last = format!("stage{}", depths.len());
        let whole = bit.value("out_features").is_none_or(|names| *names == serde_json::json!([last]));
        if !whole {
            return Err(bit.unsupported("out_features", "known is the last stage"));
        }
    }
    let layers: StemLayers = depths.try_into()?;
    let stages = layers.stages().len();
    let usual = |(stage, &width): (usize, &usize)| first.checked_mul(4 << stage) == Some(width);
    if widths.len() < stages || !widths.iter().take(stages).enumerate().all(usual) {
        let remedy = "known are stages four times as wide as the first convolution, and each further one twice as wide";
        return Err(bit.as_ref().unwrap_or(root).unsupported("hidden_sizes", remedy));
    }
    (vit.stem_layers, vit.stem_width) = (Some(layers), first);
    Ok(())
}
