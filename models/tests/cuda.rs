//! The CUDA kernels on a device: against the CPU's, by finite differences, twice with the same bits, and in training steps.
//! Ignored where nothing asks for them, as they need a GPU; benches/cuda.py runs them:
//!
//!     cargo test --release -p tallow-models --features cuda --test cuda -- --ignored --test-threads 1
//!
//! Without one they run, with TALLOW_TEST_SMALL=1, on a device that the host plays: see cuda/fake_device.sh.
#![cfg(feature = "cuda")]

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tallow_models::autograd::collect_gradients;
use tallow_models::cuda;
use tallow_models::images::{self, Taps};
use tallow_models::ops::{self, Branch, Gelu, Inner, MatmulPrecision, Middle};
use tallow_models::optim::{self, AdamWStep, AdamWTarget, Clip, SgdStep, SgdTarget};
use tallow_models::{Mode, Model, Params, zoo};

fn device() -> Device {
    assert_eq!(cuda::problem(), None, "these tests need a GPU");
    Device::new_cuda(0).expect("a CUDA device")
}

/// Values between -1.5 and 1.5 that bf16 holds exactly, the same ones for the same shape and seed.
fn values(dims: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = dims.iter().product();
    let values = (0..count).map(|_| rng.random_range(-192i32..=192) as f32 / 128.).collect::<Vec<_>>();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

type Op = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An op, the shapes of its operands, and how many of the last of them are parameters.
struct Case {
    name: String,
    shapes: Vec<Vec<usize>>,
    parameters: usize,
    op: Op,
}

fn case(
    name: &str,
    shapes: &[&[usize]],
    parameters: usize,
    op: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
) -> Case {
    let name = format!("{name} {shapes:?}");
    Case { name, shapes: shapes.iter().map(|dims| dims.to_vec()).collect(), parameters, op: Box::new(op) }
}

/// Whether to keep to small shapes, for a slow device.
fn small() -> bool {
    std::env::var_os("TALLOW_TEST_SMALL").is_some()
}

/// The shapes of a ViT-S at 224 pixels, and small odd ones.
fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, dim) in [(197 * 4, 384), (5, 17), (3, 2050), (70, 132)] {
        cases.push(case("layer_norm", &[&[rows, dim], &[dim], &[dim]], 2, |t| {
            ops::layer_norm(&t[0], &t[1], &t[2], 1e-6)
        }));
        cases.push(case("linear", &[&[rows, dim], &[40, dim], &[40]], 2, |t| ops::linear(&t[0], &t[1], Some(&t[2]))));
        cases.push(case("linear without bias", &[&[rows, dim], &[40, dim]], 1, |t| ops::linear(&t[0], &t[1], None)));
        cases.push(case("relu", &[&[rows, dim]], 0, |t| ops::relu(&t[0])));
        cases.push(case("tanh", &[&[rows, dim]], 0, |t| ops::tanh(&t[0])));
        for gelu in [Gelu::Erf, Gelu::Tanh, Gelu::Quick, Gelu::Silu] {
            cases.push(case(&format!("{gelu:?}"), &[&[rows, dim]], 0, move |t| gelu.apply(&t[0])));
        }
    }
    for dims in [[4, 197, 384], [3, 5, 17]] {
        let gamma = &[dims[2]][..];
        cases.push(case("add", &[&dims, &dims], 0, |t| ops::add(&t[0], &t[1])));
        cases.push(case("scale_add", &[&dims, &dims, gamma], 1, move |t| {
            let keep: Vec<f32> = (0..dims[0]).map(|i| if i % 3 == 0 { 0. } else { 1.25 }).collect();
            let keep = Tensor::new(keep, t[0].device())?;
            ops::scale_add(&t[0], &t[1], Some(&t[2]), Some(&keep))
        }));
    }
    for (rows, classes, smoothing) in [(512, 10, 0.), (64, 1000, 0.1), (9, 33, 0.1), (1, 1, 0.)] {
        cases.push(case("cross_entropy", &[&[rows, classes]], 0, move |t| {
            let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
            ops::cross_entropy(&t[0], &Tensor::new(labels, t[0].device())?, smoothing)
        }));
    }
    for (kernel, stride, padding, ceil) in [(2, 2, 0, false), (3, 2, 1, true)] {
        cases.push(case("max_pool2d", &[&[4, 32, 17, 16]], 0, move |t| {
            ops::max_pool2d(&t[0], kernel, stride, padding, ceil)
        }));
    }
    for (size, kernel, stride, padding) in [(16, 5, 1, 2), (9, 3, 2, 1)] {
        let (x, w) = ([4, 8, size, size], [12, 8, kernel, kernel]);
        cases.push(case("conv2d", &[&x, &w, &[12]], 2, move |t| {
            ops::conv2d(&t[0], &t[1], Some(&t[2]), stride, padding)
        }));
    }
    for (tokens, heads, d) in
        [(197, 6, 64), (257, 3, 32), (70, 1, 32), (70, 1, 64), (66, 1, 96), (40, 1, 128), (17, 4, 16)]
    {
        let width = heads * d;
        cases.push(case("attention_qkv", &[&[3, tokens, 3 * width]], 0, move |t| ops::attention_qkv(&t[0], heads)));
        let (q, k) = ([2, 5, width], [2, tokens, width]);
        cases.push(case("attention", &[&q, &k, &k], 0, move |t| ops::attention(&t[0], &t[1], &t[2], heads)));
    }
    for (tokens, dim, hidden, heads) in [(197, 384, 1536, 6), (17, 32, 48, 2)] {
        let sizes = |first: usize, second: usize| -> Vec<Vec<usize>> {
            let parameters =
                [vec![dim], vec![dim], vec![first, dim], vec![first], vec![dim, second], vec![dim], vec![dim]];
            [vec![vec![3, tokens, dim]], parameters.to_vec()].concat()
        };
        for (middle, first, second) in [
            (Middle::Attention(heads), 3 * dim, dim),
            (Middle::Activation(Gelu::Erf), hidden, hidden),
            (Middle::Activation(Gelu::Tanh), hidden, hidden),
        ] {
            let shapes = sizes(first, second);
            let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            cases.push(case(&format!("branch {middle:?}"), &shapes, 7, move |t| {
                let keep = Tensor::new(&[0f32, 1.25, 1.25], t[0].device())?;
                // Smaller weights, so that softmax does not settle on one token.
                let (first, second) = ((&t[3] * 0.125)?, (&t[5] * 0.125)?);
                let inner = Inner { first: (&first, Some(&t[4])), middle, second: (&second, Some(&t[6])) };
                let (norm, gamma) = ((&t[1], &t[2]), Some(&t[7]));
                ops::branch(&t[0], &Branch { norm, eps: 1e-6, inner, gamma, keep: Some(&keep), prepacked: None })
            }));
        }
    }
    if small() {
        cases.retain(|case| case.shapes.iter().all(|dims| dims.iter().product::<usize>() < 60_000));
    }
    cases
}

