//! What becomes of a checkpoint's classification head: which of its rows the model takes, by the names of the classes.

use std::collections::{HashMap, HashSet};

use tallow_models::{Architecture, ParamSpec};

use crate::account::NO_HEAD;
use crate::error::few;
use crate::naming::{Mapped, Translation};
use crate::{Checkpoint, Error, Head, LoadOptions, Result};

/// What happens to the classification head.
#[derive(Default)]
pub(crate) struct HeadDecision {
    /// The model's parameters that are new, and why.
    pub(crate) new: HashMap<String, String>,
    /// The checkpoint's tensors that are left out, and why.
    out: HashMap<String, String>,
    /// The rows that are taken, where they are not simply all of them.
    rows: Option<Rows>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// The rows of the checkpoint's head that the model's is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rows {
    /// The parameters of the head.
    parameters: HashSet<String>,
    /// How many rows the checkpoint's head has.
    pub(crate) theirs: usize,
    /// For every row that is taken, its place in the model's head and in the checkpoint's.
    places: Vec<(usize, usize)>,
    /// What is done, in words.
    pub(crate) how: String,
    /// Why the model's other rows are new; none where there are no others.
    pub(crate) others: Option<String>,
}

impl Rows {
    /// The places of the rows in the checkpoint's head.
    pub(crate) fn from(&self) -> Vec<u32> {
        self.places.iter().map(|&(_, theirs)| theirs as u32).collect()
    }

    /// Their places in the model's, where there are others between them.
    pub(crate) fn into(&self) -> Option<Vec<usize>> {
        self.others.is_some().then(|| self.places.iter().map(|&(ours, _)| ours).collect())
    }
}

/// How the classes of the data and of the checkpoint belong together.
enum Classes {
    /// The same names in the same order.
    Same,
    /// They cannot be told by name, and why.
    Unnamed(&'static str),
    /// For every class of the data, the checkpoint's row; at least one has one.
    Rows(Vec<Option<usize>>),
    /// No name is common.
    Others,
}

impl HeadDecision {
    pub(crate) fn decide(
        checkpoint: &Checkpoint,
        translation: &Translation,
        architecture: &Architecture,
        specs: &[ParamSpec],
        options: &LoadOptions,
    ) -> Result<Self> {
        let (origin, classes) = (checkpoint.origin(), architecture.num_classes());
        if let Some(labels) = options.labels.as_ref().filter(|labels| labels.len() != classes) {
            let expected = format!("a name for each of {classes} classes");
            return Err(Error::config(origin, "labels", expected, format!("{} names", labels.len())));
        }
        // The head is what has another shape with another number of classes.
        let other = architecture.clone().with_num_classes(classes + 1).parameters()?;
        let shapes: HashMap<&str, &[usize]> =
            specs.iter().map(|spec| (spec.name.as_str(), spec.shape.as_slice())).collect();
        let head: Vec<&ParamSpec> =
            other.iter().filter(|spec| shapes.get(spec.name.as_str()) != Some(&spec.shape.as_slice())).collect();
        let held: Vec<&Mapped> = head.iter().filter_map(|spec| translation.get(&spec.name)).collect();
        let chooser = Chooser {
            checkpoint,
            architecture,
            options,
            theirs: held.iter().filter_map(|mapped| mapped.shape.first().copied()).next(),
            projects: translation.projects || checkpoint.config().is_some_and(|config| config.projection),
            head: &head,
            held: &held,
        };
        chooser.choose()
    }

    /// Why a tensor of the checkpoint is left out, if it is one of a head that the model does not take.
    pub(crate) fn left_out(&self, name: &str) -> Option<&String> {
        self.out.get(name)
    }

    /// The rows that a parameter takes, where they are not simply all of them.
    pub(crate) fn rows(&self, parameter: &str) -> Option<&Rows> {
        self.rows.as_ref().filter(|rows| rows.parameters.contains(parameter))
    }

    pub(crate) fn is_new(&self) -> bool {
        !self.new.is_empty()
    }
}

/// What the decision is made from.
struct Chooser<'a> {
    checkpoint: &'a Checkpoint,
    architecture: &'a Architecture,
    options: &'a LoadOptions,
    /// The rows of the checkpoint's head, where it has one.
    theirs: Option<usize>,
    /// Whether that head is a projection into a space shared with texts.
    projects: bool,
    /// The head's parameters.
    head: &'a [&'a ParamSpec],
    /// Those that the checkpoint has.
    held: &'a [&'a Mapped],
}

