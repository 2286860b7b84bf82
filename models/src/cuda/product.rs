//! Matrix products by cuBLASLt, which adds a bias, or sums up the rows of a factor, on the way, and gives gradients of weights in
//! float32 whatever their factors are in. Where it has no algorithm or disagrees, cuBLAS and a kernel do.
//!
//! Its GELU is the approximation by tanh, and without what the backward reads; activations have kernels of their own.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::from_ref;
use std::sync::{LazyLock, Mutex, MutexGuard};

use candle_core::backend::BackendStorage;
use candle_core::cuda::cudarc::cublaslt::result as lt;
use candle_core::cuda::cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtEpilogue_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as Described, cublasLtMatmulPreference_t,
    cublasLtMatmulPreferenceAttributes_t as Preferred, cublasLtMatrixLayout_t, cudaDataType,
};
use candle_core::cuda::{WrapErr, gemm_reduced_precision_f32};
use candle_core::{CudaDevice, DType, Device, Error, Result, Storage, Tensor, bail};

use super::activation::add_bias;
use super::column_sums::column_sums;
use super::launch::{Output, device_of, place};
use super::trust;

/// Memory of the device that an algorithm may use, in bytes: what NVIDIA advises for its larger GPUs.
const WORKSPACE: usize = 32 << 20;

/// `a [m, k]` times `b [k, n]`, either of which may be transposed, plus a bias `[n]` of float32 or their type; of their type.
pub(super) fn product(a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Output> {
    let Some(device) = device_of(a) else { bail!("product: expected a CUDA device") };
    let fused = bias.filter(|bias| bias.dtype() == a.dtype());
    let epilogue = fused.map_or(Epilogue::None, Epilogue::Bias);
    let (y, bias) = match trusted(device, a.dtype())?.then(|| by_lt(device, a, b, a.dtype(), epilogue)).transpose()? {
        Some(Some(y)) => (y, bias.filter(|_| fused.is_none())),
        _ => (by_cublas(a, b)?, bias),
    };
    let Some(bias) = bias else { return Ok(y) };
    let types = if bias.dtype() == a.dtype() { same_types(a.dtype())? } else { "bf16_f32" };
    add_bias(device, &y.tensor(), bias, types)
}

/// The gradient of weights of type `dtype`, `[n, width]`, from that of the output, `[rows, n]`, and the input, `[rows, width]`; and of
/// a bias, `[n]`, if it is asked for.
pub(super) fn weight_gradient(dy: &Tensor, x: &Tensor, dtype: DType, bias: bool) -> Result<(Tensor, Option<Tensor>)> {
    let Some(device) = device_of(x) else { bail!("product: expected a CUDA device") };
    let n = dy.dim(1)?;
    let turned = dy.t()?;
    let mut db = None;
    let dw = if trusted(device, x.dtype())? {
        let mut sums = if bias { Some(Output::new(device, dtype, n)?) } else { None };
        let with_sums = match &mut sums {
            Some(sums) => by_lt(device, &turned, x, dtype, Epilogue::Sums(sums))?,
            None => None,
        };
        match with_sums {
            Some(dw) => {
                db = sums.map(Output::tensor);
                Some(dw)
            }
            None => by_lt(device, &turned, x, dtype, Epilogue::None)?,
        }
    } else {
        None
    };
    let dw = match dw {
        Some(dw) => dw.tensor(),
        None => by_cublas(&turned, x)?.tensor().to_dtype(dtype)?,
    };
    if bias && db.is_none() {
        db = Some(column_sums(device, dy, n, dtype)?);
    }
    Ok((dw, db))
}

/// By Candle's product, of the factors' type.
fn by_cublas(a: &Tensor, b: &Tensor) -> Result<Output> {
    let ((m, k), (_, n)) = (a.dims2()?, b.dims2()?);
    let ((a, la), (b, lb)) = (a.storage_and_layout(), b.storage_and_layout());
    let (Storage::Cuda(a), Storage::Cuda(b)) = (&*a, &*b) else { bail!("product: expected factors on a CUDA device") };
    Ok(Output::of(a.matmul(b, (1, m, n, k), la, lb)?, (m, n)))
}

fn same_types(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::F32 => Ok("f32_f32"),
        DType::BF16 => Ok("bf16_bf16"),
        other => bail!("product: expected float32 or bfloat16, got {other:?}"),
    }
}

/// Whether cuBLASLt gives the products of this type that are asked for here.
fn trusted(device: &CudaDevice, dtype: DType) -> Result<bool> {
    let name = match dtype {
        DType::F32 => "cublaslt f32",
        DType::BF16 => "cublaslt bf16",
        _ => return Ok(false),
    };
    trust::trusted(name, device, |device| check(device, dtype))
}