/// Output and gradients of `Σ output · weights`, in float32 on the CPU.
fn evaluate(
    case: &Case,
    operands: &[Tensor],
    device: &Device,
    [of_data, of_parameters]: [DType; 2],
) -> Result<Vec<Tensor>> {
    let data = operands.len() - case.parameters;
    let mut vars = vec![];
    for (i, operand) in operands.iter().enumerate() {
        let dtype = if i < data { of_data } else { of_parameters };
        vars.push(Var::from_tensor(&operand.to_device(device)?.to_dtype(dtype)?)?);
    }
    let output = (case.op)(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>())?;
    let weights = values(output.dims(), 99)?.to_device(device)?;
    let loss = (output.to_dtype(DType::F32)? * weights)?.sum_all()?;
    let (store, mut kept) = collect_gradients(|| loss.backward())?;
    let mut outcome = vec![output.detach()];
    for var in &vars {
        let gradient = kept.remove(&var.id()).or_else(|| store.get(var).cloned());
        outcome.push(gradient.expect("a gradient").detach());
    }
    outcome.iter().map(|t| t.to_dtype(DType::F32)?.to_device(&Device::Cpu)).collect()
}

/// The largest difference over the largest value of the reference.
fn distance(got: &Tensor, reference: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), reference.dims());
    let flat = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    let (got, reference) = (flat(got)?, flat(reference)?);
    let scale = reference.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    let differences = got.iter().zip(&reference).map(|(a, b)| (a - b).abs());
    Ok(f64::from(differences.fold(0f32, |m, d| if d.is_nan() || d > m { d } else { m }) / scale))
}

