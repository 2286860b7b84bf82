//! A trained support vector machine: its decisions, and its files `svm.safetensors` and `svm.json`.
//!
//! The tensors have libsvm's layout: `support_vectors [n, width]`, class by class; `n_support [classes]`, how many there are of
//! each; `dual_coef [classes - 1, n]` and `intercept [pairs]`, pairs in the order (0, 1), (0, 2), …, (1, 2), …. The decision
//! value of the pair (i, j) is the sum of coefficient times exp(−γ‖x − s‖²) over the support vectors s of both, row j − 1 for
//! those of i and row i for those of j, plus the intercept; above 0 the duel goes to i, else to j. A class without samples has
//! no duels.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tallow_weights::{Preprocessing, quoted, save};

use crate::data::{Loader, LoaderOptions, Samples, Transform};
use crate::train::error::{Error, Result};
use crate::train::evaluate::Evaluation;
use crate::train::event::{Event, Listener};

const TENSORS: &str = "svm.safetensors";
const ABOUT: &str = "svm.json";

/// A support vector machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Svm {
    /// Values of a sample.
    pub width: usize,
    /// Of the kernel exp(−γ‖x − x'‖²).
    pub gamma: f64,
    /// The penalty that it was trained with.
    pub c: f64,
    /// Class names by label.
    pub classes: Vec<String>,
    /// How an image becomes a sample.
    pub preprocessing: Preprocessing,
    /// `[n, width]`, class by class.
    pub(super) vectors: Vec<f32>,
    /// Support vectors of each class.
    pub(super) counts: Vec<usize>,
    /// `[classes - 1, n]`.
    pub(super) coefficients: Vec<f64>,
    /// One for each pair of classes.
    pub(super) intercepts: Vec<f64>,
}

/// `svm.json`.
#[derive(Serialize, Deserialize)]
struct About {
    kernel: String,
    gamma: f64,
    c: f64,
    classes: Vec<String>,
    preprocessing: Preprocessing,
}

/// What the duels of a sample come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Votes {
    /// Duels that each class won.
    pub won: Vec<usize>,
    /// Duels of a class.
    pub duels: usize,
}

impl Votes {
    /// Classes by duels won, most first; of equals the first class first.
    pub fn ranking(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.won.len()).collect();
        order.sort_by_key(|&class| std::cmp::Reverse(self.won[class]));
        order
    }

    /// The share of its duels that a class won.
    pub fn share(&self, class: usize) -> f32 {
        self.won[class] as f32 / self.duels.max(1) as f32
    }
}

impl Default for Svm {
    fn default() -> Self {
        let preprocessing = Preprocessing::new([1, 1, 1], vec![0.], vec![1.]);
        Self {
            width: 1,
            gamma: 1.,
            c: 1.,
            classes: Vec::new(),
            preprocessing,
            vectors: Vec::new(),
            counts: Vec::new(),
            coefficients: Vec::new(),
            intercepts: Vec::new(),
        }
    }
}

