//! Measures of organs as files: a table over all cases, and per case what TotalSegmentator writes.

use crate::{Organ, PipelineError};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;
use viscera_io::atomic_write;

/// Writes the measures of all organs of some cases, by the cases' names, as a table with commas, one row per case and
/// organ.
///
/// # Errors
/// [`PipelineError::Io`] when the system refuses.
pub fn write_statistics(path: &Path, cases: &[(&str, &[Organ])]) -> Result<(), PipelineError> {
    let mut text = "case,id,organ,voxels,volume_ml,mean_hu,std_hu,touches_border\n".to_owned();
    for (case, organs) in cases {
        for organ in *organs {
            row(&mut text, case, organ);
        }
    }
    atomic_write(path, |file| file.write_all(text.as_bytes()))?;
    Ok(())
}

fn row(text: &mut String, case: &str, organ: &Organ) {
    let hu = |value: Option<f64>| value.map(|v| format!("{v:.2}")).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{},{},{},{},{:.4},{},{},{}",
        cell(case),
        organ.id,
        cell(&organ.name),
        organ.voxels,
        organ.volume_ml,
        hu(organ.mean_hu),
        hu(organ.std_hu),
        organ.touches_border
    );
}

/// Names are the user's: quotes keep commas and quotes in them apart from ours.
fn cell(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// An organ's volume in mm³ and mean HU as TotalSegmentator rounds and fills them: zeros for what was not found.
fn pair(organ: &Organ) -> [f64; 2] {
    let round = |v: f64, digits: i32| (v * 10f64.powi(digits)).round() / 10f64.powi(digits);
    [
        round(organ.volume_ml * 1000.0, 3),
        round(organ.mean_hu.unwrap_or(0.0), 2),
    ]
}

/// `{"liver": {"volume": mm³, "intensity": mean HU, "touches_border": …}, …}`. TotalSegmentator has zeros for organs at
/// the border of the scan; here the values stay, and the third key says so.
pub(super) fn statistics_json(organs: &[Organ]) -> String {
    let entry = |organ: &Organ| {
        let [volume, intensity] = pair(organ);
        let value = json!({ "volume": volume, "intensity": intensity, "touches_border": organ.touches_border });
        (organ.name.clone(), value)
    };
    let map: Map<String, Value> = organs.iter().map(entry).collect();
    format!("{:#}\n", Value::Object(map))
}

/// The same as a table: `organ,volume,intensity,touches_border`.
pub(super) fn statistics_csv(organs: &[Organ]) -> String {
    let mut text = "organ,volume,intensity,touches_border\n".to_owned();
    for organ in organs {
        let [volume, intensity] = pair(organ);
        let _ = writeln!(
            text,
            "{},{volume},{intensity},{}",
            cell(&organ.name),
            organ.touches_border
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_cubic_millimetres_and_missing_organs_zeros() {
        let organ = |name: &str, volume_ml, mean_hu, touches_border| Organ {
            id: 1,
            name: name.to_owned(),
            voxels: 7,
            volume_ml,
            mean_hu,
            std_hu: None,
            centroid_mm: None,
            touches_border,
            borders: Vec::new(),
            components: 1,
            largest_share: None,
            confidence: None,
            entropy: None,
        };
        let organs = [
            organ("liver", 1_234.567_891_2, Some(98.7654), true),
            organ("odd, name", 0.0, None, false),
        ];
        let json: Value = serde_json::from_str(&statistics_json(&organs)).unwrap();
        assert_eq!(
            json["liver"],
            json!({ "volume": 1_234_567.891, "intensity": 98.77, "touches_border": true })
        );
        assert_eq!(json["odd, name"]["intensity"], json!(0.0));
        assert_eq!(
            statistics_csv(&organs),
            "organ,volume,intensity,touches_border\nliver,1234567.891,98.77,true\n\"odd, name\",0,0,false\n"
        );
    }
}
