//! `data.json`: which samples a run was begun with, part by part, and whether they are still the same.
//!
//! The file is an object with a header (the data set as the user named it, where it lay, the classes in the order of their
//! labels, whether the test part was held out by us) and the parts `train`, `val` and `test`, each a list with a sample a line:
//! its name inside of the data set, the hash of its contents ([`Digest`]) and its label.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tallow_weights::save;

use super::config::TrainConfig;
use super::error::{Error, Result};
use super::event::{Event, Listener};
use super::run_folder::{RunFolder, read_json};
use crate::data::{Dataset, Digest, Digested, Samples};

/// Samples are read for so long before it is told how far that is, and may be stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many names a message gives.
const NAMES: usize = 3;

/// The layout that is written here.
const VERSION: u32 = 1;

/// The samples of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    /// The layout of the file: 1.
    pub version: u32,
    /// The data set as the user named it.
    pub data: String,
    /// Where it lay, absolute and in the same notation, if it is one at a path.
    pub place: Option<String>,
    /// Class names by label.
    pub classes: Vec<String>,
    /// Whether the test part was held out by us, as the data set had none of its own.
    pub test_held_out: bool,
    /// What was trained on.
    pub train: Vec<RecordedSample>,
    /// What the best checkpoint was chosen on; empty where there was no such part.
    pub val: Vec<RecordedSample>,
    /// What results are reported on.
    pub test: Vec<RecordedSample>,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSample {
    /// What it is called inside of the data set.
    pub name: String,
    /// What it holds.
    pub hash: Digest,
    /// The number of its class.
    pub label: u32,
}

impl DataRecord {
    /// The parts with their names in words.
    fn parts(&self) -> [(&'static str, &[RecordedSample]); 3] {
        [("training", &self.train), ("validation", &self.val), ("test", &self.test)]
    }

    /// Whether a name stands for a file, and so for one image. Elsewhere it is a place in a list, and what is put in moves all that
    /// follow.
    pub(super) fn named_by_file(&self) -> bool {
        self.data.starts_with("folder:")
    }

    /// What tells a sample from the others, with its part: its file, else its contents and how many of the same came before it.
    fn keyed(&self) -> Vec<(String, &'static str, &RecordedSample)> {
        let mut count: HashMap<Digest, usize> = HashMap::new();
        let mut key = |sample: &RecordedSample| {
            if self.named_by_file() {
                return sample.name.clone();
            }
            let before = count.entry(sample.hash).or_default();
            *before += 1;
            format!("{} {before}", sample.hash)
        };
        let all = self.parts().into_iter().flat_map(|(part, samples)| samples.iter().map(move |sample| (part, sample)));
        all.map(|(part, sample)| (key(sample), part, sample)).collect()
    }

    /// The names of test samples that hold the same as a training sample.
    pub fn tested_and_trained_on(&self) -> Vec<&str> {
        let trained: HashSet<Digest> = self.train.iter().map(|sample| sample.hash).collect();
        self.test.iter().filter(|sample| trained.contains(&sample.hash)).map(|sample| sample.name.as_str()).collect()
    }

    /// Writes `data.json` of a run's folder as a whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &RunFolder) -> Result<()> {
        let path = folder.data_path();
        save::write_text(&path, &self.to_json().map_err(|error| not_json(&path, &error))?)?;
        Ok(())
    }

    /// An object with a sample a line.
    fn to_json(&self) -> serde_json::Result<String> {
        let mut text = format!(
            "{{\n\"version\": {},\n\"data\": {},\n\"place\": {},\n\"classes\": {},\n\"test_held_out\": {}",
            self.version,
            serde_json::to_string(&self.data)?,
            serde_json::to_string(&self.place)?,
            serde_json::to_string(&self.classes)?,
            self.test_held_out
        );
        for (key, samples) in [("train", &self.train), ("val", &self.val), ("test", &self.test)] {
            let lines: Vec<String> = samples.iter().map(serde_json::to_string).collect::<serde_json::Result<_>>()?;
            let lines = if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join(",\n")) };
            text.push_str(&format!(",\n\"{key}\": [{lines}]"));
        }
        text.push_str("\n}\n");
        Ok(text)
    }

    /// Reads `data.json` of a run's folder; none where there is no such file, as in runs of older versions.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it should be.
    pub fn read(folder: &RunFolder) -> Result<Option<Self>> {
        let path = folder.data_path();
        if !path.exists() {
            return Ok(None);
        }
        let record: Self = read_json(&path, "the samples of a run")?;
        if record.version != VERSION {
            let expected = format!("version {VERSION} of its layout; a newer Tallow wrote this run");
            return Err(Error::File { path, expected, got: format!("version {}", record.version) });
        }
        match record
            .parts()
            .iter()
            .flat_map(|(_, samples)| samples.iter())
            .find(|s| s.label as usize >= record.classes.len())
        {
            None => Ok(Some(record)),
            Some(sample) => {
                let expected = format!("labels below {}, the number of classes", record.classes.len());
                Err(Error::File { path, expected, got: format!("{} of {}", sample.label, sample.name) })
            }
        }
    }

    /// In what the data set of today, `now`, is another one than the run was begun with; empty where in nothing.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        if (&self.classes, &self.train, &self.val, &self.test) == (&now.classes, &now.train, &now.val, &now.test) {
            return Vec::new();
        }
        let mut differences = of_classes(self, now);
        differences.extend(of_samples(self, now));
        if differences.is_empty() {
            differences.push("the samples come in another order".into());
        }
        differences
    }
}

