//! Results of several evaluations against each other: two are tested, many are ranked.

use crate::EvaluateError;
use crate::csv::{read_table, write_record};
use crate::outputs::{ID_COLUMNS, METRICS_CSV, write_text};
use crate::report::comparison::comparison_report;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use viscera_io::write_json;
use viscera_metrics::stats::{
    Bootstrap, RankMethod, RankMetric, RankTable, Ranking, Wilcoxon, ZeroMethod, holm, rank, wilcoxon_signed_rank,
};
use viscera_metrics::{Better, Metric};

/// How to compare.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareOptions {
    /// Measures to compare; those that a result lacks are left out.
    pub metrics: Vec<Metric>,
    /// What the test does with cases of equal value.
    pub zero: ZeroMethod,
    /// How the ranking is made.
    pub ranking: RankMethod,
    /// How the stability of the ranking is tested.
    pub bootstrap: Bootstrap,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            metrics: vec![Metric::Dice, Metric::SurfaceDice],
            zero: ZeroMethod::default(),
            ranking: RankMethod::default(),
            bootstrap: Bootstrap::default(),
        }
    }
}

/// The result of [`compare`].
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Version of viscera.
    pub viscera: &'static str,
    /// Names of the results, and where they lie.
    pub systems: Vec<(String, String)>,
    /// Cases that all results have scored, in at least one class.
    pub cases: Vec<String>,
    /// Classes that all results have scored, in at least one case.
    pub classes: Vec<String>,
    /// Pairs of case and class that some result has and another has not; they are left out.
    pub left_out: usize,
    /// Tests of the first result against the second; empty unless there are two.
    pub tests: Vec<ClassTest>,
    /// The ranking, by every measure of every class.
    pub ranking: Ranking,
    /// Mean over classes and cases of each measure, by result.
    pub means: BTreeMap<Metric, Vec<Option<f64>>>,
    /// How it was made.
    pub settings: CompareOptions,
}

/// A Wilcoxon signed-rank test of two results over the cases that both have a value for.
#[derive(Debug, Clone, Serialize)]
pub struct ClassTest {
    /// The measure.
    pub metric: Metric,
    /// The class; `None` for the cases' means over their shared classes.
    pub class: Option<String>,
    /// Means of the two over these cases.
    pub means: [f64; 2],
    /// The test, of the first minus the second.
    #[serde(flatten)]
    pub wilcoxon: Wilcoxon,
    /// p adjusted by Holm for all tests of this comparison.
    pub p_holm: f64,
}

/// Values by case and class name.
type Values = BTreeMap<(String, String), BTreeMap<Metric, f64>>;

struct System {
    name: String,
    path: PathBuf,
    metrics: BTreeSet<Metric>,
    values: Values,
}

