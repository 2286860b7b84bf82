//! Values that `references/hybrids.py` computes too.

use candle_core::{Device, Tensor};

/// Integers mixed as in MurmurHash3, as numbers from -scale / 2 to scale / 2.
pub fn mixed(shape: &[usize], seed: u64, scale: f64) -> Tensor {
    let value = |i: u64| {
        let mut i = i + (seed << 24);
        for factor in [0x85EB_CA6B_u64, 0xC2B2_AE35] {
            i = (i ^ (i >> 16)) % (1 << 32);
            i = i.wrapping_mul(factor) % (1 << 32);
            i ^= i >> 13;
        }
        (scale * ((i ^ (i >> 16)) as f64 / 2f64.powi(32) - 0.5)) as f32
    };
    let count: usize = shape.iter().product();
    Tensor::from_vec((0..count as u64).map(value).collect(), shape, &Device::Cpu).expect("a tensor")
}
