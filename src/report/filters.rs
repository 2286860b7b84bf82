//! The filters of a model's first layer as small images: a convolution's kernels, or a ViT's patch embedding.

use candle_core::{DType, Tensor};
use maud::html;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tallow_models::Architecture;
use tallow_weights::{OpenOptions, Source};

use super::error::{Error, Result};
use super::figure::Figure;
use super::heatmap::Colours;
use super::raster::{Enlarged, raster};
use super::text::shortened;
use crate::data::Image;
use crate::train::RunFolder;

/// Filters that are all shown; of more, the principal components are.
const FEW: usize = 64;
/// Principal components that are shown: as many as in Dosovitskiy et al. 2020, figure 7.
const COMPONENTS: usize = 28;

/// What a reader of a report should know of them.
const COMPONENTS_CAPTION: &str = "What the filters of the chosen checkpoint have in common, most of it first.";

const WIDTH: f64 = 440.;
const LEFT: f64 = 12.;
const TOP: f64 = 64.;
const GAP: f64 = 6.;
/// What a colour bar takes on the right.
const BAR: f64 = 72.;

/// The name of the first layer's weight, `[filters, channels, height, width]`, and how many of its channels are the image's
/// own; or why there is none to show.
///
/// # Errors
/// What was expected and got, where the model has no filters that can be seen.
pub fn first_layer(architecture: &Architecture) -> std::result::Result<(&'static str, usize), String> {
    let Some((name, channels)) = architecture.filters() else {
        return Err("expected a model whose first layer has filters, as a CNN or a ViT has, got one without".into());
    };
    match channels {
        1 | 3 => Ok((name, channels)),
        // Alpha has no colour.
        4 => Ok((name, 3)),
        _ => Err(format!("expected filters on 1 or 3 channels, which can be seen, got {channels}")),
    }
}

/// The filters of a first layer's `weight [filters, channels, height, width]` as a picture: all of them, in colours where there
/// are three channels, or of more than 64 the first 28 principal components.
///
/// # Errors
/// If the weight has another number of dimensions or of channels, or values that are not finite.
pub fn filters(model: &str, weight: &Tensor, channels: usize) -> candle_core::Result<String> {
    let (count, all_channels, height, width) = weight.dims4()?;
    if channels != 1 && channels != 3 || channels > all_channels {
        candle_core::bail!("filters: expected 1 or 3 channels of {all_channels}, got: {channels}")
    }
    // Shifted patch tokenisation puts the image itself before its shifts.
    let own = weight.narrow(1, 0, channels)?.to_dtype(DType::F64)?.contiguous()?;
    let size = channels * height * width;
    let values = own.reshape((count, size))?;
    if values.abs()?.sum_all()?.to_scalar::<f64>()?.is_finite() {
        let (what, tiles) = if count <= FEW {
            (format!("the {count} filters of the first layer"), values.to_vec2()?)
        } else {
            let components = principal_components(&values, COMPONENTS.min(size))?;
            (format!("first {} principal components of {count} filters", components.len()), components)
        };
        return Ok(draw(model, &what, &tiles, [channels, height, width]));
    }
    candle_core::bail!("filters: expected finite weights, got others")
}

/// Draws the filters of a finished run's chosen checkpoint into its folder, as `figures/filters` in SVG and PNG. Models whose
/// first layer has no filters, and runs without a checkpoint, get no picture.
///
/// # Errors
/// If the checkpoint cannot be read, or the picture not be written.
pub fn draw_filters(run: &RunFolder) -> Result<()> {
    let best = run.best_path();
    if !best.is_dir() {
        return Ok(());
    }
    let damaged = |got: String| Error::Damaged { path: best.clone(), expected: "the run's weights".into(), got };
    let checkpoint = tallow_weights::open(&Source::Folder(best.clone()), &OpenOptions::default())
        .map_err(|error| damaged(error.to_string()))?;
    let layer = checkpoint.config().map(|config| first_layer(&config.architecture));
    let Some(Ok((name, channels))) = layer else { return Ok(()) };
    let weight = checkpoint.tensor(name).map_err(|error| damaged(error.to_string()))?;
    let svg = filters(&run.name(), &weight, channels).map_err(|error| damaged(error.to_string()))?;
    let few = weight.dim(0).is_ok_and(|count| count <= FEW);
    let (title, caption) = match (name, few) {
        ("conv1.weight", true) => ("Filters of the first convolution", "Each is a kernel of the chosen checkpoint."),
        ("conv1.weight", false) => ("Principal components of the first convolution's filters", COMPONENTS_CAPTION),
        (_, true) => ("Filters of the patch embedding", "Each is what one value of a patch's embedding is made with."),
        (_, false) => ("Principal components of the patch embedding's filters", COMPONENTS_CAPTION),
    };
    Figure { stem: "filters".into(), title: title.into(), caption: caption.into(), svg }.write(run.root())
}

