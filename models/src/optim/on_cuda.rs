//! Optimiser steps and sums of squares over many tensors in one launch; the kernels are in cuda/optimizer.cu.

use candle_core::{CudaDevice, DType, Device, Result, Tensor, bail};

use super::{AdamWStep, AdamWTarget, Clip, SgdStep, SgdTarget, adamw_step, clip_factor, sgd_step, sum_of_squares};
use crate::cuda::launch::{Arg, Grid, Module, Output, device_of, launch, place, whole};
use crate::cuda::{ptx, trust};
use crate::readback::Readback;

const MODULE: Module = ("optimizer", ptx::OPTIMIZER);

/// Values of a block, as optimizer.cu has it.
const BLOCK: usize = 4096;

/// The table of tensors that a kernel looks its own up in, in the layout of `Entry` in optimizer.cu.
#[derive(Default)]
struct Table {
    words: Vec<i64>,
    blocks: usize,
    tensors: usize,
}

impl Table {
    /// Adds a tensor: where it, its gradient and its state lie, and its own numbers.
    fn add(
        &mut self,
        param: Option<&Tensor>,
        gradient: &Tensor,
        state: [Option<&Tensor>; 2],
        numbers: [f64; 3],
    ) -> Result<()> {
        let place = |tensor: Option<&Tensor>| tensor.map_or(Ok(0), place);
        let [lr, decay, root] = numbers.map(|number| u64::from((number as f32).to_bits()));
        let narrow = u64::from(gradient.dtype() == DType::BF16);
        let words = [
            place(param)?,
            place(Some(gradient))?,
            place(state[0])?,
            place(state[1])?,
            gradient.elem_count() as u64,
            self.blocks as u64,
            lr | decay << 32,
            root | narrow << 32,
        ];
        self.words.extend(words.map(u64::cast_signed));
        self.blocks += gradient.elem_count().div_ceil(BLOCK);
        self.tensors += 1;
        Ok(())
    }

    fn upload(&mut self, device: &CudaDevice) -> Result<Tensor> {
        let words = std::mem::take(&mut self.words);
        Tensor::new(words, &Device::Cuda(device.clone()))
    }

    fn grid(&self) -> Grid {
        ((whole(self.blocks), 1, 1), (256, 1, 1))
    }
}

/// Whether a kernel can read and write these: contiguous, of one device, float32 but for a gradient.
fn serves(device: &CudaDevice, gradient: &Tensor, others: &[&Tensor]) -> bool {
    let here = |t: &Tensor| device_of(t).is_some_and(|of| of.id() == device.id()) && t.is_contiguous();
    let of_gradient = matches!(gradient.dtype(), DType::F32 | DType::BF16);
    here(gradient) && of_gradient && others.iter().all(|t| here(t) && t.dtype() == DType::F32)
}

/// The sums of squares of some tensors, and their sum, on the device; and on their way to the host.
#[derive(Debug)]
pub struct Squares {
    sums: Tensor,
    readback: Readback,
}

impl Squares {
    /// The sums, once the device has come to them.
    pub fn read(&self) -> Result<Vec<f64>> {
        let mut sums: Vec<f64> = self.readback.read()?.to_vec1()?;
        sums.pop();
        Ok(sums)
    }
}

/// What a step is clipped by: nothing, or these sums on the device and the largest norm.
#[derive(Clone, Copy)]
enum Clipping<'a> {
    None,
    By(&'a Squares, f64),
}

impl<'a> Clipping<'a> {
    /// None if the sums are not on this device.
    fn of(clip: Option<Clip<'a>>, device: &CudaDevice) -> Option<Self> {
        let Some(clip) = clip else { return Some(Self::None) };
        let squares = clip.squares.on_cuda()?;
        let here = device_of(&squares.sums).is_some_and(|of| of.id() == device.id());
        here.then_some(Self::By(squares, clip.largest))
    }

    /// The last arguments of a step's kernel.
    fn args(self) -> [Arg<'a>; 2] {
        match self {
            Self::None => [Arg::Null, Arg::Float(0.)],
            Self::By(squares, largest) => {
                [Arg::InFrom(&squares.sums, squares.sums.elem_count() - 1), Arg::Float(largest as f32)]
            }
        }
    }
}

/// Steps of AdamW in one launch, where the kernel serves; gives whether it did.
pub fn adamw_steps(targets: &[AdamWTarget], clip: Option<Clip>) -> Result<bool> {
    let Some(first) = targets.first() else { return Ok(false) };
    let Some(device) = device_of(first.param) else { return Ok(false) };
    // What is one number for a launch has to be one for all targets.
    let shared = |s: &AdamWStep| [s.beta1, s.beta2, s.eps, s.grad_scale];
    let fits = |t: &AdamWTarget| {
        // What does not fit is the single step's to refuse.
        let sized = [t.param, t.m, t.v].iter().all(|x| x.dims() == t.grad.dims()) && t.step.step > 0;
        sized && shared(&t.step) == shared(&first.step) && serves(device, t.grad, &[t.param, t.m, t.v])
    };
    let Some(clipping) = Clipping::of(clip, device) else { return Ok(false) };
    if !targets.iter().all(fits) || !trust::trusted("adamw", device, check_adamw)? {
        return Ok(false);
    }
    adamw_kernel(device, targets, clipping)?;
    Ok(true)
}

