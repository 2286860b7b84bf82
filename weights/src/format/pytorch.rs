//! What `torch.save` writes: a zip archive with a pickle and one file a storage, or before PyTorch 1.6 a row of pickles with the
//! storages behind them. The pickle is read as data; nothing in it is executed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::archive::Archive;
use super::pickle::{self, Id, Pickle, Value};
use super::{Format, MAX_DIMS, ReadTensor, TensorFile, TensorInfo, from_bytes, map, value_count};
use crate::{Error, Result};

/// A larger pickle than this is refused; a state dict's has a few hundred bytes a tensor.
const MAX_PICKLE: u64 = 64 << 20;
/// The ten bytes of the number 0x1950a86a20f9469cfc6c, with which files from before PyTorch 1.6 open.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Paths to tensors are no deeper and no longer than this; what lies further in is passed over.
const MAX_DEPTH: usize = 16;
/// In bytes.
const MAX_PATH: usize = 512;
/// What tensors and their paths take in memory is at most so many times the pickle's bytes: a tensor takes a hundred of them, but only
/// two to be named once more.
const MAX_EXPANSION: usize = 64;
/// In bytes.
const MAX_STORAGE_NAME: usize = 256;
/// A view that repeats the values of its storage (an expanded tensor) may have this many; the largest tensor of a published ViT
/// has a third of them.
const MAX_REPEATED: usize = 1 << 26;

struct PyTorch {
    origin: String,
    storages: Storages,
    entries: Vec<Entry>,
}

enum Storages {
    /// Each is a file of the archive.
    Archive(Archive),
    /// Byte ranges of one file.
    Mapped(memmap2::Mmap),
}

/// A tensor of the file, and where its storage is: the position in the archive, or of its first byte in the file. One that
/// cannot be read only matters where it is asked for: optimisers keep stranger ones than models do.
struct Entry {
    view: View,
    storage: std::result::Result<usize, Problem>,
}

/// Why a tensor cannot be read.
struct Problem {
    expected: String,
    got: String,
}

/// Every tensor of a file, with the path of the dictionary that it is in.
struct Found {
    views: Vec<View>,
    dictionaries: Vec<String>,
}

/// A tensor as a view into a storage.
#[derive(Default)]
struct View {
    /// The path to it.
    name: String,
    /// What keeps it from being a tensor of ours.
    problem: Option<String>,
    dtype: Option<DType>,
    /// The storage's name.
    key: String,
    /// In values, into the storage.
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
}

impl View {
    /// How many values of the storage the view spans, or nothing if that overflows.
    fn span(&self) -> Option<usize> {
        let last = self.shape.iter().zip(&self.stride).try_fold(self.offset, |last, (&size, &stride)| {
            last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        })?;
        last.checked_add(1)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.stride).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    }
}

/// Opens a file of PyTorch 1.6 or later.
pub(super) fn open(archive: Archive) -> Result<TensorFile> {
    let origin = archive.origin.clone();
    let index = archive.names().position(|name| name.ends_with("data.pkl")).unwrap_or_default();
    let folder = archive.entries()[index].name.trim_end_matches("data.pkl").to_owned();
    if archive.position(&format!("{folder}constants.pkl")).is_some() {
        return Err(Error::unsupported(&origin, "a TorchScript program", "save `model.state_dict()` with torch.save"));
    }
    if let Some(index) = archive.position(&format!("{folder}byteorder")) {
        let order = archive.read_small(index, 16)?;
        if order != b"little" {
            return Err(Error::format(&origin, "values in little-endian order", String::from_utf8_lossy(&order)));
        }
    }
    let pickle = parse(&archive.read_small(index, MAX_PICKLE)?, &origin)?;
    let files: HashMap<&str, (usize, u64)> =
        archive.entries().iter().enumerate().map(|(i, entry)| (entry.name.as_str(), (i, entry.size))).collect();
    let found = tensors(&pickle, &origin)?;
    let located = |view: &View| files.get(format!("{folder}data/{}", view.key).as_str()).copied();
    let (entries, dictionaries) = (resolve(found.views, located), found.dictionaries);
    Ok(opened(origin, entries, Storages::Archive(archive), dictionaries))
}

