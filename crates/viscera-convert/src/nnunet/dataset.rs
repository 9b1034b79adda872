//! Classes and channels of a `dataset.json`.

use serde_json::Value;
use viscera_image::{LabelEntry, LabelTable};
use viscera_io::class_colour;

/// The label table. Channel 0 of the network is the background, channel `id` the class of that id.
pub(super) fn labels(dataset: &Value, name: &str) -> Result<LabelTable, String> {
    let labels = dataset.get("labels").and_then(Value::as_object);
    let labels = labels.ok_or("dataset.json lacks \"labels\"")?;
    let mut entries = Vec::new();
    for (class, value) in labels {
        // No channel: voxels that nobody has annotated.
        if class == "ignore" {
            continue;
        }
        let id = match value {
            Value::Array(ids) if ids.len() > 1 => {
                return Err(format!(
                    "the class \"{class}\" is a region of several labels {value}; models of regions cannot be imported yet"
                ));
            }
            Value::Array(ids) => ids.first().unwrap_or(&Value::Null),
            one => one,
        };
        // Version 1 wrote ids as texts.
        let id = id.as_u64().or_else(|| id.as_str()?.parse().ok());
        let id = id.and_then(|id| u8::try_from(id).ok());
        let id = id.ok_or_else(|| format!("the class \"{class}\" has the id {value}; ids are 0 to 255"))?;
        if id == 0 {
            continue;
        }
        entries.push(LabelEntry {
            id,
            name: class.clone(),
            rgb: class_colour(class, id),
        });
    }
    entries.sort_by_key(|e| e.id);
    if let Some((place, entry)) = (1..).zip(&entries).find(|(place, e)| usize::from(e.id) != *place) {
        return Err(format!(
            "the classes' ids are not 1, 2, 3, …: \"{}\" has {} in place {place}",
            entry.name, entry.id
        ));
    }
    LabelTable::new(name, entries).map_err(|e| e.to_string())
}

/// Names of the image's channels, in order.
pub(super) fn channels(dataset: &Value) -> Result<Vec<String>, String> {
    let names = dataset.get("channel_names").or_else(|| dataset.get("modality"));
    let names = names.and_then(Value::as_object);
    let names = names.ok_or("dataset.json lacks \"channel_names\"")?;
    (0..names.len())
        .map(|i| {
            let name = names.get(&i.to_string()).and_then(Value::as_str);
            name.map(str::to_owned)
                .ok_or_else(|| format!("dataset.json has no name for channel {i}"))
        })
        .collect()
}
