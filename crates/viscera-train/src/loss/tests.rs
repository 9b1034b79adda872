//! Values and gradients against PyTorch, nnU-Net's own losses, automatic differentiation and finite differences.

use super::*;
use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::{log_sigmoid, sigmoid as burn_sigmoid};
use burn::tensor::{Tensor as BurnTensor, TensorData, backend::AutodiffBackend};
use serde::Deserialize;
use viscera_pipeline::recipe::ChannelLoss;

#[derive(Deserialize)]
struct Expected {
    shape: [usize; 5],
    classes: Vec<u8>,
    annotated: Vec<Vec<u8>>,
    labels: Vec<u8>,
    logits: Vec<f32>,
    cases: Vec<Case>,
}
#[derive(Deserialize)]
struct Case {
    settings: LossSettings,
    total: f64,
    dice: f64,
    focal: f64,
    gradient: Vec<f32>,
}

/// Values and gradients of PyTorch, with a class that is not annotated and one that is absent.
#[test]
fn losses_equal_pytorch() {
    let e: Expected = serde_json::from_str(include_str!("../../../../fixtures/train-losses/expected.json")).unwrap();
    let annotated: Vec<AnnotatedClasses> = e.annotated.iter().map(|a| a.iter().copied().collect()).collect();
    let target = Target {
        labels: &e.labels,
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Partial; 2],
        classes: &e.classes,
        ignore: None,
    };
    let logits = Tensor::new(e.shape, e.logits).unwrap();
    for case in e.cases {
        let (value, gradients) = evaluate(&case.settings, std::slice::from_ref(&logits), target, 0.0).unwrap();
        for (got, want) in [
            (value.total, case.total),
            (value.terms["dice"], case.dice),
            (value.terms["focal"], case.focal),
        ] {
            assert!(
                (got - want).abs() < 1e-5 * want.abs().max(1.0),
                "{got} against {want}: {:?}",
                case.settings
            );
        }
        for (got, want) in gradients[0].data().iter().zip(&case.gradient) {
            assert!(
                (got - want).abs() < 1e-6 + 1e-4 * want.abs(),
                "{got} against {want}: {:?}",
                case.settings
            );
        }
    }
}

/// A class that is annotated but absent: nothing to learn with a tiny `smooth`, a push towards 0 with a large one.
#[test]
fn smooth_makes_absent_classes_count() {
    let annotated = [[1u8].into_iter().collect::<AnnotatedClasses>()];
    let labels = vec![0u8; 1000];
    let target = Target {
        labels: &labels,
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Labelled],
        classes: &[1],
        ignore: None,
    };
    let logits = Tensor::zeros([1, 1, 10, 10, 10]);
    let push = |smooth: f32| {
        let settings = LossSettings::Channels(ChannelLoss {
            smooth,
            ..ChannelLoss::default()
        });
        let (value, gradient) = evaluate(&settings, std::slice::from_ref(&logits), target, 0.0).unwrap();
        (value.total, gradient[0].data().iter().sum::<f32>())
    };
    let (value, gradient) = push(1e-8);
    assert!((value - 1.0).abs() < 1e-6 && gradient < 1e-6);
    let (value, gradient) = push(250.0);
    assert!((value - 0.5).abs() < 1e-6 && gradient > 0.1, "{value} {gradient}");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let settings: LossSettings = toml::from_str("dice = 1.0").unwrap();
    let annotated = [AnnotatedClasses::none()];
    let target = Target {
        labels: &[0; 8],
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Labelled],
        classes: &[1, 2],
        ignore: None,
    };
    let logits = Tensor::zeros([1, 1, 2, 2, 2]);
    assert!(evaluate(&settings, std::slice::from_ref(&logits), target, 0.0).is_err());
    assert!(evaluate(&settings, &[logits.clone(), logits], target, 0.0).is_err());
}

