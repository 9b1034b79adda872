//! Results against golden files that the `generate.py` in `fixtures/image-*` made with nibabel, SciPy, PyTorch, SimpleITK
//! and NumPy.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use viscera_image::{
    AxisMap, Convention, Geometry, Interpolator, Orientation, Resampling, Volume, components, histogram, moments,
    percentiles, resample_linear, resample_nearest, separate_axis, shape_for_spacing,
};

fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
        .join("golden.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}, entry {i}: {f} for {e}");
    }
}

#[derive(Deserialize)]
struct Orient {
    #[serde(flatten)]
    geometry: Geometry,
    code: String,
    ras_shape: [usize; 3],
    ras_affine: [[f64; 4]; 3],
}

/// Codes and closest canonical grids as nibabel's, for oblique and mirrored grids.
#[test]
fn orientation_agrees_with_nibabel() {
    for (i, case) in golden::<Vec<Orient>>("image-orient").into_iter().enumerate() {
        assert_eq!(Orientation::of(&case.geometry).to_string(), case.code, "case {i}");
        let ras = AxisMap::to_ras(&case.geometry).geometry(&case.geometry);
        assert_eq!(ras.shape, case.ras_shape, "case {i}");
        for (world, row) in case.ras_affine.iter().enumerate() {
            let found = [2, 1, 0].map(|axis| ras.direction[axis][world] * ras.spacing[axis]);
            assert_close(&found, &row[..3], 1e-9, &format!("case {i}, affine row {world}"));
            assert_close(&[ras.origin[world]], &row[3..], 1e-9, &format!("case {i}, origin"));
        }
    }
}

#[derive(Deserialize)]
struct Resample {
    from: [usize; 3],
    to: [usize; 3],
    input: Vec<f32>,
    half_pixel: Resampled,
    align_corners: Resampled,
}

#[derive(Deserialize)]
struct Resampled {
    convention: Convention,
    linear: Vec<f64>,
    nearest: Vec<f64>,
    grid: Option<Grid>,
}

#[derive(Deserialize)]
struct Grid {
    spacing: [f64; 3],
    origin: [f64; 3],
    direction: [[f64; 3]; 3],
    new_spacing: [f64; 3],
    new_origin: [f64; 3],
}

/// Values as PyTorch's and SciPy's under both conventions; grids as SimpleITK needs them to sample the same values.
#[test]
fn resampling_agrees_with_torch_scipy_and_simpleitk() {
    for case in golden::<Vec<Resample>>("image-resample") {
        for expected in [case.half_pixel, case.align_corners] {
            let what = format!("{:?} to {:?}, {:?}", case.from, case.to, expected.convention);
            let mut geometry = Geometry::ras(case.from, [1.0; 3]);
            if let Some(grid) = &expected.grid {
                geometry.spacing = grid.spacing;
                geometry.origin = grid.origin;
                geometry.direction = grid.direction;
            }
            let volume = Volume::new(geometry, case.input.clone()).unwrap();
            let linear = resample_linear(&volume, case.to, expected.convention).unwrap();
            let values: Vec<f64> = linear.data().iter().map(|&v| f64::from(v)).collect();
            assert_close(&values, &expected.linear, 5e-4, &what);
            let integers = resample_linear(&volume.map(|v| v as i16), case.to, expected.convention).unwrap();
            assert_eq!(integers, linear, "{what}: i16 and f32 differ");
            let nearest = resample_nearest(&volume, case.to, expected.convention).unwrap();
            let values: Vec<f64> = nearest.data().iter().map(|&v| f64::from(v)).collect();
            assert_close(&values, &expected.nearest, 0.0, &what);
            assert_eq!(nearest.geometry(), linear.geometry(), "{what}");
            if let Some(grid) = &expected.grid {
                let found = linear.geometry();
                assert_close(&found.spacing, &grid.new_spacing, 1e-9, &what);
                assert_close(&found.origin, &grid.new_origin, 1e-9, &what);
                assert_eq!(found.direction, grid.direction, "{what}");
            }
        }
    }
}

#[derive(Deserialize)]
struct Labelled {
    shape: [usize; 3],
    labels: String,
    components: Vec<Piece>,
}

#[derive(Deserialize)]
struct Piece {
    label: u8,
    voxels: usize,
    centroid: [f64; 3],
    start: [usize; 3],
    end: [usize; 3],
}

/// The pieces of each label as `scipy.ndimage.label` finds them.
#[test]
fn components_agree_with_scipy() {
    for case in golden::<Vec<Labelled>>("image-components") {
        let data = case.labels.bytes().map(|b| b - b'0').collect();
        let labels = Volume::new(Geometry::ras(case.shape, [1.0; 3]), data).unwrap();
        let found = components(&labels).unwrap();
        let mut left: Vec<_> = found.list().iter().collect();
        assert_eq!(left.len(), case.components.len(), "{:?}", case.shape);
        for piece in case.components {
            let same = left.iter().position(|c| {
                c.label == piece.label
                    && c.voxels == piece.voxels
                    && (c.bounding_box.start, c.bounding_box.end) == (piece.start, piece.end)
                    && c.centroid.iter().zip(piece.centroid).all(|(a, b)| (a - b).abs() < 1e-9)
            });
            assert!(
                same.is_some(),
                "no component like the one of label {} at {:?}",
                piece.label,
                piece.start
            );
            left.swap_remove(same.unwrap());
        }
    }
}

