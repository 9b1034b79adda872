//! Validation: cases as inference sees them behind a perfect localiser, at the resolution at which they were prepared.

use crate::loss::Enlarge;
use crate::report::Slice;
use crate::{StageCase, StageView, TrainError};
use std::cell::RefCell;
use std::collections::BTreeMap;
use viscera_image::{Box3, Volume, paste_over};
use viscera_metrics::{CaseScore, ScoreOptions};
use viscera_net::{Executor, NetError, Tensor};
use viscera_pipeline::recipe::Stage;
use viscera_pipeline::{Infer, NetworkInput, stage_labels};

/// The trainer's network as inference runs it: the head that the stage reads, on the input's grid.
struct Running<'a> {
    executor: RefCell<&'a mut dyn Executor>,
    head: usize,
}

impl Infer for Running<'_> {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, NetError> {
        let heads = self.executor.borrow_mut().infer(input)?;
        let Some(head) = heads.into_iter().nth(self.head) else {
            return Ok(Vec::new());
        };
        let (from, to) = (head.spatial(), input.spatial());
        if from == to {
            return Ok(vec![head]);
        }
        let way = Enlarge::new(from, to);
        let [batch, channels, ..] = head.shape();
        let mut values = Vec::with_capacity(batch * channels * to.iter().product::<usize>());
        for sample in 0..batch {
            (0..channels).for_each(|c| values.extend(way.forward(head.channel(sample, c))));
        }
        Ok(vec![Tensor::new([batch, channels, to[0], to[1], to[2]], values)?])
    }
}

/// What a validation found, per class name: the mean over cases that annotate the class, without those where it is absent
/// and not predicted.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Scores {
    pub(crate) dice: BTreeMap<String, f64>,
    pub(crate) nsd: BTreeMap<String, f64>,
    /// A slice of the first case.
    pub(crate) slice: Option<Slice>,
}

impl Scores {
    /// The mean Dice over the classes; 0 when there is none.
    pub(crate) fn mean_dice(&self) -> f64 {
        self.dice.values().fold(0.0, |sum, dice| sum + dice) / self.dice.len().max(1) as f64
    }
}

/// Runs the network over cases and scores what it finds. The surface Dice is that at 2 mm.
pub(crate) fn validate(
    executor: &mut dyn Executor,
    cases: &[StageCase],
    view: &StageView,
) -> Result<Scores, TrainError> {
    let (stage, classes) = (&view.stage, &view.classes);
    let networks = [Running {
        executor: RefCell::new(executor),
        head: stage.inference.head,
    }];
    let mut sums: BTreeMap<u8, [(f64, u64); 2]> = BTreeMap::new();
    let mut slice = None;
    for case in cases {
        let scan = case.case.image()?;
        let input = NetworkInput::new(&scan, &region(case, stage), stage)?;
        let found = stage_labels(stage, classes, &networks, &input)?;
        let mut predicted = Volume::filled(scan.geometry().clone(), 0u8)?;
        paste_over(&found, &mut predicted, &input.part)?;
        let reference = Volume::new(scan.geometry().clone(), case.stage_labels())?;
        let name = &case.case.name;
        if slice.is_none() {
            slice = Slice::new(name, &scan, &reference, &predicted);
        }
        let options = ScoreOptions::default();
        let score = CaseScore::measure(name, name, &reference, &predicted, &case.annotated, &options)?;
        for (id, class) in score.metrics {
            let nsd = class.surface.and_then(|s| s.nsd);
            let sums = sums.entry(id).or_default();
            for (sum, found) in sums.iter_mut().zip([class.dice, nsd]) {
                if let Some(found) = found {
                    *sum = (sum.0 + found, sum.1 + 1);
                }
            }
        }
    }
    let means = |at: usize| {
        let of = |id: &u8| sums.get(id).map(|s| s[at]).filter(|s| s.1 > 0);
        let entries = classes.entries().iter();
        entries
            .filter_map(|e| of(&e.id).map(|(sum, n)| (e.name.clone(), sum / n as f64)))
            .collect()
    };
    Ok(Scores {
        dice: means(0),
        nsd: means(1),
        slice,
    })
}

/// What the stage looks at: all of the scan, or the labels that its ROI is around and its margin.
fn region(case: &StageCase, stage: &Stage) -> Box3 {
    let geometry = case.case.geometry();
    let whole = Box3::whole(geometry.shape);
    let everything = geometry.shape.map(|n| [0.0, (n - 1) as f64]);
    let (Some(roi), Some(extent)) = (&stage.roi, case.extent(everything)) else {
        return whole;
    };
    let margin = |a: usize| roi.margin_mm[a] / geometry.spacing[a];
    Box3 {
        start: std::array::from_fn(|a| (extent[a][0] - margin(a)).round().max(0.0) as usize),
        end: std::array::from_fn(|a| ((extent[a][1] + margin(a)).round() as usize + 1).min(geometry.shape[a])),
    }
}
