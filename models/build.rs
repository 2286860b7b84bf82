//! With the feature `cuda`: compiles the kernels of src/cuda to PTX by nvcc, which Candle's own build needs as well, and
//! libraries.c, by which a binary starts where there is no driver.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(tallow_cuda_libraries)");
    #[cfg(feature = "cuda")]
    if let Err(error) = cuda::build() {
        println!(
            "cargo::error=the CUDA kernels do not compile: {error}; nvcc has to be in PATH, or CUDA_HOME or NVCC be set"
        );
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::env;
    use std::path::PathBuf;

    use cudaforge::{CudaToolkit, KernelBuilder, Result, detect_compute_cap};

    /// bf16 on tensor cores.
    const LEAST_COMPUTE_CAP: usize = 80;

    pub fn build() -> Result<()> {
        println!("cargo::rerun-if-changed=src/cuda");
        libraries(&CudaToolkit::detect()?);
        kernels()
    }

    /// Writes `ptx.rs` to the output folder, with a constant for every `.cu` file.
    fn kernels() -> Result<()> {
        let mut builder = KernelBuilder::new()
            .source_dir("src/cuda")
            .watch(["src/cuda/device.cuh", "src/cuda/tensor_core.cuh"])
            .arg("--expt-relaxed-constexpr")
            .arg("-std=c++17")
            .arg("-O3");
        if detect_compute_cap().is_ok_and(|cap| cap.base() < LEAST_COMPUTE_CAP) {
            builder = builder.compute_cap(LEAST_COMPUTE_CAP);
        }
        let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        builder.build_ptx()?.write(out.join("ptx.rs"))
    }

    /// On Linux, where the dynamic loader would else refuse to start the program.
    fn libraries(toolkit: &CudaToolkit) {
        let target = |name| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
        if target("OS") != "linux" || !["x86_64", "aarch64"].contains(&target("ARCH").as_str()) {
            return;
        }
        println!("cargo::rustc-cfg=tallow_cuda_libraries");
        let version = toolkit.version.as_deref().unwrap_or_default();
        let major = version.split('.').next().filter(|major| !major.is_empty()).unwrap_or("13");
        cc::Build::new()
            .file("src/cuda/libraries.c")
            .define("TALLOW_CUDA_MAJOR", major)
            .cargo_metadata(false)
            .compile("tallow_cuda_libraries");
        // Whole: nothing asks for these functions before the libraries are looked at that would give them.
        println!("cargo::rustc-link-search=native={}", env::var("OUT_DIR").unwrap_or_default());
        println!("cargo::rustc-link-lib=static:+whole-archive=tallow_cuda_libraries");
    }
}