/// Opens a file from before PyTorch 1.6: a magic number, a version, facts about the machine, the object and the names of the
/// storages, each as a pickle; then for every storage the number of its values, and the values.
pub(super) fn open_legacy(path: &Path) -> Result<TensorFile> {
    let origin = path.display().to_string();
    let map = map(path)?;
    if !map.windows(LEGACY_MAGIC.len()).take(16).any(|bytes| bytes == LEGACY_MAGIC) {
        return Err(Error::format(&origin, "what torch.save writes", "a pickle of something else"));
    }
    let mut at = 0;
    let mut pickles = Vec::new();
    while pickles.len() < 5 {
        let pickle = parse(&map[at..map.len().min(at + MAX_PICKLE as usize)], &origin)?;
        at += pickle.length;
        pickles.push(pickle);
    }
    let keys = &pickles[4];
    let Value::List(order) = &keys.values[keys.root] else {
        return Err(Error::format(&origin, "a list of storages", "something else"));
    };
    let found = tensors(&pickles[3], &origin)?;
    // Also of storages that no view uses: the optimiser's lie in between.
    let object = &pickles[3];
    let sizes: HashMap<String, usize> = object
        .values
        .iter()
        .filter_map(|value| if let Value::Persistent(id) = value { storage(object, *id).ok() } else { None })
        .map(|(dtype, key)| (key, dtype.size_in_bytes()))
        .collect();
    let mut storages = HashMap::new();
    for &id in order {
        let key = text(keys, id).unwrap_or_default();
        let Some(&size) = sizes.get(key) else {
            let remedy = "save only `model.state_dict()` with torch.save";
            return Err(Error::unsupported(&origin, format!("storage {key:?}, which is no model's tensor,"), remedy));
        };
        let cut = || Error::format(&origin, format!("a whole storage {key}"), format!("a file of {} bytes", map.len()));
        let count =
            map.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes).ok_or_else(cut)?;
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size)).ok_or_else(cut)?;
        let start = at + 8;
        at = start.checked_add(bytes).filter(|&end| end <= map.len()).ok_or_else(cut)?;
        storages.insert(key.to_owned(), (start, bytes as u64));
    }
    let entries = resolve(found.views, |view| storages.get(&view.key).copied());
    Ok(opened(origin, entries, Storages::Mapped(map), found.dictionaries))
}

fn opened(origin: String, entries: Vec<Entry>, storages: Storages, dictionaries: Vec<String>) -> TensorFile {
    let tensors = entries
        .iter()
        .map(|Entry { view, .. }| TensorInfo {
            name: view.name.clone(),
            shape: view.shape.clone(),
            dtype: view.dtype.map_or("unknown".into(), |dtype| format!("{dtype:?}")),
        })
        .collect();
    let reader = Box::new(PyTorch { origin, storages, entries });
    TensorFile { format: Format::PyTorch, tensors, dictionaries, reader, config: None }
}

impl PyTorch {
    /// The type of a tensor that can be read, and where its storage is.
    fn place(&self, index: usize) -> Result<(DType, usize)> {
        let Entry { view, storage } = &self.entries[index];
        match (storage, view.dtype) {
            (Ok(storage), Some(dtype)) => Ok((dtype, *storage)),
            (Err(problem), _) => {
                let place = format!("{}: {}", self.origin, view.name);
                Err(Error::format(&place, problem.expected.as_str(), &problem.got))
            }
            (Ok(_), None) => Err(Error::format(&self.origin, "a tensor of a known type", &view.name)),
        }
    }
}

impl ReadTensor for PyTorch {
    fn check(&self, index: usize) -> Result<()> {
        self.place(index).map(drop)
    }

