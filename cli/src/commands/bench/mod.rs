//! `tallow bench`: images per second and peak memory of a training step or a forward pass, on noise, or of loading images; and
//! the peak of the CPU.

mod mae;
mod peak;
mod turns;

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use tallow_models::{AnyModel, Architecture, Mode, Model, Params, ops, zoo};
use tallow_weights::{Interpolation, Preprocessing};

use crate::error::{Result, usage};
use crate::flags::{BenchArgs, BenchMode};
use crate::session::Session;
use crate::{model, progress};
use tallow::data::{self, DataOptions, Loader, LoaderOptions, Transform};
use tallow::train::defaults::{Family, Regime, defaults};
use tallow::train::optimizer::Optimizer;
use tallow::train::{self, Precision, memory};

/// Steps that are run before those that are measured.
const WARM_UP: usize = 3;

/// Classes where the architecture has no head, as the labels need some.
const CLASSES: usize = 10;

/// The keys are those of the PyTorch script that this is compared with. What is measured is left out before the first turn.
#[derive(Serialize)]
struct Measured {
    model: String,
    mode: &'static str,
    dtype: &'static str,
    device: String,
    batch_size: usize,
    threads: usize,
    #[serde(flatten)]
    result: Option<Speed>,
}

#[derive(Serialize)]
struct Speed {
    images_per_second: f64,
    peak_memory_bytes: Option<u64>,
}

pub fn run(args: &BenchArgs, session: &Session) -> Result {
    check_flags(args)?;
    if args.mode == BenchMode::Peak {
        return peak::run(session);
    }
    let Some(model) = &args.model else {
        return Err(usage(
            "expected a MODEL to measure, got none; only --mode peak needs none (tallow list has names)",
        ));
    };
    let options = model::open_options(model, &args.architecture, &args.checkpoint, session)?;
    let architecture = model::architecture(model, &args.architecture, &options)?;
    if args.method.is_some() {
        return mae::run(args, model, architecture, session);
    }
    match &args.data {
        Some(data) if args.mode == BenchMode::Load => loading(args, data, (model, &architecture), session),
        _ => computing(args, model, architecture, session),
    }
}

/// Refuses flags that the mode has no use for.
fn check_flags(args: &BenchArgs) -> Result {
    use BenchMode::{Infer, Load, Train};
    let given: [(&str, bool, &[BenchMode], &str); 8] = [
        ("--turns", args.turns, &[Train, Infer], "train or infer, which compute step by step"),
        ("--data", args.data.is_some(), &[Load], "load, as the others compute on noise"),
        ("--exif", args.exif.exif.is_some(), &[Load], "load, which alone reads images"),
        ("--method", args.method.is_some(), &[Train], "train, whose step it is"),
        ("--grad-checkpointing", args.grad_checkpointing, &[Train], "train, which alone has gradients"),
        (
            "--batch-size",
            args.batch_size.is_some(),
            &[Train, Infer, Load],
            "train, infer or load: the peak has no batches",
        ),
        ("--steps", args.steps.is_some(), &[Train, Infer, Load], "train, infer or load: the peak has no steps"),
        ("MODEL", args.model.is_some(), &[Train, Infer, Load], "train, infer or load: the peak is the CPU's"),
    ];
    match given.into_iter().find(|(_, given, modes, _)| *given && !modes.contains(&args.mode)) {
        Some((flag, _, _, expected)) => Err(usage(format!("{flag}: expected --mode {expected}; leave it out"))),
        None => Ok(()),
    }
}

/// Prints what was measured.
fn say(measured: &Measured, session: &Session) -> Result {
    session.result(measured, || {
        measured.result.as_ref().map_or(String::new(), |speed| {
            let peak = speed
                .peak_memory_bytes
                .map_or(String::new(), |_| format!(", {}", peak_in_words(speed.peak_memory_bytes)));
            format!("{:.1} images/s{peak}", speed.images_per_second)
        })
    })
}

/// `peak memory 1.23 GB`.
fn peak_in_words(bytes: Option<u64>) -> String {
    bytes.map_or("peak memory unknown".into(), |bytes| format!("peak memory {}", crate::output::bytes(bytes)))
}

/// Steps of training or inference, on noise.
fn computing(args: &BenchArgs, model: &str, architecture: Architecture, session: &Session) -> Result {
    let (device, dtype) = session.device()?;
    let architecture =
        if architecture.num_classes() == 0 { architecture.with_num_classes(CLASSES) } else { architecture };
    let [channels, height, width] = architecture.input_size();
    let numbers =
        (args.batch_size() as u128) * (channels * height * width) as u128 + architecture.num_parameters()? as u128;
    memory::check(&format!("a batch of {} images and the model", args.batch_size()), 4 * numbers)?;
    if session.precision() == Precision::Int8 && args.mode == BenchMode::Train {
        return Err(usage("--dtype int8: expected --mode infer, as models only predict in it, got --mode train"));
    }
    let mut work = Work::new(architecture, args.batch_size(), session.seed(), dtype, &device)?;
    if session.precision() == Precision::Int8 && !work.eval.is_packed() {
        let expected = format!("--dtype int8: expected f32 or bf16 for {model}");
        return Err(usage(format!("{expected}; int8 is for ViTs whose blocks are one operation each")));
    }
    work.model.set_grad_checkpointing(args.grad_checkpointing);
    if args.grad_checkpointing {
        memory::spare();
    }
    let training = if args.mode == BenchMode::Train { Some(Training::new(&work)?) } else { None };
    let mut measured = Measured {
        model: model.into(),
        mode: if training.is_some() { "train" } else { "infer" },
        dtype: session.precision().name(),
        device: train::device_name(&device),
        batch_size: args.batch_size(),
        threads: session.threads(),
        result: None,
    };
    let mut steps = Steps { work, training, taken: 0 };
    let bar = progress::count(session, if args.turns { WARM_UP } else { WARM_UP + args.steps() }, "steps");
    steps.speed(1, || bar.inc(1))?;
    memory::settle();
    steps.speed(WARM_UP - 1, || bar.inc(1))?;
    if args.turns {
        bar.finish_and_clear();
        return turns::take(&measured, session, |count| steps.speed(count, || {}), || peak_memory(&device));
    }
    let images_per_second = steps.speed(args.steps(), || bar.inc(1))?;
    bar.finish_and_clear();
    measured.result = Some(Speed { images_per_second, peak_memory_bytes: peak_memory(&device) });
    say(&measured, session)
}

