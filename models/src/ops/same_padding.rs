//! Convolution and pooling with TensorFlow's "same" padding: a stride of `s` makes `ceil(side / s)` of a side, and of the margin that this
//! takes the smaller half lies before the image.

use candle_core::{Result, Tensor};

use super::{conv2d, max_pool2d};

/// As [`conv2d`], with zeros around `x` so that `stride` alone makes it smaller.
///
/// # Errors
/// As there.
pub fn conv2d_same(x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride: usize) -> Result<Tensor> {
    let (_, _, height, width) = w.dims4()?;
    let (x, padding) = padded(x, [height, width], stride, 0.)?;
    conv2d(&x, w, b, stride, padding)
}

/// As [`max_pool2d`], with -∞ around `x` so that `stride` alone makes it smaller.
///
/// # Errors
/// As there.
pub fn max_pool2d_same(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (x, padding) = padded(x, [kernel; 2], stride, f64::NEG_INFINITY)?;
    max_pool2d(&x, kernel, stride, padding, false)
}

/// The image with its margin, and the padding that is left to the operation: all of it where it is the same on every side.
fn padded(x: &Tensor, kernel: [usize; 2], stride: usize, fill: f64) -> Result<(Tensor, usize)> {
    let (_, _, height, width) = x.dims4()?;
    let [rows, columns] = [margins(height, kernel[0], stride), margins(width, kernel[1], stride)];
    if rows == columns && rows[0] == rows[1] {
        return Ok((x.clone(), rows[0]));
    }
    Ok((surrounded(&surrounded(x, 2, rows, fill)?, 3, columns, fill)?, 0))
}

/// Before and behind a side.
fn margins(side: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let stride = stride.max(1);
    let all = ((side.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(side);
    [all / 2, all - all / 2]
}

fn surrounded(x: &Tensor, dim: usize, margins: [usize; 2], fill: f64) -> Result<Tensor> {
    let margin = |count: usize| {
        let mut dims = x.dims().to_vec();
        dims[dim] = count;
        Tensor::full(fill, dims, x.device())?.to_dtype(x.dtype())
    };
    match margins {
        [0, 0] => Ok(x.clone()),
        [0, behind] => Tensor::cat(&[x, &margin(behind)?], dim),
        [before, behind] => Tensor::cat(&[&margin(before)?, x, &margin(behind)?], dim),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn margins_are_those_of_tensorflow() {
        // timm's `get_same_padding`, by hand.
        for (side, kernel, stride, expected) in [
            (224, 7, 2, [2, 3]),
            (225, 7, 2, [3, 3]),
            (112, 3, 2, [0, 1]),
            (7, 3, 2, [1, 1]),
            (5, 1, 2, [0, 0]),
            (1, 3, 2, [1, 1]),
        ] {
            assert_eq!(margins(side, kernel, stride), expected, "{side} {kernel} {stride}");
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() -> Result<()> {
        for image in [[8usize, 8], [7, 7], [7, 10], [1, 2]] {
            for (kernel, stride) in [(3, 1), (3, 2), (1, 2), (7, 2)] {
                let (x, w) = ([2, 3, image[0], image[1]], [4, 3, kernel, kernel]);
                let sides = image.map(|side| side.div_ceil(stride));
                check("conv2d_same", &[&x, &w], |t| {
                    let y = conv2d_same(&t[0], &t[1], None, stride)?;
                    assert_eq!(y.dims(), [2, 4, sides[0], sides[1]]);
                    Ok(y)
                })?;
                check("max_pool2d_same", &[&x], |t| max_pool2d_same(&t[0], kernel, stride))?;
            }
        }
        Ok(())
    }

    #[test]
    fn what_lies_outside_is_never_the_largest() -> Result<()> {
        let x = Tensor::full(-3f32, (1, 1, 4, 5), &Device::Cpu)?;
        let y = max_pool2d_same(&x, 3, 2)?;
        assert_eq!(y.squeeze(0)?.squeeze(0)?.to_vec2::<f32>()?, [[-3.; 3]; 2]);
        Ok(())
    }
}
