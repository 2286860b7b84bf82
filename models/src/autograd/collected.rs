//! Gradients of parameters, past Candle's own sums.
//!
//! Candle's backward keeps one sum per tensor: it allocates zeros and adds every gradient to them, which for a model's
//! weights costs three passes over memory where none is needed. While [`collect_gradients`] runs, differentiable functions leave the
//! gradients of variables here instead and tell Candle that there is nothing to add. (Candle asks for the gradient of every
//! tensor that it walks through, but never for a variable's, where its walk ends.)

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{Result, Tensor, TensorId};

thread_local! {
    /// What was collected so far, if gradients are collected.
    static COLLECTED: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// Puts back what was collected before, also when a pass fails.
struct Before(Option<HashMap<TensorId, Tensor>>);

impl Drop for Before {
    fn drop(&mut self) {
        COLLECTED.replace(self.0.take());
    }
}

/// Runs a backward pass, and gives beside its result the gradients of variables that were kept out of it, by variable. A
/// variable's gradient is the sum of this one and of the one in the result, where it has both.
///
/// # Errors
/// That of `backward`.
pub fn collect_gradients<R>(backward: impl FnOnce() -> Result<R>) -> Result<(R, HashMap<TensorId, Tensor>)> {
    let _before = Before(COLLECTED.replace(Some(HashMap::new())));
    let result = backward()?;
    Ok((result, COLLECTED.take().unwrap_or_default()))
}

/// Runs `f` with nothing collected.
#[cfg(any(test, feature = "cuda"))]
pub(super) fn aside<R>(f: impl FnOnce() -> R) -> R {
    let _before = Before(COLLECTED.take());
    f()
}

/// What Candle is told about an operand's gradient: the gradient, or nothing if it was collected.
pub(super) fn hand_over(operand: &Tensor, gradient: Tensor) -> Result<Option<Tensor>> {
    if !operand.is_variable() {
        return Ok(Some(gradient));
    }
    COLLECTED.with_borrow_mut(|collected| {
        let Some(collected) = collected else { return Ok(Some(gradient)) };
        let sum = match collected.remove(&operand.id()) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        collected.insert(operand.id(), sum);
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::ops::linear;

    #[test]
    fn what_is_collected_and_what_is_not_add_up_to_the_gradient() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
        let w = Var::new(&[[1f32, -1.]], &Device::Cpu)?;
        // Twice by an op of this crate, once by one of Candle's.
        let loss = (linear(&x, &w, None)?.sum_all()? + linear(&x, &w, None)?.sum_all()? + w.sum_all()?)?;
        let expected = [[9f32, 13.]];
        assert_eq!(loss.backward()?.get(&w).expect("a gradient").to_vec2::<f32>()?, expected);
        let (store, mut kept) = collect_gradients(|| loss.backward())?;
        let kept = kept.remove(&w.id()).expect("a gradient");
        assert_eq!(kept.to_vec2::<f32>()?, [[8., 12.]]);
        assert_eq!((store.get(&w).expect("a gradient") + kept)?.to_vec2::<f32>()?, expected);
        assert_eq!(loss.backward()?.get(&w).expect("a gradient").to_vec2::<f32>()?, expected, "collecting has ended");
        Ok(())
    }
}
