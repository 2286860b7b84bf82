//! The ordered store of named parameters: seeded initial values, frozen or trainable, handed out by a `VarBuilder`.
//!
//! ```
//! use candle_core::{DType, Device};
//! use tallow_models::Params;
//!
//! let params = Params::new(42, DType::F32, &Device::Cpu);
//! let weight = params.builder().pp("head").get_with_hints((10, 4), "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
//! assert_eq!(weight.dims(), &[10, 4]);
//! assert_eq!(params.names(), ["head.weight"]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use rayon::prelude::*;

use crate::autograd::collect_gradients;
use crate::hash::fnv1a;
use crate::{Error, Result};

/// A parameter's name and shape, as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParamSpec {
    /// The dotted name, as timm writes it: `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
}

impl ParamSpec {
    /// The number of values.
    pub fn elem_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is a buffer: state that is saved but never has a gradient (the running statistics of batch norm).
    pub fn is_buffer(&self) -> bool {
        is_buffer(&self.name)
    }
}

/// One parameter or buffer of a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Param {
    /// The dotted name, as timm writes it: `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// The value. Shared with every model that was built over the store.
    pub var: Var,
    /// Whether training leaves it alone.
    pub frozen: bool,
    /// Whether it is a buffer: state that is saved but never has a gradient (the running statistics of batch norm).
    pub buffer: bool,
}

impl Param {
    /// Whether training changes this parameter through its gradient.
    pub fn trainable(&self) -> bool {
        !self.frozen && !self.buffer
    }

    /// Whether timm's and the papers' recipes decay it: not 1-d parameters (biases, norms, LayerScale), nor position
    /// embeddings and tokens.
    pub fn decayed(&self) -> bool {
        const NEVER: [&str; 7] = [
            "pos_embed",
            "cls_token",
            "reg_token",
            "dist_token",
            "mask_token",
            "relative_position_bias_table",
            "freqs",
        ];
        let last = self.name.rsplit('.').next().unwrap_or(&self.name);
        self.var.rank() > 1 && !NEVER.contains(&last)
    }
}

/// An ordered, shared store of named parameters. Cloning it gives another handle on the same store.
///
/// Models are built over [`Params::builder`] with Candle's usual constructors. The first model to ask for a name creates
/// the parameter; a model built later over the same store shares its storage, so that a model for evaluation
/// ([`Params::eval_builder`]) always sees the trained values and records no history.
#[derive(Clone)]
pub struct Params(Arc<Inner>);

struct Inner {
    seed: u64,
    dtype: DType,
    device: Device,
    state: Mutex<State>,
}

/// What a parameter that is not there yet starts from.
enum Provided {
    Whole(Tensor),
    /// These rows have values, in this order; the others are drawn.
    Rows(Vec<usize>, Tensor),
    /// It is drawn, as it would be if nothing were provided.
    Drawn,
}

/// Says of a name whether the parameter is frozen.
type FreezingRule = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    order: Vec<Param>,
    index: HashMap<String, usize>,
    provided: HashMap<String, Provided>,
    frozen: Option<FreezingRule>,
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params").field("names", &self.names()).finish()
    }
}

