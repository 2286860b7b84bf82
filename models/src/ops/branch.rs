//! A residual branch of a transformer's block as one op: `x + keep · gamma · (second(middle(first(norm(x)))))`, where the
//! middle is attention or an activation.
//!
//! One op instead of six saves what lies between them: Candle's sum for every gradient, and what the kernel does without
//! ([`tallow_kernels::residual_branch`]).

use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor, bail};
use tallow_kernels::matmul::{Packed, computes_integers};
use tallow_kernels::residual_branch::{
    self as kernel, Each, Input, Kept, NormalRows, Parameters, ResidualBranch, Sizes,
};

use super::attention::check_heads;
use super::gelu::Gelu;
use super::linear::linear;
use super::{attention_qkv, layer_norm, scale_add};
use crate::autograd::{Call, Function, release};
use crate::slices::{CpuValues, serves, tensor};

/// What lies between the two linear layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Middle {
    /// Self-attention of so many heads; the first layer gives q, k and v behind one another.
    Attention(usize),
    /// An activation.
    Activation(Gelu),
}

/// What a branch computes of its normalised input.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a> {
    /// Weight `[hidden, dim]` and bias of the first linear layer.
    pub first: (&'a Tensor, Option<&'a Tensor>),
    /// What lies between the layers.
    pub middle: Middle,
    /// Weight `[dim, hidden]` (`[dim, hidden / 3]` after attention) and bias of the second linear layer.
    pub second: (&'a Tensor, Option<&'a Tensor>),
}

/// A branch's weights as matrix products read them, kept from one forward pass to the next. They are packed by the second
/// pass, so that one pass alone needs no memory for it, or by the first if they are rounded to integers, so that all passes give
/// the same; and they must not change from then on. Clones share what is packed.
#[derive(Clone, Default)]
pub struct Prepacked(Arc<Mutex<Packing>>);

#[derive(Default)]
enum Packing {
    #[default]
    New,
    /// There was a pass.
    Used,
    /// Both weights, the second with LayerScale in it; none where they are read as they are.
    Packed(Option<[Packed<'static>; 2]>),
}

impl std::fmt::Debug for Prepacked {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Prepacked").finish_non_exhaustive()
    }
}

impl Prepacked {
    /// What is kept, or what `pack` gives by the second pass.
    fn get(&self, pack: impl FnOnce() -> Option<[Packed<'static>; 2]>) -> Option<[Packed<'static>; 2]> {
        let mut packing = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*packing {
            Packing::New if !computes_integers() => *packing = Packing::Used,
            Packing::New | Packing::Used => *packing = Packing::Packed(pack()),
            Packing::Packed(_) => (),
        }
        match &*packing {
            Packing::Packed(Some(packed)) if packed.iter().all(Packed::is_current) => Some(packed.clone()),
            _ => None,
        }
    }
}

/// A residual branch.
#[derive(Debug, Clone, Copy)]
pub struct Branch<'a> {
    /// Weight and bias `[dim]` of the layer norm.
    pub norm: (&'a Tensor, &'a Tensor),
    /// Added to its variance.
    pub eps: f64,
    /// What is computed of that.
    pub inner: Inner<'a>,
    /// LayerScale, `[dim]`.
    pub gamma: Option<&'a Tensor>,
    /// A factor for every sample, `[batch]`, as in [`scale_add`]; it has no gradient.
    pub keep: Option<&'a Tensor>,
    /// Where the packed weights are kept between passes that record no history, on a CPU.
    pub prepacked: Option<&'a Prepacked>,
}

/// Adds a residual branch to `x [batch, tokens, dim]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn branch(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    added(x, branch, false)
}

/// The same for values that nobody reads any more, neither by another tensor that shares them nor in the backward of what `x` was computed
/// by: where the backward of the branch has something smaller in their place, they are given up.
///
/// # Errors
/// As there.
pub(crate) fn branch_last(x: Tensor, branch: &Branch) -> Result<Tensor> {
    added(&x, branch, true)
}

