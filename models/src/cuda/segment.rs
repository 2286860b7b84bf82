//! Several kernels as one op, whose backward goes from one to the next by itself: Candle's would allocate zeros for the gradient of every
//! result in between, and add to them, which are four passes over memory where none is needed.

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::backend::BackendDevice;
use candle_core::{CpuStorage, CudaStorage, DType, InplaceOp1, Layout, Result, Shape, Tensor, TensorId, bail};

use super::launch::{Node, Output, device_of, graft, recorded};
use crate::ops::sink::{aside, hand_over};
use crate::ops::tickets::{Gradients, tickets};

/// `f()`, a function of `x` and of these parameters and of nothing else that has a gradient. None where it cannot be one op: no
/// gradient is wanted, or something in it is no kernel of this crate.
pub fn segment(
    name: &'static str,
    x: &Tensor,
    parameters: &[Option<&Tensor>],
    f: impl FnOnce() -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    // One parameter is an operand itself, which saves a ticket.
    let own = parameters.iter().flatten().copied().find(|parameter| parameter.track_op());
    let gradients = Gradients::default();
    let others: Vec<_> = parameters
        .iter()
        .map(|parameter| parameter.filter(|parameter| own.is_none_or(|own| own.id() != parameter.id())))
        .collect();
    let Some(device) = device_of(x).filter(|_| x.track_op() || own.is_some()) else { return Ok(None) };
    let tickets = tickets(&others, &gradients)?;
    let (y, nodes) = recorded(f)?;
    let given: Vec<TensorId> = parameters.iter().flatten().map(|parameter| parameter.id()).chain([x.id()]).collect();
    if !is_closed(&given, &nodes, &y) {
        return Ok(None);
    }
    let output = Output::of(taken(&y)?, y.shape());
    let others: Vec<_> = others.iter().map(|parameter| parameter.map(Tensor::id)).collect();
    let (of_x, of_y, of_tickets) = (x.id(), y.id(), tickets.as_ref().map(Tensor::id));
    let operands: Vec<_> = [Some(x).filter(|x| x.track_op()), own, tickets.as_ref()].into_iter().flatten().collect();
    let device = device.clone();
    graft(name, &operands, output, move |operands, y, dy| {
        let mut found = aside(|| backward(&nodes, (of_y, y), dy))?;
        for (index, id) in others.iter().enumerate() {
            if let Some(gradient) = id.and_then(|id| found.remove(&id)) {
                gradients.leave(index, gradient);
            }
        }
        let of = |operand: &&Tensor| match (operand.id(), found.remove(&operand.id())) {
            // A number that nobody reads.
            (id, _) if Some(id) == of_tickets => Ok(Some(Output::new(&device, DType::F32, 1)?.tensor())),
            (id, gradient) if id == of_x => Ok(gradient),
            (_, Some(gradient)) => hand_over(operand, gradient),
            (_, None) => Ok(None),
        };
        operands.iter().map(of).collect()
    })
    .map(Some)
}

/// Whether the nodes read nothing but what is given and each other's outputs, and end with `y`.
fn is_closed(given: &[TensorId], nodes: &[Node], y: &Tensor) -> bool {
    let known = |of: &Tensor, before: &[Node]| {
        given.contains(&of.id()) || before.iter().any(|node| node.output.id() == of.id())
    };
    let closed = |i: usize| nodes[i].operands.iter().all(|operand| known(operand, &nodes[..i]));
    nodes.last().is_some_and(|last| last.output.id() == y.id()) && (0..nodes.len()).all(closed)
}

/// The gradients of whatever the nodes read, from that of the last output, `y`.
fn backward(nodes: &[Node], (of_y, y): (TensorId, &Tensor), dy: &Tensor) -> Result<HashMap<TensorId, Tensor>> {
    let mut gradients = HashMap::from([(of_y, dy.clone())]);
    for node in nodes.iter().rev() {
        let Some(dy) = gradients.remove(&node.output.id()) else { continue };
        let output = if node.output.id() == of_y { y } else { &node.output };
        let operands: Vec<&Tensor> = node.operands.iter().collect();
        let found = (node.backward)(&operands, output, &dy.contiguous()?)?;
        for (operand, gradient) in operands.iter().zip(found) {
            let Some(gradient) = gradient else { continue };
            let sum = match gradients.remove(&operand.id()) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            gradients.insert(operand.id(), sum);
        }
    }
    Ok(gradients)
}

/// The storage of a tensor that nobody reads any more.
fn taken(tensor: &Tensor) -> Result<CudaStorage> {
    let taking = Taking(Mutex::new(None));
    tensor.inplace_op1(&taking)?;
    match taking.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(storage) => Ok(storage),
        None => bail!("a kernel's output without storage"),
    }
}

/// Leaves a single value in place of a storage.
struct Taking(Mutex<Option<CudaStorage>>);

impl InplaceOp1 for Taking {
    fn name(&self) -> &'static str {
        "taking"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("a CUDA kernel's output on the CPU")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        // SAFETY: nobody reads it.
        let value = unsafe { storage.device.alloc_uninit(&Shape::from(1), DType::U8)? };
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(std::mem::replace(storage, value));
        Ok(())
    }
}