#[derive(Deserialize)]
struct Statistics {
    kind: String,
    values: Vec<f64>,
    mean: f64,
    std: f64,
    percentiles: Vec<f64>,
    at: Vec<f64>,
    low: f64,
    high: f64,
    counts: Vec<u64>,
    below: u64,
    above: u64,
}

/// Moments, percentiles and histograms as NumPy's.
#[test]
fn statistics_agree_with_numpy() {
    for case in golden::<Vec<Statistics>>("image-intensity") {
        let floats: Vec<f32> = case.values.iter().map(|&v| v as f32).collect();
        let (moments, at, histogram) = if case.kind == "i16" {
            let integers: Vec<i16> = case.values.iter().map(|&v| v as i16).collect();
            (
                moments(&integers).unwrap(),
                percentiles(&integers, &case.percentiles).unwrap(),
                histogram(&integers, case.low, case.high, case.counts.len()).unwrap(),
            )
        } else {
            (
                moments(&floats).unwrap(),
                percentiles(&floats, &case.percentiles).unwrap(),
                histogram(&floats, case.low, case.high, case.counts.len()).unwrap(),
            )
        };
        assert_eq!(moments.count, case.values.len());
        assert_close(&[moments.mean], &[case.mean], 1e-12 * case.mean.abs().max(1.0), "mean");
        assert_close(&[moments.std], &[case.std], 1e-12 * case.std.max(1.0), "std");
        let size = case.at.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        assert_close(&at, &case.at, 1e-15 * size, "percentiles");
        assert_eq!(histogram.counts, case.counts);
        assert_eq!((histogram.below, histogram.above), (case.below, case.above));
    }
}

#[derive(Deserialize)]
struct NnUnet {
    inputs: Vec<NnUnetInput>,
    ties: Vec<Ties>,
}

#[derive(Deserialize)]
struct NnUnetInput {
    shape: [usize; 3],
    before: [f64; 3],
    input: Vec<i16>,
    runs: Vec<NnUnetRun>,
}

#[derive(Deserialize)]
struct NnUnetRun {
    after: [f64; 3],
    order: u8,
    order_z: u8,
    force: Option<bool>,
    library: String,
    to: [usize; 3],
    separate: Option<usize>,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct Ties {
    from: usize,
    to: usize,
    library: String,
    positions: Vec<usize>,
}

fn interpolator(library: &str, order: u8, order_separate: u8) -> Interpolator {
    match library {
        "torch" => Interpolator::Torch,
        _ => Interpolator::Spline { order, order_separate },
    }
}

/// Shapes, the separate axis and values as nnU-Net's own functions, for both of its resamplers.
#[test]
fn resampling_agrees_with_nnunet() {
    let golden: NnUnet = golden("image-nnunet-resampling");
    for case in golden.inputs {
        let volume = Volume::new(Geometry::ras(case.shape, case.before), case.input).unwrap();
        let (low, high) = volume
            .data()
            .iter()
            .fold((i16::MAX, i16::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        let range = f64::from(high) - f64::from(low);
        for run in case.runs {
            let what = format!(
                "{:?} to {:?}, {} {}/{}, {:?}",
                case.shape, run.to, run.library, run.order, run.order_z, run.force
            );
            assert_eq!(
                shape_for_spacing(volume.geometry(), run.after).unwrap(),
                run.to,
                "{what}"
            );
            let resampling = Resampling {
                interpolator: interpolator(&run.library, run.order, run.order_z),
                separate: separate_axis(run.force, 3.0, case.before, run.after),
            };
            assert_eq!(resampling.separate, run.separate, "{what}");
            let found = resampling.resample(&volume, run.to).unwrap();
            let values: Vec<f64> = found.data().iter().map(|&v| f64::from(v)).collect();
            // The golden values are rounded to 10⁻³.
            assert_close(&values, &run.values, 2e-6 * range + 6e-4, &what);
            let floats = resampling.resample(&volume.map(f32::from), run.to).unwrap();
            assert_eq!(floats, found, "{what}: i16 and f32 differ");
        }
    }
    for tie in golden.ties {
        let resampling = Resampling {
            interpolator: interpolator(&tie.library, 1, 0),
            separate: Some(0),
        };
        let table = resampling.axis_table(0, tie.from, tie.to).unwrap().unwrap();
        let found: Vec<_> = table.taps().iter().map(|t| t.lo).collect();
        assert_eq!(found, tie.positions, "{} to {}, {}", tie.from, tie.to, tie.library);
        assert!(table.taps().iter().all(|t| t.hi == t.lo && t.weight == 0.0));
    }
}
