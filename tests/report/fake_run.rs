//! Folders as a training run leaves them, drawn from a seed: the same numbers every time, with nothing trained.

use std::fs;
use std::path::Path;

use base64::Engine;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tallow::train::RunFolder;
use tallow::train::event::{EpochMetrics, StepMetrics};
use tallow::train::run_folder::{Answer, MetricsLine, Predictions, Summary};

/// A run to make up.
#[derive(Clone)]
pub struct FakeRun {
    pub name: String,
    pub weights: Option<String>,
    pub classes: Vec<String>,
    pub epochs: usize,
    pub steps_per_epoch: usize,
    pub test_samples: usize,
    /// Test accuracy at the end.
    pub accuracy: f64,
    /// Training loss at the end; it starts at the logarithm of the number of classes.
    pub loss: f64,
    pub validation: bool,
    pub test_set: String,
    pub lr: f64,
    /// What its numbers are drawn from.
    pub seed: u64,
    /// The seed that it says it was trained with.
    pub trained_with: u64,
    /// More lines of its configuration, in the table `set`.
    pub set: String,
    /// Side of the pictures of mistakes in pixels.
    pub picture: u32,
}

impl Default for FakeRun {
    fn default() -> Self {
        Self {
            name: "pretrained".into(),
            weights: Some("vit_small_patch14_dinov2.saliency".into()),
            classes: (0..10).map(|digit| digit.to_string()).collect(),
            epochs: 3,
            steps_per_epoch: 62,
            test_samples: 1000,
            accuracy: 0.954,
            loss: 0.12,
            validation: false,
            test_set: "mnist-1000".into(),
            lr: 1e-4,
            seed: 1,
            trained_with: 0,
            set: String::new(),
            picture: 28,
        }
    }
}

impl FakeRun {
    /// The counterpart of the default: the same model from scratch.
    pub fn scratch() -> Self {
        Self {
            name: "scratch".into(),
            weights: None,
            accuracy: 0.741,
            loss: 0.78,
            lr: 5e-4,
            seed: 2,
            ..Self::default()
        }
    }

    /// Writes the folder of a run that has ended.
    pub fn write(&self, root: &Path) -> RunFolder {
        let folder = self.write_unfinished(root, self.epochs);
        let predictions = self.predictions();
        let hits = predictions.labels.iter().zip(&predictions.predicted).filter(|(a, b)| a == b).count();
        let test_accuracy = hits as f64 / self.test_samples as f64;
        let summary = Summary::default().with(|m| {
            m.name = self.name.clone();
            m.model = "vit_small_patch14_dinov2.saliency".into();
            m.weights = self.weights.clone();
            m.data = "mnist".into();
            m.test_set = self.test_set.clone();
            m.classes = self.classes.clone();
            m.parameters = 21_593_482;
            m.trainable_parameters = 21_593_482;
            m.epochs = self.epochs;
            m.steps = self.epochs * self.steps_per_epoch;
            m.train_samples = 32 * self.steps_per_epoch;
            m.test_samples = self.test_samples;
            m.seconds = 28.4 * self.epochs as f64;
            m.images_per_second = 83.1;
            m.peak_memory_bytes = Some(812_400_000);
            m.device = "CPU".into();
            m.threads = 2;
            m.best_epoch = if self.validation { self.epochs.saturating_sub(2) } else { self.epochs - 1 };
            m.chosen_by = if self.validation { "val_accuracy".into() } else { "last".into() };
            m.test_accuracy = test_accuracy;
            m.test_loss = 1.3 * self.loss;
            m.test_top5 = 0.5 + test_accuracy / 2.;
            m.final_test_accuracy = test_accuracy;
        });
        fs::write(root.join("summary.json"), serde_json::to_string_pretty(&summary).unwrap()).unwrap();
        fs::write(root.join("predictions.json"), serde_json::to_string(&predictions).unwrap()).unwrap();
        folder
    }

