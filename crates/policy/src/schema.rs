//! The JSON Schema of profiles, generated from the types of `raw` and the closed lists of `names`, so that editors
//! complete and check while the author types.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::Sets;
use crate::check::filesystem::LANDLOCK_MODES;
use crate::names::{self, Capability, Device, ERRNO, Signal};
use crate::raw;
use crate::rules::{Comparison, Sysno};

/// Draft 7, which editors' TOML support reads.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut value = generator.into_root_schema_for::<raw::File>().to_value();
    without_null(&mut value);
    value
}

/// TOML has no null: a field that may be left out is simply not required.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
            }
            // A single choice is no choice; `allOf` keeps what stands beside it (its description).
            if map.get("anyOf").is_some_and(|choices| choices.as_array().is_some_and(|list| list.len() == 1))
                && let Some(one) = map.remove("anyOf")
            {
                map.insert("allOf".to_owned(), one);
            }
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            map.values_mut().for_each(without_null);
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn words<'a>(list: impl IntoIterator<Item = &'a str>) -> Schema {
    let list: Vec<&str> = list.into_iter().collect();
    json_schema!({ "type": "string", "enum": list })
}

fn list_of(items: Schema) -> Schema {
    json_schema!({ "type": "array", "items": items, "uniqueItems": true })
}

pub(crate) fn signal(_: &mut SchemaGenerator) -> Schema {
    words(Signal::ALL.map(|(name, _)| name))
}

pub(crate) fn landlock_mode(_: &mut SchemaGenerator) -> Schema {
    words(LANDLOCK_MODES.map(|(name, _)| name))
}

pub(crate) fn devices(_: &mut SchemaGenerator) -> Schema {
    list_of(words(Device::ALL.map(|(name, _)| name)))
}

pub(crate) fn capabilities(_: &mut SchemaGenerator) -> Schema {
    list_of(words(Capability::ALL.map(|(name, _)| name)))
}

pub(crate) fn seccomp_mode(_: &mut SchemaGenerator) -> Schema {
    words(["audit", "enforce"])
}

pub(crate) fn default_action(_: &mut SchemaGenerator) -> Schema {
    words(["kill", "errno"])
}

pub(crate) fn errno(_: &mut SchemaGenerator) -> Schema {
    words(ERRNO.map(|(name, _)| name))
}

pub(crate) fn comparison(_: &mut SchemaGenerator) -> Schema {
    words(Comparison::NAMES.map(|(name, _)| name))
}

pub(crate) fn bits(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "enum": [32, 64] })
}

pub(crate) fn syscalls(_: &mut SchemaGenerator) -> Schema {
    let mut list = list_of(words(Sysno::iter().map(|call| call.name())));
    list.insert("minItems".to_owned(), 1.into());
    list
}

/// Those that come with this program are completed; a folder may hold others.
pub(crate) fn sets(_: &mut SchemaGenerator) -> Schema {
    let builtin = Sets::builtin();
    let known = words(builtin.names());
    list_of(json_schema!({ "anyOf": [known, { "type": "string", "pattern": "^[^/]+$" }] }))
}

impl JsonSchema for raw::Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                words(names::constants()),
                { "type": "string", "pattern": "^\\s*[A-Z_0-9a-z]+(\\s*\\|\\s*[A-Z_0-9a-z]+)+\\s*$" },
            ]
        })
    }
}
