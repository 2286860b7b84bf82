//! Sums over the rows of a matrix, in two halves: blocks of rows, then the blocks.

use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::launch::{Arg, Grid, Module, Output, dtype_name, launch, whole};
use super::ptx;

const MODULE: Module = ("column_sums", ptx::COLUMN_SUMS);

/// As device.cuh has them: columns and rows of a block.
const COLUMNS: usize = 32;
const ROWS: usize = 8;

/// Blocks of rows. It depends on nothing but the rows, so that sums come out the same on every device.
pub(super) fn parts(rows: usize) -> usize {
    rows.div_ceil(8 * ROWS).clamp(1, 128)
}

/// The grid of a kernel that is made of `column_partials`.
pub(super) fn grid(rows: usize, dim: usize) -> Grid {
    ((whole(dim.div_ceil(COLUMNS)), whole(parts(rows)), 1), (COLUMNS as u32, ROWS as u32, 1))
}

/// Room for `sums` sums over each of `dim` columns of `rows` rows.
pub(super) fn partials(device: &CudaDevice, rows: usize, sums: usize, dim: usize) -> Result<Output> {
    Output::new(device, DType::F32, (parts(rows), sums, dim))
}

/// The sum over the first dimension of partials `[parts, sums, dim]` as `[sums * dim]` of type `dtype`.
pub(super) fn add_up(device: &CudaDevice, partials: Output, dtype: DType) -> Result<Tensor> {
    let partials = partials.tensor();
    let (parts, sums, dim) = partials.dims3()?;
    let Some(name) = dtype_name(dtype) else { bail!("column sums: expected float32 or bfloat16, got {dtype:?}") };
    let mut out = Output::new(device, dtype, sums * dim)?;
    let grid = ((whole((sums * dim).div_ceil(128)), 1, 1), (128, 1, 1));
    let args = [Arg::In(&partials), Arg::Out(0), Arg::Int(parts), Arg::Int(sums * dim)];
    launch(device, MODULE, &format!("add_up_{name}"), grid, &mut [&mut out], &args)?;
    Ok(out.tensor())
}

/// The sum over all rows of contiguous `x [.., dim]` as `[dim]` of type `dtype`.
pub(super) fn column_sums(device: &CudaDevice, x: &Tensor, dim: usize, dtype: DType) -> Result<Tensor> {
    let rows = x.elem_count() / dim.max(1);
    let Some(name) = dtype_name(x.dtype()) else {
        bail!("column sums: expected float32 or bfloat16, got {:?}", x.dtype())
    };
    let mut sums = partials(device, rows, 1, dim)?;
    let args = [Arg::In(x), Arg::Out(0), Arg::Long(rows), Arg::Int(dim)];
    launch(device, MODULE, &format!("column_sums_{name}"), grid(rows, dim), &mut [&mut sums], &args)?;
    add_up(device, sums, dtype)
}
