//! Finding the samples again that a run has recorded in its `data.json`, wherever they are called what in the data set of today.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::data_record::{DataRecord, RecordedSample, counted, first};
use super::error::{Error, Result};
use super::event::{Event, Listener};
use crate::data::{Dataset, Digest, Pick, Picked, Samples, digests, proportional_labels};

/// What became of the samples that a run recorded of a part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recollection {
    /// How many the run recorded of the part.
    pub recorded: usize,
    /// How many of them were to be found: all, or as many as were asked for.
    pub wanted: usize,
    /// How many were found, and so measured.
    pub found: usize,
    /// Those that are not there any more.
    pub missing: Vec<String>,
    /// Those in whose place something else is now; they are left out.
    pub changed: Vec<String>,
    /// Samples that the run does not know; they are left out.
    pub new: Vec<String>,
    /// Those that have another name now, as `this is that`; they are measured.
    pub renamed: Vec<String>,
    /// Those that have another label now; they are measured with that of then.
    pub relabelled: Vec<String>,
}

impl Recollection {
    /// A line for everything that is not as it was.
    pub fn warnings(&self, part: &str) -> Vec<String> {
        let line = |names: &[String], what: &str| {
            let lines =
                (!names.is_empty()).then(|| format!("{part} part: {} {what} ({})", counted(names.len()), first(names)));
            lines.into_iter()
        };
        line(&self.missing, "of the run not there any more, and not measured")
            .chain(line(&self.changed, "of the run with other contents now, and not measured"))
            .chain(line(&self.new, "that the run does not know, and not measured"))
            .chain(line(&self.renamed, "of the run under another name, and measured"))
            .chain(line(&self.relabelled, "of the run with another label now, and measured with that of then"))
            .collect()
    }

    /// In one line: `measured on the 24 recorded test samples; 1 new, 2 missing`.
    pub fn in_words(&self, part: &str) -> String {
        let of = if self.found == self.recorded { String::new() } else { format!("{} of ", self.found) };
        let counts = [
            (self.new.len(), "new"),
            (self.missing.len(), "missing"),
            (self.changed.len(), "changed"),
            (self.renamed.len(), "renamed"),
            (self.relabelled.len(), "relabelled"),
        ];
        let told: Vec<String> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let told = if told.is_empty() { String::new() } else { format!("; {}", told.join(", ")) };
        let samples = if self.recorded == 1 { "sample" } else { "samples" };
        format!("measured on {of}the {} recorded {part} {samples}{told}", self.recorded)
    }
}

/// Which samples are looked for, and where.
pub(super) struct Search<'a> {
    pub record: &'a DataRecord,
    /// The training part instead of the test part.
    pub train_part: bool,
    /// At most so many of them.
    pub limit: Option<usize>,
    /// All that the data set holds today.
    pub whole: &'a Dataset,
    /// What a run of the same settings would use of it; none where that is all.
    pub used: Option<&'a Dataset>,
}

/// A sample of [`Search::whole`]: its part and its index there.
type Place = (usize, usize);

/// The samples of today, by place and by name.
struct Today {
    parts: Vec<Arc<dyn Samples>>,
    by_name: HashMap<String, Place>,
}

impl Today {
    fn of(dataset: &Dataset) -> Self {
        let parts = [Some(&dataset.train), dataset.val.as_ref(), Some(&dataset.test)];
        let parts: Vec<Arc<dyn Samples>> = parts.into_iter().flatten().cloned().collect();
        let mut by_name = HashMap::new();
        for (part, samples) in parts.iter().enumerate() {
            by_name.extend((0..samples.len()).map(|index| (samples.name(index), (part, index))));
        }
        Self { parts, by_name }
    }

    fn name(&self, (part, index): Place) -> String {
        self.parts[part].name(index)
    }

    /// The digests of the samples at some places.
    fn hashes(&self, places: &[Place], listener: &mut dyn Listener) -> Result<HashMap<Place, Digest>> {
        let mut hashes = HashMap::with_capacity(places.len());
        for (part, samples) in self.parts.iter().enumerate() {
            let indices: Vec<usize> = places.iter().filter(|at| at.0 == part).map(|at| at.1).collect();
            let found = digested(&**samples, &indices, listener);
            hashes.extend(indices.into_iter().map(|index| (part, index)).zip(found));
        }
        Ok(hashes)
    }
}

/// A recorded sample, and where it is today.
struct Sought<'a> {
    sample: &'a RecordedSample,
    /// What has its name, and what that holds.
    here: Option<(Place, Digest)>,
    /// Where it is itself.
    found: Option<Place>,
}

