//! Validation: each case as inference sees it, hard Dice on the network's grid.

use crate::{Batch, TrainError};
use std::collections::BTreeMap;
use viscera_image::{Geometry, LabelTable, Volume};
use viscera_metrics::overlap_per_class;
use viscera_net::Executor;
use viscera_pipeline::Decision;
use viscera_pipeline::recipe::Stage;

/// Dice per class name: the mean over cases that annotate the class, without those where it is absent and not predicted.
/// Each batch is one case. The second number is the mean over the classes.
pub(crate) fn validate(
    executor: &mut dyn Executor,
    cases: &[Batch],
    stage: &Stage,
    table: &LabelTable,
) -> Result<(BTreeMap<String, f64>, f64), TrainError> {
    let decision = Decision::new(&stage.inference, table);
    let geometry = Geometry::ras(stage.fixed_size()?.size, [1.0; 3]);
    let mut sums: BTreeMap<u8, (f64, u64)> = BTreeMap::new();
    for case in cases {
        let heads = executor.infer(&case.input)?;
        let logits = heads
            .first()
            .ok_or_else(|| TrainError::settings("the network has no output"))?;
        let predicted = Volume::new(geometry.clone(), decision.labels(logits))?;
        let reference = Volume::new(geometry.clone(), case.labels.clone())?;
        let annotated = case.annotated.first().copied().unwrap_or_default();
        for (id, overlap) in overlap_per_class(&reference, &predicted, &annotated)? {
            if let Some(dice) = overlap.dice() {
                let (sum, count) = sums.entry(id).or_default();
                *sum += dice;
                *count += 1;
            }
        }
    }
    let dice: BTreeMap<String, f64> = table
        .entries()
        .iter()
        .filter_map(|e| sums.get(&e.id).map(|(sum, n)| (e.name.clone(), sum / *n as f64)))
        .collect();
    let mean = dice.values().sum::<f64>() / dice.len().max(1) as f64;
    Ok((dice, mean))
}
