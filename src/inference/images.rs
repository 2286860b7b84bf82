//! Images in the forms in which a program has them: paths, bytes, decoded images, tensors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::Pretrained;
use crate::data::{self, Alpha, Decoding, Exif, Image, Samples, decode_as, open_image_as};

/// One image, in one of the forms in which a program has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ImageInput {
    /// An image file.
    Path(PathBuf),
    /// The contents of an image file.
    Bytes(Arc<[u8]>),
    /// Decoded pixels.
    Pixels(Arc<Image>),
    /// Of type u8: pixels `[channels, height, width]` of any size, red before green before blue. Of a float type: what the model
    /// reads, of its own size, resized and normalised already.
    Tensor(Tensor),
}

/// What is one image.
pub trait AsImage {
    /// The image, to be read or decoded later.
    fn as_image(&self) -> ImageInput;
}

/// What is one image or many: anything that is [`AsImage`], slices, arrays and vectors of such, and tensors
/// `[batch, channels, height, width]`.
pub trait Images {
    /// The images, in their order.
    fn images(&self) -> Vec<ImageInput>;
}

impl AsImage for ImageInput {
    fn as_image(&self) -> ImageInput {
        self.clone()
    }
}

impl AsImage for Path {
    fn as_image(&self) -> ImageInput {
        ImageInput::Path(self.into())
    }
}

impl AsImage for PathBuf {
    fn as_image(&self) -> ImageInput {
        self.as_path().as_image()
    }
}

impl AsImage for str {
    fn as_image(&self) -> ImageInput {
        Path::new(self).as_image()
    }
}

impl AsImage for String {
    fn as_image(&self) -> ImageInput {
        self.as_str().as_image()
    }
}

impl AsImage for [u8] {
    fn as_image(&self) -> ImageInput {
        ImageInput::Bytes(self.into())
    }
}

impl AsImage for Vec<u8> {
    fn as_image(&self) -> ImageInput {
        self.as_slice().as_image()
    }
}

impl<const N: usize> AsImage for [u8; N] {
    fn as_image(&self) -> ImageInput {
        self.as_slice().as_image()
    }
}

impl AsImage for Image {
    fn as_image(&self) -> ImageInput {
        ImageInput::Pixels(Arc::new(self.clone()))
    }
}

impl AsImage for image::DynamicImage {
    fn as_image(&self) -> ImageInput {
        ImageInput::Pixels(Arc::new(self.clone().into()))
    }
}

impl AsImage for Tensor {
    fn as_image(&self) -> ImageInput {
        ImageInput::Tensor(self.clone())
    }
}

impl<T: AsImage + ?Sized> AsImage for &T {
    fn as_image(&self) -> ImageInput {
        (**self).as_image()
    }
}

macro_rules! one_image {
    ($($kind:ty),*) => {
        $(impl Images for $kind {
            fn images(&self) -> Vec<ImageInput> {
                vec![self.as_image()]
            }
        })*
    };
}

one_image!(ImageInput, Path, PathBuf, str, String, [u8], Vec<u8>, Image, image::DynamicImage);

impl<const N: usize> Images for [u8; N] {
    fn images(&self) -> Vec<ImageInput> {
        vec![self.as_image()]
    }
}

impl Images for Tensor {
    fn images(&self) -> Vec<ImageInput> {
        match self.dim(0) {
            // What is no batch after all is told where it is read.
            Ok(count) if self.rank() == 4 => {
                let image = |index| self.get(index).unwrap_or_else(|_| self.clone());
                (0..count).map(|index| ImageInput::Tensor(image(index))).collect()
            }
            _ => vec![self.as_image()],
        }
    }
}

impl<T: AsImage> Images for [T] {
    fn images(&self) -> Vec<ImageInput> {
        self.iter().map(AsImage::as_image).collect()
    }
}

impl<T: AsImage> Images for Vec<T> {
    fn images(&self) -> Vec<ImageInput> {
        self.as_slice().images()
    }
}

impl<T: AsImage, const N: usize> Images for [T; N] {
    fn images(&self) -> Vec<ImageInput> {
        self.as_slice().images()
    }
}

impl<T: Images + ?Sized> Images for &T {
    fn images(&self) -> Vec<ImageInput> {
        (**self).images()
    }
}

/// Images as samples without labels, which the loader's threads decode.
pub(super) struct Inputs {
    pub images: Vec<ImageInput>,
    pub exif: Exif,
}

impl Inputs {
    /// The input of the model that image `index` is already; none where it has to be decoded or transformed.
    pub fn ready(&self, index: usize) -> Option<&Tensor> {
        match &self.images[index] {
            ImageInput::Tensor(tensor) if tensor.dtype().is_float() => Some(tensor),
            _ => None,
        }
    }

    /// What `pretrained` reads of image `index`, which is that already, on its device and of its type.
    pub fn input(&self, index: usize, pretrained: &Pretrained) -> data::Result<Tensor> {
        let expected = pretrained.config().architecture.input_size();
        let Some(tensor) = self.ready(index).filter(|tensor| tensor.dims() == expected) else {
            let got = self.ready(index).map_or(String::new(), |tensor| format!("{:?}", tensor.dims()));
            let expected = format!("the model's input {expected:?}, or pixels of type u8 in any size");
            return Err(data::Error::invalid(self.name(index), expected, got));
        };
        let input = tensor.detach().to_device(pretrained.device())?.to_dtype(pretrained.dtype())?;
        // Else the weights would seem to be damaged.
        if input.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?.iter().any(|value| !value.is_finite()) {
            return Err(data::Error::invalid(self.name(index), "finite values", "NaN or infinity among them"));
        }
        Ok(input)
    }

    fn decoded(&self, index: usize, alpha: Alpha) -> data::Result<Image> {
        let decoding = Decoding { alpha, exif: self.exif };
        match &self.images[index] {
            ImageInput::Path(path) => open_image_as(path, decoding),
            ImageInput::Bytes(bytes) => decode_as(bytes, &self.name(index), decoding),
            ImageInput::Pixels(image) => {
                image.check(&self.name(index))?;
                Ok(image.read_as(alpha))
            }
            ImageInput::Tensor(tensor) => {
                let image = of_pixels(tensor, &self.name(index))?;
                Ok(image.read_as(alpha))
            }
        }
    }
}

/// The image of pixels `[channels, height, width]`.
fn of_pixels(tensor: &Tensor, name: &str) -> data::Result<Image> {
    let (3, DType::U8) = (tensor.rank(), tensor.dtype()) else {
        let expected = "pixels [channels, height, width] of type u8, or the model's input of a float type";
        return Err(data::Error::invalid(name, expected, format!("{:?} of {:?}", tensor.dtype(), tensor.dims())));
    };
    let (channels, height, width) = tensor.dims3()?;
    let pixels = tensor.to_device(&Device::Cpu)?.permute((1, 2, 0))?.flatten_all()?.to_vec1()?;
    let image = Image { width, height, channels, pixels };
    image.check(name)?;
    Ok(image)
}

impl Samples for Inputs {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn image(&self, index: usize) -> data::Result<Image> {
        self.decoded(index, Alpha::Dropped)
    }

    fn image_as(&self, index: usize, alpha: Alpha) -> data::Result<Image> {
        self.decoded(index, alpha)
    }

    fn name(&self, index: usize) -> String {
        match &self.images[index] {
            ImageInput::Path(path) => path.display().to_string(),
            _ => format!("image {}", index + 1),
        }
    }
}