/// The definitions on Burn tensors `[pairs, voxels]`, all annotated, differentiated by Burn.
fn by_autodiff<B: AutodiffBackend>(settings: &ChannelLoss, x: &[f32], g: &[f32], rows: usize) -> (f32, Vec<f32>) {
    let device = B::Device::default();
    let shape = [rows, x.len() / rows];
    let x = BurnTensor::<B, 2>::from_data(TensorData::new(x.to_vec(), shape), &device).require_grad();
    let g = BurnTensor::<B, 2>::from_data(TensorData::new(g.to_vec(), shape), &device);
    let p = burn_sigmoid(x.clone());
    let both = (p.clone() * g.clone()).sum_dim(1);
    let either = (p.powi_scalar(2) + g.clone()).sum_dim(1);
    let dice = ((both * 2.0 + settings.smooth) / (either + settings.smooth))
        .neg()
        .add_scalar(1.0)
        .mean();
    let z = x.clone() * (g.clone() * 2.0 - 1.0);
    let missed = burn_sigmoid(z.clone().neg());
    let alpha = g.clone() * (2.0 * settings.focal_alpha - 1.0) + (1.0 - settings.focal_alpha);
    let focal = (alpha * missed.powf_scalar(settings.focal_gamma) * log_sigmoid(z))
        .sum()
        .neg()
        / g.sum();
    let total = dice * settings.dice + focal * settings.focal;
    let gradient = x.grad(&total.backward()).unwrap().into_data().into_vec().unwrap();
    (total.into_data().into_vec().unwrap()[0], gradient)
}

/// On thousands of voxels, with logits far into saturation.
#[test]
fn fused_passes_equal_automatic_differentiation() {
    let n = 3 * 4096 + 5;
    let labels: Vec<u8> = (0..n).map(|i| (i / 700 % 4) as u8).collect();
    let classes = [1, 3];
    let x: Vec<f32> = (0..2 * n)
        .map(|i| ((i * 7919 % 20011) as f32 - 10_000.0) / 400.0)
        .collect();
    let g: Vec<f32> = classes
        .iter()
        .flat_map(|&c| labels.iter().map(move |&l| f32::from(u8::from(l == c))))
        .collect();
    let annotated = [classes.into_iter().collect::<AnnotatedClasses>()];
    let target = Target {
        labels: &labels,
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Labelled],
        classes: &classes,
        ignore: None,
    };
    for text in [
        "dice = 1.0\nsmooth = 3.0",
        "dice = 0.3\nfocal = 2.0\nfocal_gamma = 1.5\nfocal_alpha = 0.25",
    ] {
        let settings: LossSettings = toml::from_str(text).unwrap();
        let LossSettings::Channels(channels) = &settings else {
            panic!()
        };
        let (want, want_gradient) = by_autodiff::<Autodiff<Flex>>(channels, &x, &g, 2);
        let logits = Tensor::new([1, 2, 1, 1, n], x.clone()).unwrap();
        let (value, gradient) = evaluate(&settings, std::slice::from_ref(&logits), target, 0.0).unwrap();
        assert!(
            (value.total as f32 - want).abs() < 1e-5 * want,
            "{} against {want}",
            value.total
        );
        let largest = want_gradient.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (got, want) in gradient[0].data().iter().zip(want_gradient) {
            assert!((got - want).abs() < 1e-5 * largest, "{got} against {want}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let settings: LossSettings = toml::from_str("dice = 1.0\nfocal = 1.0").unwrap();
    let n = 24;
    let labels: Vec<u8> = (0..n * n * n).map(|i| (i / 997 % 3) as u8).collect();
    let annotated = [[1, 2].into_iter().collect::<AnnotatedClasses>()];
    let target = Target {
        labels: &labels,
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Labelled],
        classes: &[1, 2],
        ignore: None,
    };
    let x = (0..2 * n * n * n).map(|i| ((i * 31 % 1009) as f32).sin()).collect();
    let logits = Tensor::new([1, 2, n, n, n], x).unwrap();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(&settings, std::slice::from_ref(&logits), target, 0.0).unwrap())
    };
    assert_eq!(run(1), run(3));
}

#[derive(Deserialize)]
struct Supervised {
    sizes: Vec<[usize; 3]>,
    classes: Vec<u8>,
    streams: Vec<Stream>,
    ignore: u8,
    labels: Vec<u8>,
    logits: Vec<Vec<f32>>,
    cases: Vec<SupervisedCase>,
}
#[derive(Deserialize)]
struct SupervisedCase {
    loss: LossSettings,
    annotated: Vec<Vec<u8>>,
    total: f64,
    gradients: Vec<Vec<f32>>,
}

