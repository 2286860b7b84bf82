//! Gradient checkpointing: a function whose backward computes it again instead of remembering what lay inside.
//!
//! Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

use candle_core::{Result, Tensor, Var};

use super::collected::collect_gradients;
use super::function::{Call, Function};
use super::storage::{take_storage, unread};

/// Computes `f(x)` and keeps nothing but `x` for the backward, which computes `f` once more.
///
/// `parameters` are the variables that `f` reads beside `x`; a gradient of any other tensor is lost. `f` has to give the
/// same values every time. If there is nothing to save (no gradient is wanted, or a parameter is computed from others), or no
/// way to save it (Metal), this computes `f(x)` and nothing else.
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
