//! The account of a load: what became of every tensor of the checkpoint and every parameter of the model.

use serde::{Deserialize, Serialize};

/// What became of everything. Printed it is short; serialised it is complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Where the checkpoint is.
    pub source: String,
    /// Whose names it uses.
    pub naming: String,
    /// Every tensor of the checkpoint, in its order.
    pub tensors: Vec<TensorFate>,
    /// Every parameter and buffer of the model, in its order.
    pub parameters: Vec<ParameterFate>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// What became of a tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorFate {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape in the checkpoint.
    pub shape: Vec<usize>,
    #[serde(flatten)]
    pub fate: Tensor,
}

/// Used, adapted or left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Tensor {
    /// It went into a parameter as it is (or as the rows of one).
    Used,
    /// It went into a parameter after a change, in words.
    Adapted { how: String },
    /// It was left out, and why.
    LeftOut { why: String },
}

/// Where a parameter of the model got its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParameterFate {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    #[serde(flatten)]
    pub fate: Parameter,
}

/// Filled, initialised, or some rows of each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Parameter {
    /// From these tensors of the checkpoint.
    Filled { from: Vec<String> },
    /// From these tensors of the checkpoint in part; the rest newly, and why.
    PartlyFilled { from: Vec<String>, why: String },
    /// Newly, and why.
    Initialised { why: String },
}

/// Why a checkpoint's head is left out where the model has no classes.
pub(crate) const NO_HEAD: &str = "the model has no head";

impl Account {
    /// The parameters that were newly initialised, with the reason.
    pub fn initialised(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().filter_map(|parameter| match &parameter.fate {
            Parameter::Initialised { why } => Some((parameter.name.as_str(), why.as_str())),
            _ => None,
        })
    }

    /// The parameters that were newly initialised in part, with the reason.
    pub fn partly_initialised(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().filter_map(|parameter| match &parameter.fate {
            Parameter::PartlyFilled { why, .. } => Some((parameter.name.as_str(), why.as_str())),
            _ => None,
        })
    }

    /// The rows of the checkpoint's head where it has one and the model has none.
    pub fn unused_head(&self) -> Option<usize> {
        self.tensors.iter().find_map(|tensor| match (&tensor.fate, tensor.shape.as_slice()) {
            (Tensor::LeftOut { why }, &[rows, _]) if why == NO_HEAD => Some(rows),
            _ => None,
        })
    }

    /// The tensors that were adapted, with what was done.
    pub fn adapted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tensors.iter().filter_map(|tensor| match &tensor.fate {
            Tensor::Adapted { how } => Some((tensor.name.as_str(), how.as_str())),
            _ => None,
        })
    }

    /// The tensors that were left out, with the reason.
    pub fn left_out(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tensors.iter().filter_map(|tensor| match &tensor.fate {
            Tensor::LeftOut { why } => Some((tensor.name.as_str(), why.as_str())),
            _ => None,
        })
    }
}

/// The short text: counts, what was adapted, left out and new, and the notes, a line each.
impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let filled = self.parameters.len() - self.initialised().count();
        let used = self.tensors.len() - self.left_out().count();
        write!(
            f,
            "{filled} of {} parameters filled from {used} of {} tensors in {} names ({})",
            self.parameters.len(),
            self.tensors.len(),
            self.naming,
            self.source
        )?;
        for (what, items) in [
            ("adapted", grouped(self.adapted())),
            ("left out", grouped(self.left_out())),
            ("new", grouped(self.initialised())),
            ("new in part", grouped(self.partly_initialised())),
        ] {
            for (reason, names) in items {
                write!(f, "\n{what}: {}: {reason}", few(&names))?;
            }
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

/// Names that share a reason, in order.
fn grouped<'a>(items: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, reason) in items {
        match groups.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, names)) => names.push(name),
            None => groups.push((reason, vec![name])),
        }
    }
    groups
}

fn few(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