/// Compares results: folders that [`crate::write_results`] wrote, or their `metrics.csv`. Only what all of them have
/// scored counts: cases are joined by name, classes by name.
///
/// # Errors
/// [`EvaluateError::NotSeveral`] for fewer than two results or one twice, [`EvaluateError::NothingShared`],
/// [`EvaluateError::Table`] for a table that is no `metrics.csv`, [`EvaluateError::Io`].
pub fn compare(results: &[PathBuf], options: &CompareOptions) -> Result<Comparison, EvaluateError> {
    let systems = load(results)?;
    let keys: BTreeSet<&(String, String)> = systems.iter().flat_map(|s| s.values.keys()).collect();
    let everywhere = |key: &&(String, String)| systems.iter().all(|s| s.values.contains_key(*key));
    let shared: Vec<&(String, String)> = keys.iter().copied().filter(everywhere).collect();
    let metrics: Vec<Metric> = options
        .metrics
        .iter()
        .copied()
        .filter(|m| m.better().is_some() && systems.iter().all(|s| s.metrics.contains(m)))
        .collect();
    if shared.is_empty() || metrics.is_empty() {
        return Err(EvaluateError::NothingShared);
    }
    let unique = |of: fn(&(String, String)) -> &String| -> Vec<String> {
        let set: BTreeSet<&String> = shared.iter().map(|key| of(key)).collect();
        set.into_iter().cloned().collect()
    };
    let (cases, classes) = (unique(|key| &key.0), unique(|key| &key.1));

    let shared_set: BTreeSet<&(String, String)> = shared.iter().copied().collect();
    let value = |system: &System, case: &str, class: &str, metric: Metric| -> Option<f64> {
        let key = (case.to_owned(), class.to_owned());
        shared_set
            .contains(&key)
            .then(|| system.values.get(&key)?.get(&metric).copied())
            .flatten()
    };
    let tests = match systems.as_slice() {
        [a, b] => tests([a, b], &cases, &classes, &metrics, options.zero, &value),
        _ => Vec::new(),
    };
    let columns: Vec<(Metric, &String)> = metrics
        .iter()
        .flat_map(|&m| classes.iter().map(move |c| (m, c)))
        .collect();
    let table = RankTable {
        systems: systems.iter().map(|s| s.name.clone()).collect(),
        cases: cases.clone(),
        metrics: columns
            .iter()
            .map(|(metric, class)| RankMetric {
                name: format!("{} {class}", metric.key()),
                better: metric.better().unwrap_or(Better::Higher),
            })
            .collect(),
        values: systems
            .iter()
            .flat_map(|s| cases.iter().map(move |case| (s, case)))
            .flat_map(|(s, case)| columns.iter().map(move |(metric, class)| (s, case, *metric, *class)))
            .map(|(s, case, metric, class)| value(s, case, class, metric))
            .collect(),
    };
    let ranking = rank(&table, options.ranking, &options.bootstrap).map_err(EvaluateError::Ranking)?;
    let mean_of = |system: &System, metric: Metric| {
        let of_class = |class: &String| mean(cases.iter().filter_map(|case| value(system, case, class, metric)));
        mean(classes.iter().filter_map(of_class))
    };
    let means = metrics
        .iter()
        .map(|&metric| (metric, systems.iter().map(|s| mean_of(s, metric)).collect()))
        .collect();
    Ok(Comparison {
        viscera: env!("CARGO_PKG_VERSION"),
        systems: systems
            .iter()
            .map(|s| (s.name.clone(), s.path.display().to_string()))
            .collect(),
        left_out: keys.len() - shared.len(),
        cases,
        classes,
        tests,
        ranking,
        means,
        settings: options.clone(),
    })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0usize), |(sum, n), v| (sum + v, n + 1));
    (n > 0).then(|| sum / n as f64)
}

fn tests(
    systems: [&System; 2],
    cases: &[String],
    classes: &[String],
    metrics: &[Metric],
    zero: ZeroMethod,
    value: &dyn Fn(&System, &str, &str, Metric) -> Option<f64>,
) -> Vec<ClassTest> {
    let mut found = Vec::new();
    let mut test = |metric: Metric, class: Option<&String>, pairs: Vec<[f64; 2]>| {
        let [a, b]: [Vec<f64>; 2] = std::array::from_fn(|at| pairs.iter().map(|p| p[at]).collect());
        let (Some(wilcoxon), Some(mean_a), Some(mean_b)) = (
            wilcoxon_signed_rank(&a, &b, zero),
            mean(a.iter().copied()),
            mean(b.iter().copied()),
        ) else {
            return;
        };
        found.push(ClassTest {
            metric,
            class: class.cloned(),
            means: [mean_a, mean_b],
            p_holm: wilcoxon.p,
            wilcoxon,
        });
    };
    for &metric in metrics {
        let both = |case: &String, class: &String| -> Option<[f64; 2]> {
            let [a, b] = systems;
            Some([value(a, case, class, metric)?, value(b, case, class, metric)?])
        };
        for class in classes {
            test(
                metric,
                Some(class),
                cases.iter().filter_map(|case| both(case, class)).collect(),
            );
        }
        let case_mean = |case: &String| -> Option<[f64; 2]> {
            let pairs: Vec<[f64; 2]> = classes.iter().filter_map(|class| both(case, class)).collect();
            Some([mean(pairs.iter().map(|p| p[0]))?, mean(pairs.iter().map(|p| p[1]))?])
        };
        test(metric, None, cases.iter().filter_map(case_mean).collect());
    }
    let adjusted = holm(&found.iter().map(|t| t.wilcoxon.p).collect::<Vec<_>>());
    for (test, p) in found.iter_mut().zip(adjusted) {
        test.p_holm = p;
    }
    found
}

