//! Whether organs are where, as large and as bright as in people: what cannot be gets a warning.

use crate::statistics::{Organ, Side};
use crate::warning::Direction;
use crate::{Warning, Warnings};
use std::ops::RangeInclusive;

/// Least volume in ml of two organs before their places are compared: fragments say nothing.
const PLACE_LEAST_ML: f64 = 5.0;
/// How far in mm an organ must lie on the wrong side of the other to be reported.
const PLACE_GAP_MM: f64 = 10.0;
/// Pairs of which the first lies farther to the right, to the front or to the head in nearly everybody, by several
/// centimetres.
const ORDER: [(Direction, &[[&str; 2]]); 3] = [
    (
        Direction::RightLeft,
        &[
            ["liver", "spleen"],
            ["kidney_right", "kidney_left"],
            ["liver", "stomach"],
            ["liver", "kidney_left"],
            ["kidney_right", "spleen"],
            ["gallbladder", "spleen"],
            ["duodenum", "spleen"],
            ["inferior_vena_cava", "aorta"],
        ],
    ),
    (
        Direction::FrontBack,
        &[
            ["stomach", "spleen"],
            ["stomach", "kidney_left"],
            ["liver", "kidney_right"],
            ["liver", "kidney_left"],
            ["pancreas", "kidney_right"],
            ["pancreas", "kidney_left"],
            ["duodenum", "kidney_right"],
            ["gallbladder", "kidney_right"],
        ],
    ),
    (
        Direction::HeadFeet,
        &[
            ["liver", "kidney_right"],
            ["spleen", "kidney_left"],
            ["liver", "duodenum"],
            ["spleen", "duodenum"],
            ["esophagus", "duodenum"],
            ["esophagus", "pancreas"],
            ["esophagus", "kidney_left"],
        ],
    ),
];

/// Vessels and the gullet run through the scan from head to feet: that they reach its ends says nothing.
const THROUGH: [&str; 3] = ["aorta", "inferior_vena_cava", "esophagus"];

/// Organs that nobody lacks, and least volumes in ml of neighbours above and below that put them in view.
const ALWAYS: [&str; 5] = ["liver", "pancreas", "aorta", "inferior_vena_cava", "stomach"];
const ABOVE: [(&str, f64); 3] = [("spleen", 30.0), ("stomach", 30.0), ("liver", 300.0)];
const BELOW: [(&str, f64); 2] = [("kidney_right", 40.0), ("kidney_left", 40.0)];

/// Share of an organ outside its largest piece, and the least volume of that in ml, from which on it is in pieces.
const LOOSE_SHARE: f64 = 0.1;
const LOOSE_ML: f64 = 2.0;
/// Mean probability below which the network is not sure of an organ.
const LEAST_CONFIDENCE: f64 = 0.7;

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

/// Warnings that the measures give rise to: nothing found or organs missing, cut off at the border, an impossible order,
/// volumes and brightness that no organ has, pieces, doubts of the network. An organ at the border of the scan may be
/// smaller than any whole one.
pub fn look_over(organs: &[Organ], warnings: &mut Warnings) {
    if organs.iter().all(|o| o.voxels == 0) {
        warnings.push(Warning::NothingFound);
        return;
    }
    let named = |is: &dyn Fn(&Organ) -> bool| -> Vec<String> {
        let found = organs.iter().filter(|o| o.voxels > 0 && is(o));
        found.map(|o| o.name.clone()).collect()
    };
    let organs_missing = missing(organs);
    let cut = named(&|o| o.borders.iter().any(|side| !runs_through(&o.name, *side)));
    let volume = named(&|o| {
        limits(&o.name)
            .is_some_and(|(_, ml, _)| o.volume_ml > *ml.end() || (o.volume_ml < *ml.start() && !o.touches_border))
    });
    let brightness =
        named(&|o| limits(&o.name).is_some_and(|(_, _, hu)| o.mean_hu.is_some_and(|mean| !hu.contains(&mean))));
    let pieces = named(&|o| {
        let loose = 1.0 - o.largest_share.unwrap_or(1.0);
        limits(&o.name).is_some() && !o.touches_border && loose > LOOSE_SHARE && loose * o.volume_ml > LOOSE_ML
    });
    let unsure = named(&|o| o.confidence.is_some_and(|c| c < LEAST_CONFIDENCE));

    let mut about = |organs: Vec<String>, warning: fn(Vec<String>) -> Warning| {
        if !organs.is_empty() {
            warnings.push(warning(organs));
        }
    };
    about(organs_missing, |organs| Warning::Missing { organs });
    about(cut, |organs| Warning::TouchesBorder { organs });
    about(volume, |organs| Warning::ImplausibleVolume { organs });
    about(brightness, |organs| Warning::ImplausibleIntensity { organs });
    about(pieces, |organs| Warning::Disconnected { organs });
    about(unsure, |organs| Warning::LowConfidence { organs });
    for (direction, order) in ORDER {
        let pairs = reversed(organs, direction, order);
        if !pairs.is_empty() {
            warnings.push(Warning::WrongOrder { direction, pairs });
        }
    }
}

