//! Collected gradients and checkpointing, on functions of this crate's operations and of Candle's.

use std::collections::HashMap;

use candle_core::{Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tallow_models::autograd::{checkpoint, collect_gradients};
use tallow_models::ops::{layer_norm, linear};

/// Values between -2 and 2, the same ones for the same shape and seed.
fn values(dims: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = dims.iter().product();
    Tensor::from_vec((0..count).map(|_| rng.random_range(-2f32..2.)).collect::<Vec<_>>(), dims, &Device::Cpu)
}

/// The largest difference over the largest value of the reference.
fn distance(got: &Tensor, reference: &Tensor) -> Result<f32> {
    let largest = |t: &Tensor| t.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok(largest(&(got - reference)?)? / largest(reference)?.max(1e-3))
}

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
        false => (loss.backward()?, HashMap::default()),
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
