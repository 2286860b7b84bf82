//! Reading the fields of a JSON object with errors that name the field, what was expected and what is there.

use serde_json::{Map, Value};

use tallow_models::ImgSize;

use crate::{Error, Result};

/// A JSON object and where it is.
pub(super) struct Fields<'a> {
    pub(super) origin: &'a str,
    /// The names of the objects around it, each with a dot behind it.
    path: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(origin: &'a str, value: &'a Value) -> Result<Self> {
        let object = value.as_object().ok_or_else(|| Error::format(origin, "a JSON object", kind(value)))?;
        Ok(Self { origin, path: String::new(), object })
    }

    /// Whether the field is there and not null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.value(field).is_some()
    }

    pub(super) fn value(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there and null, which says more than where it is not there.
    pub(super) fn is_null(&self, field: &str) -> bool {
        self.object.get(field).is_some_and(Value::is_null)
    }

    /// The fields that are not null.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> {
        self.object.iter().filter(|(_, value)| !value.is_null()).map(|(field, _)| field.as_str())
    }

    pub(super) fn error(&self, field: &str, expected: &str) -> Error {
        let got = self.value(field).map_or("nothing".into(), shortened);
        Error::config(self.origin, &format!("{}{field}", self.path), expected, got)
    }

    pub(super) fn unsupported(&self, field: &str, remedy: &str) -> Error {
        let value = self.value(field).map_or("null".into(), shortened);
        Error::unsupported(self.origin, format!("{}{field} = {value}", self.path), remedy)
    }

    fn read<T>(&self, field: &str, expected: &str, convert: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(field) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| self.error(field, expected))
    }

    pub(super) fn object(&self, field: &str) -> Result<Option<Fields<'a>>> {
        let object = self.read(field, "a JSON object", Value::as_object)?;
        Ok(object.map(|object| Fields { origin: self.origin, path: format!("{}{field}.", self.path), object }))
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'a str>> {
        self.read(field, "a text", Value::as_str)
    }

    pub(super) fn bool(&self, field: &str) -> Result<Option<bool>> {
        self.read(field, "true or false", Value::as_bool)
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<f64>> {
        self.read(field, "a number", Value::as_f64)
    }

    pub(super) fn size(&self, field: &str) -> Result<Option<usize>> {
        self.read(field, "a whole number from 0 to 4294967295", size)
    }

    /// A size that has the value `unsaid` where it is not said. Null says nothing, and is an error, as in transformers.
    pub(super) fn size_or(&self, field: &str, unsaid: usize) -> Result<usize> {
        if self.is_null(field) {
            let expected = format!("a whole number, or no such field (it is {unsaid} then)");
            return Err(Error::config(self.origin, &format!("{}{field}", self.path), expected, "null"));
        }
        Ok(self.size(field)?.unwrap_or(unsaid))
    }

    /// One number, or two that are equal.
    pub(super) fn side(&self, field: &str) -> Result<Option<usize>> {
        self.read(field, "a whole number, or two that are equal (square images and patches)", |value| match value {
            Value::Array(sides) => match sides.as_slice() {
                [one] => size(one),
                [one, other] if one == other => size(one),
                _ => None,
            },
            one => size(one),
        })
    }

    /// One number for a square, or height and width.
    pub(super) fn img_size(&self, field: &str) -> Result<Option<ImgSize>> {
        let expected = "a whole number, or two: height and width";
        self.read(field, expected, |value| serde_json::from_value(value.clone()).ok().filter(|_| !value.is_string()))
    }

    /// `[channels, height, width]`
    pub(super) fn input_size(&self, field: &str) -> Result<Option<[usize; 3]>> {
        self.read(field, "[channels, height, width]", |value| {
            let sizes: Vec<usize> = value.as_array()?.iter().map(size).collect::<Option<_>>()?;
            sizes.try_into().ok()
        })
    }

    pub(super) fn sizes(&self, field: &str) -> Result<Option<Vec<usize>>> {
        let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        self.read(field, "a list of whole numbers", |value| value.as_array()?.iter().map(size).collect())
    }

    pub(super) fn numbers(&self, field: &str) -> Result<Option<Vec<f64>>> {
        self.read(field, "a list of numbers", |value| value.as_array()?.iter().map(Value::as_f64).collect())
    }

    /// A list of texts, or an object from 0, 1, 2, … to texts.
    pub(super) fn labels(&self, field: &str) -> Result<Option<Vec<String>>> {
        self.read(field, "a list of texts, or texts by the numbers from 0 on", |value| match value {
            Value::Array(labels) => labels.iter().map(label).collect(),
            Value::Object(labels) => (0..labels.len()).map(|id| label(labels.get(&id.to_string())?)).collect(),
            _ => None,
        })
    }

    /// The same of an object from texts to 0, 1, 2, …; nothing where it is no such object.
    pub(super) fn labels_by_name(&self, field: &str) -> Option<Vec<String>> {
        let numbers = self.value(field)?.as_object()?;
        let mut labels = vec![None; numbers.len()];
        for (name, number) in numbers {
            *labels.get_mut(size(number)?)? = Some(name.clone());
        }
        labels.into_iter().collect()
    }
}

/// A class' name; a number is one too.
fn label(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A size, of which a few can be multiplied.
fn size(value: &Value) -> Option<usize> {
    u32::try_from(value.as_u64()?).ok().map(|size| size as usize)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
