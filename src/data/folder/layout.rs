//! What the folders of a data set of images are: parts, classes, or something around them.
//!
//! Names alone do not tell: `train` beside `test` is a part, beside `bus` and `car` it is a class. A folder is a part if it
//! holds folders of classes that other parts have too; it is a class if it holds images, as its siblings do. Where both
//! readings make sense, it is an error with the ways out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::subfolders;
use crate::data::files::{is_clutter, is_image};
use crate::data::parts::{Candidate, Part, Role, Several, Wishes, assign, listed, word};
use crate::data::{Error, Result};

/// Wrapping folders are followed so deep.
const MAX_DEPTH: usize = 8;
/// So many links to folders are followed on the way to an image: a part may be a link, and its classes too.
const MAX_LINKS: usize = 2;
/// How `--train-split` names the folder itself.
const ITSELF: &str = ".";

/// A part with the folders of its classes.
pub(super) struct FolderPart {
    pub(super) role: Role,
    /// The classes' names and folders, sorted by name.
    pub(super) classes: Vec<(String, PathBuf)>,
    /// The folder of the part, for messages.
    pub(super) folder: PathBuf,
    /// What became of it; its samples are counted later.
    pub(super) fact: Part,
}

/// What [`layout`] found: the parts, and what the user should know.
pub(super) type Layout = (Vec<FolderPart>, Vec<String>);

/// A subfolder with images somewhere in it.
struct Sub {
    name: String,
    path: PathBuf,
    /// Whether there are images in it, and not only deeper.
    direct: bool,
    /// Its own subfolders with images; of a part, the classes.
    inner: BTreeSet<String>,
}

impl Sub {
    fn of(path: PathBuf) -> Result<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { direct: has_images(&path)?, inner: with_images(&path)?.into_iter().collect(), name, path })
    }

    fn role(&self) -> Option<Role> {
        word(&self.name).map(|word| word.role)
    }

    /// Whether it can be a part: it holds folders with images, and no images itself.
    fn is_part(&self) -> bool {
        !self.inner.is_empty() && !self.direct
    }

    /// Whether its images belong to no class: they lie in it, or in one folder that is called like it or like nothing
    /// (`test/images/*`).
    fn holds_no_classes(&self) -> bool {
        const NOTHING: [&str; 6] = ["images", "imgs", "img", "all", "data", "unlabeled"];
        let nothing = |name: &String| NOTHING.contains(&name.to_lowercase().as_str()) || *name == self.name;
        self.inner.is_empty() || (!self.direct && self.inner.len() == 1 && self.inner.iter().all(nothing))
    }

    fn shares_classes(&self, other: &BTreeSet<String>) -> bool {
        !self.inner.is_disjoint(other)
    }
}

