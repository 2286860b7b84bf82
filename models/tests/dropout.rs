//! What is random in a training pass: how much is dropped, and that the seed decides it.

use candle_core::{DType, Device, Tensor};
use tallow_models::layers::{AttentionConfig, DropPath, Dropout, MlpBlockConfig, attention, mlp_block};
use tallow_models::{Architecture, CnnConfig, MlpConfig, Mode, Model, Params, Vit, VitConfig};

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
    let vit = VitConfig::default().with(|c| {
        c.img_size = 8.into();
        c.patch_size = 4;
        c.embed_dim = 12;
        c.depth = 3;
        c.num_heads = 3;
        c.num_classes = 10;
    });
    let models = [
        Architecture::Vit(vit.clone().with(|c| c.drop_rate = 0.5)),
        Architecture::Vit(vit.clone().with(|c| {
            c.drop_rate = 0.5;
            c.distilled = true;
        })),
        Architecture::Vit(vit.clone().with(|c| c.pos_drop_rate = 0.5)),
        Architecture::Vit(vit.clone().with(|c| c.proj_drop_rate = 0.5)),
        Architecture::Vit(vit.clone().with(|c| c.attn_drop_rate = 0.5)),
        Architecture::Vit(vit.with(|c| {
            c.drop_path_rate = 0.5;
            c.init_values = Some(1.);
        })),
        Architecture::Cnn(CnnConfig::default().with(|c| {
            c.img_size = 8.into();
            c.drop_rate = 0.5;
        })),
        Architecture::Mlp(MlpConfig::default().with(|c| {
            c.img_size = 8.into();
            c.in_chans = 3;
            c.drop_rate = 0.5;
        })),
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

/// 12 pixels in patches of 4, 10 tokens, 12 wide.
fn vit() -> VitConfig {
    VitConfig::default().with(|c| {
        c.img_size = 12.into();
        c.patch_size = 4;
        c.embed_dim = 12;
        c.depth = 3;
        c.num_heads = 3;
        c.num_classes = 4;
    })
}

fn images(count: usize) -> Tensor {
    let pixels = (0..count * 3 * 144).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(pixels, (count, 3, 12, 12), &Device::Cpu).expect("images")
}

#[test]
fn attention_weights_are_dropped_one_by_one_after_the_softmax() {
    // One head whose values are the tokens' own unit vectors, and a projection that changes nothing: what comes out is the
    // attention weights themselves.
    const TOKENS: usize = 60;
    let rate = 0.3;
    for lsa in [false, true] {
        let mut config = AttentionConfig::new(TOKENS, 1);
        (config.qkv_bias, config.attn_drop_rate, config.lsa) = (false, rate, lsa);
        let unit = Tensor::eye(TOKENS, DType::F32, &Device::Cpu).expect("a matrix");
        let params = Params::new(2, DType::F32, &Device::Cpu);
        let random = Tensor::randn(0f32, 0.5, (2 * TOKENS, TOKENS), &Device::Cpu).expect("numbers");
        params.provide("qkv.weight", Tensor::cat(&[&random, &unit], 0).expect("rows"));
        params.provide("proj.weight", unit.clone());
        let layer = attention(&config, params.builder()).expect("a layer");
        let x = unit.unsqueeze(0).expect("one image");
        let weights = flat(&layer.weights(&x).expect("weights"));
        let dropped = flat(&layer.forward(&x, TRAIN).expect("a pass"));
        let mut zeros = 0;
        for (&weight, &got) in weights.iter().zip(&dropped) {
            let kept = weight / (1. - rate as f32);
            assert!(got == 0. || (got - kept).abs() < 1e-5 * kept, "{weight} became {got}");
            zeros += usize::from(got == 0. && weight > 0.);
        }
        let count = weights.iter().filter(|&&weight| weight > 0.).count() as f64;
        let tolerance = 4. * (rate * (1. - rate) / count).sqrt();
        assert!((zeros as f64 / count - rate).abs() < tolerance, "{zeros} of {count}");
    }
}

#[test]
fn tokens_are_dropped_value_by_value_after_the_positions() {
    let rate = 0.4;
    let config = vit().with(|c| c.pos_drop_rate = rate);
    let model = Vit::new(&config, Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    let whole = flat(&model.embed(&images(8), Mode::Eval).expect("tokens"));
    let got = flat(&model.embed(&images(8), TRAIN).expect("tokens"));
    for (whole, got) in whole.iter().zip(&got) {
        let kept = whole / (1. - rate as f32);
        assert!(*got == 0. || (got - kept).abs() <= 1e-6 * kept.abs(), "{whole} became {got}");
    }
    assert!((dropped(&got) - rate).abs() < 4. * (rate * (1. - rate) / got.len() as f64).sqrt());
}

#[test]
fn stochastic_depth_leaves_out_branches_sample_by_sample_and_scales_the_others() {
    // The last block alone has the full rate; without its MLP it has one branch.
    let rate = 0.5;
    let config = vit().with(|c| c.drop_path_rate = rate);
    let params = Params::new(0, DType::F32, &Device::Cpu);
    params.provide("blocks.2.mlp.fc2.weight", Tensor::zeros((12, 48), DType::F32, &Device::Cpu).expect("zeros"));
    params.provide("blocks.2.attn.proj.weight", Tensor::eye(12, DType::F32, &Device::Cpu).expect("a matrix"));
    let model = Vit::new(&config, params.builder()).expect("it builds");
    let x = model.embed(&images(400), Mode::Eval).expect("tokens");
    let block = &model.blocks()[2];
    let change = |mode| flat(&(block.forward(&x, mode).expect("tokens") - &x).expect("same shapes"));
    let (whole, got) = (change(Mode::Eval), change(TRAIN));
    let mut left_out = 0;
    for (whole, got) in whole.chunks(120).zip(got.chunks(120)) {
        if got.iter().all(|&value| value == 0.) {
            left_out += 1;
            continue;
        }
        let scale = 1. / (1. - rate as f32);
        assert!(whole.iter().zip(got).all(|(whole, got)| (got - scale * whole).abs() < 1e-5));
    }
    assert!((f64::from(left_out) / 400. - rate).abs() < 4. * (rate * (1. - rate) / 400.).sqrt(), "{left_out} of 400");
    let first = &model.blocks()[0];
    let same = |mode| flat(&first.forward(&x, mode).expect("tokens"));
    assert_eq!(same(Mode::Eval), same(TRAIN), "the first block's rate is 0");
}

#[test]
fn projections_drop_after_the_activation_and_after_each_second_layer() {
    const DIM: usize = 64;
    let rate = 0.25;
    let unit = Tensor::eye(DIM, DType::F32, &Device::Cpu).expect("rows");
    let shares = |values: &[f32], kept: f32| {
        assert!(values.iter().all(|&v| v == 0. || (v - kept).abs() < 1e-4 * kept), "kept values are {kept}");
        dropped(values)
    };
    let near = |share: f64, expected: f64, count: usize| {
        let tolerance = 4. * (expected * (1. - expected) / count as f64).sqrt();
        assert!((share - expected).abs() < tolerance, "{share} of {count} values, expected {expected}");
    };
    // An MLP that computes nothing: GELU(8) is 8. What is left went past two dropouts.
    let x = (ones(&[32, 65, DIM]) * 8.).expect("numbers");
    let params = Params::new(0, DType::F32, &Device::Cpu);
    for name in ["fc1.weight", "fc2.weight"] {
        params.provide(name, unit.clone());
    }
    let mut config = MlpBlockConfig::new(DIM, DIM);
    config.drop_rate = rate;
    let mlp = mlp_block(&config, params.builder()).expect("a layer");
    let values = flat(&mlp.forward(&x, TRAIN).expect("a pass"));
    near(shares(&values, 8. / 0.75 / 0.75), 1. - 0.75 * 0.75, values.len());
    // Attention over equal tokens gives their value; one dropout lies behind its projection.
    let mut config = AttentionConfig::new(DIM, 2);
    config.proj_drop_rate = rate;
    let params = Params::new(0, DType::F32, &Device::Cpu);
    params.provide("qkv.weight", Tensor::cat(&[&unit, &unit, &unit], 0).expect("rows"));
    params.provide("proj.weight", unit.clone());
    let layer = attention(&config, params.builder()).expect("a layer");
    let values = flat(&layer.forward(&x, TRAIN).expect("a pass"));
    near(shares(&values, 8. / 0.75), rate, values.len());
    assert_eq!(dropped(&flat(&layer.forward(&x, Mode::Eval).expect("a pass"))), 0.);
}
