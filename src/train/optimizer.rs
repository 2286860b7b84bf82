//! SGD, Adam and AdamW as PyTorch defines them, with a factor on the learning rate and a weight decay for every parameter.
//!
//! With gradient g, parameter p, rate lr and decay λ:
//! - SGD: g ← g + λp; b ← g at the first step, then μb + g; p ← p − lr·b, or p − lr·(g + μb) with Nesterov.
//! - Adam: g ← g + λp; m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; p ← p − lr · m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ) and
//!   v̂ = v / (1 − β₂ᵗ) at the t-th step.
//! - AdamW: p ← (1 − lr·λ)p first, and no λp in g.
//!
//! Position embeddings, tokens and 1-d parameters have λ = 0 ([`tallow_models::Param::decayed`]).

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor, Var};
use tallow_models::optim::{self, AdamWStep, AdamWTarget, Clip, SgdStep, SgdTarget};
use tallow_models::{Architecture, Gradients, Param, Params};

use super::config::{OptimizerKind, TrainConfig};
use super::error::{Error, Result};

/// An optimiser over the trainable parameters of a store.
#[derive(Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    momentum: f64,
    nesterov: bool,
    betas: [f64; 2],
    eps: f64,
    slots: Vec<Slot>,
    by_name: HashMap<String, usize>,
}

/// A parameter with its settings and state.
#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    /// Whether weight decay is applied to it at all.
    decayed: bool,
    weight_decay: f64,
    lr_scale: f64,
    /// Steps taken with a gradient.
    steps: u32,
    /// `momentum_buffer`, or `exp_avg` and `exp_avg_sq`, in the order of [`Optimizer::state_names`]. Only the steps write to
    /// their storage.
    state: Vec<Tensor>,
}

impl Optimizer {
    /// The optimiser of `config` over the trainable parameters of `params`. The learning rate of a layer falls with its
    /// distance from the head where `config` says so.
    ///
    /// # Errors
    /// If memory for the state cannot be had.
    pub fn new(config: &TrainConfig, architecture: &Architecture, params: &Params) -> Result<Self> {
        Self::over(config, architecture, params.trainable())
    }

