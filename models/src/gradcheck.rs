//! What every operation is tested for: the kernel against the composition in float64, the composition against finite
//! differences, in contiguous and strided layouts, with some operands tracked and others not, twice with the same digits.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values between -2 and 2, the same ones for the same shape and seed.
pub fn values(dims: &[usize], seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = dims.iter().product();
    Tensor::from_vec((0..count).map(|_| rng.random_range(-2f32..2.)).collect::<Vec<_>>(), dims, &Device::Cpu)
}

/// How the operands of a check lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    /// One value after the other.
    Contiguous,
    /// Transposed, and starting at an offset.
    Strided,
}

struct Outcome {
    output: Tensor,
    /// The gradients of `Σ output · weights` for random weights; `None` where an operand was not tracked.
    gradients: Vec<Option<Tensor>>,
}

fn evaluate(
    op: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    operands: &[Tensor],
    tracked: &[bool],
    dtype: DType,
    lie: Lie,
) -> Result<Outcome> {
    let (mut leaves, mut views) = (vec![], vec![]);
    for (operand, &tracked) in operands.iter().zip(tracked) {
        let operand = operand.to_dtype(dtype)?;
        let leaf = match lie {
            Lie::Contiguous => operand,
            Lie::Strided => Tensor::cat(&[&operand.zeros_like()?, &operand], 0)?.t_or_self()?.contiguous()?,
        };
        let leaf = Var::from_tensor(&leaf)?;
        let base = if tracked { leaf.as_tensor().clone() } else { leaf.as_detached_tensor() };
        views.push(match lie {
            Lie::Contiguous => base,
            Lie::Strided => {
                let both = base.t_or_self()?;
                both.narrow(0, both.dim(0)? / 2, both.dim(0)? / 2)?
            }
        });
        leaves.push(leaf);
    }
    let output = op(&views)?;
    let weights = values(output.dims(), 99)?.to_dtype(dtype)?;
    // The weights come in as a transposed view: the kernels must not take gradients for contiguous.
    let weights = weights.t_or_self()?.contiguous()?.t_or_self()?;
    let store = (&output * &weights)?.sum_all()?.backward()?;
    let mut gradients = vec![];
    for leaf in &leaves {
        gradients.push(match (store.get(leaf.as_tensor()), lie) {
            (None, _) => None,
            (Some(g), Lie::Contiguous) => Some(g.detach()),
            (Some(g), Lie::Strided) => {
                let both = g.detach().t_or_self()?;
                Some(both.narrow(0, both.dim(0)? / 2, both.dim(0)? / 2)?)
            }
        });
    }
    Ok(Outcome { output: output.detach(), gradients })
}

trait Transposed: Sized {
    /// The last two dimensions swapped, where there are two.
    fn t_or_self(&self) -> Result<Self>;
}

impl Transposed for Tensor {
    fn t_or_self(&self) -> Result<Self> {
        if self.rank() < 2 { Ok(self.clone()) } else { self.t() }
    }
}

/// The largest difference over the largest value of the reference.
pub fn distance(got: &Tensor, reference: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), reference.dims());
    let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (got, reference) = (flat(got)?, flat(reference)?);
    let scale = reference.iter().fold(1e-3, |m: f64, x| m.max(x.abs()));
    let worst = got.iter().zip(&reference).map(|(a, b)| if a == b { 0. } else { (a - b).abs() });
    Ok(worst.fold(0., |m, d| if d.is_nan() || d > m { d } else { m }) / scale)
}

/// Checks `op` on operands of these shapes; see the head of this file.
pub fn check(what: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let operands = shapes.iter().enumerate().map(|(i, dims)| values(dims, i as u64)).collect::<Result<Vec<_>>>()?;
    check_on(what, &operands, op)
}

/// As [`check`], on given float32 operands.
pub fn check_on(what: &str, operands: &[Tensor], op: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    let what = format!("{what} on {:?}", operands.iter().map(|t| t.dims()).collect::<Vec<_>>());
    let all = vec![true; operands.len()];
    let exact = evaluate(&op, operands, &all, DType::F64, Lie::Contiguous)?;
    finite_differences(&what, &op, operands, &exact)?;
    for lie in [Lie::Contiguous, Lie::Strided] {
        let first = evaluate(&op, operands, &all, DType::F32, lie)?;
        let again = evaluate(&op, operands, &all, DType::F32, lie)?;
        let d = distance(&first.output, &exact.output)?;
        assert!(d < 3e-6, "{what}, {lie:?}: output differs by {d:e}");
        assert_eq!(distance(&again.output, &first.output)?, 0., "{what}, {lie:?}: another output the second time");
        for i in 0..operands.len() {
            let [g, e, a] = [&first, &exact, &again].map(|o| o.gradients[i].as_ref());
            let (g, e, a) = (g.expect("a gradient"), e.expect("a gradient"), a.expect("a gradient"));
            let d = distance(g, e)?;
            assert!(d < 1e-5, "{what}, {lie:?}: gradient of operand {i} differs by {d:e}");
            assert_eq!(distance(a, g)?, 0., "{what}, {lie:?}: another gradient of operand {i} the second time");
        }
        for i in 0..operands.len() {
            let tracked: Vec<bool> = (0..operands.len()).map(|j| j == i).collect();
            let alone = evaluate(&op, operands, &tracked, DType::F32, lie)?;
            for (j, gradient) in alone.gradients.iter().enumerate() {
                assert_eq!(gradient.is_some(), i == j, "{what}: gradient of operand {j} while {i} is tracked");
            }
            let (alone, together) = (&alone.gradients[i], &first.gradients[i]);
            let d = distance(alone.as_ref().expect("checked"), together.as_ref().expect("checked"))?;
            assert_eq!(d, 0., "{what}, {lie:?}: operand {i} has another gradient when it is tracked alone");
        }
    }
    Ok(())
}

/// Central differences in float64 along a few coordinates of every operand.
fn finite_differences(
    what: &str,
    op: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    operands: &[Tensor],
    exact: &Outcome,
) -> Result<()> {
    const STEP: f64 = 1e-5;
    let wide = operands.iter().map(|t| t.to_dtype(DType::F64)).collect::<Result<Vec<_>>>()?;
    let objective = |operands: &[Tensor]| -> Result<f64> {
        let output = op(operands)?;
        let weights = values(output.dims(), 99)?.to_dtype(DType::F64)?;
        (output * weights)?.sum_all()?.to_scalar::<f64>()
    };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for (i, operand) in wide.iter().enumerate() {
        let flat = operand.flatten_all()?.to_vec1::<f64>()?;
        let gradient = exact.gradients[i].as_ref().expect("a gradient").flatten_all()?.to_vec1::<f64>()?;
        for _ in 0..3 {
            let at = rng.random_range(0..flat.len());
            let moved = |by: f64| -> Result<f64> {
                let mut flat = flat.clone();
                flat[at] += by;
                let mut operands = wide.clone();
                operands[i] = Tensor::from_vec(flat, operand.dims(), &Device::Cpu)?;
                objective(&operands)
            };
            let slope = (moved(STEP)? - moved(-STEP)?) / (2. * STEP);
            let error = (slope - gradient[at]).abs() / slope.abs().max(1.);
            assert!(error < 1e-5, "{what}: operand {i} at {at}: slope {slope}, gradient {}", gradient[at]);
        }
    }
    Ok(())
}