fn limits(name: &str) -> Option<&'static Limits> {
    LIMITS.iter().find(|l| l.0 == name)
}

fn runs_through(name: &str, side: Side) -> bool {
    matches!(side, Side::Superior | Side::Inferior) && THROUGH.contains(&name)
}

/// Organs that must be there and are not, among those that were asked for.
fn missing(organs: &[Organ]) -> Vec<String> {
    let has = |list: &[(&str, f64)]| {
        let mut found = organs.iter().filter(|o| o.voxels > 0);
        found.any(|o| list.iter().any(|(name, ml)| o.name == *name && o.volume_ml >= *ml))
    };
    if !(has(&ABOVE) && has(&BELOW)) {
        return Vec::new();
    }
    let gone = organs
        .iter()
        .filter(|o| o.voxels == 0 && ALWAYS.contains(&o.name.as_str()));
    gone.map(|o| o.name.clone()).collect()
}

/// The pairs whose centroids lie the other way round.
fn reversed(organs: &[Organ], direction: Direction, order: &[[&str; 2]]) -> Vec<[String; 2]> {
    let (component, ends) = match direction {
        Direction::RightLeft => (0, [Side::Right, Side::Left]),
        Direction::FrontBack => (1, [Side::Anterior, Side::Posterior]),
        Direction::HeadFeet => (2, [Side::Superior, Side::Inferior]),
    };
    // The centroid of what is cut off says nothing.
    let is_whole = |o: &Organ| {
        !o.borders
            .iter()
            .any(|side| ends.contains(side) && !runs_through(&o.name, *side))
    };
    let place = |name: &str| {
        let organ = organs.iter().find(|o| o.name == name)?;
        let counts = organ.volume_ml >= PLACE_LEAST_ML && is_whole(organ);
        organ.centroid_mm.filter(|_| counts).map(|at| at[component])
    };
    let wrong = order
        .iter()
        .filter(|[first, second]| matches!((place(first), place(second)), (Some(a), Some(b)) if a + PLACE_GAP_MM < b));
    wrong.map(|pair| pair.map(str::to_owned)).collect()
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
            borders: Vec::new(),
            components: 1,
            largest_share: Some(1.0),
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
        let cut = |o: &mut Organ| (o.volume_ml, o.touches_border, o.borders) = (260.0, true, vec![Side::Superior]);
        assert_eq!(changed(cut), ["touches-border"]);
        assert_eq!(changed(|o| o.mean_hu = Some(-865.0)), ["implausible-intensity"]);
        // Not found is not implausible.
        let none = |o: &mut Organ| (o.voxels, o.volume_ml, o.mean_hu) = (0, 0.0, None);
        assert_eq!(changed(none), ["nothing-found"]);
    }

    #[test]
    fn pieces_and_doubts_are_reported() {
        let changed = |change: fn(&mut Organ)| {
            let mut liver = organ("liver", 80.0);
            change(&mut liver);
            found(&[liver])
        };
        assert_eq!(changed(|o| o.largest_share = Some(0.85)), ["disconnected"]);
        assert!(changed(|o| o.largest_share = Some(0.95)).is_empty());
        assert_eq!(changed(|o| o.confidence = Some(0.6)), ["low-confidence"]);
        assert!(changed(|o| o.confidence = Some(0.9)).is_empty());
    }

    #[test]
    fn an_organ_that_must_be_there_is_missed_where_its_neighbours_are() {
        let absent = |name: &str| {
            let mut organ = organ(name, 0.0);
            (organ.voxels, organ.volume_ml, organ.mean_hu, organ.centroid_mm) = (0, 0.0, None, None);
            organ
        };
        let sized = |name: &str, right: f64| Organ {
            volume_ml: 150.0,
            ..organ(name, right)
        };
        let all = [
            sized("spleen", -90.0),
            sized("kidney_left", -60.0),
            absent("liver"),
            absent("gallbladder"),
        ];
        assert_eq!(found(&all), ["missing-organ"]);
        // A scan of the chest shows no kidney.
        assert!(found(&[sized("spleen", -90.0), absent("kidney_left"), absent("liver")]).is_empty());
    }

    #[test]
    fn vessels_may_run_out_of_the_scan_at_head_and_feet_only() {
        let aorta = |borders: Vec<Side>| Organ {
            volume_ml: 100.0,
            touches_border: true,
            borders,
            ..organ("aorta", 0.0)
        };
        assert!(found(&[aorta(vec![Side::Superior, Side::Inferior])]).is_empty());
        assert_eq!(found(&[aorta(vec![Side::Left])]), ["touches-border"]);
    }

    #[test]
    fn limits_name_every_class() {
        for entry in viscera_image::LabelTable::flare13().entries() {
            assert!(LIMITS.iter().any(|l| l.0 == entry.name), "{}", entry.name);
        }
    }
}
