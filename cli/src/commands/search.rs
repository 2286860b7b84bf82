//! `tallow search`: the images of an embedded folder that are nearest to words, or to an image.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde::Serialize;
use tallow_weights::{Preprocessing, save};

use crate::error::{Result, usage};
use crate::file_name::check_written;
use crate::flags::{ArchitectureFlags, SearchArgs};
use crate::model;
use crate::session::Session;
use tallow::data::{self, Decoding, Draw, Image, Transform, open_image_as};
use tallow::inference::nearest;
use tallow::report::{SheetRow, contact_sheet};
use tallow::{Embedder, Features};

/// The side of an image on the sheet.
const SIDE: usize = 96;

/// What `tallow embed` wrote.
struct Embeddings {
    /// `[images, dim]`
    features: Tensor,
    labels: Option<Vec<i64>>,
    about: HashMap<String, String>,
    images: Vec<String>,
    classes: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Found<'a> {
    embeddings: &'a Path,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a Path>,
    results: Vec<Hit>,
    sheet: Option<&'a Path>,
}

#[derive(Serialize)]
struct Hit {
    /// Counts from 1.
    rank: usize,
    /// The row of the embeddings.
    index: usize,
    image: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// The cosine of the two vectors.
    similarity: f32,
}

pub fn run(args: &SearchArgs, session: &Session) -> Result {
    args.sheet.as_ref().map_or(Ok(()), |path| check_written("--sheet", path, "png"))?;
    let embeddings = Embeddings::read(&args.embeddings)?;
    let name = args.model.clone().or_else(|| embeddings.about.get("model").cloned());
    let name = name.with_context(|| {
        format!("{}: it does not say which model it is by; name it with --model", args.embeddings.display())
    })?;
    let query = match (&args.text, &args.image) {
        (Some(text), _) => by_words(args, text, &name, &embeddings, session)?,
        (None, Some(image)) => by_image(args, image, &name, &embeddings, session)?,
        (None, None) => return Err(usage("expected --text or an image to search by, got neither")),
    };
    let found = nearest(&embeddings.features, &query, args.topk).map_err(model::of_model)?;
    let results: Vec<Hit> = found.iter().enumerate().map(|(rank, hit)| embeddings.hit(rank, *hit)).collect();
    if let Some(path) = &args.sheet {
        save::write_bytes(path, &sheet(&results, &embeddings)?)?;
    }
    let told = Found {
        embeddings: &args.embeddings,
        model: &name,
        text: args.text.as_deref(),
        image: args.image.as_deref(),
        results,
        sheet: args.sheet.as_deref(),
    };
    session.result(&told, || {
        let line = |hit: &Hit| {
            let label = hit.label.as_ref().map_or(String::new(), |label| format!("  {label}"));
            format!("{:7.4}  {}{label}", hit.similarity, hit.image)
        };
        let mut lines: Vec<String> = told.results.iter().map(line).collect();
        lines.extend(told.sheet.map(|sheet| format!("sheet    {}", sheet.display())));
        lines.join("\n")
    })
}

/// The vector of a text.
fn by_words(args: &SearchArgs, text: &str, name: &str, embeddings: &Embeddings, session: &Session) -> Result<Tensor> {
    let encoder = model::text_encoder(name, None, &args.checkpoint, session)?;
    encoder.check_images().map_err(model::of_model)?;
    let (width, got) = (encoder.config().num_features(), embeddings.features.dim(1)?);
    if width != got {
        let features = embeddings.about.get("features").map_or("other", String::as_str);
        bail!(
            "{}: expected vectors of {width} values, as those of words have, got {features} features of {got}; embed the images again \
             with --features logits, which are projected to where words are",
            args.embeddings.display()
        );
    }
    Ok(encoder.embed(&[text]).map_err(model::of_model)?.squeeze(0)?)
}

