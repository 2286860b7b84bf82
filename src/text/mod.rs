//! Words: texts as the vectors of a CLIP or SigLIP, which lie near those of the images that they describe; and classifiers that are made of
//! the names of their classes.
//!
//! ```no_run
//! use tallow::text::TextEncoder;
//!
//! let encoder = TextEncoder::from_pretrained("hf-hub:openai/clip-vit-base-patch32")?;
//! let vectors = encoder.embed(&["a photo of a cat", "a photo of a dog"])?; // [2, 512]
//! # Ok::<(), tallow::Error>(())
//! ```
//!
//! [`tokenizer`] cuts texts into tokens, [`TextEncoder`] makes vectors of them, [`templates`] has the sentences that class names are put
//! into, [`given`] reads names as users give them, and [`zero_shot`] the model that classifies by words.

mod encoder;
mod entities;
pub mod given;
mod repair;
pub mod templates;
pub mod tokenizer;
pub mod zero_shot;

pub use encoder::{TextEncoder, TextEncoderBuilder};
pub use templates::Templates;
pub use zero_shot::ZeroShot;
