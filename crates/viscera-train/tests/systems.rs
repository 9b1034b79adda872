//! The five systems learn: their whole methods, all phases, narrow and for a step each, on a cohort of which some
//! cases are labelled, some in part, some not at all; then what they learnt segments.

#[path = "../../viscera-pipeline/tests/narrow/mod.rs"]
mod narrow;

use std::path::Path;
use viscera_io::{Dataset, ReadOptions, Split, read_image};
use viscera_pipeline::{Cohort, Model, PhantomSet, Recipe, SegmentOptions, Segmenter, Warnings};
use viscera_train::{Progress, StepReport, TrainOptions, train};

/// The trainings of each system, in order.
const SYSTEMS: [(&str, &[&str]); 5] = [
    ("flare21-efficientsegnet", &["coarse", "fine"]),
    (
        "flare22-attention-dmfnet",
        &["teacher/union", "teacher/organs", "student/union", "student/organs"],
    ),
    (
        "flare22-coarse-to-fine",
        &["semi/coarse", "tune-coarse/coarse", "tune-fine/fine"],
    ),
    (
        "flare23-stmt",
        &[
            "teacher/locate",
            "teacher/organs",
            "student/locate",
            "student/organs",
            "tumour/tumour",
            "mean-teacher/tumour",
        ],
    ),
    (
        "flare23-two-step",
        &[
            "first/locate",
            "first/organs",
            "first/tumour",
            "tune/organs",
            "tune/tumour",
        ],
    ),
];

/// Counts the terms that a run saw.
#[derive(Default)]
struct Seen {
    terms: std::collections::BTreeSet<String>,
    steps: usize,
}

impl Progress for Seen {
    fn step(&mut self, report: &StepReport) -> std::ops::ControlFlow<()> {
        assert!(
            report.loss.total.is_finite() && report.gradient_norm > 0.0,
            "{report:?}"
        );
        let named = report.loss.terms.keys().map(|term| format!("{}: {term}", report.stage));
        self.terms.extend(named);
        self.steps += 1;
        std::ops::ControlFlow::Continue(())
    }
}

fn cohort(folder: &Path) {
    let mut cohort = Cohort::builtin("mini").unwrap();
    for centre in &mut cohort.centres {
        centre.phantom.spacing = Some([8.0, 7.0, 7.0]);
        centre.phantom.tumours = 1.0;
        centre.phantom.tumour_radius_mm = Some([20.0, 25.0]);
        centre.missed_lesions = 0.0;
    }
    let set = PhantomSet::create(folder, cohort).unwrap();
    for case in set.cases() {
        set.make(case).unwrap();
    }
    std::fs::write(folder.join("splits.json"), r#"{ "validation": ["ash_0001"] }"#).unwrap();
}

#[test]
fn all_five_systems_train_through_all_their_phases_and_segment() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    cohort(&data);
    let dataset = Dataset::open(&data).unwrap();
    let scan = &dataset.cases(Split::Test).unwrap()[0];
    let scan = read_image(&scan.image, &ReadOptions::default())
        .unwrap()
        .image
        .into_f32();
    for (name, trainings) in SYSTEMS {
        let mut recipe = Recipe::builtin(name).unwrap();
        narrow::narrow(&mut recipe);
        for settings in recipe.training.values_mut() {
            settings.cache_spacing_mm = 7.0;
        }
        recipe.validate(&recipe.label_table().unwrap()).unwrap();
        let options = TrainOptions {
            iterations: Some(1),
            cache: Some(folder.path().join("cache")),
            ..TrainOptions::default()
        };
        let run = folder.path().join(name);
        let mut seen = Seen::default();
        let report = train(&recipe, &data, &run, &options, &mut seen).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let names: Vec<&str> = report.stages.iter().map(|s| s.stage.as_str()).collect();
        assert_eq!(names, trainings, "{name}");
        assert_eq!(seen.steps, trainings.len());
        // What is special in each is there.
        let special = match name {
            "flare22-coarse-to-fine" => "semi/coarse: pyramid_consistency",
            "flare22-attention-dmfnet" => "student/organs: generalised_cross_entropy",
            "flare23-stmt" => "mean-teacher/tumour: teacher:cross_entropy",
            "flare21-efficientsegnet" => "fine: focal",
            _ => "tune/tumour: dice",
        };
        assert!(
            seen.terms.iter().any(|t| t.starts_with(special)),
            "{name}: {:?}",
            seen.terms
        );

        let model = Model::load(&report.model.unwrap()).unwrap();
        assert_eq!(model.recipe().stages.len(), recipe.stages.len());
        let segmenter = Segmenter::new(model, &SegmentOptions::default()).unwrap();
        let found = segmenter.segment_volume(&scan, Warnings::default()).unwrap();
        assert_eq!(found.labels.geometry(), scan.geometry(), "{name}");
    }
}
