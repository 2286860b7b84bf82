//! Text towers, tokenizers and classifiers by words, beside transformers and open_clip: `tests/references/text/make.py`.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use flate2::read::GzDecoder;
use serde_json::Value;
use tallow::text::{TextEncoder, ZeroShot};
use tallow_models::text::TextConfig;
use tallow_weights::OpenOptions;
use tallow_weights::account::Tensor as Fate;
use tempfile::TempDir;

fn references() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/text")
}

fn unzipped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// One of the reference models in a folder of its own.
fn model(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(references().join(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        match file.strip_suffix(".gz").filter(|_| !file.starts_with("bpe")) {
            Some(plain) => fs::write(folder.path().join(plain), unzipped(&path)).unwrap(),
            None => drop(fs::copy(&path, folder.path().join(file)).unwrap()),
        }
    }
    folder
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&unzipped(&references().join(name))).unwrap()
}

fn encoder(folder: &TempDir) -> TextEncoder {
    TextEncoder::from_pretrained(folder.path().to_str().unwrap()).unwrap()
}

fn error(folder: &TempDir) -> String {
    TextEncoder::from_pretrained(folder.path().to_str().unwrap()).expect_err("an error").to_string()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The largest difference, relative to the largest value where that is above 1.
fn furthest(got: &Tensor, expected: &Value) -> f64 {
    let got = got.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
    let expected = expected.as_array().unwrap();
    assert_eq!(got.len(), expected.len());
    let (mut off, mut largest) = (0f64, 1f64);
    for (got, expected) in got.iter().zip(expected) {
        let expected = expected.as_array().unwrap();
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            let expected = expected.as_f64().unwrap();
            (off, largest) = (off.max((got - expected).abs()), largest.max(expected.abs()));
        }
    }
    off / largest
}

#[test]
fn tokens_and_vectors_of_texts_are_those_of_the_libraries_in_every_layout() {
    let reference = json("reference.json.gz");
    let sentences = texts(&reference["sentences"]);
    for name in ["clip", "siglip", "siglip2", "open_clip", "open_clip_siglip", "open_clip_scaled"] {
        let (folder, expected) = (model(name), &reference[name]);
        let encoder = encoder(&folder);
        for (tokens, expected) in encoder.tokens(&sentences).unwrap().iter().zip(expected["tokens"].as_array().unwrap())
        {
            assert_eq!(tokens.ids, ids(expected), "{name}");
        }
        let off = furthest(&encoder.embed(&sentences).unwrap(), &expected["texts"]);
        assert!(off < 2e-5, "{name}: {off}");
    }
}

#[test]
fn marks_that_a_text_spells_out_are_what_the_libraries_take_them_for() {
    let reference = json("reference.json.gz");
    for name in ["clip", "siglip", "siglip2", "open_clip", "open_clip_siglip"] {
        let (folder, expected) = (model(name), reference[name]["marked"].as_array().unwrap());
        let encoder = encoder(&folder);
        for (text, expected) in texts(&reference["marked"]).iter().zip(expected) {
            assert_eq!(encoder.tokenizer().encode(text).unwrap().ids, ids(expected), "{name}: {text:?}");
        }
    }
}

