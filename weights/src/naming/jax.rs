//! The names of the original ViT repository's npz files and of Big Vision's: kernels lie with the output last, heads apart, and
//! Big Vision may stack all blocks of a kind along a first axis. As timm's `_load_weights` reads them.

use std::collections::HashMap;

use super::{Mapped, Part, Translation, Turn, around};
use crate::format::TensorInfo;
use crate::{Error, Result};

/// No model has more blocks; a shape without values may claim any number.
const MAX_DEPTH: usize = 1 << 12;

/// Translates all tensors.
pub(super) fn assemble(
    origin: &str,
    infos: &[TensorInfo],
    inside: &[(usize, &str)],
    translation: &mut Translation,
) -> Result<()> {
    let by_name: HashMap<&str, usize> = inside.iter().map(|&(index, name)| (name, index)).collect();
    let find = |name: &str| by_name.get(name).copied();
    let mut taken = vec![false; infos.len()];
    let mut add = |name: String, sources: &[(String, Turn)], layer: Option<usize>| -> Result<()> {
        let parts: Option<Vec<Part>> =
            sources.iter().map(|(source, turn)| Some(Part { index: find(source)?, layer, turn: *turn })).collect();
        if let Some(parts) = parts {
            parts.iter().for_each(|part| taken[part.index] = true);
            translation.mapped.push(Mapped::new(origin, name, parts, infos)?);
        }
        Ok(())
    };

    for (name, source, turn) in [
        ("cls_token", "cls", Turn::Same),
        ("pos_embed", "Transformer/posembed_input/pos_embedding", Turn::Same),
        ("pos_embed", "pos_embedding", Turn::Same),
        ("patch_embed.proj.weight", "embedding/kernel", Turn::ConvKernel),
        ("patch_embed.proj.bias", "embedding/bias", Turn::Same),
        ("norm.weight", "Transformer/encoder_norm/scale", Turn::Same),
        ("norm.bias", "Transformer/encoder_norm/bias", Turn::Same),
        ("head.weight", "head/kernel", Turn::Transposed),
        ("head.bias", "head/bias", Turn::Same),
        ("attn_pool.latent", "MAPHead_0/probe", Turn::Same),
    ] {
        add(name.into(), &[(source.into(), turn)], None)?;
    }

    stem(&|name| find(name).is_some(), &mut add)?;

    // Of the numbers that Flax gives to the parts of a block, the original's or Big Vision's.
    let stacked = find("Transformer/encoderblock/LayerNorm_0/scale");
    let first = if stacked.is_some() { "Transformer/encoderblock" } else { "Transformer/encoderblock_0" };
    let newer = find(&format!("{first}/LayerNorm_1/scale")).is_some();
    let (attention, mlp, norm2) = if newer { (0, 0, 1) } else { (1, 3, 2) };
    let depth = match stacked {
        Some(index) => match infos[index].shape.first().copied().unwrap_or(0) {
            depth if depth <= MAX_DEPTH => depth,
            depth => {
                let place = format!("{origin}: {}", infos[index].name);
                return Err(Error::format(&place, format!("at most {MAX_DEPTH} blocks"), depth));
            }
        },
        None => {
            (0..).take_while(|i| find(&format!("Transformer/encoderblock_{i}/LayerNorm_0/scale")).is_some()).count()
        }
    };
    for i in 0..depth {
        let (block, layer) = match stacked {
            Some(_) => ("Transformer/encoderblock".to_owned(), Some(i)),
            None => (format!("Transformer/encoderblock_{i}"), None),
        };
        let heads = format!("{block}/MultiHeadDotProductAttention_{attention}");
        norm(&format!("blocks.{i}.norm1"), &format!("{block}/LayerNorm_0"), layer, &mut add)?;
        norm(&format!("blocks.{i}.norm2"), &format!("{block}/LayerNorm_{norm2}"), layer, &mut add)?;
        from_heads(&format!("blocks.{i}.attn.qkv"), &heads, &["query", "key", "value"], layer, &mut add)?;
        to_heads(&format!("blocks.{i}.attn.proj"), &heads, layer, &mut add)?;
        dense(&format!("blocks.{i}.mlp"), &format!("{block}/MlpBlock_{mlp}"), layer, &mut add)?;
    }

    let heads = "MAPHead_0/MultiHeadDotProductAttention_0";
    from_heads("attn_pool.q", heads, &["query"], None, &mut add)?;
    from_heads("attn_pool.kv", heads, &["key", "value"], None, &mut add)?;
    to_heads("attn_pool.proj", heads, None, &mut add)?;
    norm("attn_pool.norm", "MAPHead_0/LayerNorm_0", None, &mut add)?;
    dense("attn_pool.mlp", "MAPHead_0/MlpBlock_0", None, &mut add)?;

    for &(index, name) in inside.iter().filter(|(index, _)| !taken[*index]) {
        if name.starts_with("pre_logits/") {
            translation.left_out.push((index, "the representation layer, which timm's models leave out too".into()));
        } else if name.starts_with("opt/") {
            translation.left_out.push((index, "state of the optimiser".into()));
        } else if name.starts_with("params/txt/") || matches!(name, "params/t" | "params/b") {
            translation.left_out.push((index, "the text tower, which images do not need".into()));
        } else if infos[index].is_one_value() {
            translation.left_out.push((index, around::reason(name, &infos[index])));
        } else {
            translation.mapped.push(Mapped::whole(name.to_owned(), index, &infos[index]));
        }
    }
    Ok(())
}

