//! What is not trained, from words: `backbone`, a number of blocks, a range of them, or names with `*`.

use tallow_models::Stage;
use tallow_models::{Architecture, zoo};

use super::error::{Error, Result};

/// A rule for [`tallow_models::Params::freeze`].
pub type Rule = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The rule that `text` means for `architecture`: `none`, or any of these, separated by commas:
/// - `backbone`: everything but the head;
/// - a number n: the stem and the first n blocks;
/// - `blocks.A-B`: the blocks from A up to and including B, counted from 0; `blocks.A`: this block;
/// - a parameter's name, in which `*` stands for any text and `?` for one character: `patch_embed.*`.
///
/// # Errors
/// If there are fewer blocks, a range ends before it begins, a name fits none of the architecture's parameters, or nothing is
/// left to train.
pub fn rule(text: &str, architecture: &Architecture) -> Result<Rule> {
    if text.trim() == "none" {
        return Ok(Box::new(|_| false));
    }
    let parts = text.split(',').map(|part| rule_of_part(part.trim(), architecture)).collect::<Result<Vec<Rule>>>()?;
    let rule: Rule = Box::new(move |name| parts.iter().any(|part| part(name)));
    if architecture.parameters()?.iter().all(|spec| rule(&spec.name)) {
        return Err(Error::config("freeze", "something that leaves a parameter to train", format!("{text:?}")));
    }
    Ok(rule)
}

fn rule_of_part(part: &str, architecture: &Architecture) -> Result<Rule> {
    let model = architecture.clone();
    if part == "backbone" {
        return Ok(Box::new(move |name| model.stage_of(name) != Stage::Head));
    }
    if let Ok(count) = part.parse::<usize>() {
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
    if let Some(range) = part.strip_prefix("blocks.").filter(|range| !range.contains(|c| !matches!(c, '0'..='9' | '-')))
    {
        let (first, last) = blocks(range, architecture)?;
        return Ok(Box::new(
            move |name| matches!(model.stage_of(name), Stage::Block(block) if (first..=last).contains(&block)),
        ));
    }
    if !architecture.parameters()?.iter().any(|spec| zoo::matches(part, &spec.name)) {
        let expected = "none, backbone, a number of blocks, a range such as blocks.0-5, or names of parameters with * \
                        (tallow info lists them)";
        return Err(Error::config("freeze", expected, format!("{part:?}")));
    }
    let pattern = part.to_string();
    Ok(Box::new(move |name| zoo::matches(&pattern, name)))
}

/// The first and the last block of `A-B` or `A`.
fn blocks(range: &str, architecture: &Architecture) -> Result<(usize, usize)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let count = architecture.num_blocks();
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && last < count => Ok((first, last)),
        _ => {
            let last = count.saturating_sub(1);
            let expected = format!("blocks.A-B with A up to B, from 0 to {last} in a model of {count} blocks");
            Err(Error::config("freeze", expected, format!("blocks.{range}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the ViT's parameters with these names `text` freezes.
    fn frozen(text: &str) -> Vec<&'static str> {
        const NAMES: [&str; 6] = [
            "pos_embed",
            "blocks.0.norm1.bias",
            "blocks.2.mlp.fc1.bias",
            "blocks.5.attn.qkv.bias",
            "norm.bias",
            "head.bias",
        ];
        let vit = zoo::find("vit_mnist").unwrap().architecture;
        let rule = rule(text, &vit).unwrap_or_else(|error| panic!("{text}: {error}"));
        NAMES.into_iter().filter(|name| rule(name)).collect()
    }

    #[test]
    fn words_numbers_ranges_and_names_say_what_is_frozen() {
        assert_eq!(frozen("none"), [""; 0]);
        assert_eq!(frozen("backbone").len(), 5);
        assert_eq!(frozen("2"), ["pos_embed", "blocks.0.norm1.bias"]);
        assert_eq!(frozen("blocks.2-5"), ["blocks.2.mlp.fc1.bias", "blocks.5.attn.qkv.bias"]);
        assert_eq!(frozen("blocks.0-2"), ["blocks.0.norm1.bias", "blocks.2.mlp.fc1.bias"]);
        assert_eq!(frozen("blocks.5"), ["blocks.5.attn.qkv.bias"]);
        assert_eq!(frozen("blocks.0-1, pos_*,norm.bias"), ["pos_embed", "blocks.0.norm1.bias", "norm.bias"]);
        assert_eq!(frozen("blocks.?.norm?.*"), ["blocks.0.norm1.bias"]);
    }

    #[test]
    fn what_names_no_block_or_parameter_is_refused() {
        let vit = zoo::find("vit_mnist").unwrap().architecture;
        let refused = |text| rule(text, &vit).err().unwrap_or_else(|| panic!("{text}")).to_string();
        assert_eq!(refused("7"), "freeze: expected at most 6 blocks, got 7");
        for range in ["blocks.4-2", "blocks.0-6", "blocks.6", "blocks.-3", "blocks.3-", "blocks.", "blocks.1-2-3"] {
            let expected = "freeze: expected blocks.A-B with A up to B, from 0 to 5 in a model of 6 blocks, got ";
            assert_eq!(refused(range), format!("{expected}{range}"));
        }
        for text in ["*", "backbone,head.*"] {
            assert!(refused(text).contains("leaves a parameter to train"), "{text}");
        }
        for text in ["", "spine", "backbone,", "blocks.x-y", "stages.0-2", "99999999999999999999999"] {
            assert!(refused(text).contains("a range such as blocks.0-5"), "{text}");
        }
    }
}