fn not_json(path: &Path, error: &serde_json::Error) -> Error {
    Error::File { path: path.into(), expected: "names and labels that JSON can hold".into(), got: error.to_string() }
}

/// Classes that were renamed, are gone or are new.
fn of_classes(then: &DataRecord, now: &DataRecord) -> Vec<String> {
    let gone: Vec<&String> = then.classes.iter().filter(|class| !now.classes.contains(class)).collect();
    let mut new: Vec<&String> = now.classes.iter().filter(|class| !then.classes.contains(class)).collect();
    let contents = |record: &DataRecord, class: &String| -> HashSet<Digest> {
        let label = record.classes.iter().position(|other| other == class);
        let samples = record.parts().into_iter().flat_map(|(_, samples)| samples.iter());
        samples.filter(|sample| Some(sample.label as usize) == label).map(|sample| sample.hash).collect()
    };
    let mut words = Vec::new();
    for class in gone {
        let held = contents(then, class);
        match new.iter().position(|other| !held.is_disjoint(&contents(now, other))) {
            Some(at) => words.push(format!("class {class:?} is called {:?}", new.remove(at))),
            None => words.push(format!("class {class:?} is gone")),
        }
    }
    words.extend(new.into_iter().map(|class| format!("class {class:?} is new")));
    if words.is_empty() && then.classes != now.classes {
        words.push("the classes come in another order".into());
    }
    words
}

/// Samples that are gone, new, renamed, changed, elsewhere or in another class.
fn of_samples(then: &DataRecord, now: &DataRecord) -> Vec<String> {
    let class = |record: &DataRecord, sample: &RecordedSample| record.classes.get(sample.label as usize).cloned();
    let (all_then, all_now) = (then.keyed(), now.keyed());
    let by_key: HashMap<&str, (&str, &RecordedSample)> =
        all_now.iter().map(|(key, part, s)| (key.as_str(), (*part, *s))).collect();
    let known: HashSet<&str> = all_then.iter().map(|(key, ..)| key.as_str()).collect();
    let strangers = || all_now.iter().filter(|(key, ..)| !known.contains(key.as_str()));
    let mut by_hash: HashMap<Digest, Vec<&RecordedSample>> = HashMap::new();
    strangers().for_each(|(_, _, sample)| by_hash.entry(sample.hash).or_default().push(sample));
    let mut lists: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |what: String, name: String| match lists.iter_mut().find(|(other, _)| *other == what) {
        Some((_, names)) => names.push(name),
        None => lists.push((what, vec![name])),
    };
    let mut renamed: HashSet<&str> = HashSet::new();
    for (key, part, sample) in &all_then {
        let name = sample.name.clone();
        match by_key.get(key.as_str()) {
            Some((_, found)) if found.hash != sample.hash => add("changed: other contents".into(), name),
            Some((place, _)) if place != part => add(format!("moved from the {part} to the {place} part"), name),
            Some((_, found)) if class(now, found) != class(then, sample) => add("now of another class".into(), name),
            Some(_) => {}
            None => match by_hash.get_mut(&sample.hash).and_then(Vec::pop) {
                Some(found) => {
                    renamed.insert(&found.name);
                    add("renamed".into(), format!("{name} is {}", found.name));
                }
                None => add(format!("gone from the {part} part"), name),
            },
        }
    }
    for (_, part, sample) in strangers().filter(|(_, _, sample)| !renamed.contains(sample.name.as_str())) {
        add(format!("new in the {part} part"), sample.name.clone());
    }
    lists.into_iter().map(|(what, names)| format!("{} {what} ({})", counted(names.len()), first(&names))).collect()
}

