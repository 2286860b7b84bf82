//! How a kernel is launched on tensors, and how what it wrote becomes a tensor.

use candle_core::backend::BackendDevice;
use candle_core::cuda::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, Tensor, bail};

use crate::autograd::{Computed, Function};

/// The file of a kernel: its name and its PTX.
pub(crate) type Module = (&'static str, &'static str);

/// Blocks, and threads of a block.
pub(crate) type Grid = ((u32, u32, u32), (u32, u32, u32));

/// Threads of a block where every warp works on a row of its own, or every thread on some of many values.
const THREADS: u32 = 128;

/// A warp a row.
pub(crate) fn rows(rows: usize) -> Grid {
    ((whole(rows.div_ceil(THREADS as usize / 32)), 1, 1), (THREADS, 1, 1))
}

/// Threads that share out many values; more values than threads make them loop.
pub(crate) fn values(count: usize) -> Grid {
    ((whole(count.div_ceil(2 * THREADS as usize).clamp(1, 1 << 16)), 1, 1), (THREADS, 1, 1))
}

/// A number as the device counts; what is larger than its limits fails at the launch.
pub(crate) fn whole(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What a kernel is given.
#[derive(Clone, Copy)]
pub(crate) enum Arg<'a> {
    /// A contiguous tensor.
    In(&'a Tensor),
    /// A contiguous tensor from this value on.
    InFrom(&'a Tensor, usize),
    /// The output of this index.
    Out(usize),
    /// The output of this index from this value on.
    OutFrom(usize, usize),
    /// A null pointer.
    Null,
    Int(usize),
    Long(usize),
    Float(f32),
}

impl<'a> Arg<'a> {
    /// A tensor, or a null pointer.
    pub fn optional(tensor: Option<&'a Tensor>) -> Self {
        tensor.map_or(Self::Null, Self::In)
    }
}

/// Memory on the device that kernels fill.
pub(crate) struct Output {
    storage: CudaStorage,
    shape: Shape,
}

impl Output {
    /// Memory that is not written yet.
    pub fn new(device: &CudaDevice, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        // SAFETY: who takes an output has kernels write all of it.
        let storage = unsafe { device.alloc_uninit(&shape, dtype)? };
        Ok(Self { storage, shape })
    }

    /// Memory that Candle has filled.
    pub fn of(storage: CudaStorage, shape: impl Into<Shape>) -> Self {
        Self { storage, shape: shape.into() }
    }

    /// The same values in another shape of as many.
    pub fn shaped(self, shape: impl Into<Shape>) -> Self {
        Self { shape: shape.into(), ..self }
    }

    /// Where it lies on the device, for what is ordered by this stream, the device's own.
    pub fn place(&mut self, stream: &CudaStream) -> Result<u64> {
        Ok(self.storage.place_mut(stream)?.0)
    }

    /// The output as that of a differentiable function, which is given its backward next.
    pub fn function<'a>(self, name: &'static str, operands: impl IntoIterator<Item = &'a Tensor>) -> Computed<'a> {
        Function::new(name, operands).output(Storage::Cuda(self.storage), self.shape)
    }

    /// The output as a tensor without a history.
    pub fn tensor(self) -> Tensor {
        Tensor::from_storage(Storage::Cuda(self.storage), self.shape, BackpropOp::none(), false)
    }
}

/// Launches kernel `name` on the device's stream. Arguments are those of the kernel, in order.
pub(crate) fn launch(
    device: &CudaDevice,
    (module, ptx): Module,
    name: &str,
    (grid_dim, block_dim): Grid,
    outputs: &mut [&mut Output],
    args: &[Arg],
) -> Result<()> {
    if grid_dim.0 == 0 || grid_dim.1 == 0 || grid_dim.2 == 0 {
        return Ok(());
    }
    let function = device.get_or_load_custom_func(name, &format!("tallow_{module}"), ptx)?;
    let stream = device.cuda_stream();
    let guards: Vec<_> = args
        .iter()
        .map(|arg| match arg {
            Arg::In(tensor) | Arg::InFrom(tensor, _) => Some(tensor.storage_and_layout()),
            _ => None,
        })
        .collect();
    // Dropped after the launch: they tell other streams when what is read and written may be touched.
    let mut records = vec![];
    let mut written = vec![];
    for output in outputs {
        let size = output.storage.dtype_size();
        let (place, record) = output.storage.place_mut(&stream)?;
        written.push((place, size));
        records.push(record);
    }
    let mut words = vec![];
    for (arg, guard) in args.iter().zip(&guards) {
        words.push(match *arg {
            Arg::In(_) | Arg::InFrom(..) => {
                let Some((storage, layout)) = guard else { bail!("{name}: an operand without storage") };
                let Storage::Cuda(storage) = &**storage else { bail!("{name}: an operand that is not on the device") };
                if !layout.is_contiguous() {
                    bail!("{name}: expected a contiguous operand, got strides {:?}", layout.stride())
                }
                let (place, record) = storage.place(&stream)?;
                records.push(record);
                let from = if let Arg::InFrom(_, from) = *arg { from } else { 0 };
                place + ((layout.start_offset() + from) * storage.dtype_size()) as u64
            }
            Arg::Out(index) => written[index].0,
            Arg::OutFrom(index, from) => written[index].0 + (from * written[index].1) as u64,
            Arg::Null => 0,
            // The device reads as many of the eight bytes as the parameter has, from the low end.
            Arg::Int(value) => match i32::try_from(value) {
                Ok(value) => value as u32 as u64,
                Err(_) => bail!("{name}: expected a size below 2^31, got {value}"),
            },
            Arg::Long(value) => value as u64,
            Arg::Float(value) => u64::from(value.to_bits()),
        });
    }
    let mut builder = function.builder();
    for word in &words {
        builder.arg(word);
    }
    // SAFETY: the arguments are the kernel's, and live until the device has read them in the order of its stream.
    let launched = unsafe { builder.launch(LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 }) };
    launched
        .w()
        .map_err(|error| error.context(format!("kernel {name}, blocks {grid_dim:?}, threads {block_dim:?}")))?;
    Ok(())
}

/// Where storage of any type lies on the device.
trait Placed {
    fn place<'a>(&'a self, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)>;
    fn place_mut<'a>(&'a mut self, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)>;
    fn dtype_size(&self) -> usize;
}

