//! Batches on the device that the model computes on. To a CUDA device go 8-bit levels, wherever the transform allows it, from page-locked
//! memory on a stream of their own: the next batch travels while the model computes on one, and the device resizes and
//! normalises it.

use std::sync::Arc;

use candle_core::Device;
#[cfg(feature = "cuda")]
use tallow_models::images::{Upload, Uploads};

use super::{Batch, Loader, LoaderOptions, Result, Samples, Transform};

/// The batches of a [`Loader`], with their images on a device as float32 `[batch, channels, height, width]`.
pub struct Input {
    loader: Loader,
    transform: Arc<Transform>,
    device: Device,
    #[cfg(feature = "cuda")]
    uploads: Option<Ahead>,
}

/// Batches under way to a CUDA device.
#[cfg(feature = "cuda")]
struct Ahead {
    uploads: Uploads,
    next: Option<Result<(Batch, Upload)>>,
}

impl Input {
    /// As [`Loader::new`], for a device.
    ///
    /// # Errors
    /// As there; or if the device refuses what uploads need.
    pub fn new(
        samples: Arc<dyn Samples>,
        order: Vec<usize>,
        transform: Arc<Transform>,
        options: LoaderOptions,
        device: &Device,
    ) -> Result<Self> {
        let start = if device.is_cuda() { Loader::of_levels } else { Loader::new };
        Ok(Self {
            loader: start(samples, order, transform.clone(), options)?,
            transform,
            device: device.clone(),
            #[cfg(feature = "cuda")]
            uploads: if device.is_cuda() { Some(Ahead { uploads: Uploads::new(device)?, next: None }) } else { None },
        })
    }

    /// The next batch, its images on the device as they were loaded.
    fn moved(&mut self) -> Option<Result<Batch>> {
        #[cfg(feature = "cuda")]
        if let Some(ahead) = &mut self.uploads {
            let next = ahead.next.take().or_else(|| ahead.begin(&mut self.loader))?;
            let arrived = next.and_then(|(batch, upload)| Ok(Batch { images: ahead.uploads.end(upload)?, ..batch }));
            if arrived.is_ok() && self.loader.is_ready() {
                ahead.next = ahead.begin(&mut self.loader);
            }
            return Some(arrived);
        }
        let batch = self.loader.next()?;
        Some(batch.and_then(|batch| Ok(Batch { images: batch.images.to_device(&self.device)?, ..batch })))
    }

    fn finished(&self, batch: Batch) -> Result<Batch> {
        Ok(match self.loader.levels() {
            Some(levels) => Batch { images: self.transform.finish(&batch.images, levels)?, ..batch },
            None => batch,
        })
    }
}

#[cfg(feature = "cuda")]
impl Ahead {
    /// Begins to upload the next batch, which is waited for.
    fn begin(&mut self, loader: &mut Loader) -> Option<Result<(Batch, Upload)>> {
        Some(loader.next()?.and_then(|batch| {
            let upload = self.uploads.begin(&batch.images)?;
            Ok((batch, upload))
        }))
    }
}

