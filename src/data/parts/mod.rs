//! Which part of a data set is for what: one table of words and one rule for folders of images, Parquet files and the hub.
//!
//! Readers bring [`Candidate`]s, folders or groups of files with their names, and [`assign`] says which are for training, for
//! validation and for testing, which are left out, and why. Nothing here reads images; `docs/data.md` has the rules in full.

#[cfg(feature = "parquet")]
mod card;
#[cfg(feature = "parquet")]
mod files;

use serde::Serialize;

use super::{Error, Result};

#[cfg(feature = "parquet")]
pub(super) use files::{FilePart, Sorted, sort};

/// What a part is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Role {
    /// Trained on.
    #[serde(rename = "train")]
    Train,
    /// What the best checkpoint is chosen on.
    #[serde(rename = "val")]
    Val,
    /// What results are reported on.
    #[serde(rename = "test")]
    Test,
    /// Not used.
    #[serde(rename = "left out")]
    LeftOut,
}

impl Role {
    /// The role in a sentence: `training`, `validation`, `test`, `left out`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Val => "validation",
            Self::Test => "test",
            Self::LeftOut => "left out",
        }
    }
}

/// A folder or file of a data set, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is called: `seg_train`, `validation`, `contrast`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The folder or the files, as the data set names them.
    pub source: String,
    /// Why it has this role, in words.
    pub why: String,
    /// How many samples it holds, as far as that is known: what is left out on the hub is not downloaded.
    pub samples: Option<usize>,
}

/// The words that name a part, the usual one first. Those of Hugging Face's `datasets`, and some that folders have.
const WORDS: [(Role, &[&str]); 3] = [
    (Role::Train, &["train", "training", "trn", "trainset", "trainingset", "traindata", "trainingdata", "trainimages"]),
    (
        Role::Val,
        &["validation", "valid", "val", "dev", "valset", "validset", "validationset", "valdata", "validationdata"],
    ),
    (
        Role::Test,
        &[
            "test",
            "testing",
            "tst",
            "eval",
            "evaluation",
            "testset",
            "testingset",
            "testdata",
            "testingdata",
            "testimages",
        ],
    ),
];

/// The word of a part in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub role: Role,
    /// Its place among the words of the role: where `test` and `eval` are both there, `test` is meant.
    rank: usize,
    /// Whether there is nothing else in the name but digits and separators: `train`, `Train2017`, `01_train`.
    exact: bool,
}

/// The words of a name in lower case: what stands between digits, separators and changes from small to capital letters.
fn tokens(name: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        if !letter.is_alphabetic() || (before.is_lowercase() && letter.is_uppercase()) {
            tokens.push(String::new());
        }
        if letter.is_alphabetic()
            && let Some(token) = tokens.last_mut()
        {
            token.extend(letter.to_lowercase());
        }
        before = letter;
    }
    tokens.retain(|token| !token.is_empty());
    tokens
}

/// Which part `name` speaks of. None where it speaks of none, or of two (`train_val`).
pub(super) fn word(name: &str) -> Option<Word> {
    let tokens = tokens(name);
    let known = |token: &String| {
        WORDS.iter().find_map(|(role, words)| Some((*role, words.iter().position(|word| word == token)?)))
    };
    let found: Vec<(Role, usize)> = tokens.iter().filter_map(known).collect();
    let (role, rank) = *found.first()?;
    let one_role = found.iter().all(|(other, _)| *other == role);
    one_role.then_some(Word { role, rank, exact: found.len() == tokens.len() })
}

/// Something that may be a part.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub name: String,
    /// The folder or the files, for the reader.
    pub source: String,
    pub word: Option<Word>,
    /// Where its name comes from, for [`Part::why`].
    pub why: String,
    /// What it holds: names of its own, by which it can be chosen too, and places in the reader's list.
    pub members: Vec<(String, usize)>,
}

/// What the user wants to be what.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes<'a> {
    /// `--train-split`: names, separated by commas.
    pub train: Option<&'a str>,
    /// `--test-split`.
    pub test: Option<&'a str>,
    /// Nothing has to be there to train on.
    pub whole: bool,
}