impl Search<'_> {
    /// The recorded samples that are still there, in the order and with the labels of the record.
    ///
    /// # Errors
    /// If none is there, a sample cannot be read, or a test sample is one that the run was trained on.
    pub fn find(&self, listener: &mut dyn Listener) -> Result<(Arc<dyn Samples>, Recollection)> {
        let today = Today::of(self.whole);
        let part = if self.train_part { &self.record.train } else { &self.record.test };
        let mut sought = self.under_their_names(limited(part, self.limit), &today, listener)?;
        let mut told = Recollection { recorded: part.len(), wanted: sought.len(), ..Recollection::default() };
        if sought.iter().any(|sought| sought.found.is_none()) {
            let mut elsewhere = self.elsewhere(&sought, &today, listener)?;
            for Sought { sample, found, .. } in sought.iter_mut().filter(|sought| sought.found.is_none()) {
                *found = elsewhere.get_mut(&sample.hash).and_then(Vec::pop);
                told.renamed.extend(found.map(|at| format!("{} is {}", sample.name, today.name(at))));
            }
        }
        let picks = self.picks(&sought, &today, &mut told);
        if !self.train_part {
            self.check_unseen(&sought, &today, listener)?;
        }
        told.new = self.added(&sought, &today, listener)?;
        if picks.is_empty() {
            let part = if self.train_part { "training" } else { "test" };
            let expected = format!("the {} of the run's {part} part", counted(sought.len()));
            return Err(Error::invalid(&self.whole.spec, expected, "none of them; measure on other data with `data`"));
        }
        Ok((Arc::new(Picked::new(today.parts, picks)?), told))
    }

    /// What is still what the run knows under its name.
    fn under_their_names<'a>(
        &self,
        wanted: Vec<&'a RecordedSample>,
        today: &Today,
        listener: &mut dyn Listener,
    ) -> Result<Vec<Sought<'a>>> {
        let places: Vec<Place> = wanted.iter().filter_map(|sample| today.by_name.get(&sample.name)).copied().collect();
        let hashes = today.hashes(&places, listener)?;
        let sought = |sample: &'a RecordedSample| {
            let here = today.by_name.get(&sample.name).and_then(|at| Some((*at, *hashes.get(at)?)));
            let found = here.filter(|(_, hash)| *hash == sample.hash).map(|(at, _)| at);
            Sought { sample, here, found }
        };
        Ok(wanted.into_iter().map(sought).collect())
    }

    /// Where samples are that were not found under their names: whatever has a name that the run does not know, or has taken the
    /// place of another one; where names are places in a list, anywhere.
    fn elsewhere(
        &self,
        sought: &[Sought],
        today: &Today,
        listener: &mut dyn Listener,
    ) -> Result<HashMap<Digest, Vec<Place>>> {
        let known: HashMap<&str, Digest> = self.all().map(|sample| (sample.name.as_str(), sample.hash)).collect();
        let taken: HashSet<Place> = sought.iter().filter_map(|sought| sought.found).collect();
        let by_file = self.record.named_by_file();
        let strangers = today.by_name.iter().filter(|(name, _)| !by_file || !known.contains_key(name.as_str()));
        let others = sought.iter().filter_map(|sought| sought.here).map(|(at, _)| at);
        let mut places: Vec<Place> =
            strangers.map(|(_, at)| *at).chain(others).filter(|at| !taken.contains(at)).collect();
        places.sort_unstable();
        places.dedup();
        let hashes = today.hashes(&places, listener)?;
        let mut elsewhere: HashMap<Digest, Vec<Place>> = HashMap::new();
        // The first one is taken first.
        for place in places.into_iter().rev() {
            let Some(hash) = hashes.get(&place) else { continue };
            // Another sample of the run, under its own name, is not this one.
            if known.get(today.name(place).as_str()) != Some(hash) {
                elsewhere.entry(*hash).or_default().push(place);
            }
        }
        Ok(elsewhere)
    }

    /// All samples that the run recorded.
    fn all(&self) -> impl Iterator<Item = &RecordedSample> {
        let DataRecord { train, val, test, .. } = self.record;
        [train, val, test].into_iter().flatten()
    }

    /// What is measured; and the account of it and of what is not.
    fn picks(&self, sought: &[Sought], today: &Today, told: &mut Recollection) -> Vec<Pick> {
        let by_file = self.record.named_by_file();
        let known: HashSet<Digest> = self.all().map(|sample| sample.hash).collect();
        let mut picks = Vec::new();
        for Sought { sample, here, found } in sought {
            match (found, here) {
                (Some((part, index)), _) => {
                    let class = self.whole.classes.get(today.parts[*part].label(*index) as usize);
                    if class != self.record.classes.get(sample.label as usize) {
                        told.relabelled.push(sample.name.clone());
                    }
                    picks.push(Pick { part: *part, index: *index, label: sample.label });
                }
                (None, Some((_, hash))) if by_file || !known.contains(hash) => told.changed.push(sample.name.clone()),
                // Nothing is there, or what follows it in the list.
                (None, _) => told.missing.push(sample.name.clone()),
            }
        }
        told.found = picks.len();
        picks
    }

    /// Names of samples that are there today and that the run does not know, those apart that it knows by another name that is
    /// not there any more.
    fn added(&self, sought: &[Sought], today: &Today, listener: &mut dyn Listener) -> Result<Vec<String>> {
        let by_file = self.record.named_by_file();
        let known: HashSet<&str> = self.all().map(|sample| sample.name.as_str()).collect();
        let taken: HashSet<Place> = sought.iter().filter_map(|sought| sought.found).collect();
        let own = |dataset: &Dataset| if self.train_part { dataset.train.clone() } else { dataset.test.clone() };
        let searched = match self.used {
            Some(used) => vec![own(used)],
            // Which part a new one would be in means nothing where there are no parts.
            None if self.record.test_held_out => today.parts.clone(),
            None => vec![own(self.whole)],
        };
        let names = searched.iter().flat_map(|samples| (0..samples.len()).map(|index| samples.name(index)));
        // Where names are places in a list, only contents tell what is new.
        let names = names.filter(|name| !by_file || !known.contains(name.as_str()));
        let places = names.filter_map(|name| today.by_name.get(&name));
        let unknown: Vec<Place> = places.filter(|at| !taken.contains(at)).copied().collect();
        let mut gone: HashMap<Digest, usize> = HashMap::new();
        for sample in self.all().filter(|sample| !by_file || !today.by_name.contains_key(&sample.name)) {
            *gone.entry(sample.hash).or_default() += 1;
        }
        let hashes = if gone.is_empty() { HashMap::new() } else { today.hashes(&unknown, listener)? };
        let mut new = Vec::new();
        for at in unknown {
            match hashes.get(&at).and_then(|hash| gone.get_mut(hash)).filter(|left| **left > 0) {
                Some(left) => *left -= 1,
                None => new.push(today.name(at)),
            }
        }
        Ok(new)
    }

    /// Checks that no sample of today's test part was trained on: not a file that has a test sample's name, and none of a test
    /// part of the data set's own.
    fn check_unseen(&self, sought: &[Sought], today: &Today, listener: &mut dyn Listener) -> Result<()> {
        // Some data sets have the same image in both parts from the start.
        let tested: HashSet<Digest> = self.record.test.iter().map(|sample| sample.hash).collect();
        let trained: HashMap<Digest, &str> = self.record.train.iter().map(|s| (s.hash, s.name.as_str())).collect();
        let taken: HashSet<Place> = sought.iter().filter_map(|sought| sought.found).collect();
        let by_file = self.record.named_by_file();
        let replaced =
            sought.iter().filter(|sought| by_file && sought.found.is_none()).filter_map(|sought| sought.here);
        let mut suspects: Vec<Place> = replaced.map(|(at, _)| at).collect();
        if !self.record.test_held_out {
            let test = &self.used.unwrap_or(self.whole).test;
            let places = (0..test.len()).filter_map(|index| today.by_name.get(&test.name(index)));
            suspects.extend(places.filter(|at| !taken.contains(at)));
        }
        suspects.sort_unstable();
        suspects.dedup();
        let hashes = today.hashes(&suspects, listener)?;
        let seen = suspects.iter().filter_map(|at| {
            let hash = hashes.get(at).filter(|hash| !tested.contains(hash))?;
            let name = today.name(*at);
            trained.get(hash).map(|then| if *then == name { name } else { format!("{name}, then {then}") })
        });
        let seen: Vec<String> = seen.collect();
        if seen.is_empty() {
            return Ok(());
        }
        Err(Error::TrainedOn { data: self.whole.spec.clone(), count: seen.len(), names: first(&seen) })
    }
}