fn check(device: &Device, dtype: DType) -> Result<()> {
    let Device::Cuda(cuda) = device else { bail!("expected a CUDA device") };
    let (rows, width, n) = (72, 40, 24);
    let narrow = dtype == DType::BF16;
    let random = |dims: &[usize], seed| trust::random(dims, seed, device);
    let (x, w, bias, dy) =
        (random(&[rows, width], 1)?, random(&[n, width], 2)?, random(&[n], 3)?, random(&[rows, n], 4)?);
    let given = |tensor: &Tensor| tensor.to_dtype(dtype);
    let (x_given, w_given, dy_given, bias_given) = (given(&x)?, given(&w)?, given(&dy)?, given(&bias)?);
    let near = |what: &str, got: Option<Output>, expected: Tensor| match got {
        Some(got) => trust::same(what, &got.tensor(), &expected, narrow),
        // Without an algorithm it is not asked again.
        None => Ok(()),
    };
    let y = by_lt(cuda, &x_given, &w_given.t()?, dtype, Epilogue::Bias(&bias_given))?;
    near("a product with bias", y, x.matmul(&w.t()?)?.broadcast_add(&bias)?)?;
    near("a product", by_lt(cuda, &dy_given, &w_given, dtype, Epilogue::None)?, dy.matmul(&w)?)?;
    let turned = dy_given.t()?;
    let dw = by_lt(cuda, &turned, &x_given, DType::F32, Epilogue::None)?;
    near("a product with a transposed factor", dw, dy.t()?.matmul(&x)?)?;
    let mut sums = Output::new(cuda, DType::F32, n)?;
    let dw = by_lt(cuda, &turned, &x_given, DType::F32, Epilogue::Sums(&mut sums))?;
    let summed = dw.is_some().then_some(sums);
    near("a product beside sums", dw, dy.t()?.matmul(&x)?)?;
    near("sums of a factor's rows", summed, dy.sum(0)?)
}

/// What happens beside a product.
enum Epilogue<'a> {
    None,
    /// These are added to every row.
    Bias(&'a Tensor),
    /// The left factor's rows are summed up, into as many values as the product has rows.
    Sums(&'a mut Output),
}

/// All that an algorithm depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Case {
    device: usize,
    /// Rows, columns, and the factors' common size.
    size: [usize; 3],
    transposed: [bool; 2],
    of: DType,
    to: DType,
    fast: bool,
    epilogue: u32,
    /// Of the place that has the least, in bytes.
    alignment: u32,
}

/// The handles of devices, and the algorithms that cuBLASLt has chosen, with the workspace that they need.
#[derive(Default)]
struct Chosen {
    handles: HashMap<usize, Handle>,
    algorithms: HashMap<Case, Option<(cublasLtMatmulAlgo_t, usize)>>,
}

#[derive(Clone, Copy)]
struct Handle(cublasLtHandle_t);

// SAFETY: cuBLASLt's handles may be used from any thread.
unsafe impl Send for Handle {}

/// A factor as cuBLASLt sees it, column by column: where it lies, and whether it has to be transposed.
struct Factor {
    place: u64,
    transposed: bool,
}

impl Factor {
    /// A matrix, or the transposed view of one, that lies row by row: column by column it is the transposed one.
    fn of(tensor: &Tensor) -> Result<Self> {
        match tensor.is_contiguous() {
            true => Ok(Self { place: place(tensor)?, transposed: false }),
            false => Ok(Self { place: place(&tensor.t()?)?, transposed: true }),
        }
    }

    fn layout(&self, dtype: DType, rows: usize, columns: usize) -> Result<Layout> {
        if self.transposed { Layout::new(dtype, columns, rows) } else { Layout::new(dtype, rows, columns) }
    }
}

