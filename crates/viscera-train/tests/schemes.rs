//! Trainings in several phases, on blobs of which some are labelled.

mod common;

use common::{blobs, write_data};
use std::ops::ControlFlow;
use std::path::Path;
use viscera_image::{Box3, LabelTable};
use viscera_io::{Annotations, Classes, Dataset, Split, read_label_map};
use viscera_pipeline::{Model, NetworkInput, Recipe, SegmentOptions, Segmenter, Warnings};
use viscera_train::{
    CachedCase, CaseGrid, PSEUDO_LIST, Progress, Sampler, StageView, StepReport, TrainError, TrainOptions, TrainReport,
    cross_validate, train,
};

/// A localiser that sees the whole, two organs in patches of a sliding window; a wider teacher, and a student.
const RECIPE: &str = r#"
[recipe]
name = "phases"
labels = "flare13"
modality = "ct"

[[stage]]
id = "locate"
role = "localise"
classes = "union"
resample = { size = [16, 16, 16], convention = "half_pixel" }
normalise = { window_hu = [-325, 325], zscore = "case" }
inference = { mode = "whole_volume", activation = "softmax" }
network = { arch = "plain_unet", features = [8, 12], kernels = [[3, 3, 3], [3, 3, 3]], strides = [[1, 1, 1], [2, 2, 2]], depths = [1, 1], decoder_depths = [1], conv_bias = true, norm_eps = 1e-5, norm_affine = true, slope = 0.01, dropout = 0.0, deep_supervision = false }

[[stage]]
id = "organs"
role = "segment"
classes = ["liver", "spleen"]
roi = { from = "locate", margin_mm = [10, 10, 10] }
resample = { spacing_mm = [5, 5, 5], image = { method = "align_corners", order = 1 }, logits = { method = "align_corners", order = 1 } }
normalise = { channels = [{ scheme = "fixed", window = [-1000, 1000], mean = 0, std = 1 }] }
inference = { mode = "sliding_window", activation = "softmax", window = { patch = [12, 12, 12], step = 0.5, weights = "gaussian" } }
network = { arch = "plain_unet", features = [8, 12], kernels = [[3, 3, 3], [3, 3, 3]], strides = [[1, 1, 1], [2, 2, 2]], depths = [1, 1], decoder_depths = [1], conv_bias = true, norm_eps = 1e-5, norm_affine = true, slope = 0.01, dropout = 0.0, deep_supervision = true }

[[phase]]
id = "teacher"
train = ["locate", "organs"]
[phase.network.organs]
arch = "residual_encoder_unet"
features = [8, 12]
kernels = [[3, 3, 3], [3, 3, 3]]
strides = [[1, 1, 1], [2, 2, 2]]
depths = [1, 1]
decoder_depths = [1]
conv_bias = true
norm_eps = 1e-5
norm_affine = true
slope = 0.01
dropout = 0.0
deep_supervision = true

[[phase]]
id = "label"
pseudo_label = { with = "teacher" }

[[phase]]
id = "student"
train = ["organs"]
labels = "label"
[phase.training.organs]
streams = { labelled = 1, partial = 1, pseudo = 1 }
batch_size = 3

[[phase]]
id = "mean"
train = ["organs"]
start_from = { organs = "student" }
[phase.training.organs]
supervision = { mean_teacher = { decay = 0.9, keep = "teacher" } }
epochs = 2

[training.locate]
loss = { terms = [{ term = "cross_entropy" }, { term = "dice" }] }
optimizer = { adam = { lr = 1e-2 } }
epochs = 4
iterations_per_epoch = 20
batch_size = 2
streams = { labelled = 2 }
augment = { profile = "standard" }
validate_every = 4
cache_spacing_mm = 3.0

[training.organs]
loss = { terms = [{ term = "cross_entropy" }, { term = "dice" }] }
optimizer = { adam = { lr = 1e-2 } }
epochs = 4
iterations_per_epoch = 20
batch_size = 2
streams = { labelled = 2 }
foreground_share = 0.5
plain_epochs = 1
intensities = "data"
augment = { profile = "standard" }
validate_every = 4
cache_spacing_mm = 3.0
"#;

