//! What `torch.save` writes: a zip archive with a pickle and one file a storage, or before PyTorch 1.6 a row of pickles with the
//! storages behind them. The pickle is read as data; nothing in it is executed.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::archive::Archive;
use super::pickle::{self, Id, Pickle, Value};
use super::{Format, ReadTensor, TensorFile, TensorInfo, from_bytes, map};
use crate::{Error, Result};

/// A larger pickle than this is refused; a state dict's has a few hundred bytes a tensor.
const MAX_PICKLE: u64 = 64 << 20;
/// The ten bytes of the number 0x1950a86a20f9469cfc6c, with which files from before PyTorch 1.6 open.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Where training scripts keep the state dict inside of what they save. The first that holds tensors is taken: averaged weights
/// before the raw ones, a teacher before its student, as timm and DINO do.
const WRAPPERS: [&str; 14] = [
    "state_dict_ema",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "teacher",
    "student",
    "net",
    "network",
    "module",
    "backbone",
    "encoder",
];

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

struct Entry {
    view: View,
    /// The position of the storage in the archive, or of its first byte in the file.
    storage: usize,
}

/// A tensor as a view into a storage.
struct View {
    name: String,
    dtype: DType,
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
    let (views, notes) = views(&pickle, &origin)?;
    let entries = resolve(&origin, views, |view| files.get(format!("{folder}data/{}", view.key).as_str()).copied())?;
    Ok(opened(origin, entries, Storages::Archive(archive), notes))
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
    let (views, notes) = views(&pickles[3], &origin)?;
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
    let entries = resolve(&origin, views, |view| storages.get(&view.key).copied())?;
    Ok(opened(origin, entries, Storages::Mapped(map), notes))
}

fn opened(origin: String, entries: Vec<Entry>, storages: Storages, notes: Vec<String>) -> TensorFile {
    let tensors = entries
        .iter()
        .map(|Entry { view, .. }| TensorInfo {
            name: view.name.clone(),
            shape: view.shape.clone(),
            dtype: format!("{:?}", view.dtype),
        })
        .collect();
    let reader = Box::new(PyTorch { origin, storages, entries });
    TensorFile { format: Format::PyTorch, tensors, reader, config: None, notes }
}

