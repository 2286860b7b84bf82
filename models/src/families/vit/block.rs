//! One block of a ViT: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`; with the norms behind attention and MLP; with two of each
//! side by side; or with attention and MLP side by side.

use candle_core::{Result, Tensor};
use candle_nn::{Init, ModuleT, VarBuilder};

use super::{BlockFn, VitConfig};
use crate::Mode;
use crate::autograd::checkpoint;
use crate::layers::{
    Attention, AttentionAndMlp, BranchInner, LayerScale, MlpBlock, RelativePositionBias, RelativePositions,
    ResidualBranch, Rope, attention_and_mlp, attention_between, before_norm, mlp_block, residual_branch,
};

/// What the blocks of a ViT have in common. By default nothing.
#[derive(Default)]
pub(crate) struct Common {
    pub(super) rope: Option<Rope>,
    /// How tokens lie to each other, and the bias that all blocks share.
    pub(super) positions: Option<RelativePositions>,
    pub(super) bias: Option<RelativePositionBias>,
}

/// A transformer block.
#[derive(Debug, Clone)]
pub struct Block {
    branches: Branches,
    grad_checkpointing: bool,
}

/// What a block adds to its tokens.
#[derive(Debug, Clone)]
enum Branches {
    /// Attentions, and after them MLPs: one of each, or several side by side.
    InTurn(Vec<ResidualBranch<Attention>>, Vec<ResidualBranch<MlpBlock>>),
    /// Attention and MLP at once.
    AtOnce(Box<ResidualBranch<AttentionAndMlp>>),
}

impl Block {
    /// Builds block `index` of a ViT.
    pub(crate) fn new(config: &VitConfig, index: usize, common: &Common, vb: VarBuilder) -> Result<Self> {
        let branches = match config.block_fn {
            BlockFn::Block => one_after_the_other(config, index, common, vb)?,
            BlockFn::ParallelScaling => at_once(config, index, vb)?,
            BlockFn::ParallelThings => side_by_side(config, index, common, vb)?,
        };
        Ok(Self { branches, grad_checkpointing: false })
    }

    /// Keeps only the block's input for the backward, which computes the rest again: less memory for more time.
    pub(super) fn set_grad_checkpointing(&mut self, on: bool) {
        self.grad_checkpointing = on;
    }

    /// Keeps the layout of the weights from one forward pass to the next.
    pub(super) fn set_prepacking(&mut self, on: bool) {
        // What is added to another branch's sum, and attention and MLP at once, are made of their parts, which keep nothing.
        if let Branches::InTurn(attns, mlps) = &mut self.branches {
            attns.iter_mut().for_each(|attn| attn.set_prepacking(on));
            mlps.iter_mut().for_each(|mlp| mlp.set_prepacking(on));
        }
    }

    /// Whether a model that only predicts computes both branches as one operation each, which alone keep a layout of their weights.
    pub(super) fn is_fused(&self) -> bool {
        match &self.branches {
            Branches::InTurn(attns, mlps) => match (&attns[..], &mlps[..]) {
                ([attn], [mlp]) => attn.is_fused() && mlp.is_fused(),
                _ => false,
            },
            Branches::AtOnce(_) => false,
        }
    }

    /// `[batch, tokens, dim]` to the same shape.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if self.grad_checkpointing {
            let block = self.clone();
            return checkpoint(x, &self.parameters(), move |x| block.pass(x, mode));
        }
        self.pass(x, mode)
    }

    fn pass(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match &self.branches {
            Branches::InTurn(attns, mlps) => sum_last(mlps, sum(attns, x, mode)?, mode),
            Branches::AtOnce(both) => both.forward(x, mode),
        }
    }

    /// The same for tokens that nobody reads any more, so that the block may give up their values, see [`crate::ops::branch_last`].
    fn forward_last(&self, x: Tensor, mode: Mode) -> Result<Tensor> {
        match &self.branches {
            _ if self.grad_checkpointing => self.forward(&x, mode),
            Branches::InTurn(attns, mlps) => sum_last(mlps, sum_last(attns, x, mode)?, mode),
            Branches::AtOnce(both) => both.forward_last(x, mode),
        }
    }

    /// Every tensor that the block computes with.
    fn parameters(&self) -> Vec<&Tensor> {
        match &self.branches {
            Branches::InTurn(attns, mlps) => {
                let attns = attns.iter().flat_map(ResidualBranch::parameters);
                attns.chain(mlps.iter().flat_map(ResidualBranch::parameters)).collect()
            }
            Branches::AtOnce(both) => both.parameters(),
        }
    }

    /// The attention weights `[batch, heads, tokens, tokens]` for an input `[batch, tokens, dim]`; of several attentions side by side,
    /// the heads of all of them.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn attention_weights(&self, x: &Tensor) -> Result<Tensor> {
        match &self.branches {
            Branches::InTurn(attns, _) => {
                let weights = |attn: &ResidualBranch<Attention>| attn.inner().weights(&attn.before_inner(x)?);
                Tensor::cat(&attns.iter().map(weights).collect::<Result<Vec<_>>>()?, 1)
            }
            Branches::AtOnce(both) => both.inner().weights(&both.before_inner(x)?),
        }
    }
}

