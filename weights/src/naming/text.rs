//! The names of a text tower's tensors: Hugging Face's CLIP and SigLIP, and OpenAI's own, which are open_clip's too.

use crate::format::TensorInfo;

/// Whose names a text tower has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextNaming {
    /// `text_model.encoder.layers.0.self_attn.q_proj.weight`
    HuggingFace,
    /// `transformer.resblocks.0.attn.in_proj_weight`
    OpenAi,
}

/// What a tensor of a text tower is, in the names of [`tallow_models::text::TextTower`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TextFate {
    /// This parameter.
    Is(String),
    /// Its rows are a third of this parameter's: of q, k or v.
    Third(String, usize),
    /// This parameter, turned: a matrix that is multiplied from the right.
    Turned(String),
    /// Something that is computed anew.
    Out,
    /// Not known.
    Unknown,
}

/// A text tower among the tensors of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextNetwork {
    pub(crate) naming: TextNaming,
    /// What stands before its names: `text_model.`, `text.`, nothing.
    pub(crate) prefix: String,
    /// What stands before the names of the whole model: of the logit scale, and of Hugging Face's projection.
    pub(crate) above: String,
}

/// The text towers among tensors, each told by its table of tokens.
pub(crate) fn networks(infos: &[TensorInfo]) -> Vec<TextNetwork> {
    let found = infos.iter().filter(|info| info.shape.len() == 2).filter_map(|info| {
        let before = info.name.strip_suffix("token_embedding.weight")?;
        if let Some(prefix) = before.strip_suffix("embeddings.") {
            let above = prefix.strip_suffix("text_model.").unwrap_or(prefix);
            let above = above.to_owned();
            return Some(TextNetwork { naming: TextNaming::HuggingFace, prefix: prefix.into(), above });
        }
        if !(before.is_empty() || before.ends_with('.')) {
            return None;
        }
        let above = before.strip_suffix("text.").unwrap_or(before).to_owned();
        Some(TextNetwork { naming: TextNaming::OpenAi, prefix: before.into(), above })
    });
    found.collect()
}

impl TextNetwork {
    /// What the tensor called `name` is; none where it is no part of the text tower.
    pub(crate) fn fate(&self, name: &str) -> Option<TextFate> {
        match self.naming {
            TextNaming::HuggingFace => match name.strip_prefix(&self.prefix) {
                Some(inner) if !self.prefix.is_empty() || is_of_hugging_face(inner) => Some(hugging_face(inner)),
                _ => (name.strip_prefix(&self.above)? == "text_projection.weight")
                    .then(|| TextFate::Is("proj.weight".into())),
            },
            TextNaming::OpenAi => openai(name.strip_prefix(&self.prefix)?, !self.prefix.ends_with("text.")),
        }
    }
}

/// Without a prefix a name tells by itself that it is of the text tower.
fn is_of_hugging_face(name: &str) -> bool {
    ["embeddings.", "encoder.", "final_layer_norm.", "head."].iter().any(|start| name.starts_with(start))
}

fn hugging_face(name: &str) -> TextFate {
    let is = |name: String| TextFate::Is(name);
    match name {
        "embeddings.token_embedding.weight" => return is("token_embed".into()),
        "embeddings.position_embedding.weight" => return is("pos_embed".into()),
        "embeddings.position_ids" => return TextFate::Out,
        "head.weight" | "head.bias" => return is(name.replace("head.", "proj.")),
        "final_layer_norm.weight" | "final_layer_norm.bias" => return is(name.replace("final_layer_norm", "norm")),
        _ => {}
    }
    let Some((block, rest)) = block(name, "encoder.layers.") else { return TextFate::Unknown };
    let Some((layer, kind)) = rest.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias")) else {
        return TextFate::Unknown;
    };
    let own = match layer {
        "layer_norm1" => "norm1",
        "layer_norm2" => "norm2",
        "self_attn.out_proj" => "attn.proj",
        "mlp.fc1" | "mlp.fc2" => layer,
        _ => {
            let third = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].iter().position(|of| *of == layer);
            return third.map_or(TextFate::Unknown, |at| TextFate::Third(format!("{block}.attn.qkv.{kind}"), at));
        }
    };
    is(format!("{block}.{own}.{kind}"))
}

/// `beside` says that the vision tower's names lie beside the text tower's, as in OpenAI's own files.
fn openai(name: &str, beside: bool) -> Option<TextFate> {
    Some(match name {
        "token_embedding.weight" => TextFate::Is("token_embed".into()),
        "positional_embedding" => TextFate::Is("pos_embed".into()),
        "text_projection" => TextFate::Turned("proj.weight".into()),
        "text_projection.weight" | "text_projection.bias" => TextFate::Is(name.replace("text_projection", "proj")),
        "ln_final.weight" | "ln_final.bias" => TextFate::Is(name.replace("ln_final", "norm")),
        "attn_mask" => TextFate::Out,
        _ => match block(name, "transformer.resblocks.") {
            Some((block, rest)) => openai_block(&block, rest),
            None if beside && !name.starts_with("transformer.") => return None,
            None => TextFate::Unknown,
        },
    })
}

fn openai_block(block: &str, name: &str) -> TextFate {
    const RENAMED: [(&str, &str); 14] = [
        ("ln_1.weight", "norm1.weight"),
        ("ln_1.bias", "norm1.bias"),
        ("attn.in_proj_weight", "attn.qkv.weight"),
        ("attn.in_proj_bias", "attn.qkv.bias"),
        ("attn.out_proj.weight", "attn.proj.weight"),
        ("attn.out_proj.bias", "attn.proj.bias"),
        ("ln_2.weight", "norm2.weight"),
        ("ln_2.bias", "norm2.bias"),
        ("mlp.c_fc.weight", "mlp.fc1.weight"),
        ("mlp.c_fc.bias", "mlp.fc1.bias"),
        ("mlp.c_proj.weight", "mlp.fc2.weight"),
        ("mlp.c_proj.bias", "mlp.fc2.bias"),
        ("ls_1.gamma", "ls1.gamma"),
        ("ls_2.gamma", "ls2.gamma"),
    ];
    let own = RENAMED.iter().find(|(from, _)| *from == name).map(|(_, to)| format!("{block}.{to}"));
    own.map_or(TextFate::Unknown, TextFate::Is)
}

/// The block that a name is of, in the tower's own names, and the rest of the name.
fn block<'a>(name: &'a str, before: &str) -> Option<(String, &'a str)> {
    let (number, rest) = name.strip_prefix(before)?.split_once('.')?;
    number.parse::<usize>().ok().map(|number| (format!("blocks.{number}"), rest))
}