/// `1 sample`, `2 samples`.
pub(super) fn counted(count: usize) -> String {
    if count == 1 { "1 sample".into() } else { format!("{count} samples") }
}

/// The first few names.
pub(super) fn first<T: AsRef<str>>(names: &[T]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(NAMES);
    shown.join(", ") + &(if more > 0 { format!(" and {more} more") } else { String::new() })
}

/// Reads the contents of all samples, which then know their digests. False where `stop` was set meanwhile.
pub(super) fn digest(dataset: &mut Dataset, listener: &mut dyn Listener, stop: &AtomicBool) -> bool {
    let began = Instant::now();
    let total = dataset.train.len() + dataset.val.as_ref().map_or(0, |val| val.len()) + dataset.test.len();
    let mut before = 0;
    let mut digested = |samples: &mut Arc<dyn Samples>| {
        let mut go_on = |done| {
            let long = began.elapsed() > PATIENCE;
            if long {
                listener.on(&Event::Hashing { done: before + done, total });
            }
            !(long && stop.load(Ordering::Relaxed))
        };
        match Digested::new(samples.clone(), &mut go_on) {
            Some(digested) => *samples = Arc::new(digested),
            None => return false,
        }
        before += samples.len();
        true
    };
    let val = match &mut dataset.val {
        Some(val) => digested(val),
        None => true,
    };
    val && digested(&mut dataset.train) && digested(&mut dataset.test)
}

/// The record of a data set, whose contents are read where that was not done yet.
pub(super) fn of(config: &TrainConfig, dataset: &Dataset) -> Result<DataRecord> {
    let part = |samples: &dyn Samples| -> Result<Vec<RecordedSample>> {
        let sample = |index| {
            Ok(RecordedSample { name: samples.name(index), hash: samples.digest(index)?, label: samples.label(index) })
        };
        (0..samples.len()).map(sample).collect()
    };
    Ok(DataRecord {
        version: VERSION,
        data: dataset.spec.clone(),
        place: config.paths.get("data").cloned(),
        classes: dataset.classes.clone(),
        test_held_out: dataset.test_held_out,
        train: part(&*dataset.train)?,
        val: dataset.val.as_ref().map_or(Ok(Vec::new()), |val| part(&**val))?,
        test: part(&*dataset.test)?,
    })
}

/// Checks that `now` is what the run in `folder` was begun with.
///
/// # Errors
/// [`Error::DataDiffers`] says in what it is not.
pub(super) fn check(folder: &RunFolder, then: &DataRecord, now: &DataRecord) -> Result<()> {
    let differences = then.differences(now);
    if differences.is_empty() { Ok(()) } else { Err(Error::DataDiffers { path: folder.root().into(), differences }) }
}

/// What is told of a run whose data cannot be compared with what it was begun with.
pub(super) fn missing_note(folder: &RunFolder) -> String {
    format!(
        "{}: an older version began this run and wrote no data.json: whether its data is still the same cannot be checked",
        folder.root().display()
    )
}

/// One line about test samples that are training samples too.
pub(super) fn overlap_warning(record: &DataRecord) -> Option<String> {
    let names = record.tested_and_trained_on();
    (!names.is_empty()).then(|| {
        let hold = if names.len() == 1 { "holds" } else { "hold" };
        format!(
            "{} of the test part {hold} the same as one of the training part ({})",
            counted(names.len()),
            first(&names)
        )
    })
}

impl RunFolder {
    /// `data.json`: the samples that the run was begun with.
    pub fn data_path(&self) -> PathBuf {
        self.root().join("data.json")
    }