impl Svm {
    /// Support vectors of all classes.
    pub fn num_support_vectors(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Values that were found in training: coefficients that are not 0, and intercepts.
    pub fn num_coefficients(&self) -> usize {
        self.coefficients.iter().filter(|&&c| c != 0.).count() + self.intercepts.len()
    }

    /// All values that a decision takes.
    pub fn num_parameters(&self) -> usize {
        self.vectors.len() + self.num_coefficients()
    }

    /// The decision value of every pair of classes for the sample `x`; no number where one of the two has no samples.
    pub fn decisions(&self, x: &[f32]) -> Vec<f64> {
        let classes = self.counts.len();
        let kernel = pulp::Arch::new().dispatch(
            #[inline(always)]
            || -> Vec<f64> {
                let vectors = self.vectors.chunks_exact(self.width);
                vectors.map(|vector| (-self.gamma * squared_distance(vector, x)).exp()).collect()
            },
        );
        let ends: Vec<usize> =
            self.counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))).collect();
        let sum = |class: usize, row: usize| -> f64 {
            let range = ends[class]..ends[class] + self.counts[class];
            let row = &self.coefficients[row * kernel.len()..(row + 1) * kernel.len()];
            kernel[range.clone()].iter().zip(&row[range]).map(|(k, c)| k * c).sum()
        };
        let mut decisions = Vec::with_capacity(self.intercepts.len());
        for i in 0..classes {
            for j in i + 1..classes {
                let intercept = self.intercepts[decisions.len()];
                decisions.push(sum(i, j - 1) + sum(j, i) + intercept);
            }
        }
        decisions
    }

    /// The duels of the sample `x`.
    pub fn votes(&self, x: &[f32]) -> Votes {
        let classes = self.counts.len();
        let mut won = vec![0; classes];
        let mut decisions = self.decisions(x).into_iter();
        for i in 0..classes {
            for j in i + 1..classes {
                match decisions.next() {
                    Some(value) if value > 0. => won[i] += 1,
                    Some(value) if value.is_finite() => won[j] += 1,
                    _ => {}
                }
            }
        }
        Votes { won, duels: self.counts.iter().filter(|&&count| count > 0).count().saturating_sub(1) }
    }

    /// Batches of samples as the model reads them: their indices, and their values one after the other.
    ///
    /// # Errors
    /// If the samples cannot be loaded; each item, if one of it cannot.
    pub fn batches(&self, samples: &Arc<dyn Samples>) -> Result<impl Iterator<Item = Result<(Vec<usize>, Vec<f32>)>>> {
        let transform = Arc::new(Transform::evaluation(&self.preprocessing)?);
        let options = LoaderOptions { batch_size: 64, ..LoaderOptions::default() };
        let loader = Loader::new(samples.clone(), (0..samples.len()).collect(), transform, options)?;
        Ok(loader.map(|batch| {
            let batch = batch?;
            let values = batch.images.flatten_all()?.to_vec1::<f32>()?;
            Ok((batch.indices, values))
        }))
    }

    /// Measures the model on `samples`, in their order; none where `stop` was set before the end.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub fn evaluate(
        &self,
        samples: &Arc<dyn Samples>,
        listener: &mut dyn Listener,
        stop: Option<&AtomicBool>,
    ) -> Result<Option<Evaluation>> {
        let mut evaluation = Evaluation { loss: f64::NAN, ..Evaluation::default() };
        let (mut correct, mut among_five, total) = (0, 0, samples.len());
        for batch in self.batches(samples)? {
            let (indices, values) = batch?;
            let votes: Vec<Votes> = values.par_chunks_exact(self.width).map(|x| self.votes(x)).collect();
            for (index, votes) in indices.into_iter().zip(votes) {
                let (label, ranking) = (samples.label(index), votes.ranking());
                let predicted = ranking.first().map_or(0, |&class| class as u32);
                correct += usize::from(predicted == label);
                among_five += usize::from(ranking.iter().take(5).any(|&class| class as u32 == label));
                evaluation.labels.push(label);
                evaluation.predicted.push(predicted);
                evaluation.confidence.push(votes.share(predicted as usize));
            }
            listener.on(&Event::Evaluation { done: evaluation.labels.len(), total });
            if stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(None);
            }
        }
        let count = total.max(1) as f64;
        (evaluation.accuracy, evaluation.top5) = (correct as f64 / count, among_five as f64 / count);
        Ok(Some(evaluation))
    }

    /// Whether `folder` holds the files of one.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(ABOUT).is_file() && folder.join(TENSORS).is_file()
    }

    /// Writes the two files into `folder`, each as a whole.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let (n, rows) = (self.num_support_vectors(), self.classes.len().saturating_sub(1));
        let counts: Vec<i64> = self.counts.iter().map(|&count| count as i64).collect();
        let cpu = &Device::Cpu;
        let tensors = [
            ("support_vectors", Tensor::from_slice(&self.vectors, (n, self.width), cpu)?),
            ("n_support", Tensor::new(counts, cpu)?),
            ("dual_coef", Tensor::from_slice(&self.coefficients, (rows, n), cpu)?),
            ("intercept", Tensor::from_slice(&self.intercepts, self.intercepts.len(), cpu)?),
        ];
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, value)| (name.into(), value)).collect();
        save::safetensors(&folder.join(TENSORS), &tensors, HashMap::new())?;
        let about = About {
            kernel: "rbf".into(),
            gamma: self.gamma,
            c: self.c,
            classes: self.classes.clone(),
            preprocessing: self.preprocessing.clone(),
        };
        crate::train::run_folder::write_json(&folder.join(ABOUT), &about)
    }

    /// Reads what [`Svm::write`] wrote.
    ///
    /// # Errors
    /// Names the file that cannot be read, or what in it is not what it should be.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(ABOUT);
        let wrong = |expected: &str, got: String| Error::File { path: path.clone(), expected: expected.into(), got };
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        let about: About = serde_json::from_str(&text).map_err(|e| wrong("what an SVM says of itself", quoted(e)))?;
        if about.kernel != "rbf" || !(about.gamma.is_finite() && about.gamma > 0.) {
            let got = format!("kernel {:?}, gamma {}", about.kernel, about.gamma);
            return Err(wrong("the kernel rbf with a gamma above 0", got));
        }
        let [channels, height, sides] = about.preprocessing.input_size;
        let width = channels.checked_mul(height).and_then(|size| size.checked_mul(sides)).unwrap_or(0);

        let path = folder.join(TENSORS);
        let wrong = |expected: String, got: String| Error::File { path: path.clone(), expected, got };
        std::fs::File::open(&path).map_err(Error::io(&path))?;
        let read = candle_core::safetensors::load(&path, &Device::Cpu).map_err(|error| {
            wrong("a safetensors file".into(), error.to_string().lines().next().unwrap_or_default().into())
        })?;
        let tensor = |name: &str, dims: &[usize], dtype: DType| -> Result<Tensor> {
            match read.get(name) {
                Some(value) if value.dims() == dims && value.dtype() == dtype => Ok(value.flatten_all()?),
                Some(value) => {
                    let expected = format!("{name} of shape {dims:?} in {}", dtype.as_str());
                    Err(wrong(expected, format!("{:?} in {}", value.dims(), value.dtype().as_str())))
                }
                None => Err(wrong(format!("a tensor {name}"), "none of that name".into())),
            }
        };
        let classes = about.classes.len();
        let counts = tensor("n_support", &[classes], DType::I64)?.to_vec1::<i64>()?;
        let counts: Option<Vec<usize>> = counts.into_iter().map(|count| usize::try_from(count).ok()).collect();
        let total = counts.as_ref().and_then(|counts| counts.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)));
        let (Some(counts), Some(n)) = (counts, total) else {
            return Err(wrong("n_support of numbers of at least 0".into(), "others".into()));
        };
        let vectors = tensor("support_vectors", &[n, width], DType::F32)?.to_vec1::<f32>()?;
        let coefficients = tensor("dual_coef", &[classes.saturating_sub(1), n], DType::F64)?.to_vec1::<f64>()?;
        let pairs = classes * classes.saturating_sub(1) / 2;
        let intercepts = tensor("intercept", &[pairs], DType::F64)?.to_vec1::<f64>()?;
        if width == 0 || !(vectors.iter().all(|v| v.is_finite()) && coefficients.iter().all(|v| v.is_finite())) {
            return Err(wrong("finite numbers".into(), "others".into()));
        }
        Ok(Self {
            width,
            gamma: about.gamma,
            c: about.c,
            classes: about.classes,
            preprocessing: about.preprocessing,
            vectors,
            counts,
            coefficients,
            intercepts,
        })
    }
}

/// ‖a − b‖², in lanes, so that it can be computed several values at a time.
#[inline(always)]
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            let difference = a[lane] - b[lane];
            sums[lane] += difference * difference;
        }
    }
    rest + sums.iter().map(|&sum| f64::from(sum)).sum::<f64>()
}