/// Reads the results. They are named by their folders; where these are alike, by their whole paths.
fn load(results: &[PathBuf]) -> Result<Vec<System>, EvaluateError> {
    let file = |path: &PathBuf| {
        if path.is_dir() {
            path.join(METRICS_CSV)
        } else {
            path.clone()
        }
    };
    let short = |path: &PathBuf| {
        let named = if path.is_dir() || path.file_name() != Some(METRICS_CSV.as_ref()) {
            path.file_stem().filter(|_| !path.is_dir()).or(path.file_name())
        } else {
            path.parent().and_then(Path::file_name)
        };
        named.map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
    };
    let mut names: Vec<String> = results.iter().map(short).collect();
    let distinct = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    if !distinct(&names) {
        names = results.iter().map(|path| path.display().to_string()).collect();
    }
    if names.len() < 2 || !distinct(&names) {
        return Err(EvaluateError::NotSeveral { names });
    }
    let load = |(path, name): (&PathBuf, String)| {
        let path = file(path);
        let (metrics, values) = read_values(&path)?;
        Ok(System {
            name,
            path,
            metrics,
            values,
        })
    };
    results.iter().zip(names).map(load).collect()
}

fn read_values(path: &Path) -> Result<(BTreeSet<Metric>, Values), EvaluateError> {
    let table = read_table(path)?;
    let fault = |reason: String| EvaluateError::Table {
        path: path.to_owned(),
        line: None,
        reason,
    };
    let place = |name: &str| {
        let at = table.head.iter().position(|head| head == name);
        at.ok_or_else(|| fault(format!("there is no column \"{name}\"")))
    };
    let [case_column, _, class_column] = ID_COLUMNS;
    let (case, class) = (place(case_column)?, place(class_column)?);
    let metrics: Vec<(usize, Metric)> = table
        .head
        .iter()
        .enumerate()
        .filter_map(|(at, head)| Some((at, Metric::by_key(head)?)))
        .collect();
    let mut values = Values::new();
    for row in &table.rows {
        let mut scores = BTreeMap::new();
        for &(at, metric) in metrics.iter().filter(|(at, _)| !row[*at].is_empty()) {
            let number = row[at].parse::<f64>();
            let number = number.map_err(|_| fault(format!("\"{}\" is no number ({})", row[at], metric.key())))?;
            scores.insert(metric, number);
        }
        let key = (row[case].clone(), row[class].clone());
        if values.insert(key, scores).is_some() {
            return Err(fault(format!(
                "case \"{}\" has class \"{}\" twice",
                row[case], row[class]
            )));
        }
    }
    Ok((metrics.into_iter().map(|(_, m)| m).collect(), values))
}

/// Writes `comparison.json`, `comparison.csv` (the tests, or the ranking of more than two) and `comparison.html` into a
/// folder.
///
/// # Errors
/// [`EvaluateError::Io`] when the system refuses.
pub fn write_comparison(
    dir: &Path,
    comparison: &Comparison,
    command: &[String],
) -> Result<Vec<PathBuf>, EvaluateError> {
    let paths = ["comparison.json", "comparison.csv", "comparison.html"].map(|name| dir.join(name));
    write_json(&paths[0], comparison)?;
    write_text(&paths[1], &comparison_csv(comparison))?;
    write_text(&paths[2], &comparison_report(comparison, command))?;
    Ok(paths.to_vec())
}

