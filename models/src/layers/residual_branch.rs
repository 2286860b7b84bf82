//! A residual branch of a transformer's block: `x + drop_path(ls(inner(norm(x))))`, or with the norm behind,
//! `x + drop_path(norm(inner(x)))`.
//!
//! Where nothing random lies inside of `inner`, the whole branch is one operation ([`crate::ops::branch`]), which needs less time
//! and memory than its parts and gives the same; else it is made of them.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::{MlpBlockConfig, ResidualBranchConfig, mlp_block, residual_branch};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let mlp = |vb| mlp_block(&MlpBlockConfig::new(32, 128), vb);
//! let names = ["norm2", "mlp", "ls2", "drop_path2"];
//! let branch = residual_branch(&ResidualBranchConfig::new(32), names, mlp, params.builder())?;
//! let tokens = Tensor::ones((2, 17, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(branch.forward_t(&tokens, false)?.dims(), &[2, 17, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder};

use super::{DropPath, LayerScale, Norm, NormLayer, layer_scale, norm};
use crate::Mode;
use crate::ops::{self, Branch, Inner, Prepacked};

/// What a residual branch computes of its normalised input.
pub trait BranchInner {
    /// `[batch, tokens, dim]` to the same shape.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor>;

    /// Its parameters and what lies between them, where a pass in this mode is nothing else: then the branch runs as one
    /// operation.
    fn fused(&self, _mode: Mode) -> Option<Inner<'_>> {
        None
    }

    /// Every tensor that it computes with.
    fn parameters(&self) -> Vec<&Tensor>;
}

/// What a residual branch has around its inside.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ResidualBranchConfig {
    /// Width of a token.
    pub dim: usize,
    /// The kind of the norm. Default a layer norm.
    pub norm_layer: NormLayer,
    /// Epsilon of the norm. Default 1e-6.
    pub norm_eps: f64,
    /// What LayerScale starts from; none leaves it out. Default none.
    pub layer_scale: Option<f64>,
    /// The norm comes after the inside and in place of LayerScale (Liu et al., "Swin Transformer V2", 2021). Default false.
    pub post_norm: bool,
    /// Rate of stochastic depth. Default 0.
    pub drop_path_rate: f64,
}

impl ResidualBranchConfig {
    /// A branch with a norm and nothing else, over tokens of `dim` values.
    pub fn new(dim: usize) -> Self {
        let norm_layer = NormLayer::LayerNorm;
        Self { dim, norm_layer, norm_eps: 1e-6, layer_scale: None, post_norm: false, drop_path_rate: 0. }
    }
}

/// A branch with the parameters of its norm, of its inside and, if it has one, of its LayerScale.
#[derive(Debug, Clone)]
pub struct ResidualBranch<L> {
    norm: Norm,
    post_norm: bool,
    inner: L,
    layer_scale: Option<LayerScale>,
    drop_path: DropPath,
    /// The layout of the weights, where it is kept between passes.
    prepacked: Option<Prepacked>,
}

/// The branch that `config` describes, around what `inner` builds. Norm, inside, LayerScale and stochastic depth are called
/// `names`, in this order, which is that of the parameters.
///
/// # Errors
/// Those of the builder.
pub fn residual_branch<'a, L>(
    config: &ResidualBranchConfig,
    names: [&str; 4],
    inner: impl FnOnce(VarBuilder<'a>) -> Result<L>,
    vb: VarBuilder<'a>,
) -> Result<ResidualBranch<L>> {
    let [of_norm, inside, scale, drop_path] = names.map(|name| vb.pp(name));
    let norm = || norm(config.norm_layer, config.dim, config.norm_eps, of_norm);
    // In the order in which they come.
    let (norm, inner) = match config.post_norm {
        true => {
            let inner = inner(inside)?;
            (norm()?, inner)
        }
        false => (norm()?, inner(inside)?),
    };
    Ok(ResidualBranch {
        norm,
        post_norm: config.post_norm,
        inner,
        layer_scale: match config.layer_scale {
            Some(value) if !config.post_norm => Some(layer_scale(config.dim, value, scale)?),
            _ => None,
        },
        drop_path: DropPath::new(config.drop_path_rate, &drop_path.prefix()),
        prepacked: None,
    })
}

impl<L: BranchInner> ResidualBranch<L> {
    /// `[batch, tokens, dim]` to the same shape: `x + drop_path(ls(inner(norm(x))))`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match self.fused(x, mode)? {
            Some((branch, keep)) => ops::branch(x, &Branch { keep: keep.as_ref(), ..branch }),
            None => self.added_to(x, x, mode),
        }
    }

    /// The same for an input that nobody reads any more, see [`ops::branch_last`].
    pub(crate) fn forward_last(&self, x: Tensor, mode: Mode) -> Result<Tensor> {
        match self.fused(&x, mode)? {
            Some((branch, keep)) => ops::branch_last(x, &Branch { keep: keep.as_ref(), ..branch }),
            None => self.added_to(&x, &x, mode),
        }
    }

    /// The branch as one operation, where it is that, and its factors of stochastic depth.
    fn fused(&self, x: &Tensor, mode: Mode) -> Result<Option<(Branch<'_>, Option<Tensor>)>> {
        let (Some(norm), Some(inner)) = (self.norm.layer().filter(|_| !self.post_norm), self.inner.fused(mode)) else {
            return Ok(None);
        };
        let (norm, eps) = (norm.parameters(), norm.eps());
        let branch = Branch { norm, eps, inner, gamma: self.gamma(), keep: None, prepacked: self.prepacked.as_ref() };
        Ok(Some((branch, self.drop_path.keep(x, mode)?)))
    }

    /// Whether a model that only predicts computes the branch as one operation.
    pub(crate) fn is_fused(&self) -> bool {
        self.norm.layer().is_some() && !self.post_norm && self.inner.fused(Mode::Eval).is_some()
    }

    /// What the branch makes of `x`, added to `sum`, both `[batch, tokens, dim]`: `sum + drop_path(ls(inner(norm(x))))`. It is made of its
    /// parts.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn added_to(&self, sum: &Tensor, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let y = match self.post_norm {
            true => self.norm.forward(&self.inner.forward(x, mode)?)?,
            false => self.inner.forward(&self.norm.forward(x)?, mode)?,
        };
        ops::scale_add(sum, &y, self.gamma(), self.drop_path.keep(&y, mode)?.as_ref())
    }

    /// Every tensor that the branch computes with.
    pub fn parameters(&self) -> Vec<&Tensor> {
        self.norm.parameters().into_iter().chain(self.inner.parameters()).chain(self.gamma()).collect()
    }
}

impl<L> ResidualBranch<L> {
    /// What the inside reads of `x`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn before_inner(&self, x: &Tensor) -> Result<Tensor> {
        if self.post_norm { Ok(x.clone()) } else { self.norm.forward(x) }
    }

    /// The same with this LayerScale.
    #[must_use]
    pub fn with_layer_scale(mut self, layer_scale: Option<LayerScale>) -> Self {
        self.layer_scale = layer_scale;
        self
    }

    /// What the branch computes of its normalised input.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// Keeps the layout of the weights from one forward pass to the next. **The weights must not change from then on.**
    pub fn set_prepacking(&mut self, on: bool) {
        self.prepacked = on.then(Prepacked::default);
    }

    fn gamma(&self) -> Option<&Tensor> {
        self.layer_scale.as_ref().map(LayerScale::gamma)
    }
}

impl<L: BranchInner> ModuleT for ResidualBranch<L> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