fn draw(model: &str, what: &str, tiles: &[Vec<f64>], [channels, height, width]: [usize; 3]) -> String {
    let largest = tiles.iter().flatten().fold(0f64, |largest, value| largest.max(value.abs()));
    let largest = if largest > 0. { largest } else { 1. };
    let colours = Colours::Signed(largest);
    let columns = match tiles.len() {
        0..=16 => 4,
        28 => 7,
        _ => 8,
    };
    let room = WIDTH - 2. * LEFT - if channels == 1 { BAR } else { 0. };
    let side = ((room + GAP) / columns as f64 - GAP).floor();
    let lines = tiles.len().div_ceil(columns);
    let bottom = TOP + lines as f64 * (side + GAP) - GAP;
    let note = match channels {
        1 => format!("{height}×{width} weights each"),
        _ => format!("{height}×{width} weights as red, green, blue: grey 0, black −{largest:.3}, full {largest:.3}"),
    };
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure" viewBox={ "0 0 " (WIDTH) " " (bottom + 12.) } role="img"
            aria-label={ (model) ": " (what) } width=(2. * WIDTH)
            font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" {
            rect width=(WIDTH) height=(bottom + 12.) fill="#ffffff" {}
            text x=(LEFT) y="20" font-size="14" font-weight="600" fill="#222222" { (shortened(model, 52)) }
            text x=(LEFT) y="37" fill="#444444" { (what) }
            text x=(LEFT) y="53" fill="#444444" { (note) }
            @for (i, tile) in tiles.iter().enumerate() {
                @let (x, y) = ((i % columns) as f64, (i / columns) as f64);
                @let place = [LEFT + x * (side + GAP), TOP + y * (side + GAP), side, side];
                (raster(&picture(tile, [channels, height, width], colours, largest), place, Enlarged::Pixelated))
                rect x=(place[0]) y=(place[1]) width=(side) height=(side) fill="none" stroke="#bbbbbb" stroke-width="0.5" {}
            }
            @if channels == 1 {
                (colours.bar("weight", [WIDTH - BAR, TOP + 16., 14., (bottom - TOP - 16.).min(200.)]))
            }
        }
    }
    .into_string()
}

/// One filter `[channels, height, width]`: its three channels as red, green and blue around grey, or one channel by `colours`.
fn picture(filter: &[f64], [channels, height, width]: [usize; 3], colours: Colours, largest: f64) -> Image {
    if channels == 1 {
        return colours.paint(filter, width);
    }
    let scale = 127.5 / largest;
    let plane = height * width;
    let level = |at: usize| (127.5 + scale * filter[at]).round() as u8;
    let pixels = (0..plane).flat_map(|at| [0, 1, 2].map(|channel| level(channel * plane + at))).collect();
    Image { width, height, channels, pixels }
}

/// The first `count` principal components of the rows of `values [rows, size]` in float64, longest first, of length 1 each;
/// the value that is largest in size is positive.
///
/// By orthogonal iteration: a basis is multiplied by the covariance and made orthogonal again, over and over; in the space that it
/// then spans, the components are found exactly (Rayleigh and Ritz).
fn principal_components(values: &Tensor, count: usize) -> candle_core::Result<Vec<Vec<f64>>> {
    /// Directions beside the wanted ones: the nearer the last wanted one is to what is left out, the slower it is found.
    const SPARE: usize = 32;
    const ITERATIONS: usize = 100;
    let (rows, size) = values.dims2()?;
    let count = count.min(rows).min(size);
    let width = (count + SPARE).min(size);
    let centred = values.broadcast_sub(&values.mean_keepdim(0)?)?;
    let transposed = centred.t()?.contiguous()?;
    let projected =
        |basis: &[Vec<f64>]| centred.matmul(&Tensor::new(basis.to_vec(), centred.device())?.t()?.contiguous()?);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut basis: Vec<Vec<f64>> =
        (0..width).map(|_| (0..size).map(|_| rng.random_range(-1f64..1.)).collect()).collect();
    make_orthonormal(&mut basis);
    for _ in 0..ITERATIONS {
        basis = transposed.matmul(&projected(&basis)?)?.t()?.to_vec2()?;
        make_orthonormal(&mut basis);
    }
    let projected = projected(&basis)?;
    let covariance = projected.t()?.contiguous()?.matmul(&projected)?.to_vec2()?;
    let component = |mix: Vec<f64>| {
        let mut component = vec![0.; size];
        for (share, direction) in mix.iter().zip(&basis) {
            component.iter_mut().zip(direction).for_each(|(value, along)| *value += share * along);
        }
        let peak = component.iter().fold(0f64, |peak, &value| if value.abs() > peak.abs() { value } else { peak });
        component.iter_mut().for_each(|value| *value *= if peak < 0. { -1. } else { 1. });
        component
    };
    Ok(eigenvectors(covariance).into_iter().take(count).map(component).collect())
}