#[test]
fn a_text_tower_of_another_kind_is_told_by_name() {
    let table = |name: &str| (name.to_owned(), Tensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap());
    for (tensors, told) in [
        (
            &["text_model.embeddings.word_embeddings.weight", "text_projection.weight", "visual_projection.weight"][..],
            "Chinese-CLIP's BERT",
        ),
        (
            &["text_model.roberta.embeddings.word_embeddings.weight", "text_model.transformation.weight"],
            "AltCLIP's XLM-RoBERTa",
        ),
        (&["text.transformer.embeddings.word_embeddings.weight"], "a BERT"),
        (&["text_model.layers.0.mlp.weight", "text_model.embed_tokens.weight"], "a language model"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let tensors: HashMap<String, Tensor> = tensors.iter().map(|name| table(name)).collect();
        candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
        let message = error(&folder);
        assert!(
            message.contains(&format!("its text tower is {told}")) && message.contains("not supported"),
            "{message}"
        );
    }
    // AIMv2's names.
    let folder = model("siglip");
    let path = folder.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let norm = tensors.remove("text_model.encoder.layers.0.layer_norm1.weight").unwrap();
    tensors.remove("text_model.encoder.layers.0.layer_norm1.bias");
    tensors.insert("text_model.encoder.layers.0.rms_norm1.weight".into(), norm);
    candle_core::safetensors::save(&tensors, path).unwrap();
    let message = error(&folder);
    assert!(message.contains("its norms are RMS norms, which have no bias"), "{message}");
}

#[test]
fn a_text_tower_that_is_left_out_is_called_so_tensor_by_tensor() {
    let folder = model("open_clip");
    let loaded = tallow::Pretrained::from_pretrained(folder.path().to_str().unwrap()).unwrap();
    let account = loaded.account();
    let of_text = account.tensors.iter().filter(|tensor| tensor.name.starts_with("transformer."));
    assert_eq!(of_text.clone().count(), 24);
    for tensor in of_text {
        let Fate::LeftOut { why } = &tensor.fate else { panic!("{tensor:?}") };
        assert!(why.contains("text tower"), "{}: {why}", tensor.name);
    }
}

#[test]
fn a_tower_is_told_by_names_and_shapes_where_no_config_is_there() {
    let reference = json("reference.json.gz");
    let sentences = texts(&reference["sentences"]);
    for (name, config, heads) in [("siglip", "config.json", 2), ("open_clip", "open_clip_config.json", 2)] {
        let folder = model(name);
        let known: TextConfig = encoder(&folder).config().clone();
        fs::remove_file(folder.path().join(config)).unwrap();
        let path = folder.path().to_str().unwrap();
        if name == "open_clip" {
            let message = error(&folder);
            assert!(message.contains("whose activation no tensor tells"), "{message}");
        }
        let options = OpenOptions::default().with(|c| c.act = Some(known.act));
        let bare = TextEncoder::builder(path).open_options(options).load().unwrap();
        assert!(bare.notes()[0].contains("no config says what the text tower is made of"), "{:?}", bare.notes());
        // Heads cannot be told: so narrow a tower is taken to have one.
        let got = bare.config().clone().with(|c| c.num_heads = heads);
        assert_eq!(
            (got.embed_dim, got.depth, got.causal, got.pool, got.act),
            (known.embed_dim, known.depth, known.causal, known.pool, known.act)
        );
        assert_eq!(bare.tokens(&sentences).unwrap()[0].ids, ids(&reference[name]["tokens"][0]), "{name}");
    }
}

/// The characters that stand for bytes in CLIP's vocabulary, in its order.
fn characters() -> Vec<char> {
    let seen = |byte: &u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..256u32).filter(|byte| !seen(byte)).count() as u32;
    (0..256u32).filter(seen).chain(0x100..0x100 + hidden).map(|code| char::from_u32(code).unwrap()).collect()
}

/// A model with a table for so many tokens, all of it zeros: its tokenizer is what is looked at.
fn with_table(folder: &TempDir, file: &str, table: &str, rows: usize) {
    let path = folder.path().join(file);
    let mut tensors: HashMap<String, Tensor> = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let width = tensors[table].dim(1).unwrap();
    tensors.insert(table.into(), Tensor::zeros((rows, width), DType::F32, &Device::Cpu).unwrap());
    let positions = ["positional_embedding", "text_model.embeddings.position_embedding.weight"];
    for name in positions.into_iter().filter(|name| tensors.contains_key(*name)).collect::<Vec<_>>() {
        tensors.insert(name.into(), Tensor::zeros((77, width), DType::F32, &Device::Cpu).unwrap());
    }
    candle_core::safetensors::save(&tensors, &path).unwrap();
    for (config, parts, field) in [
        ("config.json", &["text_config"][..], "max_position_embeddings"),
        ("open_clip_config.json", &["model_cfg", "text_cfg"], "context_length"),
    ] {
        let path = folder.path().join(config);
        let Ok(text) = fs::read(&path) else { continue };
        let mut value: Value = serde_json::from_slice(&text).unwrap();
        let tower = parts.iter().fold(&mut value, |value, part| &mut value[part]);
        tower[field] = 77.into();
        tower["vocab_size"] = rows.into();
        fs::write(&path, value.to_string()).unwrap();
    }
}

