//! Whether organs are where, as large and as bright as in people: what cannot be gets a warning.

use crate::statistics::Organ;
use crate::{Warning, Warnings};
use std::ops::RangeInclusive;

/// Least volume in ml of two organs before their sides are compared: fragments say nothing.
const SIDE_LEAST_ML: f64 = 5.0;
/// How far in mm an organ must lie on the wrong side of the other to be reported.
const SIDE_GAP_MM: f64 = 10.0;
/// Pairs of which the first lies farther to the right in nearly everybody.
const SIDES: [(&str, &str); 4] = [
    ("liver", "spleen"),
    ("kidney_right", "kidney_left"),
    ("liver", "stomach"),
    ("inferior_vena_cava", "aorta"),
];

/// What an organ may be, wide enough for most diseases: name, volume in ml, mean HU from native to arterial phase.
/// After textbook ranges of adults; the low end of the volumes allows for atrophy, the high end for swelling.
type Limits = (&'static str, RangeInclusive<f64>, RangeInclusive<f64>);
const LIMITS: [Limits; 13] = [
    ("liver", 500.0..=4500.0, -40.0..=220.0),
    ("kidney_right", 40.0..=600.0, -10.0..=330.0),
    ("kidney_left", 40.0..=600.0, -10.0..=330.0),
    ("spleen", 30.0..=2500.0, 10.0..=250.0),
    ("pancreas", 15.0..=300.0, -60.0..=200.0),
    ("aorta", 10.0..=500.0, 0.0..=600.0),
    ("inferior_vena_cava", 10.0..=300.0, 0.0..=350.0),
    ("adrenal_gland_right", 1.0..=40.0, -40.0..=200.0),
    ("adrenal_gland_left", 1.0..=40.0, -40.0..=200.0),
    ("gallbladder", 3.0..=300.0, -40.0..=200.0),
    ("esophagus", 3.0..=120.0, -300.0..=200.0),
    ("stomach", 20.0..=3000.0, -700.0..=400.0),
    ("duodenum", 8.0..=300.0, -300.0..=400.0),
];

/// Warnings that the measures give rise to: nothing found, cut off at the border, the wrong side of the body, volumes and
/// brightness that no organ has. An organ at the border of the scan may be smaller than any whole one.
pub fn look_over(organs: &[Organ], warnings: &mut Warnings) {
    if organs.iter().all(|o| o.voxels == 0) {
        warnings.push(Warning::NothingFound);
    }
    let at_border: Vec<String> = organs
        .iter()
        .filter(|o| o.touches_border)
        .map(|o| o.name.clone())
        .collect();
    if !at_border.is_empty() {
        warnings.push(Warning::TouchesBorder { organs: at_border });
    }
    let rightness = |name: &str| {
        let organ = organs.iter().find(|o| o.name == name && o.volume_ml >= SIDE_LEAST_ML)?;
        organ.centroid_mm.map(|[right, _, _]| right)
    };
    for (right, left) in SIDES {
        if let (Some(r), Some(l)) = (rightness(right), rightness(left))
            && r + SIDE_GAP_MM < l
        {
            warnings.push(Warning::WrongSide {
                right: right.to_owned(),
                left: left.to_owned(),
            });
        }
    }
    let outside = |is: fn(&Organ, &Limits) -> bool| -> Vec<String> {
        let organs = organs.iter().filter(|o| o.voxels > 0);
        let known = organs.filter_map(|o| Some((o, LIMITS.iter().find(|l| l.0 == o.name)?)));
        known.filter(|(o, l)| is(o, l)).map(|(o, _)| o.name.clone()).collect()
    };
    let organs = outside(|o, (_, ml, _)| o.volume_ml > *ml.end() || (o.volume_ml < *ml.start() && !o.touches_border));
    if !organs.is_empty() {
        warnings.push(Warning::ImplausibleVolume { organs });
    }
    let organs = outside(|o, (_, _, hu)| o.mean_hu.is_some_and(|mean| !hu.contains(&mean)));
    if !organs.is_empty() {
        warnings.push(Warning::ImplausibleIntensity { organs });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organ(name: &str, right: f64) -> Organ {
        Organ {
            id: 1,
            name: name.to_owned(),
            voxels: 1000,
            volume_ml: 1000.0,
            mean_hu: Some(50.0),
            std_hu: Some(1.0),
            centroid_mm: Some([right, 0.0, 0.0]),
            touches_border: false,
            confidence: None,
            entropy: None,
        }
    }

    fn found(organs: &[Organ]) -> Vec<&'static str> {
        let mut warnings = Warnings::default();
        look_over(organs, &mut warnings);
        warnings.list().iter().map(Warning::code).collect()
    }

    #[test]
    fn a_mirrored_patient_is_reported() {
        assert!(found(&[organ("liver", 80.0), organ("spleen", -90.0)]).is_empty());
        assert_eq!(found(&[organ("liver", -80.0), organ("spleen", 90.0)]), ["wrong-side"]);
        assert_eq!(found(&[]), ["nothing-found"]);
    }

    #[test]
    fn impossible_organs_are_reported() {
        let changed = |change: fn(&mut Organ)| {
            let mut liver = organ("liver", 80.0);
            change(&mut liver);
            found(&[liver])
        };
        assert!(changed(|_| ()).is_empty());
        assert_eq!(changed(|o| o.volume_ml = 260.0), ["implausible-volume"]);
        assert_eq!(changed(|o| o.volume_ml = 9000.0), ["implausible-volume"]);
        let cut = |o: &mut Organ| (o.volume_ml, o.touches_border) = (260.0, true);
        assert_eq!(changed(cut), ["touches-border"]);
        assert_eq!(changed(|o| o.mean_hu = Some(-865.0)), ["implausible-intensity"]);
        // Not found is not implausible.
        let none = |o: &mut Organ| (o.voxels, o.volume_ml, o.mean_hu) = (0, 0.0, None);
        assert_eq!(changed(none), ["nothing-found"]);
    }

    #[test]
    fn limits_name_every_class() {
        for entry in viscera_image::LabelTable::flare13().entries() {
            assert!(LIMITS.iter().any(|l| l.0 == entry.name), "{}", entry.name);
        }
    }
}
