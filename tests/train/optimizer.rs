//! Optimisers and clipping against PyTorch in float64.

use candle_core::{DType, Device, Tensor};
use tallow::models::optim::{Clip, clip_factor};
use tallow::models::{Architecture, MlpConfig, Params};
use tallow::train::gradients::{Accumulator, sums_of_squares};
use tallow::train::optimizer::Optimizer;

use crate::{numbers, reference, small};

/// Two parameters, one decayed and one not, and a loss with given gradients.
struct Pair {
    params: Params,
    weight: Tensor,
    bias: Tensor,
}

impl Pair {
    fn new(weight: &[f64], bias: &[f64]) -> Self {
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        params.provide("weight", tensor(weight).reshape((2, 3)).unwrap());
        params.provide("bias", tensor(bias));
        let weight = params.builder().get((2, 3), "weight").unwrap();
        let bias = params.builder().get(3, "bias").unwrap();
        Self { params, weight, bias }
    }

    /// `Σ weight · w + Σ bias · b`, whose gradients are w and b.
    fn loss(&self, w: &[f64], b: &[f64]) -> Tensor {
        let tensor = |values: &[f64]| Tensor::new(values, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        let weight = (&self.weight * tensor(w).reshape((2, 3)).unwrap()).unwrap().sum_all().unwrap();
        (weight + (&self.bias * tensor(b)).unwrap().sum_all().unwrap()).unwrap()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.params.get(name).unwrap().var.flatten_all().unwrap().to_vec1().unwrap()
    }
}

#[test]
fn parameters_take_the_same_steps_as_in_pytorch() {
    let reference = reference("optimizers.json");
    for (name, case) in reference["cases"].as_object().unwrap() {
        let settings = toml::Table::try_from(&case["settings"]).unwrap();
        let config = small().with_table(&settings).unwrap();
        let pair = Pair::new(&numbers(&reference["weight"]), &numbers(&reference["bias"]));
        let architecture = Architecture::Mlp(MlpConfig::default());
        let mut optimizer = Optimizer::new(&config, &architecture, &pair.params).unwrap();
        for (step, gradient) in reference["gradients"].as_array().unwrap().iter().enumerate() {
            // Half of twice the gradient: the factor of clipping is part of the step.
            let doubled = |key: &str| numbers(&gradient[key]).iter().map(|v| 2. * v).collect::<Vec<_>>();
            let gradients = pair.params.backward(&pair.loss(&doubled("weight"), &doubled("bias"))).unwrap();
            let squares = sums_of_squares(&gradients).unwrap();
            let norm = squares.read().unwrap().iter().sum::<f64>().sqrt();
            let clip = Clip { squares: &squares, largest: (norm + 1e-6) / 2. };
            optimizer.step(&gradients, Some(clip), 0.1).unwrap();
            if step == 2 {
                // A state that was written and read back goes on as if nothing had happened.
                let state = optimizer.state().unwrap();
                let copies = state.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect();
                optimizer = Optimizer::new(&config, &architecture, &pair.params).unwrap();
                optimizer.set_state(copies).unwrap();
            }
            for parameter in ["weight", "bias"] {
                let expected = numbers(&case["steps"][step][parameter]);
                for (expected, got) in expected.into_iter().zip(pair.values(parameter)) {
                    let off = (expected - f64::from(got)).abs();
                    assert!(off < 2e-6, "{name}, {parameter} after step {step}: expected {expected}, got {got}");
                }
            }
        }
    }
}

#[test]
fn a_state_with_a_missing_or_foreign_tensor_is_refused_by_name() {
    let pair = Pair::new(&[0.; 6], &[0.; 3]);
    let mut optimizer = Optimizer::new(&small(), &Architecture::Mlp(MlpConfig::default()), &pair.params).unwrap();
    let mut state = optimizer.state().unwrap();
    state.remove("bias.exp_avg");
    assert!(optimizer.set_state(state).unwrap_err().to_string().contains("bias.exp_avg"));
    let mut state = optimizer.state().unwrap();
    state.insert("head.exp_avg".into(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    assert!(optimizer.set_state(state).unwrap_err().to_string().contains("head.exp_avg"));
}

#[test]
fn clipping_is_that_of_pytorch() {
    for case in reference("clipping.json").as_array().unwrap() {
        let factor = clip_factor(case["norm"].as_f64().unwrap(), case["largest"].as_f64().unwrap());
        assert!((factor - case["factor"].as_f64().unwrap()).abs() < 1e-12, "{case}: got {factor}");
    }
    assert_eq!(clip_factor(1e9, 0.), 1.);
}

#[test]
fn batches_of_unequal_size_add_up_to_the_gradient_of_the_mean() {
    let pair = Pair::new(&[0.; 6], &[0.; 3]);
    let (first, second) = ([1., 2., 3., 4., 5., 6.], [-1., 0., 1., 0., 2., 0.]);
    let mut sum = Accumulator::default();
    sum.add(&pair.params, &pair.loss(&first, &[1.; 3]), 0.75, false).unwrap();
    sum.add(&pair.params, &pair.loss(&second, &[3.; 3]), 0.25, false).unwrap();
    let (gradients, missing) = sum.take().unwrap();
    assert!(missing.is_empty());
    let expected: Vec<f32> = first.iter().zip(second).map(|(a, b)| (0.75 * a + 0.25 * b) as f32).collect();
    assert_eq!(gradients.get("weight").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
    assert_eq!(gradients.get("bias").unwrap().to_vec1::<f32>().unwrap(), [1.5; 3]);
    assert_eq!(sums_of_squares(&gradients).unwrap().read().unwrap()[1], 6.75);
}

#[test]
fn a_parameter_that_no_gradient_reaches_is_an_error_unless_allowed() {
    let pair = Pair::new(&[1.; 6], &[1.; 3]);
    let loss = pair.weight.sum_all().unwrap();
    let error = Accumulator::default().add(&pair.params, &loss, 1., false).unwrap_err().to_string();
    assert!(error.contains("bias"), "{error}");
    let mut sum = Accumulator::default();
    sum.add(&pair.params, &loss, 1., true).unwrap();
    let (gradients, missing) = sum.take().unwrap();
    assert_eq!(missing, ["bias"]);
    let mut optimizer = Optimizer::new(&small(), &Architecture::Mlp(MlpConfig::default()), &pair.params).unwrap();
    optimizer.step(&gradients, None, 0.1).unwrap();
    assert_eq!(pair.values("bias"), [1.; 3]);
    assert!(pair.values("weight").iter().all(|&value| value < 1.));
}