    fn read(&self, index: usize) -> Result<Tensor> {
        let (dtype, storage) = self.place(index)?;
        let view = &self.entries[index].view;
        let size = dtype.size_in_bytes();
        let place = || format!("{}: {}", self.origin, view.name);
        if view.shape.contains(&0) {
            return Ok(Tensor::zeros(view.shape.as_slice(), dtype, &Device::Cpu)?);
        }
        // `resolve` has checked that the view lies inside its storage.
        let span = view.span().unwrap_or_default();
        let (start, length) = (view.offset * size, (span - view.offset) * size);
        let read;
        let bytes: &[u8] = match &self.storages {
            Storages::Archive(archive) => {
                read = archive.read(storage, start as u64, length as u64)?;
                &read
            }
            Storages::Mapped(map) => &map[storage + start..storage + start + length],
        };
        if bytes.len() != length {
            return Err(Error::format(&place(), format!("{length} bytes"), format!("{} bytes", bytes.len())));
        }
        if view.is_contiguous() {
            return from_bytes(bytes, dtype, &view.shape);
        }
        let flat = from_bytes(bytes, dtype, &[span - view.offset])?;
        let mut positions = vec![0u32];
        for (&size, &stride) in view.shape.iter().zip(&view.stride) {
            positions = positions.iter().flat_map(|&p| (0..size).map(move |i| p + (i * stride) as u32)).collect();
        }
        let positions = Tensor::new(positions, &Device::Cpu)?;
        Ok(flat.index_select(&positions, 0)?.reshape(view.shape.as_slice())?)
    }
}

fn parse(bytes: &[u8], origin: &str) -> Result<Pickle> {
    pickle::parse(bytes).map_err(|got| Error::format(origin, "a pickle that torch.save wrote", got))
}

/// Finds the storage of every view and checks that the view lies inside of it. `locate` gives a storage's position and its
/// size in bytes.
fn resolve(views: Vec<View>, locate: impl Fn(&View) -> Option<(usize, u64)>) -> Vec<Entry> {
    let storage = |view: &View| {
        let Some(dtype) = view.dtype else {
            let got = view.problem.clone().unwrap_or_default();
            return Err(Problem { expected: "a tensor".into(), got });
        };
        let (storage, bytes) = locate(view).ok_or_else(|| Problem {
            expected: format!("a storage called {:?} in the file", view.key),
            got: "none".into(),
        })?;
        let held = bytes / dtype.size_in_bytes() as u64;
        let wanted = value_count(&view.shape);
        let fits = view.span().zip(wanted).is_some_and(|(span, wanted)| {
            // A view that repeats values (a stride of 0) could ask for more than the file holds.
            let bounded = wanted as u64 <= held || wanted <= MAX_REPEATED;
            wanted == 0 || (span as u64 <= held && bounded && u32::try_from(span).is_ok())
        });
        if !fits {
            let got = format!("shape {:?}, strides {:?} from {}", view.shape, view.stride, view.offset);
            return Err(Problem { expected: format!("a view of the {held} values of its storage"), got });
        }
        Ok(storage)
    };
    views.into_iter().map(|view| Entry { storage: storage(&view), view }).collect()
}

