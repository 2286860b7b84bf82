//! The builder of differentiable functions.

use std::sync::{Mutex, PoisonError};

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, Result, Shape, Storage, Tensor, bail};

use super::attach::attach;
use super::collected::hand_over;

/// The builder of a differentiable function of some tensors. It takes the name and the operands, then the output
/// ([`Function::output`]), and last the backward ([`Computed::backward`]).
///
/// The forward has already run when the output is given. What the backward needs beside operands and output, its closure captures. Where no operand is tracked, the closure is dropped at once and the output has no history.
///
/// ```
/// use candle_core::{Device, Result, Tensor, Var};
/// use tallow_models::autograd::Function;
///
/// /// `exp(x)`, whose derivative is itself.
/// fn exp(x: &Tensor) -> Result<Tensor> {
///     let y: Vec<f32> = x.to_vec1::<f32>()?.into_iter().map(f32::exp).collect();
///     Function::new("exp", [x]).output(y, x.shape()).backward(|call| {
///         let dx = (call.output.detach() * call.gradient)?;
///         Ok(vec![Some(dx)])
///     })
/// }
///
/// let x = Var::new(&[0f32, 1., 2.], &Device::Cpu)?;
/// let y = exp(&x)?;
/// let gradients = y.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&x).expect("a gradient").to_vec1::<f32>()?, y.to_vec1::<f32>()?);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[must_use]
pub struct Function<'a> {
    name: &'static str,
    operands: Vec<&'a Tensor>,
}

impl<'a> Function<'a> {
    /// A function of any number of operands, called `name` in messages.
    pub fn new(name: &'static str, operands: impl IntoIterator<Item = &'a Tensor>) -> Self {
        Self { name, operands: operands.into_iter().collect() }
    }

    /// Whether an operand needs a gradient: whether there will be a backward.
    pub fn is_tracked(&self) -> bool {
        self.operands.iter().any(|operand| operand.track_op())
    }

    /// What the forward has computed: the values of a contiguous tensor of this shape, on the operands' device.
    pub fn output(self, output: impl Into<Output>, shape: impl Into<Shape>) -> Computed<'a> {
        Computed { function: self, output: output.into().0, shape: shape.into() }
    }
}

/// The output of a function: values on the CPU or in CUDA's memory.
pub struct Output(Storage);

impl From<Vec<f32>> for Output {
    fn from(values: Vec<f32>) -> Self {
        Self(Storage::Cpu(CpuStorage::F32(values)))
    }
}

impl From<Storage> for Output {
    fn from(storage: Storage) -> Self {
        Self(storage)
    }
}

/// A function whose output is there; what is missing is the backward.
#[must_use]
pub struct Computed<'a> {
    function: Function<'a>,
    output: Storage,
    shape: Shape,
}

/// What a backward starts from.
#[non_exhaustive]
pub struct Call<'a> {
    /// The operands, in the order in which the function was given them.
    pub operands: &'a [Tensor],
    /// What the forward has computed.
    pub output: &'a Tensor,
    /// The gradient of the output; it is contiguous.
    pub gradient: &'a Tensor,
}

impl Call<'_> {
    /// Whether the gradient of operand `index` is asked for. The backward may give `None` for the others.
    pub fn wants(&self, index: usize) -> bool {
        self.operands.get(index).is_some_and(Tensor::track_op)
    }
}