/// Adds the tensor of a name, made of sources, where all of them are there.
type Add<'a> = dyn FnMut(String, &[(String, Turn)], Option<usize>) -> Result<()> + 'a;

/// A hybrid's convolutions, with the names that Big Transfer's files have. A ResNet without stages has no name of its own in timm.
fn stem(has: &impl Fn(&str) -> bool, add: &mut Add) -> Result<()> {
    let unit = |stage: usize, block: usize| format!("block{}/unit{}", stage + 1, block + 1);
    let blocks = |stage: usize| (0..).take_while(|&block| has(&format!("{}/conv1/kernel", unit(stage, block)))).count();
    let stages: Vec<usize> = (0..).map(blocks).take_while(|&blocks| blocks > 0).collect();
    let mut layer =
        |name: &str, [conv, norm]: [String; 2], source: &str, [from, from_norm]: [String; 2]| -> Result<()> {
            let name = format!("patch_embed.backbone.{name}");
            add(format!("{name}{conv}.weight"), &[(format!("{source}{from}/kernel"), Turn::ConvKernel)], None)?;
            add(format!("{name}{norm}.weight"), &[(format!("{source}{from_norm}/scale"), Turn::Flat)], None)?;
            add(format!("{name}{norm}.bias"), &[(format!("{source}{from_norm}/bias"), Turn::Flat)], None)
        };
    let pair = |conv: &str, norm: &str| [conv.to_owned(), norm.to_owned()];
    let first = if stages.is_empty() { "" } else { "stem." };
    layer(first, pair("conv", "norm"), "", pair("conv_root", "gn_root"))?;
    for (stage, &blocks) in stages.iter().enumerate() {
        for block in 0..blocks {
            let (name, source) = (format!("stages.{stage}.blocks.{block}."), format!("{}/", unit(stage, block)));
            layer(&name, pair("downsample.conv", "downsample.norm"), &source, pair("conv_proj", "gn_proj"))?;
            for i in 1..=3 {
                let [conv, norm, from_norm] = ["conv", "norm", "gn"].map(|kind| format!("{kind}{i}"));
                layer(&name, [conv.clone(), norm], &source, [conv, from_norm])?;
            }
        }
    }
    Ok(())
}

fn norm(name: &str, source: &str, layer: Option<usize>, add: &mut Add) -> Result<()> {
    add(format!("{name}.weight"), &[(format!("{source}/scale"), Turn::Same)], layer)?;
    add(format!("{name}.bias"), &[(format!("{source}/bias"), Turn::Same)], layer)
}

fn from_heads(name: &str, source: &str, parts: &[&str], layer: Option<usize>, add: &mut Add) -> Result<()> {
    let all = |kind: &str, turn| parts.iter().map(|part| (format!("{source}/{part}/{kind}"), turn)).collect::<Vec<_>>();
    add(format!("{name}.weight"), &all("kernel", Turn::FromHeads), layer)?;
    add(format!("{name}.bias"), &all("bias", Turn::Flat), layer)
}

fn to_heads(name: &str, source: &str, layer: Option<usize>, add: &mut Add) -> Result<()> {
    add(format!("{name}.weight"), &[(format!("{source}/out/kernel"), Turn::ToHeads)], layer)?;
    add(format!("{name}.bias"), &[(format!("{source}/out/bias"), Turn::Same)], layer)
}

fn dense(name: &str, source: &str, layer: Option<usize>, add: &mut Add) -> Result<()> {
    for r in 0..2 {
        add(format!("{name}.fc{}.weight", r + 1), &[(format!("{source}/Dense_{r}/kernel"), Turn::Transposed)], layer)?;
        add(format!("{name}.fc{}.bias", r + 1), &[(format!("{source}/Dense_{r}/bias"), Turn::Same)], layer)?;
    }
    Ok(())
}
