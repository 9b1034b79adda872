use super::*;
use proptest::prelude::*;
use viscera_image::Geometry;

fn map(shape: [usize; 3], spacing: [f64; 3], data: Vec<u8>) -> LabelMap {
    LabelMap::new(Geometry::ras(shape, spacing), data).unwrap()
}

fn of(reference: &LabelMap, prediction: &LabelMap) -> SurfaceDistances {
    surface_distances(reference, prediction, 1).unwrap().unwrap()
}

/// A map with the given voxels of class 1.
fn points(shape: [usize; 3], spacing: [f64; 3], voxels: &[[usize; 3]]) -> LabelMap {
    let mut labels = map(shape, spacing, vec![0; shape.iter().product()]);
    for &voxel in voxels {
        let at = labels.offset(voxel);
        labels.data_mut()[at] = 1;
    }
    labels
}

#[test]
fn two_voxels_by_hand() {
    let (shape, spacing) = ([4, 5, 6], [5.0, 2.0, 1.0]);
    let a = points(shape, spacing, &[[0, 0, 0]]);
    let b = points(shape, spacing, &[[3, 1, 0]]);
    let found = of(&a, &b);
    // The near corners lie (2, 0, 0) voxels apart, the far ones (3, 1, 0).
    assert_eq!(found.hausdorff(), (15.0_f64 * 15.0 + 2.0 * 2.0).sqrt());
    let [r, p] = found.areas();
    assert!((r - p).abs() < 1e-12 && r > 0.0);
    assert_eq!(found.surface_dice(9.99), 0.0);
    // Per mask, of 8 equal corners 2 are 10 mm away, 2 at √104, 2 at 15, 2 at √229: the tolerance is inclusive.
    assert!((found.surface_dice(10.0) - 0.25).abs() < 1e-12);
    assert!((found.surface_dice(15.0) - 0.75).abs() < 1e-12);
    let mean = (10.0 + 104.0_f64.sqrt() + 15.0 + 229.0_f64.sqrt()) / 4.0;
    assert!((found.assd() - mean).abs() < 1e-12);
    assert!(found.average().iter().all(|average| (average - mean).abs() < 1e-12));
    assert_eq!(found.robust_hausdorff(60.0), 15.0);
    assert_eq!(found.robust_hausdorff(95.0), found.hausdorff());
}

#[test]
fn equal_masks_lie_at_no_distance() {
    let a = map(
        [2, 3, 4],
        [3.0, 0.8, 0.8],
        (0..24).map(|i| u8::from(i % 5 < 3)).collect(),
    );
    let found = of(&a, &a);
    assert_eq!(
        (found.surface_dice(0.0), found.hausdorff(), found.assd()),
        (1.0, 0.0, 0.0)
    );
}

#[test]
fn empty_masks_are_as_in_the_python_package() {
    let (shape, spacing) = ([3, 3, 3], [1.0; 3]);
    let (a, none) = (points(shape, spacing, &[[1, 1, 1]]), points(shape, spacing, &[]));
    assert_eq!(surface_distances(&none, &none, 1), Ok(None));
    for (found, full) in [(of(&a, &none), 0), (of(&none, &a), 1)] {
        assert_eq!(found.surface_dice(1e9), 0.0);
        assert_eq!(
            [found.hausdorff(), found.robust_hausdorff(95.0), found.assd()],
            [f64::INFINITY; 3]
        );
        assert_eq!(found.average()[full], f64::INFINITY);
        assert!(found.average()[1 - full].is_nan());
    }
}

#[test]
fn a_class_over_more_slices_than_can_be_counted_is_refused() {
    let labels = map([70_000, 1, 1], [1.0; 3], vec![1; 70_000]);
    assert_eq!(
        surface_distances(&labels, &labels, 1),
        Err(MetricsError::TooManySlices {
            class: 1,
            slices: 70_000,
            limit: 65_534
        })
    );
    // The longest that works, with the two surfaces at its ends.
    let ends = |z: usize| points([65_534, 1, 1], [1.0; 3], &[[z, 0, 0]]);
    assert_eq!(of(&ends(0), &ends(65_533)).hausdorff(), 65_533.0);
}

/// Distances and areas by comparing every pair of border corners.
fn by_pairs(a: &LabelMap, b: &LabelMap) -> [Vec<(f64, f64)>; 2] {
    let spacing = a.geometry().spacing;
    let areas = area::areas(spacing);
    let corners = |labels: &LabelMap| {
        let [nz, ny, nx] = labels.shape();
        let mut found = Vec::new();
        for (z, y, x) in (0..=nz).flat_map(|z| (0..=ny).flat_map(move |y| (0..=nx).map(move |x| (z, y, x)))) {
            let code = (0..8).fold(0, |code, i| {
                let voxel = [z + (i >> 2), y + (i >> 1 & 1), x + (i & 1)].map(|v| v.wrapping_sub(1));
                code << 1 | usize::from(labels.get(voxel) == Some(1))
            });
            if code != 0 && code != 255 {
                found.push(([z, y, x], areas[code]));
            }
        }
        found
    };
    let (a, b) = (corners(a), corners(b));
    let nearest = |from: &[([usize; 3], f64)], to: &[([usize; 3], f64)]| {
        let mut found: Vec<(f64, f64)> = from
            .iter()
            .map(|&(corner, area)| {
                let squared = to.iter().map(|(other, _)| {
                    (0..3)
                        .map(|i| ((corner[i] as f64 - other[i] as f64) * spacing[i]).powi(2))
                        .sum::<f64>()
                });
                (squared.fold(f64::INFINITY, f64::min).sqrt(), area)
            })
            .collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        found
    };
    [nearest(&a, &b), nearest(&b, &a)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn distances_are_those_of_the_nearest_pairs(
        shape in prop::array::uniform3(1usize..7),
        spacing in prop::array::uniform3(prop::sample::select(vec![0.5, 0.7, 1.0, 2.5, 5.0])),
        seeds in prop::collection::vec(0u8..6, 7 * 7 * 7 * 2),
    ) {
        let total: usize = shape.iter().product();
        let mask = |part: &[u8]| map(shape, spacing, part.iter().map(|&v| u8::from(v == 1)).collect());
        let (a, b) = (mask(&seeds[..total]), mask(&seeds[343..343 + total]));
        if let Some(found) = surface_distances(&a, &b, 1).unwrap() {
            for (found, expected) in [&found.reference, &found.prediction].into_iter().zip(by_pairs(&a, &b)) {
                prop_assert_eq!(found.len(), expected.len());
                let total: f64 = found.iter().map(|s| s.area).sum();
                let expected_total: f64 = expected.iter().map(|e| e.1).sum();
                prop_assert!((total - expected_total).abs() <= 1e-9);
                for (found, expected) in found.iter().zip(expected) {
                    prop_assert!(found.distance == expected.0 || (found.distance - expected.0).abs() < 1e-9);
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let (shape, spacing) = ([12, 30, 40], [5.0, 0.7, 0.8]);
    let total: usize = shape.iter().product();
    let mask = |step: usize| {
        map(
            shape,
            spacing,
            (0..total).map(|i| u8::from(i * step % 1009 < 400)).collect(),
        )
    };
    let (a, b) = (mask(31), mask(57));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| of(&a, &b))
    };
    let one = with(1);
    assert!(one.hausdorff() > 0.0);
    assert_eq!(with(5), one);
}
