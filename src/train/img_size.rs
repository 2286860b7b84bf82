//! When another image size is suggested, which one, and what it would cost.

use tallow_models::{Architecture, ImgSize};
use tallow_weights::Account;
use tallow_weights::account::Parameter;

use super::setup::Setup;

/// The side in pixels that most models are trained at.
const USUAL: f64 = 224.;

/// Patches a side for each of those that positions were trained at, or the other way round, from which on they are far from them:
/// 224 pixels are near enough to DINOv2's 518.
const FAR: f64 = 2.5;

/// An epoch of more seconds is long, and so is a run.
const LONG: f64 = 3600.;

/// What there is to say of the run's image size, where an epoch takes about `epoch` seconds, and the run `all`.
pub(super) fn hints(setup: &Setup, epoch: f64, all: f64) -> Vec<String> {
    let architecture = &setup.checkpoint.architecture;
    let trained = setup.account.as_ref().and_then(trained_patches);
    let far = far(architecture, trained, epoch, || native_side(setup));
    let on_cpu = setup.params.device().is_cpu();
    match far {
        Some(hint) => vec![hint],
        None if epoch > LONG && on_cpu => vec![of_long_epoch(setup, trained)],
        // Few images at a large size: many short epochs.
        None if all > LONG && on_cpu => {
            let faster = faster_size(setup, trained).map(|faster| format!("the run takes over an hour: {faster}"));
            faster.into_iter().collect()
        }
        None => vec![],
    }
}

/// Patches a side that the position embeddings of a checkpoint were trained at, where they were resampled.
fn trained_patches(account: &Account) -> Option<f64> {
    let parameter = account.parameters.iter().find(|parameter| parameter.name == "pos_embed")?;
    let Parameter::Filled { from } = &parameter.fate else { return None };
    let tensor = account.tensors.iter().find(|tensor| Some(&tensor.name) == from.first())?;
    let count = match tensor.shape[..] {
        [count, _] | [1, count, _] if tensor.shape != parameter.shape => count,
        _ => return None,
    };
    // A class token and registers make less of a difference than a row of patches.
    Some((count as f64).sqrt().floor()).filter(|side| *side >= 1.)
}

/// The shorter side in pixels of the images themselves, by the first of them.
fn native_side(setup: &Setup) -> Option<f64> {
    let train = &setup.dataset.train;
    let [height, width] = match train.image_size() {
        Some([height, width, _]) => [height, width],
        None => train.image(0).ok().map(|image| [image.height, image.width])?,
    };
    Some(height.min(width) as f64)
}

/// Positions far from those that were trained, where a size that is nearer has something to show and can be afforded.
fn far(
    architecture: &Architecture,
    trained: Option<f64>,
    epoch: f64,
    native: impl FnOnce() -> Option<f64>,
) -> Option<String> {
    let (Architecture::Vit(vit), Some(trained)) = (architecture, trained) else { return None };
    let here = (vit.num_patches() as f64).sqrt();
    let patches = |architecture: &Architecture| match architecture {
        Architecture::Vit(vit) => times(vit.grid_size()),
        _ => String::new(),
    };
    let side = here * vit.patch_pixels() as f64;
    if here > FAR * trained {
        let smaller = scaled(architecture, trained / here)?;
        return Some(format!(
            "positions were trained on {} patches and are stretched to {}: `img_size = {}` is what they know, and about {} times as \
             fast",
            patches(&smaller),
            patches(architecture),
            size(&smaller),
            ratio(architecture, &smaller)
        ));
    }
    if trained <= FAR * here {
        return None;
    }
    // Images that are smaller than the input have no more to show at a larger size.
    let native = native().filter(|native| *native > side)?;
    let near = (USUAL / vit.patch_pixels() as f64).max((trained / FAR).ceil()).min(trained);
    let near = near.min((native / vit.patch_pixels() as f64).floor());
    let larger = scaled(architecture, near / here)?;
    let longer = larger.flops() as f64 / architecture.flops() as f64;
    (longer > 1. && epoch * longer <= LONG).then(|| {
        format!(
            "positions were trained on {trained}×{trained} patches and are shrunk to {}: `img_size = {}` keeps {}, and takes about {} \
             times as long",
            patches(architecture),
            size(&larger),
            patches(&larger),
            ratio(&larger, architecture)
        )
    })
}

/// An epoch that takes long.
fn of_long_epoch(setup: &Setup, trained: Option<f64>) -> String {
    let remedy = faster_size(setup, trained).unwrap_or_else(|| match setup.account {
        Some(_) if setup.config.model.freeze.is_none() => {
            "`freeze = backbone` passes every image through the model once".into()
        }
        _ => "`limit` takes fewer images".into(),
    });
    format!("an epoch takes over an hour: {remedy}")
}