    /// Writes the folder of a run that is in its middle: `epochs` are done.
    pub fn write_unfinished(&self, root: &Path, epochs: usize) -> RunFolder {
        fs::create_dir_all(root).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let start = (self.classes.len() as f64).ln();
        let total = (self.epochs * self.steps_per_epoch) as f64;
        let course = |step: f64| self.loss + (start - self.loss) * (-5. * step / total).exp();
        let reached = |epoch: f64| self.accuracy * (1. - 0.5 * (-3. * epoch / self.epochs as f64).exp()) / 0.975;
        let mut lines = vec![];
        for epoch in 0..epochs {
            for step in epoch * self.steps_per_epoch..(epoch + 1) * self.steps_per_epoch {
                lines.push(MetricsLine::Step(StepMetrics::default().with(|m| {
                    m.epoch = epoch;
                    m.step = step;
                    m.loss = course(step as f64) * (1. + 0.5 * rng.random_range(-1. ..1.));
                    m.lr = self.lr * (1. - step as f64 / total);
                    m.grad_norm = 1.5;
                    m.images_per_second = 83.;
                })));
            }
            let done = (epoch + 1) as f64;
            lines.push(MetricsLine::Epoch(EpochMetrics::default().with(|m| {
                m.epoch = epoch;
                m.train_loss = course((done - 0.5) * self.steps_per_epoch as f64);
                m.train_accuracy = (reached(done - 0.5) * 1.01).min(1.);
                m.val_loss = self.validation.then(|| 1.2 * course(done * self.steps_per_epoch as f64));
                m.val_accuracy = self.validation.then(|| reached(done) * 0.99);
                m.test_loss = 1.3 * course(done * self.steps_per_epoch as f64);
                m.test_accuracy = reached(done).min(1.);
                m.test_top5 = 0.99;
                m.seconds = 28.4;
                m.images_per_second = 83.1;
            })));
        }
        let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        fs::write(root.join("metrics.jsonl"), text).unwrap();
        let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
        let weights = self.weights.as_ref().map_or(String::new(), |weights| format!("weights = {}\n", quoted(weights)));
        let config = format!(
            "name = {}\nmodel = \"vit_small_patch14_dinov2.saliency\"\n{weights}data = \"mnist\"\nepochs = {}\n\
             batch_size = 32\nlr = {:?}\nseed = {}\n\n[set]\nimg_size = \"56\"\n{}\n\n[resolved]\ntrain_samples = {}\n",
            quoted(&self.name),
            self.epochs,
            self.lr,
            self.trained_with,
            self.set,
            32 * self.steps_per_epoch
        );
        fs::write(root.join("config.toml"), config).unwrap();
        RunFolder::new(root)
    }

    /// What the run says of the test set. Every sample has a difficulty that all runs share.
    pub fn predictions(&self) -> Predictions {
        let classes = self.classes.len() as u32;
        let mut shared = ChaCha8Rng::seed_from_u64(0);
        let mut own = ChaCha8Rng::seed_from_u64(self.seed);
        let labels: Vec<u32> = (0..self.test_samples).map(|_| shared.random_range(0..classes)).collect();
        let hard: Vec<f64> = (0..self.test_samples).map(|_| shared.random_range(0. ..1.)).collect();
        let scores: Vec<f64> = hard.iter().map(|hard| 0.8 * hard + 0.2 * own.random_range(0. ..1.)).collect();
        let mut sorted = scores.clone();
        sorted.sort_by(f64::total_cmp);
        let limit = sorted.get((self.accuracy * self.test_samples as f64).round() as usize).copied().unwrap_or(2.);
        let mut predicted = labels.clone();
        for (answer, score) in predicted.iter_mut().zip(scores) {
            if score >= limit {
                // Some classes are mixed up more often than others.
                let offset = if own.random_range(0. ..1.) < 0.6 { 5 } else { own.random_range(1..classes.max(2)) };
                *answer = (*answer + offset) % classes;
            }
        }
        let confidence: Vec<f32> = (0..self.test_samples).map(|_| own.random_range(0.4..1.)).collect();
        let mut wrong: Vec<usize> = (0..self.test_samples).filter(|&i| predicted[i] != labels[i]).collect();
        wrong.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]));
        let answer = |index: usize| Answer {
            index,
            name: format!("mnist test {index}"),
            label: labels[index],
            predicted: predicted[index],
            confidence: confidence[index],
            picture: picture(self.picture, index as u32),
        };
        let right = (0..self.test_samples).filter(|&i| predicted[i] == labels[i]).take(12).map(answer).collect();
        let mistakes = wrong.into_iter().take(16).map(answer).collect();
        Predictions { mistakes, right, labels, predicted, confidence }
    }
}

/// A picture with something in it, as a PNG in base64.
fn picture(side: u32, seed: u32) -> String {
    let image = image::GrayImage::from_fn(side, side, |x, y| {
        let (x, y) = (x as f32 / side as f32 - 0.5, y as f32 / side as f32 - 0.5);
        let angle = y.atan2(x) * (1 + seed % 4) as f32 + seed as f32;
        let distance = ((x * x + y * y).sqrt() - 0.28 - 0.08 * angle.sin()).abs();
        image::Luma([(255. * (1. - 14. * distance).max(0.)) as u8])
    });
    let mut bytes = std::io::Cursor::new(vec![]);
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())
}
