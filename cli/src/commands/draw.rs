//! `tallow draw`: position encodings and first-layer filters as pictures.

use std::path::Path;

use candle_core::{D, DType, Tensor};
use serde::Serialize;
use tallow_models::vit::{PosEmbed, RopeType, sinusoidal};
use tallow_models::{Architecture, VitConfig};

use crate::error::{Result, usage};
use crate::flags::{DrawArgs, Drawing, FiltersArgs, PositionsArgs};
use crate::model;
use crate::session::Session;
use tallow::{Pretrained, report};

#[derive(Serialize)]
struct Drawn<'a> {
    what: &'static str,
    model: Option<&'a str>,
    /// The picture, without its endings.
    out: &'a Path,
}

pub fn run(args: &DrawArgs, session: &Session) -> Result {
    let (svg, drawn) = match &args.what {
        Drawing::Positions(args) => {
            let drawn = Drawn { what: "positions", model: args.model.as_deref(), out: &args.out };
            (positions(args, session)?, drawn)
        }
        Drawing::Filters(args) => {
            (filters(args, session)?, Drawn { what: "filters", model: Some(&args.model), out: &args.out })
        }
    };
    report::write_figure(drawn.out, &svg)?;
    session.result(&drawn, || {
        let out = drawn.out.display();
        if cfg!(feature = "png") { format!("{out}.svg\n{out}.png") } else { format!("{out}.svg") }
    })
}

fn positions(args: &PositionsArgs, session: &Session) -> Result<String> {
    let Some(name) = &args.model else {
        let weights = &args.checkpoint;
        let of_weights = weights.arch.is_some() || weights.checkpoint_key.is_some() || weights.ignore_unknown.is_some();
        if of_weights || !args.architecture.overrides().is_empty() {
            return Err(usage(
                "options of a model: expected a MODEL before them, got none, as positions of --len and --dim are drawn",
            ));
        }
        let values = sinusoidal(args.len, args.dim)?.flatten_all()?.to_vec1::<f32>()?;
        let subtitle = format!("{} positions, {} dimensions", args.len, args.dim);
        return Ok(report::position_table("Sinusoidal position encodings", &subtitle, &values, args.dim));
    };
    let options = model::open_options(name, &args.architecture, &args.checkpoint, session)?;
    let architecture = model::architecture(name, &args.architecture, &options)?;
    let Architecture::Vit(vit) = &architecture else {
        return Err(usage(format!("{name}: expected a ViT, got a model without position embeddings")));
    };
    let (kind, table) = match vit.pos_embed {
        PosEmbed::Sinusoidal => ("Sinusoidal positions", sinusoidal(vit.num_positions(), vit.embed_dim)?),
        PosEmbed::Learned => ("Learned positions", learned(args, name, session)?),
        _ => {
            let got = match vit.rope_type {
                _ if vit.has_relative_positions() => {
                    "biases of attention by how patches lie to each other (relative positions)"
                }
                RopeType::None => "none",
                _ => "rotations of queries and keys (RoPE)",
            };
            let remedy = "choose a model with pos_embed learned or sinusoidal";
            return Err(usage(format!("{name}: expected position embeddings, got {got}; {remedy}")));
        }
    };
    let values = of_patches(&table, vit)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(report::position_similarity(&format!("{kind}: {name}"), &values, vit.grid_size(), vit.embed_dim))
}

/// The position embeddings `[positions, dim]` of a model with its weights.
fn learned(args: &PositionsArgs, name: &str, session: &Session) -> Result<Tensor> {
    let loaded = model::open(name, &args.architecture, &args.checkpoint, session)?;
    model::say_account(&loaded, session);
    Ok(parameter(&loaded, "pos_embed")?.squeeze(0)?)
}

/// Those of the positions `[positions, dim]` that belong to patches.
fn of_patches(table: &Tensor, vit: &VitConfig) -> candle_core::Result<Tensor> {
    let patches = vit.num_patches();
    table.narrow(D::Minus2, table.dim(D::Minus2)? - patches, patches)?.contiguous()
}

fn filters(args: &FiltersArgs, session: &Session) -> Result<String> {
    let loaded = model::open(&args.model, &args.architecture, &args.checkpoint, session)?;
    model::say_account(&loaded, session);
    let (name, channels) = report::first_layer(&loaded.config().architecture)
        .map_err(|complaint| usage(format!("{}: {complaint}", args.model)))?;
    Ok(report::filters(&args.model, &parameter(&loaded, name)?, channels)?)
}

/// A parameter's value on the CPU in float32.
fn parameter(loaded: &Pretrained, name: &str) -> Result<Tensor> {
    let param = loaded.params().get(name).ok_or(tallow_models::Error::UnknownParameter { name: name.into() })?;
    Ok(param.var.as_detached_tensor().to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F32)?)
}
