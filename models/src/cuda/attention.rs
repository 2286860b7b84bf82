//! Attention; the kernels are in attention.cu (bf16, tensor cores) and attention_plain.cu (float32, and head dims without
//! one of those).

use candle_core::{CudaDevice, D, DType, Result, Tensor, bail};

use super::launch::{Arg, Grid, Module, Output, device_of, dtype_name, launch, rows, types, whole};
use super::{ptx, trust};

const TENSOR_CORES: Module = ("attention", ptx::ATTENTION);
const PLAIN: Module = ("attention_plain", ptx::ATTENTION_PLAIN);

/// Head dims that attention.cu has kernels for.
const TENSOR_CORE_DIMS: [usize; 4] = [32, 64, 96, 128];

/// The largest head dim of attention_plain.cu.
const LARGEST_DIM: usize = 128;

/// The composition: attention of q to k and v in so many heads.
type Composed = fn(&Tensor, &Tensor, &Tensor, usize) -> Result<Tensor>;

/// Attention of `q` to `k` and `v` by kernels, where they serve. `composed` is what they are checked against.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, composed: Composed) -> Result<Option<Tensor>> {
    let same = k.dtype() == q.dtype() && v.dtype() == q.dtype();
    if !same || types(q, &[k, v]).is_none() || !trusted(q, q.dim(D::Minus1)? / heads, composed)? {
        return Ok(None);
    }
    separate(q, k, v, heads).map(Some)
}

/// Self-attention over a packed projection, as [`attention`].
pub fn attention_qkv(qkv: &Tensor, heads: usize, composed: Composed) -> Result<Option<Tensor>> {
    if types(qkv, &[]).is_none() || !trusted(qkv, qkv.dim(D::Minus1)? / 3 / heads, composed)? {
        return Ok(None);
    }
    packed(qkv, heads).map(Some)
}

/// Whether the kernels for operands like `x` and this head dim serve.
fn trusted(x: &Tensor, d: usize, composed: Composed) -> Result<bool> {
    let (Some(device), Some(name)) = (device_of(x), dtype_name(x.dtype())) else { return Ok(false) };
    if d > LARGEST_DIM {
        return Ok(false);
    }
    trust::trusted(&format!("attention {name} d={d}"), device, |device| {
        let (dtype, heads) = (x.dtype(), 2);
        let width = heads * d;
        // More than a tile of tokens, and not a whole number of them.
        let composition = |t: &[Tensor]| {
            let part = |i| t[0].narrow(D::Minus1, i * width, width);
            composed(&part(0)?, &part(1)?, &part(2)?, heads)
        };
        trust::agree(device, &[(&[2, 70, 3 * width], dtype)], &|t| packed(&t[0], heads), &composition)?;
        let operands = [(&[2, 5, width][..], dtype), (&[2, 70, width], dtype), (&[2, 70, width], dtype)];
        let kernel = |t: &[Tensor]| separate(&t[0], &t[1], &t[2], heads);
        trust::agree(device, &operands, &kernel, &|t| composed(&t[0], &t[1], &t[2], heads))
    })
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    d: usize,
    /// Values between rows of q, k, v and their gradients.
    stride: usize,
}

fn separate(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let [q, k, v] = [aligned(q)?, aligned(k)?, aligned(v)?];
    let Some(device) = device_of(&q) else { bail!("attention: expected a CUDA device") };
    let (batch, queries, width) = q.dims3()?;
    let sizes = Sizes { batch, queries, keys: k.dim(1)?, heads, d: width / heads, stride: width };
    let (y, log_sums) = forward(device, [(&q, 0), (&k, 0), (&v, 0)], sizes)?;
    let device = device.clone();
    y.function("attention", [&q, &k, &v]).backward(move |call| {
        let dy = call.gradient;
        let parts = [0, 1, 2].map(|index| (&call.operands[index], 0));
        let along = along(&device, call.output, dy, sizes)?;
        let (mut dq, mut dk, mut dv) =
            (like(&device, parts[0].0)?, like(&device, parts[1].0)?, like(&device, parts[2].0)?);
        backward(
            &device,
            parts,
            dy,
            (&log_sums, &along),
            (&mut [&mut dq, &mut dk, &mut dv], [(0, 0), (1, 0), (2, 0)]),
            sizes,
        )?;
        Ok([dq, dk, dv].map(|gradient| Some(gradient.tensor())).into())
    })
}

fn packed(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let qkv = aligned(qkv)?;
    let Some(device) = device_of(&qkv) else { bail!("attention_qkv: expected a CUDA device") };
    let (batch, tokens, stride) = qkv.dims3()?;
    let width = stride / 3;
    let sizes = Sizes { batch, queries: tokens, keys: tokens, heads, d: width / heads, stride };
    let (y, log_sums) = forward(device, [(&qkv, 0), (&qkv, width), (&qkv, 2 * width)], sizes)?;
    let device = device.clone();
    y.function("attention_qkv", [&qkv]).backward(move |call| {
        let (qkv, dy) = (&call.operands[0], call.gradient);
        let along = along(&device, call.output, dy, sizes)?;
        let mut dqkv = like(&device, qkv)?;
        let parts = [(qkv, 0), (qkv, width), (qkv, 2 * width)];
        let places = [(0, 0), (0, width), (0, 2 * width)];
        backward(&device, parts, dy, (&log_sums, &along), (&mut [&mut dqkv], places), sizes)?;
        Ok(vec![Some(dqkv.tensor())])
    })
}

