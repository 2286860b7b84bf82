//! Writing weights for others: timm's layout, GGUF. Each file is written under a temporary name beside its place, synced, and
//! renamed: whoever looks finds the old file or the whole new one.

mod config;
mod gguf;
mod replace;
mod safetensors;
mod stream;
mod timm;

pub use config::{check_timm, config_json};
pub use gguf::{Quantisation, gguf};
pub use replace::{replace, write_bytes, write_text};
pub use safetensors::safetensors;
pub use stream::{Stream, stream};
pub use timm::timm;
