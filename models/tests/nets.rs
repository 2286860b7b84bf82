//! The CNN and the MLP against PyTorch. `references/nets.py` wrote what PyTorch computes, and says what the formula is.

mod pytorch;

use candle_core::{DType, Device, Tensor};
use pytorch::{assert_close, flat, formula, numbers};
use serde_json::Value;
use tallow_models::{Architecture, CnnConfig, Mode, Model, Params, ops, zoo};

#[test]
fn logits_loss_gradients_and_running_statistics_equal_pytorchs() {
    let cases: serde_json::Map<String, Value> =
        serde_json::from_str(include_str!("references/nets.json")).expect("nets.json is an object");
    for (case, facts) in &cases {
        let architecture: Architecture = serde_json::from_value(facts["config"].clone()).expect("a configuration");
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let learned: Vec<_> =
            architecture.parameters().expect("it is valid").into_iter().filter(|p| !p.is_buffer()).collect();
        for (offset, p) in learned.iter().enumerate() {
            let fan: usize = p.shape[1..].iter().product();
            params.provide(&p.name, formula(&p.shape, 1000 * offset as u64, 3. / (fan as f64).sqrt()));
        }
        let model = architecture.build(params.builder()).expect("it builds");
        let batch = facts["batch"].as_u64().expect("a number") as usize;
        let [channels, height, width] = architecture.input_size();
        let images = formula(&[batch, channels, height, width], 5, 2.);

        let logits = model.forward(&images, Mode::Train { seed: 0 }).expect("a forward pass");
        assert_close(&format!("{case} logits"), &flat(&logits), &numbers(&facts["logits"]), 2e-5);
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % architecture.num_classes() as u32).collect();
        let labels = Tensor::new(labels, &Device::Cpu).expect("labels");
        let loss = ops::cross_entropy(&logits, &labels, 0.).expect("a loss");
        assert_close(&format!("{case} loss"), &flat(&loss), &numbers(&facts["loss"]), 2e-5);
        let gradients = params.backward(&loss).expect("every parameter gets a gradient");
        assert_eq!(gradients.iter().len(), learned.len());
        for (name, gradient) in gradients.iter() {
            let gradient = (flat(gradient), flat(&formula(gradient.dims(), 7, 1.)));
            let norm = gradient.0.iter().map(|g| g * g).sum::<f64>().sqrt();
            let product = gradient.0.iter().zip(&gradient.1).map(|(g, f)| g * f).sum::<f64>();
            let expected = numbers(&facts["gradients"][name]);
            // A bias before a batch norm changes nothing: its gradient is rounding.
            if expected[0] > 1e-9 {
                assert_close(&format!("{case} {name}"), &[norm, product], &expected, 1e-4);
            } else {
                assert!(norm < 1e-5, "{case} {name}: {norm}");
            }
        }

        // The model for evaluation sees the running statistics that the training pass updated.
        for p in params.all().into_iter().filter(|p| p.buffer) {
            assert_close(&format!("{case} {}", p.name), &flat(&p.var), &numbers(&facts["buffers"][&p.name]), 2e-5);
        }
        let model = architecture.build(params.eval_builder()).expect("it builds");
        let logits = model.forward(&images, Mode::Eval).expect("a forward pass");
        assert_close(&format!("{case} evaluated"), &flat(&logits), &numbers(&facts["evaluated"]), 2e-5);
    }
}

#[test]
fn the_cnn_has_1_190_000_weights_for_images_of_28_and_of_32_pixels() {
    for img_size in [28, 32] {
        let weights: usize = Architecture::Cnn(CnnConfig::default().with(|c| c.img_size = img_size.into()))
            .parameters()
            .expect("it is valid")
            .iter()
            .filter(|p| p.name.ends_with("weight"))
            .map(|p| p.elem_count())
            .sum();
        assert_eq!(weights, 1_190_000);
    }
}

#[test]
fn the_cnns_first_loss_is_near_ln_10() {
    let params = Params::new(1, DType::F32, &Device::Cpu);
    let model = zoo::find("cnn_cifar10").expect("it is there").architecture.build(params.builder()).expect("it builds");
    let images = (formula(&[20, 3, 32, 32], 0, 1.) + 0.5).expect("pixels in [0, 1]");
    let labels = Tensor::new((0..20).map(|i| i % 10).collect::<Vec<u32>>(), &Device::Cpu).expect("labels");
    let logits = model.forward(&images, Mode::Train { seed: 0 }).expect("a forward pass");
    let loss = flat(&ops::cross_entropy(&logits, &labels, 0.).expect("a loss"))[0];
    assert!((loss - 10f64.ln()).abs() < 0.03, "{loss}");
}

#[test]
fn the_head_of_pooled_features_gives_the_logits() {
    for name in ["cnn_cifar10", "mlp_mnist", "vit_mnist"] {
        let architecture = zoo::find(name).expect("it is there").architecture;
        let model = architecture.build(Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
        let [channels, height, width] = architecture.input_size();
        let images = formula(&[2, channels, height, width], 0, 1.);
        let pooled = model.pooled(&images, Mode::Eval).expect("a forward pass");
        assert_eq!(pooled.dims(), [2, architecture.num_features()]);
        let logits = model.forward(&images, Mode::Eval).expect("a forward pass");
        assert_eq!(flat(&model.head(&pooled).expect("logits")), flat(&logits), "{name}");
    }
}

#[test]
fn a_cnn_of_rectangles_is_its_composition() -> candle_core::Result<()> {
    let config = CnnConfig::default().with(|c| {
        c.img_size = [16, 24].into();
        c.num_classes = 5;
    });
    let params = Params::new(3, DType::F32, &Device::Cpu);
    let cnn = tallow_models::Cnn::new(&config, params.builder())?;
    let images = Tensor::randn(0f32, 1., (2, 3, 16, 24), &Device::Cpu)?;
    let get = |name: &str| params.get(name).map(|param| param.var.as_tensor().clone()).expect("a parameter");
    let mut x = images.clone();
    for i in 1..=3 {
        let bias = get(&format!("conv{i}.bias")).reshape((1, (), 1, 1))?;
        x = x.conv2d(&get(&format!("conv{i}.weight")), 2, 1, 1, 1)?.broadcast_add(&bias)?.relu()?.max_pool2d(2)?;
    }
    assert_eq!(x.dims(), [2, 64, 2, 3]);
    let linear = |x: &Tensor, name: &str| {
        x.matmul(&get(&format!("{name}.weight")).t()?)?.broadcast_add(&get(&format!("{name}.bias")))
    };
    let expected = linear(&linear(&x.flatten_from(1)?, "fc4")?.relu()?, "fc5")?;
    let off = (cnn.forward(&images, Mode::Eval)? - expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
    assert!(off < 1e-5, "{off}");
    Ok(())
}