/// The vector of an image, of the kind that the embeddings are of.
fn by_image(args: &SearchArgs, image: &Path, name: &str, embeddings: &Embeddings, session: &Session) -> Result<Tensor> {
    let loaded =
        model::open(name, &ArchitectureFlags::sized(embeddings.about.get("img_size")), &args.checkpoint, session)?;
    let features = match embeddings.about.get("features").map(String::as_str) {
        Some("logits") => Features::Logits,
        Some("pooled") | None => Features::Pooled,
        Some(other) => bail!("{}: expected one vector for every image, got {other}", args.embeddings.display()),
    };
    let embedder = Embedder::new(loaded).features(features).map_err(model::of_model)?;
    Ok(embedder.embed(image).map_err(model::of_model)?.squeeze(0)?)
}

impl Embeddings {
    fn read(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(place)?;
        let expected = || format!("{}: expected a file that tallow embed wrote", place());
        let (_, header) = SafeTensors::read_metadata(&bytes).with_context(expected)?;
        let about = header.metadata().clone().unwrap_or_default();
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).with_context(expected)?;
        let features = tensors
            .remove("features")
            .with_context(|| format!("{}, got one without the tensor features", expected()))?;
        if features.rank() != 2 || features.dim(0)? == 0 {
            bail!(
                "{}: expected one vector for every image (--features pooled or logits), got features of shape {:?}",
                place(),
                features.dims()
            );
        }
        let list = |key: &str| about.get(key).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
        let images = list("images").unwrap_or_else(|| (0..features.dims()[0]).map(|index| index.to_string()).collect());
        let labels = tensors.remove("labels").map(|labels| labels.to_dtype(DType::I64)?.to_vec1()).transpose()?;
        Ok(Self { classes: list("classes"), features: features.to_dtype(DType::F32)?, labels, images, about })
    }

    fn hit(&self, rank: usize, (index, similarity): (usize, f32)) -> Hit {
        let label = self.labels.as_ref().and_then(|labels| usize::try_from(*labels.get(index)?).ok());
        let label = label.and_then(|label| self.classes.as_ref()?.get(label).cloned());
        let image = self.images.get(index).cloned().unwrap_or_else(|| index.to_string());
        Hit { rank: rank + 1, index, image, label, similarity }
    }

    /// The image of a row: a file of its name, or the sample of that name in the data set that was embedded.
    fn image(&self, name: &str, opened: &mut Option<data::Dataset>) -> Result<Image> {
        let path = PathBuf::from(name);
        if path.is_file() {
            return Ok(open_image_as(&path, Decoding::default())?);
        }
        let spec = self
            .about
            .get("data")
            .with_context(|| format!("{name}: no such file; the sheet needs the images where they were"))?;
        if opened.is_none() {
            let options = data::DataOptions::default().with(|o| {
                o.whole = true;
                o.train_split = self.about.get("train_split").cloned();
                o.test_split = self.about.get("test_split").cloned();
            });
            *opened = Some(data::open_with(spec, &options, &tallow_weights::OpenOptions::default())?);
        }
        let dataset = opened.as_ref().context("a data set")?;
        let parts = [&dataset.test, &dataset.train];
        let found =
            parts.iter().find_map(|part| Some((part, (0..part.len()).find(|&index| part.name(index) == name)?)));
        let (part, index) = found.with_context(|| format!("{spec}: no image is called {name} any more"))?;
        Ok(part.image(index)?)
    }
}

/// The images that were found, row by row.
fn sheet(results: &[Hit], embeddings: &Embeddings) -> Result<Vec<u8>> {
    let columns = (1..=results.len()).find(|side| side * side >= results.len()).unwrap_or(1);
    let squares = Preprocessing::new([3, SIDE, SIDE], vec![0.; 3], vec![1.; 3]);
    let transform = Transform::evaluation(&squares)?;
    let mut opened = None;
    let mut rows = Vec::new();
    for row in results.chunks(columns) {
        let mut images = Vec::new();
        for hit in row {
            let image = embeddings.image(&hit.image, &mut opened)?;
            images.push(transform.picture(&transform.tensor(&image, Draw { seed: 0, epoch: 0, index: 0 })?)?);
        }
        rows.push(SheetRow { label: format!("{}", row[0].rank), images });
    }
    let titles: Vec<String> = (1..=columns).map(|column| format!("+{}", column - 1)).collect();
    Ok(contact_sheet(&titles, &rows)?)
}
