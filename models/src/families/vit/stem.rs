//! The convolutions of a hybrid, out of whose maps patches are cut: the ResNet of Big Transfer, with standardised filters, group norms
//! and "same" padding, and the activation behind each sum.
//!
//! Dosovitskiy et al. 2020; Kolesnikov et al., "Big Transfer", 2019; as timm's `ResNetV2` with `preact=False`.

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use serde::{Deserialize, Serialize};

use super::VitConfig;
use crate::autograd::checkpoint;
use crate::families::check::{check, check_size, config_error};
use crate::layers::{GroupNorm, SHIFTS, StdConv2d, group_norm, std_conv2d};
use crate::{Error, ops};

/// Groups of every norm, and its epsilon.
const GROUPS: usize = 32;
const EPS: f64 = 1e-5;

/// Height and width of the first convolution, and of the windows of the pool behind it.
const FIRST: usize = 7;
const POOL: usize = 3;

/// The bottlenecks of the stages of a hybrid's ResNet, `[3, 4, 9]`; without stages it is a convolution and a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct StemLayers {
    /// 0 for stages that are not there.
    stages: [usize; Self::MOST],
}

impl StemLayers {
    /// No ResNet has more stages.
    const MOST: usize = 4;

    /// Stages of so many bottlenecks; 0 for those that are not there.
    pub(super) const fn new(stages: [usize; Self::MOST]) -> Self {
        Self { stages }
    }

    /// Bottlenecks, stage by stage.
    pub fn stages(&self) -> &[usize] {
        let count = self.stages.iter().position(|&blocks| blocks == 0).unwrap_or(Self::MOST);
        &self.stages[..count]
    }
}

impl From<StemLayers> for Vec<usize> {
    fn from(layers: StemLayers) -> Self {
        layers.stages().to_vec()
    }
}

impl TryFrom<Vec<usize>> for StemLayers {
    type Error = Error;

    fn try_from(given: Vec<usize>) -> std::result::Result<Self, Error> {
        const DEEPEST: usize = 256;
        if given.len() > Self::MOST || given.iter().any(|blocks| !(1..=DEEPEST).contains(blocks)) {
            let expected = format!("at most {} stages of 1 to {DEEPEST} bottlenecks each", Self::MOST);
            return Err(config_error("stem_layers", expected, format!("{given:?}")));
        }
        let mut stages = [0; Self::MOST];
        stages[..given.len()].copy_from_slice(&given);
        Ok(Self { stages })
    }
}

impl VitConfig {
    /// How many pixels a side of the image fall on one of what patches are cut out of: 1, or as a stem makes images smaller.
    pub fn reduction(&self) -> usize {
        self.stem_layers.map_or(1, |layers| 4 << layers.stages().len().saturating_sub(1))
    }

    /// Height and width of the part of an image that a patch stands for, in pixels: `patch_size`, times what a stem makes smaller.
    pub fn patch_pixels(&self) -> usize {
        self.patch_size.saturating_mul(self.reduction())
    }

    /// Channels of what is cut into patches: the image's, with `spt` those of the image and its four shifts, or those of a stem's maps.
    pub fn patch_chans(&self) -> usize {
        match self.stem_layers {
            Some(_) => self.bottlenecks().last().map_or(self.stem_width, |last| last.to),
            None if self.spt => (1 + SHIFTS) * self.in_chans,
            None => self.in_chans,
        }
    }

    /// Rows and columns of what patches are cut out of.
    pub(super) fn map_size(&self) -> [usize; 2] {
        self.img_size.sides().map(|side| side.div_ceil(self.reduction()))
    }

    /// The bottlenecks of the stem, in order.
    fn bottlenecks(&self) -> Vec<Shape> {
        let layers = self.stem_layers.unwrap_or(StemLayers::new([0; StemLayers::MOST]));
        let mut from = self.stem_width;
        let mut shapes = Vec::new();
        for (stage, &blocks) in layers.stages().iter().enumerate() {
            let inner = self.stem_width << stage;
            for block in 0..blocks {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                shapes.push(Shape { stage, block, from, inner, to: 4 * inner, stride });
                from = 4 * inner;
            }
        }
        shapes
    }

    /// Checks the stem, and what cannot stand beside one.
    pub(super) fn validate_stem(&self) -> crate::Result<()> {
        let c = self;
        if c.stem_layers.is_none() {
            return Ok(());
        }
        check_size("stem_width", c.stem_width, 1 << 12)?;
        let groups = || format!("a multiple of {GROUPS}, the groups of its norms");
        check(c.stem_width.is_multiple_of(GROUPS), "stem_width", groups, c.stem_width)?;
        let alone = || "false where patches are cut out of a stem's maps".into();
        check(!c.spt, "spt", alone, true)?;
        check(!c.norm_patches, "norm_patches", alone, true)?;
        check(!c.trim, "trim", alone, true)
    }

    /// The weights of the stem's convolutions: about what its parameters are.
    pub(super) fn stem_weights(&self) -> u64 {
        let first = (self.in_chans * self.stem_width * FIRST * FIRST) as u64;
        let of = |shape: &Shape| shape.convolutions().map(|(weights, _)| weights).sum::<u64>();
        if self.stem_layers.is_none() { 0 } else { first + self.bottlenecks().iter().map(of).sum::<u64>() }
    }

