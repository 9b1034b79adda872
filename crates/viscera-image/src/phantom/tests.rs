//! The anatomy holds together: volumes, places, brightness, and the promises about seeds and axes.

use super::*;
use crate::{AxisMap, Geometry, Orientation};

/// Adult volumes in ml by label id (`None`: not bounded here), wider than textbook ranges by what small people and a
/// coarse grid need.
const RANGES: [Option<(f64, f64)>; 15] = [
    None,
    Some((750.0, 2600.0)),
    Some((60.0, 300.0)),
    Some((45.0, 450.0)),
    Some((25.0, 150.0)),
    Some((25.0, 250.0)),
    Some((25.0, 180.0)),
    Some((1.0, 12.0)),
    Some((1.0, 12.0)),
    Some((5.0, 90.0)),
    Some((4.0, 60.0)),
    Some((60.0, 1000.0)),
    Some((25.0, 150.0)),
    Some((60.0, 300.0)),
    None,
];

fn coarse() -> PhantomConfig {
    PhantomConfig {
        spacing: Some([5.0, 5.0, 5.0]),
        shape: Some([58, 70, 88]),
        field_of_view: Some(FieldOfView::Abdomen),
        orientation: Some("RAS".to_owned()),
        missing_organs: false,
        ..PhantomConfig::default()
    }
}

fn tiny() -> PhantomConfig {
    PhantomConfig {
        spacing: Some([8.0; 3]),
        shape: Some([40, 48, 48]),
        field_of_view: Some(FieldOfView::Abdomen),
        ..PhantomConfig::default()
    }
}

/// Volume in ml and centroid in the world of each label.
fn measure(labels: &LabelMap) -> [(f64, [f64; 3]); 15] {
    let mut sums = [(0f64, [0f64; 3]); 15];
    let [_, ny, nx] = labels.shape();
    for (i, &label) in labels.data().iter().enumerate() {
        let world = labels
            .geometry()
            .world_of([(i / nx / ny) as f64, (i / nx % ny) as f64, (i % nx) as f64]);
        let sum = &mut sums[usize::from(label)];
        sum.0 += 1.0;
        for w in 0..3 {
            sum.1[w] += world[w];
        }
    }
    let ml = labels.geometry().voxel_volume_mm3() / 1000.0;
    sums.map(|(n, sum)| (n * ml, sum.map(|s| s / n.max(1.0))))
}

#[test]
fn organs_have_adult_volumes_and_lie_where_they_should() {
    let mut odd = Vec::new();
    for seed in 0..20 {
        let phantom = generate(&coarse(), seed).unwrap();
        let found = measure(&phantom.labels);
        for label in 1..14 {
            let ml = found[label].0;
            assert!(ml > 0.0, "seed {seed}: no label {label}");
            if let Some((low, high)) = RANGES[label]
                && !(low..=high).contains(&ml)
            {
                odd.push((seed, label, ml));
            }
        }
        let at = |label: usize| found[label].1;
        let (liver, spleen, stomach, bladder) = (at(1), at(3), at(11), at(9));
        let (aorta, cava) = (at(5), at(6));
        assert!(
            liver[0] > spleen[0] + 100.0 && bladder[0] > stomach[0],
            "seed {seed}: sides"
        );
        assert!(cava[0] > aorta[0] + 8.0, "seed {seed}: aorta right of the vena cava");
        assert!(
            at(2)[0] > aorta[0] + 40.0 && at(13)[0] < aorta[0] - 25.0,
            "seed {seed}: kidneys"
        );
        assert!(at(7)[0] > at(8)[0] + 40.0, "seed {seed}: adrenals");
        assert!(
            liver[1] > at(2)[1] && stomach[1] > at(13)[1],
            "seed {seed}: kidneys lie behind"
        );
        assert!(
            liver[2] > at(2)[2] && at(7)[2] > at(2)[2] && at(8)[2] > at(13)[2],
            "seed {seed}: heights"
        );
        assert!(
            at(10)[2] > stomach[2] && at(12)[2] < stomach[2],
            "seed {seed}: gut runs down"
        );
    }
    assert!(odd.len() <= 12, "unusual volumes of 260: {odd:?}");
}