impl<'a> Wishes<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.train.is_none() && self.test.is_none()
    }

    /// The names of a wish.
    pub(super) fn names(wish: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        wish.into_iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty())
    }

    /// Whether `name` is wished for.
    pub(super) fn name(self, name: &str) -> bool {
        Self::names(self.train).chain(Self::names(self.test)).any(|wish| wish.eq_ignore_ascii_case(name))
    }
}

/// How candidates of one role that are called differently are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Several {
    /// Each is a part of its own: one has to be chosen (`train_clean`, `train_other`).
    #[default]
    Apart,
    /// They are files of one part, as on the hub (`train_a.parquet`, `train_b.parquet`).
    Together,
}

/// What [`assign`] found.
#[derive(Debug)]
pub(super) struct Assigned {
    /// The candidates with their roles. With a wish for some of a candidate's members, it has become two.
    pub parts: Vec<(Candidate, Role)>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Gives every candidate its role.
///
/// # Errors
/// If a wish names none of them, nothing is there to train on, or it is not clear what.
pub(super) fn assign(
    place: &str,
    mut candidates: Vec<Candidate>,
    wishes: Wishes,
    several: Several,
) -> Result<Assigned> {
    split_off_members(&mut candidates, wishes);
    let wished = |wish, setting| chosen(place, &candidates, wish, setting);
    let (train, test) = (wished(wishes.train, "`train_split`")?, wished(wishes.test, "`test_split`")?);
    if let (Some(train), Some(test)) = (&train, &test)
        && let Some(both) = train.iter().find(|index| test.contains(index))
    {
        let got = format!("{} in both", candidates[*both].name);
        return Err(Error::invalid(format!("{place}: `train_split` and `test_split`"), "different parts", got));
    }
    let mut roles = Roles { place, candidates: &mut candidates, several, taken: Vec::new(), notes: Vec::new() };
    roles.taken = train.iter().chain(&test).flatten().copied().collect();
    let mut train = match train {
        Some(train) => roles.wished(train, "`train_split = NAME`"),
        None => roles.usual(Role::Train, true)?,
    };
    let needs_test = test.is_none();
    let mut test = match test {
        Some(test) => roles.wished(test, "`test_split = NAME`"),
        None => roles.usual(Role::Test, true)?,
    };
    // A lone validation part is what results are reported on, as is usual for ImageNet.
    let stands_in = needs_test && test.is_empty();
    let mut val = roles.usual(Role::Val, stands_in)?;
    if stands_in && !val.is_empty() {
        roles.explain(&val, "there is no test part, so results are reported on it");
        test = std::mem::take(&mut val);
    }
    let mut notes = roles.notes;
    if train.is_empty() && test.is_empty() && val.is_empty() && is_whole(&candidates, several) {
        train = (0..candidates.len()).collect();
        let shown = listed(candidates.iter().map(|c| c.source.as_str()));
        candidates.iter_mut().for_each(|c| c.why = "no name speaks of a part, so it is the whole data".into());
        notes.push(format!("{place}: no name speaks of a part ({shown}), so all of it is the training part"));
    }
    if train.is_empty() && (test.is_empty() || !wishes.whole) {
        return Err(nothing_to_train_on(place, &candidates));
    }
    let role = |index: usize| {
        let of = [(&train, Role::Train), (&val, Role::Val), (&test, Role::Test)];
        of.into_iter().find(|(part, _)| part.contains(&index)).map_or(Role::LeftOut, |(_, role)| role)
    };
    for (_, candidate) in candidates.iter_mut().enumerate().filter(|(index, _)| role(*index) == Role::LeftOut) {
        let why = match candidate.word {
            None => "which is no word for a part",
            Some(_) if wishes.is_empty() => continue,
            Some(_) => "but other parts were chosen",
        };
        candidate.why = format!("{}, {why}", candidate.why);
    }
    let parts: Vec<(Candidate, Role)> =
        candidates.into_iter().enumerate().map(|(index, candidate)| (candidate, role(index))).collect();
    notes.extend(told(place, &parts));
    Ok(Assigned { parts, notes })
}

/// Whether candidates without a single word are one data set: a lone one, or files that are no named splits.
fn is_whole(candidates: &[Candidate], several: Several) -> bool {
    candidates.iter().all(|c| c.word.is_none()) && (candidates.len() == 1 || several == Several::Together)
}

/// Members that a wish names, and no candidate is called like, become a candidate.
fn split_off_members(candidates: &mut Vec<Candidate>, wishes: Wishes) {
    for wish in Wishes::names(wishes.train).chain(Wishes::names(wishes.test)) {
        let is = |name: &str| name.eq_ignore_ascii_case(wish);
        if candidates.iter().any(|c| is(&c.name)) || word(wish).is_some_and(|word| word.exact && !has_digit(wish)) {
            continue;
        }
        let mut new = Vec::new();
        for candidate in candidates.iter_mut().filter(|c| c.members.len() > 1) {
            let (named, rest): (Vec<_>, Vec<_>) = candidate.members.drain(..).partition(|(name, _)| is(name));
            candidate.members = rest;
            if !named.is_empty() {
                new.push(Candidate { name: wish.into(), source: wish.into(), members: named, ..candidate.clone() });
            }
        }
        candidates.retain(|c| !c.members.is_empty());
        candidates.extend(new);
    }
}

fn has_digit(name: &str) -> bool {
    name.chars().any(|c| c.is_ascii_digit())
}

/// The candidates that `wish` names, if there is a wish.
fn chosen(place: &str, candidates: &[Candidate], wish: Option<&str>, setting: &str) -> Result<Option<Vec<usize>>> {
    let Some(wish) = wish else { return Ok(None) };
    let mut all = Vec::new();
    for name in Wishes::names(Some(wish)) {
        let places = |is: &dyn Fn(&Candidate) -> bool| -> Vec<usize> {
            candidates.iter().enumerate().filter(|(_, c)| is(c)).map(|(index, _)| index).collect()
        };
        let exactly = places(&|c| c.name == name);
        let alike = places(&|c| c.name.eq_ignore_ascii_case(name));
        let member = places(&|c| c.members.len() == 1 && c.members[0].0.eq_ignore_ascii_case(name));
        let role = word(name).filter(|word| word.exact && !has_digit(name)).map(|word| word.role);
        let of_role = places(&|c| role.is_some() && c.word.map(|word| word.role) == role);
        let found = [exactly, alike, member, of_role].into_iter().find(|found| !found.is_empty());
        let found = found.ok_or_else(|| {
            Error::invalid(format!("{place}: {setting}"), format!("one of {}", names(candidates)), format!("{name:?}"))
        })?;
        all.extend(found);
    }
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        return Err(Error::invalid(format!("{place}: {setting}"), format!("one of {}", names(candidates)), "nothing"));
    }
    Ok(Some(all))
}

