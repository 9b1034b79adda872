//! Whole trainings on synthetic blobs.

mod common;

use common::{recipe, write_data};
use std::ops::ControlFlow;
use std::path::Path;
use viscera_engine::Precision;
use viscera_image::LabelTable;
use viscera_io::{Annotations, Classes};
use viscera_pipeline::Model;
use viscera_pipeline::recipe::Stream;
use viscera_train::{
    CachedCase, CaseGrid, Device, Progress, Sampler, StageCase, StageView, StepReport, TrainError, TrainOptions,
    TrainingData, ValidationReport, train,
};

const COARSE: &str = r#"
schedule = { cosine = { floor = 0.1 } }
epochs = 6
iterations_per_epoch = 50
batch_size = 2
validate_every = 2
augment = { profile = "none" }
"#;
const FINE: &str = "epochs = 1\niterations_per_epoch = 2\nbatch_size = 1";

/// Keeps what it is told, and stops after so many steps.
#[derive(Default)]
struct Watcher {
    steps: Vec<StepReport>,
    validations: Vec<ValidationReport>,
    stop_after: Option<usize>,
}

impl Progress for Watcher {
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        self.steps.push(report.clone());
        if self.stop_after == Some(self.steps.len()) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn validated(&mut self, report: &ValidationReport) {
        self.validations.push(report.clone());
    }
}

fn only_coarse() -> TrainOptions {
    TrainOptions {
        stages: vec!["coarse".to_owned()],
        ..TrainOptions::default()
    }
}

fn losses(watcher: &Watcher) -> Vec<f64> {
    watcher.steps.iter().map(|s| s.loss.total).collect()
}

#[test]
fn learns_writes_a_model_and_logs() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_data(&data, 6);
    let mut watcher = Watcher::default();
    let recipe = recipe(COARSE, FINE);
    let report = train(&recipe, &data, &run, &TrainOptions::default(), &mut watcher).unwrap();

    let loss = losses(&watcher);
    let (early, late) = (loss[..5].iter().sum::<f64>(), loss[295..300].iter().sum::<f64>());
    assert!(late < 0.7 * early, "{early} {late}");
    let coarse: Vec<&ValidationReport> = watcher.validations.iter().filter(|v| v.stage == "coarse").collect();
    assert_eq!(coarse.iter().map(|v| v.step).collect::<Vec<_>>(), [100, 200, 300]);
    let (liver, first) = (coarse[2].dice["liver"], coarse[0].dice["liver"]);
    assert!(liver > 0.7 && liver >= first, "{first} {liver}");

    assert!(report.stages.iter().all(|s| s.finished && s.best.is_some()));
    let path = report.model.unwrap();
    let model = Model::load(&path).unwrap();
    assert_eq!(model.training()["cases"], 5);
    assert_eq!(model.training()["stages"]["fine"]["steps"], 2);
    assert!(model.card().contains("| coarse |"));

    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.iter().filter(|l| l["event"] == "step").count(), 302);
    assert_eq!(lines.iter().filter(|l| l["event"] == "validation").count(), 4);
    assert_eq!(lines[0]["event"], "start");
    assert!(lines[1]["seconds"]["forward"].as_f64().unwrap() > 0.0);

    // Fine-tuned in one stage, the other stays.
    let options = TrainOptions {
        stages: vec!["fine".to_owned()],
        init: Some(path),
        seed: Some(7),
        ..TrainOptions::default()
    };
    let further = train(&recipe, &data, &folder.path().join("further"), &options, &mut ()).unwrap();
    let further = Model::load(&further.model.unwrap()).unwrap();
    let folds = |model: &Model, stage: &str| model.network(Some(stage)).unwrap().folds.to_vec();
    assert!(folds(&further, "coarse") == folds(&model, "coarse"));
    assert!(folds(&further, "fine") != folds(&model, "fine"));
    assert!(further.card().contains("| coarse | kept |"), "{}", further.card());

    // The folder is taken now.
    let error = train(&recipe, &data, &run, &TrainOptions::default(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("resume"), "{error}");
}