#[test]
fn bone_lies_behind_the_aorta() {
    let config = PhantomConfig {
        noise: false,
        artefacts: false,
        phase: Some(Phase::Native),
        ..coarse()
    };
    for seed in 0..5 {
        let phantom = generate(&config, seed).unwrap();
        let aorta = measure(&phantom.labels)[5].1;
        let [_, ny, nx] = phantom.image.shape();
        let (mut behind, mut before) = (0, 0);
        for (i, &hu) in phantom.image.data().iter().enumerate() {
            let index = [(i / nx / ny) as f64, (i / nx % ny) as f64, (i % nx) as f64];
            let world = phantom.image.geometry().world_of(index);
            let [r, a, s]: [f64; 3] = std::array::from_fn(|w| world[w] - aorta[w]);
            if hu > 130 && hu < 1500 && r.abs() < 40.0 && s.abs() < 60.0 && (15.0..70.0).contains(&a.abs()) {
                if a < 0.0 { behind += 1 } else { before += 1 }
            }
        }
        assert!(
            behind > 100 && behind > 3 * before,
            "seed {seed}: {behind} behind, {before} before"
        );
    }
}

#[test]
fn brightness_is_that_of_the_phase() {
    let config = PhantomConfig {
        noise: false,
        artefacts: false,
        tumours: 0.0,
        phase: Some(Phase::Arterial),
        ..coarse()
    };
    for seed in 0..4 {
        let phantom = generate(&config, seed).unwrap();
        let median = |label: u8| {
            let pairs = phantom.labels.data().iter().zip(phantom.image.data());
            let mut values: Vec<i16> = pairs.filter(|(l, _)| **l == label).map(|(_, v)| *v).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        let (liver, aorta, spleen, kidney) = (median(1), median(5), median(3), median(13));
        assert!((-20..115).contains(&liver), "seed {seed}: liver {liver}");
        assert!((140..450).contains(&aorta), "seed {seed}: aorta {aorta}");
        assert!(
            (55..190).contains(&spleen) && (55..280).contains(&kidney),
            "seed {seed}: {spleen} {kidney}"
        );
        let air = phantom.image.data().iter().filter(|&&v| v < -950).count();
        assert!(air > phantom.image.data().len() / 20);
    }
}

#[test]
fn equal_seeds_give_equal_bits_on_any_number_of_threads() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let one = pool(1).install(|| generate(&tiny(), 11).unwrap());
    let three = pool(3).install(|| generate(&tiny(), 11).unwrap());
    assert_eq!(one, three);
    let other = generate(&tiny(), 12).unwrap();
    assert_ne!(one.labels, other.labels);
}

#[test]
fn axis_orders_show_the_same_patient() {
    let with = |code: &str| {
        let config = PhantomConfig {
            orientation: Some(code.to_owned()),
            ..tiny()
        };
        generate(&config, 5).unwrap()
    };
    let ras = with("RAS");
    for code in ["LPS", "SAR", "PIR"] {
        let other = with(code);
        assert_eq!(Orientation::of(other.image.geometry()).to_string(), code);
        let map = AxisMap::to_ras(other.image.geometry());
        assert_eq!(map.apply(&other.labels).data(), ras.labels.data());
        assert_eq!(map.apply(&other.image).data(), ras.image.data());
        assert!(map.apply(&other.image).geometry().same_grid(ras.image.geometry(), 1e-6));
    }
}

