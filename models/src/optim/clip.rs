//! The norm of all gradients, and clipping by it. On CUDA the steps read it on the device.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::on_cuda;
use super::sum_of_squares;

/// The sum of squares of every one of some tensors. On CUDA the numbers are on their way to the host while the device goes on.
#[derive(Debug)]
pub struct Squares(Kind);

#[derive(Debug)]
enum Kind {
    Known(Vec<f64>),
    #[cfg(feature = "cuda")]
    OnCuda(on_cuda::Squares),
}

impl Squares {
    /// The sums on a CUDA device, if that is where they are.
    #[cfg(feature = "cuda")]
    pub(super) fn on_cuda(&self) -> Option<&on_cuda::Squares> {
        if let Kind::OnCuda(squares) = &self.0 { Some(squares) } else { None }
    }

    /// Whether they can be read without waiting for a device.
    pub fn are_known(&self) -> bool {
        matches!(self.0, Kind::Known(_))
    }

    /// The sums, in the order of the tensors, once they are known.
    ///
    /// # Errors
    /// If the device has failed.
    pub fn read(&self) -> Result<Vec<f64>> {
        match &self.0 {
            Kind::Known(sums) => Ok(sums.clone()),
            #[cfg(feature = "cuda")]
            Kind::OnCuda(sums) => sums.read(),
        }
    }
}

/// The global norm of gradients brought down to a largest one, as `torch.nn.utils.clip_grad_norm_` does.
#[derive(Debug, Clone, Copy)]
pub struct Clip<'a> {
    /// Of all gradients.
    pub squares: &'a Squares,
    /// The largest norm; 0 for any.
    pub largest: f64,
}

impl Clip<'_> {
    /// What gradients are multiplied by; nothing if their norm is not finite.
    ///
    /// # Errors
    /// Those of [`Squares::read`].
    pub fn factor(&self) -> Result<Option<f64>> {
        let norm = self.squares.read()?.iter().sum::<f64>().sqrt();
        Ok(norm.is_finite().then(|| clip_factor(norm, self.largest)))
    }
}

/// The factor that brings a global norm of `norm` down to `largest`, as `torch.nn.utils.clip_grad_norm_` computes it; 1
/// where `largest` is 0, which means no clipping.
pub fn clip_factor(norm: f64, largest: f64) -> f64 {
    if largest == 0. { 1. } else { (largest / (norm + 1e-6)).min(1.) }
}

/// [`sum_of_squares`] of every tensor.
///
/// # Errors
/// Those of Candle.
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<Squares> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = on_cuda::sums_of_squares(tensors)? {
        return Ok(Squares(Kind::OnCuda(sums)));
    }
    let sums = tensors.iter().map(|tensor| sum_of_squares(tensor)).collect::<Result<_>>()?;
    Ok(Squares(Kind::Known(sums)))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::optim::{SgdStep, SgdTarget, sgd_steps};

    #[test]
    fn a_step_is_clipped_by_the_norm_and_left_out_without_one() -> Result<()> {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let step = SgdStep { lr: 1., momentum: 0., nesterov: false, weight_decay: 0., grad_scale: 2. };
        let stepped = |gradients: [&[f32]; 2], largest| -> Result<[Vec<f32>; 2]> {
            let (params, gradients) =
                ([tensor(&[0.])?, tensor(&[0.])?], [tensor(gradients[0])?, tensor(gradients[1])?]);
            let squares = sums_of_squares(&[&gradients[0], &gradients[1]])?;
            assert!(squares.are_known());
            let target = |i: usize| SgdTarget { param: &params[i], momentum_buffer: None, grad: &gradients[i], step };
            sgd_steps(&[target(0), target(1)], Some(Clip { squares: &squares, largest }))?;
            Ok([params[0].to_vec1()?, params[1].to_vec1()?])
        };
        assert_eq!(stepped([&[3.], &[-4.]], 0.)?, [[-6.], [8.]]);
        assert_eq!(stepped([&[3.], &[-4.]], 6.)?, [[-6.], [8.]]);
        let clipped = stepped([&[3.], &[-4.]], 2.5)?;
        assert!((clipped[0][0] + 3.).abs() < 1e-5 && (clipped[1][0] - 4.).abs() < 1e-5, "{clipped:?}");
        assert_eq!(stepped([&[f32::NAN], &[1.]], 2.5)?, [[0.], [0.]]);
        assert_eq!(stepped([&[f32::INFINITY], &[1.]], 0.)?, [[0.], [0.]]);
        Ok(())
    }
}
