//! Quality flags on phantoms with their exact label maps: silent on the healthy, each on its made case.

use viscera_image::phantom::{FieldOfView, Phantom, PhantomConfig, generate};
use viscera_image::{Box3, Intensity, LabelMap, LabelTable, Volume, Voxel, crop};
use viscera_pipeline::{Warning, Warnings, lie_of_body, look_over, measure, not_hounsfield};

fn phantom(seed: u64) -> Phantom {
    let config = PhantomConfig {
        spacing: Some([4.0, 3.0, 3.0]),
        field_of_view: Some(FieldOfView::Abdomen),
        orientation: Some("RAS".to_owned()),
        tumours: 0.0,
        ..PhantomConfig::default()
    };
    generate(&config, seed).unwrap()
}

/// The same voxels in the same grid, the other way round along an axis.
fn flipped<T: Voxel>(volume: &Volume<T>, axis: usize) -> Volume<T> {
    let [nz, ny, nx] = volume.shape();
    let at = |i: usize| {
        let mut index = [i / (ny * nx), i / nx % ny, i % nx];
        index[axis] = [nz, ny, nx][axis] - 1 - index[axis];
        volume.data()[volume.offset(index)]
    };
    Volume::new(volume.geometry().clone(), (0..volume.data().len()).map(at).collect()).unwrap()
}

/// What segmenting would say of a scan and these labels.
fn warnings<T: Intensity>(scan: &Volume<T>, labels: &LabelMap) -> Vec<Warning> {
    let mut warnings = Warnings::default();
    match not_hounsfield(scan.data()).unwrap() {
        Some(reason) => warnings.push(Warning::NotHounsfield { reason }),
        None => lie_of_body(scan).unwrap().warn(&mut warnings),
    }
    // The phantom has no tumour here; the table is that of the organs.
    look_over(&measure(scan, labels, &LabelTable::flare13()).unwrap(), &mut warnings);
    warnings.list().to_vec()
}

fn codes<T: Intensity>(scan: &Volume<T>, labels: &LabelMap) -> Vec<&'static str> {
    warnings(scan, labels).iter().map(Warning::code).collect()
}

#[test]
fn healthy_phantoms_are_silent() {
    for seed in 0..12 {
        let Phantom { image, labels, .. } = phantom(seed);
        let found = warnings(&image, &labels);
        assert!(found.is_empty(), "seed {seed}: {found:?}");
    }
}

#[test]
fn flipped_scans_are_reported_by_picture_and_by_organs() {
    // Patients with enough bright bone.
    let has_bones = |p: &Phantom| lie_of_body(&p.image).unwrap().bones_behind_mm > Some(22.0);
    let phantoms: Vec<_> = (0..8)
        .map(|seed| (seed, phantom(seed)))
        .filter(|(_, p)| has_bones(p))
        .collect();
    assert!(phantoms.len() >= 3);
    for (seed, Phantom { image, labels, .. }) in phantoms {
        for (axis, by_picture, by_organs) in [
            (2, "mirrored", "wrong-side"),
            (1, "back-to-front", "wrong-depth"),
            (0, "upside-down", "wrong-height"),
        ] {
            let found = codes(&flipped(&image, axis), &flipped(&labels, axis));
            assert!(found.contains(&by_organs), "seed {seed}: {found:?}");
            // Masks that a network put where organs usually are hide the flip; the picture does not.
            let found = codes(&flipped(&image, axis), &labels);
            assert!(found.contains(&by_picture), "seed {seed}: {found:?}");
            assert!(!found.contains(&by_organs), "seed {seed}: {found:?}");
        }
    }
}

#[test]
fn other_faults_are_reported() {
    let Phantom { image, labels, .. } = phantom(3);
    let shifted = image.map(|v| v + 1024);
    assert!(codes(&shifted, &labels).contains(&"not-hounsfield"));

    // Cut through the liver.
    let [nz, ny, nx] = labels.shape();
    let region = Box3 {
        start: [0, 0, 0],
        end: [2 * nz / 3, ny, nx],
    };
    let (part, part_labels) = (crop(&image, &region).unwrap(), crop(&labels, &region).unwrap());
    let cut = warnings(&part, &part_labels);
    let border = cut.iter().find(|w| w.code() == "touches-border").unwrap();
    assert!(
        border.organs().contains(&"liver") && !border.organs().contains(&"aorta"),
        "{cut:?}"
    );

    assert_eq!(codes(&image, &labels.map(|_| 0)), ["nothing-found"]);
    // No liver; a spleen in two pieces; a pancreas as large as a liver.
    let without = labels.map(|v| if v == 1 { 0 } else { v });
    assert!(codes(&image, &without).contains(&"missing-organ"));
    let swapped = labels.map(|v| {
        if v == 1 {
            4
        } else if v == 4 {
            1
        } else {
            v
        }
    });
    assert!(codes(&image, &swapped).contains(&"implausible-volume"));
    let both = labels.map(|v| if v == 13 { 2 } else { v });
    let found = warnings(&image, &both);
    let pieces = found.iter().find(|w| w.code() == "disconnected").unwrap();
    assert_eq!(pieces.organs(), ["kidney_right"]);
}