/// Contiguous, and starting where 16 bytes can be read at once.
fn aligned(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let odd = x.layout().start_offset() % 8 != 0;
    if odd { x.copy() } else { Ok(x) }
}

fn like(device: &CudaDevice, x: &Tensor) -> Result<Output> {
    Output::new(device, x.dtype(), x.shape())
}

/// The kernel of a pass for these operands: its module, its name, and its grid over `rows` rows.
fn choose(pass: &str, dtype: DType, sizes: &Sizes, rows: usize) -> Result<(Module, String, Grid)> {
    let blocks = |side: usize| (whole(rows.div_ceil(side)), whole(sizes.heads), whole(sizes.batch));
    match dtype_name(dtype) {
        Some("bf16") if TENSOR_CORE_DIMS.contains(&sizes.d) => {
            Ok((TENSOR_CORES, format!("attention_{pass}_bf16_{}", sizes.d), (blocks(64), (128, 1, 1))))
        }
        Some(name) => Ok((PLAIN, format!("attention_plain_{pass}_{name}"), (blocks(16), (16, 16, 1)))),
        None => bail!("attention: expected float32 or bfloat16, got {dtype:?}"),
    }
}

/// The sizes as a kernel of `module` takes them, and the scale of the scores.
fn tail(module: Module, sizes: &Sizes) -> Vec<Arg<'static>> {
    let Sizes { queries, keys, heads, d, stride, .. } = *sizes;
    let mut args = vec![Arg::Int(queries), Arg::Int(keys), Arg::Int(heads)];
    if module == PLAIN {
        args.push(Arg::Int(d));
    }
    args.extend([Arg::Long(stride), Arg::Long(heads * d), Arg::Float((d as f32).powf(-0.5))]);
    args
}

/// q, k and v: each a tensor, and the value of its rows that it begins with.
type Parts<'a> = [(&'a Tensor, usize); 3];

/// The output `[batch, queries, heads * d]`, and what attention.cu keeps of every row.
fn forward(device: &CudaDevice, parts: Parts, sizes: Sizes) -> Result<(Output, Tensor)> {
    let Sizes { batch, queries, heads, d, .. } = sizes;
    let dtype = parts[0].0.dtype();
    let mut y = Output::new(device, dtype, (batch, queries, heads * d))?;
    let mut log_sums = Output::new(device, DType::F32, (batch, heads, queries))?;
    let (module, name, grid) = choose("forward", dtype, &sizes, queries)?;
    let mut args: Vec<_> = parts.iter().map(|&(t, from)| Arg::InFrom(t, from)).collect();
    args.extend([Arg::Out(0), Arg::Out(1)]);
    args.extend(tail(module, &sizes));
    launch(device, module, &name, grid, &mut [&mut y, &mut log_sums], &args)?;
    Ok((y, log_sums.tensor()))
}

/// `Σ dy y` over the values of every row of every head.
fn along(device: &CudaDevice, y: &Tensor, dy: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let Sizes { batch, queries, keys, heads, d, stride } = sizes;
    let Some(name) = dtype_name(y.dtype()) else {
        bail!("attention: expected float32 or bfloat16, got {:?}", y.dtype())
    };
    let count = batch * heads * queries;
    let mut along = Output::new(device, DType::F32, (batch, heads, queries))?;
    let args = [
        Arg::In(y),
        Arg::In(dy),
        Arg::Out(0),
        Arg::Long(count),
        Arg::Int(queries),
        Arg::Int(keys),
        Arg::Int(heads),
        Arg::Int(d),
        Arg::Long(stride),
        Arg::Long(heads * d),
    ];
    launch(device, PLAIN, &format!("attention_along_{name}"), rows(count), &mut [&mut along], &args)?;
    Ok(along.tensor())
}

/// Writes the gradients of q, k and v: `places` says to which output, and from which of its values on.
fn backward(
    device: &CudaDevice,
    parts: Parts,
    dy: &Tensor,
    (log_sums, along): (&Tensor, &Tensor),
    (outputs, places): (&mut [&mut Output], [(usize, usize); 3]),
    sizes: Sizes,
) -> Result<()> {
    let dy = aligned(dy)?;
    let mut operands: Vec<_> = parts.iter().map(|&(t, from)| Arg::InFrom(t, from)).collect();
    operands.extend([Arg::In(&dy), Arg::In(log_sums), Arg::In(along)]);
    let [dq, dk, dv] = places.map(|(index, from)| Arg::OutFrom(index, from));
    for (pass, side, written) in [("backward_q", sizes.queries, vec![dq]), ("backward_kv", sizes.keys, vec![dk, dv])] {
        let (module, name, grid) = choose(pass, dy.dtype(), &sizes, side)?;
        let args = [operands.clone(), written, tail(module, &sizes)].concat();
        launch(device, module, &name, grid, outputs, &args)?;
    }
    Ok(())
}
