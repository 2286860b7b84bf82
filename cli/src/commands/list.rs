//! `tallow list`: the zoo.

use anyhow::bail;
use serde::Serialize;
use tallow_models::zoo;

use crate::error::Result;
use crate::flags::ListArgs;
use crate::output::{Align, Table, thousands};
use crate::session::Session;

/// Weights inside the binary are called so.
const BUNDLED: &str = "bundled";

pub fn run(args: &ListArgs, session: &Session) -> Result {
    let pattern = args.pattern.as_deref().unwrap_or("*");
    let mut models: Vec<Listed> = zoo::list(pattern).iter().map(Listed::new).collect::<Result<_>>()?;
    if models.is_empty() && pattern.trim_matches('*') == BUNDLED {
        // What the table says of weights that need no download.
        models = zoo::list("*").iter().map(Listed::new).collect::<Result<_>>()?;
        models.iter_mut().for_each(|model| model.weights.retain(|weights| weights.bundled));
        models.retain(|model| !model.weights.is_empty());
    }
    let wildcards = if pattern.contains(['*', '?']) { pattern.to_owned() } else { format!("*{pattern}*") };
    let refused: Vec<Refused> = zoo::refused()
        .filter(|(name, _)| zoo::matches(&wildcards, name))
        .map(|(name, reason)| Refused { name, reason })
        .collect();
    if models.is_empty() && refused.is_empty() {
        bail!("{pattern:?}: no architecture and no tag has such a name; tallow list shows all");
    }
    session.result(&serde_json::json!({ "models": models, "refused": refused }), || {
        // All of them at once would hide what is there.
        let refused = if args.pattern.is_some() { not_supported(&refused) } else { String::new() };
        [table(&models), refused].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
    })
}

/// A ViT of timm's that is not in the zoo.
#[derive(Serialize)]
struct Refused {
    name: &'static str,
    reason: &'static str,
}

fn not_supported(refused: &[Refused]) -> String {
    if refused.is_empty() {
        return String::new();
    }
    let mut table = Table::new([("not supported", Align::Left), ("because of", Align::Left)]);
    refused.iter().for_each(|Refused { name, reason }| table.row([(*name).into(), (*reason).into()]));
    table.to_string()
}

#[derive(Serialize)]
struct Listed {
    name: String,
    parameters: usize,
    gmacs: f64,
    input_size: [usize; 3],
    weights: Vec<Weights>,
}

#[derive(Serialize)]
struct Weights {
    tag: &'static str,
    hub: Option<&'static str>,
    bundled: bool,
    num_classes: usize,
    license: Option<&'static str>,
}

impl Listed {
    fn new(entry: &zoo::Entry) -> Result<Self> {
        let architecture = &entry.architecture;
        Ok(Self {
            name: entry.name.to_string(),
            parameters: architecture.num_parameters()?,
            gmacs: architecture.flops() as f64 / 2e9,
            input_size: architecture.input_size(),
            weights: entry
                .weights
                .iter()
                .map(|weights| Weights {
                    tag: weights.tag,
                    hub: weights.hub,
                    bundled: weights.hub.is_none(),
                    num_classes: weights.num_classes,
                    license: weights.license,
                })
                .collect(),
        })
    }
}

fn table(models: &[Listed]) -> String {
    if models.is_empty() {
        return String::new();
    }
    use Align::{Left, Right};
    let mut table = Table::new([
        ("architecture", Left),
        ("parameters", Right),
        ("GMACs", Right),
        ("pixels", Right),
        ("pretrained tag", Left),
        ("classes", Right),
        ("licence", Left),
    ]);
    for model in models {
        let [_, size, _] = model.input_size;
        let (parameters, gmacs) = (thousands(model.parameters), format!("{:.2}", model.gmacs));
        let mut start = [model.name.clone(), parameters, gmacs, size.to_string()];
        if model.weights.is_empty() {
            let [name, parameters, gmacs, size] = start;
            table.row([name, parameters, gmacs, size, "–".into(), String::new(), String::new()]);
            continue;
        }
        for weights in &model.weights {
            let [name, parameters, gmacs, size] = std::mem::take(&mut start);
            let tag = if weights.bundled { format!("{} ({BUNDLED})", weights.tag) } else { weights.tag.into() };
            table.row([
                name,
                parameters,
                gmacs,
                size,
                tag,
                weights.num_classes.to_string(),
                weights.license.unwrap_or("not stated").into(),
            ]);
        }
    }
    table.to_string()
}