/// Stops before a step or a case, counted over the whole run.
struct StopAt {
    left: usize,
    labelled: Vec<String>,
}

impl Progress for StopAt {
    fn step(&mut self, _: &StepReport) -> ControlFlow<()> {
        self.tick()
    }

    fn labelling(&mut self, case: &str, _: usize, _: usize) -> ControlFlow<()> {
        self.labelled.push(case.to_owned());
        self.tick()
    }
}

impl StopAt {
    fn new(left: usize) -> Self {
        Self {
            left,
            labelled: Vec::new(),
        }
    }

    fn tick(&mut self) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Eight cases: 0 to 3 labelled, 4 and 5 the liver only, 6 and 7 not at all; 3 validates.
fn data(folder: &Path) {
    write_data(folder, 8);
    let named = |list: &[&str]| Classes::Named(list.iter().map(|n| (*n).to_owned()).collect());
    let annotations = Annotations {
        cases: [(4, &["liver"][..]), (5, &["liver"]), (6, &[]), (7, &[])]
            .map(|(case, classes)| (format!("case_{case:02}"), named(classes)))
            .into(),
        ..Annotations::default()
    };
    viscera_io::write_json(&folder.join("annotations.json"), &annotations).unwrap();
    std::fs::write(folder.join("splits.json"), r#"{ "validation": ["case_03"] }"#).unwrap();
}

fn weights(run: &Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(run.join(format!("{name}.last.safetensors"))).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

fn go(folder: &Path, name: &str, resume: bool, progress: &mut dyn Progress) -> Result<TrainReport, TrainError> {
    let options = TrainOptions {
        cache: Some(folder.join("cache")),
        resume,
        ..TrainOptions::default()
    };
    let recipe = Recipe::parse(RECIPE, "phases").unwrap();
    train(&recipe, &folder.join("data"), &folder.join(name), &options, progress)
}

#[test]
fn a_teacher_labels_for_a_student() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let run = folder.path().join("run");
    let mut watcher = StopAt::new(usize::MAX);
    let report = go(folder.path(), "run", false, &mut watcher).unwrap();
    let names: Vec<&str> = report.stages.iter().map(|s| s.stage.as_str()).collect();
    assert_eq!(
        names,
        ["teacher/locate", "teacher/organs", "student/organs", "mean/organs"]
    );
    assert_eq!(watcher.labelled, ["case_04", "case_05", "case_06", "case_07"]);

    // What a person drew is there voxel for voxel; of what is missing the network found most; nobody is asked twice.
    let set = Dataset::open(&run.join("label").join(PSEUDO_LIST)).unwrap();
    let cases = set.cases(Split::Train).unwrap();
    assert_eq!(cases.len(), 7);
    for case in &cases {
        let number: usize = case.name["case_".len()..].parse().unwrap();
        let spleen_by_network = number >= 4;
        assert_eq!(case.pseudo.contains(3), spleen_by_network, "{}", case.name);
        assert_eq!(case.pseudo.contains(1), number >= 6, "{}", case.name);
        // Classes that the network does not find stay unannotated.
        assert_eq!(case.annotated.contains(2), number < 4);
        let truth = blobs(number).1;
        let found = read_label_map(case.labels.as_ref().unwrap()).unwrap();
        let count = |id: u8| {
            let pairs = found.data().iter().zip(truth.data());
            pairs.fold([0usize; 3], |[both, a, b], (&f, &t)| {
                let (f, t) = (f == id, t == i16::from(id));
                [both + usize::from(f && t), a + usize::from(f), b + usize::from(t)]
            })
        };
        let [both, a, b] = count(1);
        assert!(number >= 6 || (both == a && both == b), "{number}: {both} {a} {b}");
        let [both, a, b] = count(3);
        assert!(2 * both > (a + b) / 2, "{number}: {both} {a} {b}");
    }

    // The model is the student's, with the constants of its own data, and finds both organs where they are.
    let model = Model::load(&report.model.unwrap()).unwrap();
    assert_eq!(model.recipe().stages[1].network.arch(), "plain_unet");
    let constants = serde_json::to_string(&model.recipe().stages[1].normalise).unwrap();
    assert!(!constants.contains("-1000"), "{constants}");
    let (image, truth) = blobs(11);
    let segmenter = Segmenter::new(model, &SegmentOptions::default()).unwrap();
    let found = segmenter.segment_volume(&image, Warnings::default()).unwrap().labels;
    for id in [1u8, 3] {
        let inside = |v: &(&u8, &i16)| *v.0 == id && *v.1 == i16::from(id);
        let pairs = || found.data().iter().zip(truth.data());
        let both = pairs().filter(inside).count();
        let all = pairs().filter(|(f, t)| **f == id || **t == i16::from(id)).count();
        assert!(2 * both > all, "class {id}: {both} of {all}");
    }

    // Done is done: nothing is trained or labelled again.
    let mut again = StopAt::new(usize::MAX);
    let second = go(folder.path(), "run", true, &mut again).unwrap();
    assert!(again.labelled.is_empty() && again.left == usize::MAX && second.model.is_some());
}

#[test]
fn phases_that_were_stopped_go_on_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    go(folder.path(), "whole", false, &mut ()).unwrap();
    // In the teacher's second stage, between two cases, in the student, under the mean teacher.
    for (at, stop) in [97, 162, 190, 251].into_iter().enumerate() {
        let stopped = go(
            folder.path(),
            "parts",
            at > 0,
            &mut StopAt::new(stop - [0, 97, 162, 190][at]),
        )
        .unwrap();
        assert_eq!(stopped.model, None);
    }
    let end = go(folder.path(), "parts", true, &mut ()).unwrap();
    assert!(end.model.is_some());
    for name in ["teacher/locate", "teacher/organs", "student/organs", "mean/organs"] {
        let [a, b] = ["whole", "parts"].map(|run| weights(&folder.path().join(run), name));
        assert!(a == b, "{name}");
    }
    for case in 4..8 {
        let path = format!("label/labels/case_{case:02}.nii.gz");
        let [a, b] = ["whole", "parts"].map(|run| std::fs::read(folder.path().join(run).join(&path)).unwrap());
        assert!(a == b, "{path}");
    }
}

#[test]
fn phases_that_cannot_be_are_named() {
    for (from, to, part) in [
        (
            "with = \"teacher\"",
            "with = \"student\"",
            "no earlier phase that trains",
        ),
        (
            "labels = \"label\"",
            "labels = \"teacher\"",
            "no earlier phase that labels",
        ),
        (
            "organs = \"student\" }",
            "organs = \"label\" }",
            "which no earlier phase trains",
        ),
        (
            "organs = \"student\" }",
            "locate = \"teacher\" }",
            "which it does not train",
        ),
        ("id = \"mean\"", "id = \"student\"", "another phase's"),
        ("decay = 0.9", "decay = 1.0", "cannot be"),
        ("foreground_share = 0.5", "foreground_share = 1.5", "foreground_share"),
        ("batch_size = 3", "batch_size = 4", "streams have 3 samples"),
        ("plain_epochs = 1", "plain_epochs = 9", "plain_epochs"),
        (
            "id = \"mean\"\ntrain = [\"organs\"]",
            "id = \"mean\"\ntrain = [\"organ\"]",
            "[training.organ]",
        ),
        (
            "pseudo_label = {",
            "train = [\"organs\"]\npseudo_label = {",
            "two phases",
        ),
    ] {
        let text = RECIPE.replacen(from, to, 1);
        assert_ne!(text, RECIPE, "{from}");
        let error = Recipe::parse(&text, "r").unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    // The last phase of a stage has the network that segments.
    let text = RECIPE.replace("[phase.training.organs]\nsupervision", "[phase.network.organs]\narch = \"coarse_unet\"\nbase_features = 4\ndropout = 0.0\n[phase.training.organs]\nsupervision");
    let error = Recipe::parse(&text, "r").unwrap_err().to_string();
    assert!(
        error.contains("with its own network") || error.contains("does not suit"),
        "{error}"
    );
}

/// Without augmentation, a patch is a block of what inference sees, with its labels, and shows foreground when it should.
#[test]
fn patches_are_blocks_of_what_inference_sees() {
    let text = RECIPE
        .replace("spacing_mm = [5, 5, 5]", "spacing_mm = [3, 2.5, 2.5]")
        .replace("roi = { from = \"locate\", margin_mm = [10, 10, 10] }\n", "")
        .replace(
            "window = [-1000, 1000], mean = 0, std = 1",
            "window = [-100, 100], mean = 10, std = 4",
        );
    let recipe = Recipe::parse(&text, "r").unwrap();
    let (image, labels) = blobs(2);
    let labels = labels.map(|l| l as u8);
    let table = LabelTable::flare13();
    let all = viscera_image::AnnotatedClasses::all(&table);
    let grid = CaseGrid {
        spacing_mm: 2.5,
        axes: [0, 1, 2],
    };
    let none = viscera_image::AnnotatedClasses::none();
    let case = CachedCase::new("c", &image, &labels, [all, none], [&table, &table], grid).unwrap();
    let case = std::sync::Arc::new(case);
    let stage = recipe.stage("organs").unwrap();
    let view = StageView::new(&recipe, stage, &table).unwrap();
    let seen = [view.case(&case).unwrap()];
    let scan = case.image().unwrap();
    let input = NetworkInput::new(&scan, &Box3::whole(scan.shape()), stage).unwrap();
    let shape = input.tensor.spatial();
    assert_eq!(shape, [40, 36, 44]);

    let mut settings = recipe.training["organs"].clone();
    settings.augment = Default::default();
    settings.streams.clear();
    settings.batch_size = 1;
    let mut starts = std::collections::BTreeSet::new();
    for share in [0.0, 1.0] {
        settings.foreground_share = share;
        let sampler = Sampler::new(&view, &settings, 3);
        for step in 0..6 {
            let batch = sampler.batch(&seen, step).unwrap();
            let block = |at: [usize; 3]| {
                let row = move |z, y| ((at[0] + z) * shape[1] + at[1] + y) * shape[2] + at[2];
                (0..144).map(move |i| row(i / 12, i % 12))
            };
            let equal = |at: &[usize; 3]| {
                let rows = batch.input.data().chunks_exact(12).zip(block(*at));
                let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3;
                rows.into_iter()
                    .all(|(row, from)| row.iter().zip(&input.tensor.data()[from..from + 12]).all(close))
            };
            let places = (0..=28).flat_map(|z| (0..=24).flat_map(move |y| (0..=32).map(move |x| [z, y, x])));
            let at = places.into_iter().find(equal).expect("the patch is a block");
            let own: Vec<u8> = block(at)
                .flat_map(|from| case.labels(true)[from..from + 12].to_vec())
                .collect();
            assert_eq!(batch.labels, own);
            assert!(share == 0.0 || batch.labels.iter().any(|&l| l > 0), "{at:?}");
            starts.insert(at);
        }
    }
    assert!(starts.len() > 6, "{starts:?}");
}

/// Which stages of system E a case is for, by what it annotates.
#[test]
fn stages_see_what_a_case_annotates() {
    let recipe = Recipe::builtin("flare23-stmt").unwrap();
    let (image, labels) = blobs(0);
    let labels = labels.map(|l| if l == 3 { 14 } else { l as u8 });
    let table = LabelTable::flare14();
    let grid = CaseGrid {
        spacing_mm: 5.0,
        axes: [0, 1, 2],
    };
    let streams = |annotated: &[u8], pseudo: &[u8]| {
        let sets = [annotated, pseudo].map(|ids| ids.iter().copied().collect());
        let case = CachedCase::new("c", &image, &labels, sets, [&table, &table], grid).unwrap();
        let case = std::sync::Arc::new(case);
        ["locate", "organs", "tumour"].map(|id| {
            let view = StageView::new(&recipe, recipe.stage(id).unwrap(), &table).unwrap();
            view.case(&case).unwrap().stream
        })
    };
    use viscera_pipeline::recipe::Stream::{Labelled, Partial, Pseudo, Unlabelled};
    let organs: Vec<u8> = (1..=13).collect();
    let all: Vec<u8> = (1..=14).collect();
    assert_eq!(streams(&all, &[]), [Labelled; 3]);
    // Tumours lie in organs: to find these, nobody needs them.
    assert_eq!(streams(&organs, &[]), [Labelled, Labelled, Unlabelled]);
    assert_eq!(streams(&[1, 14], &[]), [Unlabelled, Partial, Labelled]);
    assert_eq!(streams(&[], &[]), [Unlabelled; 3]);
    assert_eq!(streams(&all, &organs[1..]), [Partial, Partial, Labelled]);
    assert_eq!(streams(&all, &organs), [Pseudo, Pseudo, Labelled]);
    assert_eq!(streams(&organs, &organs), [Pseudo, Pseudo, Unlabelled]);
}

/// The teacher moves by its decay from the first step on.
#[test]
fn a_mean_teacher_is_an_average_of_its_student() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let mut recipe = Recipe::parse(RECIPE, "r").unwrap();
    recipe.phases.clear();
    recipe.training.get_mut("organs").unwrap().supervision = viscera_pipeline::recipe::Supervision::MeanTeacher {
        decay: 0.9,
        weight: 1.0,
        keep: Default::default(),
    };
    let after = |resume: bool| {
        let options = TrainOptions {
            stages: vec!["organs".to_owned()],
            cache: Some(folder.path().join("cache")),
            resume,
            ..TrainOptions::default()
        };
        let run = folder.path().join("run");
        train(
            &recipe,
            &folder.path().join("data"),
            &run,
            &options,
            &mut StopAt::new(1),
        )
        .unwrap();
        let bytes = std::fs::read(run.join("organs.last.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let all = |prefix: &str| -> Vec<f32> {
            let mut names: Vec<&str> = file.names().into_iter().filter(|n| n.starts_with(prefix)).collect();
            names.sort_unstable();
            let values = |name: &str| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
            names.into_iter().flat_map(values).map(f32::from_le_bytes).collect()
        };
        ["weights/", "average/"].map(all)
    };
    let [_, before] = after(false);
    let [student, teacher] = after(true);
    assert!(before.len() > 1000 && student != teacher);
    for ((teacher, before), student) in teacher.iter().zip(&before).zip(&student) {
        assert!((teacher - (0.9 * before + 0.1 * student)).abs() < 1e-6);
    }
}

/// Two batches of one, accumulated, are one batch of two: also across a stop.
#[test]
fn accumulated_batches_make_one_step() {
    let folder = tempfile::tempdir().unwrap();
    data(&folder.path().join("data"));
    let run = |name: &str, batch_size: usize, accumulate: u64, stop: Option<usize>| {
        let mut recipe = Recipe::parse(RECIPE, "r").unwrap();
        recipe.phases.clear();
        let settings = recipe.training.get_mut("locate").unwrap();
        settings.loss = toml::from_str("terms = [{ term = \"cross_entropy\" }]").unwrap();
        settings.optimizer = toml::from_str("sgd = { lr = 0.05 }").unwrap();
        settings.streams.clear();
        settings.epochs = 1;
        settings.iterations_per_epoch = 4;
        settings.augment = viscera_pipeline::recipe::Augment::default();
        (settings.batch_size, settings.accumulate) = (batch_size, accumulate);
        let options = TrainOptions {
            stages: vec!["locate".to_owned()],
            cache: Some(folder.path().join("cache")),
            resume: stop.is_none(),
            ..TrainOptions::default()
        };
        let run = folder.path().join(name);
        let mut watcher = StopAt::new(stop.unwrap_or(99));
        train(&recipe, &folder.path().join("data"), &run, &options, &mut watcher).unwrap();
        let bytes = std::fs::read(run.join("locate.last.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<&str> = file.names().into_iter().filter(|n| n.starts_with("weights/")).collect();
        names.sort_unstable();
        let values = |name: &str| file.tensor(name).unwrap().data().as_chunks::<4>().0.to_vec();
        let values: Vec<f32> = names.into_iter().flat_map(values).map(f32::from_le_bytes).collect();
        values
    };
    let together = run("together", 2, 1, None);
    let one_by_one = run("one", 1, 2, None);
    let single = run("single", 1, 1, None);
    let most = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    let (same, other) = (most(&together, &one_by_one), most(&together, &single));
    assert!(same < 1e-6 && other > 1e-4, "{same} {other}");

    run("stopped", 1, 2, Some(2));
    assert_eq!(run("stopped", 1, 2, None), one_by_one);
}

/// A run per fold, scores over the folds, and an ensemble that segments.
#[test]
fn folds_are_cross_validated_and_joined() {
    let folder = tempfile::tempdir().unwrap();
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    write_data(&data, 4);
    let mut recipe = Recipe::parse(RECIPE, "r").unwrap();
    recipe.phases.clear();
    for settings in recipe.training.values_mut() {
        settings.intensities = viscera_pipeline::recipe::IntensitySource::Recipe;
    }
    let names = |range: &[usize]| {
        range
            .iter()
            .map(|i| format!("\"case_{i:02}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fold = |train: &[usize], val: &[usize]| format!("{{\"train\": [{}], \"val\": [{}]}}", names(train), names(val));
    let list = format!("[{}, {}]", fold(&[0, 1], &[2, 3]), fold(&[2, 3], &[0, 1]));
    // What cannot be trained leaves nothing behind.
    let options = TrainOptions::default();
    let other = fold(&[0, 9], &[1]);
    for (text, said) in [
        ("[]", "no folds"),
        ("{ \"validation\": [\"case_00\"] }", "viscera data split"),
        (&format!("[{other}]"), "case_09"),
    ] {
        std::fs::write(data.join("splits_final.json"), text).unwrap();
        let error = cross_validate(&recipe, &data, &run, &options, &mut ()).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!run.exists());
    }
    std::fs::write(data.join("splits_final.json"), list).unwrap();
    let options = TrainOptions {
        iterations: Some(20),
        ..TrainOptions::default()
    };
    // Stopped in the second fold, and resumed.
    let stopped = cross_validate(&recipe, &data, &run, &options, &mut StopAt::new(45)).unwrap();
    assert!(stopped.folds.len() == 2 && stopped.model.is_none());
    let options = TrainOptions {
        resume: true,
        ..options
    };
    let report = cross_validate(&recipe, &data, &run, &options, &mut ()).unwrap();
    assert_eq!(report.folds.len(), 2);
    let liver = &report.dice["organs"]["liver"];
    assert_eq!(liver.folds.len(), 2);
    assert!((liver.mean - (liver.folds[0] + liver.folds[1]) / 2.0).abs() < 1e-12);
    assert!((liver.std - (liver.folds[0] - liver.folds[1]).abs() / 2f64.sqrt()).abs() < 1e-9);

    let joint = Model::load(&report.model.unwrap()).unwrap();
    for network in joint.networks() {
        assert_eq!(network.stage.inference.folds, ["0", "1"]);
        for (k, fold) in network.folds.iter().enumerate() {
            let own = Model::load(&run.join(format!("fold_{k}/model.safetensors"))).unwrap();
            assert_eq!(own.network(Some(&network.stage.id)).unwrap().folds[0], *fold);
        }
    }
    Segmenter::new(joint, &SegmentOptions::default()).unwrap();
}