#[test]
fn tumours_grow_inside_organs() {
    let config = PhantomConfig {
        tumours: 1.0,
        ..coarse()
    };
    let (mut inside, mut all) = (0, 0);
    for seed in 0..6 {
        let ill = generate(&config, seed).unwrap();
        let well = generate(
            &PhantomConfig {
                tumours: 0.0,
                ..coarse()
            },
            seed,
        )
        .unwrap();
        assert!(well.labels.data().iter().all(|&l| l != 14));
        for (sick, sound) in ill.labels.data().iter().zip(well.labels.data()) {
            if *sick == 14 {
                all += 1;
                inside += usize::from(matches!(sound, 1 | 2 | 3 | 4 | 13));
            }
        }
        assert!(!ill.description.tumours.is_empty() && well.description.tumours.is_empty());
    }
    assert!(all > 100 && inside * 10 >= all * 8, "{inside} of {all}");
}

#[test]
fn missing_organs_are_missing_and_said_so() {
    let config = PhantomConfig {
        missing_organs: true,
        ..tiny()
    };
    let mut absent = 0;
    for seed in 0..40 {
        let phantom = generate(&config, seed).unwrap();
        for &label in &phantom.description.missing {
            absent += 1;
            assert!(!phantom.labels.data().contains(&label), "seed {seed}: label {label}");
        }
    }
    assert!((1..=14).contains(&absent), "{absent}");
}

#[test]
fn padding_lies_outside_the_circle_only() {
    let config = PhantomConfig {
        spacing: Some([20.0, 6.0, 6.0]),
        shape: Some([6, 80, 80]),
        ..tiny()
    };
    let mut padded = 0;
    for seed in 0..24 {
        let phantom = generate(&config, seed).unwrap();
        let image = AxisMap::to_ras(phantom.image.geometry()).apply(&phantom.image);
        match phantom.description.scan.padding_hu {
            Some(padding) => {
                padded += 1;
                assert_eq!(image.get([2, 0, 0]), Some(padding));
                assert!(image.get([2, 40, 40]).unwrap() >= -1024);
            }
            None => assert!(image.data().iter().all(|&v| v >= -1024)),
        }
    }
    assert!((2..=12).contains(&padded), "{padded}");
}

#[test]
fn random_views_are_valid_and_bounded() {
    let config = PhantomConfig {
        spacing: Some([10.0, 9.0, 9.0]),
        max_shape: [40, 50, 50],
        wild_intensity: 0.5,
        ..PhantomConfig::default()
    };
    let mut wild = 0;
    for seed in 100..116 {
        let phantom = generate(&config, seed).unwrap();
        let ras = AxisMap::to_ras(phantom.image.geometry()).geometry(phantom.image.geometry());
        assert!((0..3).all(|a| ras.shape[a] <= config.max_shape[a]));
        wild += usize::from(phantom.description.wild_intensity);
    }
    assert!((3..=13).contains(&wild));
    assert!(
        generate(
            &PhantomConfig {
                shape: Some([0, 4, 4]),
                ..PhantomConfig::default()
            },
            1
        )
        .is_err()
    );
    assert!(
        generate(
            &PhantomConfig {
                orientation: Some("RRS".to_owned()),
                ..tiny()
            },
            1
        )
        .is_err()
    );
}

