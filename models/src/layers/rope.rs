//! Rotary positions over the two axes of the image: the angles by which a block turns its queries and keys.
//!
//! Half of a head's pairs turn with the patch's row, half with its column, each by its own frequency; `mixed` learns for every
//! block, head and pair how much it turns with either. Prefix tokens have no place and are not turned.
//!
//! Heo et al., "Rotary Position Embedding for Vision Transformer", 2024; Siméoni et al., "DINOv3", 2025; as timm's
//! `RotaryEmbeddingCat`, `RotaryEmbeddingDinoV3` and `RotaryEmbeddingMixed`.

use std::f64::consts::TAU;

use candle_core::{Device, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::ops::{self, Turned};

/// Kinds of rotary positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RopeType {
    /// None.
    #[default]
    None,
    /// Angles by the number of the row and of the column (EVA-02, timm's `cat`).
    Cat,
    /// Angles by the place between -1 and 1, whatever the number of patches (DINOv3).
    DinoV3,
    /// As `cat`, with learned frequencies.
    Mixed,
}

/// Which axis comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GridIndexing {
    /// Rows.
    #[default]
    Ij,
    /// Columns.
    Xy,
}

impl RopeType {
    /// The name that a configuration file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cat => "cat",
            Self::DinoV3 => "dinov3",
            Self::Mixed => "mixed",
        }
    }
}

impl GridIndexing {
    /// The name that a configuration file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ij => "ij",
            Self::Xy => "xy",
        }
    }
}

/// What rotary positions are made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RopeConfig {
    /// The kind; with [`RopeType::None`] nothing is turned.
    pub kind: RopeType,
    /// Rows and columns of patches.
    pub grid: [usize; 2],
    /// Values of a head; a multiple of 4.
    pub head_dim: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Blocks, of which each has its own frequencies where they are learned.
    pub depth: usize,
    /// The slowest pair turns about so many times slower than the fastest. Default 10000.
    pub temperature: f64,
    /// Added to the number of a row and of a column. Default 0.
    pub grid_offset: f64,
    /// Which axis comes first. Default rows.
    pub grid_indexing: GridIndexing,
    /// Pairs are made of a head's two halves, and not of neighbours. Default false.
    pub rotate_half: bool,
    /// Rows and columns onto which the numbers of `cat` are stretched. Default none.
    pub ref_feat_shape: Option<[usize; 2]>,
}

impl RopeConfig {
    /// `kind` over a grid of patches, for heads of `head_dim` values.
    pub fn new(kind: RopeType, grid: [usize; 2], num_heads: usize, head_dim: usize) -> Self {
        Self {
            kind,
            grid,
            head_dim,
            num_heads,
            depth: 1,
            temperature: 10_000.,
            grid_offset: 0.,
            grid_indexing: GridIndexing::Ij,
            rotate_half: false,
            ref_feat_shape: None,
        }
    }

    /// Row and column of every patch, as numbers; the axis that comes first is the first.
    fn places(&self) -> Vec<[f64; 2]> {
        let along = |axis: usize| {
            let count = self.grid[axis] as f64;
            let place = move |i: usize| match self.kind {
                RopeType::DinoV3 => 2. * ((i as f64 + 0.5 + self.grid_offset) / count) - 1.,
                RopeType::Mixed => i as f64,
                _ => {
                    let number = i as f64 + self.grid_offset;
                    self.ref_feat_shape.map_or(number, |shape| number / count * shape[axis] as f64)
                }
            };
            (0..self.grid[axis]).map(place).collect::<Vec<_>>()
        };
        let (rows, columns) = (along(0), along(1));
        let both = rows.iter().flat_map(|&row| columns.iter().map(move |&column| [row, column]));
        match self.grid_indexing {
            GridIndexing::Ij => both.collect(),
            GridIndexing::Xy => both.map(|[row, column]| [column, row]).collect(),
        }
    }