impl Iterator for Input {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.moved()?;
        Some(batch.and_then(|batch| self.finished(batch)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::{DType, Device, Tensor};
    use tallow_weights::{Interpolation, Preprocessing};

    use super::Input;
    use crate::data::{Augment, Image, Loader, LoaderOptions, Result, Samples, Transform};

    /// Noise of one size or, without a promise of that, of many.
    struct Noise {
        size: Option<[usize; 3]>,
    }

    impl Samples for Noise {
        fn len(&self) -> usize {
            21
        }

        fn label(&self, index: usize) -> u32 {
            index as u32
        }

        fn image(&self, index: usize) -> Result<Image> {
            let [height, width, channels] =
                self.size.unwrap_or([9 + index, 30 - index, if index.is_multiple_of(2) { 1 } else { 3 }]);
            let pixels = (0..height * width * channels).map(|i| ((i + 7 * index) * 7919 % 251) as u8).collect();
            Ok(Image { width, height, channels, pixels })
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn image_size(&self) -> Option<[usize; 3]> {
            self.size
        }
    }

    fn preprocessing(channels: usize, interpolation: Interpolation) -> Preprocessing {
        Preprocessing::new([channels, 20, 24], vec![0.4; channels], vec![0.3; channels]).with(|c| {
            c.interpolation = interpolation;
            c.crop_pct = 0.9;
        })
    }

    /// All batches: as they are loaded for the CPU, and as levels that are finished then.
    fn both(samples: Noise, transform: Transform) -> [Vec<Tensor>; 2] {
        let (samples, transform): (Arc<dyn Samples>, _) = (Arc::new(samples), Arc::new(transform));
        let options = LoaderOptions { batch_size: 8, threads: 2, seed: 5, ..LoaderOptions::default() };
        let order: Vec<usize> = (0..samples.len()).rev().collect();
        let plain = Input::new(samples.clone(), order.clone(), transform.clone(), options, &Device::Cpu).unwrap();
        let loader = Loader::of_levels(samples, order, transform.clone(), options).unwrap();
        assert!(loader.levels().is_some());
        let levels = Input {
            loader,
            transform,
            device: Device::Cpu,
            #[cfg(feature = "cuda")]
            uploads: None,
        };
        [plain, levels].map(|input| input.map(|batch| batch.unwrap().images).collect())
    }

    #[test]
    fn levels_become_the_input_that_is_loaded_without_them() {
        use Interpolation::{Bicubic, Bilinear, Lanczos, Nearest};
        let mut cases = vec![];
        for channels in [1, 3] {
            for filter in [Bicubic, Bilinear, Lanczos, Nearest] {
                for size in [Some([10, 12, 1]), Some([9, 7, 3]), Some([40, 33, 3]), Some([20, 24, 1]), None] {
                    cases.push((channels, filter, size, vec![]));
                }
            }
            for size in [Some([10, 12, 1]), None] {
                cases.push((channels, Bicubic, size, vec![Augment::Crop, Augment::Flip]));
                cases.push((channels, Bicubic, size, vec![Augment::ResizedCrop]));
            }
        }
        for (channels, filter, size, augment) in cases {
            let transform = Transform::training(&preprocessing(channels, filter), &augment).unwrap();
            let [plain, levels] = both(Noise { size }, transform);
            assert_eq!((plain.len(), levels.len()), (3, 3));
            for (plain, levels) in plain.iter().zip(&levels) {
                assert_eq!((plain.dims(), levels.dtype()), (levels.dims(), DType::F32));
                let off = (plain - levels).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                // A level is 0.013.
                assert!(off < 1e-6, "{channels}, {filter:?}, {size:?}, {augment:?}: {off:e}");
            }
        }
    }

    #[test]
    fn small_images_of_one_size_are_left_as_they_are() {
        let size = |size, channels, augment: &[Augment]| {
            let transform = Transform::training(&preprocessing(channels, Interpolation::Bicubic), augment).unwrap();
            transform.levels(&Noise { size }).map(|levels| levels.size)
        };
        assert_eq!(size(Some([10, 12, 1]), 3, &[]), Some([10, 12, 1]));
        assert_eq!(size(Some([10, 12, 3]), 1, &[]), Some([10, 12, 1]));
        assert_eq!(size(Some([10, 12, 1]), 3, &[Augment::Crop]), Some([20, 24, 3]));
        assert_eq!(size(Some([40, 48, 3]), 3, &[]), Some([20, 24, 3]));
        assert_eq!(size(None, 3, &[]), Some([20, 24, 3]));
        assert_eq!(size(Some([10, 12, 1]), 3, &[Augment::Erase]), None, "noise has no levels");
    }

    #[test]
    fn an_image_of_another_size_than_was_promised_is_an_error() {
        struct Liar;
        impl Samples for Liar {
            fn len(&self) -> usize {
                1
            }
            fn label(&self, _: usize) -> u32 {
                0
            }
            fn image(&self, _: usize) -> Result<Image> {
                Ok(Image { width: 5, height: 4, channels: 1, pixels: vec![0; 20] })
            }
            fn name(&self, _: usize) -> String {
                "liar".into()
            }
            fn image_size(&self) -> Option<[usize; 3]> {
                Some([4, 4, 1])
            }
        }
        let transform = Arc::new(Transform::evaluation(&preprocessing(3, Interpolation::Bicubic)).unwrap());
        let mut loader = Loader::of_levels(Arc::new(Liar), vec![0], transform, LoaderOptions::default()).unwrap();
        let message = loader.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("4x4") && message.contains("5x4"), "{message}");
    }
}
