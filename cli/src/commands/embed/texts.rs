//! `tallow embed --text`: the vectors of texts.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use tallow_weights::save;

use crate::error::Result;
use crate::flags::EmbedArgs;
use crate::model;
use crate::session::Session;

#[derive(Serialize)]
struct EmbeddedTexts<'a> {
    out: Option<&'a Path>,
    texts: usize,
    /// Shape of `features`.
    shape: Vec<usize>,
    /// The numbers of the tokens that the model reads, text by text.
    tokens: Vec<Vec<u32>>,
    /// The vectors, where no file was to be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Vec<Vec<f32>>>,
}

pub fn run(args: &EmbedArgs, session: &Session) -> Result {
    let encoder = model::text_encoder(&args.model, Some(&args.architecture), &args.checkpoint, session)?;
    let tokens = encoder.tokens(&args.text).map_err(model::of_model)?;
    for (text, _) in args.text.iter().zip(&tokens).filter(|(_, tokens)| tokens.is_cut) {
        let (start, length) = (text.chars().take(40).collect::<String>(), encoder.tokenizer().context_length());
        session.warn(format!(
            "{start:?}…: longer than the {length} tokens that the model reads; what comes after was left out"
        ));
    }
    let features = encoder.embed(&args.text).map_err(model::of_model)?;
    if let Some(out) = &args.out {
        let about = HashMap::from([
            ("model".to_string(), args.model.clone()),
            ("texts".into(), serde_json::to_string(&args.text)?),
        ]);
        save::safetensors(out, &[("features".into(), features.clone())], about)?;
    }
    let embedded = EmbeddedTexts {
        out: args.out.as_deref(),
        texts: args.text.len(),
        shape: features.dims().to_vec(),
        tokens: tokens.into_iter().map(|tokens| tokens.ids).collect(),
        features: args.out.is_none().then(|| features.to_vec2()).transpose()?,
    };
    session.result(&embedded, || match embedded.out {
        Some(out) => format!("{}: features {:?}", out.display(), embedded.shape),
        None => {
            let row = |values: &Vec<f32>| values.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
            embedded.features.iter().flatten().map(row).collect::<Vec<_>>().join("\n")
        }
    })
}