/// The names of candidates, as an error lists them.
fn names(candidates: &[Candidate]) -> String {
    listed(candidates.iter().map(|c| c.name.as_str()))
}

/// The first few of some names.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn nothing_to_train_on(place: &str, candidates: &[Candidate]) -> Error {
    let expected = "a part for training (train, training)";
    let remedy = "choose it with `train_split = NAME`, or rename it";
    Error::unusable(place, expected, names(candidates), remedy)
}

/// Candidates while they get their roles.
struct Roles<'a> {
    place: &'a str,
    candidates: &'a mut [Candidate],
    several: Several,
    /// Those that a wish has spoken for.
    taken: Vec<usize>,
    notes: Vec<String>,
}

impl Roles<'_> {
    fn explain(&mut self, indices: &[usize], why: &str) {
        for &index in indices {
            let candidate = &mut self.candidates[index];
            candidate.why = format!("{}; {why}", candidate.why);
        }
    }

    fn wished(&mut self, indices: Vec<usize>, setting: &str) -> Vec<usize> {
        for &index in &indices {
            self.candidates[index].why = format!("{setting} names it");
        }
        indices
    }

    /// The candidates of a role by their names. Where it matters which (`needed`) and that is not clear, an error.
    fn usual(&mut self, role: Role, needed: bool) -> Result<Vec<usize>> {
        let word = |index: &usize| self.candidates[*index].word.filter(|word| word.role == role);
        let all: Vec<usize> = (0..self.candidates.len()).filter(|index| !self.taken.contains(index)).collect();
        let Some(rank) = all.iter().filter_map(word).map(|word| word.rank).min() else { return Ok(Vec::new()) };
        let (mut meant, mut others): (Vec<usize>, Vec<usize>) = all
            .into_iter()
            .filter(|index| word(index).is_some())
            .partition(|i| word(i).is_some_and(|w| w.rank == rank));
        let exact: Vec<usize> = meant.iter().copied().filter(|i| word(i).is_some_and(|w| w.exact)).collect();
        if self.several == Several::Apart && !exact.is_empty() {
            others.extend(meant.iter().filter(|index| !exact.contains(index)));
            meant = exact;
        }
        let alike = |index: &usize| tokens(&self.candidates[*index].name) == tokens(&self.candidates[meant[0]].name);
        if self.several == Several::Apart && !meant.iter().all(alike) {
            let got = listed(meant.iter().map(|&index| self.candidates[index].name.as_str()));
            if needed {
                let setting = if role == Role::Train { "`train_split = NAME`" } else { "`test_split = NAME`" };
                let remedy = format!("choose one or, with commas between, several with {setting}");
                return Err(Error::unusable(self.place, format!("one part for {}", role.name()), got, remedy));
            }
            self.explain(&meant.clone(), "there are several of its kind");
            return Ok(Vec::new());
        }
        let beside = self.candidates[meant[0]].name.clone();
        self.explain(&others, &format!("{beside} is there too, and is the {} part", role.name()));
        Ok(meant)
    }
}

