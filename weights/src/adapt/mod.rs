//! Making tensors fit: position embeddings and tables of relative ones for another image size, patches of another size, other input channels. All in
//! float32, and as timm does it.

mod channels;
mod patches;
mod positions;
mod relative;
mod resample;

pub use channels::adapt_channels;
pub use patches::{resample_patches, resample_patches_by};
pub use positions::{resample_positions, resample_positions_by};
pub use relative::{resample_relative, resample_relative_plainly};
pub use resample::{Resampling, cubic};