    /// The multiply-adds of the stem for one image.
    pub(super) fn stem_multiply_adds(&self) -> u64 {
        if self.stem_layers.is_none() {
            return 0;
        }
        let pixels = |reduction: usize| {
            self.img_size.sides().iter().map(|side| side.div_ceil(reduction) as u64).product::<u64>()
        };
        let first = (self.in_chans * self.stem_width * FIRST * FIRST) as u64 * pixels(2);
        let of = |shape: &Shape| {
            // What it reads and what it writes have one size, but where its stride lies between them.
            let behind = 4 << shape.stage;
            let cost =
                |(weights, before): (u64, bool)| weights * pixels(if before { behind / shape.stride } else { behind });
            shape.convolutions().map(cost).sum::<u64>()
        };
        first + self.bottlenecks().iter().map(of).sum::<u64>()
    }
}

/// Where a bottleneck stands, the channels that it reads, has inside and gives, and how much smaller it makes its maps.
struct Shape {
    stage: usize,
    block: usize,
    from: usize,
    inner: usize,
    to: usize,
    stride: usize,
}

impl Shape {
    /// Weights of each of its convolutions, and whether that has maps of the size that the bottleneck reads.
    fn convolutions(&self) -> impl Iterator<Item = (u64, bool)> {
        let Self { from, inner, to, .. } = *self;
        let downsample = if self.block == 0 { from * to } else { 0 };
        let weights = [(from * inner, true), (9 * inner * inner, false), (inner * to, false), (downsample, false)];
        weights.into_iter().map(|(weights, before)| (weights as u64, before))
    }
}

/// A hybrid's convolutions.
#[derive(Debug, Clone)]
pub(super) struct Stem {
    conv: StdConv2d,
    norm: GroupNorm,
    bottlenecks: Vec<Bottleneck>,
    grad_checkpointing: bool,
}

impl Stem {
    /// The stem of a ViT, with timm's names; none where it has none.
    pub fn new(config: &VitConfig, vb: VarBuilder) -> Result<Option<Self>> {
        let Some(layers) = config.stem_layers else { return Ok(None) };
        // timm's ResNet without stages is its beginning alone, without a name of its own.
        let first = if layers.stages().is_empty() { vb.clone() } else { vb.pp("stem") };
        let of =
            |shape: Shape| Bottleneck::new(&shape, vb.pp(format!("stages.{}.blocks.{}", shape.stage, shape.block)));
        Ok(Some(Self {
            conv: std_conv2d([config.in_chans, config.stem_width], FIRST, 2, first.pp("conv"))?,
            norm: group_norm(GROUPS, config.stem_width, EPS, first.pp("norm"))?,
            bottlenecks: config.bottlenecks().into_iter().map(of).collect::<Result<_>>()?,
            grad_checkpointing: false,
        }))
    }

    /// The bottlenecks keep only their inputs for the backward, which computes the rest again.
    pub fn set_grad_checkpointing(&mut self, on: bool) {
        self.grad_checkpointing = on;
    }

    /// `[batch, channels, height, width]` to maps `[batch, patch_chans, height / reduction, width / reduction]`, rounded up.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let x = ops::relu(&self.norm.forward(&self.conv.forward(images)?)?)?;
        let x = ops::max_pool2d_same(&x, POOL, 2)?;
        self.bottlenecks.iter().try_fold(x, |x, bottleneck| {
            if !self.grad_checkpointing {
                return bottleneck.forward(&x);
            }
            let copy = bottleneck.clone();
            checkpoint(&x, &bottleneck.parameters(), move |x| copy.forward(x))
        })
    }
}

/// `relu(shortcut(x) + f(x))`, where `f` is three convolutions with their norms, and the shortcut one at the beginning of a stage.
#[derive(Debug, Clone)]
struct Bottleneck {
    downsample: Option<(StdConv2d, GroupNorm)>,
    layers: [(StdConv2d, GroupNorm); 3],
}

impl Bottleneck {
    fn new(shape: &Shape, vb: VarBuilder) -> Result<Self> {
        let Shape { from, inner, to, stride, .. } = *shape;
        let layer = |channels: [usize; 2], kernel, stride, conv: VarBuilder, norm: VarBuilder| {
            let conv = std_conv2d(channels, kernel, stride, conv)?;
            Ok::<_, candle_core::Error>((conv, group_norm(GROUPS, channels[1], EPS, norm)?))
        };
        let downsample = || {
            let vb = vb.pp("downsample");
            layer([from, to], 1, stride, vb.pp("conv"), vb.pp("norm"))
        };
        Ok(Self {
            downsample: (shape.block == 0).then(downsample).transpose()?,
            layers: [
                layer([from, inner], 1, 1, vb.pp("conv1"), vb.pp("norm1"))?,
                layer([inner, inner], 3, stride, vb.pp("conv2"), vb.pp("norm2"))?,
                layer([inner, to], 1, 1, vb.pp("conv3"), vb.pp("norm3"))?,
            ],
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = |(conv, norm): &(StdConv2d, GroupNorm), x: &Tensor| norm.forward(&conv.forward(x)?);
        let [first, second, third] = &self.layers;
        let shortcut = self.downsample.as_ref().map_or_else(|| Ok(x.clone()), |layer| normed(layer, x))?;
        let y = ops::relu(&normed(first, x)?)?;
        let y = ops::relu(&normed(second, &y)?)?;
        ops::relu(&(shortcut + normed(third, &y)?)?)
    }

    /// Every tensor that it computes with.
    fn parameters(&self) -> Vec<&Tensor> {
        let layers = self.downsample.iter().chain(&self.layers);
        layers.flat_map(|(conv, norm)| [conv.weight()].into_iter().chain(norm.parameters())).collect()
    }
}