/// Whether images lie in `dir` itself.
fn has_images(dir: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if !path.file_name().is_none_or(is_clutter) && is_image(&path) && !path.is_dir() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether images lie in `dir` at any depth; of links to folders only a few are followed, so that there is an end.
fn has_images_below(dir: &Path, links: usize) -> Result<bool> {
    if has_images(dir)? {
        return Ok(true);
    }
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let entry = entry.map_err(|e| Error::io(dir, e))?;
        let path = entry.path();
        if path.file_name().is_none_or(is_clutter) || !path.is_dir() {
            continue;
        }
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let left = if is_link { links.checked_sub(1) } else { Some(links) };
        if let Some(left) = left
            && has_images_below(&path, left)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The names of the subfolders that have images in them, sorted.
fn with_images(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in subfolders(dir)? {
        // Where a folder cannot be read, that matters only if it turns out to be a class.
        if has_images_below(&dir.join(&name), MAX_LINKS).unwrap_or(false) {
            names.push(name);
        }
    }
    Ok(names)
}

fn subs(dir: &Path) -> Result<Vec<Sub>> {
    with_images(dir)?.into_iter().map(|name| Sub::of(dir.join(name))).collect()
}

/// Tells parts from classes in `root`.
///
/// # Errors
/// If it is not clear which is which, or there is nothing to train on.
pub(super) fn layout(root: &Path, wishes: Wishes) -> Result<Layout> {
    let mut notes = Vec::new();
    let (dir, mut subs) = unwrapped(root, wishes, &mut notes)?;
    for name in subfolders(&dir)? {
        if word(&name).is_some() && subs.iter().all(|sub| sub.name != name) {
            notes.push(format!("{}: there are no images in it", dir.join(name).display()));
        }
    }
    for sub in &mut subs {
        unwrap_part(sub, &mut notes)?;
    }
    let found = Found { root, dir: &dir, place: dir.display().to_string(), wishes };
    let (parts, more) = found.decide(subs)?;
    notes.extend(more);
    Ok((parts, notes))
}

/// Follows folders that hold nothing but one other folder, since archives are often unpacked into one, and the one folder that
/// holds parts beside others that do not: `dataset/train/cat` beside `figures`.
fn unwrapped(root: &Path, wishes: Wishes, notes: &mut Vec<String>) -> Result<(PathBuf, Vec<Sub>)> {
    let mut dir = root.to_path_buf();
    for _ in 0..MAX_DEPTH {
        let found = subs(&dir)?;
        if wishes.name(ITSELF) || found.iter().any(|sub| wishes.name(&sub.name)) {
            return Ok((dir, found));
        }
        let inside = match &found[..] {
            [only] if only.role().is_some() && !holds_parts(&only.path)? => None,
            [only] => (!only.inner.is_empty()).then_some(only),
            _ => only_data_set(&dir, &found)?,
        };
        let Some(inside) = inside else { return Ok((dir, found)) };
        let beside: Vec<&str> = found.iter().map(|sub| sub.name.as_str()).filter(|name| *name != inside.name).collect();
        let beside = match beside.len() {
            0 => String::new(),
            1 => format!("; {} beside it is left out", beside[0]),
            _ => format!("; {} beside it are left out", listed(beside)),
        };
        notes.push(format!("{}: the data set is in its folder {}{beside}", dir.display(), inside.name));
        if has_images(&dir)? {
            notes.push(outside(&dir));
        }
        dir = inside.path.clone();
    }
    let found = subs(&dir)?;
    Ok((dir, found))
}

/// The one folder of several that holds parts with classes, where nothing beside it is a part with classes itself.
///
/// # Errors
/// If there are several: as classes they would be data sets, and as parts they have parts of their own.
fn only_data_set<'a>(dir: &Path, found: &'a [Sub]) -> Result<Option<&'a Sub>> {
    if found.iter().any(|sub| sub.role().is_some() && !sub.holds_no_classes()) {
        return Ok(None);
    }
    let mut sets = Vec::new();
    for sub in found.iter().filter(|sub| sub.role().is_none() && !sub.inner.is_empty()) {
        if holds_data_set(&sub.path)? {
            sets.push(sub);
        }
    }
    if let [first, _, ..] = sets[..] {
        let got = format!("several, each with parts of its own: {}", listed(sets.iter().map(|sub| sub.name.as_str())));
        let remedy = format!(
            "give the folder of one (folder:{}); if these are the classes, choose them with `train_split = .`",
            first.path.display()
        );
        return Err(Error::unusable(dir.display(), "one data set", got, remedy));
    }
    Ok(sets.pop())
}

/// Whether `dir`, or the folder that is the only one in it, has a training part with classes.
fn holds_data_set(dir: &Path) -> Result<bool> {
    let mut dir = dir.to_path_buf();
    for _ in 0..MAX_DEPTH {
        let found = subs(&dir)?;
        if found.iter().any(|sub| sub.role() == Some(Role::Train) && !sub.direct && !sub.holds_no_classes()) {
            return Ok(true);
        }
        let [only] = &found[..] else { return Ok(false) };
        dir.clone_from(&only.path);
    }
    Ok(false)
}

/// Whether there is a folder for training with folders in it.
fn holds_parts(dir: &Path) -> Result<bool> {
    Ok(subs(dir)?.iter().any(|sub| sub.role() == Some(Role::Train) && sub.is_part()))
}

/// A part whose only folder is the part again, or a wrapper around the classes: `seg_train/seg_train/buildings`.
fn unwrap_part(sub: &mut Sub, notes: &mut Vec<String>) -> Result<()> {
    let Some(role) = sub.role().filter(|_| sub.is_part() && sub.inner.len() == 1) else { return Ok(()) };
    let Some(name) = sub.inner.first().cloned() else { return Ok(()) };
    let within = Sub::of(sub.path.join(&name))?;
    let same = name.eq_ignore_ascii_case(&sub.name) || within.role() == Some(role);
    if within.is_part() && (same || within.inner.len() >= 2) {
        notes.push(format!("{}: the classes are in its folder {name}", sub.path.display()));
        (sub.path, sub.inner) = (within.path, within.inner);
    }
    Ok(())
}

/// A folder whose subfolders are to be told apart.
struct Found<'a> {
    root: &'a Path,
    dir: &'a Path,
    place: String,
    wishes: Wishes<'a>,
}