fn heads(sizes: &[[usize; 3]], logits: &[Vec<f32>], batch: usize) -> Vec<Tensor> {
    let head = |([z, y, x], logits): (&[usize; 3], &Vec<f32>)| {
        let channels = logits.len() / (batch * z * y * x);
        Tensor::new([batch, channels, *z, *y, *x], logits.clone()).unwrap()
    };
    sizes.iter().zip(logits).map(head).collect()
}

fn assert_near(got: &[Tensor], want: &[Vec<f32>], what: &impl std::fmt::Debug) {
    for (got, want) in got.iter().zip(want) {
        assert_eq!(got.data().len(), want.len());
        let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (got, want) in got.data().iter().zip(want) {
            let tolerance = 1e-5 * largest + 1e-4 * want.abs();
            assert!((got - want).abs() <= tolerance, "{got} against {want}: {what:?}");
        }
    }
}

/// Every term, joined, ignored and naive partial labels, ignored voxels, streams and deep supervision; one case by
/// nnU-Net's own classes.
#[test]
fn softmax_terms_equal_pytorch() {
    let text = include_str!("../../../../fixtures/train-losses-softmax/supervised.json");
    let e: Supervised = serde_json::from_str(text).unwrap();
    let heads = heads(&e.sizes, &e.logits, 3);
    for case in e.cases {
        let annotated: Vec<AnnotatedClasses> = case.annotated.iter().map(|a| a.iter().copied().collect()).collect();
        let target = Target {
            labels: &e.labels,
            coarser: &[],
            annotated: &annotated,
            streams: &e.streams,
            classes: &e.classes,
            ignore: Some(e.ignore),
        };
        let (value, gradients) = evaluate(&case.loss, &heads, target, 0.0).unwrap();
        assert!(
            (value.total - case.total).abs() < 1e-5 * case.total,
            "{} against {}: {:?}",
            value.total,
            case.total,
            case.loss
        );
        assert_near(&gradients, &case.gradients, &case.loss);
    }
}

#[derive(Deserialize)]
struct Consistency {
    sizes: Vec<[usize; 3]>,
    logits: Vec<Vec<f32>>,
    total: f64,
    gradients: Vec<Vec<f32>>,
}

const CONSISTENCY: &str =
    r#"terms = [{ term = "cross_entropy" }, { term = "pyramid_consistency", weight = 2.0, ramp = 0.5 }]"#;

/// Against PyTorch; labels are not looked at, and a labelled sample beside them has cross-entropy only.
#[test]
fn pyramid_consistency_equals_pytorch() {
    let text = include_str!("../../../../fixtures/train-losses-softmax/consistency.json");
    let e: Consistency = serde_json::from_str(text).unwrap();
    let settings: LossSettings = toml::from_str(CONSISTENCY).unwrap();
    let annotated = [AnnotatedClasses::none(); 2];
    let target = Target {
        labels: &[7; 256],
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Unlabelled; 2],
        classes: &[1, 2],
        ignore: None,
    };
    let heads = heads(&e.sizes, &e.logits, 2);
    let (value, gradients) = evaluate(&settings, &heads, target, 1.0).unwrap();
    assert!(
        (value.total - 2.0 * e.total).abs() < 1e-5,
        "{value:?} against {}",
        e.total
    );
    assert_eq!(value.terms["cross_entropy"], 0.0);
    let doubled: Vec<Vec<f32>> = e
        .gradients
        .iter()
        .map(|g| g.iter().map(|v| 2.0 * v).collect())
        .collect();
    assert_near(&gradients, &doubled, &"consistency");
    // At the start the ramp leaves exp(−5) of it.
    let (value, _) = evaluate(&settings, &heads, target, 0.0).unwrap();
    assert!((value.total - 2.0 * e.total * (-5.0f64).exp()).abs() < 1e-6);

    let annotated = [[1, 2].into_iter().collect(), AnnotatedClasses::none()];
    let mixed = Target {
        labels: &[1; 256],
        annotated: &annotated,
        streams: &[Stream::Labelled, Stream::Unlabelled],
        ..target
    };
    let (value, gradients) = evaluate(&settings, &heads, mixed, 1.0).unwrap();
    assert!(value.terms["cross_entropy"] > 0.1 && value.terms["pyramid_consistency"] > 0.1);
    // The coarsest head has no cross-entropy: its labelled sample learns nothing.
    assert!(gradients[3].data()[..3].iter().all(|v| *v == 0.0) && gradients[3].data()[3..].iter().all(|v| *v != 0.0));
}