impl Params {
    /// An empty store. Initial values are drawn from `seed` and the parameter's name, so that they depend neither on the
    /// order of construction nor on what else the model holds.
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        Self(Arc::new(Inner { seed, dtype, device: device.clone(), state: Mutex::default() }))
    }

    /// The element type of the stored values.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Where the values are.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// A builder that hands out tracked tensors for trainable parameters and detached ones for frozen parameters and
    /// buffers, creating what is not there yet.
    ///
    /// It refuses to draw a parameter for which values seem to wait under another name ([`Error::Misplaced`]): what was provided
    /// for `cls_token` is not to be forgotten by a model that is built under `pp("vit")` and asks for `vit.cls_token`, nor the other
    /// way round.
    pub fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(Creating(self.clone())), self.0.dtype, self.0.device.clone())
    }

    /// A builder that hands out detached tensors over the same storage: a model that never records history. It creates what was
    /// provided, as a load does for every parameter of its model, and draws nothing else: a parameter that is neither there nor
    /// provided is an error.
    pub fn eval_builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(Detached(self.clone())), self.0.dtype, self.0.device.clone())
    }

    /// The names and shapes that `build` asks for, in order, without allocating any of them.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn declared_by<T>(build: impl FnOnce(VarBuilder) -> candle_core::Result<T>) -> Result<Vec<ParamSpec>> {
        let recorder = Recorder::default();
        let specs = recorder.0.clone();
        build(VarBuilder::from_backend(Box::new(recorder), DType::F32, Device::Cpu))?;
        let specs = lock(&specs).clone();
        Ok(specs)
    }

    /// Gives the value that `name` starts from in place of a drawn one. Call it before the model is built; the shape is
    /// checked when the model asks for the parameter, and a name that no model asks for stays in [`Params::left_over`]. The
    /// value is copied, except for a variable (`Var`) of this store's type and device, which becomes the parameter itself.
    pub fn provide(&self, name: impl Into<String>, value: Tensor) {
        self.state().provided.insert(name.into(), Provided::Whole(value));
    }

    /// As [`Params::provide`], for a part of a parameter: `values` `[rows.len(), ..]` are what these rows start from; the others
    /// start from what would be drawn for them if nothing were provided.
    pub fn provide_rows(&self, name: impl Into<String>, rows: Vec<usize>, values: Tensor) {
        self.state().provided.insert(name.into(), Provided::Rows(rows, values));
    }

    /// As [`Params::provide`], for a parameter that is to start as it would without: a load says so of a new head, so that it is
    /// known to belong to the model.
    pub fn provide_drawn(&self, name: impl Into<String>) {
        self.state().provided.insert(name.into(), Provided::Drawn);
    }

    /// Checks that every provided value was asked for by a model. [`Params::backward`] does it too; a program that only evaluates
    /// can ask once after it has built its model.
    ///
    /// # Errors
    /// [`Error::LeftOver`] with the names that were not.
    pub fn check_taken(&self) -> Result<()> {
        let names = self.left_over();
        if names.is_empty() { Ok(()) } else { Err(Error::LeftOver { names }) }
    }

    /// The names of provided values that no model has asked for, sorted.
    pub fn left_over(&self) -> Vec<String> {
        let mut names: Vec<String> = self.state().provided.keys().cloned().collect();
        names.sort();
        names
    }

    /// Freezes the parameters whose name satisfies `rule`, now and when they are created later. It replaces an earlier
    /// rule. A model built before keeps the tensors it has: build it again.
    pub fn freeze(&self, rule: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let mut state = self.state();
        for param in &mut state.order {
            param.frozen = rule(&param.name);
        }
        state.frozen = Some(Arc::new(rule));
    }

    /// All parameters and buffers, in the order in which the model asked for them.
    pub fn all(&self) -> Vec<Param> {
        self.state().order.clone()
    }

    /// The parameters that training changes, in order.
    pub fn trainable(&self) -> Vec<Param> {
        self.state().order.iter().filter(|p| p.trainable()).cloned().collect()
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<String> {
        self.state().order.iter().map(|p| p.name.clone()).collect()
    }

    /// The parameter called `name`.
    pub fn get(&self, name: &str) -> Option<Param> {
        let state = self.state();
        state.index.get(name).map(|&i| state.order[i].clone())
    }

    /// Writes a value into an existing parameter, in the storage that the models share.
    ///
    /// # Errors
    /// If there is no such parameter, or its shape is another.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<()> {
        let param = self.get(name).ok_or_else(|| Error::UnknownParameter { name: name.into() })?;
        check_shape(name, param.var.dims(), value.dims())?;
        // A copy first: `Var::set` refuses a source that shares the destination's storage.
        Ok(param.var.set(&value.to_device(self.device())?.to_dtype(self.dtype())?.copy()?)?)
    }

    /// Writes `values` `[rows.len(), ..]` into these rows of an existing parameter, and leaves its others as they are.
    ///
    /// # Errors
    /// If there is no such parameter, it has no such row, or its rows have another shape.
    pub fn set_rows(&self, name: &str, rows: &[usize], values: &Tensor) -> Result<()> {
        let param = self.get(name).ok_or_else(|| Error::UnknownParameter { name: name.into() })?;
        let old = param.var.as_detached_tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        check_rows(name, old.dims(), rows, values.dims())?;
        self.set(name, &with_rows(&old, rows, values)?)
    }

    /// The number of values in all parameters, buffers not counted.
    pub fn count(&self) -> usize {
        self.state().order.iter().filter(|p| !p.buffer).map(|p| p.var.elem_count()).sum()
    }

    /// The gradients of a scalar `loss` for every trainable parameter, in the order of [`Params::trainable`].
    ///
    /// # Errors
    /// [`Error::NoGradient`] names the trainable parameters that the backward pass did not reach, [`Error::LeftOver`] the provided
    /// values that no model has asked for.
    pub fn backward(&self, loss: &Tensor) -> Result<Gradients> {
        let (gradients, missing) = self.backward_allowing(loss)?;
        if missing.is_empty() { Ok(gradients) } else { Err(Error::NoGradient { names: missing }) }
    }

    /// The gradients of a scalar `loss` for the trainable parameters that the backward pass reached, in the order of
    /// [`Params::trainable`], and the names of those that it did not reach.
    ///
    /// # Errors
    /// [`Error::LeftOver`] names the provided values that no model has asked for.
    pub fn backward_allowing(&self, loss: &Tensor) -> Result<(Gradients, Vec<String>)> {
        self.check_taken()?;
        let (mut store, mut collected) = collect_gradients(|| loss.backward())?;
        let (mut tensors, mut missing) = (Vec::new(), Vec::new());
        for param in self.trainable() {
            let of_candle = store.remove(param.var.as_tensor()).map(|gradient| gradient.detach());
            match (of_candle, collected.remove(&param.var.id())) {
                (Some(a), Some(b)) => tensors.push((param.name, (a + b)?)),
                (Some(gradient), None) | (None, Some(gradient)) => tensors.push((param.name, gradient)),
                (None, None) => missing.push(param.name),
            }
        }
        Ok((Gradients(tensors), missing))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

/// Gradients by name, in the order of [`Params::trainable`]. They carry no history.
#[derive(Debug)]
pub struct Gradients(Vec<(String, Tensor)>);

impl Gradients {
    /// Names and gradients, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The gradient of the parameter called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }

    /// Adds the gradients of another pass over the same parameters.
    ///
    /// # Errors
    /// If a gradient has another shape than the one of its name.
    pub fn add(&mut self, other: Gradients) -> Result<()> {
        for (name, gradient) in other.0 {
            match self.0.iter_mut().find(|(n, _)| *n == name) {
                Some((_, sum)) => *sum = (&*sum + gradient)?,
                None => self.0.push((name, gradient)),
            }
        }
        Ok(())
    }

    /// The tensors alone, in the order of [`Params::trainable`].
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.0.into_iter().map(|(_, t)| t).collect()
    }
}

