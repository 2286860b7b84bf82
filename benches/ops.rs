//! The operations of `tallow-models` against the same composed of Candle's own: `cargo bench --bench ops [-- FILTER]`
//!
//! Sizes are those of a training step: ViT-S/16 at 224 pixels with 8 images, the CIFAR-10 CNN with 64. "forward" is without
//! history, "training" is forward and backward to every operand.

use std::hint::black_box;
use std::time::Duration;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use criterion::{Criterion, criterion_group};
use tallow_models::{ops, optim};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`, as in the `tallow` binary.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

const IMAGES: usize = 8;
const TOKENS: usize = 197;
const DIM: usize = 384;
const HEADS: usize = 6;

/// An operation on operands.
type Op = fn(&[Tensor]) -> Result<Tensor>;

/// Measures `fused` and `composed` on random operands.
fn compare(c: &mut Criterion, name: &str, shapes: &[&[usize]], fused: Op, composed: Op) {
    let operand = |dims: &&[usize]| Var::randn(0f32, 1., *dims, &Device::Cpu).expect("an operand");
    let operands: Vec<Var> = shapes.iter().map(operand).collect();
    let tracked: Vec<Tensor> = operands.iter().map(|var| var.as_tensor().clone()).collect();
    let detached: Vec<Tensor> = operands.iter().map(|var| var.as_detached_tensor()).collect();
    for (kind, op) in [("fused", fused), ("composed", composed)] {
        let mut group = c.benchmark_group(name);
        group.bench_function(format!("forward/{kind}"), |b| b.iter(|| black_box(op(&detached).expect("a result"))));
        // A loss whose gradient is dense and costs next to nothing itself.
        let step = || op(&tracked)?.flatten_all()?.sum(0)?.backward();
        group.bench_function(format!("training/{kind}"), |b| b.iter(|| black_box(step().expect("gradients"))));
    }
}

fn transformer(c: &mut Criterion) {
    let (tokens, hidden) = (&[IMAGES, TOKENS, DIM][..], &[IMAGES, TOKENS, 4 * DIM][..]);
    compare(
        c,
        "linear",
        &[tokens, &[4 * DIM, DIM], &[4 * DIM]],
        |t| ops::linear(&t[0], &t[1], Some(&t[2])),
        |t| t[0].broadcast_matmul(&t[1].t()?)?.broadcast_add(&t[2]),
    );
    compare(
        c,
        "layer_norm",
        &[tokens, &[DIM], &[DIM]],
        |t| ops::layer_norm(&t[0], &t[1], &t[2], 1e-6),
        |t| {
            let centred = t[0].broadcast_sub(&t[0].mean_keepdim(D::Minus1)?)?;
            let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?.sqrt()?;
            centred.broadcast_div(&deviation)?.broadcast_mul(&t[1])?.broadcast_add(&t[2])
        },
    );
    compare(c, "gelu", &[hidden], |t| ops::gelu(&t[0]), |t| t[0].gelu_erf());
    compare(
        c,
        "attention",
        &[&[IMAGES, TOKENS, 3 * DIM]],
        |t| ops::attention_qkv(&t[0], HEADS),
        |t| {
            let qkv = t[0].reshape((IMAGES, TOKENS, 3, HEADS, DIM / HEADS))?.permute((2, 0, 3, 1, 4))?;
            let part = |i| qkv.get(i)?.contiguous();
            let scores = (part(0)?.matmul(&part(1)?.t()?.contiguous()?)? * (DIM as f64 / HEADS as f64).powf(-0.5))?;
            let out = composed_softmax(&scores)?.matmul(&part(2)?)?;
            out.transpose(1, 2)?.reshape((IMAGES, TOKENS, DIM))
        },
    );
    compare(
        c,
        "residual with LayerScale",
        &[tokens, tokens, &[DIM]],
        |t| ops::scale_add(&t[0], &t[1], Some(&t[2]), None),
        |t| &t[0] + t[1].broadcast_mul(&t[2])?,
    );
    compare(
        c,
        "patch_embed",
        &[&[IMAGES, 3, 224, 224], &[DIM, 3, 16, 16], &[DIM]],
        |t| ops::patch_embed(&t[0], &t[1], Some(&t[2])),
        |t| t[0].conv2d(&t[1], 0, 16, 1, 1)?.flatten_from(2)?.transpose(1, 2)?.broadcast_add(&t[2]),
    );
    compare(c, "softmax", &[&[IMAGES * HEADS, TOKENS, TOKENS]], |t| ops::softmax(&t[0]), |t| composed_softmax(&t[0]));
    compare(
        c,
        "cross_entropy",
        &[&[256, 1000]],
        |t| ops::cross_entropy(&t[0], &labels()?, 0.),
        |t| candle_nn::loss::cross_entropy(&t[0], &labels()?),
    );
}

fn composed_softmax(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::softmax(x, D::Minus1)
}

fn labels() -> Result<Tensor> {
    Tensor::arange(0u32, 256, &Device::Cpu)
}

fn convolutional(c: &mut Criterion) {
    compare(
        c,
        "conv2d",
        &[&[64, 32, 16, 16], &[64, 32, 5, 5], &[64]],
        |t| ops::conv2d(&t[0], &t[1], Some(&t[2]), 1, 2),
        |t| t[0].conv2d(&t[1], 2, 1, 1, 1)?.broadcast_add(&t[2].reshape((1, 64, 1, 1))?),
    );
    let maps = &[64, 32, 32, 32][..];
    compare(c, "max_pool2d", &[maps], |t| ops::max_pool2d(&t[0], 2, 2, 0, false), |t| t[0].max_pool2d(2));
    compare(c, "relu", &[maps], |t| ops::relu(&t[0]), |t| t[0].relu());
}

/// A step over a parameter of four million values, against Candle's optimiser.
fn adamw(c: &mut Criterion) {
    let parameter = || Var::zeros(4_000_000, DType::F32, &Device::Cpu).expect("a parameter");
    let (param, m, v) = (parameter(), parameter(), parameter());
    let gradient = Tensor::ones(4_000_000, DType::F32, &Device::Cpu).expect("a gradient");
    let mut group = c.benchmark_group("adamw");
    let step =
        optim::AdamWStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, step: 1, grad_scale: 1. };
    group.bench_function("fused", |b| {
        b.iter(|| optim::adamw_step(&param, &m, &v, &gradient, &step).expect("a step"));
    });
    let mut optimizer = AdamW::new(vec![param.clone()], ParamsAdamW::default()).expect("an optimiser");
    let gradients = param.sum_all().and_then(|loss| loss.backward()).expect("gradients");
    group.bench_function("Candle's", |b| b.iter(|| optimizer.step(&gradients).expect("a step")));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    targets = transformer, convolutional, adamw
}

fn main() {
    // As in the binary: memory that is given back in between has to be cleared again, which would be most of what is measured.
    // SAFETY: sets one number of the allocator that is in use.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    benches();
    Criterion::default().configure_from_args().final_summary();
}