fn added(x: &Tensor, branch: &Branch, last: bool) -> Result<Tensor> {
    let parameters = branch.parameters();
    let (batch, tokens, dim) = x.dims3()?;
    let hidden = branch.inner.first.0.dim(0)?;
    let inner = if let Middle::Attention(_) = branch.inner.middle { hidden / 3 } else { hidden };
    let given = parameters.iter().flatten().copied();
    if !serves(given.chain([x])) || batch * tokens * dim * inner == 0 {
        return composed(x, branch);
    }
    let expected: [&[usize]; PARAMETERS] = [&[dim], &[dim], &[hidden, dim], &[hidden], &[dim, inner], &[dim], &[dim]];
    for ((name, parameter), expected) in NAMES.iter().zip(&parameters).zip(expected) {
        if let Some(parameter) = parameter.filter(|parameter| parameter.dims() != expected) {
            bail!("branch: expected {name} {expected:?} for x {:?}, got {:?}", x.dims(), parameter.dims())
        }
    }
    if let Middle::Attention(heads) = branch.inner.middle {
        check_heads(inner, heads)?;
        if hidden != 3 * inner {
            bail!("branch: expected a first layer of 3 * heads * d rows before attention, got {hidden}")
        }
    }
    let keep = match branch.keep {
        Some(keep) if keep.dims() != [batch] => {
            bail!("branch: expected keep [{batch}] for x {:?}, got {:?}", x.dims(), keep.dims())
        }
        Some(keep) => Some(keep.to_dtype(x.dtype())?.to_vec1()?),
        None => None,
    };
    let sizes = Sizes { batch, tokens, dim, hidden, inner };
    let middle = match branch.inner.middle {
        Middle::Attention(heads) => kernel::Middle::Attention(heads),
        Middle::Activation(gelu) => kernel::Middle::Activation(gelu.kernel()),
    };
    let fused_branch = ResidualBranch::new(sizes, branch.eps as f32, middle, keep);
    fused(fused_branch, (x, last), &parameters, branch.prepacked)
}

/// Of the other ops; on CUDA as one op.
fn composed(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let operands: Vec<_> = [x].into_iter().chain(branch.parameters().into_iter().flatten()).collect();
        if let Some(y) = crate::autograd::segment("branch", &operands, || chained(x, branch))? {
            return Ok(y);
        }
    }
    chained(x, branch)
}

fn chained(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    let y = layer_norm(x, branch.norm.0, branch.norm.1, branch.eps)?;
    let y = match branch.inner.middle {
        Middle::Attention(heads) => attention_qkv(&linear(&y, branch.inner.first.0, branch.inner.first.1)?, heads)?,
        Middle::Activation(gelu) => activated(&y, branch.inner.first, gelu)?,
    };
    scale_add(x, &linear(&y, branch.inner.second.0, branch.inner.second.1)?, branch.gamma, branch.keep)
}

/// A linear layer and an activation; on CUDA the activation's kernel adds the bias.
fn activated(x: &Tensor, (w, b): (&Tensor, Option<&Tensor>), gelu: Gelu) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let (true, Some(b)) = (x.device().is_cuda(), b) {
        let y = linear(x, w, None)?;
        return match super::cuda::activation(&y, Some(b), gelu.name(), |x| gelu.composed(x))? {
            Some(y) => Ok(y),
            None => gelu.apply(&y.broadcast_add(&b.to_dtype(y.dtype())?)?),
        };
    }
    gelu.apply(&linear(x, w, b)?)
}

const PARAMETERS: usize = 7;
const NAMES: [&str; PARAMETERS] =
    ["norm.weight", "norm.bias", "first.weight", "first.bias", "second.weight", "second.bias", "gamma"];

impl<'a> Branch<'a> {
    /// In the order of [`NAMES`].
    fn parameters(&self) -> [Option<&'a Tensor>; PARAMETERS] {
        let ((norm_w, norm_b), (first_w, first_b), (second_w, second_b)) =
            (self.norm, self.inner.first, self.inner.second);
        [Some(norm_w), Some(norm_b), Some(first_w), first_b, Some(second_w), second_b, self.gamma]
    }
}

/// Which of the operands behind `x` is which parameter, in the order of [`NAMES`].
type Places = [Option<usize>; PARAMETERS];