impl FromIterator<(String, Tensor)> for Gradients {
    /// Gradients that were computed by hand.
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, gradient)| (name, gradient.detach())).collect())
    }
}

/// A lock that a panicking thread left behind still guards consistent data here: every change is a single push.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn check_shape(name: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape { name: name.into(), expected: expected.into(), got: got.into() })
}

/// Checks that `values` of this shape fit into these rows of a parameter.
fn check_rows(name: &str, param: &[usize], rows: &[usize], values: &[usize]) -> Result<()> {
    let (count, row) = param.split_first().map_or((0, param), |(&count, row)| (count, row));
    let expected = [&[rows.len()], row].concat();
    check_shape(name, &expected, values)?;
    match rows.iter().find(|&&at| at >= count) {
        None => Ok(()),
        Some(&at) => Err(Error::Shape { name: name.into(), expected: [&[at + 1], row].concat(), got: param.into() }),
    }
}

/// `old` with `values` in these rows, on the CPU in float32.
fn with_rows(old: &Tensor, rows: &[usize], values: &Tensor) -> candle_core::Result<Tensor> {
    let count = old.dim(0)?;
    let mut from: Vec<u32> = (0..count as u32).collect();
    rows.iter().enumerate().for_each(|(at, &row)| from[row] = (count + at) as u32);
    let values = values.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Tensor::cat(&[old, &values], 0)?.index_select(&Tensor::new(from, &Device::Cpu)?, 0)
}

fn is_buffer(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("running_mean" | "running_var"))
}

/// What a builder does with a parameter that is neither there nor provided.
#[derive(Clone, Copy, PartialEq)]
enum Unknown {
    Draw,
    Refuse,
}