    /// Reads `data.json`; none where an older version began the run.
    ///
    /// # Errors
    /// If it cannot be read, or is not what it should be.
    pub fn data(&self) -> Result<Option<DataRecord>> {
        DataRecord::read(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(classes: &[&str], train: &[(&str, &str, u32)], test: &[(&str, &str, u32)]) -> DataRecord {
        let samples = |list: &[(&str, &str, u32)]| {
            let sample = |&(name, contents, label): &(&str, &str, u32)| RecordedSample {
                name: name.into(),
                hash: Digest::of(contents.as_bytes()),
                label,
            };
            list.iter().map(sample).collect()
        };
        DataRecord {
            version: VERSION,
            data: "folder:photos".into(),
            place: None,
            classes: classes.iter().map(|class| class.to_string()).collect(),
            test_held_out: true,
            train: samples(train),
            val: Vec::new(),
            test: samples(test),
        }
    }

    #[test]
    fn every_kind_of_difference_is_told_with_the_name_of_the_sample() {
        let then = record(&["a", "b"], &[("a/1", "1", 0), ("b/2", "2", 1)], &[("a/3", "3", 0), ("b/4", "4", 1)]);
        let classes = ["a", "b"];
        type Part = Vec<(&'static str, &'static str, u32)>;
        let train = || -> Part { vec![("a/1", "1", 0), ("b/2", "2", 1)] };
        let test = || -> Part { vec![("a/3", "3", 0), ("b/4", "4", 1)] };
        let with = |change: &dyn Fn(&mut Part, &mut Part)| {
            let (mut train, mut test) = (train(), test());
            change(&mut train, &mut test);
            then.differences(&record(&classes, &train, &test)).join("; ")
        };
        assert_eq!(with(&|_, _| {}), "");
        assert_eq!(with(&|train, _| train.push(("b/5", "5", 1))), "1 sample new in the training part (b/5)");
        assert_eq!(with(&|_, test| test.truncate(1)), "1 sample gone from the test part (b/4)");
        assert_eq!(with(&|train, _| train[0].0 = "a/0"), "1 sample renamed (a/1 is a/0)");
        assert_eq!(with(&|train, _| train[0].1 = "9"), "1 sample changed: other contents (a/1)");
        assert_eq!(
            with(&|train, test| test.push(train.remove(0))),
            "1 sample moved from the training to the test part (a/1)"
        );
        assert_eq!(with(&|train, _| train[0].2 = 1), "1 sample now of another class (a/1)");
        assert_eq!(with(&|train, _| train.swap(0, 1)), "the samples come in another order");
        let renamed = record(&["a", "c"], &[("a/1", "1", 0), ("c/2", "2", 1)], &[("a/3", "3", 0), ("c/4", "4", 1)]);
        assert_eq!(
            then.differences(&renamed),
            ["class \"b\" is called \"c\"", "2 samples renamed (b/2 is c/2, b/4 is c/4)"]
        );
        let more = record(
            &["a", "aa", "b"],
            &[("a/1", "1", 0), ("aa/6", "6", 1), ("b/2", "2", 2)],
            &[("a/3", "3", 0), ("b/4", "4", 2)],
        );
        assert_eq!(then.differences(&more), ["class \"aa\" is new", "1 sample new in the training part (aa/6)"]);
    }

    #[test]
    fn in_a_list_what_is_put_in_moves_the_names_of_others_and_is_told_alone() {
        let list = |train: &[(&str, &str, u32)]| DataRecord {
            data: "parquet:rows".into(),
            ..record(&["a", "b"], train, &[("test 0", "t", 0)])
        };
        let then = list(&[("row 0", "1", 0), ("row 1", "2", 1), ("row 2", "2", 1)]);
        let now = list(&[("row 0", "new", 0), ("row 1", "1", 0), ("row 2", "2", 1), ("row 3", "2", 1)]);
        assert_eq!(then.differences(&now), ["1 sample new in the training part (row 0)"]);
        assert_eq!(now.differences(&then), ["1 sample gone from the training part (row 0)"]);
    }

    #[test]
    fn a_record_has_a_sample_a_line_and_reads_back_equal() {
        let record = record(&["a", "b\"c"], &[("a/\"1\"\n", "1", 0)], &[("b/2", "2", 1), ("b/3", "3", 1)]);
        let text = record.to_json().expect("JSON");
        assert_eq!(serde_json::from_str::<DataRecord>(&text).expect("a record"), record);
        assert_eq!(text.lines().filter(|line| line.starts_with("{\"name\":")).count(), 3);
        assert!(text.contains("{\"name\":\"b/3\",\"hash\":\""), "{text}");
    }

    #[test]
    fn test_samples_that_were_trained_on_are_told_once() {
        let record = record(&["a", "b"], &[("a/1", "1", 0), ("b/2", "2", 1)], &[("a/3", "1", 0), ("b/4", "4", 1)]);
        let warning = overlap_warning(&record).expect("a warning");
        assert_eq!(warning, "1 sample of the test part holds the same as one of the training part (a/3)");
    }
}
