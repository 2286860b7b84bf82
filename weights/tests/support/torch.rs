//! What `torch.save` writes, made without PyTorch: a zip archive with a pickle of protocol 2 and one file a storage.
#![allow(dead_code, reason = "each user of this file needs another part of it")]

use std::io::Write;

use candle_core::{DType, Tensor};
use zip::write::SimpleFileOptions;

/// A Python object.
#[derive(Clone)]
pub enum Py {
    Dict(Vec<(String, Py)>),
    List(Vec<Py>),
    Tensor(Tensor),
    /// Zeros of this shape, all of them the one value of a storage.
    Zeros(Vec<usize>),
    Int(i32),
    /// An object of a class with its state.
    Object(&'static str, &'static str, Box<Py>),
    /// An instance of a subclass of dict.
    Like(&'static str, &'static str, Vec<(String, Py)>),
    /// Opcodes that leave one object on the stack.
    Opcodes(Vec<u8>),
}

/// A dictionary.
pub fn dict<const N: usize>(items: [(&str, Py); N]) -> Py {
    Py::Dict(items.map(|(key, value)| (key.to_owned(), value)).into())
}

/// The bytes of a file that holds the object.
pub fn save(object: &Py) -> Vec<u8> {
    let mut writer = Writer { pickle: b"\x80\x02".to_vec(), storages: Vec::new() };
    writer.object(object);
    writer.pickle.push(b'.');
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut file = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("archive/{name}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    };
    file("data.pkl", &writer.pickle);
    file("byteorder", b"little");
    writer.storages.iter().enumerate().for_each(|(key, bytes)| file(&format!("data/{key}"), bytes));
    zip.finish().unwrap().into_inner()
}

struct Writer {
    pickle: Vec<u8>,
    storages: Vec<Vec<u8>>,
}

impl Writer {
    fn object(&mut self, object: &Py) {
        match object {
            Py::Dict(items) => {
                self.pickle.push(b'}');
                self.items(items);
            }
            Py::List(items) => {
                self.pickle.extend(b"](");
                items.iter().for_each(|item| self.object(item));
                self.pickle.push(b'e');
            }
            Py::Tensor(tensor) => self.tensor(tensor),
            Py::Zeros(shape) => self.view("FloatStorage", vec![0; 4], 1, [shape, &vec![0; shape.len()]]),
            Py::Int(value) => self.int(*value),
            Py::Object(module, name, state) => {
                self.class(module, name);
                self.pickle.extend(b")\x81");
                self.object(state);
                self.pickle.push(b'b');
            }
            Py::Like(module, name, items) => {
                self.class(module, name);
                self.pickle.extend(b")\x81");
                self.items(items);
            }
            Py::Opcodes(opcodes) => self.pickle.extend(opcodes),
        }
    }

    fn items(&mut self, items: &[(String, Py)]) {
        self.pickle.push(b'(');
        for (key, value) in items {
            self.text(key);
            self.object(value);
        }
        self.pickle.push(b'u');
    }

    fn tensor(&mut self, tensor: &Tensor) {
        let flat = tensor.flatten_all().unwrap();
        let (class, bytes): (_, Vec<u8>) = match tensor.dtype() {
            DType::F32 => {
                ("FloatStorage", flat.to_vec1::<f32>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            DType::I64 => {
                ("LongStorage", flat.to_vec1::<i64>().unwrap().iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            DType::U8 => ("ByteStorage", flat.to_vec1::<u8>().unwrap()),
            other => panic!("{other:?}"),
        };
        self.view(class, bytes, tensor.elem_count(), [tensor.dims(), tensor.stride()]);
    }

    /// A tensor of this shape and these strides over a storage of its own.
    fn view(&mut self, class: &str, bytes: Vec<u8>, count: usize, shape_and_stride: [&[usize]; 2]) {
        self.class("torch._utils", "_rebuild_tensor_v2");
        self.pickle.extend(b"((");
        self.text("storage");
        self.class("torch", class);
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(count as i32);
        self.pickle.extend(b"tQ");
        self.storages.push(bytes);
        self.int(0);
        for sizes in shape_and_stride {
            self.pickle.push(b'(');
            sizes.iter().for_each(|&size| self.int(size as i32));
            self.pickle.push(b't');
        }
        self.pickle.push(0x89);
        self.class("collections", "OrderedDict");
        self.pickle.extend(b")RtR");
    }

    fn class(&mut self, module: &str, name: &str) {
        self.pickle.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn text(&mut self, text: &str) {
        self.pickle.push(b'X');
        self.pickle.extend((text.len() as u32).to_le_bytes());
        self.pickle.extend(text.bytes());
    }

    fn int(&mut self, value: i32) {
        self.pickle.push(b'J');
        self.pickle.extend(value.to_le_bytes());
    }
}