impl Computed<'_> {
    /// The tensor. `backward` gives the gradient of every operand, in their order: `None` for those that are not tracked, or
    /// for a variable that the output does not depend on.
    ///
    /// # Errors
    /// If the output has not as many values as its shape, or is on another device than the operands.
    pub fn backward(
        self,
        backward: impl Fn(&Call) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        let Self { function: Function { name, operands }, output, shape } = self;
        check_size(name, &output, &shape)?;
        let tracked: Vec<usize> = (0..operands.len()).filter(|&index| operands[index].track_op()).collect();
        #[cfg(any(test, feature = "cuda"))]
        if super::segment::records() {
            let output = Tensor::from_storage(output, shape, BackpropOp::none(), !tracked.is_empty());
            let operands = operands.into_iter().cloned().collect();
            super::segment::record(operands, output.clone(), Box::new(backward));
            return Ok(output);
        }
        if tracked.is_empty() {
            return Ok(Tensor::from_storage(output, shape, BackpropOp::none(), false));
        }
        let ties: Vec<Tensor> = tracked.iter().map(|&index| operands[index].clone()).collect();
        let operands: Vec<Tensor> = operands.into_iter().cloned().collect();
        let gradients = move |output: &Tensor, gradient: &Tensor| {
            let gradient = &gradient.contiguous()?;
            let mut found = backward(&Call { operands: &operands, output, gradient })?;
            if found.len() != operands.len() {
                bail!("{name}: expected a gradient for each of {} operands, got {}", operands.len(), found.len())
            }
            let of = |&index: &usize| match (found[index].take(), &operands[index]) {
                (Some(gradient), operand) => hand_over(operand, gradient),
                (None, operand) if operand.is_variable() => Ok(None),
                (None, _) => bail!("{name}: operand {index} needs a gradient, and the backward gave none"),
            };
            tracked.iter().map(of).collect()
        };
        attach(name, &ties, (output, shape), Box::new(gradients))
    }

    /// As [`Computed::backward`], with something large from the forward: the first backward is given it and may use it up; a
    /// second backward of the same pass gets none and has to compute it again.
    ///
    /// # Errors
    /// As there.
    pub fn backward_once<K: Send + 'static>(
        self,
        kept: K,
        backward: impl Fn(&Call, Option<K>) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Result<Tensor> {
        let kept = Mutex::new(Some(kept));
        self.backward(move |call| {
            let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
            backward(call, kept)
        })
    }
}

