//! Where a model runs (`auto`, `cpu`, `cuda`, `cuda:N` or `metal`), and in which precision.

use candle_core::{Device, utils};
use tallow_models::ops::{MatmulPrecision, matmul_kernel, multiplies_integers, set_matmul_precision};

use super::config::Precision;
use super::error::{Error, Result};

/// The device that `spec` names; `auto` is the first GPU that this build supports and the machine has, else the CPU.
///
/// # Errors
/// If `spec` names no device, this build does not support it, or the machine does not have it.
pub fn device(spec: &str) -> Result<Device> {
    let (kind, ordinal) = match spec.split_once(':') {
        Some((kind, ordinal)) => (kind, ordinal.parse().map_err(|_| unknown(spec))?),
        None => (spec, 0),
    };
    match kind {
        "auto" if ordinal == 0 => Ok(first()),
        "cpu" if ordinal == 0 => Ok(Device::Cpu),
        "cuda" if !utils::cuda_is_available() => Err(unsupported(spec, "cuda")),
        "cuda" => cuda(ordinal).map_err(|problem| {
            Error::config("device", "an NVIDIA GPU with its driver, or `device = cpu`", format!("{spec}: {problem}"))
        }),
        "metal" if !utils::metal_is_available() => Err(unsupported(spec, "metal")),
        "metal" => Device::new_metal(ordinal).map_err(|error| Error::config("device", "a Metal device", error)),
        _ => Err(unknown(spec)),
    }
}

/// A device in words: `cpu`, `cuda:0`, `metal:0`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".into(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// Sets the precision of this process's arithmetic on `device`. On a CPU without instructions for bfloat16 it stays float32
/// ([`precision_is_native`]); on CUDA activations are bfloat16, and parameters, their gradients and losses float32.
///
/// # Errors
/// If the device does not compute in that precision.
pub fn set_precision(precision: Precision, device: &Device) -> Result<()> {
    match precision {
        Precision::Bf16 if !device.is_cpu() && !device.is_cuda() => {
            return Err(Error::config("dtype", "f32 on this device", "bf16"));
        }
        Precision::F32x2 if !device.is_cpu() => {
            return Err(Error::config("dtype", "f32 or bf16 on this device (f32x2 is for CPUs)", "f32x2"));
        }
        Precision::Int8 if !device.is_cpu() || !multiplies_integers() => {
            return Err(Error::config("dtype", "f32 or bf16 here (int8 is for CPUs with AVX512-VNNI)", "int8"));
        }
        Precision::Tf32 if !device.is_cuda() => {
            return Err(Error::config("dtype", "f32 or bf16 on this device (tf32 is for CUDA)", "tf32"));
        }
        _ => set_matmul_precision(of_matmul(precision)),
    }
    #[cfg(feature = "cuda")]
    candle_core::cuda::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
    Ok(())
}

fn of_matmul(precision: Precision) -> MatmulPrecision {
    match precision {
        Precision::F32 | Precision::Tf32 => MatmulPrecision::Float32,
        Precision::F32x2 => MatmulPrecision::Float32x2,
        Precision::Bf16 => MatmulPrecision::BFloat16,
        Precision::Int8 => MatmulPrecision::Int8,
    }
}

/// Whether this CPU has instructions for the arithmetic of `precision`.
pub fn precision_is_native(precision: Precision) -> bool {
    matmul_kernel(of_matmul(precision)).is_some()
}

/// Why `auto` takes the CPU although this build is for a GPU; none if it takes the GPU, or the build is for the CPU.
pub fn gpu_problem() -> Option<String> {
    if utils::cuda_is_available() {
        return cuda(0).err();
    }
    if utils::metal_is_available() {
        return Device::new_metal(0).err().map(|error| error.to_string());
    }
    None
}

/// A CUDA device, or why there is none.
fn cuda(ordinal: usize) -> std::result::Result<Device, String> {
    #[cfg(feature = "cuda")]
    if let Some(problem) = tallow_models::cuda::problem() {
        return Err(format!("no CUDA here ({problem})"));
    }
    // The first line: with RUST_BACKTRACE, Candle's errors hold a backtrace.
    let line = |error: candle_core::Error| error.to_string().lines().next().unwrap_or_default().to_string();
    let device =
        Device::new_cuda(ordinal).map_err(|error| format!("CUDA gives no device {ordinal} ({})", line(error)))?;
    #[cfg(feature = "cuda")]
    tallow_models::cuda::keep_memory(&device);
    Ok(device)
}

fn first() -> Device {
    if utils::cuda_is_available()
        && let Ok(device) = cuda(0)
    {
        return device;
    }
    if utils::metal_is_available()
        && let Ok(device) = Device::new_metal(0)
    {
        return device;
    }
    Device::Cpu
}

fn unknown(spec: &str) -> Error {
    Error::config("device", "auto, cpu, cuda, cuda:N or metal", spec)
}

fn unsupported(spec: &str, feature: &str) -> Error {
    let expected = format!("a device of this build; build Tallow with the feature {feature} for this one, or use cpu");
    Error::config("device", expected, spec)
}