impl Placed for CudaStorage {
    fn place<'a>(&'a self, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
        fn of<'a, T>(slice: &'a CudaSlice<T>, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
            slice.device_ptr(stream)
        }
        Ok(match &self.slice {
            CudaStorageSlice::U8(slice) => of(slice, stream),
            CudaStorageSlice::U32(slice) => of(slice, stream),
            CudaStorageSlice::I32(slice) => of(slice, stream),
            CudaStorageSlice::I64(slice) => of(slice, stream),
            CudaStorageSlice::BF16(slice) => of(slice, stream),
            CudaStorageSlice::F32(slice) => of(slice, stream),
            CudaStorageSlice::F64(slice) => of(slice, stream),
            _ => bail!("a kernel got a tensor of a type that it does not know"),
        })
    }

    fn place_mut<'a>(&'a mut self, stream: &'a CudaStream) -> Result<(u64, SyncOnDrop<'a>)> {
        fn of<'a, T>(slice: &'a mut CudaSlice<T>, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
            slice.device_ptr_mut(stream)
        }
        Ok(match &mut self.slice {
            CudaStorageSlice::U8(slice) => of(slice, stream),
            CudaStorageSlice::U32(slice) => of(slice, stream),
            CudaStorageSlice::BF16(slice) => of(slice, stream),
            CudaStorageSlice::F32(slice) => of(slice, stream),
            CudaStorageSlice::F64(slice) => of(slice, stream),
            _ => bail!("a kernel got an output of a type that it does not know"),
        })
    }

    fn dtype_size(&self) -> usize {
        candle_core::backend::BackendStorage::dtype(self).size_in_bytes()
    }
}

/// Where a contiguous tensor lies on the device, for tables of places. Nothing orders other streams after what is done there:
/// the tensors of a table belong to the device's own stream.
pub(crate) fn place(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else { bail!("a table of places got a tensor that is not on the device") };
    if !layout.is_contiguous() {
        bail!("a table of places expected a contiguous tensor, got strides {:?}", layout.stride())
    }
    let stream = storage.device.cuda_stream();
    let (place, _record) = storage.place(&stream)?;
    Ok(place + (layout.start_offset() * storage.dtype_size()) as u64)
}

/// The device that a tensor is on, if it is CUDA's.
pub(crate) fn device_of(tensor: &Tensor) -> Option<&CudaDevice> {
    if let Device::Cuda(device) = tensor.device() { Some(device) } else { None }
}

/// The end of a kernel's name for `x` and parameters of these types; none if there is no such kernel, or not all of them are
/// on one CUDA device.
pub(crate) fn types(x: &Tensor, parameters: &[&Tensor]) -> Option<&'static str> {
    let device = device_of(x)?;
    let here = |t: &&Tensor| device_of(t).is_some_and(|of| of.id() == device.id());
    let all = |dtype| parameters.iter().all(|t| t.dtype() == dtype);
    match x.dtype() {
        _ if !parameters.iter().all(here) || x.elem_count() == 0 => None,
        DType::F32 if all(DType::F32) => Some("f32_f32"),
        DType::BF16 if all(DType::BF16) => Some("bf16_bf16"),
        DType::BF16 if all(DType::F32) => Some("bf16_f32"),
        _ => None,
    }
}

/// As [`types`], for kernels that know one type only.
pub(crate) fn dtype_name(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F32 => Some("f32"),
        DType::BF16 => Some("bf16"),
        _ => None,
    }
}