    /// As [`Optimizer::new`], over some parameters of a store.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub(super) fn over(config: &TrainConfig, architecture: &Architecture, params: Vec<Param>) -> Result<Self> {
        let mut optimizer = Self {
            kind: config.optimizer.optimizer,
            momentum: config.optimizer.momentum,
            nesterov: config.optimizer.nesterov,
            betas: config.optimizer.betas,
            eps: config.optimizer.eps,
            slots: Vec::new(),
            by_name: HashMap::new(),
        };
        for param in params {
            let zeros = || param.var.as_detached_tensor().zeros_like();
            let state = optimizer.state_names().iter().map(|_| zeros()).collect::<candle_core::Result<_>>()?;
            optimizer.by_name.insert(param.name.clone(), optimizer.slots.len());
            optimizer.slots.push(Slot {
                decayed: param.decayed(),
                weight_decay: if param.decayed() { config.optimizer.weight_decay } else { 0. },
                lr_scale: config
                    .regularization
                    .layer_decay
                    .map_or(1., |decay| layer_scale(&param.name, architecture, decay)),
                steps: 0,
                state,
                name: param.name,
                var: param.var,
            });
        }
        Ok(optimizer)
    }

    /// Another weight decay from here on.
    pub(super) fn set_weight_decay(&mut self, weight_decay: f64) {
        self.slots.iter_mut().filter(|slot| slot.decayed).for_each(|slot| slot.weight_decay = weight_decay);
    }

    /// What the state takes in memory.
    pub fn state_bytes(&self) -> u64 {
        let tensors = self.slots.iter().flat_map(|slot| &slot.state);
        tensors.map(|state| (state.elem_count() * state.dtype().size_in_bytes()) as u64).sum()
    }

    /// One step along `gradients`, clipped if that is asked for, at the learning rate `lr`. A parameter without a gradient stays
    /// as it is, and all do if the norm to clip by is not finite.
    ///
    /// # Errors
    /// If a gradient has another shape than its parameter.
    pub fn step(&mut self, gradients: &Gradients, clip: Option<Clip>, lr: f64) -> Result<()> {
        let mut stepped = Vec::with_capacity(self.slots.len());
        for (name, gradient) in gradients.iter() {
            let Some(&index) = self.by_name.get(name) else { continue };
            self.slots[index].steps += 1;
            stepped.push((index, self.slots[index].var.as_detached_tensor(), gradient));
        }
        let (mut adamw, mut sgd) = (vec![], vec![]);
        for (index, param, grad) in &stepped {
            let slot = &self.slots[*index];
            let lr = lr * slot.lr_scale;
            let adam = AdamWStep {
                lr,
                beta1: self.betas[0],
                beta2: self.betas[1],
                eps: self.eps,
                weight_decay: slot.weight_decay,
                step: slot.steps as usize,
                grad_scale: 1.,
            };
            match (self.kind, &slot.state[..]) {
                (OptimizerKind::Adamw, [m, v]) => adamw.push(AdamWTarget { param, m, v, grad, step: adam }),
                (OptimizerKind::Adam, [m, v]) => {
                    // Decay goes through the moments, and is not clipped: the factor has to be known.
                    let factor = clip.map_or(Ok(Some(1.)), |clip| clip.factor())?;
                    let Some(factor) = factor else { continue };
                    let gradient = ((*grad * factor)? + (param * slot.weight_decay)?)?;
                    optim::adamw_step(param, m, v, &gradient, &AdamWStep { weight_decay: 0., ..adam })?;
                }
                (_, state) => {
                    let step = SgdStep {
                        lr,
                        momentum: self.momentum,
                        nesterov: self.nesterov,
                        weight_decay: slot.weight_decay,
                        grad_scale: 1.,
                    };
                    sgd.push(SgdTarget { param, momentum_buffer: state.first(), grad, step });
                }
            }
        }
        optim::adamw_steps(&adamw, clip)?;
        Ok(optim::sgd_steps(&sgd, clip)?)
    }

    /// The state by name, as PyTorch calls it: `NAME.momentum_buffer`, or `NAME.exp_avg` and `NAME.exp_avg_sq`; and
    /// `NAME.step`, a u32.
    ///
    /// # Errors
    /// If memory for the steps cannot be had.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for slot in &self.slots {
            for (kind, tensor) in self.state_names().iter().zip(&slot.state) {
                state.insert(format!("{}.{kind}", slot.name), tensor.clone());
            }
            state.insert(format!("{}.step", slot.name), Tensor::new(slot.steps, &Device::Cpu)?);
        }
        Ok(state)
    }

    /// Takes back what [`Optimizer::state`] gave.
    ///
    /// # Errors
    /// Names what is missing, has another shape, or belongs to no trainable parameter.
    pub fn set_state(&mut self, mut state: HashMap<String, Tensor>) -> Result<()> {
        let names = self.state_names();
        for slot in &mut self.slots {
            for (kind, tensor) in names.iter().zip(&mut slot.state) {
                let value = take(&mut state, &format!("{}.{kind}", slot.name), tensor.dims())?;
                // A copy: what the steps write to belongs to nobody else.
                *tensor = value.to_device(tensor.device())?.to_dtype(tensor.dtype())?.copy()?;
            }
            slot.steps = take(&mut state, &format!("{}.step", slot.name), &[])?.to_dtype(DType::U32)?.to_scalar()?;
        }
        match state.keys().min() {
            Some(name) => Err(Error::invalid("the optimiser's state", "nothing but the trainable parameters'", name)),
            None => Ok(()),
        }
    }

    fn state_names(&self) -> &'static [&'static str] {
        match self.kind {
            OptimizerKind::Sgd if self.momentum == 0. => &[],
            OptimizerKind::Sgd => &["momentum_buffer"],
            OptimizerKind::Adam | OptimizerKind::Adamw => &["exp_avg", "exp_avg_sq"],
        }
    }
}

fn take(state: &mut HashMap<String, Tensor>, name: &str, shape: &[usize]) -> Result<Tensor> {
    match state.remove(name) {
        Some(value) if value.dims() == shape => Ok(value),
        Some(value) => Err(Error::invalid(name, format!("shape {shape:?}"), format!("{:?}", value.dims()))),
        None => Err(Error::invalid("the optimiser's state", name, "nothing of that name")),
    }
}

/// timm's layer decay: the head at 1, the last block and the norm after it at `decay`, and so on down to the stem.
fn layer_scale(name: &str, architecture: &Architecture, decay: f64) -> f64 {
    let below = architecture.num_layers().saturating_sub(1 + architecture.layer_id(name));
    decay.powi(i32::try_from(below).unwrap_or(i32::MAX))
}
