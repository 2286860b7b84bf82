//! What stands beside a vision transformer while it is trained without labels, and is left out afterwards: the decoder of a masked
//! autoencoder, the head of DINO. Both are modules over the same store of parameters as the model, under a prefix of their own.

mod dino;
mod mae;
mod positions;

pub use dino::{DinoHead, DinoHeadConfig, dino_head, dino_loss, koleo_loss};
pub use mae::{MaeDecoder, MaeDecoderConfig, mae_decoder, mae_loss, mae_targets};
pub use positions::sinusoidal_2d;