fn fused(
    branch: ResidualBranch,
    (x, last): (&Tensor, bool),
    parameters: &[Option<&Tensor>; PARAMETERS],
    prepacked: Option<&Prepacked>,
) -> Result<Tensor> {
    // A view's values are others' as well.
    let last = last && x.is_contiguous() && x.track_op() && !x.is_variable();
    let x = x.contiguous()?;
    let mut operands = vec![x.clone()];
    let mut places = [None; PARAMETERS];
    for (parameter, place) in parameters.iter().zip(&mut places) {
        if let Some(parameter) = parameter {
            *place = Some(operands.len() - 1);
            operands.push(parameter.contiguous()?);
        }
    }
    let function = Function::new("branch", &operands);
    let prepacked = prepacked.filter(|_| !function.is_tracked());
    let (y, kept, rows) = {
        let x = CpuValues::of(&x)?;
        let values = operands[1..].iter().map(CpuValues::of).collect::<Result<Vec<_>>>()?;
        let parameters = parameters_of(&values, &places);
        if last {
            branch.forward_last(&x, &parameters)
        } else {
            let packed = prepacked.and_then(|prepacked| prepacked.get(|| branch.pack(&parameters)));
            let (y, kept) = branch.forward(&x, &parameters, packed.as_ref());
            (y, kept, None)
        }
    };
    if rows.is_some() {
        release(x.clone())?;
    }
    let function = function.output(y, x.shape());
    function.backward_once(kept, move |call, kept| gradients(&branch, call, &places, (kept, rows.as_ref())))
}

/// The gradients of the operands: `x`, and the parameters.
fn gradients(
    branch: &ResidualBranch,
    call: &Call,
    places: &Places,
    (kept, rows): (Option<Kept>, Option<&NormalRows>),
) -> Result<Vec<Option<Tensor>>> {
    let [x, parameters @ ..] = call.operands else { bail!("branch: no operands") };
    let values = parameters.iter().map(CpuValues::of).collect::<Result<Vec<_>>>()?;
    let wants = |place: Option<usize>| place.is_some_and(|place| call.wants(1 + place));
    let [norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma] = places.map(wants);
    let wanted =
        Each { x: call.wants(0), norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma };
    let x_values;
    let input = match rows {
        Some(rows) => Input::Normal(rows),
        None => {
            x_values = CpuValues::of(x)?;
            Input::Values(&x_values)
        }
    };
    let dy = CpuValues::of(call.gradient)?;
    let found = branch.backward((input, &dy), &parameters_of(&values, places), kept, wanted);
    let of_operand = |gradient: Option<Vec<f32>>, operand: &Tensor| {
        gradient.map(|gradient| tensor(gradient, operand.dims())).transpose()
    };
    let mut gradients = vec![of_operand(found.x, x)?];
    let found = [
        found.norm_weight,
        found.norm_bias,
        found.first_weight,
        found.first_bias,
        found.second_weight,
        found.second_bias,
        found.gamma,
    ];
    for (place, gradient) in places.iter().zip(found) {
        if let Some(place) = *place {
            gradients.push(of_operand(gradient, &parameters[place])?);
        }
    }
    Ok(gradients)
}