impl Found<'_> {
    fn decide(&self, subs: Vec<Sub>) -> Result<Layout> {
        if Wishes::names(self.wishes.train).eq([ITSELF]) {
            return self.itself(subs, "`train_split = .` names it");
        }
        if !self.wishes.is_empty() {
            return self.parts(subs);
        }
        let (words, others): (Vec<&Sub>, Vec<&Sub>) = subs.iter().partition(|sub| sub.role().is_some());
        if words.is_empty() {
            return self.without_words(subs);
        }
        let training: Vec<&&Sub> =
            words.iter().filter(|sub| sub.role() == Some(Role::Train) && !sub.inner.is_empty()).collect();
        let classes: BTreeSet<String> = training.iter().flat_map(|sub| sub.inner.clone()).collect();
        let fit = |sub: &&&Sub| sub.role() != Some(Role::Train) && sub.shares_classes(&classes);
        // Images that lie beside the classes, in a part that is alone, do not make it a class.
        let holds_classes = |sub: &Sub| sub.is_part() || (others.is_empty() && sub.inner.len() >= 2);
        if words.iter().any(|sub| fit(&sub)) || training.iter().any(|sub| holds_classes(sub)) {
            let tested = words.iter().any(|sub| sub.role() != Some(Role::Train));
            if tested || others.is_empty() || others.iter().any(|sub| sub.shares_classes(&classes)) {
                return self.parts(subs);
            }
            return Err(self.unclear(&words, &others));
        }
        if words.iter().all(|sub| sub.direct) {
            return self.images_in_words(&words, &others).and_then(|notes| {
                let (parts, more) = self.flat("no folder in it is a part")?;
                Ok((parts, [notes, more].concat()))
            });
        }
        // Parts for validation or testing, without one for training.
        let siblings: BTreeSet<String> = others.iter().filter(|sub| sub.direct).map(|sub| sub.name.clone()).collect();
        let held: BTreeSet<String> = words.iter().flat_map(|sub| sub.inner.clone()).collect();
        if !siblings.is_empty() && held.is_subset(&siblings) {
            return self.itself(subs, "the classes lie in it, beside the folders of other parts");
        }
        let unlike = others.iter().all(|sub| !sub.shares_classes(&held));
        if !self.wishes.whole && !others.is_empty() && unlike {
            return Err(self.unclear(&words, &others));
        }
        self.parts(subs)
    }

    /// Folders without the word of a part: classes, unless parts lie inside of the classes.
    fn without_words(&self, subs: Vec<Sub>) -> Result<Layout> {
        let inner = || subs.iter().flat_map(|sub| &sub.inner);
        let role = |name: &String| word(name).map(|word| word.role);
        let all_parts = subs.iter().all(Sub::is_part) && inner().all(|name| role(name).is_some());
        let has = |train: bool| inner().any(|name| (role(name) == Some(Role::Train)) == train);
        if !subs.is_empty() && all_parts && has(true) && has(false) {
            return self.parts_in_classes(&subs);
        }
        if let [first, second, ..] = &subs[..]
            && first.inner.len() >= 2
            && subs.iter().all(|sub| sub.is_part() && sub.inner == first.inner)
        {
            let (a, b) = (&first.name, &second.name);
            let got = format!("{} with the same folders in each ({})", self.listed(&subs), listed_set(&first.inner));
            let remedy = format!(
                "if they are parts, choose with `train_split = {a}` `test_split = {b}`; if they are classes, with `train_split = .`"
            );
            return Err(Error::unusable(&self.place, "parts that are called so, or classes", got, remedy));
        }
        self.flat("no folder in it is a part")
    }

    /// Folders that are called like parts and hold images: classes, if others do so too. Gives the note, or the error.
    fn images_in_words(&self, words: &[&Sub], others: &[&Sub]) -> Result<Vec<String>> {
        let names = |subs: &[&Sub]| listed(subs.iter().map(|sub| sub.name.as_str()));
        let roles: BTreeSet<Option<Role>> = words.iter().map(|sub| sub.role()).collect();
        let classes = others.iter().filter(|sub| sub.direct).count();
        if roles.len() > 1 || classes == 0 {
            let got = format!("images without classes in {}", names(words));
            let remedy = match others.iter().find(|sub| sub.is_part()) {
                Some(other) => format!("choose the part to train on with `train_split = {}`", other.name),
                None => "put the images of every class into a folder with the class's name; if these are the classes, \
                         choose them with `train_split = .`"
                    .into(),
            };
            return Err(Error::unusable(&self.place, "a folder for each class in a folder train", got, remedy));
        }
        let (is, they) = if words.len() == 1 {
            ("is taken for a class", "it holds")
        } else {
            ("are taken for classes", "they hold")
        };
        let note = format!("{}: {} {is}: {they} images, as {} do", self.place, names(words), names(others));
        Ok(vec![note])
    }

    fn unclear(&self, words: &[&Sub], others: &[&Sub]) -> Error {
        let names = |subs: &[&Sub]| listed(subs.iter().map(|sub| sub.name.as_str()));
        let word = &words[0].name;
        let got = format!("{}, which may be a part or a class, beside {}", names(words), names(others));
        let remedy = format!(
            "if {word} is the part to train on, choose it with `train_split = {word}`; if all are classes, with `train_split = .`"
        );
        Error::unusable(&self.place, "parts with the same classes, or classes", got, remedy)
    }

    /// The folder itself is the training part, and its folders the classes; but one that holds some of them again is none.
    fn flat(&self, why: &str) -> Result<Layout> {
        let subs = subs(self.dir)?;
        let siblings: BTreeSet<String> = subs.iter().filter(|sub| sub.direct).map(|sub| sub.name.clone()).collect();
        let (again, classes): (Vec<Sub>, Vec<Sub>) =
            subs.into_iter().partition(|sub| sub.is_part() && sub.inner.len() >= 2 && sub.inner.is_subset(&siblings));
        let mut names = subfolders(self.dir)?;
        names.retain(|name| again.iter().all(|sub| sub.name != *name));
        let fact = self.fact(self.dir, Role::Train, format!("{why}: its folders are the classes"));
        let of_classes = names.into_iter().map(|name| (name.clone(), self.dir.join(name))).collect();
        let mut found = vec![FolderPart { role: Role::Train, classes: of_classes, folder: self.dir.into(), fact }];
        let mut notes = if has_images(self.dir)? { vec![outside(self.dir)] } else { Vec::new() };
        for sub in again {
            let why = "it holds folders called like the classes beside it";
            let name = &sub.name;
            if self.wishes.is_empty() && sub.role().is_none() {
                notes.push(format!(
                    "{} is left out: {why}; `train_split = .` `test_split = {name}` tests on it",
                    sub.path.display()
                ));
            }
            let fact = self.fact(&sub.path, Role::LeftOut, why.into());
            let classes = sub.inner.iter().map(|class| (class.clone(), sub.path.join(class))).collect();
            found.push(FolderPart { role: Role::LeftOut, classes, folder: sub.path.clone(), fact });
        }
        let nested: Vec<Sub> = classes.into_iter().filter(|sub| !sub.direct && sub.inner.len() >= 2).collect();
        if let Some(first) = nested.first() {
            let names = self.listed(&nested);
            let inner = listed_set(&first.inner);
            notes.push(format!(
                "{}: images in the folders of a class are of that class: {names} ({inner} in {})",
                self.place, first.name
            ));
        }
        Ok((found, notes))
    }

    /// The folder itself is the training part; folders in it with the classes of the others are other parts.
    fn itself(&self, subs: Vec<Sub>, why: &str) -> Result<Layout> {
        let (parts, classes): (Vec<Sub>, Vec<Sub>) = subs.into_iter().partition(|sub| {
            let wished = Wishes::names(self.wishes.test).any(|name| name.eq_ignore_ascii_case(&sub.name));
            wished || (self.wishes.is_empty() && sub.role().is_some())
        });
        let (mut flat, mut notes) = self.flat(why)?;
        flat.retain(|part| part.role == Role::Train || parts.iter().all(|sub| sub.path != part.folder));
        for part in flat.iter_mut().filter(|part| part.role == Role::Train) {
            part.classes.retain(|(name, _)| parts.iter().all(|sub| sub.name != *name));
        }
        let mut wishes = Wishes { train: None, whole: true, ..self.wishes };
        if parts.is_empty() {
            if wishes.test.is_some() {
                assign(&self.place, Vec::new(), wishes, Several::Apart)?;
            }
            return Ok((flat, notes));
        }
        let is_class = |(name, _): &&(String, PathBuf)| classes.iter().any(|sub| sub.name == *name);
        notes.push(format!(
            "{}: {} {} in the folder of the training part, whose classes are {}",
            self.place,
            listed(parts.iter().map(|sub| sub.name.as_str())),
            if parts.len() == 1 { "lies" } else { "lie" },
            listed(flat[..1].iter().flat_map(|part| &part.classes).filter(is_class).map(|(name, _)| name.as_str()))
        ));
        wishes.whole = true;
        let (others, more) = Found { wishes, place: self.place.clone(), ..*self }.parts(parts)?;
        flat.extend(others);
        notes.extend(more);
        Ok((flat, notes))
    }

    /// The folders are parts, with the classes in them.
    fn parts(&self, subs: Vec<Sub>) -> Result<Layout> {
        let training = subs.iter().filter(|sub| sub.role() == Some(Role::Train));
        let trained: BTreeSet<String> = training.flat_map(|sub| &sub.inner).map(|name| name.to_lowercase()).collect();
        // As tools want it that expect a folder for each class: `test/unknown/*`.
        let unknown = |sub: &Sub| {
            let tested = [Some(Role::Val), Some(Role::Test)].contains(&sub.role());
            let other = sub.inner.iter().all(|name| !trained.contains(&name.to_lowercase()));
            tested && sub.inner.len() == 1 && trained.len() >= 2 && other
        };
        let (parts, without): (Vec<Sub>, Vec<Sub>) =
            subs.into_iter().partition(|sub| !(sub.holds_no_classes() || unknown(sub)) || self.wishes.name(&sub.name));
        let candidates = parts.iter().enumerate().map(|(at, sub)| Candidate {
            name: sub.name.clone(),
            source: self.relative(&sub.path),
            word: word(&sub.name),
            why: match word(&sub.name) {
                Some(word) => format!("its name says {}, and it holds the classes", word.role.name()),
                None => format!("its name is {}", sub.name),
            },
            members: vec![(sub.name.clone(), at)],
        });
        let assigned = assign(&self.place, candidates.collect(), self.wishes, Several::Apart)?;
        let mut notes = assigned.notes;
        let mut found = Vec::new();
        for (candidate, role) in assigned.parts {
            let Some(sub) = candidate.members.first().and_then(|(_, at)| parts.get(*at)) else { continue };
            let classes = subfolders(&sub.path)?.into_iter().map(|name| (name.clone(), sub.path.join(name))).collect();
            if sub.direct {
                notes.push(outside(&sub.path));
            }
            let fact = Part { name: candidate.name, role, source: candidate.source, why: candidate.why, samples: None };
            found.push(FolderPart { role, classes, folder: sub.path.clone(), fact });
        }
        for sub in &without {
            let why = match sub.inner.first().filter(|_| !sub.holds_no_classes()) {
                Some(name) => format!("its only folder, {name}, is no class of the training part"),
                None => "it holds images without folders of classes".into(),
            };
            notes.push(format!("{} is left out: {why}", sub.path.display()));
            let fact = self.fact(&sub.path, Role::LeftOut, why);
            let classes = vec![(sub.name.clone(), sub.path.clone())];
            found.push(FolderPart { role: Role::LeftOut, classes, folder: sub.path.clone(), fact });
        }
        Ok((found, notes))
    }

    /// `CLASS/train/*` and `CLASS/test/*`.
    fn parts_in_classes(&self, subs: &[Sub]) -> Result<Layout> {
        let names: BTreeSet<&String> = subs.iter().flat_map(|sub| &sub.inner).collect();
        let candidates = names.iter().map(|name| Candidate {
            name: (*name).clone(),
            source: self.relative(&self.dir.join("*").join(name)),
            word: word(name),
            why: "every class has its own folder of that name".into(),
            members: vec![((*name).clone(), 0)],
        });
        let assigned = assign(&self.place, candidates.collect(), self.wishes, Several::Apart)?;
        let part = |(candidate, role): (Candidate, Role)| FolderPart {
            role,
            classes: subs
                .iter()
                .filter(|sub| sub.inner.contains(&candidate.name))
                .map(|sub| (sub.name.clone(), sub.path.join(&candidate.name)))
                .collect(),
            folder: self.dir.into(),
            fact: Part { name: candidate.name, role, source: candidate.source, why: candidate.why, samples: None },
        };
        let note = format!("{}: the parts lie inside of the classes", self.place);
        Ok((assigned.parts.into_iter().map(part).collect(), [vec![note], assigned.notes].concat()))
    }

    fn fact(&self, path: &Path, role: Role, why: String) -> Part {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = if role == Role::Train { "train".into() } else { name };
        Part { name, role, source: self.relative(path), why, samples: None }
    }

    /// A path inside of the data set, or `.` for itself.
    fn relative(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        if inside.is_empty() { ITSELF.into() } else { inside }
    }

    fn listed(&self, subs: &[Sub]) -> String {
        listed(subs.iter().map(|sub| sub.name.as_str()))
    }
}

fn outside(dir: &Path) -> String {
    format!("{}: images outside of the folders of classes are left out", dir.display())
}

fn listed_set(names: &BTreeSet<String>) -> String {
    listed(names.iter().map(String::as_str))
}
