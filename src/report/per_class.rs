//! Precision, recall and F1 of every class.

use maud::{Markup, html};

use super::numbers;
use super::run::Run;
use super::text::breakable;

/// Up to this many classes the table is open.
const FEW: usize = 20;

/// What came of the samples of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Counts {
    /// Samples of the class that were called so.
    hits: usize,
    /// Samples of the class.
    of_class: usize,
    /// Samples that were called so.
    called: usize,
}

impl Counts {
    /// Of the samples that were called so, the share that are; none where nothing was.
    fn precision(self) -> Option<f64> {
        (self.called > 0).then(|| self.hits as f64 / self.called as f64)
    }

    /// Of the samples of the class, the share that were called so; none where there are none.
    fn recall(self) -> Option<f64> {
        (self.of_class > 0).then(|| self.hits as f64 / self.of_class as f64)
    }

    /// The harmonic mean of both, 2 hits / (of class + called); none where there are neither samples nor calls.
    fn f1(self) -> Option<f64> {
        let both = self.of_class + self.called;
        (both > 0).then(|| 2. * self.hits as f64 / both as f64)
    }
}

/// The counts of so many classes; labels beyond them, which a file may make up, are left out.
fn counts(labels: &[u32], predicted: &[u32], classes: usize) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); classes];
    for (&label, &called) in labels.iter().zip(predicted) {
        if let Some(class) = counts.get_mut(label as usize) {
            class.of_class += 1;
            class.hits += usize::from(label == called);
        }
        if let Some(class) = counts.get_mut(called as usize) {
            class.called += 1;
        }
    }
    counts
}

/// The table of a run, folded where there are many classes; nothing for a run without predictions or names of classes.
pub(super) fn per_class(run: &Run) -> Option<Markup> {
    let predictions = run.predictions.as_ref().filter(|predictions| !predictions.labels.is_empty())?;
    let classes = run.summary.as_ref().map_or(0, |summary| summary.classes.len());
    let counts = counts(&predictions.labels, &predictions.predicted, classes);
    if classes == 0 {
        return None;
    }
    let share = |share: Option<f64>| share.map_or_else(|| "–".into(), |share| numbers::percent(share, 0));
    let mean = |value: fn(Counts) -> Option<f64>| {
        // A class that was never called has no precision, and counts as 0, as in scikit-learn.
        let there = counts.iter().filter(|class| class.of_class > 0);
        let values: Vec<f64> = there.map(|&class| value(class).unwrap_or(0.)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let table = html! {
        div class="scroll" tabindex="0" role="region" aria-label={ "Precision and recall of " (run.name) } {
            table class="per-class" {
                thead {
                    tr {
                        th scope="col" { "class" }
                        @for what in ["precision", "recall", "F1", "images"] { th scope="col" class="number" { (what) } }
                    }
                }
                tbody {
                    @for (label, class) in counts.iter().enumerate() {
                        tr {
                            th scope="row" { (breakable(&run.class(label))) }
                            @for value in [class.precision(), class.recall(), class.f1()] {
                                td class="number" { (share(value)) }
                            }
                            td class="number" { (numbers::count(class.of_class)) }
                        }
                    }
                    tr class="mean" {
                        th scope="row" { "mean" }
                        @for value in [mean(Counts::precision), mean(Counts::recall), mean(Counts::f1)] {
                            td class="number" { (share(value)) }
                        }
                        td class="number" { (numbers::count(predictions.labels.len())) }
                    }
                }
            }
        }
    };
    Some(html! {
        @if classes <= FEW { (table) } @else {
            details { summary { "Precision, recall and F1 of all " (classes) " classes" } (table) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_recall_and_f1_are_scikit_learns() {
        // sklearn.metrics.precision_recall_fscore_support([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 1])
        let counts = counts(&[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 2, 1], 4);
        let near = |got: Option<f64>, expected: f64| assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?}");
        let expected = [(1., 0.666_666_666_666_666_6, 0.8), (0.333_333_333_333_333_3, 0.5, 0.4), (0., 0., 0.)];
        for (class, (precision, recall, f1)) in counts.iter().zip(expected) {
            near(class.precision(), precision);
            near(class.recall(), recall);
            near(class.f1(), f1);
        }
        // A class that neither is nor was called has none of them.
        assert_eq!((counts[3].precision(), counts[3].recall(), counts[3].f1()), (None, None, None));
    }

    #[test]
    fn labels_beyond_the_classes_are_left_out() {
        assert_eq!(counts(&[u32::MAX, 1], &[0, u32::MAX], 2)[1], Counts { hits: 0, of_class: 1, called: 0 });
    }
}
