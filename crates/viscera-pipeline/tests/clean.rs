//! Clean-up rules against `fixtures/pipeline-clean`, which SciPy carried out.

use serde::Deserialize;
use viscera_image::{Geometry, LabelTable, Volume};
use viscera_pipeline::clean;
use viscera_pipeline::recipe::{PostRule, Recipe};

#[derive(Deserialize)]
struct Golden {
    shape: [usize; 3],
    spacing: [f64; 3],
    labels: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    rule: PostRule,
    /// Place in the data and new label of every voxel that changed.
    changed: Vec<(usize, u8)>,
}

#[test]
fn rules_change_what_scipy_changes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pipeline-clean/golden.json");
    let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let table = LabelTable::flare13();
    let mut stage = Recipe::builtin("efficientsegnet-small").unwrap().stages.remove(1);
    let data = golden.labels.bytes().map(|b| b - b'0').collect();
    let first = Volume::new(Geometry::ras(golden.shape, golden.spacing), data).unwrap();
    let mut labels = first.clone();
    let mut all = Vec::new();
    for step in golden.steps {
        let mut expected = labels.clone();
        for (at, label) in step.changed {
            expected.data_mut()[at] = label;
        }
        stage.postprocess = vec![step.rule.clone()];
        clean(&mut labels, None, &stage, &table).unwrap();
        let different = labels
            .data()
            .iter()
            .zip(expected.data())
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(different, 0, "{:?}", step.rule);
        all.push(step.rule);
    }
    // As one list, the same.
    stage.postprocess = all;
    let mut at_once = first;
    let removed = clean(&mut at_once, None, &stage, &table).unwrap();
    assert!(at_once == labels);
    assert_eq!(removed.iter().map(|r| r.place).max(), Some(stage.postprocess.len()));
}
