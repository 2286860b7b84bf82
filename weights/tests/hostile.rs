//! Files that are cut, lie, overlap, explode or are poisoned give one error that says where and what: never a panic, never the
//! memory that they claim.

#[path = "support/references.rs"]
mod references;

use std::io::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use tallow_models::{Architecture, Params, VitConfig};
use tallow_weights::{Account, CheckpointConfig, Error, LoadOptions, OpenOptions, Source, load, open};
use zip::write::SimpleFileOptions;

use references::{references, vit};

/// Writes the bytes into a file, opens it and reads every tensor.
fn read_all(bytes: &[u8]) -> Result<usize, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights");
    std::fs::write(&file, bytes).unwrap();
    let checkpoint = open(&Source::File(file), &OpenOptions::default())?;
    let names: Vec<String> = checkpoint.names().map(str::to_owned).collect();
    for name in &names {
        checkpoint.tensor(name)?;
    }
    Ok(names.len())
}

fn assert_refused(what: &str, bytes: &[u8], words: &[&str]) {
    let error = read_all(bytes).expect_err(what).to_string();
    assert!(!error.contains('\n'), "{what}: {error}");
    assert!(words.iter().all(|word| error.contains(word)), "{what}: {error}");
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn safetensors_that_lie_are_refused() {
    let entry = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let good = safetensors(&format!("{{{}}}", entry("a", "[2]", "[0,8]")), &[0; 8]);
    assert_eq!(read_all(&good).unwrap(), 1);
    assert_refused("empty", b"", &["empty"]);
    assert_refused("nothing known", b"hello, world, this is text", &["hello"]);
    assert_refused("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\n", &["git lfs pull"]);
    assert_refused("cut", &good[..good.len() - 1], &["whole safetensors"]);
    assert_refused("too long", &[&good[..], &[0]].concat(), &["whole safetensors"]);
    let mut lie = good.clone();
    lie[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_refused("header of 2^64 bytes", &lie, &["header"]);
    for (what, header) in [
        ("overlap", format!("{{{},{}}}", entry("a", "[2]", "[0,8]"), entry("b", "[2]", "[4,12]"))),
        ("gap", format!("{{{}}}", entry("a", "[1]", "[4,8]"))),
        ("shape that overflows", format!("{{{}}}", entry("a", "[4294967296,4294967296,4]", "[0,8]"))),
        ("shape that asks for more", format!("{{{}}}", entry("a", "[3]", "[0,8]"))),
        ("offsets beyond the end", format!("{{{}}}", entry("a", "[1000000000000]", "[0,4000000000000]"))),
        ("one name twice", format!("{{{},{}}}", entry("a", "[1]", "[0,4]"), entry("a", "[1]", "[4,8]"))),
    ] {
        assert_refused(what, &safetensors(&header, &[0; 8]), &["safetensors"]);
    }
    let eight_bits = safetensors(r#"{"a":{"dtype":"F8_E5M2","shape":[8],"data_offsets":[0,8]}}"#, &[0; 8]);
    assert_refused("a type that is not read", &eight_bits, &["F8_E5M2", "not supported"]);
}

#[test]
fn no_length_of_a_header_is_taken_for_another_format() {
    // 0x180 … 0x580 begin as a pickle does.
    for length in [0x180usize, 0x280, 0x380, 0x480, 0x580, 0x10180] {
        let entry = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let header = format!("{entry}{}", " ".repeat(length - entry.len()));
        assert_eq!(read_all(&safetensors(&header, &[0; 8])).unwrap(), 1, "{length}");
    }
}

/// A GGUF header in the making.
struct Gguf(Vec<u8>);

impl Gguf {
    fn new(tensors: u64, metadata: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(metadata)
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn text(self, text: &str) -> Self {
        let mut longer = self.u64(text.len() as u64);
        longer.0.extend(text.bytes());
        longer
    }
    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let start = self.text(name).u32(dims.len() as u32);
        dims.iter().fold(start, |gguf, &dim| gguf.u64(dim)).u32(kind).u64(offset)
    }
    fn data(mut self, length: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32) + length, 0);
        self.0
    }
}

#[test]
fn gguf_that_lies_is_refused() {
    assert_eq!(read_all(&Gguf::new(1, 0).tensor("a", &[32, 2], 8, 0).data(68)).unwrap(), 1);
    let huge = u64::MAX / 2;
    assert_refused("tensors without end", &Gguf::new(huge, 0).data(64), &["whole GGUF header"]);
    assert_refused("metadata without end", &Gguf::new(0, huge).data(64), &[]);
    assert_refused("a name without end", &Gguf::new(1, 0).u64(huge).data(64), &["whole GGUF header"]);
    assert_refused(
        "an array without end",
        &Gguf::new(0, 1).text("k").u32(9).u32(0).u64(huge).data(64),
        &["whole GGUF header"],
    );
    assert_refused(
        "texts without end",
        &Gguf::new(0, 1).text("k").u32(9).u32(8).u64(huge).data(64),
        &["whole GGUF header"],
    );
    let nested = (0..1000).fold(Gguf::new(0, 1).text("k").u32(9), |gguf, _| gguf.u32(9).u64(1));
    assert_refused("arrays in arrays", &nested.data(64), &["type of metadata"]);
    let aligned =
        |alignment| Gguf::new(1, 1).text("general.alignment").u32(4).u32(alignment).tensor("a", &[1], 0, 0).data(64);
    assert_refused("an alignment of 0", &aligned(0), &["multiple of 8"]);
    assert_refused("an alignment of 3", &aligned(3), &["multiple of 8"]);
    assert_refused("an alignment beyond the file", &aligned(u32::MAX - 7), &["inside the file"]);
    for (what, dims, kind, offset, word) in [
        ("values beyond the end", &[1000u64][..], 0, 0, "inside the file"),
        ("an offset beyond the end", &[1], 0, u64::MAX - 31, "inside the file"),
        ("a crooked offset", &[1], 0, 4, "divisible"),
        ("a shape that overflows", &[1 << 40, 1 << 40], 0, 0, "inside the file"),
        ("a row that is no multiple of a block", &[33], 8, 0, "divisible by 32"),
        ("an unknown quantisation", &[32], 99, 0, "quantisation number 99"),
        ("five dimensions", &[1, 1, 1, 1, 1], 0, 0, "at most 4"),
    ] {
        assert_refused(what, &Gguf::new(1, 0).tensor("a", dims, kind, offset).data(64), &[word]);
    }
    let overlapping = Gguf::new(2, 0).tensor("a", &[16], 0, 0).tensor("b", &[16], 0, 32).data(128);
    assert_refused("tensors that overlap", &overlapping, &["overlap"]);
    let twice = Gguf::new(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(128);
    assert_refused("one name twice", &twice, &["twice"]);
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn npy(dictionary: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(dictionary.len() as u16).to_le_bytes()[..], dictionary.as_bytes(), data].concat()
}

#[test]
fn npz_that_lies_is_refused() {
    let file = |shape: &str, data: &[u8]| {
        archive(&[("a.npy", &npy(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"), data))])
    };
    assert_eq!(read_all(&file("(2,)", &[0; 8])).unwrap(), 1);
    assert_refused("more than is there", &file("(3,)", &[0; 8]), &["a: expected"]);
    assert_refused("a shape that overflows", &file("(4294967296, 4294967296, 4)", &[0; 8]), &["a: expected"]);
    assert_refused("another file inside", &archive(&[("readme.txt", b"hello")]), &["readme.txt"]);
    let pickled = archive(&[("a.npy", &npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", &[0; 8]))]);
    assert_refused("objects", &pickled, &["|O"]);
    assert_refused("nothing inside", &archive(&[]), &["no tensor"]);
}

#[test]
fn a_zip_bomb_is_refused_when_it_is_opened() {
    let zeros = vec![0u8; 80 << 20];
    let bomb = archive(&[("a.npy", &zeros)]);
    assert!(bomb.len() < 1 << 20);
    assert_refused("a bomb", &bomb, &["unpacks"]);
}

/// A file of PyTorch with this pickle and one storage of eight values.
fn pth(pickle: &[u8]) -> Vec<u8> {
    archive(&[("m/data.pkl", pickle), ("m/data/0", &[0; 32])])
}

/// A state dict of one tensor with this shape, stride and offset.
fn state_dict(key: &str, offset: u32, shape: u32, stride: u32) -> Vec<u8> {
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let int = |value: u32| [&b"J"[..], &value.to_le_bytes()].concat();
    [
        b"\x80\x02}".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        int(8),
        b"tQ".to_vec(),
        int(offset),
        int(shape),
        b"\x85".to_vec(),
        int(stride),
        b"\x85".to_vec(),
        b"\x89}tRs.".to_vec(),
    ]
    .concat()
}

#[test]
fn pytorch_files_that_lie_are_refused() {
    assert_eq!(read_all(&pth(&state_dict("0", 0, 8, 1))).unwrap(), 1);
    for (what, pickle) in [
        ("more than is there", state_dict("0", 0, 9, 1)),
        ("beyond the end", state_dict("0", 1, 8, 1)),
        ("far beyond the end", state_dict("0", i32::MAX as u32, 1, 1)),
        ("a negative size", state_dict("0", 0, -1i32 as u32, 1)),
        ("a stride of 0 that repeats a value without end", state_dict("0", 0, i32::MAX as u32, 0)),
        ("a stride beyond the end", state_dict("0", 0, 2, i32::MAX as u32)),
        ("a storage that is not there", state_dict("7", 0, 1, 1)),
        ("a path for a storage", state_dict("../../etc/passwd", 0, 1, 1)),
    ] {
        assert_refused(what, &pth(&pickle), &["w: expected"]);
    }
    assert_refused("a pickle of something else", b"\x80\x02K\x01.", &["torch.save"]);
}

#[test]
fn a_pickle_is_never_executed() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let command = format!("touch {}", trace.display());
    let call =
        [b"cos\nsystem\nX".to_vec(), (command.len() as u32).to_le_bytes().to_vec(), command.into(), b"\x85R".to_vec()]
            .concat();
    let alone = [b"\x80\x02".to_vec(), call.clone(), b".".to_vec()].concat();
    assert_refused("a call alone", &pth(&alone), &["os.system"]);
    let key = [b"X".to_vec(), 1u32.to_le_bytes().to_vec(), b"w".to_vec()].concat();
    let inside = [b"\x80\x02}".to_vec(), key, call, b"s.".to_vec()].concat();
    assert_refused("a call as a value", &pth(&inside), &["state dict"]);
    assert!(!trace.exists());
}

#[test]
fn a_pickle_that_explodes_is_refused_at_once() {
    // Every round doubles a tuple by reference: written out it would have 2^60 entries.
    let mut laughs = b"\x80\x02)".to_vec();
    (0..60u8).for_each(|round| laughs.extend([b'q', round, b'h', round, 0x86]));
    laughs.push(b'.');
    assert_refused("a billion laughs", &pth(&laughs), &["state dict"]);
    // Nested as deep as the file is long.
    let deep = [&b"\x80\x02)"[..], &[0x85; 1_000_000], b"."].concat();
    assert_refused("a million tuples", &pth(&deep), &["state dict"]);
    let many = [&b"\x80\x02"[..], &[b'N'; 5_000_000], b"."].concat();
    assert_refused("more values than a state dict has", &pth(&many), &["values"]);
    assert_refused("a text without end", &pth(b"\x80\x02X\xff\xff\xff\xff"), &["an end"]);
    assert_refused("an unknown opcode", &pth(b"\x80\x02\xff."), &["0xff"]);
    // A list that holds itself.
    assert_refused("a cycle", &pth(b"\x80\x02]q\x00h\x00a."), &["state dict"]);
}

#[test]
fn damaged_files_never_panic() {
    for name in ["types.pth", "types_legacy.pth", "types.npz", "quantised.gguf", "expected/types.safetensors"] {
        let whole = std::fs::read(references().join(name)).unwrap();
        assert!(read_all(&whole).is_ok());
        // The last bytes of GGUF may be padding.
        for length in (0..whole.len() - 32).step_by(53) {
            assert!(read_all(&whole[..length]).is_err(), "{name} cut to {length} bytes");
        }
        // A flipped byte may go unnoticed in a value, and must be an error or harmless elsewhere.
        for at in (0..whole.len()).step_by(23) {
            let mut flipped = whole.clone();
            flipped[at] ^= if at % 2 == 0 { 0xff } else { 0x01 };
            let _ = read_all(&flipped);
        }
    }
}

// Loading: the tensors of a good checkpoint, changed.

fn tensors() -> Vec<(String, Tensor)> {
    let path = references().join("timm/model.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect()
}

fn load_into(tensors: &[(String, Tensor)], vit: VitConfig) -> Result<Account, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    candle_core::safetensors::save(&tensors.iter().cloned().collect(), &file).unwrap();
    let checkpoint = open(&Source::File(file), &OpenOptions::default())?;
    load(&checkpoint, &Architecture::Vit(vit), &LoadOptions::default(), &Params::new(0, DType::F32, &Device::Cpu))
}

fn assert_not_loaded(tensors: &[(String, Tensor)], vit: VitConfig, words: &[&str]) {
    let error = load_into(tensors, vit).unwrap_err().to_string();
    assert!(!error.contains('\n') && words.iter().all(|word| error.contains(word)), "{error}");
}

fn with(name: &str, change: impl Fn(&Tensor) -> Tensor) -> Vec<(String, Tensor)> {
    tensors().into_iter().map(|(n, t)| if n == name { (n, change(&t)) } else { (n, t) }).collect()
}

#[test]
fn poisoned_weights_are_named() {
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let name = "blocks.1.mlp.fc1.weight";
        let poisoned = with(name, |tensor| {
            let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values[77] = poison;
            Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap()
        });
        assert_not_loaded(&poisoned, vit(), &[name, &poison.to_string()]);
    }
    // A double that float32 cannot hold.
    let poisoned = with("norm.bias", |t| (t.to_dtype(DType::F64).unwrap() + 1e300).unwrap());
    assert_not_loaded(&poisoned, vit(), &["norm.bias", "inf"]);
}

#[test]
fn renamed_missing_and_additional_tensors_are_listed() {
    let renamed: Vec<_> =
        tensors().into_iter().map(|(n, t)| (n.replace("blocks.1.attn.qkv", "blocks.1.attn.kqv"), t)).collect();
    assert_not_loaded(&renamed, vit(), &["blocks.1.attn.qkv.weight", "blocks.1.attn.kqv.weight", "timm"]);
    let missing: Vec<_> = tensors().into_iter().filter(|(name, _)| name != "norm.weight").collect();
    assert_not_loaded(&missing, vit(), &["1 parameters", "norm.weight"]);
    let mut more = tensors();
    more.push(("blocks.2.norm1.weight".into(), Tensor::ones(24, DType::F32, &Device::Cpu).unwrap()));
    assert_not_loaded(&more, vit(), &["1 tensors", "blocks.2.norm1.weight"]);
    assert_not_loaded(&tensors(), vit().with(|c| c.depth = 3), &["blocks.2."]);
    assert_not_loaded(&tensors(), vit().with(|c| c.init_values = Some(1e-5)), &["ls1.gamma", "init_values"]);
    assert_not_loaded(&tensors(), vit().with(|c| c.spt = true), &["patch_norm.weight", "leave out spt"]);
    assert_not_loaded(&tensors(), vit().with(|c| c.lsa = true), &["blocks.0.attn.scale", "leave out lsa"]);
}

#[test]
fn names_that_nobody_knows_are_listed_with_the_nearest_naming() {
    let strange: Vec<_> =
        tensors().into_iter().map(|(name, t)| (format!("x_{}", name.replace('.', "__")), t)).collect();
    assert_not_loaded(&strange, vit(), &["unknown naming", "x_", "nearest known naming"]);
}

#[test]
fn shapes_that_do_not_fit_say_so_with_a_remedy() {
    assert_not_loaded(&tensors(), vit().with(|c| c.embed_dim = 48), &["expected", "48", "24", "embed_dim"]);
    assert_not_loaded(&tensors(), vit().with(|c| c.mlp_ratio = 2.), &["mlp.fc1", "[48, 24]", "[96, 24]"]);
    let long = with("pos_embed", |t| Tensor::cat(&[t, &t.narrow(1, 0, 3).unwrap()], 1).unwrap());
    assert_not_loaded(&long, vit(), &["pos_embed", "square"]);
    let flat = with("patch_embed.proj.weight", |t| t.narrow(3, 0, 3).unwrap().contiguous().unwrap());
    assert_not_loaded(&flat, vit(), &["patch_embed.proj.weight", "[24, 3, 4, 3]"]);
}

#[test]
fn a_checkpoint_of_integers_loads_only_where_floats_fit_them() {
    // What PyTorch counts batches with is no parameter; a parameter in whole numbers is taken as such.
    let whole = with("norm.bias", |t| t.zeros_like().unwrap().to_dtype(DType::I64).unwrap());
    assert!(load_into(&whole, vit()).is_ok());
}

#[test]
fn configs_that_make_no_sense_name_the_field() {
    for (text, words) in [
        ("", &["JSON"][..]),
        ("[]", &["JSON object"]),
        ("{}", &["architecture", "model_type"]),
        (r#"{"architecture": 7}"#, &["architecture", "a text", "7"]),
        (r#"{"architecture": "vit_tiny_patch16_225"}"#, &["vit_tiny_patch16_225", "vit_tiny_patch16_224"]),
        (r#"{"architecture": "resnet50"}"#, &["resnet50"]),
        (r#"{"architecture": "vit_tiny_patch16_224", "num_classes": -3}"#, &["num_classes", "-3"]),
        (r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 4000000000}}"#, &["depth", "4000000000"]),
        (r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"embed_dim": 100}}"#, &["num_heads", "100"]),
        (
            r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": [224, 196, 3]}}"#,
            &["img_size", "[224,196,3]"],
        ),
        (
            r#"{"architecture": "vit_tiny_patch16_224", "model_args": {"block_fn": "parallel"}}"#,
            &["block_fn", "not supported"],
        ),
        (r#"{"architecture": "vit_tiny_patch16_224", "label_names": [["one"]]}"#, &["label_names", "a list of texts"]),
        (
            r#"{"architecture": "x", "tallow": {"architecture": {"family": "mlp"}, "head": "good"}}"#,
            &["tallow.head", "untrained", "good"],
        ),
        (r#"{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"std": [0.5, 0, 0.5]}}"#, &["std", "above 0"]),
        (r#"{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"crop_pct": 0}}"#, &["crop_pct"]),
        (
            r#"{"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"interpolation": "magic"}}"#,
            &["interpolation", "magic"],
        ),
        (
            r#"{"architecture": "x", "tallow": {"architecture": {"family": "vit", "depht": 3}}}"#,
            &["tallow.architecture", "depht"],
        ),
    ] {
        let error = CheckpointConfig::parse(text, None, "config.json").unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains('\n'), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
    }
}

#[test]
fn sources_that_are_not_there_say_what_to_give() {
    let error = |text: &str| Source::parse(text).unwrap_err().to_string();
    assert!(error("./no/such/folder").contains("no/such/folder"));
    assert!(error("vit_smal_patch16_224").contains("vit_small_patch16_224"));
    assert!(error("vit_small_patch16_224.nonsense").contains("augreg_in1k"));
    for text in ["hf-hub:", "hf-hub:only-a-name", "hf-hub:a/b/c", "hf-hub:/b", "hf-hub:a/b@"] {
        assert!(error(text).contains("hf-hub:OWNER/REPO"), "{text}");
    }
    let hub = Source::Hub { repo: "timm/vit_small_patch16_224.dino".into(), revision: Some("main".into()) };
    assert_eq!(Source::parse("hf-hub:timm/vit_small_patch16_224.dino@main").unwrap(), hub);
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| open(&Source::Folder(path.into()), &OpenOptions::default()).unwrap_err().to_string();
    assert!(open(folder.path()).contains("holds no weights"));
    std::fs::write(folder.path().join("a.safetensors"), "").unwrap();
    std::fs::write(folder.path().join("b.safetensors"), "").unwrap();
    assert!(open(folder.path()).contains("give the path of the file"));
}

#[test]
fn an_index_of_shards_cannot_point_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    for (text, word) in [
        (r#"{"weight_map": {"a": "../secret.safetensors"}}"#, "no file name"),
        (r#"{"weight_map": {"a": "missing.safetensors"}}"#, "missing.safetensors"),
        (r#"{"weight_map": 3}"#, "weight_map"),
        ("{", "JSON"),
    ] {
        std::fs::write(&index, text).unwrap();
        let error = open(&Source::Folder(folder.path().into()), &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
