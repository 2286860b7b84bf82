//! Gradient checkpointing: a function whose backward computes it again instead of remembering what lay inside.
//!
//! Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Storage, Tensor, Var, bail};

use super::sink::collect;
use super::tickets::{Gradients, tickets};

/// `f(x)`, of which nothing is kept for the backward but `x`: there, `f` is computed once more.
///
/// `parameters` are the variables that `f` reads beside `x`; a gradient of any other tensor is lost. `f` has to give the
/// same values every time. Where there is nothing to save (no gradient is wanted, or a parameter is computed from others)
/// or no way to (Metal), this is `f(x)` and no more.
///
/// # Errors
/// Those of `f`.
pub fn checkpoint<F>(x: &Tensor, parameters: &[&Tensor], f: F) -> Result<Tensor>
where
    F: Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
{
    let tracked: Vec<&Tensor> = parameters.iter().copied().filter(|parameter| parameter.track_op()).collect();
    let wanted = x.track_op() || !tracked.is_empty();
    if !wanted || x.device().is_metal() || tracked.iter().any(|parameter| !parameter.is_variable()) {
        return f(x);
    }
    let y = f(&x.detach())?.detach();
    let whole = y.layout().contiguous_offsets().is_some_and(|(start, _)| start == 0);
    let y = if whole { y } else { y.force_contiguous()? };
    let gradients = Gradients::default();
    let tickets = match tickets(&tracked.iter().copied().map(Some).collect::<Vec<_>>(), &gradients)? {
        Some(tickets) => tickets,
        None => Tensor::zeros(1, DType::F32, x.device())?,
    };
    let parameters = tracked.into_iter().cloned().collect();
    x.apply_op2(&tickets, Checkpoint { f, y: Mutex::new(Some(y)), parameters, gradients })
}

struct Checkpoint<F> {
    f: F,
    /// What the forward gives, until it has given it.
    y: Mutex<Option<Tensor>>,
    parameters: Vec<Tensor>,
    gradients: Gradients,
}

impl<F> Checkpoint<F> {
    fn output(&self) -> Result<(Storage, Shape)> {
        let y = self.y.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(y) = y else { bail!("a checkpoint's forward ran twice") };
        let (storage, layout) = y.storage_and_layout();
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> CustomOp2 for Checkpoint<F> {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.output()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("a checkpoint's output left the device of its input"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        match self.output()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("a checkpoint's output left the device of its input"),
        }
    }

    fn bwd(&self, x: &Tensor, tickets: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let leaf = x.track_op().then(|| Var::from_tensor(x)).transpose()?;
        let y = (self.f)(&leaf.as_ref().map_or_else(|| x.detach(), |leaf| leaf.as_tensor().clone()))?;
        let (store, mut kept) = collect(|| y.apply_op1(Seed(dy.clone()))?.backward())?;
        let mut gradient = |of: &Tensor| match (store.get(of), kept.remove(&of.id())) {
            (Some(one), Some(other)) => (one + other).map(Some),
            (one, other) => Ok(one.cloned().or(other)),
        };
        for (index, parameter) in self.parameters.iter().enumerate() {
            let gradient = gradient(parameter)?.map_or_else(|| parameter.zeros_like(), Ok)?;
            self.gradients.leave(index, gradient.detach());
        }
        let dx = match &leaf {
            Some(leaf) => gradient(leaf)?.map(|dx| dx.detach()),
            None => None,
        };
        Ok((dx, tickets.track_op().then(|| tickets.zeros_like()).transpose()?))
    }
}

/// A number whose gradient in its operand is what it holds: where a backward inside a backward starts.
struct Seed(Tensor);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.]), Shape::from(())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, y: &candle_core::CudaStorage, _: &Layout) -> Result<(candle_core::CudaStorage, Shape)> {
        super::cuda::unread(y, ())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::check::{distance, values};
    use super::super::{layer_norm, linear};
    use super::*;

    /// Something of this crate's ops and of Candle's: `(norm(x) Wᵀ + b)² · w`, whose `w` is used twice.
    fn f(x: &Tensor, p: &[Tensor]) -> Result<Tensor> {
        let y = linear(&layer_norm(x, &p[0], &p[1], 1e-6)?, &p[2], Some(&p[3]))?.sqr()?;
        y.broadcast_mul(&p[0])
    }

    fn gradients(checkpointed: bool, collected: bool, tracked: [bool; 5]) -> Result<Vec<Option<Tensor>>> {
        let vars = [&[3, 5, 8][..], &[8], &[8], &[8, 8], &[8]]
            .iter()
            .enumerate()
            .map(|(i, dims)| Var::from_tensor(&values(dims, i as u64)?))
            .collect::<Result<Vec<_>>>()?;
        let as_told = |i: usize| if tracked[i] { vars[i].as_tensor().clone() } else { vars[i].as_detached_tensor() };
        let (x, p): (_, Vec<Tensor>) = (as_told(0), (1..5).map(as_told).collect());
        // The variable `x` as the output of an op, as it is inside a model.
        let x = (x * 1.5)?;
        let y = match checkpointed {
            true => {
                let inside = p.clone();
                checkpoint(&x, &p.iter().collect::<Vec<_>>(), move |x| f(x, &inside))?
            }
            false => f(&x, &p)?,
        };
        let loss = (y * values(&[3, 5, 8], 9)?)?.sum_all()?;
        let (store, mut kept) = match collected {
            true => collect(|| loss.backward())?,
            false => (loss.backward()?, Default::default()),
        };
        vars.iter()
            .map(|var| match (store.get(var), kept.remove(&var.id())) {
                (Some(one), Some(other)) => (one + other).map(Some),
                (one, other) => Ok(one.cloned().or(other)),
            })
            .collect()
    }

    #[test]
    fn gradients_are_those_without_it() -> Result<()> {
        for tracked in [[true; 5], [false, true, true, false, true], [true, false, false, false, false]] {
            for collected in [false, true] {
                let (with, without) = (gradients(true, collected, tracked)?, gradients(false, collected, tracked)?);
                for (with, without) in with.iter().zip(&without) {
                    assert_eq!(with.is_some(), without.is_some(), "{tracked:?}");
                    if let (Some(with), Some(without)) = (with, without) {
                        assert!(distance(with, without)? < 1e-6, "{tracked:?}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn a_checkpoint_remembers_nothing_and_computes_again() -> Result<()> {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = |calls: Arc<AtomicUsize>| {
            move |x: &Tensor| {
                calls.fetch_add(1, Ordering::Relaxed);
                x.sqr()
            }
        };
        let x = Var::new(&[3f32, -2.], &Device::Cpu)?;
        let y = checkpoint(&x, &[], counted(calls.clone()))?;
        assert_eq!((y.to_vec1::<f32>()?, calls.load(Ordering::Relaxed)), (vec![9., 4.], 1));
        assert_eq!(y.sum_all()?.backward()?.get(&x).expect("a gradient").to_vec1::<f32>()?, [6., -4.]);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        // Without a gradient to compute there is no second time, and no history.
        assert!(!checkpoint(&x.as_detached_tensor(), &[], counted(calls.clone()))?.track_op());
        Ok(())
    }
}
