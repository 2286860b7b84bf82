//! A ViT inside of one's own Candle module, trained by one's own loop: `cargo run --release --example own_loop`
//!
//! The module reads digits with the bundled ViT and says by a head of its own whether the digit is even. The backbone keeps its
//! pretrained weights, the head is new, and both learn.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, VarBuilder, linear, loss, ops};
use tallow::data::{self, DataOptions, Draw, Samples, Transform};
use tallow::models::{AnyModel, Mode, Model, Params};
use tallow::weights::{CheckpointConfig, LoadOptions, OpenOptions, Source, load, open};

const LABELS: [&str; 2] = ["even", "odd"];

struct EvenOrOdd {
    backbone: AnyModel,
    head: Linear,
}

impl EvenOrOdd {
    /// The backbone's parameters are called `backbone.…`, which the load has to know, and the head's `even_or_odd.…`.
    fn new(config: &CheckpointConfig, vb: VarBuilder) -> tallow::models::Result<Self> {
        let architecture = &config.architecture;
        let head = linear(architecture.num_features(), LABELS.len(), vb.pp("even_or_odd"))?;
        Ok(Self { backbone: architecture.build(vb.pp("backbone"))?, head })
    }

    /// Logits `[batch, 2]` of images `[batch, 3, height, width]`.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head.forward(&self.backbone.pooled(images, mode)?)
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let checkpoint = open(&Source::parse("vit_small_patch14_dinov2.saliency")?, &OpenOptions::default())?;
    let (mut config, _) = checkpoint.config_or_inferred()?;
    config.architecture = config.architecture.with_img_size(56);
    config.preprocessing.input_size = config.architecture.input_size();

    let params = Params::new(0, DType::F32, &device);
    let under_backbone = LoadOptions::default().with(|options| options.prefix = Some("backbone".into()));
    let account = load(&checkpoint, &config.architecture, &under_backbone, &params)?;
    println!("{account}");
    let model = EvenOrOdd::new(&config, params.builder())?;

    let digits = data::open(
        "mnist",
        &DataOptions::default().with(|o| {
            o.limit = Some(64);
            o.test_limit = Some(64);
        }),
    )?;
    let transform = Transform::of(&config)?;
    let (images, labels) = batch(&*digits.train, &transform)?;
    let variables = params.trainable().into_iter().map(|param| param.var).collect();
    // Under Adam, larger steps destroy what a pretrained ViT knows.
    let mut optimizer = AdamW::new_lr(variables, 1e-5)?;
    for step in 0..10 {
        let loss = loss::cross_entropy(&model.forward(&images, Mode::Train { seed: step })?, &labels)?;
        // Candle's own backward; `Params::backward` gives the same and refuses a step that leaves a parameter without a gradient.
        optimizer.step(&loss.backward()?)?;
        println!("step {step}: loss {:.3}", loss.to_scalar::<f32>()?);
    }

    let (images, labels) = batch(&*digits.test, &transform)?;
    let probabilities = ops::softmax(&model.forward(&images, Mode::Eval)?.detach(), D::Minus1)?;
    let predicted = probabilities.argmax(D::Minus1)?;
    let right = predicted.eq(&labels)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
    for row in 0..3 {
        let class = predicted.get(row)?.to_scalar::<u32>()? as usize;
        let probability = probabilities.get(row)?.get(class)?.to_scalar::<f32>()?;
        println!("{}: {} ({:.1} %)", digits.test.name(row), LABELS[class], 100. * probability);
    }
    println!("{:.1} % of the test digits right", 100. * right);
    Ok(())
}

/// All samples as one batch `[samples, 3, height, width]`, and whether each is odd.
fn batch(samples: &dyn Samples, transform: &Transform) -> data::Result<(Tensor, Tensor)> {
    let image = |index| transform.tensor(&samples.image(index)?, Draw::default());
    let images = (0..samples.len()).map(image).collect::<data::Result<Vec<_>>>()?;
    let odd: Vec<u32> = (0..samples.len()).map(|index| samples.label(index) % 2).collect();
    Ok((Tensor::stack(&images, 0)?, Tensor::new(odd, &Device::Cpu)?))
}