/// Candle believes whatever shape a storage is given.
fn check_size(name: &str, output: &Storage, shape: &Shape) -> Result<()> {
    let Storage::Cpu(CpuStorage::F32(values)) = output else { return Ok(()) };
    if values.len() != shape.elem_count() {
        bail!("{name}: expected {} values for an output of {shape:?}, got {}", shape.elem_count(), values.len())
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{DType, Device, Var};

    use super::super::collect_gradients;
    use super::*;
    use crate::gradcheck::{check, distance, values};

    /// `a b + c d e`, value by value: five operands, more than Candle's ops have.
    fn five(t: &[Tensor]) -> Result<Tensor> {
        let y = ((&t[0] * &t[1])? + ((&t[2] * &t[3])? * &t[4])?)?;
        if y.dtype() != DType::F32 {
            return Ok(y);
        }
        let y = y.flatten_all()?.to_vec1::<f32>()?;
        Function::new("five", t).output(y, t[0].shape()).backward(|call| {
            let [a, b, c, d, e] = call.operands else { bail!("five operands") };
            let dy = call.gradient;
            let times = |index: usize, factors: &[&Tensor]| -> Result<Option<Tensor>> {
                if !call.wants(index) {
                    return Ok(None);
                }
                factors.iter().try_fold(dy.clone(), |product, factor| product * factor.detach()).map(Some)
            };
            Ok(vec![times(0, &[b])?, times(1, &[a])?, times(2, &[d, e])?, times(3, &[c, e])?, times(4, &[c, d])?])
        })
    }

    #[test]
    fn the_gradients_of_many_operands_are_those_of_finite_differences() -> Result<()> {
        check("five", &[&[3, 4][..]; 5], five)
    }

    fn variables() -> Result<Vec<Var>> {
        (0..5).map(|seed| Var::from_tensor(&values(&[2, 3], seed)?)).collect()
    }

    #[test]
    fn gradients_of_variables_are_collected_and_are_candles_otherwise() -> Result<()> {
        let vars = variables()?;
        let t: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        // One operand has a history, another is used twice.
        let first = (&t[0] * 2.)?;
        let operands = [first, t[1].clone(), t[2].clone(), t[1].clone(), t[4].clone()];
        let loss = five(&operands)?.sum_all()?;
        let expected = loss.backward()?;
        let (store, collected) = collect_gradients(|| loss.backward())?;
        for (index, var) in vars.iter().enumerate() {
            let Some(expected) = expected.get(var) else {
                assert_eq!(index, 3, "only one variable is not used");
                continue;
            };
            let got = if index == 0 { store.get(var) } else { collected.get(&var.id()) };
            assert_eq!(distance(got.expect("a gradient"), expected)?, 0., "operand {index}");
            assert_eq!(store.get(var).is_some(), index == 0, "operand {index}");
        }
        Ok(())
    }

    #[test]
    fn where_nothing_is_tracked_nothing_is_kept() -> Result<()> {
        let kept = Arc::new(());
        let x = values(&[4], 1)?;
        let backward = kept.clone();
        let function = Function::new("copy", [&x, &x]);
        assert!(!function.is_tracked());
        let y = function.output(x.to_vec1::<f32>()?, 4).backward(move |call| {
            let _captured = &backward;
            Ok(vec![Some(call.gradient.clone()); 2])
        })?;
        assert!(!y.track_op());
        assert_eq!(Arc::strong_count(&kept), 1);
        Ok(())
    }

    #[test]
    fn what_is_kept_for_one_backward_is_gone_after_it() -> Result<()> {
        let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
        let kept = Arc::new(());
        let y = Function::new("twice", [x.as_tensor()]).output(vec![2f32, 4.], 2).backward_once(
            kept.clone(),
            |call, kept| {
                let slope = if kept.is_some() { 2. } else { 3. };
                Ok(vec![Some((call.gradient * slope)?)])
            },
        )?;
        assert_eq!(Arc::strong_count(&kept), 2);
        let loss = y.sum_all()?;
        for slope in [2., 3., 3.] {
            assert_eq!(loss.backward()?.get(&x).expect("a gradient").to_vec1::<f32>()?, [slope; 2]);
            assert_eq!(Arc::strong_count(&kept), 1);
        }
        Ok(())
    }

    #[test]
    fn a_backward_gets_a_contiguous_gradient_and_may_give_more_than_is_asked_for() -> Result<()> {
        let x = Var::from_tensor(&values(&[2, 3], 1)?)?;
        let other = values(&[2, 3], 2)?;
        let y = x.flatten_all()?.to_vec1::<f32>()?;
        let y = Function::new("left", [x.as_tensor(), &other]).output(y, (2, 3)).backward(|call| {
            assert!(call.gradient.is_contiguous() && call.wants(0) && !call.wants(1) && !call.wants(2));
            Ok(vec![Some(call.gradient.clone()); 2])
        })?;
        let weights = values(&[3, 2], 3)?;
        let store = y.t()?.mul(&weights)?.sum_all()?.backward()?;
        assert_eq!(distance(store.get(&x).expect("a gradient"), &weights.t()?)?, 0.);
        assert!(store.get(&other).is_none());
        Ok(())
    }

    #[test]
    fn outputs_and_gradients_that_do_not_fit_are_an_error() -> Result<()> {
        let x = Var::new(&[1f32, 2.], &Device::Cpu)?;
        let function = |x: &Tensor, values: usize, gradients: Vec<Option<Tensor>>| {
            Function::new("odd", [x]).output(vec![1f32; values], 2).backward(move |_| Ok(gradients.clone()))
        };
        let message = function(&x, 3, vec![]).unwrap_err().to_string();
        assert!(message.contains("odd: expected 2 values") && message.contains("got 3"), "{message}");
        let backward = |x: &Tensor, gradients| function(x, 2, gradients)?.sum_all()?.backward();
        let message = backward(&x, vec![]).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("odd: expected a gradient for each of 1 operands"), "{message}");
        assert!(backward(&x, vec![None])?.get(&x).is_none(), "a variable that the output does not depend on");
        let message = backward(&(x.as_tensor() * 2.)?, vec![None]).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("odd: operand 0 needs a gradient"), "{message}");
        Ok(())
    }
}
