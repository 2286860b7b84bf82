//! Passing images through a model: threads decode and transform them, the model computes in batches, results keep the order of the images.

use std::sync::Arc;

use candle_core::Tensor;

use super::images::Inputs;
use super::{ImageInput, Pretrained, Result};
use crate::data::{self, LoaderOptions, Samples};

/// How images go through a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// Images of one forward pass, at least 1.
    pub batch_size: usize,
    /// Threads that decode.
    pub threads: usize,
}

impl Default for Pass {
    fn default() -> Self {
        let LoaderOptions { batch_size, threads, .. } = LoaderOptions::default();
        Self { batch_size, threads }
    }
}

/// What a model makes of one image, or why the image cannot be read.
type Outcome<T> = std::result::Result<T, Arc<data::Error>>;

impl Pass {
    /// What `of_batch` makes of every image, in their order; it gets a batch of what the model reads, and a name for each image of it.
    /// The first image that cannot be read is an error.
    pub fn whole<T>(
        self,
        pretrained: &Pretrained,
        images: Vec<ImageInput>,
        of_batch: impl FnMut(&Tensor, &dyn Fn(usize) -> String) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        // None is bad: the loader would have ended.
        Ok(self.run(pretrained, images, false, of_batch)?.into_iter().flatten().collect())
    }

    /// As [`Pass::whole`], but an image that cannot be read has that as its result.
    pub fn each<T>(
        self,
        pretrained: &Pretrained,
        images: Vec<ImageInput>,
        of_batch: impl FnMut(&Tensor, &dyn Fn(usize) -> String) -> Result<Vec<T>>,
    ) -> Result<Vec<Outcome<T>>> {
        self.run(pretrained, images, true, of_batch)
    }

    fn run<T>(
        self,
        pretrained: &Pretrained,
        images: Vec<ImageInput>,
        tolerant: bool,
        mut of_batch: impl FnMut(&Tensor, &dyn Fn(usize) -> String) -> Result<Vec<T>>,
    ) -> Result<Vec<Outcome<T>>> {
        let inputs = Arc::new(Inputs { images, exif: pretrained.exif() });
        let (ready, order): (Vec<usize>, Vec<usize>) =
            (0..inputs.len()).partition(|&index| inputs.ready(index).is_some());
        let mut outcomes: Vec<(usize, Outcome<T>)> = Vec::with_capacity(inputs.len());
        let mut take = |indices: &[usize], input: &Tensor| -> Result<Vec<(usize, Outcome<T>)>> {
            let made = of_batch(input, &|place| inputs.name(indices[place]))?;
            Ok(indices.iter().copied().zip(made.into_iter().map(Ok)).collect())
        };
        if !order.is_empty() {
            pretrained.transform()?.check_reads_images()?;
            let options =
                LoaderOptions { batch_size: self.batch_size, threads: self.threads, ..LoaderOptions::default() };
            let samples: Arc<dyn Samples> = inputs.clone();
            for batch in pretrained.batches(&samples, order, options, tolerant)? {
                let batch = batch?;
                outcomes.extend(batch.bad.into_iter().map(|(index, error)| (index, Err(error))));
                if !batch.indices.is_empty() {
                    outcomes.extend(take(&batch.indices, &batch.input)?);
                }
            }
        }
        let mut fit = Vec::with_capacity(ready.len());
        for index in ready {
            match inputs.input(index, pretrained) {
                Ok(input) => fit.push((index, input)),
                Err(error) if tolerant => outcomes.push((index, Err(Arc::new(error)))),
                Err(error) => return Err(error.into()),
            }
        }
        for batch in fit.chunks(self.batch_size) {
            let (indices, batch): (Vec<usize>, Vec<&Tensor>) =
                batch.iter().map(|(index, input)| (*index, input)).unzip();
            outcomes.extend(take(&indices, &Tensor::stack(&batch, 0)?)?);
        }
        outcomes.sort_by_key(|(index, _)| *index);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }
}
