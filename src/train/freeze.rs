//! What is not trained, from words: `backbone`, a number of blocks, or names with `*`.

use tallow_models::Architecture;
use tallow_models::architecture::Stage;

use super::error::{Error, Result};

/// A rule for [`tallow_models::Params::freeze`].
pub type Rule = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The rule that `text` means for `architecture`:
/// - `none`: nothing is frozen;
/// - `backbone`: everything but the head;
/// - a number n: the stem and the first n blocks;
/// - names separated by commas, in which `*` stands for anything: `patch_embed.*,pos_embed`.
///
/// # Errors
/// If there are fewer blocks, or a name fits none of the architecture's parameters.
pub fn rule(text: &str, architecture: &Architecture) -> Result<Rule> {
    let text = text.trim();
    let model = architecture.clone();
    match text {
        "none" => return Ok(Box::new(|_| false)),
        "backbone" => return Ok(Box::new(move |name| model.stage_of(name) != Stage::Head)),
        _ => (),
    }
    if let Ok(count) = text.parse::<usize>() {
        let blocks = architecture.num_blocks();
        if count > blocks {
            return Err(Error::config("freeze", format!("at most {blocks} blocks"), count));
        }
        return Ok(Box::new(move |name| match model.stage_of(name) {
            Stage::Stem => true,
            Stage::Block(block) => block < count,
            Stage::Neck | Stage::Head => false,
        }));
    }
    let patterns: Vec<String> = text.split(',').map(|pattern| pattern.trim().to_string()).collect();
    let names = architecture.parameters()?;
    for pattern in &patterns {
        if !names.iter().any(|spec| matches(pattern, &spec.name)) {
            let expected = "none, backbone, a number of blocks, or names of parameters with * (tallow info lists them)";
            return Err(Error::config("freeze", expected, format!("{pattern:?}")));
        }
    }
    Ok(Box::new(move |name| patterns.iter().any(|pattern| matches(pattern, name))))
}

/// Whether `name` is `pattern`, in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("blocks.*.attn.*", "blocks.11.attn.qkv.weight"));
        assert!(matches("*.bias", "head.bias"));
        assert!(matches("*", "head.bias"));
        assert!(!matches("*.bias", "head.weight"));
        assert!(!matches("head", "head.bias"));
        assert!(!matches("blocks.1*1.x", "blocks.1.x"));
    }
}
