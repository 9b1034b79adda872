//! Lungs with their vessels, the heart, the mediastinum and the diaphragm.

use super::body::Trunk;
use super::draw::Draw;
use super::paint::Scene;
use super::shape::{Bounds, Point, Solid, add, lerp, smoothstep, spline, turned};
use super::tissue::Tissue;
use std::sync::Arc;

pub(super) fn paint(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    let chest = Trunk::chest(1.5);
    scene.body(&chest, Tissue::Lung);
    for _ in 0..70 {
        let side = if draw.chance(0.5) { 1.0 } else { -1.0 };
        let root = [side * 32.0, draw.within(-35.0, 0.0), draw.within(55.0, 110.0)];
        let tip = [
            side * draw.within(45.0, 135.0),
            draw.within(-100.0, 85.0),
            draw.within(-50.0, 190.0),
        ];
        let middle = draw.near(lerp(root, tip, 0.5), 18.0);
        let wide = draw.within(1.8, 4.5);
        let tube = Solid::tube(spline(&[(root, wide + 1.0), (middle, wide), (tip, 0.7)], 6), 1.0);
        scene.thin(&tube.and(&chest.grow(-1.0), 1.0), Tissue::LungVessel, 2.0 * wide);
    }
    // Between the lungs: narrow in front, wide where the heart lies and before the spine.
    let front = trunk.clone();
    let room = trunk.cavity.front(60.0) / 95.0;
    let bounds = Bounds {
        low: [-90.0, -120.0, -60.0],
        high: [90.0, 130.0, 300.0],
    };
    let mediastinum = Solid::field(bounds, 1.6, move |p| {
        let low = 1.0 - smoothstep(40.0, 110.0, p[2]);
        let before = p[1] - front.spine_y(p[2]);
        // The lungs meet behind the heart but for the aorta and the oesophagus, and in front of it.
        let waist = smoothstep(18.0, 42.0, before) * smoothstep(125.0, 90.0, before);
        (p[0] + 7.0 * low + 4.0).abs() - (11.0 + 18.0 * waist)
    });
    scene.body(&mediastinum.and(&chest, 3.0), Tissue::VisceralFat);

    let size = draw.within(0.88, 1.18);
    let axes = turned(draw.within(-0.2, 0.2), 0.55, 0.5);
    let centre = draw.near([-22.0, 36.0 * room, 24.0], 6.0);
    let heart = Solid::ellipsoid(centre, [63.0 * size, 44.0 * size, 45.0 * size], axes).and(&chest.grow(-1.0), 8.0);
    scene.body(&heart.grow(draw.within(2.0, 9.0)).and(&chest, 3.0), Tissue::VisceralFat);
    scene.body(&heart, Tissue::Heart);
    let chamber = |at: Point, radii: Point| Solid::ellipsoid(add(centre, at), radii.map(|r| r * size), axes);
    scene.within(
        &chamber([-14.0, 2.0, 0.0], [30.0, 17.0, 20.0]).and(&heart.grow(-6.0), 5.0),
        Tissue::Artery,
        40.0,
    );
    scene.within(
        &chamber([20.0, 16.0, 2.0], [30.0, 14.0, 20.0]).and(&heart.grow(-4.0), 5.0),
        Tissue::Vein,
        40.0,
    );
    scene.within(
        &chamber([36.0, -8.0, 8.0], [18.0, 20.0, 20.0]).and(&heart.grow(-3.0), 5.0),
        Tissue::Vein,
        40.0,
    );
    scene.within(
        &chamber([4.0, -30.0, 16.0], [26.0, 14.0, 18.0]).and(&heart.grow(-3.0), 5.0),
        Tissue::Artery,
        40.0,
    );
    let great = spline(
        &[
            (add(centre, [8.0, 0.0, 30.0]), 15.0),
            ([12.0, 22.0 * room, 90.0], 15.0),
            ([2.0, 0.0, 130.0], 14.0),
            ([-18.0, -35.0, 128.0], 13.0),
            ([-24.0, trunk.spine_y(95.0) + 22.0, 95.0], 12.5),
        ],
        6,
    );
    scene.body(&Solid::tube(great, 1.0), Tissue::Artery);
    let upper = vec![
        ([26.0, 8.0, 60.0], 9.0),
        ([24.0, -2.0, 130.0], 9.0),
        ([20.0, -10.0, 190.0], 8.0),
    ];
    scene.body(&Solid::tube(upper, 1.0), Tissue::Vein);
    let windpipe = vec![
        ([0.0, -40.0, 105.0], 9.0),
        ([0.0, -38.0, 200.0], 9.0),
        ([0.0, -20.0, 330.0], 9.0),
    ];
    scene.body(&Solid::tube(windpipe, 1.0), Tissue::Gas);
}

/// The muscle sheet between chest and abdomen, and its crura beside the aorta.
pub(super) fn diaphragm(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    let half = draw.within(0.9, 1.6);
    let bounds = Bounds {
        low: [-200.0, -150.0, -130.0],
        high: [200.0, 180.0, 15.0],
    };
    let sheet = Solid::sited(bounds, 4.0, move |s| s.roof.abs().max(s.wall - 1.0) - half);
    scene.thin(&sheet, Tissue::Muscle, 2.0 * half);
    for side in [1.0, -1.0] {
        let low = if side > 0.0 { -118.0 } else { -100.0 };
        let crus = spline(
            &[
                ([side * 11.0, trunk.spine_y(low) + 18.0, low], 2.5),
                ([side * 17.0, trunk.spine_y(-60.0) + 17.0, -60.0], 6.0),
                ([side * 19.0 - 4.0, trunk.spine_y(-25.0) + 24.0, -25.0], 6.0),
                ([side * 26.0 - 6.0, trunk.spine_y(-8.0) + 34.0, -8.0], 4.0),
            ],
            5,
        );
        scene.thin(&Solid::tube(crus, 1.0), Tissue::Muscle, 11.0);
    }
}
