//! What a model without a head is measured by: the objective's own loss on test images, and where there are labels, what the nearest
//! neighbours of the test part come to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::{DType, Device};

use super::{Run, check_finite, measuring};
use crate::data::{LoaderOptions, Samples, Subset};
use crate::train::error::Result;
use crate::train::evaluate::Evaluation;
use crate::train::event::{Event, Listener, Pictures};
use crate::train::features::ModelInput;
use crate::train::study::knn::{self, Neighbours};

/// The number of neighbours that vote.
const K: usize = 20;

/// Test images of which the objective's loss is taken.
const TESTED: usize = 1000;

impl Run<'_> {
    /// What the test part comes to; none if the session was stopped.
    pub(super) fn measure_unlabelled(&mut self) -> Result<Option<Evaluation>> {
        let loss = self.test_loss()?;
        let mut evaluation = match self.neighbours()? {
            Neighbourhood::Stopped => return Ok(None),
            Neighbourhood::Unknown => Evaluation { accuracy: f64::NAN, top5: f64::NAN, ..Evaluation::default() },
            Neighbourhood::Says(evaluation) => evaluation,
        };
        evaluation.loss = loss;
        Ok(Some(evaluation))
    }

    /// The mean loss of the first test images, and a look at some of them; no number where the objective has none.
    fn test_loss(&mut self) -> Result<f64> {
        let (input, device) = (&self.inputs.test, self.setup.params.device());
        let count = input.samples().len().min(TESTED);
        let options = LoaderOptions {
            batch_size: measuring(&self.setup.config).batch_size.min(count),
            ..LoaderOptions::default()
        };
        let mut losses = Vec::new();
        for batch in input.batches((0..count).collect(), options, device)? {
            let batch = batch?;
            let tested = self.objective.test(&self.eval_model, &batch.images, &batch.indices)?;
            if tested.losses.is_empty() {
                return Ok(f64::NAN);
            }
            losses.extend(tested.losses);
            if !tested.pictures.is_empty() {
                let transform = input.transform();
                let row = |(title, inputs): (String, Vec<_>)| {
                    let images = inputs.iter().map(|input| Ok(transform.picture(input)?));
                    Ok((title, images.collect::<Result<_>>()?))
                };
                let rows = tested.pictures.into_iter().map(row).collect::<Result<_>>()?;
                let names = batch.indices.iter().map(|&index| input.samples().name(index)).collect();
                self.listener.on(&Event::Pictures(Pictures { epoch: self.state.epoch, rows, names }));
            }
        }
        let loss = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        self.check_learned("the loss on test images", loss)?;
        Ok(loss)
    }

    /// An error if the last steps have led to what is no number any more.
    fn check_learned(&self, what: &'static str, value: f64) -> Result<()> {
        let last = self.state.step.saturating_sub(1);
        check_finite(what, value, last, self.schedule.lr(last))
    }

    /// What the nearest labelled training images say of the test part.
    fn neighbours(&mut self) -> Result<Neighbourhood> {
        let dataset = &self.setup.dataset;
        let (train, classes) = (dataset.train.clone(), dataset.classes.len());
        let limit = self.setup.config.pretraining.knn_limit.unwrap_or(0).min(train.len());
        if classes < 2 || limit == 0 {
            return Ok(Neighbourhood::Unknown);
        }
        // Spread over the whole part, and the same ones every time.
        let some: Vec<usize> = (0..limit).map(|place| place * train.len() / limit).collect();
        let labels = some.iter().map(|&index| train.label(index)).collect();
        let train: Arc<dyn Samples> = Arc::new(Subset::new(train, some)?);
        let known = ModelInput::images(&train, self.inputs.test.transform());
        let total = limit + self.inputs.test.samples().len();
        let options =
            LoaderOptions { batch_size: measuring(&self.setup.config).batch_size, ..LoaderOptions::default() };
        let Self { setup, session, listener, eval_model, inputs, .. } = self;
        let mut before = 0;
        let mut features = |input: &ModelInput| {
            let found = knn::features(eval_model, input, options, setup.params.device(), |done| {
                listener.on(&Event::Evaluation { done: before + done, total });
                !session.stop.load(Ordering::Relaxed)
            });
            before += input.samples().len();
            found
        };
        let (Some(known), Some(asked)) = (features(&known)?, features(&inputs.test)?) else {
            return Ok(Neighbourhood::Stopped);
        };
        for features in [&known, &asked] {
            let sum = features.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
            self.check_learned("a feature of a test image or of its neighbours", sum)?;
        }
        let answers = Neighbours::new(&known, labels, classes)?.vote(&asked, &[K], knn::TEMPERATURE)?;
        let test = self.inputs.test.samples();
        let labels: Vec<u32> = (0..test.len()).map(|index| test.label(index)).collect();
        Ok(Neighbourhood::Says(knn::evaluation(answers.iter().flatten(), &labels)))
    }
}

/// What is known of the test part's neighbours.
enum Neighbourhood {
    /// There are no labels, or nobody asks.
    Unknown,
    Stopped,
    Says(Evaluation),
}
