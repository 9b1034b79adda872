//! Distances of surfaces against `surface-distance`, and FLARE's scores against their rules in Python; the golden
//! files are made by `fixtures/metrics-surface/generate.py` and `fixtures/metrics-flare/generate.py`.

use serde_json::Value;
use std::path::PathBuf;
use viscera_image::{Geometry, LabelMap};
use viscera_metrics::{
    CaseScore, FlareEdition, FlareOptions, ScoreOptions, SurfaceDistances, flare_scores, surface_distances,
};

fn fixture(folder: &str, name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(folder)
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(folder: &str) -> Value {
    serde_json::from_slice(&fixture(folder, "expected.json")).unwrap()
}

/// A number, or one of the strings `inf` and `nan`.
fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn grid(case: &Value) -> Geometry {
    Geometry::ras(
        serde_json::from_value(case["shape"].clone()).unwrap(),
        serde_json::from_value(case["spacing"].clone()).unwrap(),
    )
}

#[test]
fn surfaces_are_those_of_the_python_package() {
    let expected = json("metrics-surface");
    let (tolerances, percents) = (numbers(&expected["tolerances_mm"]), numbers(&expected["percents"]));
    for case in expected["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let data = fixture("metrics-surface", &format!("{name}.u8"));
        let map = |bit: u8| LabelMap::new(grid(case), data.iter().map(|v| 9 * (v >> bit & 1)).collect()).unwrap();
        let found: SurfaceDistances = surface_distances(&map(0), &map(1), 9).unwrap().unwrap();
        let check = |what: &str, found: Vec<f64>| {
            for (at, (found, expected)) in found.iter().zip(numbers(&case[what])).enumerate() {
                let same = found.is_nan() && expected.is_nan() || *found == expected;
                assert!(
                    same || (found - expected).abs() <= 1e-9 * expected.abs().max(1.0),
                    "{name} {what} {at}: {found} for {expected}"
                );
            }
        };
        check("areas", found.areas().to_vec());
        check("average", found.average().to_vec());
        check(
            "surface_dice",
            tolerances.iter().map(|&t| found.surface_dice(t)).collect(),
        );
        check(
            "robust_hausdorff",
            percents.iter().map(|&p| found.robust_hausdorff(p)).collect(),
        );
        // Python's 100th percentile may stop early, where the sum of areas is rounded to the whole.
        assert!(found.hausdorff() >= found.robust_hausdorff(100.0));
    }
}

#[test]
fn flare_scores_are_those_of_the_rules_to_the_last_digit() {
    for case in json("metrics-flare")["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let map =
            |kind: &str| LabelMap::new(grid(case), fixture("metrics-flare", &format!("{name}_{kind}.u8"))).unwrap();
        let (reference, prediction) = (map("ref"), map("pred"));
        let annotated = (1..=20).collect();
        for (key, edition, inclusive) in [
            ("flare21", FlareEdition::Flare21, false),
            ("flare22", FlareEdition::Flare22, false),
            ("flare23", FlareEdition::Flare23, false),
            ("flare22_inclusive", FlareEdition::Flare22, true),
            ("flare23_inclusive", FlareEdition::Flare23, true),
        ] {
            let found = flare_scores(edition, &reference, &prediction, &annotated, inclusive).unwrap();
            let expected = case["scores"][key].as_object().unwrap();
            assert_eq!(found.len(), expected.len(), "{name} {key}");
            for (class, score) in &found {
                let expected = numbers(&expected[&class.to_string()]);
                assert_eq!(vec![score.dsc, score.nsd], expected, "{name} {key} class {class}");
            }
            // Beside the strict scores, where distances are used twice, they are the same.
            let options = ScoreOptions {
                flare: Some(FlareOptions { edition, inclusive }),
                ..ScoreOptions::default()
            };
            let scored = CaseScore::measure("r", "p", &reference, &prediction, &annotated, &options).unwrap();
            for (class, score) in scored.metrics {
                assert_eq!(score.flare, found.get(&class).copied(), "{name} {key} class {class}");
            }
        }
    }
}
