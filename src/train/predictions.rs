//! `predictions.json`: what the chosen checkpoint says of every test sample, and pictures of where it was wrong and right.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use super::error::{Error, Result};
use super::evaluate::Evaluation;
use super::run_folder::{Answer, Predictions};
use crate::data::{Image, Samples};

/// Mistakes that are shown.
const MISTAKES: usize = 16;
/// Right answers that are shown.
const RIGHT: usize = 12;
/// The longer side of a thumbnail in pixels: as reports show it.
const THUMBNAIL: u32 = 96;
/// Up to this side a picture is kept pixel by pixel; a larger one is a photograph, and a JPEG will do.
const PIXELATED: u32 = 64;
/// Of JPEG: a thumbnail of a photograph has about 3 kB.
const QUALITY: u8 = 82;

/// The predictions of an evaluation of `samples`.
///
/// # Errors
/// If the picture of an answer that is shown cannot be read.
pub fn predictions(evaluation: &Evaluation, samples: &dyn Samples) -> Result<Predictions> {
    let Evaluation { labels, predicted, confidence, .. } = evaluation;
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| confidence[b].total_cmp(&confidence[a]));
    let (right, mut wrong): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|&i| labels[i] == predicted[i]);
    wrong.truncate(MISTAKES);
    let answer = |index: usize| -> Result<Answer> {
        // Points in the plane have no picture.
        let picture = if samples.point(index).is_some() { String::new() } else { thumbnail(samples, index)? };
        Ok(Answer {
            index,
            name: samples.name(index),
            label: labels[index],
            predicted: predicted[index],
            confidence: confidence[index],
            picture,
        })
    };
    Ok(Predictions {
        labels: labels.clone(),
        predicted: predicted.clone(),
        confidence: confidence.clone(),
        mistakes: wrong.into_iter().map(answer).collect::<Result<_>>()?,
        right: in_turn(&right, labels).into_iter().map(answer).collect::<Result<_>>()?,
    })
}

/// The first of every class, then the second of every class, and so on, up to [`RIGHT`].
fn in_turn(order: &[usize], labels: &[u32]) -> Vec<usize> {
    let mut seen = std::collections::HashMap::new();
    let mut rounds: Vec<(usize, u32, usize)> = order
        .iter()
        .map(|&index| {
            let round = seen.entry(labels[index]).or_insert(0);
            *round += 1;
            (*round, labels[index], index)
        })
        .collect();
    rounds.sort_by_key(|&(round, label, _)| (round, label));
    rounds.into_iter().take(RIGHT).map(|(.., index)| index).collect()
}

/// Sample `index` in base64, made smaller where it is large.
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
    let mut file = Cursor::new(Vec::new());
    let written = match w.max(h) <= PIXELATED {
        true => image.write_to(&mut file, ImageFormat::Png),
        false => image.write_with_encoder(JpegEncoder::new_with_quality(&mut file, QUALITY)),
    };
    written.map_err(|error| bad(error.to_string()))?;
    Ok(STANDARD.encode(file.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, which compresses worst.
    struct Photos;

    impl Samples for Photos {
        fn len(&self) -> usize {
            2
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn image(&self, index: usize) -> crate::data::Result<Image> {
            let side = [64, 500][index];
            let pixels = (0..side * side * 3_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            Ok(Image { width: side as usize, height: side as usize, channels: 3, pixels })
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
    }

    #[test]
    fn a_photograph_is_kept_as_a_jpeg_of_the_size_it_is_shown_at_and_what_is_small_pixel_by_pixel() {
        let decoded = |index| {
            let bytes = STANDARD.decode(thumbnail(&Photos, index).unwrap()).unwrap();
            assert!(bytes.len() < 16_000, "{} bytes", bytes.len());
            (image::guess_format(&bytes).unwrap(), image::load_from_memory(&bytes).unwrap().to_rgb8())
        };
        let (format, small) = decoded(0);
        assert_eq!(format, ImageFormat::Png);
        assert_eq!(small.into_raw(), Photos.image(0).unwrap().pixels);
        let (format, large) = decoded(1);
        assert_eq!((format, large.dimensions()), (ImageFormat::Jpeg, (96, 96)));
    }

    #[test]
    fn right_answers_come_from_every_class_in_turn_the_surest_first() {
        let labels = [0, 0, 1, 0, 2, 1];
        assert_eq!(in_turn(&[3, 5, 0, 4, 1, 2], &labels), [3, 5, 4, 0, 2, 1]);
    }
}
