//! `predictions.json`: what the chosen checkpoint says of every test sample, and its most confident mistakes as pictures.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use super::error::{Error, Result};
use super::evaluate::Evaluation;
use super::run_folder::{Mistake, Predictions};
use crate::data::{Image, Samples};

/// Mistakes that are shown.
const MISTAKES: usize = 16;
/// The longer side of a thumbnail in pixels.
const THUMBNAIL: u32 = 96;

/// The predictions of an evaluation of `samples`.
///
/// # Errors
/// If the picture of a mistake cannot be read.
pub fn predictions(evaluation: &Evaluation, samples: &dyn Samples) -> Result<Predictions> {
    let Evaluation { labels, predicted, confidence, .. } = evaluation;
    let mut wrong: Vec<usize> = (0..labels.len()).filter(|&index| labels[index] != predicted[index]).collect();
    wrong.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]));
    wrong.truncate(MISTAKES);
    let mistake = |index: usize| -> Result<Mistake> {
        // Points in the plane have no picture.
        let png = if samples.point(index).is_some() { String::new() } else { thumbnail(samples, index)? };
        Ok(Mistake {
            index,
            name: samples.name(index),
            label: labels[index],
            predicted: predicted[index],
            confidence: confidence[index],
            png,
        })
    };
    Ok(Predictions {
        labels: labels.clone(),
        predicted: predicted.clone(),
        confidence: confidence.clone(),
        mistakes: wrong.into_iter().map(mistake).collect::<Result<_>>()?,
    })
}

/// Sample `index` as a PNG in base64, made smaller where it is large.
fn thumbnail(samples: &dyn Samples, index: usize) -> Result<String> {
    let bad = |got: String| Error::invalid(samples.name(index), "an image that a thumbnail can be made of", got);
    let Image { width, height, channels, pixels } = samples.image(index)?;
    let (w, h) = (width as u32, height as u32);
    let image = match channels {
        1 => GrayImage::from_raw(w, h, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(w, h, pixels).map(DynamicImage::from),
    };
    let mut image = image.ok_or_else(|| bad(format!("{width}×{height} pixels in {channels} channels")))?;
    if w.max(h) > THUMBNAIL {
        image = image.resize(THUMBNAIL, THUMBNAIL, FilterType::Triangle);
    }
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).map_err(|error| bad(error.to_string()))?;
    Ok(STANDARD.encode(png.into_inner()))
}