/// The tensors of a model in a folder after a change.
fn with_tensors(folder: &TempDir, file: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let path = folder.path().join(file);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

#[test]
fn a_text_tower_that_its_config_describes_otherwise_is_refused() {
    let file = "open_clip_model.safetensors";
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let folder = model("open_clip");
    with_tensors(&folder, file, |tensors| drop(tensors.remove("text_projection")));
    let message = error(&folder);
    assert!(message.contains("(embed_dim), got none in the weights"), "{message}");

    let folder = model("open_clip");
    with_tensors(&folder, file, |tensors| {
        let width = tensors["positional_embedding"].dim(1).unwrap();
        tensors.insert("positional_embedding".into(), zeros(&[5, width]));
    });
    let message = error(&folder);
    assert!(message.contains("context_length says") && message.contains("got 5 in the weights"), "{message}");

    let folder = model("open_clip");
    with_tensors(&folder, file, |tensors| drop(tensors.insert("logit_scale".into(), zeros(&[2]))));
    let message = error(&folder);
    assert!(message.contains("a logit_scale of one value"), "{message}");
}

#[test]
fn images_of_a_projection_that_is_left_out_are_not_set_beside_words() {
    let folder = model("open_clip");
    with_tensors(&folder, "open_clip_model.safetensors", |tensors| {
        let weight = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("visual.head.mlp.fc1.weight".into(), weight);
    });
    assert!(encoder(&folder).check_images().expect_err("an error").to_string().contains("timm_proj"));
    let message = ZeroShot::new(&["a cat", "a dog"]).load(folder.path().to_str().unwrap()).expect_err("an error");
    assert!(message.to_string().contains("cannot be compared with words"), "{message}");
    assert!(encoder(&model("open_clip")).check_images().is_ok());
}

#[test]
fn clips_own_pairs_cut_texts_of_all_kinds_as_open_clip_and_transformers_cut_them() {
    let (reference, pairs) = (json("tokens.json.gz"), references().join("bpe_2000.txt.gz"));
    let sentences = texts(&reference["texts"]);
    let lines = String::from_utf8(unzipped(&pairs)).unwrap();
    let lines: Vec<&str> = lines.split('\n').skip(1).collect();

    let open_clip = model("open_clip");
    fs::copy(&pairs, open_clip.path().join("bpe_simple_vocab_16e6.txt.gz")).unwrap();
    with_table(&open_clip, "open_clip_model.safetensors", "token_embedding.weight", 2514);

    let clip = model("clip");
    let characters = characters();
    let tokens = characters.iter().map(char::to_string).chain(characters.iter().map(|c| format!("{c}</w>")));
    let tokens = tokens.chain(lines.iter().map(|line| line.replace(' ', "")));
    let tokens = tokens.chain(["<|startoftext|>", "<|endoftext|>"].map(String::from));
    let vocabulary: HashMap<String, usize> = tokens.zip(0..).collect();
    fs::write(clip.path().join("vocab.json"), serde_json::to_string(&vocabulary).unwrap()).unwrap();
    fs::write(clip.path().join("merges.txt"), format!("#version: 0.2\n{}\n", lines.join("\n"))).unwrap();
    with_table(&clip, "model.safetensors", "text_model.embeddings.token_embedding.weight", 2514);

    for (folder, name) in [(&open_clip, "open_clip"), (&clip, "transformers")] {
        let encoder = encoder(folder);
        for (text, expected) in sentences.iter().zip(reference[name].as_array().unwrap()) {
            let tokens = encoder.tokenizer().encode(text).unwrap();
            assert_eq!(tokens.ids[..tokens.length], ids(expected), "{name}: {text:?}");
            assert_eq!(tokens.ids.len(), 77);
        }
    }
    // The files of transformers serve open_clip's way too, with the same numbers.
    fs::remove_file(open_clip.path().join("bpe_simple_vocab_16e6.txt.gz")).unwrap();
    for file in ["vocab.json", "merges.txt"] {
        fs::copy(clip.path().join(file), open_clip.path().join(file)).unwrap();
    }
    let encoder = encoder(&open_clip);
    for (text, expected) in sentences.iter().zip(reference["open_clip"].as_array().unwrap()) {
        let tokens = encoder.tokenizer().encode(text).unwrap();
        assert_eq!(tokens.ids[..tokens.length], ids(expected), "{text:?}");
    }
}

#[test]
fn a_tokenizer_that_is_missing_or_of_another_model_is_refused_before_anything_is_computed() {
    let folder = model("clip");
    for file in ["vocab.json", "merges.txt"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let message = error(&folder);
    assert!(
        message.contains("the tokenizer: expected tokenizer.json, or vocab.json with merges.txt, got none"),
        "{message}"
    );

    let (clip, siglip) = (model("clip"), model("siglip"));
    fs::copy(siglip.path().join("tokenizer.json"), clip.path().join("tokenizer.json")).unwrap();
    let message = error(&clip);
    assert!(message.contains("expected a tokenizer of 538 tokens") && message.contains("another model"), "{message}");

    fs::write(clip.path().join("tokenizer.json"), "{\"model\": 3").unwrap();
    let message = error(&clip);
    assert!(message.contains("tokenizer.json: expected a tokenizer of the library"), "{message}");

    let clip = model("clip");
    let pairs = fs::read_to_string(clip.path().join("merges.txt")).unwrap();
    let most = pairs.lines().count() - 2;
    let cut: Vec<&str> = pairs.lines().take(most).collect();
    fs::write(clip.path().join("merges.txt"), cut.join("\n")).unwrap();
    let message = error(&clip);
    assert!(message.contains("merges.txt: expected the pairs that make the 538 tokens"), "{message}");

    let clip = model("clip");
    let mut vocabulary: HashMap<String, u32> =
        serde_json::from_slice(&fs::read(clip.path().join("vocab.json")).unwrap()).unwrap();
    vocabulary.insert("!".into(), 600);
    fs::write(clip.path().join("vocab.json"), serde_json::to_string(&vocabulary).unwrap()).unwrap();
    let message = error(&clip);
    assert!(message.contains("numbers below 538") && message.contains("the number 600"), "{message}");

    fs::remove_file(siglip.path().join("tokenizer.json")).unwrap();
    fs::write(siglip.path().join("spiece.model"), "x").unwrap();
    let message = error(&siglip);
    assert!(message.contains("a model of sentencepiece alone; save the tokenizer with transformers"), "{message}");
}

#[test]
fn a_checkpoint_of_images_alone_has_no_words() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/train/vit.safetensors");
    let message = TextEncoder::from_pretrained(path.to_str().unwrap()).expect_err("an error").to_string();
    assert!(message.contains("holds no text tower: it is a model of images alone"), "{message}");
}

#[test]
fn a_config_that_denies_the_layer_scale_of_the_weights_is_refused() {
    let folder = model("open_clip_scaled");
    let path = folder.path().join("open_clip_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["model_cfg"]["text_cfg"]["ls_init_value"] = Value::Null;
    fs::write(&path, config.to_string()).unwrap();
    let message = error(&folder);
    assert!(
        message.contains("expected no LayerScale in the text tower") && message.contains("ls_init_value"),
        "{message}"
    );
}

#[test]
fn texts_without_words_and_classes_of_equal_names_are_refused() {
    let folder = model("clip");
    let encoder = encoder(&folder);
    for text in ["", " \n\t "] {
        let message = encoder.embed(&["a cat", text]).expect_err("an error").to_string();
        assert!(message.starts_with("text 2: expected at least one word that the tokenizer knows"), "{message}");
    }
    let none: [&str; 0] = [];
    assert!(encoder.embed(&none).expect_err("an error").to_string().contains("at least one"));
    let path = folder.path().to_str().unwrap();
    let message = ZeroShot::new(&["a cat", "a dog", "A Cat"]).load(path).expect_err("an error").to_string();
    assert!(message.contains("names that differ") && message.contains("class 0 and class 2"), "{message}");
    let message = ZeroShot::new(&["a cat", "a dog", "a  cat"]).load(path).expect_err("an error").to_string();
    assert!(message.contains("the same tokens, for class 0 and class 2"), "{message}");
    let message = ZeroShot::new(&["a cat", ""]).load(path).expect_err("an error").to_string();
    assert!(message.starts_with("the name of a class"), "{message}");
}

/// Images as `make.py` makes them.
fn pixels(side: usize) -> Tensor {
    let values: Vec<f32> = (0..2 * 3 * side * side).map(|i| (i * 7919 % 257) as f32 / 256. - 0.5).collect();
    Tensor::from_vec(values, (2, 3, side, side), &Device::Cpu).unwrap()
}

#[test]
fn logits_of_images_and_texts_are_those_of_the_libraries() {
    let reference = json("reference.json.gz");
    let sentences = texts(&reference["sentences"]);
    for (name, side) in [
        ("clip", 16),
        ("siglip", 16),
        ("siglip2", 16),
        ("open_clip", 28),
        ("open_clip_siglip", 16),
        ("open_clip_scaled", 8),
    ] {
        let (folder, expected) = (model(name), &reference[name]);
        let model = ZeroShot::new(&sentences).sentences("{}").unwrap().load(folder.path().to_str().unwrap()).unwrap();
        let logits = model.forward(&pixels(side)).unwrap();
        let off = furthest(&logits, &expected["logits"]);
        assert!(off < 2e-5, "{name}: {off}");
    }
}

#[test]
fn a_classifier_by_words_is_open_clips() {
    let (reference, folder) = (json("reference.json.gz"), model("open_clip"));
    let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    let model = ZeroShot::new(&digits).sentences("openai-7").unwrap().load(folder.path().to_str().unwrap()).unwrap();
    let off = furthest(&model.forward(&pixels(28)).unwrap(), &reference["open_clip"]["zero_shot"]);
    assert!(off < 2e-5, "{off}");
    assert_eq!(model.label(3), "3");
}