impl ReadTensor for PyTorch {
    fn read(&self, index: usize) -> Result<Tensor> {
        let Entry { view, storage } = &self.entries[index];
        let size = view.dtype.size_in_bytes();
        let place = || format!("{}: {}", self.origin, view.name);
        // `resolve` has checked that the view lies inside its storage.
        let span = view.span().unwrap_or_default();
        let (start, length) = (view.offset * size, (span - view.offset) * size);
        let read;
        let bytes: &[u8] = match &self.storages {
            Storages::Archive(archive) => {
                read = archive.read(*storage, start as u64, length as u64)?;
                &read
            }
            Storages::Mapped(map) => &map[storage + start..storage + start + length],
        };
        if bytes.len() != length {
            return Err(Error::format(&place(), format!("{length} bytes"), format!("{} bytes", bytes.len())));
        }
        if view.is_contiguous() {
            return from_bytes(bytes, view.dtype, &view.shape);
        }
        let flat = from_bytes(bytes, view.dtype, &[span - view.offset])?;
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
fn resolve(origin: &str, views: Vec<View>, locate: impl Fn(&View) -> Option<(usize, u64)>) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(views.len());
    for view in views {
        let place = format!("{origin}: {}", view.name);
        let (storage, bytes) = locate(&view)
            .ok_or_else(|| Error::format(&place, format!("a storage called {:?} in the file", view.key), "none"))?;
        let held = bytes / view.dtype.size_in_bytes() as u64;
        let wanted = view.shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        let fits = view.span().zip(wanted).is_some_and(|(span, wanted)| {
            // A view that repeats values (a stride of 0) could ask for more than the file holds.
            wanted == 0 || (span as u64 <= held && wanted as u64 <= held && u32::try_from(span).is_ok())
        });
        if !fits || view.shape.contains(&0) {
            let got = format!("shape {:?}, strides {:?} from {}", view.shape, view.stride, view.offset);
            return Err(Error::format(&place, format!("a view of the {held} values of its storage"), got));
        }
        entries.push(Entry { view, storage });
    }
    Ok(entries)
}

fn text(pickle: &Pickle, id: Id) -> Option<&str> {
    match &pickle.values[id] {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The tensors of a state dict, wherever the object keeps it, and what was passed over.
fn views(pickle: &Pickle, origin: &str) -> Result<(Vec<View>, Vec<String>)> {
    let (mut current, mut notes) = (pickle.root, Vec::new());
    for _depth in 0..4 {
        let Value::Dict(items) = &pickle.values[current] else { break };
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for &(key, value) in items {
            let Some(name) = text(pickle, key) else { continue };
            if let Some(arguments) = tensor_arguments(pickle, value) {
                if !seen.insert(name) {
                    return Err(Error::format(origin, "names that are unique", format!("{name} twice")));
                }
                let view = view(pickle, name, arguments);
                found.push(view.map_err(|got| Error::format(&format!("{origin}: {name}"), "a tensor", got))?);
            }
        }
        if !found.is_empty() {
            return Ok((found, notes));
        }
        let inside = |wrapper: &str| {
            let item = items.iter().find(|(key, _)| text(pickle, *key) == Some(wrapper))?;
            matches!(pickle.values[item.1], Value::Dict(_)).then_some(item.1)
        };
        let Some((wrapper, next)) = WRAPPERS.iter().find_map(|&name| Some((name, inside(name)?))) else { break };
        let others: Vec<&str> =
            WRAPPERS.iter().copied().filter(|&name| name != wrapper && inside(name).is_some()).collect();
        if !others.is_empty() {
            notes.push(format!("the file's {wrapper:?} was read, its {others:?} was not"));
        }
        current = next;
    }
    let got = match &pickle.values[pickle.root] {
        Value::Dict(items) => {
            let keys: Vec<&str> = items.iter().filter_map(|&(key, _)| text(pickle, key)).take(6).collect();
            format!("a dictionary of {keys:?}")
        }
        Value::Call { callable, .. } => match &pickle.values[*callable] {
            Value::Global(module, name) => format!("a {module}.{name}; save `model.state_dict()` with torch.save"),
            _ => "an object".into(),
        },
        _ => "something else".into(),
    };
    Err(Error::format(origin, "a state dict (tensors by name)", got))
}

/// The arguments of the call that rebuilds a tensor, if `id` is one.
fn tensor_arguments(pickle: &Pickle, id: Id) -> Option<&[Id]> {
    let mut id = id;
    for _depth in 0..4 {
        let Value::Call { callable, arguments, .. } = &pickle.values[id] else { return None };
        let Value::Global(module, name) = &pickle.values[*callable] else { return None };
        let Value::Tuple(arguments) = &pickle.values[*arguments] else { return None };
        match (module.as_str(), name.as_str()) {
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => return Some(arguments),
            // (data, requires_grad, hooks)
            ("torch._utils", "_rebuild_parameter") => id = *arguments.first()?,
            // (function, type, arguments, state)
            ("torch._tensor", "_rebuild_from_type_v2") => {
                let Value::Tuple(inner) = &pickle.values[*arguments.get(2)?] else { return None };
                return Some(inner);
            }
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
    Ok((dtype, text(pickle, key).ok_or("a storage without a name")?.to_owned()))
}

/// `(storage, offset, size, stride, …)` as a view.
fn view(pickle: &Pickle, name: &str, arguments: &[Id]) -> std::result::Result<View, String> {
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
        Value::Tuple(ids) => ids.iter().map(|&id| unsigned(id)).collect::<std::result::Result<Vec<_>, _>>(),
        _ => Err("a shape that is no tuple".into()),
    };
    let (shape, stride) = (list(*size)?, list(*stride)?);
    if shape.len() != stride.len() || shape.len() > 8 {
        return Err(format!("shape {shape:?} with strides {stride:?}"));
    }
    Ok(View { name: name.into(), dtype, key, offset: unsigned(*offset)?, shape, stride })
}
