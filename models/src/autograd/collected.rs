//! Gradients of parameters, collected without Candle's own sums.
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
