//! What `config.json` (Hugging Face) and `open_clip_config.json` say of a text tower and of how its texts become tokens, beyond what the
//! shapes of its tensors tell.

use serde_json::Value;
use tallow_models::text::TextPool;
use tallow_models::vit::Act;

use super::fields::Fields;
use super::hugging_face::part_of;
use super::{hugging_face, json, open_clip};
use crate::Result;

/// How a text is tidied before it is cut into tokens, as open_clip calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cleaning {
    /// Damage is repaired and white space is made even.
    Whitespace,
    /// As `Whitespace`, and in lower case.
    Lower,
    /// As `Lower`, and without punctuation.
    Canonicalize,
}

/// Whose way to make tokens of texts a model was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tokenizing {
    /// The tokenizer of the model's class in transformers.
    HuggingFace,
    /// open_clip's own tokenizer, which is OpenAI's.
    OpenClip(Cleaning),
    /// A tokenizer of transformers, after open_clip has tidied the text.
    OpenClipOverHuggingFace(Cleaning),
}

/// The models whose text towers are read, as `model_type` calls them.
const FAMILIES: [&str; 4] = ["clip", "metaclip_2", "siglip", "siglip2"];

/// What a file says of a text tower.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StatedText {
    /// None where that is a head for every 64 values.
    pub(crate) num_heads: Option<usize>,
    pub(crate) act: Act,
    pub(crate) norm_eps: f64,
    /// Whether there is LayerScale, where that is said.
    pub(crate) layer_scale: Option<bool>,
    pub(crate) causal: bool,
    pub(crate) pool: TextPool,
    pub(crate) tokenizing: Tokenizing,
    /// Whether the token that separates texts is none (CLIPA): zeros stand in its place.
    pub(crate) strips_sep: bool,
    /// Sizes that tensors tell too, by the names of their fields.
    pub(crate) sizes: Vec<(&'static str, usize)>,
    /// Tokens of a text at most, by the name of its field.
    pub(crate) context_length: Option<(&'static str, usize)>,
    /// The width of the projection behind the tower, by the name of its field, where the config says that there is one.
    pub(crate) proj_dim: Option<(&'static str, usize)>,
}

/// The text tower of a Hugging Face `config.json`: that of a CLIP or SigLIP model of both towers or of the text tower alone. None where it is
/// of another model.
pub(crate) fn hugging_face(text: &str, origin: &str) -> Result<Option<StatedText>> {
    let value = json(text, origin)?;
    let root = Fields::new(origin, &value)?;
    let kind = root.text("model_type")?.unwrap_or_default();
    let of_family = |kind: &str| FAMILIES.contains(&kind.strip_suffix("_text_model").unwrap_or(kind));
    if !of_family(kind) {
        return Ok(None);
    }
    let siglip = kind.starts_with("siglip");
    let own = part_of(&root, "text", siglip)?;
    let alone = kind.ends_with("_text_model");
    // Where nothing is said of the tower, transformers' defaults hold.
    let nothing = Value::Object(serde_json::Map::new());
    let own = match own {
        Some(own) => own,
        None if alone => Fields::new(origin, &value)?,
        None => Fields::new(origin, &nothing)?,
    };
    if !alone && own.text("model_type")?.is_some_and(|kind| !of_family(kind)) {
        return Err(own.unsupported("model_type", "known are the text towers of CLIP, MetaCLIP 2, SigLIP and SigLIP 2"));
    }
    let pool = match own.size("eos_token_id")? {
        _ if siglip => TextPool::Last,
        // What OpenAI's configs say is not the token that ends a text: transformers then takes the largest; in MetaCLIP 2's it is.
        Some(2) if !kind.starts_with("metaclip_2") => TextPool::Largest,
        None => TextPool::Token(49407),
        Some(number) => TextPool::Token(number as u32),
    };
    let (dim, depth, heads) = if siglip { (768, 12, 12) } else { (512, 12, 8) };
    let hidden_size = own.size_or("hidden_size", dim)?;
    let class = root.value("architectures").and_then(|names| names.get(0)?.as_str()).unwrap_or_default();
    let proj_dim = match class {
        _ if siglip => Some(("projection_size", own.size("projection_size")?.unwrap_or(hidden_size))),
        "CLIPModel" | "MetaClip2Model" => Some(("projection_dim", root.size("projection_dim")?.unwrap_or(512))),
        "CLIPTextModelWithProjection" | "MetaClip2TextModelWithProjection" => {
            Some(("projection_dim", own.size("projection_dim")?.unwrap_or(512)))
        }
        _ => None,
    };
    let positions = own.size("max_position_embeddings")?.unwrap_or(if siglip { 64 } else { 77 });
    Ok(Some(StatedText {
        num_heads: Some(own.size_or("num_attention_heads", heads)?),
        act: hugging_face::act(&own, if siglip { Act::GeluTanh } else { Act::QuickGelu })?,
        norm_eps: own.number("layer_norm_eps")?.unwrap_or(if siglip { 1e-6 } else { 1e-5 }),
        layer_scale: None,
        causal: !siglip,
        pool,
        tokenizing: Tokenizing::HuggingFace,
        strips_sep: false,
        sizes: vec![
            ("hidden_size", hidden_size),
            ("num_hidden_layers", own.size_or("num_hidden_layers", depth)?),
            ("vocab_size", own.size_or("vocab_size", if siglip { 32000 } else { 49408 })?),
        ],
        context_length: Some(("max_position_embeddings", positions)),
        proj_dim,
    }))
}

/// The text tower of an `open_clip_config.json`.
pub(crate) fn open_clip(text: &str, origin: &str) -> Result<StatedText> {
    let value = json(text, origin)?;
    let root = Fields::new(origin, &value)?;
    let model = root.object("model_cfg")?.unwrap_or(Fields::new(origin, &value)?);
    let own = model.object("text_cfg")?.ok_or_else(|| model.error("text_cfg", "the text tower's configuration"))?;
    let remedy = "choose a CLIP or SigLIP whose text tower is a plain transformer";
    open_clip::check_plain(&own, &["hf_model_name", "embed_cls"], remedy)?;
    let pool = match own.text("pool_type")? {
        None | Some("argmax") => TextPool::Largest,
        Some("eos") => TextPool::Token(own.size("eos_id")?.unwrap_or(2) as u32),
        Some("first") => TextPool::First,
        Some("last") => TextPool::Last,
        Some(_) => return Err(own.error("pool_type", "argmax, eos, first or last")),
    };
    let tokenizer = own.object("tokenizer_kwargs")?;
    let cleaning = match tokenizer.as_ref().map(|kwargs| kwargs.text("clean")).transpose()?.flatten() {
        None => None,
        Some("canonicalize") => Some(Cleaning::Canonicalize),
        Some("lower") => Some(Cleaning::Lower),
        Some("whitespace") => Some(Cleaning::Whitespace),
        Some(_) => return Err(own.error("tokenizer_kwargs", "clean of canonicalize, lower or whitespace")),
    };
    if own.text("tokenizer_mode")?.is_some_and(|mode| !mode.is_empty()) {
        return Err(own.unsupported("tokenizer_mode", "choose a model whose tokenizer has none"));
    }
    let tokenizing = match own.text("hf_tokenizer_name")? {
        Some(name) if !name.is_empty() => Tokenizing::OpenClipOverHuggingFace(cleaning.unwrap_or(Cleaning::Whitespace)),
        _ => Tokenizing::OpenClip(cleaning.unwrap_or(Cleaning::Lower)),
    };
    let strips_sep = tokenizer.map(|kwargs| kwargs.bool("strip_sep_token")).transpose()?.flatten();
    let strips_sep = strips_sep == Some(true) && matches!(tokenizing, Tokenizing::OpenClipOverHuggingFace(_));
    let projects = own.text("proj_type")? != Some("none");
    let embed_dim = model.size("embed_dim")?.ok_or_else(|| model.error("embed_dim", "the width of the embeddings"))?;
    Ok(StatedText {
        num_heads: Some(own.size("heads")?.unwrap_or(8)),
        act: open_clip::act(&model, &own)?,
        norm_eps: open_clip::norm_eps(&own)?,
        layer_scale: Some(own.number("ls_init_value")?.is_some()),
        causal: !own.bool("no_causal_mask")?.unwrap_or(false),
        pool,
        tokenizing,
        strips_sep,
        sizes: vec![
            ("width", own.size("width")?.unwrap_or(512)),
            ("layers", own.size("layers")?.unwrap_or(12)),
            ("vocab_size", own.size("vocab_size")?.unwrap_or(49408)),
        ],
        context_length: Some(("context_length", own.size("context_length")?.unwrap_or(77))),
        proj_dim: projects.then_some(("embed_dim", embed_dim)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_metaclip_2_stands_where_eos_token_id_says_though_it_is_2() {
        let pool = |kind: &str| {
            let text = format!(r#"{{"model_type": "{kind}", "text_config": {{"eos_token_id": 2}}}}"#);
            hugging_face(&text, "config.json").unwrap().unwrap().pool
        };
        assert_eq!((pool("metaclip_2"), pool("clip")), (TextPool::Token(2), TextPool::Largest));
    }

    #[test]
    fn a_text_tower_that_is_not_what_the_model_says_is_named() {
        for (text, field) in [
            (r#"{"model_type": "clip", "text_config": {"model_type": "bert"}}"#, "text_config.model_type"),
            (r#"{"model_type": "clip", "text_config": {"num_attention_heads": null}}"#, "num_attention_heads"),
        ] {
            let error = hugging_face(text, "config.json").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn clipa_has_no_token_that_separates() {
        let strips = |tokenizer: &str| {
            let text = format!(
                r#"{{"embed_dim": 24, "text_cfg": {{{tokenizer} "tokenizer_kwargs": {{"strip_sep_token": true}}}}}}"#
            );
            open_clip(&text, "open_clip_config.json").unwrap().strips_sep
        };
        assert!(strips(r#""hf_tokenizer_name": "bert-base-uncased","#));
        assert!(!strips(""));
    }
}
