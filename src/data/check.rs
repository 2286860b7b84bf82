//! Which images of a part can be read: all of them are decoded once, in threads, before anything is made of them.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::samples::Look;
use super::{Alpha, Dataset, Error, Result, Samples, Subset};

/// What becomes of images that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OnBadImage {
    /// They are an error, which names them.
    #[default]
    Error,
    /// They are left out, with a note that names them.
    Skip,
}

impl OnBadImage {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Error, Self::Skip];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for OnBadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OnBadImage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or_else(|| Error::invalid("on-bad-image", "error or skip", format!("{text:?}")))
    }
}

/// An image that cannot be read.
#[derive(Debug)]
pub struct BadImage {
    /// The sample's index in its part.
    pub index: usize,
    /// The sample's name.
    pub name: String,
    /// What is wrong with it; the message names it.
    pub error: Error,
}

/// What was found out about the images of a part.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many there are.
    pub samples: usize,
    /// Those that cannot be read, in their order.
    pub bad: Vec<BadImage>,
    /// How many files say that their image does not lie as it is meant.
    pub orientation_noted: usize,
    /// What is odd about others, and their names.
    odd: BTreeMap<&'static str, Vec<String>>,
}

/// Names in a message; of more, only the number is told.
const NAMED: usize = 20;

impl Checked {
    /// Reads every sample, where this becomes of its transparency. `done` is called after each, from many
    /// threads.
    pub fn of(samples: &dyn Samples, alpha: Alpha, done: &(dyn Fn() + Sync)) -> Self {
        let look = |index: usize| {
            let found = catch_unwind(AssertUnwindSafe(|| samples.look(index, alpha)));
            done();
            found.unwrap_or_else(|_| {
                let got = "one that the decoder failed on";
                Err(Error::invalid(samples.name(index), "a sample that can be read", got))
            })
        };
        let found: Vec<Result<Look>> = (0..samples.len()).into_par_iter().map(look).collect();
        let mut checked = Self { samples: found.len(), ..Self::default() };
        for (index, found) in found.into_iter().enumerate() {
            match found {
                Ok(Look { odd, orientation_noted }) => {
                    checked.orientation_noted += usize::from(orientation_noted);
                    if let Some(odd) = odd {
                        checked.odd.entry(odd).or_default().push(samples.name(index));
                    }
                }
                Err(error) => checked.bad.push(BadImage { index, name: samples.name(index), error }),
            }
        }
        checked
    }

    /// The indices of those that can be read.
    pub fn good(&self) -> Vec<usize> {
        let mut bad = self.bad.iter().map(|bad| bad.index).peekable();
        (0..self.samples).filter(|index| bad.next_if_eq(index).is_none()).collect()
    }

    /// What is odd about images of `part` that can be read, a line for each oddity.
    pub fn notes(&self, part: &str) -> Vec<String> {
        let line = |(odd, names): (&&str, &Vec<String>)| {
            format!("{part}: {} of {} images {odd}: {}", names.len(), self.samples, listed(names))
        };
        self.odd.iter().map(line).collect()
    }

    /// What is said where the bad ones are left out.
    pub fn skipped(&self, part: &str) -> Option<String> {
        let first = self.bad.first()?;
        let names: Vec<String> = self.bad.iter().map(|bad| bad.name.clone()).collect();
        let (count, all) = (self.bad.len(), self.samples);
        Some(format!(
            "skipped: {part}: {count} of {all} images cannot be read: {} ({})",
            listed(&names),
            first.error.without_remedy()
        ))
    }

    /// The bad ones as one error.
    ///
    /// # Errors
    /// If there is one.
    pub fn into_result(mut self, part: &str) -> Result<()> {
        let names: Vec<String> = self.bad.iter().map(|bad| bad.name.clone()).collect();
        let (count, all) = (self.bad.len(), self.samples);
        if self.bad.is_empty() {
            return Ok(());
        }
        let first = self.bad.swap_remove(0).error;
        if count == 1 {
            return Err(first);
        }
        Err(Error::BadImages { part: part.into(), count, all, names: listed(&names), first: first.without_remedy() })
    }
}

fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}

/// A data set without the images that cannot be read, with notes on what is left out. `say` is told what takes a while.
pub(super) fn without_bad(mut dataset: Dataset, say: &dyn Fn(&str)) -> Result<Dataset> {
    let parts = [
        ("training", Some(&mut dataset.train)),
        ("validation", dataset.val.as_mut()),
        ("test", Some(&mut dataset.test)),
    ];
    for (name, part) in parts {
        let Some(part) = part else { continue };
        let checked = look_through(&dataset.spec, name, &**part, Alpha::Dropped, say);
        let named = format!("{}: {name} part", dataset.spec);
        dataset.notes.extend(checked.notes(&named));
        let Some(skipped) = checked.skipped(&named) else { continue };
        dataset.notes.push(skipped);
        let good = checked.good();
        if good.is_empty() {
            checked.into_result(&named)?;
        }
        *part = Arc::new(Subset::new(part.clone(), good)?);
    }
    Ok(dataset)
}

/// [`Checked::of`] a part of a data set, announced where it takes a while.
pub(crate) fn look_through(spec: &str, name: &str, part: &dyn Samples, alpha: Alpha, say: &dyn Fn(&str)) -> Checked {
    const WHILE: usize = 2000;
    if part.len() >= WHILE && part.image_size().is_none() {
        say(&format!("{spec}: reading the {} images of the {name} part once, to know of bad ones", part.len()));
    }
    Checked::of(part, alpha, &|| {})
}
