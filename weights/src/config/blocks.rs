//! What the shapes of a ViT's first block say of how its blocks are built.

use tallow_models::VitConfig;
use tallow_models::vit::{AttnLayer, BlockFn, NormLayer};

use crate::naming::{Naming, Translation};

/// What the first block tells.
pub(super) struct Blocks {
    block_fn: BlockFn,
    attn_layer: AttnLayer,
    /// Width of the MLP, its gate not counted, where it is told.
    hidden: Option<usize>,
    /// Whether there is a gate, and whether it has a layer of its own.
    pub(super) gated: bool,
    gate_apart: bool,
    qkv_bias: bool,
    qkv_fused: bool,
    proj_bias: bool,
    norm_layer: NormLayer,
    /// Norms inside of attention and MLP.
    inside: [bool; 2],
    /// The width of a head, where norms over the values of one, or the vectors of a difference, tell it.
    pub(super) head_dim: Option<usize>,
    qk_norm: bool,
    /// The number of heads, where each has a learned scale.
    pub(super) scales: Option<usize>,
    layer_scale: bool,
}

/// Where the first block has its attention, its MLP, its norm and its LayerScale.
struct Places {
    attn: &'static str,
    mlp: &'static str,
    norm: &'static str,
    layer_scale: &'static str,
}

const IN_TURN: Places =
    Places { attn: "blocks.0.attn.", mlp: "blocks.0.mlp.", norm: "blocks.0.norm1.", layer_scale: "blocks.0.ls1.gamma" };
const THINGS: Places = Places {
    attn: "blocks.0.attns.0.attn.",
    mlp: "blocks.0.ffns.0.mlp.",
    norm: "blocks.0.attns.0.norm.",
    layer_scale: "blocks.0.attns.0.ls.gamma",
};
const SCALING: Places =
    Places { attn: "blocks.0.", mlp: "blocks.0.", norm: "blocks.0.in_norm.", layer_scale: "blocks.0.ls.gamma" };

/// Reads it by timm's names.
pub(super) fn read(translation: &Translation) -> Blocks {
    let shape = |of: &str, name: &str| Some(translation.get(&format!("{of}{name}"))?.shape.as_slice());
    let has = |of: &str, name: &str| shape(of, name).is_some();
    let in_parts = |of: &str, name: &str| translation.get(&format!("{of}{name}")).is_some_and(|at| at.parts.len() > 1);
    let block_fn = match (has(SCALING.norm, "weight"), has(THINGS.norm, "weight")) {
        (true, _) => BlockFn::ParallelScaling,
        (_, true) => BlockFn::ParallelThings,
        _ => BlockFn::Block,
    };
    // Behind attention and MLP at once there is one layer for both where heads are differences.
    let fused = has(SCALING.norm, "weight") && has(SCALING.attn, "out_proj.weight");
    let (Places { attn, mlp, norm, layer_scale }, layers) = match block_fn {
        BlockFn::ParallelScaling if fused => (SCALING, ["in_proj", "out_proj", "in_proj", "out_proj"]),
        BlockFn::ParallelScaling => (SCALING, ["in_proj", "mlp_out_proj", "in_proj", "attn_out_proj"]),
        BlockFn::ParallelThings => (THINGS, ["fc1", "fc2", "qkv", "proj"]),
        _ => (IN_TURN, ["fc1", "fc2", "qkv", "proj"]),
    };
    let [fc1, fc2, qkv, proj] = layers;
    let width = |layer: &str, axis: usize| shape(mlp, &format!("{layer}.weight"))?.get(axis).copied();
    let at_once = block_fn == BlockFn::ParallelScaling;
    let hidden = width(fc2, 1).or(width(fc1, 0).filter(|_| !at_once));
    let hidden = if fused { hidden.zip(width(fc2, 0)).map(|(both, dim)| both.saturating_sub(dim)) } else { hidden };
    let gated = !at_once && hidden.is_some_and(|hidden| width(fc1, 0) == Some(2 * hidden));
    let [qk_norm, scales, lambda] = ["q_norm.weight", "scale", "lambda_q1"].map(|name| shape(attn, name));
    let one = |shape: Option<&[usize]>| shape.filter(|shape| shape.len() == 1).map(|shape| shape[0]);
    // Nothing of a ViT without blocks is told.
    let told = has(norm, "weight");
    Blocks {
        block_fn,
        attn_layer: if lambda.is_some() { AttnLayer::Diff } else { AttnLayer::Attn },
        hidden,
        gated,
        gate_apart: gated && in_parts(mlp, "fc1.weight"),
        qkv_bias: !told || has(attn, &format!("{qkv}.bias")) || has(attn, "q_bias"),
        qkv_fused: translation.naming != Naming::Timm || !in_parts(attn, "qkv.weight"),
        proj_bias: !told || has(attn, &format!("{proj}.bias")),
        norm_layer: if told && !has(norm, "bias") { NormLayer::RmsNorm } else { NormLayer::LayerNorm },
        inside: [has(attn, "norm.weight"), has(mlp, "norm.weight")],
        head_dim: one(lambda).map(|half| half.saturating_mul(2)).or(one(qk_norm)),
        qk_norm: qk_norm.is_some(),
        scales: one(scales),
        layer_scale: has(layer_scale, ""),
    }
}

impl Blocks {
    /// Sets what they tell.
    pub(super) fn apply(&self, vit: &mut VitConfig) {
        (vit.block_fn, vit.attn_layer) = (self.block_fn, self.attn_layer);
        vit.mlp_ratio = VitConfig::mlp_ratio_of(self.hidden.unwrap_or(4 * vit.embed_dim), vit.embed_dim);
        (vit.qkv_bias, vit.qkv_fused, vit.proj_bias) = (self.qkv_bias, self.qkv_fused, self.proj_bias);
        vit.norm_layer = self.norm_layer;
        [vit.scale_attn_inner, vit.scale_mlp] = self.inside;
        vit.swiglu_mlp = self.gated;
        vit.swiglu_align_to = usize::from(self.gate_apart && !vit.scale_mlp);
        vit.qk_norm = self.qk_norm;
        vit.lsa = self.scales.is_some();
        vit.init_values = self.layer_scale.then_some(1e-5);
    }
}