fn parameters_of<'a>(values: &'a [CpuValues], places: &Places) -> Parameters<'a> {
    let given = |name: usize| places[name].map(|place| &*values[place]);
    let always = |name: usize| given(name).unwrap_or_default();
    Parameters {
        norm: (always(0), always(1)),
        first: (always(2), given(3)),
        second: (always(4), given(5)),
        gamma: given(6),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

    const SIZES: [(usize, usize, usize, usize); 3] = [(1, 1, 4, 6), (2, 5, 8, 24), (3, 17, 32, 48)];

    fn run(t: &[Tensor], middle: Middle, keep: Option<&Tensor>) -> Result<Tensor> {
        // Weights of a size at which softmax does not settle on one token, which float32 could not follow.
        let first = (&t[3] * 0.25)?;
        let inner = Inner { first: (&first, Some(&t[4])), middle, second: (&t[5], Some(&t[6])) };
        let parts = Branch { norm: (&t[1], &t[2]), eps: 1e-6, inner, gamma: t.get(7), keep, prepacked: None };
        branch(&t[0], &parts)
    }

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        let keep = Tensor::new(&[0f32, 1.25, 1.25], &Device::Cpu)?;
        for (batch, tokens, dim, hidden) in SIZES {
            let keep = &keep.narrow(0, 3 - batch, batch)?;
            for (middle, hidden, inner) in [
                (Middle::Attention(2), 3 * hidden, hidden),
                (Middle::Activation(Gelu::Erf), hidden, hidden),
                (Middle::Activation(Gelu::Tanh), hidden, hidden),
                (Middle::Activation(Gelu::Quick), hidden, hidden),
            ] {
                let shapes: [&[usize]; 8] =
                    [&[batch, tokens, dim], &[dim], &[dim], &[hidden, dim], &[hidden], &[dim, inner], &[dim], &[dim]];
                check("branch with gamma and keep", &shapes, |t| run(t, middle, Some(keep)))?;
                check("branch", &shapes[..7], |t| run(t, middle, None))?;
            }
        }
        Ok(())
    }

    #[test]
    fn layers_without_a_bias_agree_with_the_composition() -> Result<()> {
        let shapes: [&[usize]; 5] = [&[2, 5, 8], &[8], &[8], &[12, 8], &[8, 12]];
        check("branch without biases", &shapes, |t| {
            let parts = Branch {
                norm: (&t[1], &t[2]),
                eps: 1e-6,
                inner: Inner { first: (&t[3], None), middle: Middle::Activation(Gelu::Erf), second: (&t[4], None) },
                gamma: None,
                keep: None,
                prepacked: None,
            };
            branch(&t[0], &parts)
        })
    }

    #[test]
    fn a_second_backward_gives_the_same() -> Result<()> {
        let x = candle_core::Var::from_tensor(&crate::gradcheck::values(&[2, 5, 8], 0)?)?;
        let parameters: Vec<Tensor> = [&[8usize][..], &[8], &[12, 8], &[12], &[8, 12], &[8]]
            .iter()
            .enumerate()
            .map(|(i, dims)| crate::gradcheck::values(dims, i as u64))
            .collect::<Result<_>>()?;
        let t: Vec<Tensor> = [x.as_tensor().clone()].into_iter().chain(parameters).collect();
        let y = run(&t, Middle::Activation(Gelu::Erf), None)?.sum_all()?;
        let [first, second] = [y.backward()?, y.backward()?].map(|store| store.get(&x).expect("a gradient").clone());
        assert_eq!(crate::gradcheck::distance(&second, &first)?, 0.);
        Ok(())
    }

    #[test]
    fn prepacked_weights_give_the_same_values_and_leave_training_alone() -> Result<()> {
        let shapes: [&[usize]; 8] = [&[2, 37, 48], &[48], &[48], &[144, 48], &[144], &[48, 48], &[48], &[48]];
        let t: Vec<Tensor> =
            shapes.iter().zip(0..).map(|(dims, seed)| crate::gradcheck::values(dims, seed)).collect::<Result<_>>()?;
        let prepacked = Prepacked::default();
        let run = |x: &Tensor, first: &Tensor, prepacked: Option<&Prepacked>| {
            let inner =
                Inner { first: (first, Some(&t[4])), middle: Middle::Attention(3), second: (&t[5], Some(&t[6])) };
            branch(x, &Branch { norm: (&t[1], &t[2]), eps: 1e-6, inner, gamma: Some(&t[7]), keep: None, prepacked })
        };
        let plain = run(&t[0], &t[3], None)?;
        for _ in 0..3 {
            assert_eq!(crate::gradcheck::distance(&run(&t[0], &t[3], Some(&prepacked))?, &plain)?, 0.);
        }
        // What was kept is of no use to other weights; a pass that records history does not read it.
        let other = candle_core::Var::from_tensor(&(&t[3] * 0.5)?)?;
        let expected = run(&t[0], &other.as_detached_tensor(), None)?;
        assert_eq!(crate::gradcheck::distance(&run(&t[0], &other, Some(&prepacked))?, &expected)?, 0.);
        assert!(crate::gradcheck::distance(&expected, &plain)? > 1e-3);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let mut t = vec![zeros(&[2, 5, 8])?, zeros(&[8])?, zeros(&[8])?, zeros(&[12, 8])?, zeros(&[12])?];
        t.extend([zeros(&[8, 11])?, zeros(&[8])?]);
        let message = run(&t, Middle::Activation(Gelu::Erf), None).unwrap_err().to_string();
        assert!(message.contains("second.weight") && message.contains("[8, 12]"), "{message}");
        t[5] = zeros(&[8, 4])?;
        assert!(run(&t, Middle::Attention(3), None).is_err());
        assert!(run(&t, Middle::Attention(2), Some(&zeros(&[3])?)).is_err());
        assert!(run(&t, Middle::Attention(2), Some(&zeros(&[2])?)).is_ok());
        Ok(())
    }
}