/// The weights and moments of a finished run, without its times.
fn tensors(run: &Path) -> Vec<u8> {
    let bytes = std::fs::read(run.join("coarse.last.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

/// Same seed, same run, however many threads and however samples are prepared; stopped and resumed, too; another seed, another.
#[test]
fn runs_repeat_and_resume_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data, 4);
    let coarse = r#"
ema = 0.9
clip_norm = 5.0
warmup = 0.2
epochs = 4
iterations_per_epoch = 3
batch_size = 2
validate_every = 2
augment = { profile = "robust" }
"#;
    let recipe = recipe(coarse, FINE);
    let go = |name: &str, options: &TrainOptions, stop_after: Option<usize>| {
        let run = folder.path().join(name);
        let mut watcher = Watcher {
            stop_after,
            ..Watcher::default()
        };
        let options = TrainOptions {
            cache: Some(folder.path().join("cache")),
            ..options.clone()
        };
        train(&recipe, &data, &run, &options, &mut watcher).unwrap();
        (tensors(&run), losses(&watcher))
    };
    let (whole, whole_losses) = go("whole", &only_coarse(), None);
    let inline = TrainOptions {
        ahead: 0,
        ..only_coarse()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(
        pool.install(|| go("inline", &inline, None)),
        (whole.clone(), whole_losses.clone())
    );

    let (half, first) = go("resumed", &only_coarse(), Some(7));
    assert_ne!(half, whole);
    let resume = TrainOptions {
        resume: true,
        ..only_coarse()
    };
    let (resumed, rest) = go("resumed", &resume, None);
    assert_eq!([first, rest].concat(), whole_losses);
    assert!(resumed == whole);
    let steps = std::fs::read_to_string(folder.path().join("resumed/log.jsonl")).unwrap();
    assert_eq!(steps.lines().filter(|l| l.contains("\"event\":\"step\"")).count(), 12);

    let other = TrainOptions {
        seed: Some(1),
        ..only_coarse()
    };
    assert_ne!(go("other", &other, None).1, whole_losses);
}

#[test]
fn both_executors_train_alike() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data, 2);
    let recipe = recipe("epochs = 1\niterations_per_epoch = 3\nbatch_size = 1", FINE);
    let runs = [Device::Cpu, Device::BurnCpu].map(|device| {
        let mut watcher = Watcher::default();
        let options = TrainOptions {
            device,
            ..only_coarse()
        };
        train(
            &recipe,
            &data,
            &folder.path().join(device.name()),
            &options,
            &mut watcher,
        )
        .unwrap();
        losses(&watcher)
    });
    for (a, b) in runs[0].iter().zip(&runs[1]) {
        assert!((a - b).abs() < 1e-3 * a, "{a} {b}");
    }
}

#[test]
fn values_in_bf16_train_alike() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data, 2);
    let recipe = recipe("epochs = 2\niterations_per_epoch = 5\nbatch_size = 1", FINE);
    let go = |run: &str, precision, iterations, resume| {
        let mut watcher = Watcher::default();
        let options = TrainOptions {
            precision,
            iterations,
            resume,
            ..only_coarse()
        };
        train(&recipe, &data, &folder.path().join(run), &options, &mut watcher).map(|_| losses(&watcher))
    };
    let full = go("f32", Precision::F32, None, false).unwrap();
    let half = go("bf16", Precision::Bf16, None, false).unwrap();
    assert_ne!(full, half);
    for (a, b) in full.iter().zip(&half) {
        assert!((a - b).abs() < 0.05 * a, "{full:?} {half:?}");
    }
    // A run keeps its precision.
    let error = go("bf16", Precision::F32, None, true).unwrap_err();
    assert!(error.to_string().contains("other settings"), "{error}");
    // Only the engine stores bf16.
    let options = TrainOptions {
        device: Device::BurnCpu,
        precision: Precision::Bf16,
        ..only_coarse()
    };
    let error = train(&recipe, &data, &folder.path().join("burn"), &options, &mut ()).unwrap_err();
    assert!(error.to_string().contains("bf16 is for the device cpu"), "{error}");
}

#[test]
fn faults_of_the_data_are_found_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data, 3);
    let recipe = recipe(COARSE, FINE);
    let go = |run: &str| train(&recipe, &data, &folder.path().join(run), &only_coarse(), &mut ()).unwrap_err();

    std::fs::write(data.join("splits.json"), r#"{ "validation": ["case_09"] }"#).unwrap();
    assert!(go("a").to_string().contains("no labelled case \"case_09\""));
    std::fs::write(
        data.join("splits.json"),
        r#"{ "train": ["case_00"], "validation": ["case_00"] }"#,
    )
    .unwrap();
    assert!(go("b").to_string().contains("to train and to validate"));
    std::fs::remove_file(data.join("splits.json")).unwrap();

    let (_, labels) = common::blobs(0);
    let path = data.join("labelsTr/case_01.nii.gz");
    let wrong = labels.map(|l| if l == 3 { 77 } else { l });
    viscera_io::write_image(&path, &viscera_io::Image::I16(wrong)).unwrap();
    let error = go("c");
    assert!(
        matches!(&error, TrainError::Case { case, .. } if case == "case_01"),
        "{error}"
    );
    assert!(error.to_string().contains("77"));

    let (mut geometry, voxels) = labels.into_parts();
    geometry.origin[2] += 30.0;
    let moved = viscera_image::Volume::new(geometry, voxels).unwrap();
    viscera_io::write_image(&path, &viscera_io::Image::I16(moved)).unwrap();
    assert!(go("d").to_string().contains("different grids"));
}