    /// The frequencies of the pairs that turn with one axis.
    fn frequencies(&self) -> Vec<f64> {
        let count = self.head_dim / 4;
        let whole = if self.kind == RopeType::DinoV3 { TAU } else { 1. };
        (0..count).map(|i| whole / self.temperature.powf(i as f64 / count as f64)).collect()
    }
}

/// The rotary positions of a model. Learned ones have the parameter `freqs` `[2, depth, heads, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct Rope {
    angles: Angles,
    half: bool,
}

#[derive(Debug, Clone)]
enum Angles {
    /// Cosines and sines, `[patches, 1, head_dim / 2]`.
    Fixed([Tensor; 2]),
    /// The frequencies of all blocks, which block this is, and the places of the patches along both axes, `[patches, 1, 1]`.
    Learned { freqs: Tensor, block: usize, places: [Tensor; 2] },
}

/// The rotary positions that `config` describes, where there are any.
///
/// # Errors
/// If the width of a head is no multiple of 4.
pub fn rope(config: &RopeConfig, vb: VarBuilder) -> Result<Option<Rope>> {
    if config.kind == RopeType::None {
        return Ok(None);
    }
    if !config.head_dim.is_multiple_of(4) || config.head_dim == 0 {
        bail!(
            "rope: expected heads of a multiple of 4 values, as pairs turn with rows and columns, got {}",
            config.head_dim
        )
    }
    let (places, pairs) = (config.places(), config.head_dim / 2);
    if config.kind == RopeType::Mixed {
        let shape = (2, config.depth, config.num_heads, pairs);
        let freqs = vb.get_with_hints(shape, "freqs", Init::Const(config.temperature))?;
        let along = |axis: usize| {
            let places: Vec<f32> = places.iter().map(|place| place[axis] as f32).collect();
            Tensor::from_vec(places, (config.grid[0] * config.grid[1], 1, 1), vb.device())
        };
        let angles = Angles::Learned { freqs, block: 0, places: [along(0)?, along(1)?] };
        return Ok(Some(Rope { angles, half: config.rotate_half }));
    }
    let frequencies = config.frequencies();
    let of_patch =
        |place: &[f64; 2]| place.map(|at| frequencies.iter().map(move |frequency| at * frequency)).into_iter();
    let angles: Vec<f64> = places.iter().flat_map(of_patch).flatten().collect();
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f32> = angles.iter().map(|&angle| f(angle) as f32).collect();
        Tensor::from_vec(values, (places.len(), 1, pairs), &Device::Cpu)?.to_device(vb.device())
    };
    Ok(Some(Rope { angles: Angles::Fixed([table(f64::cos)?, table(f64::sin)?]), half: config.rotate_half }))
}

impl Rope {
    /// The positions of block `index`, which has its own where they are learned.
    #[must_use]
    pub fn of_block(&self, index: usize) -> Self {
        let mut own = self.clone();
        if let Angles::Learned { block, .. } = &mut own.angles {
            *block = index;
        }
        own
    }

    /// Turns the first `turned` of the `heads` heads of `x [batch, tokens, heads * head_dim]`, in the last tokens, which are the
    /// patches.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn turn(&self, x: &Tensor, heads: usize, turned: usize) -> Result<Tensor> {
        let which = Turned { heads, turned, half: self.half };
        match &self.angles {
            Angles::Fixed([cos, sin]) => ops::rope(x, cos, sin, which),
            Angles::Learned { freqs, block, places } => {
                let (_, _, num_heads, pairs) = freqs.dims4()?;
                let own = freqs.narrow(1, *block, 1)?.to_dtype(places[0].dtype())?;
                let along =
                    |axis: usize| own.narrow(0, axis, 1)?.reshape((1, num_heads, pairs))?.broadcast_mul(&places[axis]);
                let angles = (along(0)? + along(1)?)?;
                ops::rope(x, &angles.cos()?, &angles.sin()?, which)
            }
        }
    }

    /// The learned frequencies, where there are any.
    pub fn parameter(&self) -> Option<&Tensor> {
        match &self.angles {
            Angles::Fixed(_) => None,
            Angles::Learned { freqs, .. } => Some(freqs),
        }
    }
}