/// All at once, over more voxels than a piece has, along random directions.
#[test]
fn gradients_equal_finite_differences() {
    let settings: LossSettings = toml::from_str(
        r#"terms = [
            { term = "dice", background = true, batch = true },
            { term = "cross_entropy", weight = 0.5 },
            { term = "beta_cross_entropy", streams = ["partial"] },
            { term = "generalised_cross_entropy", streams = ["labelled"] },
            { term = "pyramid_consistency", heads = 2, streams = ["partial"], weight = 3.0 },
        ]
        heads = [0.7, 0.3]"#,
    )
    .unwrap();
    let sizes = [[9, 10, 11], [5, 5, 6]];
    let labels: Vec<u8> = (0..2 * 990).map(|i| (i / 37 % 4) as u8).collect();
    let annotated = [[1, 2, 3].into_iter().collect(), [1, 3].into_iter().collect()];
    let target = Target {
        labels: &labels,
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Labelled, Stream::Partial],
        classes: &[1, 2, 3],
        ignore: None,
    };
    let number = |i: usize, k: usize| ((i * 7919 + k * 104_729) % 20_011) as f32 / 10_005.5 - 1.0;
    let logits = |step: f32, k: usize| -> Vec<Vec<f32>> {
        let values = |[z, y, x]: [usize; 3]| {
            (0..8 * z * y * x)
                .map(|i| 2.0 * number(i, 1) + step * number(i, k))
                .collect()
        };
        sizes.map(values).to_vec()
    };
    let at = |step: f32, k: usize| evaluate(&settings, &heads(&sizes, &logits(step, k), 2), target, 1.0).unwrap();
    let (_, gradients) = at(0.0, 0);
    for k in 2..6 {
        let h = 0.01;
        let found = (at(h, k).0.total - at(-h, k).0.total) / f64::from(2.0 * h);
        let product = |g: &Tensor| -> f64 {
            let each = g.data().iter().enumerate();
            each.map(|(i, v)| f64::from(*v) * f64::from(number(i, k))).sum()
        };
        let want: f64 = gradients.iter().map(product).sum();
        assert!(
            (found - want).abs() < 2e-3 * want.abs().max(0.01),
            "{found} against {want}"
        );
    }
}

/// Not a number stays one, for the trainer to see; threads do not matter; heads must fit.
#[test]
fn softmax_terms_are_deterministic_and_hide_nothing() {
    let settings: LossSettings = toml::from_str("terms = [{ term = \"dice\" }, { term = \"cross_entropy\" }]").unwrap();
    let labels: Vec<u8> = (0..8000).map(|i| (i / 97 % 3) as u8).collect();
    let annotated = [[1, 2].into_iter().collect::<AnnotatedClasses>()];
    let target = Target {
        labels: &labels,
        coarser: &[],
        annotated: &annotated,
        streams: &[Stream::Labelled],
        classes: &[1, 2],
        ignore: None,
    };
    let mut x: Vec<f32> = (0..3 * 8000).map(|i| ((i * 31 % 1009) as f32).sin()).collect();
    let run = |threads, x: &[f32]| {
        let logits = Tensor::new([1, 3, 20, 20, 20], x.to_vec()).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(&settings, &[logits], target, 0.0))
    };
    assert_eq!(run(1, &x).unwrap(), run(3, &x).unwrap());
    x[9000] = f32::NAN;
    assert!(run(1, &x).unwrap().0.total.is_nan());

    let logits = Tensor::zeros([1, 3, 20, 20, 20]);
    let two: LossSettings = toml::from_str("terms = [{ term = \"dice\" }]\nheads = [0.5, 0.5]").unwrap();
    assert!(evaluate(&two, std::slice::from_ref(&logits), target, 0.0).is_err());
    let pyramid: LossSettings = toml::from_str(CONSISTENCY).unwrap();
    assert!(evaluate(&pyramid, &[logits], target, 0.0).is_err());
}
