//! ZCA whitening against NumPy, and what it refuses.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use tallow::data::whitening::{Whiteness, check_size, fit};
use tallow::data::{Draw, Image, Result, Samples, Transform};
use tallow::weights::{Preprocessing, Whitening};

fn reference() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/data/zca.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// The reference's tensors are named as Python writes numbers.
fn named(what: &str, eps: f64) -> String {
    format!("{what}.{}", if eps == 1e-2 { "0.01" } else { "1e-05" })
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The images of the reference, `copies` times over.
struct Images(Vec<u8>, usize);

impl Images {
    fn of(reference: &HashMap<String, Tensor>, copies: usize) -> Arc<dyn Samples> {
        Arc::new(Self(reference["images"].flatten_all().unwrap().to_vec1().unwrap(), copies))
    }
}

impl Samples for Images {
    fn len(&self) -> usize {
        120 * self.1
    }
    fn label(&self, _: usize) -> u32 {
        0
    }
    fn image(&self, index: usize) -> Result<Image> {
        let pixels = self.0[index % 120 * 36..][..36].to_vec();
        Ok(Image { width: 4, height: 3, channels: 3, pixels })
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
}

fn preprocessing() -> Preprocessing {
    Preprocessing::new([3, 3, 4], vec![0.5, 0.4, 0.6], vec![1.0; 3]).with(|c| c.squash = true)
}

fn fitted(samples: &dyn Samples, eps: f64) -> Whitening {
    fit(samples, &preprocessing(), eps, &|| false).unwrap().unwrap()
}

#[test]
fn mean_and_matrix_are_those_of_numpys_eigendecomposition() {
    let reference = reference();
    let samples = Images::of(&reference, 1);
    for (eps, tolerance) in [(1e-2, 2e-6), (1e-5, 2e-4)] {
        let whitening = fitted(&*samples, eps);
        let transform = Transform::evaluation(&preprocessing()).unwrap().whitened(Some(whitening.clone())).unwrap();
        let off = furthest(whitening.matrix(), &reference[&named("matrix", eps)]);
        assert!(off < tolerance, "matrix for {eps}: {off}");
        let channel = Tensor::new(&[0.5f32, 0.4, 0.6], &Device::Cpu).unwrap().reshape((3, 1, 1)).unwrap();
        let mean = whitening.mean().broadcast_add(&channel).unwrap();
        assert!(furthest(&mean, &reference["mean"]) < 1e-6);
        for index in 0..5 {
            let got = transform.tensor(&samples.image(index).unwrap(), Draw::default()).unwrap();
            let off = furthest(&got, &reference[&named("whitened", eps)].get(index).unwrap());
            assert!(off < tolerance, "image {index} for {eps}: {off}");
        }
    }
}

#[test]
fn what_comes_out_has_the_identity_as_covariance_within_the_regularisation() {
    let reference = reference();
    let samples = Images::of(&reference, 1);
    for eps in [1e-2, 1e-5] {
        let whitening = fitted(&*samples, eps);
        let transform = Transform::evaluation(&preprocessing()).unwrap().whitened(Some(whitening)).unwrap();
        let rows: Vec<Tensor> =
            (0..120).map(|index| transform.tensor(&samples.image(index).unwrap(), Draw::default()).unwrap()).collect();
        let x = Tensor::stack(&rows, 0).unwrap().flatten_from(1).unwrap().to_dtype(DType::F64).unwrap();
        let covariance = (x.t().unwrap().matmul(&x).unwrap() / 120.0).unwrap();
        // U Λ / (Λ + ε) Uᵀ
        let off = furthest(&covariance, &reference[&named("covariance", eps)]);
        assert!(off < 2e-4, "covariance for {eps}: {off}");
        let means = values(&x.mean(0).unwrap());
        assert!(means.iter().all(|mean| mean.abs() < 1e-4), "{means:?}");
        // The same by the measure that `tallow data` prints.
        let measured = Whiteness::of(&samples, &Arc::new(transform)).unwrap();
        let trace: f64 = (0..36).map(|i| values(&covariance.get(i).unwrap())[i]).sum();
        assert!((measured.variance - trace / 36.0).abs() < 1e-5 && measured.mean < 1e-4, "{measured:?}");
        if eps < 1e-4 {
            // All but the last directions are far above ε.
            let identity = Tensor::eye(36, DType::F64, &Device::Cpu).unwrap();
            assert!(furthest(&covariance, &identity) < 0.02 && measured.covariance < 1e-3, "{measured:?}");
        }
    }
}

#[test]
fn the_fit_is_the_same_to_the_last_bit_however_many_blocks_the_samples_make() {
    let reference = reference();
    let (once, often) = (Images::of(&reference, 1), Images::of(&reference, 20));
    // 2,400 samples are three blocks; their moments are those of the 120.
    assert_eq!(often.len(), 2400);
    assert!(fitted(&*once, 1e-2) == fitted(&*often, 1e-2));
}

#[test]
fn inputs_of_another_size_and_too_large_ones_are_refused_with_what_to_do() {
    let reference = reference();
    let whitening = fitted(&*Images::of(&reference, 1), 1e-2);
    let other = preprocessing().with(|c| c.input_size = [3, 4, 4]);
    let error = Transform::evaluation(&other).unwrap().whitened(Some(whitening)).unwrap_err().to_string();
    assert!(error.contains("[3, 3, 4]") && error.contains("[3, 4, 4]") && error.contains("`normalize"), "{error}");
    let error = check_size([3, 224, 224]).unwrap_err().to_string();
    assert!(error.contains("150528") && error.contains("4096") && error.contains("`img_size = 36`"), "{error}");
    check_size([3, 36, 36]).unwrap();
    check_size([1, 64, 64]).unwrap();
}
