//! The ViT against timm, on small models with random weights. `references/make.py` wrote what timm computes, and what PyTorch
//! computes of the parts for small data sets that timm has not.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tallow_models::vit::{GlobalPool, PosEmbed, sinusoidal};
use tallow_models::{Architecture, Mode, Model, ModelConfig, Params, Vit, VitConfig, ops};

const FORWARD: f64 = 2e-5;
const GRADIENT: f64 = 1e-4;

struct Case {
    name: String,
    config: VitConfig,
    facts: Value,
    tensors: HashMap<String, Tensor>,
}

impl Case {
    fn tensor(&self, key: &str) -> &Tensor {
        self.tensors.get(&format!("{}/{key}", self.name)).unwrap_or_else(|| panic!("{}/{key} is missing", self.name))
    }

    /// Weights or gradients, which the file holds in a row.
    fn by_name(&self, key: &str) -> Vec<(String, Tensor)> {
        let (row, mut start) = (self.tensor(key), 0);
        let mut named = Vec::new();
        for (name, shape) in self.facts["parameters"].as_object().expect("names and shapes") {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).expect("a shape");
            let count = shape.iter().product();
            named.push((name.clone(), row.narrow(0, start, count).and_then(|x| x.reshape(shape)).expect("a part")));
            start += count;
        }
        assert_eq!(row.dims(), [start]);
        named
    }

    /// The model with timm's weights.
    fn build(&self) -> (Params, Vit) {
        self.build_as(&self.config, DType::F32)
    }

    fn build_as(&self, config: &VitConfig, dtype: DType) -> (Params, Vit) {
        let params = Params::new(0, dtype, &Device::Cpu);
        for (name, value) in self.by_name("weights") {
            params.provide(name, value);
        }
        let vit = Vit::new(config, params.builder()).expect("timm's weights fit");
        assert!(params.left_over().is_empty(), "{}: {:?}", self.name, params.left_over());
        (params, vit)
    }
}

fn cases() -> Vec<Case> {
    let timms = read(include_bytes!("references/vit.safetensors"), include_str!("references/vit.json"));
    let blocks = read(include_bytes!("references/blocks.safetensors"), include_str!("references/blocks.json"));
    timms.into_iter().chain(blocks).chain(small_data()).collect()
}

/// Those with the parts for small data sets, and with the flow of attention.
fn small_data() -> Vec<Case> {
    read(include_bytes!("references/small_data.safetensors"), include_str!("references/small_data.json"))
}

fn read(tensors: &[u8], facts: &str) -> Vec<Case> {
    let tensors = candle_core::safetensors::load_buffer(tensors, &Device::Cpu).expect("the file is whole");
    let facts: serde_json::Map<String, Value> = serde_json::from_str(facts).expect("an object");
    let case = |(name, facts): (String, Value)| {
        let config = serde_json::from_value(facts["config"].clone()).expect("timm's arguments are our fields");
        Case { name, config, facts, tensors: tensors.clone() }
    };
    facts.into_iter().map(case).collect()
}

