//! Which classes a stage's network tells apart.

use super::Stage;
use crate::PipelineError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use viscera_image::{LabelEntry, LabelTable};

/// The classes of a stage: `"all"`, `"union"` or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Classes {
    /// All of the recipe's label table, in its order.
    #[default]
    All,
    /// One class: any of the table's.
    Union,
    /// Those named, in the table's order.
    Named(Vec<String>),
}

/// Name of the one class of [`Classes::Union`]; its id is 1.
pub const UNION: &str = "foreground";

impl Classes {
    pub(super) fn are_all(&self) -> bool {
        *self == Self::All
    }
}

impl Stage {
    /// The classes that this stage's network tells apart, with the ids that they have in its label map.
    ///
    /// # Errors
    /// [`PipelineError::UnknownClass`] for a name that the recipe's table does not have.
    pub fn table(&self, labels: &LabelTable) -> Result<LabelTable, PipelineError> {
        match &self.classes {
            Classes::All => Ok(labels.clone()),
            Classes::Union => Ok(LabelTable::new(
                labels.name(),
                vec![LabelEntry {
                    id: 1,
                    name: UNION.to_owned(),
                    rgb: [200, 200, 200],
                }],
            )?),
            Classes::Named(names) => subset(labels, names),
        }
    }
}

/// The classes of a table that are named, under the table's name.
///
/// # Errors
/// [`PipelineError::UnknownClass`] for a name that it does not have.
pub(crate) fn subset(table: &LabelTable, names: &[String]) -> Result<LabelTable, PipelineError> {
    if let Some(unknown) = names.iter().find(|n| table.by_name(n).is_none()) {
        return Err(PipelineError::UnknownClass {
            name: unknown.clone(),
            known: table.entries().iter().map(|e| e.name.clone()).collect(),
        });
    }
    let entries = table.entries().iter().filter(|e| names.contains(&e.name)).cloned();
    Ok(LabelTable::new(table.name(), entries.collect())?)
}

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Union => serializer.serialize_str("union"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Classes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Word(String),
            Names(Vec<String>),
        }
        let expected = "\"all\", \"union\" or a list of class names";
        match Raw::deserialize(deserializer) {
            Ok(Raw::Word(word)) if word == "all" => Ok(Self::All),
            Ok(Raw::Word(word)) if word == "union" => Ok(Self::Union),
            Ok(Raw::Names(names)) => Ok(Self::Named(names)),
            Ok(Raw::Word(word)) => Err(de::Error::invalid_value(de::Unexpected::Str(&word), &expected)),
            Err(_) => Err(de::Error::custom(format!("classes: expected {expected}"))),
        }
    }
}
