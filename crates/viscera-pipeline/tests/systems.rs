//! The five systems as recipes, narrow and with fresh weights: what they find is nonsense, but each must find it in the
//! right place, by its own rules.

mod narrow;

use std::collections::BTreeMap;
use viscera_image::phantom::{PhantomConfig, generate};
use viscera_image::{Box3, Volume, crop};
use viscera_net::{Graph, Weights};
use viscera_pipeline::recipe::{Activation, Crop, Stage};
use viscera_pipeline::{Model, ProbabilityKind, Recipe, SegmentOptions, Segmentation, Segmenter, Tta, Warnings};

/// The recipe at a size for tests.
fn narrow(name: &str) -> Recipe {
    let mut recipe = Recipe::builtin(name).unwrap();
    narrow::narrow(&mut recipe);
    // Sizes have changed, and with them what could be trained.
    recipe.phases.clear();
    recipe.training.clear();
    recipe
}

/// Fresh weights, which `change` may change stage by stage.
fn model(recipe: Recipe, change: impl Fn(&Stage, &Graph, &mut Weights)) -> Model {
    let labels = recipe.label_table().unwrap();
    recipe.validate(&labels).unwrap();
    let fresh = Model::fresh("test", recipe.clone(), labels.clone(), 7).unwrap();
    let weights: BTreeMap<String, Weights> = fresh
        .networks()
        .map(|network| {
            let mut weights = network.folds[0].clone();
            change(network.stage, network.graph, &mut weights);
            (network.stage.id.clone(), weights)
        })
        .collect();
    Model::new("test", recipe, labels, weights, "", serde_json::Value::Null).unwrap()
}

fn scan() -> Volume<i16> {
    let config = PhantomConfig {
        spacing: Some([5.0, 4.1, 4.3]),
        shape: Some([41, 66, 83]),
        orientation: Some("LPS".to_owned()),
        ..PhantomConfig::default()
    };
    generate(&config, 11).unwrap().image
}

fn segmented(model: Model, options: &SegmentOptions, scan: &Volume<i16>) -> Segmentation {
    let segmenter = Segmenter::new(model, options).unwrap();
    segmenter.segment_volume(scan, Warnings::default()).unwrap()
}

const SYSTEMS: [&str; 5] = [
    "flare21-efficientsegnet",
    "flare22-attention-dmfnet",
    "flare22-coarse-to-fine",
    "flare23-stmt",
    "flare23-two-step",
];

#[test]
fn every_system_segments_the_same_on_any_number_of_threads() {
    let scan = scan();
    for name in SYSTEMS {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| segmented(model(narrow(name), |_, _, _| ()), &SegmentOptions::default(), &scan))
        };
        let one = run(1);
        assert_eq!(one.labels.geometry(), scan.geometry(), "{name}");
        let found = one.labels.data().iter().filter(|v| **v != 0).count();
        assert!(found > 100, "{name}: {found}");
        for threads in [2, 7] {
            assert!(
                run(threads).labels.data() == one.labels.data(),
                "{name} on {threads} threads"
            );
        }
        // A class may win between the network's voxels and on none of them: then it has no confidence.
        let sure: Vec<(f64, f64)> = one
            .report
            .organs
            .iter()
            .filter_map(|o| o.confidence.zip(o.entropy))
            .collect();
        assert!(!sure.is_empty(), "{name}");
        for (probability, entropy) in sure {
            assert!(
                probability > 0.0 && probability <= 1.0 && (0.0..=1.0).contains(&entropy),
                "{name}"
            );
        }
    }
}

/// Moves a class's logit by setting the bias of the finest head.
fn favour(graph: &Graph, weights: &mut Weights, channel: usize, bias: f32) {
    let head = graph
        .params
        .iter()
        .position(|p| p.name == "decoder.seg_layers.4.bias")
        .unwrap();
    let mut values = weights.values[head].to_vec();
    values[channel] = bias;
    weights.values[head] = values.into();
}

