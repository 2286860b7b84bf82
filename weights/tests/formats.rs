//! Tensors of every type and layout that the formats allow are read as the libraries that wrote them read them.

#[path = "support/references.rs"]
mod references;

use candle_core::{DType, Tensor};
use tallow_weights::adapt::{resample_patches, resample_positions};

use references::reference;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    values(a).iter().zip(values(b)).fold(0., |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn pytorch_files_of_all_generations_give_the_same_values() {
    let expected = reference("expected/types.safetensors");
    for file in ["types.pth", "types_legacy.pth", "types_protocol_4.pth"] {
        let got = reference(file);
        assert_eq!(got.names().len(), expected.names().len(), "{file}");
        for name in expected.names() {
            let difference = largest_difference(&got.tensor(name).unwrap(), &expected.tensor(name).unwrap());
            assert!(difference == 0., "{file}: {name}");
        }
    }
}

#[test]
fn npz_files_give_the_values_of_numpy() {
    let (expected, got) = (reference("expected/types.safetensors"), reference("types.npz"));
    for (name, same) in
        [("f32", "f32"), ("f16", "f16"), ("f64", "f64"), ("transposed", "f32"), ("i64", "i64"), ("scalar", "scalar")]
    {
        let difference = largest_difference(&got.tensor(name).unwrap(), &expected.tensor(same).unwrap());
        assert!(difference == 0., "{name}");
    }
}

#[test]
fn quantised_tensors_are_dequantised_as_gguf_does() {
    let (expected, got) = (reference("expected/quantised.safetensors"), reference("quantised.gguf"));
    assert_eq!(got.names().len(), 8);
    for name in expected.names() {
        let difference = largest_difference(&got.tensor(name).unwrap(), &expected.tensor(name).unwrap());
        assert!(difference <= 1e-6, "{name}: {difference:e}");
    }
}

#[test]
fn positions_are_resampled_as_timm_does() {
    let expected = reference("expected/adaptations.safetensors");
    let positions = expected.tensor("positions").unwrap();
    for new in [(7, 7), (24, 24), (10, 13), (1, 1), (15, 14)] {
        let got = resample_positions(&positions, 1, (14, 14), new).unwrap();
        let difference = largest_difference(&got, &expected.tensor(&format!("positions_{}x{}", new.0, new.1)).unwrap());
        assert!(difference <= 1e-5, "{new:?}: {difference:e}");
    }
    let got = resample_positions(&expected.tensor("grid").unwrap(), 2, (6, 10), (9, 4)).unwrap();
    assert!(largest_difference(&got, &expected.tensor("grid_9x4").unwrap()) <= 1e-5);
}

#[test]
fn patch_kernels_are_resized_as_timm_does() {
    let expected = reference("expected/adaptations.safetensors");
    let kernels = expected.tensor("kernels").unwrap();
    for new in [8, 14, 15, 17, 32] {
        let got = resample_patches(&kernels, (new, new)).unwrap();
        let expected = expected.tensor(&format!("kernels_{new}")).unwrap();
        let scale = values(&expected).iter().fold(0f32, |m, v| m.max(v.abs()));
        let difference = largest_difference(&got, &expected) / scale;
        assert!(difference <= 2e-5, "{new}: {difference:e}");
    }
}

#[test]
fn positions_of_another_shape_are_refused() {
    let positions = reference("expected/adaptations.safetensors").tensor("positions").unwrap();
    assert!(resample_positions(&positions, 1, (13, 14), (7, 7)).is_err());
}
