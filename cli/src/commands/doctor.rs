//! `tallow doctor`: what there is to compute with, what would be used, and why.

use std::path::PathBuf;

use serde::Serialize;
use tallow_models::ops::{Kernel, Kernels, MatmulPrecision, matmul_kernel};

use crate::error::Result;
use crate::output::bytes;
use crate::session::Session;
use crate::threads::cores;
use tallow::train;

pub fn run(session: &Session) -> Result {
    let findings = Findings::new(session);
    session.result(&findings, || findings.text())
}

#[derive(Serialize)]
struct Findings {
    version: &'static str,
    target: String,
    features: Vec<&'static str>,
    cpu: Option<String>,
    cpu_features: Vec<&'static str>,
    matmul: Option<&'static str>,
    matmul_bf16: Option<&'static str>,
    /// Where int8 is asked for, to predict.
    matmul_int8: Option<&'static str>,
    kernels: KernelsFound,
    /// How the blocks of ViTs run on the device.
    vit_blocks: &'static str,
    cores: usize,
    threads: usize,
    threads_from: &'static str,
    memory_bytes: Option<u64>,
    device: String,
    device_reason: String,
    cache: Option<PathBuf>,
    hub: Vec<(&'static str, String)>,
    bundled_models: Vec<&'static str>,
    bundled_data: Vec<&'static str>,
}

/// What serves each class of matrix product.
#[derive(Serialize)]
struct KernelsFound {
    large: &'static str,
    small: &'static str,
    bf16: Option<&'static str>,
    /// forced, measured, kept or default.
    from: &'static str,
    /// Those that this CPU has, as `--kernels` takes them.
    here: Vec<&'static str>,
}

impl KernelsFound {
    fn new() -> Self {
        let (kernels, from) = train::chosen_kernels();
        Self {
            large: kernels.large.name(),
            small: kernels.small.name(),
            bf16: kernels.bfloat16.map(Kernel::name),
            from: from.name(),
            here: Kernels::names(),
        }
    }

    fn text(&self) -> String {
        let from = match self.from {
            "forced" => "as --kernels or TALLOW_KERNELS says",
            "kept" => "measured on this machine",
            _ => "by the CPU's instructions; not measured yet",
        };
        let bf16 = self.bf16.unwrap_or("none");
        format!(
            "{} for large products, {} for small ones, {bf16} for bf16: {from}; there are {}",
            self.large,
            self.small,
            self.here.join(", ")
        )
    }
}

impl Findings {
    fn new(session: &Session) -> Self {
        let device = train::device("auto").map_or_else(|_| "cpu".into(), |device| train::device_name(&device));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{} {}", std::env::consts::ARCH, std::env::consts::OS),
            features: features(),
            cpu: cpu(),
            cpu_features: cpu_features(),
            matmul: matmul_kernel(MatmulPrecision::Float32),
            matmul_bf16: matmul_kernel(MatmulPrecision::BFloat16),
            matmul_int8: matmul_kernel(MatmulPrecision::Int8),
            kernels: KernelsFound::new(),
            vit_blocks: vit_blocks(&device),
            cores: cores(),
            threads: session.threads(),
            threads_from: session.threads_from(),
            memory_bytes: train::memory::total(),
            device_reason: device_reason(&device),
            device,
            cache: cache(),
            hub: hub(),
            bundled_models: bundled_models(),
            bundled_data: if cfg!(feature = "bundled") { vec!["mnist"] } else { vec![] },
        }
    }

    fn text(&self) -> String {
        let list = |items: &[&str]| if items.is_empty() { "none".to_string() } else { items.join(", ") };
        let mut lines = vec![
            ("tallow", format!("{} for {}", self.version, self.target)),
            ("features", list(&self.features)),
            ("processor", format!("{}, {} cores", self.cpu.as_deref().unwrap_or("unknown"), self.cores)),
            ("instructions", list(&self.cpu_features)),
            ("matmul in f32", self.matmul.unwrap_or("none").into()),
            ("matmul in bf16", self.matmul_bf16.unwrap_or("no instructions: float32 in its place").into()),
            ("matmul in int8", self.matmul_int8.unwrap_or("none").into()),
            ("kernels", self.kernels.text()),
            ("ViT blocks", self.vit_blocks.into()),
            ("memory", self.memory_bytes.map_or("unknown".into(), bytes)),
            ("threads", format!("{} ({})", self.threads, self.threads_from)),
            ("device", format!("auto takes {}: {}", self.device, self.device_reason)),
            ("bundled models", list(&self.bundled_models)),
            ("bundled data", list(&self.bundled_data)),
            ("cache", self.cache.as_ref().map_or("none".into(), |path| path.display().to_string())),
        ];
        lines.extend(self.hub.iter().map(|(name, value)| (*name, value.clone())));
        lines.iter().map(|(name, value)| format!("{name:<15} {value}")).collect::<Vec<_>>().join("\n")
    }
}

fn features() -> Vec<&'static str> {
    let all = [
        ("hub", cfg!(feature = "hub")),
        ("bundled", cfg!(feature = "bundled")),
        ("cuda", cfg!(feature = "cuda")),
        ("cudnn", cfg!(feature = "cudnn")),
        ("metal", cfg!(feature = "metal")),
        ("accelerate", cfg!(feature = "accelerate")),
        ("mkl", cfg!(feature = "mkl")),
    ];
    all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
}

/// Which parts of a ViT's blocks have a way of their own on the device, and which are compositions of Candle's operations.
fn vit_blocks(device: &str) -> &'static str {
    match device {
        "cpu" => {
            "plain ones as one operation for attention and one for the MLP; those with other positions, gates, norms or branches part by \
             part; heads that are differences of two softmaxes as compositions"
        }
        device if device.starts_with("cuda") => {
            "plain ones by kernels; rotary and relative positions, gates, RMS norms and differences of softmaxes as compositions"
        }
        _ => "as compositions of Candle's operations",
    }
}

fn device_reason(device: &str) -> String {
    match (device, train::gpu_problem()) {
        ("cpu", None) => "built without cuda and metal".into(),
        ("cpu", Some(problem)) => format!("built for a GPU, but {problem}"),
        _ => "the first GPU that this build can use".into(),
    }
}

/// The instruction sets that the kernels choose between at run time.
fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let all = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    #[cfg(target_arch = "aarch64")]
    let all = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect()
}

/// The processor's name, where Linux tells it.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Memory of the machine, where Linux tells it.
/// Where downloads are kept, by the variables that Hugging Face's own tools read.
fn cache() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface/hub")))
}

/// The variables that change how the hub is reached. A token is never shown.
fn hub() -> Vec<(&'static str, String)> {
    let shown = |name: &'static str| Some((name, std::env::var(name).ok()?));
    let token = std::env::var_os("HF_TOKEN").map(|_| ("HF_TOKEN", "set".to_string()));
    [shown("HF_ENDPOINT"), shown("HF_HUB_OFFLINE"), token].into_iter().flatten().collect()
}

fn bundled_models() -> Vec<&'static str> {
    if cfg!(feature = "bundled") { vec![tallow_weights::bundled::NAME] } else { vec![] }
}