impl Chooser<'_> {
    fn choose(&self) -> Result<HeadDecision> {
        let (classes, wish) = (self.architecture.num_classes(), self.options.head);
        self.check_projection()?;
        let Some(theirs) = self.theirs else {
            return match wish {
                Head::Keep if classes > 0 => {
                    Err(self.refuse(format!("{classes} classes"), 0, "the checkpoint has no head: ask for a new one"))
                }
                _ if classes == 0 => Ok(HeadDecision::default()),
                _ => Ok(self.anew(format!("a head for {classes} classes; the checkpoint has none"))),
            };
        };
        if classes == 0 {
            return match wish {
                Head::Keep => Err(self.refuse("none", theirs, "give the number of classes of the checkpoint")),
                _ => Ok(HeadDecision { out: self.out(NO_HEAD), ..HeadDecision::default() }),
            };
        }
        if wish == Head::New {
            return Ok(self.anew(format!("a new head for {classes} classes was asked for in place of {theirs}")));
        }
        if let Some(fault) = self.fault(theirs) {
            return match wish {
                Head::Keep => Err(self.refuse(
                    "a head that can be kept",
                    format!("one that cannot: {fault}"),
                    "ask for a new head, or mend what the checkpoint says of itself",
                )),
                _ => Ok(self.anew(format!("a head for {classes} classes in place of the checkpoint's: {fault}"))),
            };
        }
        let Some(labels) = &self.options.labels else { return self.by_number(theirs, None) };
        match self.compare(labels) {
            Classes::Same => Ok(HeadDecision::default()),
            Classes::Unnamed(why) => self.by_number(theirs, Some(why)),
            Classes::Rows(rows) => self.by_name(theirs, labels, &rows),
            Classes::Others if wish == Head::Keep => Err(self.refuse(
                format!("a head for {}", few(labels)),
                format!("one for {}: no name is common", few(self.labels())),
                "ask for a new head",
            )),
            Classes::Others => Ok(self.anew(format!(
                "a head for {}; the checkpoint's is for other classes ({})",
                few(labels),
                few(self.labels())
            ))),
        }
    }

    /// A projection is never drawn anew in silence: what a text is compared with would be noise.
    fn check_projection(&self) -> Result<()> {
        let stated = match self.checkpoint.config() {
            Some(config) if config.projection => config.architecture.num_classes(),
            _ => return Ok(()),
        };
        // A head behind the projection is another.
        let behind = matches!(self.architecture, Architecture::Vit(vit) if vit.head_proj.is_some());
        let wanted = self.options.head != Head::New && self.options.labels.is_none() && !behind;
        if !wanted || self.architecture.num_classes() != stated || self.theirs == Some(stated) {
            return Ok(());
        }
        let got = self.theirs.map_or("no projection at all".into(), |rows| format!("one to {rows} values"));
        Err(self.refuse(
            format!("the projection to {stated} values that its config says"),
            got,
            "ask for num_classes 0, which leaves it out, or mend the config (architectures, projection_dim or embed_dim)",
        ))
    }

    /// Why the rows of the checkpoint's head must not be used, if so.
    fn fault(&self, theirs: usize) -> Option<String> {
        if self.projects && self.options.labels.is_some() {
            return Some("that projects into a space shared with texts, and knows no classes".into());
        }
        let config = self.checkpoint.config()?;
        if config.head_fault.is_some() {
            return config.head_fault.clone();
        }
        let stated = config.architecture.num_classes();
        // Who asks for as many classes as there are rows has settled it.
        let settled = self.options.labels.is_none() && self.architecture.num_classes() == theirs;
        let remedy = if self.options.labels.is_some() { "" } else { " (ask for as many classes to take it by number)" };
        (stated > 0 && stated != theirs && !settled)
            .then(|| format!("its config says {stated} classes, its head has {theirs} rows{remedy}"))
    }

    /// By the number of classes alone. `unnamed` is why their names do not tell, where they were to tell.
    fn by_number(&self, theirs: usize, unnamed: Option<&str>) -> Result<HeadDecision> {
        let classes = self.architecture.num_classes();
        if theirs == classes {
            let note = |why| {
                format!(
                    "head: its {classes} classes were kept by number, as {why}; ask for a new head if they are others"
                )
            };
            return Ok(HeadDecision { notes: unnamed.map(note).into_iter().collect(), ..HeadDecision::default() });
        }
        if self.options.head == Head::Keep {
            let remedy = "ask for a new head, or for the checkpoint's number of classes";
            return Err(self.refuse(format!("{classes} classes"), theirs, remedy));
        }
        Ok(self.anew(format!("a head for {classes} classes; the checkpoint's is for {theirs}")))
    }

    /// The rows of the classes that the checkpoint knows, and new ones for the others.
    fn by_name(&self, theirs: usize, labels: &[String], rows: &[Option<usize>]) -> Result<HeadDecision> {
        let places: Vec<(usize, usize)> = rows.iter().enumerate().filter_map(|(at, row)| Some((at, (*row)?))).collect();
        let named = |wanted: bool| -> Vec<String> {
            labels.iter().zip(rows).filter(|(_, row)| row.is_some() == wanted).map(|(name, _)| name.clone()).collect()
        };
        let (kept, new) = (named(true), named(false));
        let double = self.double(&new);
        if !new.is_empty() && self.options.head == Head::Keep {
            return Err(self.refuse(
                format!("a head for the data's {} classes", labels.len()),
                format!("one without {} (it has {}{double})", few(&new), few(self.labels())),
                "ask for a new head, which keeps no row, or leave it open, which keeps those that it has",
            ));
        }
        if self.options.head == Head::Auto && theirs != labels.len() && self.reads_another_pool() {
            return Ok(self.anew(format!("a head for {} classes on another pool than the checkpoint's", labels.len())));
        }
        let taken: HashSet<usize> = places.iter().map(|&(_, theirs)| theirs).collect();
        let rest: Vec<String> = self
            .labels()
            .iter()
            .enumerate()
            .filter(|(at, _)| !taken.contains(at))
            .map(|(_, name)| name.clone())
            .collect();
        let rest = if rest.is_empty() { String::new() } else { format!("; the checkpoint's {} left out", few(&rest)) };
        let (how, note) = if new.is_empty() && taken.len() == theirs {
            let (order, before) = (few(labels), few(self.labels()));
            (
                "rows in the order of the data's classes".to_string(),
                format!(
                    "head: its rows were put in the order of the data's classes, by name: {order} (before: {before})"
                ),
            )
        } else if new.is_empty() {
            (
                format!("the rows of the data's {} classes out of {theirs}, by name", kept.len()),
                format!("head: {} of {theirs} classes were kept, by name: {}{rest}", kept.len(), few(&kept)),
            )
        } else {
            (
                format!("the rows of {} of the data's {} classes, by name", kept.len(), labels.len()),
                format!(
                    "head: {} of the data's {} classes were kept, by name: {}; {} new: {}{double}{rest}",
                    kept.len(),
                    labels.len(),
                    few(&kept),
                    new.len(),
                    few(&new)
                ),
            )
        };
        let others =
            (!new.is_empty()).then(|| format!("the rows of {}, which the checkpoint's head has not", few(&new)));
        let parameters = self.head.iter().map(|spec| spec.name.clone()).collect();
        let rows = Rows { parameters, theirs, places, how, others };
        Ok(HeadDecision { rows: Some(rows), notes: vec![note], ..HeadDecision::default() })
    }

    /// What to say where the checkpoint has more than one row of a name that was asked for.
    fn double(&self, names: &[String]) -> String {
        let double: Vec<String> = names.iter().filter(|name| self.labels().contains(name)).cloned().collect();
        if double.is_empty() {
            String::new()
        } else {
            format!("; more than one of its rows is called {}", few(&double))
        }
    }

    fn labels(&self) -> &[String] {
        self.checkpoint.config().and_then(|config| config.labels.as_deref()).unwrap_or_default()
    }

    fn compare(&self, labels: &[String]) -> Classes {
        let theirs = self.labels();
        if theirs.is_empty() {
            return Classes::Unnamed("the checkpoint does not name its classes");
        }
        if theirs == labels {
            return Classes::Same;
        }
        let (known, wanted) = (unique(theirs), unique(labels));
        match (known.is_empty(), wanted.is_empty()) {
            (true, _) => return Classes::Unnamed("the checkpoint's class names are empty or double"),
            (_, true) => return Classes::Unnamed("the data's class names are empty or double"),
            _ => {}
        }
        let row = |name: &String| wanted.get(name.as_str()).and_then(|_| known.get(name.as_str()).copied());
        let rows: Vec<Option<usize>> = labels.iter().map(row).collect();
        if rows.iter().all(Option::is_none) { Classes::Others } else { Classes::Rows(rows) }
    }

    /// Whether the model's head reads another pool than the one that the checkpoint's was trained on.
    fn reads_another_pool(&self) -> bool {
        match (self.checkpoint.config().map(|config| &config.architecture), self.architecture) {
            (Some(Architecture::Vit(theirs)), Architecture::Vit(ours)) => theirs.global_pool != ours.global_pool,
            _ => false,
        }
    }

    fn anew(&self, why: String) -> HeadDecision {
        HeadDecision {
            new: self.head.iter().map(|spec| (spec.name.clone(), why.clone())).collect(),
            out: self.out("the model gets a new head"),
            ..HeadDecision::default()
        }
    }

    fn out(&self, why: &str) -> HashMap<String, String> {
        self.held.iter().map(|mapped| (mapped.name.clone(), why.to_owned())).collect()
    }

    fn refuse(&self, expected: impl ToString, got: impl ToString, remedy: &str) -> Error {
        Error::Head {
            origin: self.checkpoint.origin().into(),
            expected: expected.to_string(),
            got: got.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// The places of the names that tell a class: those that are not empty and stand once.
fn unique(names: &[String]) -> HashMap<&str, usize> {
    let mut places: HashMap<&str, Option<usize>> = HashMap::new();
    for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.trim().is_empty()) {
        places.entry(name.as_str()).and_modify(|place| *place = None).or_insert(Some(at));
    }
    places.into_iter().filter_map(|(name, place)| Some((name, place?))).collect()
}