/// The eigenvectors of a symmetric matrix, that of the largest eigenvalue first, by Jacobi's rotations.
fn eigenvectors(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    /// Each leaves about the square of what was beside the diagonal.
    const SWEEPS: usize = 30;
    let size = matrix.len();
    let unit = |i: usize| (0..size).map(|j| if i == j { 1. } else { 0. }).collect();
    let mut vectors: Vec<Vec<f64>> = (0..size).map(unit).collect();
    for (p, q) in (0..SWEEPS).flat_map(|_| (0..size).flat_map(|q| (0..q).map(move |p| (p, q)))) {
        let beside = matrix[p][q];
        if beside.abs() <= f64::EPSILON * (matrix[p][p] * matrix[q][q]).abs().sqrt() {
            continue;
        }
        let angle = (matrix[q][q] - matrix[p][p]) / (2. * beside);
        let tangent = angle.signum() / (angle.abs() + angle.hypot(1.));
        let cosine = 1. / tangent.hypot(1.);
        let turn = |(x, y): (&mut f64, &mut f64)| {
            (*x, *y) = (cosine * (*x - tangent * *y), cosine * (tangent * *x + *y));
        };
        for row in &mut matrix {
            let (before, rest) = row.split_at_mut(q);
            turn((&mut before[p], &mut rest[0]));
        }
        for rows in [&mut matrix, &mut vectors] {
            let (before, rest) = rows.split_at_mut(q);
            before[p].iter_mut().zip(&mut rest[0]).for_each(turn);
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|&a, &b| matrix[b][b].total_cmp(&matrix[a][a]));
    order.into_iter().map(|i| std::mem::take(&mut vectors[i])).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram and Schmidt's way, twice for rounding's sake. A direction that the others hold already becomes zeros.
fn make_orthonormal(basis: &mut [Vec<f64>]) {
    for i in 0..basis.len() {
        let (before, rest) = basis.split_at_mut(i);
        let own = &mut rest[0];
        let start = dot(own, own).sqrt();
        for _ in 0..2 {
            for other in before.iter() {
                let along = dot(own, other);
                own.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
            }
        }
        let length = dot(own, own).sqrt();
        let scale = if length > 1e-12 * start && length > 0. { 1. / length } else { 0. };
        own.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: &[f64], rows: usize) -> Tensor {
        Tensor::from_slice(values, (rows, values.len() / rows), &Device::Cpu).unwrap()
    }

    #[test]
    fn principal_components_are_numpys() {
        // numpy.linalg.svd of the centred rows, signs turned so that the largest value is positive.
        let values: Vec<f64> = (0..40).map(|i| ((i * i % 17) as f64).sin() * (1 + i % 5) as f64).collect();
        let expected = [
            [0.14173659, -0.19953171, 0.45444539, -0.23678161, 0.82311098],
            [-0.07344567, -0.10045722, 0.06279265, 0.96300137, 0.23065021],
            [0.01463182, 0.39518942, 0.84504838, 0.07170352, -0.35265149],
        ];
        let got = principal_components(&tensor(&values, 8), 3).unwrap();
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?}, {expected:?}");
        }
        assert_eq!(principal_components(&tensor(&[1., 2., 3., 4.], 2), 9).unwrap().len(), 2, "no more than there are");
    }

    #[test]
    fn filters_of_three_channels_are_colours_around_grey() {
        // One pixel: red full, green 0, blue black.
        let image = picture(&[2., 0., -2.], [3, 1, 1], Colours::Signed(2.), 2.);
        assert_eq!(image.pixels, [255, 128, 0]);
        let image = picture(&[1., -1., 0.5, 2.], [1, 2, 2], Colours::Signed(2.), 2.);
        assert_eq!((image.width, image.height, image.channels), (2, 2, 3));
        assert_eq!(image.pixels[9..], Colours::Signed(2.).of(2.));
    }

    #[test]
    fn few_filters_are_all_drawn_and_many_by_their_components() {
        let drawn = |shape: (usize, usize, usize, usize), channels| {
            let weight = Tensor::randn(0f32, 1., shape, &Device::Cpu).unwrap();
            filters("model", &weight, channels).unwrap().matches("<image").count()
        };
        assert_eq!(drawn((32, 3, 5, 5), 3), 32);
        assert_eq!(drawn((64, 1, 7, 7), 1), 64 + 1, "and a colour bar");
        assert_eq!(drawn((70, 3, 4, 4), 3), 28);
        assert_eq!(drawn((70, 15, 4, 4), 3), 28, "the image itself, without its shifts");
        assert_eq!(drawn((70, 1, 2, 2), 1), 4 + 1, "there are no more");
        let nan = Tensor::new(&[[[[f32::NAN]]]], &Device::Cpu).unwrap();
        assert!(filters("model", &nan, 1).is_err() && filters("model", &nan, 3).is_err());
    }
}
