//! Operations and their gradients against PyTorch's (`references/make_ops.py`), by kernel and by composition.

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::Value;
use tallow_models::ops;

fn tensor(value: &Value) -> Result<Tensor> {
    let numbers = |v: &Value| v.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect();
    let values: Vec<f64> = numbers(&value["values"]);
    let shape: Vec<f64> = numbers(&value["shape"]);
    Tensor::from_vec(values, shape.into_iter().map(|d| d as usize).collect::<Vec<_>>(), &Device::Cpu)
}

fn list(value: &Value) -> Result<Tensor> {
    let values: Vec<f64> = value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect();
    Tensor::new(values, &Device::Cpu)
}

/// Fails unless the two differ by less than `tolerance` of the largest value.
fn agree(what: &str, got: &Tensor, reference: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(got.dims(), reference.dims(), "{what}");
    let flat = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (got, reference) = (flat(got)?, flat(reference)?);
    let scale = reference.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    for (i, (a, b)) in got.iter().zip(&reference).enumerate() {
        assert!((a - b).abs() < tolerance * scale, "{what} at {i}: {a} instead of {b}");
    }
    Ok(())
}

fn apply(name: &str, options: &Value, x: &[Tensor], running: Option<&[Tensor; 2]>) -> Result<Tensor> {
    let count = |key: &str| options[key].as_u64().expect("an integer") as usize;
    let number = |key: &str| options[key].as_f64().expect("a number");
    let flag = |key: &str| options[key].as_bool().expect("a boolean");
    match name {
        "gelu" => ops::gelu(&x[0]),
        "gelu_tanh" => ops::gelu_tanh(&x[0]),
        "quick_gelu" => ops::quick_gelu(&x[0]),
        "layer_norm" => ops::layer_norm(&x[0], &x[1], &x[2], number("eps")),
        "attention_qkv" => ops::attention_qkv(&x[0], count("num_heads")),
        "cross_entropy" => {
            ops::cross_entropy(&x[0], &list(&options["labels"])?.to_dtype(DType::U32)?, number("label_smoothing"))
        }
        "conv2d" => ops::conv2d(&x[0], &x[1], Some(&x[2]), count("stride"), count("padding")),
        "max_pool2d" => ops::max_pool2d(&x[0], count("kernel"), count("stride"), count("padding"), flag("ceil_mode")),
        "avg_pool2d" => ops::avg_pool2d(&x[0], count("kernel"), count("stride")),
        "batch_norm" => {
            let [mean, var] = running.expect("running statistics");
            let running = ops::Running { mean, var, momentum: number("momentum") };
            ops::batch_norm(&x[0], &x[1], &x[2], running, number("eps"), flag("train"))
        }
        other => panic!("no operation is called {other}"),
    }
}

#[test]
fn outputs_gradients_and_running_statistics_are_pytorchs() -> Result<()> {
    let cases: Vec<Value> = serde_json::from_str(include_str!("references/ops.json")).expect("JSON");
    assert_eq!(cases.len(), 16);
    for (dtype, tolerance) in [(DType::F32, 3e-6), (DType::F64, 1e-7)] {
        for case in &cases {
            let (name, options) = (case["op"].as_str().expect("a name"), &case["options"]);
            let what = format!("{name} {options} in {dtype:?}");
            let read = |v: &Value| tensor(v)?.to_dtype(dtype);
            let inputs = case["inputs"].as_array().expect("a list");
            let inputs = inputs.iter().map(|v| Var::from_tensor(&read(v)?)).collect::<Result<Vec<_>>>()?;
            let operands: Vec<Tensor> = inputs.iter().map(|v| v.as_tensor().clone()).collect();
            let statistics = |v: &Value| -> Result<[Tensor; 2]> {
                Ok([list(&v[0])?.to_dtype(dtype)?, list(&v[1])?.to_dtype(dtype)?])
            };
            let running = options.get("running").map(statistics).transpose()?;
            let output = apply(name, options, &operands, running.as_ref())?;
            agree(&what, &output, &tensor(&case["output"])?, tolerance)?;
            let store = (&output * read(&case["weights"])?)?.sum_all()?.backward()?;
            for (input, reference) in inputs.iter().zip(case["gradients"].as_array().expect("a list")) {
                let gradient = store.get(input).expect("a gradient");
                agree(&format!("gradient of {what}"), gradient, &tensor(reference)?, tolerance)?;
            }
            if let Some(running) = running {
                for (got, reference) in running.iter().zip(statistics(&case["running_after"])?) {
                    agree(&format!("running statistics of {what}"), got, &reference, tolerance)?;
                }
            }
        }
    }
    Ok(())
}