/// The peak memory of the process or, on CUDA, of tensors on the device.
fn peak_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        return tallow_models::cuda::peak_memory(device);
    }
    memory::peak().filter(|_| device.is_cpu())
}

/// Batches of training images as evaluation reads them, over and over where there are fewer. Threads make them while others
/// are handed out, so it is their time in all that counts.
fn loading(args: &BenchArgs, data: &str, (model, architecture): (&str, &Architecture), session: &Session) -> Result {
    let options = DataOptions::default().with(|o| o.exif = args.exif.exif.unwrap_or_default());
    let samples = data::open_with(data, &options, &session.open_options())?.train;
    let transform = Arc::new(Transform::evaluation(&preprocessing(model, architecture))?);
    let (batches, threads) = (WARM_UP + args.steps(), session.threads());
    let order = (0..samples.len()).cycle().take(batches * args.batch_size()).collect();
    let options = LoaderOptions::default().with(|o| {
        o.batch_size = args.batch_size();
        o.threads = threads;
    });
    let bar = progress::count(session, batches, "batches");
    let mut start = Instant::now();
    for (step, batch) in Loader::new(samples, order, transform, options)?.enumerate() {
        batch?;
        if step + 1 == WARM_UP {
            start = Instant::now();
        }
        bar.inc(1);
    }
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let images_per_second = (args.steps() * args.batch_size()) as f64 / seconds;
    let measured = Measured {
        model: model.into(),
        mode: "load",
        dtype: "f32",
        device: "cpu".into(),
        batch_size: args.batch_size(),
        threads,
        result: Some(Speed { images_per_second, peak_memory_bytes: memory::peak() }),
    };
    say(&measured, session)
}

/// How an image becomes the input: as the model's weights in the zoo were trained, else the whole image, normalised to
/// [-1, 1].
fn preprocessing(name: &str, architecture: &Architecture) -> Preprocessing {
    let input_size = architecture.input_size();
    match zoo::find(name).ok().and_then(|entry| entry.pretrained) {
        Some(weights) => Preprocessing::new(input_size, weights.mean.to_vec(), weights.std.to_vec()).with(|c| {
            c.interpolation = match weights.interpolation {
                "bilinear" => Interpolation::Bilinear,
                _ => Interpolation::Bicubic,
            };
            c.crop_pct = weights.crop_pct;
            c.squash = weights.squash;
        }),
        None => Preprocessing::new(input_size, vec![0.5], vec![0.5]),
    }
}

/// A model and a batch of noise with labels.
struct Work {
    architecture: Architecture,
    params: Params,
    model: AnyModel,
    eval: AnyModel,
    images: Tensor,
    labels: Tensor,
}

impl Work {
    fn new(architecture: Architecture, batch_size: usize, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let params = Params::new(seed, dtype, device);
        let model = architecture.build(params.builder())?;
        let mut eval = architecture.build(params.eval_builder())?;
        eval.set_prepacking(true);
        let [channels, height, width] = architecture.input_size();
        let images = Tensor::randn(0f32, 1., (batch_size, channels, height, width), device)?.to_dtype(dtype)?;
        let classes = architecture.num_classes() as u32;
        let labels = Tensor::from_iter((0..batch_size as u32).map(|i| i % classes), device)?;
        Ok(Self { architecture, params, model, eval, images, labels })
    }
}

/// Steps of training or, where there is no optimiser, of inference.
struct Steps {
    work: Work,
    training: Option<Training>,
    taken: usize,
}

impl Steps {
    /// Images per second of the median of `count` steps. `each` is called after every one.
    fn speed(&mut self, count: usize, each: impl Fn()) -> Result<f64> {
        let Self { work, training, taken } = self;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            match training {
                Some(training) => training.step(work, *taken)?,
                None => drop(work.eval.forward(&work.images, Mode::Eval)?),
            }
            work.images.device().synchronize()?;
            times.push(start.elapsed().as_secs_f64());
            *taken += 1;
            each();
        }
        Ok(work.images.dim(0)? as f64 / train::median(&times).unwrap_or(f64::INFINITY))
    }
}

/// A training step as `tallow train` takes it, without clipping.
struct Training {
    optimizer: Optimizer,
    lr: f64,
}

impl Training {
    fn new(work: &Work) -> Result<Self> {
        let config = defaults(Family::of(&work.architecture), Regime::Scratch);
        Ok(Self { optimizer: Optimizer::new(&config, &work.architecture, &work.params)?, lr: config.optimizer.lr })
    }

    fn step(&mut self, work: &Work, step: usize) -> Result {
        let logits = work.model.forward(&work.images, Mode::Train { seed: step as u64 })?;
        let loss = ops::cross_entropy(&logits, &work.labels, 0.)?;
        let gradients = work.params.backward(&loss)?;
        Ok(self.optimizer.step(&gradients, None, self.lr)?)
    }
}
