//! `tallow info`: a model's layers, and the account of loading its weights.

use serde::Serialize;
use tallow::data::Alpha;
use tallow_models::zoo;
use tallow_weights::{Account, Preprocessing, Resizing};

use crate::error::Result;
use crate::flags::InfoArgs;
use crate::model;
use crate::output::{Align, Table, thousands};
use crate::session::Session;
use crate::wording::with_flags;

pub fn run(args: &InfoArgs, session: &Session) -> Result {
    // A name of the zoo without a tag asks for the architecture alone; everything else is a checkpoint.
    let loaded = match zoo::find(&args.model) {
        Ok(_) if !args.model.contains('.') => None,
        _ => Some(model::open(&args.model, &args.architecture, &args.checkpoint, session)?),
    };
    let architecture = match &loaded {
        Some(loaded) => loaded.config().architecture.clone(),
        None => {
            let options = model::open_options(&args.model, &args.architecture, &args.checkpoint, session)?;
            model::architecture(&args.model, &args.architecture, &options)?
        }
    };
    let parameters = architecture.parameters()?;
    let info = Info {
        model: &args.model,
        parameters: architecture.num_parameters()?,
        gmacs: architecture.flops() as f64 / 2e9,
        input_size: architecture.input_size(),
        num_features: architecture.num_features(),
        num_classes: architecture.num_classes(),
        projection: loaded.as_ref().is_some_and(|loaded| loaded.config().projection),
        license: loaded.as_ref().and_then(|loaded| loaded.config().license.as_deref()),
        labels: loaded.as_ref().and_then(|loaded| loaded.config().labels.as_deref()),
        architecture: serde_json::to_value(&architecture)?,
        preprocessing: loaded
            .as_ref()
            .map(|loaded| serde_json::to_value(&loaded.config().preprocessing))
            .transpose()?,
        images: loaded.as_ref().map(|loaded| in_words(&loaded.config().preprocessing)),
        layers: parameters.iter().map(|spec| Layer { name: &spec.name, shape: &spec.shape }).collect(),
        account: loaded.as_ref().map(|loaded| in_flags(loaded.account())),
    };
    session.result(&info, || info.text(session.flags().verbose))
}

#[derive(Serialize)]
struct Info<'a> {
    model: &'a str,
    parameters: usize,
    gmacs: f64,
    input_size: [usize; 3],
    num_features: usize,
    num_classes: usize,
    /// Whether the head is the projection of a CLIP, whose rows are no classes.
    projection: bool,
    license: Option<&'a str>,
    labels: Option<&'a [String]>,
    architecture: serde_json::Value,
    preprocessing: Option<serde_json::Value>,
    /// The same in words.
    #[serde(skip)]
    images: Option<String>,
    layers: Vec<Layer<'a>>,
    account: Option<Account>,
}

#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    shape: &'a [usize],
}

impl Info<'_> {
    fn text(&self, verbose: bool) -> String {
        let mut table = Table::new([("parameter", Align::Left), ("shape", Align::Left), ("values", Align::Right)]);
        for layer in &self.layers {
            let count = layer.shape.iter().product();
            table.row([layer.name.to_string(), format!("{:?}", layer.shape), thousands(count)]);
        }
        let [channels, height, width] = self.input_size;
        let head = match self.projection {
            true => format!("projected to {} values", self.num_classes),
            false => format!("{} classes", self.num_classes),
        };
        let mut text = format!(
            "{table}\n{}: {} parameters, {:.2} GMACs, input {channels}x{height}x{width}, {} features, {head}\n",
            self.model,
            thousands(self.parameters),
            self.gmacs,
            self.num_features,
        );
        if let Some(fields) = self.architecture.as_object() {
            let fields = fields.iter().map(|(key, value)| format!("{key}={}", plain(value)));
            text.push_str(&format!("options: {}\n", fields.collect::<Vec<_>>().join(" ")));
        }
        if let Some(images) = &self.images {
            text.push_str(&format!("images: {images}\n"));
        }
        if let Some(license) = self.license {
            text.push_str(&format!("licence: {license}\n"));
        }
        if let Some(labels) = self.labels {
            text.push_str(&format!("classes: {}\n", few(labels)));
        }
        if let Some(account) = &self.account {
            text.push_str(&model::account_text(account, verbose));
        }
        text
    }
}

/// How images become the input.
fn in_words(preprocessing: &Preprocessing) -> String {
    let Preprocessing { input_size, crop_pct, squash, resizing, .. } = preprocessing;
    let [channels, height, width] = input_size;
    let resized = if *squash { "both sides" } else { "the shorter side" };
    let filter = format!("{:?}", preprocessing.interpolation).to_lowercase();
    let arithmetic = match resizing {
        Resizing::Pillow => "as Pillow",
        Resizing::Torchvision => "as torchvision",
        Resizing::Floats => "in floats",
    };
    let transparent = match Alpha::of(preprocessing) {
        Alpha::Kept => "alpha is read",
        Alpha::OnWhite => "transparent ones on white",
        Alpha::AsItLies => "alpha is dropped after resizing",
        Alpha::Dropped => "alpha is dropped",
    };
    format!(
        "{channels}x{height}x{width}, {resized} resized ({filter}, {arithmetic}, crop_pct {crop_pct}), mean {:?}, std {:?}; {transparent}",
        preprocessing.mean, preprocessing.std
    )
}

/// An account whose notes name flags.
fn in_flags(account: &Account) -> Account {
    let mut account = account.clone();
    account.notes.iter_mut().for_each(|note| *note = with_flags(note).into_owned());
    account
}

/// A value as `--set` takes it.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "none".into(),
        other => other.to_string(),
    }
}

fn few(labels: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = labels.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if labels.len() > SHOWN { format!("{shown}, … ({} in all)", labels.len()) } else { shown }
}
