//! The JSON schema of recipes, for editors and for people who write them.

use super::{ClassList, Recipe, StageClasses};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

impl Recipe {
    /// The schema of recipe files (JSON Schema, draft 2020-12). It says which keys there are, of which type; what they must
    /// be together is checked when a recipe is read.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        SchemaSettings::draft2020_12()
            .into_generator()
            .into_root_schema_for::<Recipe>()
            .to_value()
    }
}

/// `viscera_image::Convention`.
pub(super) fn convention(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["half_pixel", "align_corners"] })
}

/// `viscera_net::builders::Plane`.
pub(super) fn plane(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["code", "paper"] })
}

/// `viscera_net::builders::Gates`.
pub(super) fn gates(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["none", "grouped", "grid"] })
}

fn words_or_names(words: &[&str]) -> Schema {
    json_schema!({ "anyOf": [{ "enum": words }, { "type": "array", "items": { "type": "string" } }] })
}

impl JsonSchema for StageClasses {
    fn schema_name() -> Cow<'static, str> {
        "StageClasses".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words_or_names(&["all", "union"])
    }
}

impl JsonSchema for ClassList {
    fn schema_name() -> Cow<'static, str> {
        "ClassList".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        words_or_names(&["all"])
    }
}
