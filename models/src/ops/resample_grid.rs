//! A grid of vectors resampled to another one, bicubic as PyTorch's `interpolate`: how positions of one number of patches become those
//! of another in the forward pass.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::linear;

/// The coefficient of PyTorch's cubic convolution.
const A: f64 = -0.75;

/// Resamples `x [rows * columns, dim]`, a grid in reading order, from `from` rows and columns to `to`: the values of PyTorch's
/// `interpolate(mode="bicubic", align_corners=False)` without antialiasing and with a `scale_factor` of `(to + offset) / from` for each
/// side, by which coordinates are computed. An offset of 0 is `interpolate(size=to)`; DINO's code has 0.1.
///
/// # Errors
/// If `x` is no such grid, or a side is 0.
pub fn resample_grid(x: &Tensor, from: [usize; 2], to: [usize; 2], offset: f64) -> Result<Tensor> {
    let (count, _) = x.dims2()?;
    if count != from[0] * from[1] || from.contains(&0) || to.contains(&0) {
        bail!(
            "resample_grid: expected a grid of {from:?} rows and columns, each at least one, to {to:?}, got {:?}",
            x.dims()
        )
    }
    let [down, across] = [0, 1].map(|side| weights(from[side], to[side], offset));
    let mut matrix = Vec::with_capacity(to[0] * to[1] * count);
    for of_row in down.chunks_exact(from[0]) {
        for of_column in across.chunks_exact(from[1]) {
            matrix.extend(of_row.iter().flat_map(|row| of_column.iter().map(move |column| row * column)));
        }
    }
    let dtype = if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let matrix =
        Tensor::from_vec(matrix, (to[0] * to[1], count), &Device::Cpu)?.to_dtype(dtype)?.to_device(x.device())?;
    linear(&x.t()?.contiguous()?, &matrix, None)?.t()?.contiguous()
}

/// What every value of a line of `to` is made of, of a line of `from`: `[to, from]`.
fn weights(from: usize, to: usize, offset: f64) -> Vec<f64> {
    let scale = from as f64 / (to as f64 + offset);
    let mut weights = vec![0.; to * from];
    for (place, weights) in weights.chunks_exact_mut(from).enumerate() {
        let at = scale * (place as f64 + 0.5) - 0.5;
        let share = at - at.floor();
        let near = |x: f64| ((A + 2.) * x - (A + 3.)) * x * x + 1.;
        let far = |x: f64| ((A * x - 5. * A) * x + 8. * A) * x - 4. * A;
        let taps = [far(share + 1.), near(share), near(1. - share), far(2. - share)];
        for (tap, weight) in taps.into_iter().enumerate() {
            let source = at.floor() as i64 + tap as i64 - 1;
            weights[source.clamp(0, from as i64 - 1) as usize] += weight;
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use candle_core::Var;
    use serde_json::Value;

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn gradients_are_those_of_finite_differences() -> Result<()> {
        check("resample_grid", &[&[12, 5]], |t| resample_grid(&t[0], [3, 4], [2, 7], 0.1))?;
        check("resample_grid", &[&[1, 3]], |t| resample_grid(&t[0], [1, 1], [2, 2], 0.))
    }

    #[test]
    fn values_and_gradients_are_those_of_pytorchs_interpolate() -> Result<()> {
        let reference: Value = serde_json::from_str(include_str!("../../tests/references/pretraining/grid.json"))
            .map_err(candle_core::Error::wrap)?;
        for case in reference.as_array().expect("cases") {
            let numbers = |key: &str| -> Vec<f64> {
                case[key].as_array().expect(key).iter().map(|value| value.as_f64().expect("a number")).collect()
            };
            let sides = |key: &str| [0, 1].map(|side| numbers(key)[side] as usize);
            let ([rows, columns], to, dim) = (sides("from"), sides("to"), case["dim"].as_u64().expect("dim") as usize);
            let x = Tensor::from_vec(numbers("x"), (rows * columns, dim), &Device::Cpu)?;
            for (dtype, bound) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
                let x = Var::from_tensor(&x.to_dtype(dtype)?)?;
                let y = resample_grid(&x, [rows, columns], to, case["offset"].as_f64().expect("offset"))?;
                let weights = Tensor::from_vec(numbers("weights"), y.dims(), &Device::Cpu)?.to_dtype(dtype)?;
                let store = (&y * weights)?.sum_all()?.backward()?;
                for (key, got) in [("y", y), ("gradient", store.get(&x).expect("a gradient").clone())] {
                    let got = got.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
                    let worst = got.iter().zip(numbers(key)).map(|(a, b)| (a - b).abs()).fold(0., f64::max);
                    assert!(
                        got.len() == numbers(key).len() && worst < bound,
                        "{key} of {:?}: {worst:e}",
                        sides("from")
                    );
                }
            }
        }
        Ok(())
    }
}
