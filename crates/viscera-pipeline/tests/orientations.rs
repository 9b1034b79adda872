//! A scan gives the same masks in the patient whatever way its voxels lie in the file.

use std::collections::BTreeMap;
use viscera_image::phantom::{PhantomConfig, generate};
use viscera_image::{AxisMap, Volume};
use viscera_net::Weights;
use viscera_pipeline::{Model, Recipe, SegmentOptions, Segmenter, Warnings};

/// Small networks with fresh weights: what they find is nonsense, but always the same nonsense.
fn model(coarse_threshold: f64) -> Model {
    let mut text = Recipe::builtin_text("efficientsegnet-small").unwrap().to_owned();
    let threshold = format!("threshold = {coarse_threshold}");
    for (built_in, here) in [
        ("base_features = 8", "base_features = 4"),
        ("base_features = 8", "base_features = 4"),
        ("size = [48, 48, 48]", "size = [32, 24, 28]"),
        ("size = [96, 96, 96]", "size = [64, 72, 68]"),
        ("margin_mm = [20, 20, 20]", "margin_mm = [3, 7, 5]"),
        ("threshold = 0.5", &threshold),
    ] {
        assert!(text.contains(built_in), "{built_in}");
        text = text.replacen(built_in, here, 1);
    }
    let recipe = Recipe::parse(&text, "test").unwrap();
    let labels = recipe.label_table().unwrap();
    let channels = labels.entries().len();
    let mut weights: BTreeMap<String, Weights> = recipe
        .stages
        .iter()
        .map(|stage| {
            let graph = stage.network.graph(1, channels).unwrap();
            (stage.id.clone(), Weights::init(&graph, 5))
        })
        .collect();
    // The coarse network knows the first class only, which makes its box smaller. The head is its last parameter.
    if let Some(head) = weights.get_mut("coarse").and_then(|w| w.values.last_mut()) {
        let per_class = head.len() / channels;
        head[per_class..].fill(0.0);
    }
    Model::new("test", recipe, labels, weights, "", serde_json::Value::Null).unwrap()
}

fn scan() -> Volume<i16> {
    let config = PhantomConfig {
        spacing: Some([5.0, 4.1, 4.3]),
        shape: Some([41, 66, 83]),
        orientation: Some("RAS".to_owned()),
        ..PhantomConfig::default()
    };
    generate(&config, 11).unwrap().image
}

#[test]
fn all_48_orders_and_directions_of_axes_give_the_same_masks() {
    let scan = scan();
    // The first threshold that few enough voxels reach for the box to be a part of the scan.
    let (segmenter, first) = (60..100)
        .step_by(3)
        .map(|percent| {
            let model = model(f64::from(percent) / 100.0);
            let segmenter = Segmenter::new(model, &SegmentOptions::default()).unwrap();
            let first = segmenter.segment_volume(&scan, Warnings::default()).unwrap();
            (segmenter, first)
        })
        .find(|(_, first)| {
            let roi = &first.report.roi;
            !roi.fallback && (roi.start != [0; 3] || roi.end != scan.shape())
        })
        .expect("a threshold at which the box is a part of the scan");
    assert_eq!(first.labels.geometry(), scan.geometry());
    let found = first.labels.data().iter().filter(|v| **v != 0).count();
    assert!(found > 1000, "only {found} voxels to compare");
    for map in AxisMap::all() {
        let turned = map.apply(&scan);
        let result = segmenter.segment_volume(&turned, Warnings::default()).unwrap();
        assert_eq!(result.labels.geometry(), turned.geometry());
        let back = map.inverse().apply(&result.labels);
        assert!(back.data() == first.labels.data(), "{map:?}");
        for (a, b) in result.report.organs.iter().zip(&first.report.organs) {
            assert_eq!((a.voxels, a.touches_border), (b.voxels, b.touches_border), "{map:?}");
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_masks() {
    let scan = scan();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let segmenter = Segmenter::new(model(0.8), &SegmentOptions::default()).unwrap();
            segmenter.segment_volume(&scan, Warnings::default()).unwrap()
        })
    };
    let one = run(1);
    for threads in [2, 5] {
        let many = run(threads);
        assert!(many.labels == one.labels);
        assert_eq!(many.report.organs, one.report.organs);
    }
}

#[test]
fn nothing_localised_means_the_whole_scan_and_a_warning() {
    // Zero weights give a probability of one half everywhere, below the coarse threshold.
    let model = model(0.8);
    let zeros = |graph: &viscera_net::Graph| Weights {
        values: graph.params.iter().map(|p| vec![0.0; p.len()].into()).collect(),
    };
    let weights: BTreeMap<String, Weights> = model
        .networks()
        .map(|network| (network.stage.id.clone(), zeros(network.graph)))
        .collect();
    let (recipe, labels) = (model.recipe().clone(), model.labels().clone());
    let model = Model::new("zeros", recipe, labels, weights, "", serde_json::Value::Null).unwrap();
    let options = SegmentOptions {
        roi_subset: Some(vec!["liver".to_owned()]),
        ..SegmentOptions::default()
    };
    let scan = scan();
    let result = Segmenter::new(model, &options)
        .unwrap()
        .segment_volume(&scan, Warnings::default())
        .unwrap();
    assert!(result.report.roi.fallback);
    assert_eq!((result.report.roi.start, result.report.roi.end), ([0; 3], scan.shape()));
    let codes: Vec<&str> = result.report.warnings.list().iter().map(|w| w.code()).collect();
    // One half reaches the fine threshold: the first class is everywhere.
    assert_eq!(
        codes,
        [
            "nothing-localised",
            "touches-border",
            "implausible-volume",
            "implausible-intensity",
            "low-confidence"
        ]
    );
    assert!(result.labels.data().iter().all(|v| *v == 1));
}

#[test]
fn a_subset_is_the_same_as_the_whole_without_the_rest() {
    let scan = scan();
    let run = |options: &SegmentOptions| {
        Segmenter::new(model(0.8), options)
            .unwrap()
            .segment_volume(&scan, Warnings::default())
            .unwrap()
    };
    let all = run(&SegmentOptions::default());
    let kept = all.report.organs.iter().find(|o| o.voxels > 0).unwrap();
    let some = run(&SegmentOptions {
        roi_subset: Some(vec![kept.name.clone()]),
        ..SegmentOptions::default()
    });
    assert_eq!(some.table.entries().len(), 1);
    assert_eq!(some.report.organs, std::slice::from_ref(kept));
    for (a, b) in all.labels.data().iter().zip(some.labels.data()) {
        assert_eq!(if *a == kept.id { *a } else { 0 }, *b);
    }
}