/// The product with its factors in turn and all matrices column by column, which is the same memory; none if cuBLASLt has no
/// algorithm for it.
fn by_lt(device: &CudaDevice, a: &Tensor, b: &Tensor, to: DType, epilogue: Epilogue) -> Result<Option<Output>> {
    let ((m, k), (_, n)) = (a.dims2()?, b.dims2()?);
    let of = a.dtype();
    if m == 0 || n == 0 || k == 0 {
        return Ok(None);
    }
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let (left, right) = (Factor::of(b)?, Factor::of(a)?);
    let mut out = Output::new(device, to, (m, n))?;
    let (kind, beside) = match epilogue {
        Epilogue::None => (cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT, None),
        Epilogue::Bias(bias) => (cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS, Some(place(bias)?)),
        Epilogue::Sums(sums) => (cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB, Some(sums.place(&stream)?)),
    };
    let places = [Some(left.place), Some(right.place), Some(out.place(&stream)?), beside];
    let fast = of == DType::F32 && gemm_reduced_precision_f32();
    let case = Case {
        device: stream.context().ordinal(),
        size: [m, n, k],
        transposed: [left.transposed, right.transposed],
        of,
        to,
        fast,
        epilogue: kind as u32,
        alignment: places.iter().flatten().fold(256, |least, place| least.min(1 << place.trailing_zeros().min(8))),
    };
    let compute = match fast {
        true => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        false => cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let description = Description(lt::create_matmul_desc(compute, cudaDataType::CUDA_R_32F).map_err(Error::wrap)?);
    description.set(Described::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(left.transposed))?;
    description.set(Described::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(right.transposed))?;
    description.set(Described::CUBLASLT_MATMUL_DESC_EPILOGUE, &(kind as u32))?;
    if let Some(place) = beside {
        description.set(Described::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &place)?;
    }
    let layouts = [left.layout(of, n, k)?, right.layout(of, k, m)?, Layout::new(to, n, m)?];
    let Some((handle, algorithm, workspace)) = algorithm(&case, &description, &layouts)? else { return Ok(None) };
    let mut memory = Output::new(device, DType::U8, workspace.max(1))?;
    let memory = memory.place(&stream)?;
    let at = |place: u64| place as *mut c_void;
    let [left_layout, right_layout, out_layout] = [layouts[0].0, layouts[1].0, layouts[2].0];
    // SAFETY: factors and output are as large as their layouts say, and live until the device has come past them in the order of
    // its stream, as does the workspace.
    let done = unsafe {
        lt::matmul(
            handle.0,
            description.0,
            from_ref(&1f32).cast(),
            from_ref(&0f32).cast(),
            at(left.place),
            left_layout,
            at(right.place),
            right_layout,
            at(out.place(&stream)?),
            out_layout,
            at(out.place(&stream)?),
            out_layout,
            &algorithm,
            at(memory),
            workspace,
            stream.cu_stream().cast(),
        )
    };
    if done.is_err() {
        // Refused in spite of the choice; what else is wrong shows in what is done instead.
        chosen().algorithms.insert(case, None);
        return Ok(None);
    }
    Ok(Some(out))
}

/// What was chosen so far.
fn chosen() -> MutexGuard<'static, Chosen> {
    static CHOSEN: LazyLock<Mutex<Chosen>> = LazyLock::new(Mutex::default);
    CHOSEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The handle and the algorithm for a product, chosen when it is first met.
fn algorithm(
    case: &Case,
    description: &Description,
    layouts: &[Layout; 3],
) -> Result<Option<(Handle, cublasLtMatmulAlgo_t, usize)>> {
    let Chosen { handles, algorithms } = &mut *chosen();
    let handle = match handles.get(&case.device) {
        Some(&handle) => handle,
        None => *handles.entry(case.device).or_insert(Handle(lt::create_handle().map_err(Error::wrap)?)),
    };
    if let Some(known) = algorithms.get(case) {
        return Ok(known.map(|(algorithm, workspace)| (handle, algorithm, workspace)));
    }
    let preference = Preference(lt::create_matmul_pref().map_err(Error::wrap)?);
    preference.set(Preferred::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
    for attribute in [
        Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        Preferred::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
    ] {
        preference.set(attribute, &case.alignment)?;
    }
    let [left, right, out] = [layouts[0].0, layouts[1].0, layouts[2].0];
    // SAFETY: all of them live.
    let found = unsafe { lt::get_matmul_algo_heuristic(handle.0, description.0, left, right, out, out, preference.0) };
    // An error says that there is none.
    let found = found.ok().map(|found| (found.algo, found.workspaceSize));
    algorithms.insert(*case, found);
    Ok(found.map(|(algorithm, workspace)| (handle, algorithm, workspace)))
}

/// What a product does, which destroys itself.
struct Description(cublasLtMatmulDesc_t);

impl Description {
    fn set<T>(&self, attribute: Described, value: &T) -> Result<()> {
        // SAFETY: the description lives; the attribute has the value's size, or is refused.
        unsafe { lt::set_matmul_desc_attribute(self.0, attribute, from_ref(value).cast(), size_of::<T>()) }
            .map_err(Error::wrap)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once.
        let _ = unsafe { lt::destroy_matmul_desc(self.0) };
    }
}

/// How a matrix lies, column by column without gaps.
struct Layout(cublasLtMatrixLayout_t);

impl Layout {
    fn new(dtype: DType, rows: usize, columns: usize) -> Result<Self> {
        let dtype = match dtype {
            DType::F32 => cudaDataType::CUDA_R_32F,
            DType::BF16 => cudaDataType::CUDA_R_16BF,
            other => bail!("product: expected float32 or bfloat16, got {other:?}"),
        };
        lt::create_matrix_layout(dtype, rows as u64, columns as u64, rows as i64).map_err(Error::wrap).map(Self)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once.
        let _ = unsafe { lt::destroy_matrix_layout(self.0) };
    }
}

/// What an algorithm may ask for.
struct Preference(cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(&self, attribute: Preferred, value: &T) -> Result<()> {
        // SAFETY: as a description's.
        unsafe { lt::set_matmul_pref_attribute(self.0, attribute, from_ref(value).cast(), size_of::<T>()) }
            .map_err(Error::wrap)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once.
        let _ = unsafe { lt::destroy_matmul_pref(self.0) };
    }
}
