//! The labels of a data set in the numbers of a model's classes: by name, where the two have their classes in another order.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Error, Result};
use super::event::{Event, Listener};
use crate::data::{self, Alpha, Dataset, Image, Samples};

/// `samples`, a part of `dataset`, labelled in the order of the model's `classes` many classes, whose names are `names` where
/// they are known. Says where that is not the data set's own order.
///
/// # Errors
/// If a sample is of a class that the model does not know, or that has the name of several.
pub fn relabelled(
    samples: &Arc<dyn Samples>,
    dataset: &Dataset,
    names: Option<&[String]>,
    classes: usize,
    listener: &mut dyn Listener,
) -> Result<Arc<dyn Samples>> {
    let Some(names) = names else {
        check_number(samples, dataset, classes)?;
        listener.on(&Event::Note(format!(
            "The model's classes have no names: those of {} are taken to be in its order",
            dataset.spec
        )));
        return Ok(samples.clone());
    };
    if names == dataset.classes {
        return Ok(samples.clone());
    }
    let places = places(names);
    let label = |class: &String| match places.get(class.as_str()) {
        Some(&Place::One(label)) if occurs_once(class, &dataset.classes) => Some(label),
        _ => None,
    };
    let labels: Vec<Option<u32>> = dataset.classes.iter().map(label).collect();
    check_known(samples, dataset, names, &labels)?;
    // No sample has a label that is left without a number.
    let labels: Vec<u32> = labels.into_iter().map(Option::unwrap_or_default).collect();
    if labels.iter().enumerate().all(|(own, &label)| own == label as usize) {
        return Ok(samples.clone());
    }
    listener.on(&Event::Note(format!(
        "The classes of {} were found in the model's by their names: {} in the data, {} in the model",
        dataset.spec,
        few(&dataset.classes),
        few(names)
    )));
    Ok(Arc::new(Relabelled { samples: samples.clone(), labels }))
}

/// Where a name stands among the model's.
enum Place {
    One(u32),
    Several,
}

fn places(names: &[String]) -> BTreeMap<&str, Place> {
    let mut places = BTreeMap::new();
    for (label, name) in names.iter().enumerate().filter(|(_, name)| !name.trim().is_empty()) {
        places.entry(name.as_str()).and_modify(|place| *place = Place::Several).or_insert(Place::One(label as u32));
    }
    places
}

fn occurs_once(class: &str, classes: &[String]) -> bool {
    classes.iter().filter(|other| *other == class).count() == 1
}

/// Every sample must have a label that the model's classes have a number for.
fn check_known(samples: &Arc<dyn Samples>, dataset: &Dataset, names: &[String], labels: &[Option<u32>]) -> Result<()> {
    let mut unknown = vec![0usize; labels.len()];
    for index in 0..samples.len() {
        let label = samples.label(index) as usize;
        if let (None, Some(count)) = (labels.get(label).copied().flatten(), unknown.get_mut(label)) {
            *count += 1;
        }
    }
    let samples: usize = unknown.iter().sum();
    if samples == 0 {
        return Ok(());
    }
    let classes = dataset.classes.iter().zip(&unknown).filter(|(_, count)| **count > 0);
    let classes: Vec<String> = classes.map(|(class, _)| class.clone()).collect();
    let double = classes.iter().any(|class| names.contains(class));
    let expected = format!("samples of the model's {} classes ({})", names.len(), few(names));
    let double = if double { "; a name that is empty or stands twice tells no class" } else { "" };
    let got = format!("{} in {samples} of the samples{double}", few(&classes));
    Err(Error::invalid(&dataset.spec, expected, got))
}

fn check_number(samples: &Arc<dyn Samples>, dataset: &Dataset, classes: usize) -> Result<()> {
    match (0..samples.len()).map(|index| samples.label(index) as usize).max() {
        Some(largest) if largest >= classes => {
            let class = dataset.classes.get(largest).map_or_else(|| largest.to_string(), |name| format!("{name:?}"));
            let expected = format!("the model's {classes} classes and no more");
            Err(Error::invalid(&dataset.spec, expected, format!("{class} as number {largest}")))
        }
        _ => Ok(()),
    }
}

/// The first names of a list, quoted, and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = names.iter().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Samples under other labels.
struct Relabelled {
    samples: Arc<dyn Samples>,
    /// By the samples' own label.
    labels: Vec<u32>,
}

impl Samples for Relabelled {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> u32 {
        let own = self.samples.label(index);
        self.labels.get(own as usize).copied().unwrap_or(own)
    }

    fn image(&self, index: usize) -> data::Result<Image> {
        self.samples.image(index)
    }

    fn image_as(&self, index: usize, alpha: Alpha) -> data::Result<Image> {
        self.samples.image_as(index, alpha)
    }

    fn look(&self, index: usize, alpha: Alpha) -> data::Result<data::Look> {
        self.samples.look(index, alpha)
    }

    fn name(&self, index: usize) -> String {
        self.samples.name(index)
    }

    fn point(&self, index: usize) -> Option<&[f32]> {
        self.samples.point(index)
    }

    fn image_size(&self) -> Option<[usize; 3]> {
        self.samples.image_size()
    }

    fn digest(&self, index: usize) -> data::Result<data::Digest> {
        self.samples.digest(index)
    }
}
