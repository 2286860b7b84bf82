//! What is random in a training pass: how much is dropped, and that the seed decides it.

use candle_core::{DType, Device, Tensor};
use tallow_models::layers::{DropPath, Dropout};
use tallow_models::{Architecture, CnnConfig, MlpConfig, Mode, Model, Params, VitConfig};

const TRAIN: Mode = Mode::Train { seed: 3 };

fn ones(shape: &[usize]) -> Tensor {
    Tensor::ones(shape, DType::F32, &Device::Cpu).expect("ones")
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().and_then(|x| x.to_vec1()).expect("numbers")
}

fn dropped(values: &[f32]) -> f64 {
    values.iter().filter(|&&v| v == 0.).count() as f64 / values.len() as f64
}

#[test]
fn dropout_drops_at_its_rate_and_scales_what_it_keeps() {
    for rate in [0.1, 0.5, 0.9] {
        let values = flat(&Dropout::new(rate, "a").forward(&ones(&[100, 1001]), TRAIN).expect("a pass"));
        // Four deviations of a binomial law.
        let tolerance = 4. * (rate * (1. - rate) / values.len() as f64).sqrt();
        assert!((dropped(&values) - rate).abs() < tolerance, "{rate}: {}", dropped(&values));
        let kept = (1. / (1. - rate)) as f32;
        assert!(values.iter().all(|&v| v == 0. || v == kept));
    }
}

#[test]
fn stochastic_depth_drops_whole_samples() {
    let rate = 0.25;
    let keep = DropPath::new(rate, "a").keep(&ones(&[40_000, 2, 3]), TRAIN).expect("a pass").expect("a mask");
    assert_eq!(keep.dims(), [40_000]);
    let keep = flat(&keep);
    assert!((dropped(&keep) - rate).abs() < 4. * (rate * (1. - rate) / 40_000.).sqrt());
    assert!(keep.iter().all(|&v| v == 0. || v == (1. / 0.75) as f32));
}

#[test]
fn evaluation_and_a_rate_of_zero_change_nothing() {
    let x = ones(&[4, 5]);
    assert_eq!(flat(&Dropout::new(0.5, "a").forward(&x, Mode::Eval).expect("a pass")), flat(&x));
    assert_eq!(flat(&Dropout::new(0., "a").forward(&x, TRAIN).expect("a pass")), flat(&x));
    assert!(DropPath::new(0.5, "a").keep(&x, Mode::Eval).expect("a pass").is_none());
    assert!(DropPath::new(0., "a").keep(&x, TRAIN).expect("a pass").is_none());
}

#[test]
fn a_mask_depends_on_seed_and_place_and_not_on_threads() {
    let draw = |name: &str, seed, threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let dropout = Dropout::new(0.5, name);
        flat(&pool.install(|| dropout.forward(&ones(&[70_001]), Mode::Train { seed })).expect("a pass"))
    };
    let one = draw("a", 1, 1);
    assert_eq!(one, draw("a", 1, 3));
    for other in [draw("a", 2, 1), draw("b", 1, 1), draw("a", 1 << 40, 1)] {
        let same = one.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / one.len() as f64;
        assert!((same - 0.5).abs() < 0.01, "unrelated masks agree in half of the values, not in {same}");
    }
}

#[test]
fn dropout_gives_the_gradient_of_what_it_kept() {
    let x = candle_core::Var::from_tensor(&ones(&[50])).expect("a variable");
    let y = Dropout::new(0.5, "a").forward(&x, TRAIN).expect("a pass");
    let gradients = y.sum_all().and_then(|sum| sum.backward()).expect("a backward pass");
    assert_eq!(flat(gradients.get(&x).expect("a gradient")), flat(&y));
}

#[test]
fn the_same_seed_gives_the_same_training_pass_in_every_model() {
    let vit = VitConfig {
        img_size: 8,
        patch_size: 4,
        embed_dim: 12,
        depth: 3,
        num_heads: 3,
        num_classes: 10,
        ..VitConfig::default()
    };
    let models = [
        Architecture::Vit(VitConfig { drop_rate: 0.5, ..vit.clone() }),
        Architecture::Vit(VitConfig { drop_rate: 0.5, distilled: true, ..vit.clone() }),
        Architecture::Vit(VitConfig { pos_drop_rate: 0.5, ..vit.clone() }),
        Architecture::Vit(VitConfig { proj_drop_rate: 0.5, ..vit.clone() }),
        Architecture::Vit(VitConfig { attn_drop_rate: 0.5, ..vit.clone() }),
        Architecture::Vit(VitConfig { drop_path_rate: 0.5, init_values: Some(1.), ..vit }),
        Architecture::Cnn(CnnConfig { img_size: 8, drop_rate: 0.5, ..CnnConfig::default() }),
        Architecture::Mlp(MlpConfig { img_size: 8, in_chans: 3, drop_rate: 0.5, ..MlpConfig::default() }),
    ];
    for architecture in models {
        let model = architecture.build(Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
        let pixels = (0..16 * 3 * 64).map(|i| (i as f32 * 0.37).sin()).collect();
        let images = Tensor::from_vec(pixels, (16, 3, 8, 8), &Device::Cpu).expect("images");
        let pass = |mode| flat(&model.forward(&images, mode).expect("a forward pass"));
        assert_eq!(pass(TRAIN), pass(TRAIN), "{architecture:?}");
        assert_ne!(pass(TRAIN), pass(Mode::Train { seed: 4 }), "{architecture:?}");
        assert_ne!(pass(TRAIN), pass(Mode::Eval), "{architecture:?}");
        assert_eq!(pass(Mode::Eval), pass(Mode::Eval));
    }
}
