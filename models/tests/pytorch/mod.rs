//! What comparisons with PyTorch's values share: the formula of their inputs, and how numbers are read and compared.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

/// Values of a formula that `references/nets.py` and `references/perceptron.py` compute too.
pub fn formula(shape: &[usize], offset: u64, scale: f64) -> Tensor {
    let value = |i: u64| {
        let hashed = (i + offset).wrapping_mul(2_654_435_761) % (1 << 32);
        (scale * (hashed as f64 / 2f64.powi(32) - 0.5)) as f32
    };
    let count: usize = shape.iter().product();
    Tensor::from_vec((0..count as u64).map(value).collect(), shape, &Device::Cpu).expect("a tensor")
}

pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

pub fn flat(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64).and_then(|x| x.flatten_all()).and_then(|x| x.to_vec1()).expect("numbers")
}

/// The relative error in the 2-norm, which must be below `bound`.
pub fn assert_close(what: &str, got: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
    let scale = norm(&mut expected.iter().copied()).max(1e-30);
    let error = norm(&mut got.iter().zip(expected).map(|(a, b)| a - b)) / scale;
    assert!(error <= bound, "{what}: relative error {error:.1e}, allowed {bound:.1e}");
}