impl Params {
    /// The parameter called `name`, made of what was provided for it where it is not there yet.
    fn obtain(&self, shape: &Shape, name: &str, init: Init, unknown: Unknown) -> candle_core::Result<Param> {
        let mut state = self.state();
        if let Some(&i) = state.index.get(name) {
            let param = &state.order[i];
            check_shape(name, param.var.dims(), shape.dims()).map_err(candle_core::Error::wrap)?;
            return Ok(param.clone());
        }
        let drawn = || initial(self.0.seed, name, shape, init);
        let value = match state.provided.remove(name) {
            Some(Provided::Rows(rows, values)) => {
                check_rows(name, shape.dims(), &rows, values.dims()).map_err(candle_core::Error::wrap)?;
                with_rows(&drawn()?, &rows, &values)?
            }
            Some(Provided::Whole(value)) => {
                check_shape(name, shape.dims(), value.dims()).map_err(candle_core::Error::wrap)?;
                value
            }
            Some(Provided::Drawn) => drawn()?,
            None => {
                state.check_misplaced(name, shape).map_err(candle_core::Error::wrap)?;
                if unknown == Unknown::Refuse {
                    return Err(candle_core::Error::wrap(Error::UnknownParameter { name: name.into() }));
                }
                drawn()?
            }
        };
        let value = value.to_device(self.device())?.to_dtype(self.dtype())?;
        let frozen = state.frozen.as_ref().is_some_and(|rule| rule(name));
        // Copies, so that the parameter owns its storage; a value that is a variable already is taken over.
        let param = Param { name: name.into(), var: Var::from_tensor(&value)?, frozen, buffer: is_buffer(name) };
        let index = state.order.len();
        state.index.insert(name.into(), index);
        state.order.push(param.clone());
        Ok(param)
    }

    /// The shape of a value that was provided for a parameter that is not there yet, where it says so itself.
    fn provided_shape(&self, name: &str) -> Option<Shape> {
        match self.state().provided.get(name) {
            Some(Provided::Whole(value)) => Some(value.shape().clone()),
            Some(Provided::Rows(..) | Provided::Drawn) | None => None,
        }
    }

    /// Whether a parameter of this name is there or can be made of what was provided.
    fn holds(&self, name: &str) -> bool {
        let state = self.state();
        state.index.contains_key(name) || state.provided.contains_key(name)
    }
}

impl State {
    /// Refuses a parameter for which nothing was provided, where a value of its shape waits under a name that ends alike: with one
    /// of the two names whole, or with at least two parts that they share (`blocks.0.norm1.weight`).
    fn check_misplaced(&self, name: &str, shape: &Shape) -> Result<()> {
        if self.provided.is_empty() {
            return Ok(());
        }
        let ends = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
        for rest in ends.map(|start| &name[start..]) {
            let waits = |value: &Provided| match value {
                Provided::Whole(value) => value.shape() == shape,
                Provided::Rows(_, values) => values.dims().get(1..) == shape.dims().get(1..),
                Provided::Drawn => false,
            };
            if self.provided.get(rest).is_some_and(waits) {
                let prefix = name[..name.len() - rest.len()].trim_end_matches('.');
                return Err(Error::Misplaced { name: name.into(), provided: rest.into(), prefix: Some(prefix.into()) });
            }
            if rest != name && !rest.contains('.') {
                continue;
            }
            let other = self.provided.iter().filter(|(_, value)| waits(value)).map(|(provided, _)| provided);
            let other = other.filter(|provided| {
                let front = provided.strip_suffix(rest).filter(|front| front.ends_with('.'));
                front.is_some_and(|front| !are_siblings(front, &name[..name.len() - rest.len()]))
            });
            if let Some(provided) = other.min() {
                return Err(Error::Misplaced { name: name.into(), provided: provided.clone(), prefix: None });
            }
        }
        Ok(())
    }
}

/// Whether two fronts of names differ in nothing but numbers, as those of the layers of one stack: values for one of them are not
/// meant for the other.
fn are_siblings(one: &str, other: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let alike = |(one, other): (&str, &str)| one == other || is_number(one) && is_number(other);
    one.split('.').count() == other.split('.').count() && one.split('.').zip(other.split('.')).all(alike)
}

struct Creating(Params);

impl SimpleBackend for Creating {
    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        self.0.obtain(&shape, name, init, Unknown::Draw).map(|param| hand_out(&param))
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self.0.provided_shape(name) {
            Some(shape) => self.get(shape, name, Init::Const(0.), dtype, device),
            None => existing(&self.0, name).map(|param| hand_out(&param)),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.holds(name)
    }
}

fn hand_out(param: &Param) -> Tensor {
    if param.trainable() { param.var.as_tensor().clone() } else { param.var.as_detached_tensor() }
}

fn existing(params: &Params, name: &str) -> candle_core::Result<Param> {
    params.get(name).ok_or_else(|| candle_core::Error::wrap(Error::UnknownParameter { name: name.into() }))
}

struct Detached(Params);

