//! Several functions as one, whose backward goes from one to the next by itself: Candle's would allocate zeros for the gradient
//! of every result in between, and add to them, which are four passes over memory where none is needed.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{Result, Tensor, TensorId};

use super::function::{Call, Function};
use super::storage::take_storage;

/// See [`super::Computed::backward`].
type Backward = Box<dyn Fn(&Call) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// A function within a segment.
pub(super) struct Node {
    operands: Vec<Tensor>,
    output: Tensor,
    backward: Backward,
}

thread_local! {
    /// The functions of the segment that is being built, if one is.
    static NODES: RefCell<Option<Vec<Node>>> = const { RefCell::new(None) };
}

/// Puts back what was recorded before, also when the building of a segment fails.
struct Before(Option<Vec<Node>>);

impl Drop for Before {
    fn drop(&mut self) {
        NODES.replace(self.0.take());
    }
}

/// Whether functions are to be recorded, with outputs that are variables where they are tracked, in place of a history for Candle.
pub(super) fn records() -> bool {
    NODES.with_borrow(Option::is_some)
}

/// Adds a function to the segment that is being built.
pub(super) fn record(operands: Vec<Tensor>, output: Tensor, backward: Backward) {
    NODES.with_borrow_mut(|nodes| {
        if let Some(nodes) = nodes {
            nodes.push(Node { operands, output, backward });
        }
    });
}

fn recorded<R>(f: impl FnOnce() -> Result<R>) -> Result<(R, Vec<Node>)> {
    let _before = Before(NODES.replace(Some(vec![])));
    let result = f()?;
    Ok((result, NODES.take().unwrap_or_default()))
}

/// Runs `f` with histories for Candle, also while a segment is being built.
#[cfg(feature = "cuda")]
pub(crate) fn unrecorded<R>(f: impl FnOnce() -> R) -> R {
    let _before = Before(NODES.take());
    f()
}

/// `f()`, a function of these operands and of nothing else that has a gradient. None where it cannot be one function: no
/// gradient is wanted, or something in it is no [`Function`].
pub(crate) fn segment(
    name: &'static str,
    operands: &[&Tensor],
    f: impl FnOnce() -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let function = Function::new(name, operands.iter().copied());
    if !function.is_tracked() {
        return Ok(None);
    }
    let (y, nodes) = recorded(f)?;
    let given: Vec<TensorId> = operands.iter().map(|operand| operand.id()).collect();
    if !is_closed(&given, &nodes, &y) {
        return Ok(None);
    }
    let (output, of_output) = (take_storage(&y)?, y.id());
    let segment = function.output(output, y.shape()).backward(move |call| {
        let mut found = backward(&nodes, of_output, call)?;
        Ok(call.operands.iter().map(|operand| found.remove(&operand.id())).collect())
    });
    segment.map(Some)
}

/// Whether the nodes read nothing but what is given and each other's outputs, and end with `y`.
fn is_closed(given: &[TensorId], nodes: &[Node], y: &Tensor) -> bool {
    let known = |of: &Tensor, before: &[Node]| {
        given.contains(&of.id()) || before.iter().any(|node| node.output.id() == of.id())
    };
    let closed = |i: usize| nodes[i].operands.iter().all(|operand| known(operand, &nodes[..i]));
    nodes.last().is_some_and(|last| last.output.id() == y.id()) && (0..nodes.len()).all(closed)
}

/// The gradients of whatever the nodes read. The call's output stands for the last node's, whose storage it took.
fn backward(nodes: &[Node], of_output: TensorId, call: &Call) -> Result<HashMap<TensorId, Tensor>> {
    let mut gradients = HashMap::from([(of_output, call.gradient.clone())]);
    for node in nodes.iter().rev() {
        let Some(gradient) = gradients.remove(&node.output.id()) else { continue };
        let output = if node.output.id() == of_output { call.output } else { &node.output };
        let gradient = &gradient.contiguous()?;
        let found = (node.backward)(&Call { operands: &node.operands, output, gradient })?;
        for (operand, gradient) in node.operands.iter().zip(found) {
            let Some(gradient) = gradient.filter(|_| operand.track_op()) else { continue };
            let sum = match gradients.remove(&operand.id()) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            gradients.insert(operand.id(), sum);
        }
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::super::collect_gradients;
    use super::*;
    use crate::gradcheck::{distance, values};
    use crate::slices::{CpuValues, tensor};

    /// `a b`, value by value.
    fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let times = |a: &Tensor, b: &Tensor| -> Result<Vec<f32>> {
            Ok(CpuValues::of(a)?.iter().zip(&*CpuValues::of(b)?).map(|(a, b)| a * b).collect())
        };
        Function::new("product", [a, b]).output(times(a, b)?, a.shape()).backward(move |call| {
            let (a, b, dy) = (&call.operands[0], &call.operands[1], call.gradient);
            Ok(vec![Some(tensor(times(b, dy)?, a.dims())?), Some(tensor(times(a, dy)?, a.dims())?)])
        })
    }

    /// `(a b a) (c d) e`: five operands, one of them used twice, and results that are used by others.
    fn products(t: &[Tensor]) -> Result<Tensor> {
        let left = product(&product(&t[0], &t[1])?, &t[0])?;
        product(&product(&left, &product(&t[2], &t[3])?)?, &t[4])
    }

    #[test]
    fn a_segment_has_the_values_and_gradients_of_its_functions() -> Result<()> {
        let vars = (0..5).map(|seed| Var::from_tensor(&values(&[3, 4], seed)?)).collect::<Result<Vec<_>>>()?;
        let mut t: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        t[0] = (&t[0] * 1.5)?;
        let plain = products(&t)?;
        let one = segment("products", &t.iter().collect::<Vec<_>>(), || products(&t))?.expect("a segment");
        assert_eq!(distance(&one, &plain)?, 0.);
        let [expected, got] = [&plain, &one].map(|y| collect_gradients(|| y.sqr()?.sum_all()?.backward()));
        let ((expected_store, expected), (store, collected)) = (expected?, got?);
        for (index, var) in vars.iter().enumerate() {
            let of = |store: &candle_core::backprop::GradStore, collected: &HashMap<TensorId, Tensor>| {
                store.get(var).or(collected.get(&var.id())).expect("a gradient").clone()
            };
            assert_eq!(distance(&of(&store, &collected), &of(&expected_store, &expected))?, 0., "operand {index}");
        }
        Ok(())
    }

    #[test]
    fn what_is_not_made_of_functions_is_no_segment() -> Result<()> {
        let x = Var::from_tensor(&values(&[3, 4], 0)?)?;
        let w = values(&[3, 4], 1)?;
        assert!(segment("f", &[&x, &w], || product(&x, &w)?.sqr())?.is_none(), "it ends with Candle's op");
        assert!(segment("f", &[&x, &w], || product(&x.sqr()?, &w))?.is_none(), "it starts with Candle's op");
        assert!(segment("f", &[&w], || product(&x, &w))?.is_none(), "it is not tracked");
        assert!(segment("f", &[&x], || x.narrow(0, 7, 1)).is_err());
        assert!(!records(), "also after an error");
        Ok(())
    }
}