fn adamw_kernel(device: &CudaDevice, targets: &[AdamWTarget], clipping: Clipping) -> Result<()> {
    let mut table = Table::default();
    for AdamWTarget { param, m, v, grad, step } in targets {
        let correction = |beta: f64| 1. - beta.powf(step.step as f64);
        let numbers =
            [step.lr / correction(step.beta1), 1. - step.lr * step.weight_decay, correction(step.beta2).sqrt()];
        table.add(Some(param), grad, [Some(m), Some(v)], numbers)?;
    }
    let step = &targets[0].step;
    let entries = table.upload(device)?;
    let numbers = [step.beta1, 1. - step.beta1, step.beta2, 1. - step.beta2, step.eps, step.grad_scale]
        .map(|x| Arg::Float(x as f32));
    let args = [&[Arg::In(&entries), Arg::Int(table.tensors)][..], &numbers, &clipping.args()].concat();
    launch(device, MODULE, "adamw_f32", table.grid(), &mut [], &args)
}

/// Steps of SGD in one launch, where the kernel serves; gives whether it did.
pub fn sgd_steps(targets: &[SgdTarget], clip: Option<Clip>) -> Result<bool> {
    let Some(first) = targets.first() else { return Ok(false) };
    let Some(device) = device_of(first.param) else { return Ok(false) };
    let shared = |s: &SgdStep| (s.momentum, s.nesterov, s.grad_scale);
    let fits = |t: &SgdTarget| {
        let state: Vec<_> = [Some(t.param), t.momentum_buffer].into_iter().flatten().collect();
        state.iter().all(|x| x.dims() == t.grad.dims())
            && shared(&t.step) == shared(&first.step)
            && serves(device, t.grad, &state)
            && (t.step.momentum == 0. || t.momentum_buffer.is_some())
    };
    let Some(clipping) = Clipping::of(clip, device) else { return Ok(false) };
    if !targets.iter().all(fits) || !trust::trusted("sgd", device, check_sgd)? {
        return Ok(false);
    }
    sgd_kernel(device, targets, clipping)?;
    Ok(true)
}

fn sgd_kernel(device: &CudaDevice, targets: &[SgdTarget], clipping: Clipping) -> Result<()> {
    let mut table = Table::default();
    for SgdTarget { param, momentum_buffer, grad, step } in targets {
        let buffer = if step.momentum == 0. { None } else { *momentum_buffer };
        table.add(Some(param), grad, [buffer, None], [step.lr, step.weight_decay, 0.])?;
    }
    let step = &targets[0].step;
    let entries = table.upload(device)?;
    let [squares, largest] = clipping.args();
    let args = [
        Arg::In(&entries),
        Arg::Int(table.tensors),
        Arg::Float(step.momentum as f32),
        Arg::Int(usize::from(step.nesterov)),
        Arg::Float(step.grad_scale as f32),
        squares,
        largest,
    ];
    launch(device, MODULE, "sgd_f32", table.grid(), &mut [], &args)
}

/// The sum of the squares of every tensor, where the kernel serves.
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<Option<Squares>> {
    let Some(device) = tensors.first().and_then(|first| device_of(first)) else { return Ok(None) };
    let fits = tensors.iter().all(|tensor| serves(device, tensor, &[]) && tensor.elem_count() > 0);
    if !fits || !trust::trusted("sum_of_squares", device, check_sums)? {
        return Ok(None);
    }
    sums_kernel(device, tensors).map(Some)
}

fn sums_kernel(device: &CudaDevice, tensors: &[&Tensor]) -> Result<Squares> {
    let mut table = Table::default();
    for tensor in tensors {
        table.add(None, tensor, [None, None], [0.; 3])?;
    }
    let entries = table.upload(device)?;
    let mut partials = Output::new(device, DType::F64, table.blocks)?;
    let args = [Arg::In(&entries), Arg::Int(table.tensors), Arg::Out(0)];
    launch(device, MODULE, "sum_of_squares_f64", table.grid(), &mut [&mut partials], &args)?;
    let partials = partials.tensor();
    let mut sums = Output::new(device, DType::F64, table.tensors + 1)?;
    let args = [Arg::In(&entries), Arg::Int(table.tensors), Arg::In(&partials), Arg::Out(0), Arg::Long(table.blocks)];
    launch(device, MODULE, "sum_of_squares_by_tensor_f64", ((1, 1, 1), (256, 1, 1)), &mut [&mut sums], &args)?;
    let sums = sums.tensor();
    Ok(Squares { readback: Readback::new(&sums)?, sums })
}

