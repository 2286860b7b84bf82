//! `tallow bench --method mae`: steps of a masked autoencoder by turns with steps of training with labels, on the same images. Whatever else
//! the machine does then slows both.

use std::time::Instant;

use candle_core::{DType, Tensor};
use serde::Serialize;
use tallow_models::pretraining::{MaeDecoder, MaeDecoderConfig, mae_decoder, mae_loss, mae_targets};
use tallow_models::{AnyModel, Architecture, Mode, Params, Vit};

use super::{Training, WARM_UP, Work, peak_memory};
use crate::error::{Result, usage};
use crate::flags::BenchArgs;
use crate::progress;
use crate::session::Session;
use tallow::data::epoch_order;
use tallow::train::config::Method;
use tallow::train::defaults::{Family, Regime, defaults};
use tallow::train::optimizer::Optimizer;
use tallow::train::{self, TrainConfig, pretraining};

#[derive(Serialize)]
struct Measured {
    model: String,
    mode: &'static str,
    method: &'static str,
    mask_ratio: f64,
    dtype: &'static str,
    device: String,
    batch_size: usize,
    threads: usize,
    images_per_second: f64,
    supervised_images_per_second: f64,
    /// The time of a step over that of one with labels.
    step_ratio: f64,
    peak_memory_bytes: Option<u64>,
}

pub fn run(args: &BenchArgs, name: &str, architecture: Architecture, session: &Session) -> Result {
    if args.turns || args.grad_checkpointing {
        return Err(usage("--method mae: expected neither --turns nor --grad-checkpointing beside it"));
    }
    let Architecture::Vit(vit) = &architecture else {
        return Err(usage(format!("--method mae: expected a vision transformer, got {name}, which has no patches")));
    };
    let (device, dtype) = session.device()?;
    let mut config = defaults(Family::of(&architecture), Regime::Mae).with(|c| {
        c.model.model = name.into();
        c.pretraining.mask_ratio = args.mask_ratio;
        c.pretraining.decoder_dim = args.decoder_dim;
        c.pretraining.decoder_depth = args.decoder_depth;
    });
    pretraining::settle(&mut config, &architecture);
    let patches = vit.num_patches();
    let seen = pretraining::seen(&config, &architecture)?;
    let supervised = architecture.clone().with_num_classes(architecture.num_classes().max(super::CLASSES));
    let supervised = Work::new(supervised, args.batch_size(), session.seed(), dtype, &device)?;
    let mut with_labels = Training::new(&supervised)?;
    let mut mae = Mae::new(&config, &architecture, session.seed(), (dtype, &device))?;

    let mut times = [Vec::new(), Vec::new()];
    let bar = progress::count(session, WARM_UP + args.steps(), "steps");
    for step in 0..WARM_UP + args.steps() {
        let masks = masks(args.batch_size(), (patches, seen), step as u64, &device)?;
        let start = Instant::now();
        mae.step(&supervised.images, &masks, step)?;
        device.synchronize()?;
        let between = Instant::now();
        with_labels.step(&supervised, step)?;
        device.synchronize()?;
        if step >= WARM_UP {
            times[0].push((between - start).as_secs_f64());
            times[1].push(between.elapsed().as_secs_f64());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let [of_mae, of_labels] = times.map(|times| train::median(&times).unwrap_or(f64::INFINITY));
    let measured = Measured {
        model: name.into(),
        mode: "train",
        method: Method::Mae.name(),
        mask_ratio: config.pretraining.mask_ratio.unwrap_or_default(),
        dtype: session.precision().name(),
        device: train::device_name(&device),
        batch_size: args.batch_size(),
        threads: session.threads(),
        images_per_second: args.batch_size() as f64 / of_mae,
        supervised_images_per_second: args.batch_size() as f64 / of_labels,
        step_ratio: of_mae / of_labels,
        peak_memory_bytes: peak_memory(&device),
    };
    session.result(&measured, || {
        format!(
            "{:.1} images/s as a masked autoencoder that sees {seen} of {patches} patches, {:.1} with labels: a step takes {:.2} of the time, \
             {}",
            measured.images_per_second,
            measured.supervised_images_per_second,
            measured.step_ratio,
            super::peak_in_words(measured.peak_memory_bytes)
        )
    })
}

/// Patches that are seen and patches that are not, `[batch, seen]` and `[batch, hidden]`.
fn masks(
    batch: usize,
    (patches, seen): (usize, usize),
    seed: u64,
    device: &candle_core::Device,
) -> Result<[Tensor; 2]> {
    let order = (0..batch).flat_map(|image| epoch_order(patches, seed, image, true));
    let order = Tensor::from_iter(order.map(|patch| patch as u32), device)?.reshape((batch, patches))?;
    Ok([order.narrow(1, 0, seen)?.contiguous()?, order.narrow(1, seen, patches - seen)?.contiguous()?])
}

/// A step as `tallow pretrain` takes it, without clipping.
struct Mae {
    params: Params,
    vit: Vit,
    decoder: MaeDecoder,
    optimizer: Optimizer,
    config: TrainConfig,
}

impl Mae {
    fn new(
        config: &TrainConfig,
        architecture: &Architecture,
        seed: u64,
        (dtype, device): (DType, &candle_core::Device),
    ) -> Result<Self> {
        let params = Params::new(seed, dtype, device);
        let headless = architecture.clone().with_num_classes(0);
        pretraining::prepare(config, &headless, &params, false)?;
        let AnyModel::Vit(vit) = headless.build(params.builder())? else {
            return Err(usage("--method mae: expected a vision transformer"));
        };
        let own = &config.pretraining;
        let decoder = MaeDecoderConfig::new(vit.config()).with(|c| {
            c.dim = own.decoder_dim.unwrap_or(c.dim);
            c.depth = own.decoder_depth.unwrap_or(c.depth);
            c.num_heads = own.decoder_heads.unwrap_or(c.num_heads);
        });
        let decoder = mae_decoder(&decoder, params.builder().pp("mae_decoder"))?;
        let optimizer = Optimizer::new(config, architecture, &params)?;
        Ok(Self { params, vit: *vit, decoder, optimizer, config: config.clone() })
    }

    fn step(&mut self, images: &Tensor, [seen, hidden]: &[Tensor; 2], step: usize) -> Result {
        let mode = Mode::Train { seed: step as u64 };
        let tokens = self.vit.forward_visible(images, seen, mode)?;
        let said = self.decoder.forward(&tokens, seen, hidden, mode)?.to_dtype(DType::F32)?;
        let targets = mae_targets(images, hidden, self.vit.config().patch_size, true)?.to_dtype(DType::F32)?;
        let gradients = self.params.backward(&mae_loss(&said, &targets)?)?;
        Ok(self.optimizer.step(&gradients, None, self.config.optimizer.lr)?)
    }
}