/// Tokens through blocks, one after the other. The blocks may give up the values of `x`, see [`crate::ops::branch_last`].
pub(crate) fn through(blocks: &[Block], x: Tensor, mode: Mode) -> Result<Tensor> {
    blocks.iter().try_fold(x, |x, block| block.forward_last(x, mode))
}

/// `x + Σ branch(x)`.
fn sum<L: BranchInner>(branches: &[ResidualBranch<L>], x: &Tensor, mode: Mode) -> Result<Tensor> {
    let Some((first, others)) = branches.split_first() else { return Ok(x.clone()) };
    others.iter().try_fold(first.forward(x, mode)?, |sum, branch| branch.added_to(&sum, x, mode))
}

/// The same for an input that nobody else reads.
fn sum_last<L: BranchInner>(branches: &[ResidualBranch<L>], x: Tensor, mode: Mode) -> Result<Tensor> {
    match branches {
        [only] => only.forward_last(x, mode),
        several => sum(several, &x, mode),
    }
}

/// timm's `Block` and `ResPostBlock`.
fn one_after_the_other(config: &VitConfig, index: usize, common: &Common, vb: VarBuilder) -> Result<Branches> {
    let branch = config.residual_branch(index);
    let scales = match config.layer_scale() {
        Some(value) if config.is_eva_or_beit() && !config.use_post_norm => {
            let gamma = |name| vb.get_with_hints(config.embed_dim, name, Init::Const(value)).map(LayerScale::new);
            [Some(gamma("gamma_1")?), Some(gamma("gamma_2")?)]
        }
        _ => [None, None],
    };
    let inner = |vb| attention_of(config, index, common, vb);
    let mut attn = residual_branch(&branch, ["norm1", "attn", "ls1", "drop_path1"], inner, vb.clone())?;
    let inner = |vb| mlp_block(&config.mlp_block(), vb);
    let mut mlp = residual_branch(&branch, ["norm2", "mlp", "ls2", "drop_path2"], inner, vb)?;
    if let [Some(first), Some(second)] = scales {
        (attn, mlp) = (attn.with_layer_scale(Some(first)), mlp.with_layer_scale(Some(second)));
    }
    Ok(Branches::InTurn(vec![attn], vec![mlp]))
}

/// timm's `ParallelThingsBlock`.
fn side_by_side(config: &VitConfig, index: usize, common: &Common, vb: VarBuilder) -> Result<Branches> {
    let branch = config.residual_branch(index);
    let numbered =
        |of: &str| (0..config.block_fn.num_parallel()).map(|i| vb.pp(format!("{of}.{i}"))).collect::<Vec<_>>();
    let attn = |vb: VarBuilder<'_>| {
        let inner = |vb| attention_of(config, index, common, vb);
        residual_branch(&branch, ["norm", "attn", "ls", "drop_path"], inner, vb)
    };
    let mlp = |vb: VarBuilder<'_>| {
        let inner = |vb| mlp_block(&config.mlp_block(), vb);
        residual_branch(&branch, ["norm", "mlp", "ls", "drop_path"], inner, vb)
    };
    Ok(Branches::InTurn(
        numbered("attns").into_iter().map(attn).collect::<Result<_>>()?,
        numbered("ffns").into_iter().map(mlp).collect::<Result<_>>()?,
    ))
}

/// timm's `ParallelScalingBlock`.
fn at_once(config: &VitConfig, index: usize, vb: VarBuilder) -> Result<Branches> {
    let (attn, mlp) = (config.attention(index), config.mlp_block());
    let before = before_norm(&attn, &mlp, &vb)?;
    // Its layers have no name in common.
    let inner = |_| attention_and_mlp(&attn, &mlp, before, vb.clone());
    let names = ["in_norm", "", "ls", "drop_path"];
    Ok(Branches::AtOnce(residual_branch(&config.residual_branch(index), names, inner, vb.clone())?.into()))
}

/// The attention of block `index`, with its positions.
fn attention_of(config: &VitConfig, index: usize, common: &Common, vb: VarBuilder) -> Result<Attention> {
    let own = common.positions.as_ref().filter(|_| config.use_rel_pos_bias);
    let rope = common.rope.as_ref().map(|rope| rope.of_block(index));
    Ok(attention_between(&config.attention(index), own, vb)?.with_rope(rope).with_shared_bias(common.bias.clone()))
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
