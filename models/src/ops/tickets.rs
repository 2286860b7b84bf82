//! Parameters of an op beyond the three operands that Candle's custom ops have.
//!
//! Every parameter that needs a gradient is represented by a ticket, a number that depends on it. The op takes the tickets
//! as one operand; its backward leaves the gradients of the parameters where the backwards of the tickets, which Candle
//! runs later, find them.

use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::sink::hand_over;

/// Where an op's backward leaves the gradients of its parameters.
#[derive(Clone, Default)]
pub(super) struct Gradients(Arc<Mutex<Vec<Option<Tensor>>>>);

impl Gradients {
    /// Leaves the gradient of parameter `index`.
    pub fn leave(&self, index: usize, gradient: Tensor) {
        let mut slots = self.lock();
        if slots.len() <= index {
            slots.resize(index + 1, None);
        }
        slots[index] = Some(gradient);
    }

    fn take(&self, index: usize) -> Option<Tensor> {
        self.lock().get_mut(index)?.take()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Tensor>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The tickets of those parameters that need a gradient, as one tensor; none if no parameter does.
pub(super) fn tickets(parameters: &[Option<&Tensor>], gradients: &Gradients) -> Result<Option<Tensor>> {
    let mut tickets = vec![];
    for (index, parameter) in parameters.iter().enumerate() {
        if let Some(parameter) = parameter.filter(|parameter| parameter.track_op()) {
            tickets.push(parameter.apply_op1(Ticket { index, gradients: gradients.clone() })?);
        }
    }
    if tickets.is_empty() { Ok(None) } else { Tensor::cat(&tickets, 0).map(Some) }
}

struct Ticket {
    index: usize,
    gradients: Gradients,
}

impl CustomOp1 for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.]), Shape::from(1)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, parameter: &candle_core::CudaStorage, _: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::zero(parameter, 1)
    }

    fn bwd(&self, parameter: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        match self.gradients.take(self.index) {
            Some(gradient) => hand_over(parameter, gradient),
            None => bail!("a ticket's backward before that of the op that it was for"),
        }
    }
}
