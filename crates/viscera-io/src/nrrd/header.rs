//! The header's lines: `field: value`, and `key:=value`, which only writers of segmentations use.

use crate::volume::source::Source;
use crate::volume::text::MAX_HEADER;
use crate::{IoError, VolumeFault};
use std::collections::BTreeMap;

/// The fields of a header, by their names in lower case without spaces ("space directions" is "spacedirections").
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads the lines behind the first four bytes of a file, up to the empty line that ends the header. A header whose
    /// data lie in another file may also end with its file.
    pub(super) fn read(source: &mut Source) -> Result<Self, IoError> {
        let mut fields = BTreeMap::new();
        let mut left = MAX_HEADER;
        for line in 1.. {
            let bad = |source: &Source, reason| Err(source.fault(None, VolumeFault::BadHeader { line, reason }));
            let Some(text) = source.line(left)? else {
                if fields.contains_key("datafile") {
                    break;
                }
                return Err(source.truncated(source.position() + 1));
            };
            left = left.saturating_sub(text.len() + 1);
            if left == 0 {
                return bad(source, "is too long");
            }
            if line == 1 {
                if !matches!(text.as_str(), "0001" | "0002" | "0003" | "0004" | "0005") {
                    return bad(source, "names no version of NRRD from 1 to 5");
                }
                continue;
            }
            if text.is_empty() {
                break;
            }
            if text.starts_with('#') {
                continue;
            }
            let Some((name, value)) = text.split_once(':') else {
                return bad(source, "has no colon");
            };
            if value.starts_with('=') {
                continue;
            }
            let name: String = name.chars().filter(|c| *c != ' ').collect();
            if fields
                .insert(name.to_ascii_lowercase(), value.trim().to_owned())
                .is_some()
            {
                return bad(source, "repeats a field");
            }
        }
        Ok(Self(fields))
    }

    /// The value of a field, if it is there.
    pub(super) fn get(&self, field: &'static str) -> Option<&str> {
        let name: String = field.chars().filter(|c| *c != ' ').collect();
        self.0.get(&name).map(String::as_str)
    }

    /// The value of a field that must be there.
    pub(super) fn need(&self, field: &'static str) -> Result<&str, VolumeFault> {
        self.get(field).ok_or(VolumeFault::MissingField { field })
    }
}
