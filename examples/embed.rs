//! Embeds images with a pretrained ViT: `cargo run --release --example embed -- IMAGE…`
//!
//! The weights are bundled; a name of the hub, such as `hf-hub:timm/vit_small_patch16_224.augreg_in1k`, serves as well.

use candle_core::{DType, Device, Tensor};
use tallow::data::{Draw, Transform, open_image};
use tallow::models::{Mode, Model, Params};
use tallow::weights::{LoadOptions, OpenOptions, Source, load, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let checkpoint = open(&Source::parse("vit_small_patch14_dinov2.saliency")?, &OpenOptions::default())?;
    let (mut config, _) = checkpoint.config_or_inferred()?;
    // The weights were trained at 518 pixels; at 224 it is nine times as fast.
    config.architecture = config.architecture.with_img_size(224);
    config.preprocessing.input_size = config.architecture.input_size();

    let params = Params::new(0, DType::F32, &Device::Cpu);
    load(&checkpoint, &config.architecture, &LoadOptions::default(), &params)?;
    let model = config.architecture.build(params.builder())?;

    let transform = Transform::of(&config)?;
    for path in std::env::args().skip(1) {
        let image = transform.tensor(&open_image(&path)?, Draw::default())?;
        let features: Tensor = model.pooled(&image.unsqueeze(0)?, Mode::Eval)?;
        let features = features.squeeze(0)?.to_vec1::<f32>()?;
        println!("{path}: {} features, the first are {:.3?}", features.len(), &features[..4]);
    }
    Ok(())
}