fn comparison_csv(comparison: &Comparison) -> String {
    let mut out = String::new();
    if comparison.tests.is_empty() {
        write_record(&mut out, ["result", "rank", "mean_rank", "rank_low", "rank_high"]);
        for system in &comparison.ranking.systems {
            let numbers = [system.rank, system.mean_rank, system.interval[0], system.interval[1]];
            write_record(
                &mut out,
                std::iter::once(system.name.clone()).chain(numbers.map(|n| n.to_string())),
            );
        }
        return out;
    }
    write_record(
        &mut out,
        [
            "metric",
            "class",
            "n",
            "mean_a",
            "mean_b",
            "median_difference",
            "statistic",
            "p",
            "p_holm",
        ],
    );
    for test in &comparison.tests {
        let w = &test.wilcoxon;
        let numbers = [
            test.means[0],
            test.means[1],
            w.median_difference,
            w.statistic,
            w.p,
            test.p_holm,
        ];
        let class = test.class.clone().unwrap_or_else(|| "all, per case".to_owned());
        let record = [test.metric.key().to_owned(), class, w.n.to_string()];
        write_record(&mut out, record.into_iter().chain(numbers.map(|n| n.to_string())));
    }
    out
}

#[cfg(test)]
mod tests_of_compare {
    use super::*;

    fn result(dir: &Path, name: &str, dice: &[(&str, &str, f64)]) -> PathBuf {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut text = "case,class_id,class,Dice\r\n".to_owned();
        for (case, class, value) in dice {
            text.push_str(&format!("{case},1,{class},{value}\r\n"));
        }
        std::fs::write(folder.join(METRICS_CSV), text).unwrap();
        folder
    }

    #[test]
    fn only_what_all_have_scored_is_tested() {
        let dir = tempfile::tempdir().unwrap();
        let cases = ["a", "b", "c", "d", "e", "f"];
        let scores = |shift: f64| -> Vec<(&str, &str, f64)> {
            let liver = cases
                .iter()
                .enumerate()
                .map(|(i, c)| (*c, "liver", 0.8 + shift * (i + 1) as f64));
            liver.collect()
        };
        let mut first = scores(0.01);
        first.push(("a", "spleen", 0.1));
        let a = result(dir.path(), "a", &first);
        let b = result(dir.path(), "b", &scores(0.0));
        let comparison = compare(&[a.clone(), b.clone()], &CompareOptions::default()).unwrap();
        assert_eq!(
            (comparison.left_out, comparison.classes.as_slice()),
            (1, ["liver".to_owned()].as_slice())
        );
        // All six differences are positive and distinct: p = 2 / 2⁶, twice the same test, Holm doubles it.
        let test = &comparison.tests[0];
        assert_eq!((test.wilcoxon.n, test.wilcoxon.p, test.p_holm), (6, 0.03125, 0.0625));
        assert!((test.wilcoxon.median_difference - 0.035).abs() < 1e-12);
        assert_eq!(comparison.ranking.systems[0].rank, 1.0);

        let twice = compare(&[a.clone(), a], &CompareOptions::default());
        assert!(matches!(twice, Err(EvaluateError::NotSeveral { .. })));
        let other = result(dir.path(), "c", &[("z", "liver", 1.0)]);
        let apart = compare(&[b, other], &CompareOptions::default());
        assert!(matches!(apart, Err(EvaluateError::NothingShared)));
    }

    #[test]
    fn many_are_ranked_with_their_stability() {
        let dir = tempfile::tempdir().unwrap();
        let system = |name: &str, base: f64| {
            let rows: Vec<(String, f64)> = (0..8)
                .map(|i| (format!("case{i}"), base + f64::from(i) / 100.0))
                .collect();
            let rows: Vec<(&str, &str, f64)> = rows.iter().map(|(c, v)| (c.as_str(), "liver", *v)).collect();
            result(dir.path(), name, &rows)
        };
        let results = [system("worst", 0.1), system("best", 0.8), system("middle", 0.5)];
        let comparison = compare(&results, &CompareOptions::default()).unwrap();
        let ranks: Vec<f64> = comparison.ranking.systems.iter().map(|s| s.rank).collect();
        assert_eq!(ranks, [3.0, 1.0, 2.0]);
        assert!(comparison.tests.is_empty());
        assert!((comparison.ranking.systems[1].frequencies[0] - 1.0).abs() < 1e-9);
        let out = dir.path().join("out");
        let files = write_comparison(&out, &comparison, &[]).unwrap();
        assert!(files.iter().all(|f| f.is_file()));
    }
}
