//! What a data set is: labelled images by index, in a training and a test part.

use std::sync::Arc;

use super::Result;

/// A decoded image: 8 bits a channel, rows from top to bottom, channels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Vec<u8>,
}

/// Labelled images by index. Reading is lazy: an image is decoded when it is asked for.
pub trait Samples: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;
    /// The label of sample `index`.
    fn label(&self, index: usize) -> u32;
    /// Decodes sample `index`.
    fn image(&self, index: usize) -> Result<Image>;
    /// What to call sample `index` in a message or report: a file's path, or the data set and the index.
    fn name(&self, index: usize) -> String;
    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A data set with its classes.
#[derive(Clone)]
pub struct Dataset {
    /// How the user named it: `mnist`, `folder:photos`.
    pub spec: String,
    /// Class names by label.
    pub classes: Vec<String>,
    /// The training part.
    pub train: Arc<dyn Samples>,
    /// The part that results are reported on.
    pub test: Arc<dyn Samples>,
}