/// Sizes of the tensors of a check: less than a block, and more than two.
const CHECKED: [usize; 2] = [33, 2 * BLOCK + 100];

/// Tensors of those sizes; those of one seed are the same.
fn tensors(device: &Device, seed: u64) -> Result<Vec<Tensor>> {
    CHECKED.iter().map(|&count| trust::random(&[count], seed, device)?.copy()).collect()
}

/// A largest norm that is half of the gradients', with the factor that this makes.
struct Halved {
    largest: f64,
    factor: f64,
}

fn halved(device: &CudaDevice, gradients: &[Tensor]) -> Result<(Squares, Halved)> {
    let squares = gradients.iter().map(sum_of_squares).sum::<Result<f64>>()?;
    let largest = squares.sqrt() / 2.;
    let halved = Halved { largest, factor: clip_factor(squares.sqrt(), largest) };
    Ok((sums_kernel(device, &gradients.iter().collect::<Vec<_>>())?, halved))
}

fn check_adamw(device: &Device) -> Result<()> {
    let numbers =
        |step| AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step, grad_scale: 0.5 };
    let grads = tensors(device, 4)?;
    let state = || -> Result<[Vec<Tensor>; 3]> {
        let v = tensors(device, 3)?.iter().map(Tensor::sqr).collect::<Result<_>>()?;
        Ok([tensors(device, 1)?, tensors(device, 2)?, v])
    };
    let (got, expected) = (state()?, state()?);
    let [p, m, v] = &got;
    let target = |i: usize| AdamWTarget { param: &p[i], m: &m[i], v: &v[i], grad: &grads[i], step: numbers(i + 1) };
    let Device::Cuda(cuda) = device else { bail!("adamw: expected a CUDA device") };
    adamw_kernel(cuda, &[target(0), target(1)], Clipping::None)?;
    let (squares, halved) = halved(cuda, &grads)?;
    adamw_kernel(cuda, &[target(0), target(1)], Clipping::By(&squares, halved.largest))?;
    let [p, m, v] = &expected;
    for i in 0..CHECKED.len() {
        adamw_step(&p[i], &m[i], &v[i], &grads[i], &numbers(i + 1))?;
        let step = numbers(i + 1);
        let clipped = AdamWStep { grad_scale: step.grad_scale * halved.factor, ..step };
        adamw_step(&p[i], &m[i], &v[i], &grads[i], &clipped)?;
    }
    for (what, (got, expected)) in ["the parameter", "m", "v"].iter().zip(got.iter().zip(&expected)) {
        for (got, expected) in got.iter().zip(expected) {
            trust::same(what, got, expected, false)?;
        }
    }
    Ok(())
}

fn check_sgd(device: &Device) -> Result<()> {
    let step = SgdStep { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.01, grad_scale: 0.5 };
    let grads = tensors(device, 4)?;
    let (got, expected) = ([tensors(device, 1)?, tensors(device, 2)?], [tensors(device, 1)?, tensors(device, 2)?]);
    let [p, b] = &got;
    let target = |i: usize| SgdTarget { param: &p[i], momentum_buffer: Some(&b[i]), grad: &grads[i], step };
    let Device::Cuda(cuda) = device else { bail!("sgd: expected a CUDA device") };
    sgd_kernel(cuda, &[target(0), target(1)], Clipping::None)?;
    let (squares, halved) = halved(cuda, &grads)?;
    sgd_kernel(cuda, &[target(0), target(1)], Clipping::By(&squares, halved.largest))?;
    let [p, b] = &expected;
    for i in 0..CHECKED.len() {
        sgd_step(&p[i], Some(&b[i]), &grads[i], &step)?;
        let clipped = SgdStep { grad_scale: step.grad_scale * halved.factor, ..step };
        sgd_step(&p[i], Some(&b[i]), &grads[i], &clipped)?;
    }
    for (what, (got, expected)) in ["the parameter", "the buffer"].iter().zip(got.iter().zip(&expected)) {
        for (got, expected) in got.iter().zip(expected) {
            trust::same(what, got, expected, false)?;
        }
    }
    Ok(())
}

fn check_sums(device: &Device) -> Result<()> {
    let tensors = tensors(device, 1)?;
    let Device::Cuda(cuda) = device else { bail!("sum_of_squares: expected a CUDA device") };
    let got = sums_kernel(cuda, &tensors.iter().collect::<Vec<_>>())?.read()?;
    for (got, tensor) in got.iter().zip(&tensors) {
        let expected = sum_of_squares(tensor)?;
        if (got - expected).abs() > 1e-9 * expected || got.is_nan() {
            bail!("expected {expected}, got {got}")
        }
    }
    Ok(())
}
