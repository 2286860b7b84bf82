//! Gradient checkpointing: a function whose backward computes it again instead of remembering what lay inside.
//!
//! Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

use candle_core::{Result, Tensor, Var};

use super::collected::collect_gradients;
use super::function::{Call, Function};
use super::storage::{take_storage, unread};

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
    let function = Function::new("checkpoint", [x].into_iter().chain(tracked.iter().copied()));
    let computed = tracked.iter().any(|parameter| !parameter.is_variable());
    if !function.is_tracked() || x.device().is_metal() || computed {
        return f(x);
    }
    // A copy, since what `f` gives may be a view, or `x` itself.
    let y = f(&x.detach())?.detach().force_contiguous()?;
    function.output(take_storage(&y)?, y.shape()).backward(move |call| again(&f, call))
}

/// The gradients by a second pass through `f`, whose history lasts no longer than this.
fn again(f: impl Fn(&Tensor) -> Result<Tensor>, call: &Call) -> Result<Vec<Option<Tensor>>> {
    let [x, parameters @ ..] = call.operands else { return Ok(vec![]) };
    let leaf = call.wants(0).then(|| Var::from_tensor(x)).transpose()?;
    let y = f(&leaf.as_ref().map_or_else(|| x.detach(), |leaf| leaf.as_tensor().clone()))?;
    let (store, mut collected) = collect_gradients(|| start(&y, call.gradient)?.backward())?;
    let mut gradient = |of: &Tensor| match (store.get(of), collected.remove(&of.id())) {
        (None, None) => of.zeros_like(),
        (Some(one), Some(other)) => one + other,
        (Some(one), None) => Ok(one.clone()),
        (None, Some(one)) => Ok(one),
    };
    let dx = leaf.map(|leaf| gradient(&leaf)).transpose();
    let rest = parameters.iter().map(|parameter| gradient(parameter).map(Some));
    [dx].into_iter().chain(rest).map(|gradient| Ok(gradient?.map(|gradient| gradient.detach()))).collect()
}

/// A value whose backward starts with this gradient of `y`.
fn start(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    let gradient = gradient.clone();
    let function = Function::new("start", [y]).output(unread(y.device())?, 1);
    function.backward(move |_| Ok(vec![Some(gradient.clone())]))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::gradcheck::{distance, values};
    use crate::ops::{layer_norm, linear};

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
            true => collect_gradients(|| loss.backward())?,
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
    fn a_checkpoint_inside_a_checkpoint_gives_the_same_gradients() -> Result<()> {
        let shapes: [&[usize]; 5] = [&[3, 5, 8], &[8], &[8], &[8, 8], &[8]];
        let vars = shapes.iter().zip(0..).map(|(dims, seed)| Var::from_tensor(&values(dims, seed)?));
        let vars = vars.collect::<Result<Vec<_>>>()?;
        let p: Vec<Tensor> = vars[1..].iter().map(|var| var.as_tensor().clone()).collect();
        let nested = {
            let (outside, inside) = (p.clone(), p.clone());
            checkpoint(&vars[0], &p.iter().collect::<Vec<_>>(), move |x| {
                let inside = inside.clone();
                f(&checkpoint(x, &outside.iter().collect::<Vec<_>>(), move |x| f(x, &inside))?, &outside)
            })?
        };
        let plain = f(&f(&vars[0], &p)?, &p)?;
        assert_eq!(distance(&nested, &plain)?, 0.);
        let [got, expected] = [nested, plain].map(|y| y.sum_all()?.backward());
        let (got, expected) = (got?, expected?);
        for var in &vars {
            assert!(distance(got.get(var).expect("a gradient"), expected.get(var).expect("a gradient"))? < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn a_view_of_the_input_stays_what_it_is() -> Result<()> {
        let x = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
        let y = checkpoint(&x, &[], |x| x.narrow(0, 1, 1))?;
        assert_eq!((y.to_vec2::<f32>()?, x.to_vec2::<f32>()?), (vec![vec![3., 4.]], vec![vec![1., 2.], vec![3., 4.]]));
        assert_eq!(y.sum_all()?.backward()?.get(&x).expect("a gradient").to_vec2::<f32>()?, [[0., 0.], [1., 1.]]);
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
