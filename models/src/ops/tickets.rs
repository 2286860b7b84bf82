//! Parameters of an op beyond the three operands that Candle's custom ops have.
//!
//! Those that need a gradient are represented by tickets: numbers that depend on three of them or, after the first, on two and
//! the ticket before. The op takes the last ticket as one operand; its backward leaves the gradients of the parameters where the
//! backwards of the tickets, which Candle runs later, find them.

use std::sync::{Arc, Mutex, MutexGuard};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::autograd::hand_over;

/// Where an op's backward leaves the gradients of its parameters.
#[derive(Clone, Default)]
pub(crate) struct Gradients(Arc<Mutex<Vec<Option<Tensor>>>>);

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

/// A tensor that depends on those parameters that need a gradient; none if no parameter does.
pub(crate) fn tickets(parameters: &[Option<&Tensor>], gradients: &Gradients) -> Result<Option<Tensor>> {
    let wanted = |(index, parameter): (usize, &Option<&Tensor>)| {
        parameter.filter(|parameter| parameter.track_op()).map(|parameter| (index, parameter.clone()))
    };
    let mut rest: Vec<_> = parameters.iter().enumerate().filter_map(wanted).collect();
    let mut last: Option<Tensor> = None;
    while !rest.is_empty() {
        let room = OPERANDS - usize::from(last.is_some());
        let own = rest.split_off(rest.len().saturating_sub(room));
        let (indices, own): (Vec<_>, Vec<_>) = own.into_iter().unzip();
        let operands: Vec<Tensor> = own.into_iter().chain(last).collect();
        let ticket = Ticket { indices, gradients: gradients.clone() };
        last = Some(match &operands[..] {
            [a] => a.apply_op1(ticket)?,
            [a, b] => a.apply_op2(b, ticket)?,
            [a, b, c] => a.apply_op3(b, c, ticket)?,
            _ => unreachable!("no more than Candle's ops take"),
        });
    }
    Ok(last)
}

/// Operands of a custom op of Candle's.
const OPERANDS: usize = 3;

/// Stands for some parameters and, where there is one more operand, for those of the ticket before it.
struct Ticket {
    indices: Vec<usize>,
    gradients: Gradients,
}

impl Ticket {
    /// The gradients of the parameters, which were left for them; the ticket before is told to go on.
    fn backward<const N: usize>(&self, operands: [&Tensor; N], dy: &Tensor) -> Result<[Option<Tensor>; N]> {
        let mut found = [const { None }; N];
        for (i, (found, operand)) in found.iter_mut().zip(operands).enumerate() {
            *found = match self.indices.get(i) {
                Some(&index) => match self.gradients.take(index) {
                    Some(gradient) => hand_over(operand, gradient)?,
                    None => bail!("a ticket's backward before that of the op that it was for"),
                },
                None => Some(dy.clone()),
            };
        }
        Ok(found)
    }
}

/// A number that nobody reads.
fn nothing() -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(vec![0.]), Shape::from(1)))
}

impl CustomOp1 for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        nothing()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        crate::cuda::unread(a, 1)
    }

    fn bwd(&self, a: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.backward([a], dy)?;
        Ok(a)
    }
}

impl CustomOp2 for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        nothing()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, a: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        crate::cuda::unread(a, 1)
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(self.backward([a, b], dy)?.into())
    }
}

impl CustomOp3 for Ticket {
    fn name(&self) -> &'static str {
        "ticket"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        nothing()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        crate::cuda::unread(a, 1)
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok(self.backward([a, b, c], dy)?.into())
    }
}