/// The names of those samples that the run of `record` was trained on.
pub(super) fn trained_on(
    record: &DataRecord,
    samples: &dyn Samples,
    listener: &mut dyn Listener,
) -> Result<Vec<String>> {
    let trained: HashSet<Digest> = record.train.iter().map(|sample| sample.hash).collect();
    let all: Vec<usize> = (0..samples.len()).collect();
    let hashes = digested(samples, &all, listener);
    let seen = all.iter().zip(hashes).filter(|(_, hash)| trained.contains(hash));
    Ok(seen.map(|(&index, _)| samples.name(index)).collect())
}

/// The digests of some samples, while `listener` is told how far that is.
fn digested(samples: &dyn Samples, indices: &[usize], listener: &mut dyn Listener) -> Vec<Digest> {
    let total = indices.len();
    let mut go_on = |done| {
        listener.on(&Event::Hashing { done, total });
        true
    };
    digests(samples, indices, &mut go_on).unwrap_or_default()
}

/// The first `limit` of the recorded samples; where they are sorted by class, the first of every class in proportion.
fn limited(samples: &[RecordedSample], limit: Option<usize>) -> Vec<&RecordedSample> {
    let all: Vec<&RecordedSample> = samples.iter().collect();
    match limit {
        Some(limit) if limit < all.len() => {
            let labels: Vec<u32> = all.iter().map(|sample| sample.label).collect();
            let chosen = if labels.is_sorted() { proportional_labels(&labels, limit) } else { (0..limit).collect() };
            chosen.into_iter().map(|index| all[index]).collect()
        }
        _ => all,
    }
}