fn norm(x: &Tensor) -> f64 {
    let x = x.to_dtype(DType::F64).and_then(|x| x.flatten_all()).and_then(|x| x.to_vec1::<f64>()).expect("numbers");
    x.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The norm of the difference.
fn distance(got: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(got.dims(), expected.dims());
    norm(&(got.to_dtype(DType::F64).expect("floats") - expected.to_dtype(DType::F64)).expect("same shapes"))
}

fn assert_close(what: &str, got: &Tensor, expected: &Tensor, bound: f64) {
    let error = distance(got, expected) / norm(expected);
    assert!(error <= bound, "{what}: relative error {error:.1e}, allowed {bound:.1e}");
}

#[test]
fn tokens_pooled_and_logits_equal_timms() {
    for case in cases() {
        let (_, vit) = case.build();
        let images = case.tensor("images");
        let tokens = vit.forward_features(images, Mode::Eval).expect("a forward pass");
        assert_close(&format!("{} tokens", case.name), &tokens, case.tensor("tokens"), FORWARD);
        let pooled = vit.pooled(images, Mode::Eval).expect("a forward pass");
        assert_close(&format!("{} pooled", case.name), &pooled, case.tensor("pooled"), FORWARD);
        let logits = vit.forward(images, Mode::Eval).expect("a forward pass");
        assert_close(&format!("{} logits", case.name), &logits, case.tensor("logits"), FORWARD);
    }
}

#[test]
fn other_types_agree_within_their_precision() {
    for (dtype, bound) in [(DType::F64, 1e-6), (DType::BF16, 5e-2)] {
        for case in cases() {
            let (_, vit) = case.build_as(&case.config, dtype);
            let images = case.tensor("images").to_dtype(dtype).expect("images");
            let logits = vit.forward(&images, Mode::Eval).expect("a forward pass");
            assert_eq!(logits.dtype(), dtype);
            assert_close(&format!("{} logits in {dtype:?}", case.name), &logits, case.tensor("logits"), bound);
        }
    }
}

/// Checks the gradients of a training pass of `config`, which may differ from the case's in what changes no value.
fn check_gradients(case: &Case, config: &VitConfig) {
    let (params, vit) = case.build_as(config, DType::F32);
    let logits = vit.forward(case.tensor("images"), Mode::Train { seed: 1 }).expect("a forward pass");
    let rows = logits.flatten(0, logits.rank() - 2).expect("rows of logits");
    let labels: Vec<u32> = (0..rows.dims()[0] as u32).map(|i| i % case.config.num_classes as u32).collect();
    let loss = ops::cross_entropy(&rows, &Tensor::new(labels, &Device::Cpu).expect("labels"), 0.).expect("a loss");
    let gradients = params.backward(&loss).expect("every parameter gets a gradient");
    assert_eq!(gradients.iter().len(), params.names().len());
    for ((name, gradient), (expected_name, expected)) in gradients.iter().zip(case.by_name("gradients")) {
        assert_eq!(name, expected_name);
        // The bias of a norm on keys shifts all scores of a row alike: its gradient is zero, and only rounding is left in it.
        // It is judged beside the norm's weight.
        let weight = gradients.get(&name.replace("k_norm.bias", "k_norm.weight")).expect("it is there");
        let error = distance(gradient, &expected) / norm(&expected).max(1e-2 * norm(weight));
        assert!(error <= GRADIENT, "{} {name}: relative error {error:.1e}", case.name);
    }
}

#[test]
fn gradients_of_every_parameter_equal_timms() {
    for case in cases() {
        check_gradients(&case, &case.config);
    }
}

#[test]
fn dropping_attention_weights_takes_another_path_to_the_same_gradients() {
    for mut case in cases() {
        // So small that nothing is ever dropped, and all that is kept is scaled by 1.
        case.config.attn_drop_rate = 1e-12;
        check_gradients(&case, &case.config);
    }
}

#[test]
fn parameters_have_the_names_shapes_and_order_of_timms() {
    for case in cases() {
        let parameters = Architecture::Vit(case.config.clone()).parameters().expect("a valid configuration");
        let ours: Vec<_> = parameters.iter().map(|p| (p.name.clone(), serde_json::json!(p.shape))).collect();
        let expected = case.facts["parameters"].as_object().expect("names and shapes");
        assert_eq!(ours, expected.clone().into_iter().collect::<Vec<_>>(), "{}", case.name);
    }
}

#[test]
fn layers_for_learning_rate_decay_are_timms() {
    for case in cases() {
        let architecture = Architecture::Vit(case.config.clone());
        let layers: HashMap<String, usize> = serde_json::from_value(case.facts["layers"].clone()).expect("layers");
        for (name, layer) in &layers {
            assert_eq!(architecture.layer_id(name), *layer, "{} {name}", case.name);
        }
        assert_eq!(layers.values().max().map(|last| last + 1), Some(architecture.num_layers()), "{}", case.name);
    }
}

fn small() -> VitConfig {
    VitConfig::default().with(|c| {
        c.img_size = 12.into();
        c.patch_size = 4;
        c.embed_dim = 12;
        c.depth = 3;
        c.num_heads = 3;
        c.num_classes = 4;
    })
}

fn images(size: usize) -> Tensor {
    let pixels = (0..2 * 3 * size * size).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(pixels, (2, 3, size, size), &Device::Cpu).expect("images")
}

fn build(config: &VitConfig) -> Vit {
    Vit::new(config, Params::new(5, DType::F32, &Device::Cpu).builder()).expect("it builds")
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().and_then(|x| x.to_vec1()).expect("numbers")
}

#[test]
fn the_pieces_make_up_the_features() {
    for config in [
        small().with(|c| c.pre_norm = true),
        small().with(|c| {
            c.drop_path_rate = 0.5;
            c.pos_drop_rate = 0.2;
        }),
    ] {
        let vit = build(&config);
        for mode in [Mode::Eval, Mode::Train { seed: 9 }] {
            let whole = vit.forward_features(&images(12), mode).expect("a forward pass");
            let mut x = vit.embed(&images(12), mode).expect("tokens");
            for block in vit.blocks() {
                x = block.forward(&x, mode).expect("tokens");
            }
            assert_eq!(flat(&vit.final_norm(&x).expect("tokens")), flat(&whole));
        }
    }
}

#[test]
fn intermediate_tokens_come_in_the_order_asked_for_and_end_in_the_features() {
    let vit = build(&small());
    let features = vit.forward_features(&images(12), Mode::Eval).expect("a forward pass");
    let tokens = vit.forward_intermediates(&images(12), &[2, 0, 2], true).expect("three layers");
    assert_eq!(flat(&tokens[0]), flat(&features));
    assert_eq!(flat(&tokens[2]), flat(&features));
    assert_ne!(flat(&tokens[1]), flat(&features));
    let raw = vit.forward_intermediates(&images(12), &[2], false).expect("one layer");
    assert_eq!(flat(&vit.final_norm(&raw[0]).expect("tokens")), flat(&features));
    let error = vit.forward_intermediates(&images(12), &[3], true).expect_err("there are three blocks").to_string();
    assert!(error.contains("block: expected an index below 3, got: 3"), "{error}");
}

#[test]
fn attention_maps_are_the_weights_that_the_blocks_use() {
    for config in [
        small(),
        small().with(|c| {
            c.qk_norm = true;
            c.reg_tokens = 2;
        }),
    ] {
        let maps = build(&config).attention_maps(&images(12)).expect("maps");
        assert_eq!(maps.len(), 3);
        for map in &maps {
            let tokens = config.num_tokens();
            assert_eq!(map.dims(), [2, 3, tokens, tokens]);
            let sums = flat(&map.sum(3).expect("rows"));
            assert!(sums.iter().all(|sum| (sum - 1.).abs() < 1e-5) && flat(map).iter().all(|&w| w >= 0.));
        }
    }
}

#[test]
fn attention_flows_as_pytorch_computes_it() {
    let cases = small_data();
    assert!(cases.iter().any(|case| case.config.lsa) && cases.iter().any(|case| case.config.depth > 2));
    for case in cases {
        let (_, vit) = case.build();
        let flow = vit.attention_flow(case.tensor("images")).expect("a forward pass");
        assert_close(&format!("{} last", case.name), &flow.last, case.tensor("last_attention"), FORWARD);
        assert_close(&format!("{} rollout", case.name), &flow.rollout, case.tensor("rollout"), FORWARD);
        let maps = vit.attention_maps(case.tensor("images")).expect("maps");
        assert_eq!(flat(maps.last().expect("a block")), flat(&flow.last));

        let (prefix, tokens) = (case.config.num_prefix_tokens(), case.config.num_tokens());
        let rows = flow.rollout.get(1).and_then(|rows| rows.to_vec2::<f32>()).expect("rows");
        let expected: Vec<f32> = match case.config.class_token {
            true => rows[0][prefix..].to_vec(),
            false => {
                let mean =
                    |column| rows[prefix..].iter().map(|row| row[column]).sum::<f32>() / (tokens - prefix) as f32;
                (prefix..tokens).map(mean).collect()
            }
        };
        let patches = flow.rollout_to_patches().expect("a part");
        assert_eq!(patches.dims(), [2, tokens - prefix]);
        let heads = flow.last_to_patches().expect("a part");
        assert_eq!(heads.dims(), [2, case.config.num_heads, tokens - prefix]);
        let got = flat(&patches.get(1).expect("an image"));
        assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{}: {got:?}, {expected:?}", case.name);
    }
}

#[test]
fn with_an_attention_pool_the_map_is_what_the_pool_reads() {
    let config = small().with(|c| (c.class_token, c.reg_tokens, c.global_pool) = (false, 2, GlobalPool::Map));
    let params = Params::new(5, DType::F32, &Device::Cpu);
    let normal = |shape: (usize, usize)| Tensor::randn(0f32, 1., shape, &Device::Cpu).expect("numbers");
    params.provide("attn_pool.q.weight", normal((12, 12)));
    params.provide("attn_pool.kv.weight", normal((24, 12)));
    let vit = Vit::new(&config, params.builder()).expect("it builds");
    let flow = vit.attention_flow(&images(12)).expect("a forward pass");
    let by_hand = || -> candle_core::Result<Tensor> {
        let tokens = vit.forward_features(&images(12), Mode::Eval)?.narrow(1, 2, 9)?.contiguous()?;
        let get = |name: &str| params.get(name).expect("it is there").var.as_detached_tensor();
        let q = get("attn_pool.latent").broadcast_matmul(&get("attn_pool.q.weight").t()?)?;
        let k = tokens.broadcast_matmul(&get("attn_pool.kv.weight").narrow(0, 0, 12)?.t()?)?;
        let of_head = |x: &Tensor, head: usize| x.narrow(2, 4 * head, 4)?.contiguous();
        let weights = |head| {
            let scores = of_head(&k, head)?.broadcast_mul(&of_head(&q, head)?)?.sum(2)?.affine(0.5, 0.)?.exp()?;
            scores.broadcast_div(&scores.sum_keepdim(1)?)
        };
        let reads = ((weights(0)? + weights(1)?)? + weights(2)?)?.affine(1. / 3., 0.)?;
        assert!(flat(&reads).iter().any(|&weight| weight > 0.2), "far from uniform");
        let patches = flow.last.narrow(2, 2, 9)?.narrow(3, 2, 9)?.contiguous()?;
        reads.reshape((2, 1, 1, 9))?.broadcast_matmul(&patches)?.squeeze(2)
    };
    let got = flow.last_to_patches().expect("maps");
    assert_close("what the pool reads", &got, &by_hand().expect("numbers"), 1e-5);
}

#[test]
fn the_parts_for_small_data_cost_the_operations_that_pytorch_counts() {
    for case in small_data() {
        assert_eq!(Some(Architecture::Vit(case.config).flops()), case.facts["flops"].as_u64(), "{}", case.name);
    }
}

#[test]
fn with_locality_no_token_attends_to_itself() {
    for config in [
        small().with(|c| c.lsa = true),
        small().with(|c| {
            c.lsa = true;
            c.qk_norm = true;
        }),
    ] {
        for map in build(&config).attention_maps(&images(12)).expect("maps") {
            for head in map.flatten_to(1).and_then(|maps| maps.to_vec3::<f32>()).expect("maps") {
                for (i, row) in head.iter().enumerate() {
                    assert_eq!(row[i], 0.);
                    assert!((row.iter().sum::<f32>() - 1.).abs() < 1e-5);
                }
            }
        }
    }
}

#[test]
fn the_learned_scale_starts_at_the_fixed_one() {
    let params = Params::new(5, DType::F32, &Device::Cpu);
    Vit::new(&small().with(|c| c.lsa = true), params.builder()).expect("it builds");
    let scale = params.get("blocks.2.attn.scale").expect("a scale of its own for every block");
    assert_eq!(scale.var.to_vec1::<f32>().expect("numbers"), [0.5; 3]);
    assert!(!scale.decayed());
}

#[test]
fn a_block_without_its_mlp_adds_the_values_weighed_by_its_attention_map() {
    // Written out with Candle's own operations: x + Σ map · v, through the projection.
    let composed = |x: &Tensor, map: &Tensor, params: &Params| -> candle_core::Result<Tensor> {
        let get = |name: &str| params.get(name).expect("it is there").var.as_detached_tensor();
        let centred = x.broadcast_sub(&x.mean_keepdim(2)?)?;
        let norm = centred.broadcast_div(&(centred.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?)?;
        let v = norm.broadcast_matmul(&get("blocks.0.attn.qkv.weight").narrow(0, 24, 12)?.t()?)?;
        let v = v.broadcast_add(&get("blocks.0.attn.qkv.bias").narrow(0, 24, 12)?)?;
        let v = v.reshape((2, 10, 3, 4))?.transpose(1, 2)?.contiguous()?;
        let mixed = map.matmul(&v)?.transpose(1, 2)?.reshape((2, 10, 12))?;
        x + mixed.broadcast_matmul(&get("blocks.0.attn.proj.weight").t()?)?
    };
    let params = Params::new(5, DType::F32, &Device::Cpu);
    let normal = |shape: (usize, usize)| Tensor::randn(0f32, 1., shape, &Device::Cpu).expect("numbers");
    params.provide("blocks.0.attn.qkv.weight", normal((36, 12)));
    params.provide("blocks.0.mlp.fc2.weight", Tensor::zeros((12, 48), DType::F32, &Device::Cpu).expect("zeros"));
    let vit = Vit::new(&small(), params.builder()).expect("it builds");
    let x = vit.embed(&images(12), Mode::Eval).expect("tokens");
    let map = &vit.attention_maps(&images(12)).expect("maps")[0];
    assert!(flat(map).iter().any(|&w| w > 0.3), "far from uniform");
    let got = flat(&vit.blocks()[0].forward(&x, Mode::Eval).expect("tokens"));
    let expected = flat(&composed(&x, map, &params).expect("tokens"));
    assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{got:?}, {expected:?}");
}

#[test]
fn sinusoidal_encodings_have_the_values_of_the_formula() {
    let table = sinusoidal(50, 16).expect("a table").to_vec2::<f32>().expect("numbers");
    assert_eq!(table[0], [0., 1.].repeat(8));
    for (position, column, expected) in [
        // sin(1), cos(1); sin(3 / 10000^(2/16)), cos of the same; cos(49 / 10000^(14/16)).
        (1, 0, 0.841_470_98),
        (1, 1, 0.540_302_3),
        (3, 2, 0.812_648_9),
        (3, 3, 0.582_753_6),
        (49, 15, 0.999_879_9),
    ] {
        let got = f64::from(table[position][column]);
        assert!((got - expected).abs() < 1e-6, "{position} {column}: {got}");
    }
    assert_eq!(sinusoidal(7, 5).expect("an odd width").dims(), [7, 5]);
}

#[test]
fn a_sinusoidal_vit_is_a_learned_one_with_these_positions_and_one_parameter_less() {
    for no_embed_class in [false, true] {
        let learned = small().with(|c| c.no_embed_class = no_embed_class);
        let fixed = learned.clone().with(|c| c.pos_embed = PosEmbed::Sinusoidal);
        let params = Params::new(5, DType::F32, &Device::Cpu);
        let table = sinusoidal(learned.num_positions(), 12).and_then(|t| t.unsqueeze(0)).expect("a table");
        params.provide("pos_embed", table);
        let learned = Vit::new(&learned, params.builder()).expect("it builds");
        let logits = |vit: &Vit| flat(&vit.forward(&images(12), Mode::Eval).expect("a forward pass"));
        assert_eq!(logits(&learned), logits(&build(&fixed)));
        let names = Architecture::Vit(fixed).parameters().expect("it is valid");
        assert_eq!(names.len() + 1, params.names().len());
        assert!(names.iter().all(|p| p.name != "pos_embed"));
    }
}

#[test]
fn without_a_head_the_logits_are_the_pooled_features() {
    for global_pool in [GlobalPool::Token, GlobalPool::Avg, GlobalPool::Map, GlobalPool::TokenAvg] {
        let config = small().with(|c| {
            c.global_pool = global_pool;
            c.num_classes = 0;
        });
        let vit = build(&config);
        let logits = vit.forward(&images(12), Mode::Eval).expect("a forward pass");
        assert_eq!(logits.dims(), [2, config.num_features()]);
        assert_eq!(flat(&logits), flat(&vit.pooled(&images(12), Mode::Eval).expect("a forward pass")));
    }
    let distilled = build(&small().with(|c| c.distilled = true));
    let pooled = distilled.pooled(&images(12), Mode::Eval).expect("a forward pass");
    assert!(distilled.head(&pooled).expect_err("two heads").to_string().contains("two heads that read two tokens"));
}

#[test]
fn tokens_of_another_shape_are_refused_by_the_head() {
    let vit = build(&small().with(|c| {
        c.global_pool = GlobalPool::Avg;
        c.reg_tokens = 3;
    }));
    for shape in [vec![2, 2, 12], vec![2, 13, 6], vec![13, 12], vec![0, 13, 12], vec![]] {
        let tokens = Tensor::zeros(shape.as_slice(), DType::F32, &Device::Cpu).expect("tokens");
        let error = vit.forward_head(&tokens, false, Mode::Eval).expect_err("they do not fit").to_string();
        assert!(error.contains(&format!("tokens: expected [batch, 13, 12], got: {shape:?}")), "{error}");
    }
}

#[test]
fn stochastic_depth_rises_linearly_over_the_blocks() {
    let rates = |depth, drop_path_rate| {
        let config = small().with(|c| {
            c.depth = depth;
            c.drop_path_rate = drop_path_rate;
        });
        (0..depth).map(|i| config.block_drop_path_rate(i)).collect::<Vec<_>>()
    };
    assert_eq!(rates(5, 0.4), [0., 0.1, 0.2, 0.4 * 3. / 4., 0.4]);
    assert_eq!(rates(1, 0.4), [0.]);
}

#[test]
fn gradient_checkpointing_gives_the_same_gradients_of_every_kind_of_block() {
    for case in cases() {
        let dropout = case.config.clone().with(|c| {
            c.attn_drop_rate = 0.2;
            c.proj_drop_rate = 0.1;
            c.drop_path_rate = 0.3;
        });
        for config in [case.config.clone(), dropout] {
            let (params, mut vit) = case.build_as(&config, DType::F32);
            let gradients = [false, true].map(|on| {
                vit.set_grad_checkpointing(on);
                let images = (case.tensor("images") * 1.).expect("images");
                let y = vit.forward(&images, Mode::Train { seed: 5 }).expect("logits");
                y.sqr().and_then(|y| y.sum_all()).and_then(|loss| loss.backward()).expect("a backward")
            });
            for param in params.all() {
                let [without, with] = gradients.each_ref().map(|store| store.get(&param.var));
                match (without, with) {
                    (Some(without), Some(with)) => {
                        let d =
                            (without - with).and_then(|d| d.abs()?.max_all()?.to_scalar::<f32>()).expect("a number");
                        assert_eq!(d, 0., "{}: {}", case.name, param.name);
                    }
                    _ => assert_eq!(with.is_some(), without.is_some(), "{}: {}", case.name, param.name),
                }
            }
        }
    }
}
