//! What a text tower is made of, as plain data.

use serde::{Deserialize, Serialize};

use crate::families::check::{check, check_parameters, check_size};
use crate::families::vit::Act;
use crate::{ParamSpec, Params, Result};

/// Configuration of a text tower. The default is that of OpenAI's CLIP ViT-B/32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TextConfig {
    /// Tokens that there are. Default 49408.
    pub vocab_size: usize,
    /// Tokens of a text at most, those at its beginning and end included. Default 77.
    pub context_length: usize,
    /// Width of a token. Default 512.
    pub embed_dim: usize,
    /// Number of blocks. Default 12.
    pub depth: usize,
    /// Attention heads; divides `embed_dim`. Default 8.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer. Default 2048.
    pub mlp_dim: usize,
    /// Activation of the MLP. Default quick_gelu.
    pub act: Act,
    /// Epsilon of every LayerNorm. Default 1e-5.
    pub norm_eps: f64,
    /// Initial value of LayerScale; none leaves LayerScale out. Default none.
    pub init_values: Option<f64>,
    /// Whether a token attends to itself and those before it alone. Default true.
    pub causal: bool,
    /// Which token stands for the text. Default largest.
    pub pool: TextPool,
    /// Width of the projection behind it; none leaves the projection out. Default 512.
    pub proj_dim: Option<usize>,
    /// Whether the projection has a bias. Default false.
    pub proj_bias: bool,
}

/// Which token stands for the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextPool {
    /// The first one with the largest number: in CLIP's vocabulary that ends a text.
    #[default]
    Largest,
    /// The first one with this number, or the first of the text where none has it.
    Token(u32),
    /// The first one.
    First,
    /// The last one, wherever the text ends: texts are filled up to the same length (SigLIP).
    Last,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            context_length: 77,
            embed_dim: 512,
            depth: 12,
            num_heads: 8,
            mlp_dim: 2048,
            act: Act::QuickGelu,
            norm_eps: 1e-5,
            init_values: None,
            causal: true,
            pool: TextPool::Largest,
            proj_dim: Some(512),
            proj_bias: false,
        }
    }
}

impl TextConfig {
    /// The same after `change`, in one expression: `TextConfig::default().with(|c| c.depth = 6)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The width of what the tower gives.
    pub fn num_features(&self) -> usize {
        self.proj_dim.unwrap_or(self.embed_dim)
    }

    /// Whether what comes after the token that stands for the text has no part in the result, so that it can be left away.
    pub fn ends_with_text(&self) -> bool {
        self.causal && self.pool != TextPool::Last
    }

    /// Names and shapes of all parameters, in order, without allocating them.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn parameters(&self) -> Result<Vec<ParamSpec>> {
        self.validate()?;
        Params::declared_by(|vb| super::TextTower::new(self, vb))
    }

    /// Checks that the configuration makes sense and that the tower is of a size that can be built. Building does it too.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field, what it can be, and what it is.
    pub fn validate(&self) -> Result<()> {
        let c = self;
        check_size("vocab_size", c.vocab_size, 1 << 24)?;
        check_size("context_length", c.context_length, 1 << 14)?;
        check_size("embed_dim", c.embed_dim, 1 << 16)?;
        check_size("depth", c.depth, 1 << 12)?;
        check_size("num_heads", c.num_heads, c.embed_dim)?;
        check_size("mlp_dim", c.mlp_dim, 1 << 20)?;
        check(
            c.embed_dim.is_multiple_of(c.num_heads),
            "num_heads",
            || format!("a divisor of embed_dim {}", c.embed_dim),
            c.num_heads,
        )?;
        check(c.norm_eps.is_finite() && c.norm_eps > 0., "norm_eps", || "a positive number".into(), c.norm_eps)?;
        if let Some(value) = c.init_values {
            check(value.is_finite(), "init_values", || "a finite number, or none".into(), value)?;
        }
        c.proj_dim.map_or(Ok(()), |dim| check_size("proj_dim", dim, 1 << 16))?;
        let [dim, hidden, depth] = [c.embed_dim, c.mlp_dim, c.depth].map(|n| n as u64);
        let stem = dim.saturating_mul((c.vocab_size + c.context_length) as u64);
        check_parameters(stem.saturating_add(depth * dim * (4 * dim + 2 * hidden)))
    }
}