const TYPES: [([DType; 2], f64); 3] =
    [([DType::F32, DType::F32], 1e-4), ([DType::BF16, DType::BF16], 3e-2), ([DType::BF16, DType::F32], 3e-2)];

#[test]
#[ignore = "needs a GPU"]
fn kernels_agree_with_the_cpu_and_give_the_same_bits_twice() -> Result<()> {
    let device = device();
    let mut wrong = vec![];
    for case in cases() {
        let operands = case.shapes.iter().zip(0..).map(|(dims, i)| values(dims, i)).collect::<Result<Vec<_>>>()?;
        let exact = evaluate(&case, &operands, &Device::Cpu, [DType::F32, DType::F32])?;
        for (dtypes, allowed) in TYPES {
            let got = evaluate(&case, &operands, &device, dtypes)?;
            let again = evaluate(&case, &operands, &device, dtypes)?;
            for (i, ((got, again), exact)) in got.iter().zip(&again).zip(&exact).enumerate() {
                let d = distance(got, exact)?;
                if d.is_nan() || d > allowed {
                    wrong.push(format!("{} {dtypes:?}: result {i} is off by {d:e}", case.name));
                }
                if distance(again, got)? != 0. {
                    wrong.push(format!("{} {dtypes:?}: result {i} differs the second time", case.name));
                }
            }
        }
    }
    // Not one of them by its composition.
    for kernel in cuda::kernels() {
        if let Some(fault) = kernel.fault {
            wrong.push(format!("{}: {fault}", kernel.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn a_branch_gives_candle_the_gradients_that_are_collected_for_params() -> Result<()> {
    let device = device();
    let dims: [&[usize]; 7] = [&[2, 9, 32], &[32], &[32], &[96, 32], &[96], &[32, 32], &[32]];
    let given = |tracked: [bool; 7]| -> Result<Vec<(Option<Var>, Tensor)>> {
        let of = |(i, dims): (usize, &&[usize])| {
            let values = values(dims, i as u64)?.to_device(&device)?;
            Ok(match tracked[i] {
                true => Var::from_tensor(&values).map(|var| (Some(var.clone()), var.as_tensor().clone()))?,
                false => (None, values),
            })
        };
        dims.iter().enumerate().map(of).collect()
    };
    // All; a frozen backbone's first layer; a frozen second one; the input alone.
    let all = [true; 7];
    let [second, first, input] = [
        [false, false, false, false, false, true, true],
        [true, true, true, true, true, false, false],
        [true, false, false, false, false, false, false],
    ];
    for tracked in [all, second, first, input] {
        let given = given(tracked)?;
        let t: Vec<&Tensor> = given.iter().map(|(_, tensor)| tensor).collect();
        let inner = Inner { first: (t[3], Some(t[4])), middle: Middle::Attention(2), second: (t[5], Some(t[6])) };
        let parts = Branch { norm: (t[1], t[2]), eps: 1e-6, inner, gamma: None, keep: None, prepacked: None };
        let loss = (ops::branch(t[0], &parts)? * values(dims[0], 9)?.to_device(&device)?)?.sum_all()?;
        let plain = loss.backward()?;
        let (store, mut kept) = collect_gradients(|| loss.backward())?;
        for (i, var) in given.iter().enumerate().filter_map(|(i, (var, _))| Some((i, var.as_ref()?))) {
            let collected = kept.remove(&var.id()).or_else(|| store.get(var).cloned()).expect("a collected gradient");
            let plain = plain.get(var).expect("a gradient");
            let [plain, collected] = [plain, &collected].map(|t| t.to_device(&Device::Cpu));
            assert_eq!(distance(&plain?, &collected?)?, 0., "operand {i} of {tracked:?}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn every_op_runs_its_kernel() -> Result<()> {
    let device = device();
    for case in cases() {
        let operands = case.shapes.iter().zip(0..).map(|(dims, i)| values(dims, i)).collect::<Result<Vec<_>>>()?;
        for (dtypes, _) in TYPES {
            evaluate(&case, &operands, &device, dtypes)?;
        }
    }
    steps(&device)?;
    let checked: Vec<_> = cuda::kernels().into_iter().map(|kernel| kernel.name).collect();
    let types = ["f32_f32", "bf16_bf16", "bf16_f32"];
    let of_types = |op: &str| types.map(|types| format!("{op} {types}")).to_vec();
    let mut expected: Vec<String> = ["layer_norm", "linear", "scale_add"].iter().flat_map(|op| of_types(op)).collect();
    for name in ["bias_gelu", "bias_gelu_tanh", "bias_quick_gelu", "bias_relu", "bias_tanh"] {
        expected.extend(types[..2].iter().map(|types| format!("{name} {types}")));
    }
    for name in ["f32", "bf16"] {
        expected.extend(["cublaslt", "cross_entropy", "max_pool2d", "unfold"].map(|op| format!("{op} {name}")));
        expected.extend([16, 32, 64, 96, 128].map(|d| format!("attention {name} d={d}")));
    }
    expected.extend(["adamw", "sgd", "sum_of_squares"].map(String::from));
    for name in expected {
        assert!(checked.contains(&name), "{name} was never asked for; checked are {checked:?}");
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    let device = device();
    for case in cases() {
        let operands = case.shapes.iter().zip(0..).map(|(dims, i)| values(dims, i)).collect::<Result<Vec<_>>>()?;
        let dtypes = [DType::F32, DType::F32];
        let outcome = evaluate(&case, &operands, &device, dtypes)?;
        let weights = values(outcome[0].dims(), 99)?.to_dtype(DType::F64)?;
        for i in 0..operands.len() {
            // Along a direction that is mostly the gradient's own: what is wrong in any of its values shows.
            let gradient = outcome[i + 1].to_dtype(DType::F64)?;
            let norm = gradient.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
            if norm == 0. || ["max_pool", "relu"].iter().any(|name| case.name.starts_with(name)) {
                continue; // a maximum has a corner where two values are close
            }
            let step = 1e-2;
            let direction = (&gradient / norm)?;
            let at = |by: f64| -> Result<f64> {
                let mut moved = operands.clone();
                let values = (operands[i].to_dtype(DType::F64)? + (&direction * by)?)?;
                moved[i] = values.to_dtype(DType::F32)?;
                let output = evaluate(&case, &moved, &device, dtypes)?.swap_remove(0);
                (output.to_dtype(DType::F64)? * &weights)?.sum_all()?.to_scalar::<f64>()
            };
            let slope = (at(step)? - at(-step)?) / (2. * step);
            let error = (slope - norm).abs() / norm;
            assert!(error < 2e-2, "{}: operand {i}: slope {slope}, norm of the gradient {norm}", case.name);
        }
    }
    Ok(())
}

/// Parameters, their gradients and states of three sizes.
fn tensors(device: &Device, seed: u64) -> Result<Vec<Tensor>> {
    [33, 4096, 10_000].iter().map(|&count| values(&[count], seed)?.to_device(device)?.copy()).collect()
}

/// Steps of AdamW and of SGD, as they are, clipped, and left out; and sums of squares.
fn steps(device: &Device) -> Result<(Vec<Tensor>, Vec<f64>)> {
    let (p, m, g) = (tensors(device, 1)?, tensors(device, 2)?, tensors(device, 3)?);
    let v = tensors(device, 4)?.iter().map(Tensor::sqr).collect::<Result<Vec<_>>>()?;
    let squares = optim::sums_of_squares(&g.iter().collect::<Vec<_>>())?;
    assert_eq!(squares.are_known(), device.is_cpu());
    let infinite = Tensor::new(&[f32::INFINITY, 1.], device)?;
    let infinite = optim::sums_of_squares(&[&infinite])?;
    let clips = [None, Some(Clip { squares: &squares, largest: 10. }), Some(Clip { squares: &infinite, largest: 10. })];
    for (step, clip) in (1..).zip(clips) {
        let numbers =
            AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step, grad_scale: 0.5 };
        let target = |i: usize| AdamWTarget { param: &p[i], m: &m[i], v: &v[i], grad: &g[i], step: numbers };
        optim::adamw_steps(&[target(0), target(1), target(2)], clip)?;
    }
    for (nesterov, clip) in [true, false, true].into_iter().zip(clips) {
        let numbers = SgdStep { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 0.01, grad_scale: 0.5 };
        let target = |i: usize| SgdTarget { param: &p[i], momentum_buffer: Some(&m[i]), grad: &g[i], step: numbers };
        optim::sgd_steps(&[target(0), target(1), target(2)], clip)?;
    }
    Ok(([p, m, v].concat(), squares.read()?))
}

#[test]
#[ignore = "needs a GPU"]
fn optimiser_steps_over_many_tensors_are_the_cpus() -> Result<()> {
    let ((got, sums), (expected, expected_sums)) = (steps(&device())?, steps(&Device::Cpu)?);
    for (got, expected) in got.iter().zip(&expected) {
        assert!(distance(&got.to_device(&Device::Cpu)?, expected)? < 1e-5);
    }
    for (got, expected) in sums.iter().zip(&expected_sums) {
        assert!((got - expected).abs() < 1e-9 * expected, "{got} instead of {expected}");
    }
    Ok(())
}

/// The losses of twenty steps of AdamW on noise.
fn losses(device: &Device, model: &str) -> Result<Vec<f32>> {
    let entry = zoo::find(model).expect("a model of the zoo");
    let architecture = entry.architecture.with_num_classes(10);
    let params = Params::new(7, DType::F32, device);
    let model = architecture.build(params.builder())?;
    let [channels, height, width] = architecture.input_size();
    let images = values(&[16, channels, height, width], 5)?.to_device(device)?;
    let labels = Tensor::new((0..16).map(|i| i % 10).collect::<Vec<u32>>(), device)?;
    let mut state = vec![];
    let mut losses = vec![];
    for step in 1..=if small() { 2 } else { 20 } {
        let logits = model.forward(&images, Mode::Train { seed: step as u64 })?;
        let loss = ops::cross_entropy(&logits, &labels, 0.1)?;
        losses.push(loss.to_scalar::<f32>()?);
        let gradients = params.backward(&loss).map_err(candle_core::Error::wrap)?;
        if state.is_empty() {
            for (_, gradient) in gradients.iter() {
                state.push([gradient.zeros_like()?, gradient.zeros_like()?]);
            }
        }
        let numbers =
            AdamWStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, step, grad_scale: 1. };
        let trainable: Vec<_> = params.trainable().iter().map(|param| param.var.as_detached_tensor()).collect();
        let mut targets = vec![];
        for ((param, (_, grad)), [m, v]) in trainable.iter().zip(gradients.iter()).zip(&state) {
            targets.push(AdamWTarget { param, m, v, grad, step: numbers });
        }
        optim::adamw_steps(&targets, None)?;
    }
    Ok(losses)
}

#[test]
#[ignore = "needs a GPU"]
fn twenty_training_steps_are_the_cpus_and_the_same_twice() -> Result<()> {
    let device = device();
    for model in if small() { &["vit_mnist"][..] } else { &["vit_mnist", "cnn_cifar10"] } {
        let (got, again, expected) = (losses(&device, model)?, losses(&device, model)?, losses(&Device::Cpu, model)?);
        assert_eq!(got, again, "{model}: other losses the second time");
        for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert!((got - expected).abs() < 2e-3, "{model} at step {step}: {got} instead of {expected}");
        }
        assert!(got[got.len() - 1] < got[0], "{model} learns");
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn training_in_bf16_follows_that_in_float32() -> Result<()> {
    let device = device();
    let expected = losses(&device, "vit_mnist")?;
    ops::set_matmul_precision(MatmulPrecision::BFloat16);
    let got = losses(&device, "vit_mnist");
    ops::set_matmul_precision(MatmulPrecision::Float32);
    let got = got?;
    assert_ne!(got, expected, "bf16 was not used");
    for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert!((got - expected).abs() < 0.1, "at step {step}: {got} instead of {expected}");
    }
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn levels_are_resized_as_on_the_cpu_to_the_level() -> Result<()> {
    let device = device();
    let images = (0..2 * 9 * 7 * 3).map(|i| (i * 7919 % 256) as u8).collect::<Vec<_>>();
    let images = Tensor::from_vec(images, (2, 9, 7, 3), &Device::Cpu)?;
    // Weights that sum to one and overshoot, as cubic ones do.
    let taps = |source: u32, target: u32| {
        let one = 1 << 22;
        let starts = (0..target).map(|i| (i * source / target).min(source - 3)).collect();
        Taps::new(starts, vec![3; target as usize], [one / 8 * 9, one / 4, -(one / 8 * 3)].repeat(target as usize))
    };
    let (across, down) = (taps(7, 20)?, taps(9, 5)?);
    let range = (&[1f32, 0.5, 2.][..], &[0f32, -1., 3.][..]);
    for (dtype, allowed) in [(DType::F32, 0.), (DType::BF16, 4e-3)] {
        let expected = images::resize(&images, (&across, &down), range, DType::F32)?;
        let got = images::resize(&images.to_device(&device)?, (&across, &down), range, dtype)?;
        let got = got.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
        assert!(distance(&got, &expected)? <= allowed, "{dtype:?}: {:e}", distance(&got, &expected)?);
    }
    let faults: Vec<_> = cuda::kernels().into_iter().filter(|kernel| kernel.fault.is_some()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn a_grey_image_becomes_a_colour_image_on_the_device() -> Result<()> {
    let device = device();
    let levels = Tensor::from_vec((0..2 * 6 * 5).map(|i| (i * 37 % 256) as u8).collect(), (2, 6, 5, 1), &Device::Cpu)?;
    let (across, down) = (Taps::identity(1, 4)?, Taps::identity(0, 6)?);
    let range = (&[1f32, 0.5, 2.][..], &[0f32, -1., 3.][..]);
    let expected = images::resize(&levels, (&across, &down), range, DType::F32)?;
    let got = images::resize(&levels.to_device(&device)?, (&across, &down), range, DType::F32)?;
    assert_eq!(distance(&got.to_device(&Device::Cpu)?, &expected)?, 0.);
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn uploads_arrive_whole_while_the_device_computes_and_never_more_than_two_at_once() -> Result<()> {
    let device = device();
    let mut uploads = images::Uploads::new(&device)?;
    let size = if small() { 1 << 10 } else { 1 << 22 };
    let levels = |i: usize| {
        // Growing and shrinking batches.
        let count = size / (1 + i % 3);
        Tensor::from_vec((0..count).map(|at| ((at * 31 + i * 7) % 251) as u8).collect(), count, &Device::Cpu)
    };
    let busy = values(&[256, 256], 0)?.to_device(&device)?;
    let mut arrived = vec![];
    let mut next = Some(uploads.begin(&levels(0)?)?);
    for i in 0..8 {
        let now = next.take().expect("one is under way");
        next = Some(uploads.begin(&levels(i + 1)?)?);
        if i == 3 {
            let refused = uploads.begin(&levels(0)?).unwrap_err().to_string();
            assert!(refused.contains("a third"), "{refused}");
        }
        let mut product = busy.clone();
        for _ in 0..20 {
            product = (product.matmul(&busy)? * 1e-2)?;
        }
        arrived.push(uploads.end(now)?);
    }
    for (i, arrived) in arrived.iter().enumerate() {
        assert!(arrived.to_vec1::<u8>()? == levels(i)?.to_vec1::<u8>()?, "upload {i}");
    }
    let floats = values(&[3, 5], 1)?;
    drop(uploads.end(next.take().expect("the last one"))?);
    let upload = uploads.begin(&floats.t()?)?;
    assert_eq!(uploads.end(upload)?.to_vec2::<f32>()?, floats.t()?.to_vec2::<f32>()?);
    assert!(uploads.begin(&Tensor::zeros(3, DType::F64, &Device::Cpu)?).is_err());
    Ok(())
}

#[test]
#[ignore = "needs a GPU"]
fn a_label_that_names_no_class_makes_the_loss_nan() -> Result<()> {
    let device = device();
    let logits = Tensor::zeros((2, 3), DType::F32, &device)?;
    let loss = ops::cross_entropy(&logits, &Tensor::new(&[0u32, 3], &device)?, 0.)?;
    assert!(loss.to_scalar::<f32>()?.is_nan());
    Ok(())
}
