//! Statistics, lesion-wise counts and calibration against golden files that `generate.py` in `fixtures/metrics-stats`,
//! `metrics-lesions` and `metrics-calibration` made with NumPy and SciPy.

use serde_json::Value;
use std::path::PathBuf;
use viscera_image::{Geometry, LabelMap};
use viscera_metrics::stats::{
    Bootstrap, RankMetric, RankTable, ZeroMethod, describe, kendall_tau_b, mean_ranks, percentile, rank,
    wilcoxon_signed_rank,
};
use viscera_metrics::{Better, Calibration, LesionOptions, lesion_counts};

fn golden(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
        .join("golden.json");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn get<T: serde::de::DeserializeOwned>(value: &Value, key: &str) -> T {
    serde_json::from_value(value[key].clone()).unwrap_or_else(|error| panic!("{key}: {error}"))
}

fn assert_near(found: f64, expected: f64, allowed: f64, what: &str) {
    // Not `> allowed`, which NaN would pass.
    assert!((found - expected).abs() <= allowed, "{what}: {found} for {expected}");
}

#[test]
fn descriptions_equal_numpy() {
    for case in golden("metrics-stats")["describe"].as_array().unwrap() {
        let mut values: Vec<f64> = get(case, "values");
        let bootstrap = Bootstrap {
            resamples: 20_000,
            ..Bootstrap::default()
        };
        let found = describe(&values, &bootstrap).unwrap();
        assert_eq!(found.n, values.len());
        let exact = [
            ("mean", found.mean),
            ("median", found.median),
            ("std", found.std.unwrap()),
            ("q1", found.q1),
            ("q3", found.q3),
            ("min", found.min),
            ("max", found.max),
        ];
        for (key, value) in exact {
            assert_near(value, get(case, key), 1e-13, key);
        }
        values.sort_by(f64::total_cmp);
        for (key, q) in [("p2.5", 0.025), ("p90", 0.9)] {
            assert_near(percentile(&values, q).unwrap(), get(case, key), 1e-13, key);
        }
        // Two independent bootstraps: their ends scatter by some hundredths of a standard error.
        let error = found.std.unwrap() / (found.n as f64).sqrt();
        for (key, ends, allowed) in [("ci", found.ci, 0.15), ("ci_median", found.ci_median, 0.4)] {
            let expected: [f64; 2] = get(case, key);
            for (found, expected) in ends.into_iter().zip(expected) {
                assert_near(found, expected, allowed * error, key);
            }
        }
    }
}

#[test]
fn signed_rank_tests_equal_scipy() {
    let mut exact = [0; 2];
    for case in golden("metrics-stats")["wilcoxon"].as_array().unwrap() {
        let (a, b): (Vec<f64>, Vec<f64>) = (get(case, "a"), get(case, "b"));
        let zero: ZeroMethod = get(case, "zero");
        let found = wilcoxon_signed_rank(&a, &b, zero).unwrap();
        let what = format!("{} pairs, {zero:?}", a.len());
        exact[usize::from(found.exact)] += 1;
        assert_near(found.statistic, get(case, "statistic"), 0.0, &what);
        let p: f64 = get(case, "p");
        assert_near(found.p, p, 1e-11 * p, &what);
        assert_near(found.median_difference, get(case, "median_difference"), 1e-14, &what);
    }
    assert!(exact.iter().all(|&n| n > 10), "approximate and exact: {exact:?}");
}

#[test]
fn ranks_and_correlations_equal_scipy() {
    let golden = golden("metrics-stats");
    for case in golden["rank"].as_array().unwrap() {
        let values: Vec<f64> = get(case, "values");
        assert_eq!(mean_ranks(&values), get::<Vec<f64>>(case, "ranks"));
    }
    for case in golden["tau"].as_array().unwrap() {
        let (a, b): (Vec<f64>, Vec<f64>) = (get(case, "a"), get(case, "b"));
        assert_near(kendall_tau_b(&a, &b).unwrap(), get(case, "tau"), 1e-14, "tau-b");
    }
}

#[test]
fn rankings_equal_scipy() {
    for case in golden("metrics-stats")["ranking"].as_array().unwrap() {
        let names = |key: &str| vec![String::new(); get(case, key)];
        let better: Vec<Better> = get(case, "better");
        let name = String::new;
        let table = RankTable {
            systems: names("systems"),
            cases: names("cases"),
            metrics: better
                .into_iter()
                .map(|better| RankMetric { name: name(), better })
                .collect(),
            values: get(case, "values"),
        };
        let bootstrap = Bootstrap {
            resamples: 4000,
            ..Bootstrap::default()
        };
        let found = rank(&table, get(case, "method"), &bootstrap).unwrap();
        let column = |key: &str| get::<Vec<f64>>(case, key);
        let (mean, std) = (column("resampled_mean"), column("resampled_std"));
        for (i, system) in found.systems.iter().enumerate() {
            assert_near(system.mean_rank, column("mean_rank")[i], 1e-13, "mean rank");
            assert_near(system.rank, column("rank")[i], 0.0, "rank");
            // Two independent bootstraps of 4000: five standard errors of their difference.
            let resampled: f64 = (1..)
                .zip(&system.frequencies)
                .map(|(place, share)| f64::from(place) * share)
                .sum();
            assert_near(resampled, mean[i], 0.11 * std[i] + 1e-9, "resampled rank");
        }
        let stability = found.stability.unwrap();
        assert_near(stability.mean_tau, get(case, "mean_tau"), 0.05, "mean tau");
    }
}

#[test]
fn lesion_counts_equal_brute_force() {
    for case in golden("metrics-lesions").as_array().unwrap() {
        let grid = Geometry::ras(get(case, "shape"), get(case, "spacing"));
        let map = |key: &str| {
            let digits: String = get(case, key);
            LabelMap::new(grid.clone(), digits.bytes().map(|digit| digit - b'0').collect()).unwrap()
        };
        let (reference, prediction) = (map("reference"), map("prediction"));
        for result in case["results"].as_array().unwrap() {
            let options: LesionOptions = get(result, "options");
            let found = lesion_counts(&reference, &prediction, get(case, "class"), &options).unwrap();
            for (key, value) in serde_json::to_value(found).unwrap().as_object().unwrap() {
                let expected: f64 = get(&result["counts"], key);
                assert_near(value.as_f64().unwrap(), expected, 1e-12, &format!("{key}, {options:?}"));
            }
        }
    }
}

#[test]
fn calibration_equals_numpy() {
    for case in golden("metrics-calibration").as_array().unwrap() {
        let map = |key: &str| {
            let digits: String = get(case, key);
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let bytes = digits.as_bytes().chunks(2).map(byte).collect();
            LabelMap::new(Geometry::ras(get(case, "shape"), [1.0; 3]), bytes).unwrap()
        };
        let [reference, prediction, confidence] = ["reference", "prediction", "confidence"].map(map);
        let annotated = get::<Vec<u8>>(case, "annotated").into_iter().collect();
        for result in case["results"].as_array().unwrap() {
            let region = get(result, "region");
            let found = Calibration::measure(&reference, &prediction, &confidence, &annotated, region).unwrap();
            let counts = match get::<Option<u8>>(result, "class") {
                Some(class) => found.classes[&class].clone(),
                None => found.overall(),
            };
            let found = counts.reliability(get(result, "bins")).unwrap();
            let numbers = serde_json::to_value(&found).unwrap();
            for key in ["voxels", "accuracy", "confidence", "ece", "mce", "brier"] {
                assert_near(
                    numbers[key].as_f64().unwrap(),
                    get(result, key),
                    1e-13,
                    &format!("{key}, {result}"),
                );
            }
            let voxels: Vec<u64> = found.bins.iter().map(|bin| bin.voxels).collect();
            assert_eq!(voxels, get::<Vec<u64>>(result, "bin_voxels"));
            let accuracy: Vec<f64> = found.bins.iter().filter_map(|bin| bin.accuracy).collect();
            let confidence: Vec<f64> = found.bins.iter().filter_map(|bin| bin.confidence).collect();
            for (key, found) in [("bin_accuracy", accuracy), ("bin_confidence", confidence)] {
                let expected: Vec<f64> = get(result, key);
                assert_eq!(found.len(), expected.len(), "{key}");
                found
                    .iter()
                    .zip(expected)
                    .for_each(|(f, e)| assert_near(*f, e, 1e-13, key));
            }
        }
    }
}
