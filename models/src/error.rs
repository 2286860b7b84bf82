//! What can go wrong in this crate, with what, where, expected and got.

use candle_core::DType;

/// Errors of architectures, parameters and gradients. What goes wrong inside a tensor operation is Candle's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration that makes no sense.
    #[error("{field}: expected {expected}, got {got}")]
    Config { field: String, expected: String, got: String },
    /// No architecture of that name in the zoo.
    #[error("no architecture is called {name:?}{}", did_you_mean(.nearest))]
    UnknownArchitecture { name: String, nearest: Vec<String> },
    /// An architecture of timm's that the zoo has not.
    #[error("{name} is not supported: it has what no model here has, {reason}")]
    RefusedArchitecture { name: String, reason: String },
    /// An architecture that has no weights of that tag.
    #[error("{name} has no weights called {tag:?}: {}", known_tags(.known))]
    UnknownTag { name: String, tag: String, known: Vec<String> },
    /// A configuration has no such field.
    #[error("no option is called {key:?}{}; there are: {}", did_you_mean(.nearest), .known.join(", "))]
    UnknownOption { key: String, nearest: Vec<String>, known: Vec<String> },
    /// A batch of images that does not fit the model.
    #[error("images: expected [batch, {}, {}, {}] with a batch of at least 1, got: {got:?}", .expected[0], .expected[1], .expected[2])]
    Images { expected: [usize; 3], got: Vec<usize> },
    /// Images of a type that a model does not compute with.
    #[error(
        "images: expected floating-point values, normalised as the weights want it, got {got:?}: convert with to_dtype, divide by 255 and normalise"
    )]
    ImageType { got: DType },
    /// A value that was given for a parameter has another shape than the model's.
    #[error("parameter {name}: shape mismatch, expected: {expected:?}, got: {got:?}")]
    Shape { name: String, expected: Vec<usize>, got: Vec<usize> },
    /// No parameter of that name.
    #[error("no parameter is called {name}")]
    UnknownParameter { name: String },
    /// A parameter that would be drawn, while a value seems to wait for it under a name that ends alike. `prefix` is the one to load
    /// with, where the two names tell it.
    #[error(
        "parameter {name}: it would start from random values, while those that were loaded for {provided} wait: \
         load with the prefix {}, or first build the model that they belong to",
        .prefix.as_ref().map_or("that the model is built under".into(), |prefix| format!("{prefix:?}"))
    )]
    Misplaced { name: String, provided: String, prefix: Option<String> },
    /// Values that were provided and that no model asked for.
    #[error(
        "{} of the loaded values belong to no parameter of the model: {}; build the model that they were loaded for, under the \
         prefix that the load was given", .names.len(), list(.names)
    )]
    LeftOver { names: Vec<String> },
    /// Trainable parameters that a backward pass did not reach.
    #[error("no gradient reached {} of the trainable parameters: {}; freeze them if that is meant", .names.len(), list(.names))]
    NoGradient { names: Vec<String> },
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;

fn did_you_mean(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

fn known_tags(tags: &[String]) -> String {
    if tags.is_empty() { "there are none".into() } else { format!("there are {}", tags.join(", ")) }
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
