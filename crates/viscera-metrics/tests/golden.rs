//! Scores against a golden file that `fixtures/metrics-overlap/generate.py` made with NumPy.

use serde_json::Value;
use std::path::PathBuf;
use viscera_image::{Geometry, LabelMap};
use viscera_metrics::{CaseScore, ScoreOptions, Summary};

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/metrics-overlap")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every number of `expected` stands in `found` too, within rounding; `null` stays `null`.
fn assert_contains(found: &Value, expected: &Value, place: &str) {
    match expected {
        Value::Object(fields) => {
            for (key, value) in fields {
                assert_contains(&found[key.as_str()], value, &format!("{place}/{key}"));
            }
        }
        Value::Number(number) => {
            let (expected, found) = (number.as_f64().unwrap(), found.as_f64().unwrap_or(f64::NAN));
            assert!(
                (expected - found).abs() <= 1e-12 * expected.abs(),
                "{place}: {found} for {expected}"
            );
        }
        other => assert_eq!(found, other, "{place}"),
    }
}

#[test]
fn scores_and_means_equal_numpy() {
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    let scores: Vec<CaseScore> = cases
        .iter()
        .map(|case| {
            let name = case["name"].as_str().unwrap();
            let shape: [usize; 3] = serde_json::from_value(case["shape"].clone()).unwrap();
            let spacing: [f64; 3] = serde_json::from_value(case["spacing"].clone()).unwrap();
            let annotated: Vec<u8> = serde_json::from_value(case["annotated"].clone()).unwrap();
            let (reference, prediction) = (format!("{name}_ref.u8"), format!("{name}_pred.u8"));
            let map = |file: &str| LabelMap::new(Geometry::ras(shape, spacing), fixture(file)).unwrap();
            let (r, p) = (map(&reference), map(&prediction));
            CaseScore::measure(
                reference,
                prediction,
                &r,
                &p,
                &annotated.into_iter().collect(),
                &ScoreOptions::default(),
            )
            .unwrap()
        })
        .collect();
    for (score, case) in scores.iter().zip(cases) {
        assert_eq!(score.metrics.len(), case["annotated"].as_array().unwrap().len());
        let found = serde_json::to_value(&score.metrics).unwrap();
        assert_contains(&found, &case["metrics"], &score.prediction_file);
    }
    let summary = serde_json::to_value(Summary::of(scores)).unwrap();
    assert_contains(&summary["mean"], &expected["mean"], "mean");
    assert_contains(
        &summary["foreground_mean"],
        &expected["foreground_mean"],
        "foreground_mean",
    );
}