/// A smaller size that would do, and how much faster it is.
fn faster_size(setup: &Setup, trained: Option<f64>) -> Option<String> {
    let architecture = &setup.checkpoint.architecture;
    let smaller = smaller(architecture, trained, setup.account.is_some())?;
    Some(format!("`img_size = {}` is about {} times as fast", size(&smaller), ratio(architecture, &smaller)))
}

/// A size that is much faster and serves as well, or for a model from scratch nearly so.
fn smaller(architecture: &Architecture, trained: Option<f64>, pretrained: bool) -> Option<Architecture> {
    let [_, height, width] = architecture.input_size();
    let side = ((height * width) as f64).sqrt();
    let mut target = if side > 1.25 * USUAL { USUAL } else { side / 2. };
    if let (Architecture::Vit(vit), Some(trained)) = (architecture, trained) {
        target = target.max((trained / FAR).ceil() * vit.patch_pixels() as f64);
    }
    // Pretrained weights know their size, and little of images of half of it.
    let sensible = target < 0.8 * side && target >= 32. && (target >= USUAL || !pretrained);
    if sensible { scaled(architecture, target / side) } else { None }
}

/// The architecture at another size, in whole patches.
fn scaled(architecture: &Architecture, factor: f64) -> Option<Architecture> {
    let step = match architecture {
        Architecture::Vit(vit) => vit.patch_pixels() as f64,
        _ => 1.,
    };
    let [_, height, width] = architecture.input_size();
    let side = |side: usize| ((side as f64 * factor / step).round().max(1.) * step) as usize;
    let other = architecture.clone().with_img_size([side(height), side(width)]);
    (other.input_size() != architecture.input_size() && other.validate().is_ok()).then_some(other)
}

/// As the option `img_size` takes it.
fn size(architecture: &Architecture) -> ImgSize {
    let [_, height, width] = architecture.input_size();
    ImgSize::from([height, width])
}

fn times([height, width]: [usize; 2]) -> String {
    format!("{height}×{width}")
}

/// How many times as much `more` computes.
fn ratio(more: &Architecture, less: &Architecture) -> String {
    match more.flops() as f64 / less.flops() as f64 {
        ratio if ratio < 2.95 => format!("{ratio:.1}"),
        ratio => format!("{ratio:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use tallow_models::zoo;

    use super::*;

    fn at(name: &str, side: usize) -> Architecture {
        zoo::find(name).unwrap().architecture.with_img_size(side)
    }

    #[test]
    fn digits_photos_and_models_near_their_own_size_bring_no_hint() {
        let dino = |side| at("vit_small_patch14_dinov2", side);
        let native = |side: f64| move || Some(side);
        assert_eq!(far(&dino(56), Some(37.), 60., native(28.)), None, "pixels that are not there");
        assert_eq!(far(&dino(224), Some(37.), 60., native(500.)), None, "the usual size");
        assert_eq!(far(&dino(518), None, 60., native(500.)), None, "its own");
        assert_eq!(far(&dino(56), Some(37.), 1000., native(500.)), None, "too slow to be a suggestion");
        assert_eq!(far(&at("vit_small_patch16_224", 112), Some(14.), 60., native(500.)), None);
    }

    #[test]
    fn far_positions_bring_a_size_that_fits_the_patches_and_its_price() {
        let dino = at("vit_small_patch14_dinov2", 56);
        let hint = far(&dino, Some(37.), 60., || Some(500.)).unwrap();
        assert!(
            hint.contains("37×37") && hint.contains("4×4") && hint.contains("`img_size = 224` keeps 16×16"),
            "{hint}"
        );
        let longer = dino.clone().with_img_size(224).flops() as f64 / dino.flops() as f64;
        assert!(hint.ends_with(&format!("about {longer:.0} times as long")), "{hint}");
        let large = far(&at("vit_small_patch16_224", 640), Some(14.), 60., || None).unwrap();
        assert!(large.contains("14×14") && large.contains("40×40") && large.contains("`img_size = 224` is"), "{large}");
    }

    #[test]
    fn a_faster_size_is_the_usual_one_and_from_scratch_half_of_it() {
        let smaller = |architecture: &Architecture, trained, pretrained| {
            smaller(architecture, trained, pretrained).map(|smaller| size(&smaller).to_string())
        };
        let dino = at("vit_small_patch14_dinov2", 518);
        assert_eq!(smaller(&dino, None, true).as_deref(), Some("224"));
        assert_eq!(smaller(&dino.clone().with_img_size(224), Some(37.), true), None);
        assert_eq!(smaller(&at("vit_small_patch16_224", 224), None, false).as_deref(), Some("112"));
        let wide = at("vit_small_patch14_dinov2", 518).with_img_size([518, 1036]);
        assert_eq!(smaller(&wide, None, true).as_deref(), Some("154x322"), "of the same shape and area");
        assert_eq!(smaller(&at("cnn_cifar10", 32), None, false), None);
        let dino = ratio(&dino, &dino.clone().with_img_size(224));
        assert!((6..=9).contains(&dino.parse().unwrap()), "{dino}");
    }
}
