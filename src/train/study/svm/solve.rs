//! Training a support vector machine: linfa-svm solves the problem of every pair of classes.

use std::sync::atomic::{AtomicBool, Ordering};

use linfa::DatasetBase;
use linfa::traits::Fit;
use ndarray::{Array1, Array2};
use rayon::prelude::*;

use super::Svm;
use crate::train::error::{Error, Result};

/// The largest violation of the optimality conditions at which a pair counts as solved, libsvm's.
const TOLERANCE: f64 = 1e-3;

/// What of two classes' samples the solution of their problem takes.
struct Solved {
    /// By sample, those of the first class first: above 0 for it, below for the second, 0 for what is no support vector.
    coefficients: Vec<f64>,
    intercept: f64,
}

/// Finds the support vectors, coefficients and intercepts of `model` for the samples `rows [n, width]`, `workers` pairs of
/// classes at a time. `progress` is told how many pairs of how many are solved; none where `stop` was set before the end.
///
/// # Errors
/// If all samples are of one class, or a pair has no solution.
pub(super) fn fit(
    model: Svm,
    rows: &[f32],
    labels: &[u32],
    workers: usize,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize, usize),
) -> Result<Option<Svm>> {
    let classes = model.classes.len();
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        match members.get_mut(label as usize) {
            Some(members) => members.push(index),
            None => return Err(Error::invalid("labels", format!("numbers below {classes}"), label)),
        }
    }
    let pairs: Vec<(usize, usize)> = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect();
    let mut solved = Vec::with_capacity(pairs.len());
    for at_a_time in pairs.chunks(workers) {
        let solve = |&(i, j): &(usize, usize)| match members[i].is_empty() || members[j].is_empty() {
            true => Ok(None),
            false => solve_pair(&model, rows, &members[i], &members[j]).map(Some),
        };
        solved.extend(at_a_time.par_iter().map(solve).collect::<Result<Vec<_>>>()?);
        progress(solved.len(), pairs.len());
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
    Ok(Some(assembled(model, rows, &members, &pairs, &solved)))
}

fn solve_pair(model: &Svm, rows: &[f32], first: &[usize], second: &[usize]) -> Result<Solved> {
    let width = model.width;
    let count = first.len() + second.len();
    let mut values = Vec::with_capacity(count * width);
    for &index in first.iter().chain(second) {
        values.extend(rows[index * width..(index + 1) * width].iter().map(|&value| f64::from(value)));
    }
    let no_solution = |error: String| Error::invalid("the SVM of two classes", "a solution", error);
    let records = Array2::from_shape_vec((count, width), values).map_err(|error| no_solution(error.to_string()))?;
    let targets = Array1::from_iter((0..count).map(|index| index < first.len()));
    // Without shrinking: with it, the crate returns the coefficients in another order than the samples'.
    let solution = linfa_svm::Svm::<f64, bool>::params()
        .pos_neg_weights(model.c, model.c)
        .gaussian_kernel(1. / model.gamma)
        .eps(TOLERANCE)
        .shrinking(false)
        .fit(&DatasetBase::new(records, targets))
        .map_err(|error| no_solution(error.to_string()))?;
    let finite = solution.rho.is_finite() && solution.alpha.iter().all(|alpha| alpha.is_finite());
    if !finite || solution.alpha.len() != count {
        return Err(no_solution("numbers that are none (`set c` and `set gamma` say how hard it is)".into()));
    }
    Ok(Solved { coefficients: solution.alpha, intercept: -solution.rho })
}

/// The model in libsvm's layout, from the solutions of all pairs.
fn assembled(
    model: Svm,
    rows: &[f32],
    members: &[Vec<usize>],
    pairs: &[(usize, usize)],
    solved: &[Option<Solved>],
) -> Svm {
    let samples = members.iter().flatten().max().map_or(0, |&last| last + 1);
    let classes = members.len();
    // [classes - 1, samples], as in libsvm but for all samples.
    let mut all = vec![vec![0.; samples]; classes.saturating_sub(1)];
    let mut intercepts = vec![f64::NAN; pairs.len()];
    for ((&(i, j), solved), intercept) in pairs.iter().zip(solved).zip(&mut intercepts) {
        let Some(solved) = solved else { continue };
        *intercept = solved.intercept;
        let (of_first, of_second) = solved.coefficients.split_at(members[i].len());
        members[i].iter().zip(of_first).for_each(|(&index, &value)| all[j - 1][index] = value);
        members[j].iter().zip(of_second).for_each(|(&index, &value)| all[i][index] = value);
    }
    let supports = |index: &usize| all.iter().any(|row| row[*index] != 0.);
    let kept: Vec<Vec<usize>> =
        members.iter().map(|members| members.iter().copied().filter(supports).collect()).collect();
    let order: Vec<usize> = kept.concat();
    Svm {
        vectors: order
            .iter()
            .flat_map(|&index| &rows[index * model.width..(index + 1) * model.width])
            .copied()
            .collect(),
        counts: kept.iter().map(Vec::len).collect(),
        coefficients: all.iter().flat_map(|row| order.iter().map(|&index| row[index])).collect(),
        intercepts,
        ..model
    }
}
