//! Text towers train: the gradients of all of their parameters are those of finite differences in float64.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::Module;
use tallow_models::Params;
use tallow_models::text::{TextConfig, TextPool, TextTower};
use tallow_models::vit::Act;

fn kinds() -> [(&'static str, TextConfig); 3] {
    let small = TextConfig::default().with(|c| {
        (c.vocab_size, c.context_length, c.embed_dim, c.depth) = (11, 6, 8, 2);
        (c.num_heads, c.mlp_dim, c.proj_dim) = (2, 12, Some(5));
    });
    [
        ("clip", small.clone()),
        ("open_clip", small.clone().with(|c| (c.act, c.pool) = (Act::Gelu, TextPool::Token(9)))),
        (
            "siglip",
            small.with(|c| {
                (c.act, c.pool, c.causal) = (Act::GeluTanh, TextPool::Last, false);
                c.proj_bias = true;
            }),
        ),
    ]
}

#[test]
fn gradients_of_text_towers_are_those_of_finite_differences() -> Result<()> {
    // Every token is there; in the first text the end comes early.
    let tokens = Tensor::new(&[[1u32, 10, 9, 0, 0, 0], [2, 3, 4, 5, 10, 9], [6, 7, 8, 10, 9, 0]], &Device::Cpu)?;
    for (name, config) in kinds() {
        let params = Params::new(3, DType::F64, &Device::Cpu);
        let tower = TextTower::new(&config, params.builder())?;
        // Values that let every parameter matter.
        for (i, param) in params.all().into_iter().enumerate() {
            let shift: Vec<f64> = (0..param.var.elem_count()).map(|j| ((5 * i + 3 * j) as f64).sin() * 0.4).collect();
            let shift = Tensor::from_vec(shift, param.var.shape(), &Device::Cpu)?;
            params.set(&param.name, &(param.var.as_tensor() + shift)?).expect("it is there");
        }
        let loss = || {
            let vectors = tower.forward(&tokens)?;
            let weights = Tensor::arange(0f64, vectors.elem_count() as f64, &Device::Cpu)?.sin()?;
            (vectors.flatten_all()? * weights)?.sum_all()
        };
        let gradients = params.backward(&loss()?).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (param, gradient) in params.trainable().iter().zip(gradients.into_tensors()) {
            let own: Vec<f64> = param.var.as_detached_tensor().flatten_all()?.copy()?.to_vec1()?;
            let gradient: Vec<f64> = gradient.flatten_all()?.to_vec1()?;
            let scale = gradient.iter().fold(0f64, |most, value| most.max(value.abs()));
            // The bias of keys drops out of the softmax, and is a part of a larger one.
            assert!(scale > 1e-3, "{name}: {} has a gradient of zeros", param.name);
            for at in (0..own.len()).step_by(own.len().div_ceil(7)) {
                let step = 1e-5;
                let moved = |by: f64| -> Result<f64> {
                    let mut values = own.clone();
                    values[at] += by;
                    let values = Tensor::from_vec(values, param.var.shape(), &Device::Cpu)?;
                    params.set(&param.name, &values).expect("it is there");
                    loss()?.to_scalar()
                };
                let expected = (moved(step)? - moved(-step)?) / (2. * step);
                let off = (gradient[at] - expected).abs() / scale;
                assert!(off < 1e-6, "{name}: {} at {at} is {}, not {expected}", param.name, gradient[at]);
            }
            let own = Tensor::from_vec(own, param.var.shape(), &Device::Cpu)?;
            params.set(&param.name, &own).expect("it is there");
        }
    }
    Ok(())
}
