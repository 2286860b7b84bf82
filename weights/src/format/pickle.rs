//! Just enough of Python's pickle to find the tensors in what `torch.save` wrote. Nothing is ever executed: classes and calls
//! are kept as data.
//!
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py>. Values live in one list and refer to each other by
//! position, so that neither a cycle nor a nest of a million tuples can overflow a stack or grow beyond the file.

use std::collections::HashMap;

/// The position of a value in [`Pickle::values`].
pub(super) type Id = usize;

/// More values than this are refused; a state dict has a few dozen per tensor.
const MAX_VALUES: usize = 4_000_000;

/// Longer names of classes and functions than this are refused: a few bytes of a pickle can name one once more.
const MAX_GLOBAL: usize = 256;
const LONG_GLOBAL: &str = "a class whose name has more than 256 bytes";

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(usize),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by module and name.
    Global(String, String),
    /// What a call would have returned, with the state that was set on it, and the items where it behaves like a dictionary.
    Call {
        callable: Id,
        arguments: Id,
        state: Option<Id>,
        items: Vec<(Id, Id)>,
    },
    /// A reference to a storage.
    Persistent(Id),
}

/// A parsed pickle.
pub(super) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) root: Id,
    /// How many bytes it took.
    pub(super) length: usize,
}

/// Parses one pickle from the start of `bytes`.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine =
        Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let root = machine.run()?;
    Ok(Pickle { values: machine.values, root, length: machine.at })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let at = self.at;
            let [op] = self.array()?;
            match op {
                0x80 => drop(self.take(1)?),               // PROTO
                0x95 => drop(self.take(8)?),               // FRAME
                b'.' => return self.pop(),                 // STOP
                b'(' => self.marks.push(self.stack.len()), // MARK
                b'0' => drop(self.pop()?),                 // POP
                b'1' => drop(self.since_mark()?),          // POP_MARK
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top); // DUP
                }
                b'N' => self.push(Value::None)?,        // NONE
                0x88 => self.push(Value::Bool(true))?,  // NEWTRUE
                0x89 => self.push(Value::Bool(false))?, // NEWFALSE
                b'K' => self.int::<1>()?,               // BININT1
                b'M' => self.int::<2>()?,               // BININT2
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?; // BININT
                }
                0x8a => self.long::<1>()?,          // LONG1
                0x8b => self.long::<4>()?,          // LONG4
                b'I' | b'L' => self.written_int()?, // INT, LONG
                b'F' => {
                    let line = self.line()?;
                    let value = line.parse().map_err(|_| format!("the number {line:?}"))?;
                    self.push(Value::Float(value))?; // FLOAT
                }
                b'G' => {
                    let value = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(value))?; // BINFLOAT
                }
                b'X' => self.text::<4>()?, // BINUNICODE
                0x8c => self.text::<1>()?, // SHORT_BINUNICODE
                0x8d => self.text::<8>()?, // BINUNICODE8
                b'V' => {
                    let line = self.line()?;
                    self.push(Value::Text(line))?; // UNICODE
                }
                b'S' => {
                    let line = self.line()?;
                    let text = line.trim_matches(['\'', '"']).to_owned();
                    self.push(Value::Text(text))?; // STRING
                }
                b'U' => self.short_string()?,     // SHORT_BINSTRING
                b'C' => self.blob::<1>()?,        // SHORT_BINBYTES
                b'T' | b'B' => self.blob::<4>()?, // BINSTRING, BINBYTES
                0x8e | 0x96 => self.blob::<8>()?, // BINBYTES8, BYTEARRAY8
                b'q' => self.put::<1>()?,         // BINPUT
                b'r' => self.put::<4>()?,         // LONG_BINPUT
                0x94 => {
                    let top = self.top()?;
                    self.memo.insert(self.memo.len() as u64, top); // MEMOIZE
                }
                b'h' => self.get::<1>()?, // BINGET
                b'j' => self.get::<4>()?, // LONG_BINGET
                b'p' | b'g' => {
                    let line = self.line()?;
                    let key = line.parse().map_err(|_| format!("the memo {line:?}"))?;
                    if op == b'p' { self.put_at(key)? } else { self.get_at(key)? } // PUT, GET
                }
                other => self.structure(other, at)?,
            }
        }
    }

    /// An opcode that makes tuples, lists, dictionaries or objects of what is on the stack.
    fn structure(&mut self, op: u8, at: usize) -> Result<(), String> {
        match op {
            b')' => self.push(Value::Tuple(Vec::new()))?,       // EMPTY_TUPLE
            b']' | 0x8f => self.push(Value::List(Vec::new()))?, // EMPTY_LIST, EMPTY_SET
            b'}' => self.push(Value::Dict(Vec::new()))?,        // EMPTY_DICT
            0x85 => self.tuple(1)?,                             // TUPLE1
            0x86 => self.tuple(2)?,                             // TUPLE2
            0x87 => self.tuple(3)?,                             // TUPLE3
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items))?; // TUPLE
            }
            0x91 => {
                let items = self.since_mark()?;
                self.push(Value::List(items))?; // FROZENSET
            }
            b'l' => {
                let items = self.since_mark()?;
                self.push(Value::List(items))?; // LIST
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Value::Dict(pairs(&items)?))?; // DICT
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?; // APPEND
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(items)?; // APPENDS, ADDITEMS
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?; // SETITEM
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set_items(&items)?; // SETITEMS
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?; // GLOBAL
            }
            0x93 => self.stack_global()?, // STACK_GLOBAL
            b'R' | 0x81 => self.call()?,  // REDUCE, NEWOBJ
            0x92 => {
                self.pop()?; // NEWOBJ_EX: arguments by name say nothing about tensors.
                self.call()?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let items = self.since_mark()?;
                self.global(&module, &name)?;
                self.push(Value::Tuple(items))?;
                self.call()?; // INST
            }
            b'o' => {
                let mut items = self.since_mark()?;
                if items.is_empty() {
                    return Err("an object without a class".into());
                }
                self.stack.push(items.remove(0));
                self.push(Value::Tuple(items))?;
                self.call()?; // OBJ
            }
            b'b' => self.build()?, // BUILD
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))?; // BINPERSID
            }
            other => return Err(format!("the opcode {other:#04x} at byte {at}")),
        }
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("an end after {} bytes", self.bytes.len()))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn unsigned<const N: usize>(&mut self) -> Result<u64, String> {
        Ok(self.array::<N>()?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("a name without an end")?;
        self.at += length + 1;
        Ok(String::from_utf8_lossy(&rest[..length]).into_owned())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    /// The topmost value above the last mark.
    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let above = self.stack.get(floor..).and_then(|values| values.last());
        above.copied().ok_or_else(|| "an empty stack".into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len()).ok_or("no mark on the stack")?;
        Ok(self.stack.split_off(mark))
    }

    fn int<const N: usize>(&mut self) -> Result<(), String> {
        let value = self.unsigned::<N>()?;
        self.push(Value::Int(value as i64))
    }

    /// An integer in decimal, as protocol 0 writes them; 01 and 00 are true and false.
    fn written_int(&mut self) -> Result<(), String> {
        let line = self.line()?;
        let value = match (line.as_str(), line.trim_end_matches('L')) {
            ("00", _) => Value::Bool(false),
            ("01", _) => Value::Bool(true),
            // Beyond 64 bits: not needed, as in `long`.
            (_, digits) => digits.parse().map_or(Value::Bytes(digits.len()), Value::Int),
        };
        self.push(value)
    }

    /// A little-endian two's complement integer of up to eight bytes.
    fn long<const N: usize>(&mut self) -> Result<(), String> {
        let length = usize::try_from(self.unsigned::<N>()?).unwrap_or(usize::MAX);
        let bytes = self.take(length)?;
        if length > 8 {
            // Random states and the like: not needed, and too large for 64 bits.
            return self.push(Value::Bytes(length));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let start = if negative { -1 } else { 0 };
        let value = bytes.iter().rev().fold(start, |value: i64, &byte| value << 8 | i64::from(byte));
        self.push(Value::Int(value))
    }

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.unsigned::<N>()?;
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?.to_owned();
        self.push(Value::Text(text))
    }

    /// Python 2's texts, which old files have as names.
    fn short_string(&mut self) -> Result<(), String> {
        let length = self.unsigned::<1>()? as usize;
        let bytes = self.take(length)?;
        let value = std::str::from_utf8(bytes).map_or(Value::Bytes(length), |text| Value::Text(text.into()));
        self.push(value)
    }

    fn blob<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.unsigned::<N>()?;
        let length = self.take(usize::try_from(length).unwrap_or(usize::MAX))?.len();
        self.push(Value::Bytes(length))
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let mut items = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn extend(&mut self, mut items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.append(&mut items),
            Value::Call { .. } => {} // A class of its own that behaves like a list: no tensors of ours are in there.
            other => return Err(format!("{other:?} where a list belongs")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let (dict, mut items) = (self.top()?, pairs(items)?);
        match &mut self.values[dict] {
            Value::Dict(dict) | Value::Call { items: dict, .. } => dict.append(&mut items),
            other => return Err(format!("{other:?} where a dictionary belongs")),
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<(), String> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (&self.values[module], &self.values[name]) {
            (Value::Text(module), Value::Text(name)) if module.len() + name.len() <= MAX_GLOBAL => {
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)
            }
            (Value::Text(_), Value::Text(_)) => Err(LONG_GLOBAL.into()),
            _ => Err("a class without a name".into()),
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        if module.len() + name.len() > MAX_GLOBAL {
            return Err(LONG_GLOBAL.into());
        }
        self.push(Value::Global(module.into(), name.into()))
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let dictionary = matches!(&self.values[callable], Value::Global(module, name)
            if module == "collections" && matches!(name.as_str(), "OrderedDict" | "defaultdict"));
        self.push(if dictionary {
            Value::Dict(Vec::new())
        } else {
            Value::Call { callable, arguments, state: None, items: Vec::new() }
        })
    }

    /// Sets the state of an object. On a dictionary (an OrderedDict's attributes, as `_metadata`) it says nothing about weights.
    fn build(&mut self) -> Result<(), String> {
        let new = self.pop()?;
        let object = self.top()?;
        if let Value::Call { state, .. } = &mut self.values[object] {
            *state = Some(new);
        }
        Ok(())
    }

    fn put<const N: usize>(&mut self) -> Result<(), String> {
        let key = self.unsigned::<N>()?;
        self.put_at(key)
    }

    fn put_at(&mut self, key: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get<const N: usize>(&mut self) -> Result<(), String> {
        let key = self.unsigned::<N>()?;
        self.get_at(key)
    }

    fn get_at(&mut self, key: u64) -> Result<(), String> {
        let id = *self.memo.get(&key).ok_or_else(|| format!("nothing in memo {key}"))?;
        self.stack.push(id);
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    if !items.len().is_multiple_of(2) {
        return Err("a key without a value".into());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
