//! The options that are plain fields of a configuration: set by name from text, or asked for as every family has them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::check::config_error;
use crate::Error;
use crate::nearest::nearest;

/// What [`ModelConfig`](super::ModelConfig) asks of the input and the classes, answered from the fields `img_size`, `in_chans` and
/// `num_classes`, and options set by the names of fields.
macro_rules! plain_fields {
    () => {
        fn set(&mut self, key: &str, value: &str) -> crate::Result<()> {
            crate::families::option::set(self, key, value)
        }

        fn input_size(&self) -> [usize; 3] {
            [self.in_chans, self.img_size.height, self.img_size.width]
        }

        fn set_img_size(&mut self, img_size: crate::ImgSize) {
            self.img_size = img_size;
        }

        fn set_in_chans(&mut self, in_chans: usize) {
            self.in_chans = in_chans;
        }

        fn num_classes(&self) -> usize {
            self.num_classes
        }

        fn set_num_classes(&mut self, num_classes: usize) {
            self.num_classes = num_classes;
        }
    };
}

pub(super) use plain_fields;

/// Sets one field of a configuration through its serialised form.
pub(super) fn set<C: Serialize + DeserializeOwned>(config: &mut C, key: &str, text: &str) -> crate::Result<()> {
    let Ok(Value::Object(fields)) = serde_json::to_value(&*config) else {
        return Err(config_error(key, "a configuration of plain fields", "another"));
    };
    if !fields.contains_key(key) {
        let known: Vec<String> = fields.keys().cloned().collect();
        let nearest = nearest(key, known.iter().map(String::as_str));
        return Err(Error::UnknownOption { key: key.into(), nearest, known });
    }
    // What the text can mean: a number, a boolean or a list; nothing; a name; a list without brackets.
    let readings = [
        serde_json::from_str(text).ok(),
        (text == "none").then_some(Value::Null),
        Some(Value::String(text.into())),
        serde_json::from_str(&format!("[{text}]")).ok(),
    ];
    let mut complaint = None;
    for reading in readings.into_iter().flatten() {
        let mut fields = fields.clone();
        fields.insert(key.into(), reading);
        match serde_json::from_value(Value::Object(fields)) {
            Ok(changed) => {
                *config = changed;
                return Ok(());
            }
            Err(error) => complaint = complaint.or(Some(error)),
        }
    }
    Err(config_error(key, complaint.map_or_else(String::new, |error| expectation(&error.to_string())), text))
}

/// What serde expected, without Rust's names of types: "invalid type: string "x", expected usize" says "a whole number".
fn expectation(complaint: &str) -> String {
    match complaint.split_once("expected ").map_or(complaint, |(_, expected)| expected) {
        "usize" => "a whole number".into(),
        "f64" => "a number".into(),
        expected => expected.into(),
    }
}
