//! Random masks of a training pass: what dropout and stochastic depth keep.

use candle_core::{DType, Device, Result, Shape, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Values drawn from one stream of the generator. Fixed, so that a mask doesn't depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// A mask that is 0 with probability `rate` and 1 / (1 - rate) otherwise. It depends on `seed` (the step's), `place` (the
/// layer's) and the shape, and on nothing else.
pub(super) fn mask(
    rate: f64,
    seed: u64,
    place: u64,
    shape: impl Into<Shape>,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let shape = shape.into();
    let kept = (1. / (1. - rate)) as f32;
    // A value is dropped where 32 random bits are below this; `rate` < 1, so it fits.
    let threshold = (rate * 2f64.powi(32)) as u32;
    let mut values = vec![0f32; shape.elem_count()];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut rng = generator(seed, place);
        rng.set_stream(chunk as u64);
        for value in values {
            *value = if rng.next_u32() < threshold { 0. } else { kept };
        }
    });
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)?.to_dtype(dtype)
}

fn generator(seed: u64, place: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&place.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