fn text(pickle: &Pickle, id: Id) -> Option<&str> {
    match &pickle.values[id] {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// All tensors that the object holds in dictionaries and lists, however deep, in its order.
fn tensors(pickle: &Pickle, origin: &str) -> Result<Found> {
    let mut found = Found { views: Vec::new(), dictionaries: Vec::new() };
    let mut modules = Vec::new();
    // What refers to itself, or is referred to twice, is looked at once.
    let mut seen = HashSet::from([pickle.root]);
    let mut room = (pickle.length + (1 << 14)) * MAX_EXPANSION;
    modules.extend(module_class(pickle, pickle.root));
    // Dictionaries within each other, with what is still to be looked at in them.
    let mut open = vec![(String::new(), children(pickle, pickle.root).into_iter())];
    if !modules.is_empty() || tensor_arguments(pickle, pickle.root).is_some() {
        open.clear();
    }
    while let Some((dictionary, inside)) = open.last_mut() {
        let Some((key, id)) = inside.next() else {
            open.pop();
            continue;
        };
        if dictionary.len() + key.len() >= MAX_PATH {
            continue;
        }
        let path = if dictionary.is_empty() { key.into_owned() } else { format!("{dictionary}.{key}") };
        if let Some(arguments) = tensor_arguments(pickle, id) {
            if path.is_empty() {
                continue;
            }
            let view = view(pickle, &path, arguments);
            let taken = size_of::<Entry>() + 2 * path.len() + dictionary.len() + view.key.len() + 32 * view.shape.len();
            room = room.checked_sub(taken).ok_or_else(|| {
                let expected = "tensors that take not much more room than the pickle that names them";
                Error::format(origin, expected, format!("more than {} of them", found.views.len()))
            })?;
            found.views.push(view);
            found.dictionaries.push(dictionary.clone());
        } else if seen.insert(id) {
            match module_class(pickle, id) {
                Some(class) if path.is_empty() => modules.push(class),
                Some(class) => modules.push(format!("{class} as {path:?}")),
                None if open.len() < MAX_DEPTH => open.push((path, children(pickle, id).into_iter())),
                None => {}
            }
        }
    }
    let stated = found.views.iter().any(|view| view.name.ends_with(".weight") || view.name.ends_with("_token"));
    if found.views.is_empty() || (!modules.is_empty() && !stated) {
        let got = if modules.is_empty() { described(pickle) } else { modules.join(" and ") };
        let got = if modules.is_empty() { got } else { format!("{got}: {WHOLE_MODULE}") };
        return Err(Error::format(origin, "a state dict (tensors by name)", got));
    }
    Ok(found)
}

/// What to do about pickled code.
const WHOLE_MODULE: &str =
    "a whole pickled module, which only the code that made it can open; save `model.state_dict()` with torch.save";

/// What stands in a dictionary, a list or what behaves like a dictionary, by the texts or numbers that are its keys.
fn children(pickle: &Pickle, id: Id) -> Vec<(Cow<'_, str>, Id)> {
    let of_items = |items: &[(Id, Id)]| {
        let key = |id: Id| match &pickle.values[id] {
            Value::Text(text) => Some(Cow::from(text)),
            Value::Int(number) => Some(number.to_string().into()),
            _ => None,
        };
        items.iter().filter(|item| is_open(pickle, item.1)).filter_map(|&(k, v)| Some((key(k)?, v))).collect()
    };
    match &pickle.values[id] {
        Value::Dict(items) | Value::Call { items, .. } => of_items(items),
        Value::List(items) | Value::Tuple(items) => {
            let inside = items.iter().enumerate().filter(|(_, item)| is_open(pickle, **item));
            inside.map(|(index, &item)| (index.to_string().into(), item)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether there can be tensors in a value.
fn is_open(pickle: &Pickle, id: Id) -> bool {
    matches!(pickle.values[id], Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Call { .. })
}

/// The class of a pickled module of PyTorch: its state holds the modules that it is made of.
fn module_class(pickle: &Pickle, id: Id) -> Option<String> {
    let Value::Call { callable, arguments, state: Some(state), .. } = &pickle.values[id] else { return None };
    let Value::Dict(fields) = &pickle.values[*state] else { return None };
    fields.iter().find(|(key, _)| text(pickle, *key) == Some("_modules"))?;
    // `copyreg._reconstructor(class, …)` names the class among its arguments.
    let class = match (&pickle.values[*callable], &pickle.values[*arguments]) {
        (Value::Global(module, _), Value::Tuple(arguments)) if module == "copyreg" || module == "copy_reg" => {
            &pickle.values[*arguments.first()?]
        }
        (class, _) => class,
    };
    match class {
        Value::Global(module, name) => Some(format!("a {module}.{name}")),
        _ => Some("an object".into()),
    }
}

/// What an object without tensors is.
fn described(pickle: &Pickle) -> String {
    match &pickle.values[pickle.root] {
        Value::Dict(items) => {
            let keys: Vec<&str> = items.iter().filter_map(|&(key, _)| text(pickle, key)).take(6).collect();
            format!("a dictionary of {keys:?} without any")
        }
        Value::Call { callable, .. } => match &pickle.values[*callable] {
            Value::Global(module, name) => format!("a {module}.{name}; save `model.state_dict()` with torch.save"),
            _ => "an object".into(),
        },
        _ => "something else".into(),
    }
}

/// The arguments of the call that rebuilds a tensor, if `id` is one.
fn tensor_arguments(pickle: &Pickle, id: Id) -> Option<&[Id]> {
    let Value::Call { callable, arguments, .. } = &pickle.values[id] else { return None };
    let (mut callable, mut arguments) = (*callable, *arguments);
    for _depth in 0..4 {
        let Value::Global(module, name) = &pickle.values[callable] else { return None };
        let Value::Tuple(given) = &pickle.values[arguments] else { return None };
        match (module.as_str(), name.as_str()) {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => return Some(given),
            // (data, requires_grad, hooks), and with attributes the state behind them
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                let Value::Call { callable: inner, arguments: of, .. } = &pickle.values[*given.first()?] else {
                    return None;
                };
                (callable, arguments) = (*inner, *of);
            }
            // (function, type, arguments, state)
            ("torch._tensor", "_rebuild_from_type_v2") => (callable, arguments) = (*given.first()?, *given.get(2)?),
            _ => return None,
        }
    }
    None
}

/// Type and name of the storage `('storage', class, key, location, length)`.
fn storage(pickle: &Pickle, id: Id) -> std::result::Result<(DType, String), String> {
    let Value::Tuple(storage) = &pickle.values[id] else { return Err("no storage".into()) };
    let [_, class, key, ..] = storage[..] else { return Err("no storage".into()) };
    let Value::Global(_, class) = &pickle.values[class] else { return Err("a storage without a type".into()) };
    let dtype = match class.as_str() {
        "FloatStorage" => DType::F32,
        "DoubleStorage" => DType::F64,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "ByteStorage" | "BoolStorage" => DType::U8,
        "LongStorage" => DType::I64,
        "IntStorage" => DType::I32,
        "ShortStorage" => DType::I16,
        other => return Err(format!("a {other}, which is not supported")),
    };
    let key = text(pickle, key)
        .filter(|key| key.len() <= MAX_STORAGE_NAME)
        .ok_or("a storage without a name, or with a long one")?;
    Ok((dtype, key.to_owned()))
}

/// `(storage, offset, size, stride, …)` as a view, or as one that says why it is none.
fn view(pickle: &Pickle, name: &str, arguments: &[Id]) -> View {
    readable(pickle, name, arguments).unwrap_or_else(|problem| View {
        name: name.into(),
        problem: Some(problem),
        ..View::default()
    })
}

fn readable(pickle: &Pickle, name: &str, arguments: &[Id]) -> std::result::Result<View, String> {
    let [storage, offset, size, stride, ..] = arguments else {
        return Err(format!("{} arguments", arguments.len()));
    };
    let Value::Persistent(persistent) = pickle.values[*storage] else { return Err("no storage".into()) };
    let (dtype, key) = self::storage(pickle, persistent)?;
    let unsigned = |id: Id| match pickle.values[id] {
        Value::Int(value) => usize::try_from(value).map_err(|_| format!("the size {value}")),
        _ => Err("a size that is no number".into()),
    };
    let list = |id: Id| match &pickle.values[id] {
        Value::Tuple(ids) if ids.len() > MAX_DIMS => Err(format!("a shape of {} sizes", ids.len())),
        Value::Tuple(ids) => ids.iter().map(|&id| unsigned(id)).collect::<std::result::Result<Vec<_>, _>>(),
        _ => Err("a shape that is no tuple".into()),
    };
    let (shape, stride) = (list(*size)?, list(*stride)?);
    if shape.len() != stride.len() {
        return Err(format!("shape {shape:?} with strides {stride:?}"));
    }
    Ok(View { name: name.into(), problem: None, dtype: Some(dtype), key, offset: unsigned(*offset)?, shape, stride })
}