#[test]
fn a_label_map_renders_in_its_own_geometry() {
    let phantom = generate(
        &PhantomConfig {
            orientation: Some("PIR".to_owned()),
            ..tiny()
        },
        3,
    )
    .unwrap();
    let mut tissues = vec![None; 15];
    tissues[1] = Some(Tissue::Liver);
    tissues[5] = Some(Tissue::Artery);
    let config = RenderConfig {
        phase: Some(Phase::PortalVenous),
        wild_intensity: 0.0,
        noise: false,
        artefacts: false,
        ..RenderConfig::default()
    };
    let labels = &phantom.labels;
    let anatomy = Anatomy::new(labels, &tissues, None, &[1]).unwrap();
    let (scan, description) = anatomy.render(&config, 9).unwrap();
    assert_eq!(scan.geometry(), labels.geometry());
    assert_eq!(description.phase, Phase::PortalVenous);
    let mean = |scan: &Volume<i16>, label: u8| {
        let pairs = labels.data().iter().zip(scan.data()).filter(|(l, _)| **l == label);
        let values: Vec<f64> = pairs.map(|(_, v)| f64::from(*v)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let (around, liver) = (mean(&scan, 0), mean(&scan, 1));
    assert!(around < -60.0 && liver > 50.0, "{around} {liver}");
    assert_eq!(scan, anatomy.render(&config, 9).unwrap().0);
    assert_ne!(scan, anatomy.render(&config, 10).unwrap().0);

    // With the scan itself, structures move and the rest stays.
    let native = PhantomConfig {
        phase: Some(Phase::Native),
        orientation: Some("PIR".to_owned()),
        ..tiny()
    };
    let image = generate(&native, 3).unwrap().image.map(f32::from);
    let anatomy = Anatomy::new(labels, &tissues, Some(&image), &[]).unwrap();
    let (scan, _) = anatomy.render(&config, 9).unwrap();
    let before = image.map(|v| v as i16);
    let moved = |label: u8| mean(&scan, label) - mean(&before, label);
    assert!(
        moved(5) > 50.0 && moved(1) > 15.0 && moved(0).abs() < 8.0,
        "{} {} {}",
        moved(5),
        moved(1),
        moved(0)
    );

    // What was not measured is air, and nothing spreads from it.
    let mut holes = image;
    let at = labels.data().iter().position(|&l| l == 5).unwrap();
    holes.data_mut()[at] = f32::NAN;
    let holed = Anatomy::new(labels, &tissues, Some(&holes), &[]).unwrap();
    let (holed, _) = holed.render(&config, 9).unwrap();
    assert!(holed.data()[at] < -700, "{}", holed.data()[at]);
    let far = holed
        .data()
        .iter()
        .zip(scan.data())
        .filter(|(a, b)| a.abs_diff(**b) > 30);
    assert!(far.count() < 30);

    let other = Volume::filled(Geometry::ras([2, 2, 2], [1.0; 3]), 0f32).unwrap();
    assert!(matches!(
        Anatomy::new(labels, &tissues, Some(&other), &[]),
        Err(ImageError::GridMismatch { .. })
    ));
    let wrong = RenderConfig {
        wild_intensity: 2.0,
        ..config
    };
    assert!(matches!(
        anatomy.render(&wrong, 1),
        Err(ImageError::BadParameter { .. })
    ));
}

/// Kidneys have a core, and what nobody labelled is made up between organs and skin.
#[test]
fn an_anatomy_without_a_scan_is_filled_up() {
    let geometry = Geometry::ras([30, 60, 80], [4.0, 4.0, 4.0]);
    let mut labels = LabelMap::filled(geometry, 0).unwrap();
    let mut block = |id: u8, [z0, z1]: [usize; 2], [y0, y1]: [usize; 2], [x0, x1]: [usize; 2]| {
        for z in z0..z1 {
            for y in y0..y1 {
                for x in x0..x1 {
                    let at = labels.offset([z, y, x]);
                    labels.data_mut()[at] = id;
                }
            }
        }
    };
    // A wall of bone behind and in front, a kidney, and a liver below where lung must be.
    block(3, [0, 30], [10, 12], [15, 65]);
    block(3, [0, 30], [45, 47], [15, 65]);
    block(2, [5, 15], [15, 25], [20, 30]);
    block(1, [5, 15], [20, 40], [40, 60]);
    let tissues = [
        None,
        Some(Tissue::Liver),
        Some(Tissue::RenalCortex),
        Some(Tissue::CorticalBone),
    ];
    let anatomy = Anatomy::new(&labels, &tissues, None, &[1]).unwrap();
    let config = RenderConfig {
        phase: Some(Phase::Arterial),
        wild_intensity: 0.0,
        noise: false,
        artefacts: false,
        border_blur: 0.0,
        ..RenderConfig::default()
    };
    let (scan, _) = anatomy.render(&config, 4).unwrap();
    let at = |z: usize, y: usize, x: usize| scan.get([z, y, x]).unwrap();
    assert!(
        at(10, 20, 25) + 40 < at(10, 15, 22),
        "medulla {} cortex {}",
        at(10, 20, 25),
        at(10, 15, 22)
    );
    assert!(at(25, 30, 50) < -300, "lung {}", at(25, 30, 50));
    assert!((-200..-20).contains(&at(3, 30, 50)), "fat below {}", at(3, 30, 50));
    assert!(
        (-200..-20).contains(&at(10, 49, 40)),
        "fat under the skin {}",
        at(10, 49, 40)
    );
    assert_eq!(at(10, 59, 40), -1000);
}

#[test]
fn bounds_hold_and_leave_all_else_alone() {
    let config = PhantomConfig {
        noise_hu: Some([40.0, 60.0]),
        kernel: Some([3.0, 5.0]),
        visceral_fat: Some([0.8, 0.9]),
        tumours: 1.0,
        tumour_count: Some([2, 3]),
        tumour_radius_mm: Some([9.0, 12.0]),
        ..tiny()
    };
    let plain = PhantomConfig {
        noise_hu: None,
        kernel: None,
        ..config.clone()
    };
    for seed in 0..6 {
        let (bounded, free) = (generate(&config, seed).unwrap(), generate(&plain, seed).unwrap());
        let scan = &bounded.description.scan;
        assert!((40.0..=60.0).contains(&scan.noise_hu) && (3.0..=5.0).contains(&scan.kernel));
        assert!((0.8..=0.9).contains(&bounded.description.visceral_fat));
        let tumours = &bounded.description.tumours;
        assert!((1..=3).contains(&tumours.len()), "{}", tumours.len());
        // Small organs bear small tumours alone.
        assert!(
            tumours
                .iter()
                .all(|t| t.radius_mm <= 12.0 && (t.organ != 1 || t.radius_mm >= 9.0))
        );
        assert_eq!(bounded.labels, free.labels);
        assert_ne!(bounded.image, free.image);
        let mut description = bounded.description.clone();
        description.scan.noise_hu = free.description.scan.noise_hu;
        description.scan.kernel = free.description.scan.kernel;
        assert_eq!(description, free.description);
    }
    let wide = PhantomConfig {
        shape: None,
        width_mm: Some([560.0, 640.0]),
        orientation: Some("RAS".to_owned()),
        ..tiny()
    };
    for seed in 0..6 {
        let [_, ny, nx] = generate(&wide, seed).unwrap().labels.shape();
        assert!((70..=80).contains(&nx) && ny == nx, "{ny} {nx}");
    }
}

/// Mean difference of neighbours along a row, a measure of detail.
fn detail(phantom: &Phantom) -> f64 {
    let rows = phantom.image.data().chunks_exact(phantom.image.shape()[2]);
    let steps = rows.flat_map(|row| row.windows(2).map(|w| f64::from(w[0].abs_diff(w[1]))));
    steps.sum::<f64>() / phantom.image.data().len() as f64
}

#[test]
fn kernels_blur_and_sharpen_coarse_grids() {
    let with = |kernel: f32| {
        let config = PhantomConfig {
            noise_hu: Some([0.0, 0.0]),
            kernel: Some([kernel; 2]),
            artefacts: false,
            orientation: Some("RAS".to_owned()),
            ..tiny()
        };
        detail(&generate(&config, 2).unwrap())
    };
    let (soft, none, sharp) = (with(6.0), with(0.0), with(-1.0));
    assert!(soft < 0.9 * none && sharp > 1.1 * none, "{soft} {none} {sharp}");
}

#[test]
fn impossible_numbers_are_refused() {
    let all = [
        PhantomConfig { tumours: 1.5, ..tiny() },
        PhantomConfig {
            noise_hu: Some([9.0, 3.0]),
            ..tiny()
        },
        PhantomConfig {
            kernel: Some([f32::NAN, 1.0]),
            ..tiny()
        },
        PhantomConfig {
            width_mm: Some([300.0, f32::INFINITY]),
            ..tiny()
        },
    ];
    for config in all {
        assert!(matches!(generate(&config, 1), Err(ImageError::BadParameter { .. })));
    }
}