#[test]
fn a_tumour_lies_over_the_organs() {
    let scan = scan();
    for name in ["flare23-stmt", "flare23-two-step"] {
        let with = |bias: f32| {
            let change = |stage: &Stage, graph: &Graph, weights: &mut Weights| {
                if stage.id == "tumour" {
                    favour(graph, weights, 1, bias);
                }
            };
            segmented(model(narrow(name), change), &SegmentOptions::default(), &scan)
        };
        let (none, all, some) = (with(-1e4), with(1e4), with(0.0));
        assert!(none.labels.data().iter().all(|v| *v != 14), "{name}");
        let roi = &all.report.roi;
        let voxels: usize = (0..3).map(|a| roi.end[a] - roi.start[a]).product();
        assert_eq!(all.labels.data().iter().filter(|v| **v == 14).count(), voxels, "{name}");
        assert!(all.labels.data().iter().all(|v| [0, 14].contains(v)), "{name}");
        for (some, none) in some.labels.data().iter().zip(none.labels.data()) {
            assert!(*some == 14 || some == none, "{name}");
        }
    }
}

#[test]
fn the_middle_slices_come_back_to_their_place() {
    let scan = scan();
    let mut recipe = narrow("flare23-two-step");
    recipe.stages.retain(|stage| stage.id == "organs");
    recipe.stages[0].roi = None;
    let whole = |recipe: Recipe, scan: &Volume<i16>| {
        segmented(model(recipe, |_, _, _| ()), &SegmentOptions::default(), scan).labels
    };
    let slab = Box3 {
        start: [15, 0, 0],
        end: [25, 66, 83],
    };
    let expected = whole(recipe.clone(), &crop(&scan, &slab).unwrap());
    for rule in [Crop::MiddleSlices(10), Crop::MiddleMm(50.0)] {
        recipe.stages[0].crop = Some(rule);
        let found = whole(recipe.clone(), &scan);
        assert!(crop(&found, &slab).unwrap().data() == expected.data(), "{rule:?}");
        let plane = 66 * 83;
        let outside = found.data()[..15 * plane].iter().chain(&found.data()[25 * plane..]);
        assert!(outside.into_iter().all(|v| *v == 0), "{rule:?}");
    }
}

#[test]
fn probabilities_belong_to_the_labels() {
    let scan = scan();
    for name in ["flare21-efficientsegnet", "flare22-attention-dmfnet"] {
        let mut recipe = narrow(name);
        recipe.stages.iter_mut().for_each(|stage| stage.postprocess.clear());
        let with = |kind| SegmentOptions {
            probabilities: Some(kind),
            ..SegmentOptions::default()
        };
        let all = segmented(model(recipe.clone(), |_, _, _| ()), &with(ProbabilityKind::All), &scan);
        let winner = segmented(
            model(recipe.clone(), |_, _, _| ()),
            &with(ProbabilityKind::Winner),
            &scan,
        );
        assert_eq!((all.probabilities.len(), winner.probabilities.len()), (13, 1), "{name}");
        assert!(all.labels == winner.labels);
        let softmax = recipe.stages[1].inference.activation == Activation::Softmax;
        let mut compared = 0;
        for (i, label) in all.labels.data().iter().enumerate().filter(|(_, label)| **label != 0) {
            let own = all.probabilities[usize::from(*label) - 1].values.data()[i];
            let most = all.probabilities.iter().map(|map| map.values.data()[i]).max().unwrap();
            assert_eq!(own, most, "{name}");
            assert_eq!(own, winner.probabilities[0].values.data()[i], "{name}");
            assert!(softmax || own >= 127, "{name}: {own}");
            compared += 1;
        }
        assert!(compared > 100, "{name}");
    }
}

#[test]
fn mirroring_and_steps_can_be_asked_for() {
    let scan = scan();
    let plain = segmented(
        model(narrow("flare22-coarse-to-fine"), |_, _, _| ()),
        &SegmentOptions::default(),
        &scan,
    );
    for options in [
        SegmentOptions {
            tta: Some(Tta::Mirror),
            ..SegmentOptions::default()
        },
        SegmentOptions {
            step_size: Some(0.02),
            ..SegmentOptions::default()
        },
    ] {
        let other = segmented(model(narrow("flare22-coarse-to-fine"), |_, _, _| ()), &options, &scan);
        assert!(other.labels.data() != plain.labels.data(), "{options:?}");
    }
    let bad = SegmentOptions {
        step_size: Some(1.5),
        ..SegmentOptions::default()
    };
    let error = Segmenter::new(model(narrow("flare22-coarse-to-fine"), |_, _, _| ()), &bad).unwrap_err();
    assert!(error.to_string().contains("step size of 1.5"), "{error}");
}