/// What is worth a note: which parts are used where their names are not the plain ones, and which are not used.
fn told(place: &str, parts: &[(Candidate, Role)]) -> Vec<String> {
    let of = |role: Role| parts.iter().filter(move |(_, other)| *other == role).map(|(candidate, _)| candidate);
    let mut notes = Vec::new();
    let plain = |candidate: &Candidate, role: Role| {
        let usual = ["train", "test", "val", "valid", "validation"].contains(&candidate.name.as_str());
        usual && candidate.word.is_some_and(|word| word.role == role || word.role == Role::Val)
    };
    let used = [Role::Train, Role::Val, Role::Test];
    if used.iter().any(|&role| of(role).any(|c| c.word.is_some() && !plain(c, role)) || of(role).count() > 1) {
        let said = used.iter().filter(|&&role| of(role).next().is_some());
        let said: Vec<String> =
            said.map(|&role| format!("{} is {}", role.name(), listed(of(role).map(|c| c.source.as_str())))).collect();
        notes.push(format!("{place}: {}", said.join(", ")));
    }
    let left: Vec<&str> = of(Role::LeftOut).map(|c| c.name.as_str()).collect();
    if !left.is_empty() {
        let is = if left.len() == 1 { "is" } else { "are" };
        notes.push(format!(
            "{place}: {} {is} not used; `train_split = NAME` or `test_split = NAME` chooses other parts",
            listed(left)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(names: &[&str]) -> Vec<Candidate> {
        let candidate = |(index, name): (usize, &&str)| Candidate {
            name: (*name).into(),
            source: (*name).into(),
            word: word(name),
            why: "its name".into(),
            members: vec![((*name).into(), index)],
        };
        names.iter().enumerate().map(candidate).collect()
    }

    /// The names for training, validation and testing, separated by commas.
    fn roles(names: &[&str], wishes: Wishes) -> Result<[String; 3]> {
        let assigned = assign("here", candidates(names), wishes, Several::Apart)?;
        Ok([Role::Train, Role::Val, Role::Test].map(|role| {
            let of = assigned.parts.iter().filter(|(_, other)| *other == role);
            of.map(|(candidate, _)| candidate.name.as_str()).collect::<Vec<_>>().join(",")
        }))
    }

    #[test]
    fn words_are_found_between_separators_digits_and_capitals_and_nowhere_else() {
        for (role, names) in [
            (
                Role::Train,
                "train TRAIN Training train1 train2017 seg_train training_set train-images TrainSet 01_train trn",
            ),
            (Role::Val, "val Val validation valid dev val2017 my.dev.set"),
            (Role::Test, "test Testing TEST_1 test_matched eval evaluation tst testImages"),
        ] {
            for name in names.split(' ') {
                assert_eq!(word(name).map(|word| word.role), Some(role), "{name}");
            }
        }
        for name in "contest trainer evaluate latest strain tests device value train_val contrast holdout".split(' ') {
            assert_eq!(word(name), None, "{name}");
        }
        assert!(word("01_train").is_some_and(|word| word.exact) && word("train_clean").is_some_and(|word| !word.exact));
    }

    #[test]
    fn only_the_training_part_is_trained_on_and_others_are_named() -> Result<()> {
        let names = ["contrast", "train", "extra", "test", "validation", "unsupervised"];
        assert_eq!(roles(&names, Wishes::default())?, ["train", "validation", "test"]);
        let notes = assign("here", candidates(&names), Wishes::default(), Several::Apart)?.notes.join("\n");
        assert!(notes.contains("contrast, extra, unsupervised are not used"), "{notes}");
        assert_eq!(roles(&["train", "val"], Wishes::default())?, ["train", "", "val"], "a lone validation part");
        assert_eq!(roles(&["train", "test", "eval"], Wishes::default())?, ["train", "", "test"]);
        assert_eq!(roles(&["train", "train_noisy", "test"], Wishes::default())?, ["train", "", "test"]);
        assert_eq!(roles(&["train1", "train2", "test1"], Wishes::default())?, ["train1,train2", "", "test1"]);
        assert_eq!(roles(&["all"], Wishes::default())?, ["all", "", ""]);
        Ok(())
    }

    #[test]
    fn wishes_choose_parts_by_name_and_unknown_names_are_refused_with_the_known_ones() -> Result<()> {
        let names = ["contrast", "train", "test", "validation"];
        let wish = |train, test| Wishes { train, test, whole: false };
        assert_eq!(roles(&names, wish(None, Some("contrast")))?, ["train", "validation", "contrast"]);
        assert_eq!(roles(&names, wish(Some("train,Validation"), None))?, ["train,validation", "", "test"]);
        assert_eq!(roles(&names, wish(Some("test"), None))?, ["test", "", "validation"]);
        assert_eq!(roles(&["seg_train", "seg_test"], wish(Some("train"), None))?, ["seg_train", "", "seg_test"]);
        for wrong in [wish(Some("pixelate"), None), wish(None, Some("")), wish(Some("train"), Some("train"))] {
            assert!(roles(&names, wrong).is_err(), "{wrong:?}");
        }
        let message = roles(&names, wish(None, Some("nowhere"))).map_err(|e| e.to_string());
        assert!(message.is_err_and(|e| e.contains("`test_split`: expected one of contrast, train, test, validation")));
        Ok(())
    }

    #[test]
    fn where_it_is_not_clear_what_to_train_or_test_on_it_is_an_error() {
        for (names, says) in [
            (&["train_clean", "train_other", "test"][..], "`train_split = NAME`"),
            (&["train", "test_matched", "test_mismatched"], "`test_split = NAME`"),
            (&["test", "contrast"], "a part for training"),
            (&["contrast", "pixelate"], "a part for training"),
        ] {
            let message = roles(names, Wishes::default()).map_err(|e| e.to_string());
            assert!(message.as_ref().is_err_and(|e| e.contains(says)), "{names:?}: {message:?}");
        }
        let whole = Wishes { whole: true, ..Wishes::default() };
        assert!(roles(&["test", "contrast"], whole).is_ok_and(|roles| roles == ["", "", "test"]));
    }
}
