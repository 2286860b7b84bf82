//! ZCA whitening of a model's input: `y = (x - mean) W` over the input's flattened values, and the file that keeps it,
//! `preprocessing.safetensors` beside the weights.
//!
//! Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, appendix A. The `config.json` of such a
//! checkpoint names the file in its section `tallow`, which timm does not read.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};

use crate::{Error, Result, format, save};

/// A fitted whitening. Cloning it shares the values.
#[derive(Debug, Clone)]
pub struct Whitening {
    /// `[channels, height, width]`, of normalised inputs.
    mean: Tensor,
    /// `[values, values]`, symmetric.
    matrix: Tensor,
}

impl PartialEq for Whitening {
    /// To the last bit.
    fn eq(&self, other: &Self) -> bool {
        let values = |tensor: &Tensor| tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>()).ok();
        let equal = |a: &Tensor, b: &Tensor| a.dims() == b.dims() && values(a) == values(b);
        equal(&self.mean, &other.mean) && equal(&self.matrix, &other.matrix)
    }
}

impl Whitening {
    /// The name of the file beside the weights.
    pub const FILE: &'static str = "preprocessing.safetensors";
    /// The most values that an input may have: the matrix then takes 64 MiB.
    pub const MOST_VALUES: usize = 4096;
    const MEAN: &'static str = "zca.mean";
    const MATRIX: &'static str = "zca.matrix";

    /// From the mean `[channels, height, width]` and the symmetric matrix `[values, values]`, both float32 on the CPU.
    ///
    /// # Errors
    /// If the shapes do not fit each other, or a value is not finite.
    pub fn new(mean: Tensor, matrix: Tensor) -> Result<Self> {
        Self::checked(mean, matrix, "ZCA whitening")
    }

    /// `origin` is named in errors.
    fn checked(mean: Tensor, matrix: Tensor, origin: &str) -> Result<Self> {
        let values = mean.elem_count();
        if mean.rank() != 3 || values == 0 || values > Self::MOST_VALUES || matrix.dims() != [values, values] {
            let expected = format!(
                "{} [channels, height, width] with at most {} values, and {} of as many rows and columns",
                Self::MEAN,
                Self::MOST_VALUES,
                Self::MATRIX
            );
            return Err(Error::format(origin, expected, format!("{:?} and {:?}", mean.dims(), matrix.dims())));
        }
        for (name, tensor) in [(Self::MEAN, &mean), (Self::MATRIX, &matrix)] {
            if tensor.dtype() != DType::F32 {
                return Err(Error::format(origin, format!("{name} in float32"), format!("{:?}", tensor.dtype())));
            }
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFinite { origin: origin.into(), name: name.into(), got: bad.to_string() });
            }
        }
        Ok(Self { mean, matrix })
    }

    /// `[channels, height, width]` of the inputs that it whitens.
    pub fn input_size(&self) -> [usize; 3] {
        // Three dimensions were checked when it was made.
        self.mean.dims().try_into().unwrap_or_default()
    }

    /// What is subtracted, `[channels, height, width]`.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// What is multiplied with, `[values, values]`.
    pub fn matrix(&self) -> &Tensor {
        &self.matrix
    }

    /// Whitens `images` `[batch, channels, height, width]`, float32 on the CPU.
    ///
    /// # Errors
    /// If they have another shape.
    pub fn apply(&self, images: &Tensor) -> Result<Tensor> {
        let centred = images.broadcast_sub(&self.mean)?.flatten_from(1)?;
        // Candle's product, which is in float32 whatever the precision that models are run in.
        Ok(centred.matmul(&self.matrix)?.reshape(images.shape())?)
    }

    /// Reads the file in `folder`.
    ///
    /// # Errors
    /// If it is not there, or not such a file.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            return Err(Error::NotFound {
                what: format!("{} is missing, the whitening that the config.json beside it names", path.display()),
                remedy: "copy it from where the weights were trained".into(),
            });
        }
        let origin = path.display().to_string();
        let file = format::open(&path)?;
        let read = |name: &str| match file.tensors.iter().position(|info| info.name == name) {
            // A value that is no variable: it never changes.
            Some(at) => Ok(file.reader.read(at)?.detach()),
            None => Err(Error::NoTensor { origin: origin.clone(), name: name.into() }),
        };
        Self::checked(read(Self::MEAN)?, read(Self::MATRIX)?, &origin)
    }

    /// Writes the file into `folder`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let tensors = [(Self::MEAN.to_string(), self.mean.clone()), (Self::MATRIX.to_string(), self.matrix.clone())];
        save::safetensors(&folder.join(Self::FILE), &tensors, HashMap::new())
    }

    /// An error where inputs have another size than those that it whitens.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_input(&self, input_size: [usize; 3]) -> Result<()> {
        if self.input_size() == input_size {
            return Ok(());
        }
        let what = format!("whitening that was fitted to inputs {:?} for inputs {input_size:?}", self.input_size());
        let remedy = "keep the size, or fit another one (`normalize = zca`)";
        Err(Error::unsupported("the checkpoint", what, remedy))
    }
}