/// What annotations say becomes the stream of a sample, and batches have as many of each stream as was asked for.
#[test]
fn batches_are_made_of_streams() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_data(&data, 6);
    let named = |list: &[&str]| Classes::Named(list.iter().map(|n| (*n).to_owned()).collect());
    let annotations = Annotations {
        cases: [
            ("case_01".to_owned(), named(&["liver"])),
            ("case_02".to_owned(), named(&[])),
            ("case_03".to_owned(), named(&[])),
        ]
        .into(),
        pseudo: [("case_04".to_owned(), Classes::All)].into(),
        ..Annotations::default()
    };
    viscera_io::write_json(&data.join("annotations.json"), &annotations).unwrap();
    std::fs::write(
        data.join("splits.json"),
        r#"[{ "train": [], "val": ["case_00"] }, { "train": ["case_00", "case_01", "case_04"], "val": ["case_05"] }]"#,
    )
    .unwrap();
    let table = LabelTable::flare13();
    let run = folder.path().join("run");
    std::fs::create_dir_all(&run).unwrap();
    let set = TrainingData::open(&data, &run, &table, 1, 0.2, 0).unwrap();
    assert_eq!((set.train.len(), set.validation[0].name.as_str()), (3, "case_05"));
    let cases = [set.train.clone(), set.unlabelled.clone()].concat();
    let grid = CaseGrid {
        spacing_mm: 3.0,
        axes: [0, 1, 2],
    };
    let cache = folder.path().join("cache");
    let cases = set.load(&cases, grid, &cache, &mut ()).unwrap();
    let mut recipe = recipe(COARSE, FINE);
    let view = StageView::new(&recipe, recipe.stage("coarse").unwrap(), &table).unwrap();
    let cases: Vec<StageCase> = cases.iter().map(|case| view.case(case).unwrap()).collect();
    let streams: Vec<Stream> = cases.iter().map(|case| case.stream).collect();
    use Stream::{Labelled, Partial, Pseudo, Unlabelled};
    assert_eq!(streams, [Labelled, Partial, Pseudo, Unlabelled, Unlabelled]);
    // A second reading comes from the cache.
    let again = set.load(&set.train, grid, &cache, &mut ()).unwrap();
    let voxels = |case: &CachedCase| (case.geometry().clone(), case.hu().to_vec(), case.labels(true).to_vec());
    for (again, case) in again.iter().zip(&set.train) {
        let first = TrainingData::open(&data, &run, &table, 1, 0.2, 0).unwrap();
        let fresh = first.load(std::slice::from_ref(case), grid, &folder.path().join("other"), &mut ());
        assert_eq!(voxels(again), voxels(&fresh.unwrap()[0]));
    }

    let settings = recipe.training.get_mut("coarse").unwrap();
    settings.batch_size = 3;
    settings.streams = [(Labelled, 1), (Unlabelled, 2)].into();
    let mixed = Sampler::new(&view, settings, 5);
    let voxels = 16 * 16 * 16;
    let mut orders = std::collections::BTreeSet::new();
    for step in 0..6 {
        let batch = mixed.batch(&cases, step).unwrap();
        assert_eq!(batch.streams, [Labelled, Unlabelled, Unlabelled]);
        assert!(batch.labels[..voxels].contains(&1) && !batch.labels[voxels..].contains(&1));
        let (first, second) = (
            &batch.input.data()[voxels..2 * voxels],
            &batch.input.data()[2 * voxels..],
        );
        // Both cases once per step, in either order.
        assert_ne!(first, second);
        orders.insert(first[0].to_bits());
    }
    assert_eq!(orders.len(), 2);
    let settings = recipe.training.get_mut("coarse").unwrap();
    settings.streams = [(Pseudo, 3)].into();
    let error = Sampler::new(&view, settings, 5).batch(&cases[..2], 0).unwrap_err();
    assert!(error.to_string().contains("pseudo"), "{error}");
}
