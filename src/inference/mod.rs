//! The front door: a pretrained model, ready to be used.
//!
//! [`Classifier`] predicts the classes of images, [`Embedder`] turns images into vectors. Both take a name of the zoo, `hf-hub:OWNER/REPO`,
//! a file or folder with weights, or the folder of a run; and images as paths, bytes, decoded images or tensors ([`Images`]).
//! [`Pretrained`] is the model under them, for programs that need more of it.
//!
//! ```no_run
//! use tallow::Classifier;
//!
//! let classifier = Classifier::from_pretrained("runs/flowers")?;
//! for prediction in classifier.predict(&["rose.jpg", "tulip.jpg"])? {
//!     println!("{prediction}");
//! }
//! # Ok::<(), tallow::Error>(())
//! ```

mod classifier;
mod embedder;
mod error;
mod images;
mod nearest;
mod pass;
mod pretrained;
pub mod run;

pub use classifier::{Class, Classifier, Prediction};
pub use embedder::{Embedder, Features};
pub use error::{Error, HeadFault, Result};
pub use images::{AsImage, ImageInput, Images};
pub use nearest::nearest;
#[cfg(feature = "text")]
pub(crate) use pretrained::filled;
pub use pretrained::{Batches, InputBatch, Pretrained, PretrainedBuilder};