impl SimpleBackend for Detached {
    fn get(&self, shape: Shape, name: &str, init: Init, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        self.0.obtain(&shape, name, init, Unknown::Refuse).map(|param| param.var.as_detached_tensor())
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        match self.0.provided_shape(name) {
            Some(shape) => self.get(shape, name, Init::Const(0.), dtype, device),
            None => existing(&self.0, name).map(|param| param.var.as_detached_tensor()),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.holds(name)
    }
}

#[derive(Default)]
struct Recorder(Arc<Mutex<Vec<ParamSpec>>>);

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut specs = lock(&self.0);
        if !specs.iter().any(|spec| spec.name == name) {
            specs.push(ParamSpec { name: name.into(), shape: shape.dims().to_vec() });
        }
        Tensor::zeros(1, dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::wrap(Error::UnknownParameter { name: name.into() }))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        lock(&self.0).iter().any(|spec| spec.name == name)
    }
}

/// Draws an initial value on the CPU in float32, from a stream of its own for every name and chunk.
fn initial(seed: u64, name: &str, shape: &Shape, init: Init) -> candle_core::Result<Tensor> {
    let count = shape.elem_count();
    let values = match init {
        Init::Const(temperature) if name.ends_with(FREQUENCIES) => frequencies(seed, name, shape, temperature)?,
        Init::Const(value) => vec![value as f32; count],
        Init::Uniform { lo, up } => {
            draw(seed, name, count, Uniform::new_inclusive(lo as f32, up as f32).map_err(candle_core::Error::wrap)?)
        }
        Init::Randn { mean, stdev } => {
            let normal = Normal::new(mean as f32, stdev as f32).map_err(candle_core::Error::wrap)?;
            if name.ends_with(TRUNCATED) {
                draw(seed, name, count, Truncated { normal, bound: 2. * stdev as f32 })
            } else {
                draw(seed, name, count, normal)
            }
        }
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            let init = match dist {
                NormalOrUniform::Uniform => Init::Uniform { lo: -(3f64.sqrt()) * stdev, up: 3f64.sqrt() * stdev },
                NormalOrUniform::Normal => Init::Randn { mean: 0., stdev },
            };
            return initial(seed, name, shape, init);
        }
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The one parameter of timm's ViTs whose normal law is cut off at two deviations (`trunc_normal_tf_`), for which Candle's
/// [`Init`] has no word. (Where timm cuts at ±2 a law of deviation 0.02, nothing is lost.)
const TRUNCATED: &str = "attn_pool.latent";

/// The learned frequencies of rotary positions `[2, depth, heads, pairs]`, another law that [`Init`] has no word for: those of
/// the temperature, of which every head turns its two axes by an angle of its own (timm's `init_random_2d_freqs`).
const FREQUENCIES: &str = "rope.freqs";

fn frequencies(seed: u64, name: &str, shape: &Shape, temperature: f64) -> candle_core::Result<Vec<f32>> {
    let (_, depth, heads, pairs) = shape.dims4()?;
    let whole = Uniform::new(0f32, std::f32::consts::TAU).map_err(candle_core::Error::wrap)?;
    let angles = draw(seed, name, depth * heads, whole);
    let half = pairs / 2;
    let mut values = Vec::with_capacity(shape.elem_count());
    for axis in [f64::cos, f64::sin] {
        for &angle in &angles {
            for pair in 0..pairs {
                let turned = if pair < half { 0. } else { std::f64::consts::FRAC_PI_2 };
                let frequency = temperature.powf(-((pair % half.max(1)) as f64 / half.max(1) as f64));
                values.push((frequency * axis(f64::from(angle) + turned)) as f32);
            }
        }
    }
    Ok(values)
}

struct Truncated {
    normal: Normal<f32>,
    bound: f32,
}

impl Distribution<f32> for Truncated {
    fn sample<R: rand::Rng + ?Sized>(&self, rng: &mut R) -> f32 {
        loop {
            let value = self.normal.sample(rng);
            if (value - self.normal.mean()).abs() <= self.bound {
                return value;
            }
        }
    }
}

/// Values drawn from one stream of the generator. Fixed, so that they don't depend on the number of threads.
const CHUNK: usize = 1 << 16;

fn draw(seed: u64, name: &str, count: usize, law: impl Distribution<f32> + Sync) -> Vec<f32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&fnv1a(name.as_bytes()).to_le_bytes());
    let mut values = vec![0f32; count];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, values)| {
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(chunk as u64);
        values.iter_mut().for_each(|value| *value = law.sample(&mut rng));
    });
    values
}
