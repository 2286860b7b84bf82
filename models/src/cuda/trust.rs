//! A kernel is used on a device only after it agreed there with its composition: on a small random case, forward and
//! backward, the first time that its op meets a type. One that does not agree, or does not run, is listed with
//! its fault ([`kernels`]), and the composition serves from then on.
//!
//! `TALLOW_CUDA_KERNELS=off` takes the compositions for everything, `on` the kernels without asking.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use candle_core::cuda::gemm_reduced_precision_f32;
use candle_core::{CudaDevice, DType, Device, Result, Tensor, Var, bail};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::autograd::{collect_gradients, unrecorded};

/// The variable that overrides the check.
const VARIABLE: &str = "TALLOW_CUDA_KERNELS";

/// bf16 on tensor cores came with this major compute capability; older devices get the compositions.
const LEAST_MAJOR: i32 = 8;

/// What became of the check of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The op, and what the kernel is for.
    pub name: String,
    /// Which CUDA device.
    pub device: usize,
    /// What did not agree; none if the kernel serves.
    pub fault: Option<String>,
}

static CHECKED: Mutex<BTreeMap<(usize, String), Option<String>>> = Mutex::new(BTreeMap::new());

/// The kernels that were checked in this process so far.
pub fn kernels() -> Vec<Kernel> {
    let checked = CHECKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let checked = checked.iter().map(|((device, name), fault)| (name.clone(), *device, fault.clone()));
    checked.map(|(name, device, fault)| Kernel { name, device, fault }).collect()
}

/// Whether the kernel `name` may be used on `device`; `check` tells whether it agrees there.
pub(crate) fn trusted(name: &str, device: &CudaDevice, check: impl FnOnce(&Device) -> Result<()>) -> Result<bool> {
    match setting()? {
        Some(on) => return Ok(on),
        None if !capable(device)? => return Ok(false),
        None => {}
    }
    let key = (device.cuda_stream().context().ordinal(), name.to_string());
    if let Some(fault) = CHECKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&key) {
        return Ok(fault.is_none());
    }
    let fault = unrecorded(|| check(&Device::Cuda(device.clone()))).err().map(|error| one_line(&error));
    let fine = fault.is_none();
    CHECKED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key, fault);
    Ok(fine)
}

fn one_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or("no reason was given").to_string()
}

fn setting() -> Result<Option<bool>> {
    static SETTING: OnceLock<Option<String>> = OnceLock::new();
    match SETTING.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() {
        None | Some("") => Ok(None),
        Some("on") => Ok(Some(true)),
        Some("off") => Ok(Some(false)),
        Some(other) => bail!("{VARIABLE}: expected on or off, got {other}; leave it unset to have kernels checked"),
    }
}

fn capable(device: &CudaDevice) -> Result<bool> {
    let (major, _) = device.cuda_stream().context().compute_capability().map_err(candle_core::Error::wrap)?;
    Ok(major >= LEAST_MAJOR)
}

/// An op on some operands.
pub(crate) type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Fails unless `kernel` and `composition` give the same output and gradients for random operands of these shapes and types.
/// The composition computes in float32.
pub(crate) fn agree(device: &Device, operands: &[(&[usize], DType)], kernel: Op, composition: Op) -> Result<()> {
    let mut narrow = false;
    let (mut given, mut wide) = (vec![], vec![]);
    for (i, &(dims, dtype)) in operands.iter().enumerate() {
        narrow |= dtype == DType::BF16;
        let values = random(dims, i as u64, device)?.to_dtype(dtype)?;
        wide.push(values.to_dtype(DType::F32)?);
        given.push(values);
    }
    let (got, expected) = (evaluate(kernel, &given)?, evaluate(composition, &wide)?);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let what = if i == 0 { "the output".to_string() } else { format!("the gradient of operand {i}") };
        same(&what, got, expected, narrow)?;
    }
    Ok(())
}

/// Fails unless the two hold the same values, up to rounding.
pub(crate) fn same(what: &str, got: &Tensor, expected: &Tensor, narrow: bool) -> Result<()> {
    let flat = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
    let (got, expected) = (flat(got)?, flat(expected)?);
    // The composition's own products may read fewer bits.
    let tolerance = match narrow {
        true => 3e-2,
        false if gemm_reduced_precision_f32() => 1e-2,
        false => 1e-3,
    };
    let largest = expected.iter().fold(1e-3, |largest: f32, x| largest.max(x.abs()));
    let off = |(_, (got, expected)): &(usize, (&f32, &f32))| {
        let difference = (**got - **expected).abs();
        difference.is_nan() || difference > tolerance * largest
    };
    if let Some((at, (got, expected))) = got.iter().zip(&expected).enumerate().find(off) {
        bail!("{what} at {at}: expected {expected}, got {got}")
    }
    Ok(())
}

/// The output, and the gradients of `Σ output · weights` for random weights.
fn evaluate(op: Op, operands: &[Tensor]) -> Result<Vec<Tensor>> {
    let vars = operands.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let output = op(&vars.iter().map(|var| var.as_tensor().clone()).collect::<Vec<_>>())?;
    let weights = random(output.dims(), 99, output.device())?;
    let loss = (output.to_dtype(DType::F32)? * weights)?.sum_all()?;
    let (store, mut kept) = collect_gradients(|| loss.backward())?;
    let mut outcome = vec![output.detach()];
    for (i, var) in vars.iter().enumerate() {
        match kept.remove(&var.id()).or_else(|| store.get(var).cloned()) {
            Some(gradient) => outcome.push(gradient.detach()),
            None => bail!("operand {} received no gradient", i + 1),
        }
    }
    Ok(outcome)
}

/// Values between -1.5 and 1.5 that bf16 holds exactly, the same ones for the same shape and seed.
pub(crate) fn random(dims: &[usize], seed: u64, device: &Device) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = dims.iter().product();
    let values = (0..count).map(|_| rng.random_range(-192i32..=192) as f32 / 128.).collect::<Vec<_>>();
    Tensor::from_vec(values, dims, device)
}
