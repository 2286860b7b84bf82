//! How an output that is computed becomes a function of its operands for Candle: as the output of a custom op that hands over
//! a storage instead of computing one.
//!
//! Candle's custom ops have up to three operands. Of more, the op takes two and a ticket: a value that is never read, which is
//! itself an output attached to the others. The op's backward leaves their gradients where the backward of the ticket, which
//! Candle runs later, finds them.

use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Storage, Tensor, bail};

use super::storage::unread;

/// The gradients of the operands, from the output and its gradient.
pub(super) type Gradients = Box<dyn Fn(&Tensor, &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// `output` as a function of one or more `operands`, all of which need a gradient.
pub(super) fn attach(
    name: &'static str,
    operands: &[Tensor],
    output: (Storage, Shape),
    gradients: Gradients,
) -> Result<Tensor> {
    let attached = |gradients| Attached { name, output: Mutex::new(Some(output)), gradients };
    match operands {
        [] => bail!("{name}: expected at least one operand"),
        [a] => a.apply_op1(attached(gradients)),
        [a, b] => a.apply_op2(b, attached(gradients)),
        [a, b, c] => a.apply_op3(b, c, attached(gradients)),
        [a, b, others @ ..] => {
            let left = Arc::new(Mutex::new(vec![]));
            let of_others = left.clone();
            let take = move || std::mem::take(&mut *of_others.lock().unwrap_or_else(PoisonError::into_inner));
            let ticket = attach_ticket(others, a.device(), take)?;
            let unread = ticket.detach();
            a.apply_op3(
                b,
                &ticket,
                attached(Box::new(move |output, gradient| {
                    let mut own = gradients(output, gradient)?;
                    *left.lock().unwrap_or_else(PoisonError::into_inner) = own.split_off(2);
                    own.push(Some(unread.clone()));
                    Ok(own)
                })),
            )
        }
    }
}

/// A ticket for `operands`, whose gradients are there to be taken once its backward runs.
fn attach_ticket(
    operands: &[Tensor],
    device: &Device,
    take: impl Fn() -> Vec<Option<Tensor>> + Send + Sync + 'static,
) -> Result<Tensor> {
    attach("ticket", operands, (unread(device)?, 1.into()), Box::new(move |_, _| Ok(take())))
}

/// The custom op: it gives the output that it was made with.
struct Attached {
    name: &'static str,
    output: Mutex<Option<(Storage, Shape)>>,
    gradients: Gradients,
}

impl Attached {
    /// The output, which there is once: Candle runs an op's forward when it is applied, and never again.
    fn output(&self) -> Result<(Storage, Shape)> {
        match self.output.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(output) => Ok(output),
            None => bail!("{}: a second forward of one op", self.name),
        }
    }

    fn on_the_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.output()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("{}: expected an output on the CPU, where the operands are", self.name),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.output()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("{}: expected an output on CUDA, where the operands are", self.name),
        }
    }

    fn gradients<const N: usize>(&self, output: &Tensor, gradient: &Tensor) -> Result<[Option<Tensor>; N]> {
        let mut found = (self.gradients)(output, gradient)?.into_iter();
        Ok(std::array::from_fn(|_| found.next().flatten()))
    }
}

impl CustomOp1 for Attached {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_the_cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [a] = self.gradients(y, dy)?;
        Ok(a)
    }
}

impl CustomOp2 for Attached {
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.on_the_cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(y, dy).map(<[_; 2]>::into)
    }
}

impl CustomOp3 for Attached {
    fn name(&self) -> &'static str {
        self.name
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
        self.on_the_cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients(y, dy).map(<[_; 3]>::into)
    }
}
