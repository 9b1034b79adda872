//! What lies around the patient: table, cloth, and arms.

use super::body::Trunk;
use super::draw::Draw;
use super::paint::Scene;
use super::shape::{Bounds, Point, Solid, add, spline, turned};
use super::tissue::Tissue;
use std::sync::Arc;

/// Table and cloth, in the scanner's frame around `origin`.
pub(super) fn table(scene: &mut Scene, trunk: &Arc<Trunk>, origin: Point, draw: &mut Draw) {
    let back = origin[1] + trunk.back(-60.0) - draw.within(4.0, 26.0);
    let hollow = draw.within(260.0, 700.0);
    let half = draw.within(180.0, 240.0);
    let depth = draw.within(14.0, 70.0);
    let bounds = Bounds {
        low: [origin[0] - half, back - 120.0, -1e4],
        high: [origin[0] + half, back + 130.0, 1e4],
    };
    let arc = move |p: Point| {
        let x = p[0] - origin[0];
        ((x * x + (p[1] - back - hollow).powi(2)).sqrt() - hollow, x.abs() - half)
    };
    let upper = Solid::field(bounds, 1.2, move |p| {
        let (d, side) = arc(p);
        (d.abs() - 1.0).max(side)
    });
    let flat = draw.chance(0.5);
    let lower = Solid::field(bounds, 1.6, move |p| {
        let (d, side) = arc(p);
        let x = (p[0] - origin[0]).abs();
        let trough = if flat {
            p[1] - back + depth - 0.55 * (x - 90.0).max(0.0)
        } else {
            d - depth
        };
        (trough.abs() - 1.2).max(side)
    });
    scene.scanner(&upper, Tissue::Table, 2.0);
    if draw.chance(0.8) {
        scene.scanner(&lower, Tissue::Table, 2.4);
    }
    if draw.chance(0.4) {
        let thick = draw.within(4.0, 12.0);
        let cushion = Solid::field(bounds, 1.2, move |p| {
            let (d, side) = arc(p);
            (d + thick).abs().max(side + 25.0) - 0.7 * thick
        });
        scene.scanner(&cushion, Tissue::Cloth, f32::INFINITY);
    }
}

/// A cloth over the patient with air under it, and arms beside the trunk.
pub(super) fn around(scene: &mut Scene, trunk: &Arc<Trunk>, arms: bool, draw: &mut Draw) {
    if draw.chance(0.12) {
        let gap = draw.within(6.0, 30.0);
        let bounds = Bounds {
            low: [-300.0, -60.0, -400.0],
            high: [300.0, 280.0, 200.0],
        };
        let sheet = Solid::sited(bounds, 1.5, move |s| (s.skin - gap).abs() - 1.2);
        scene.thin(&sheet, Tissue::Cloth, 2.4);
    }
    if !arms {
        return;
    }
    let thick = draw.within(34.0, 46.0);
    for side in [1.0, -1.0] {
        let x = trunk.half_width(-100.0) + thick + draw.within(4.0, 22.0);
        let y = draw.within(-60.0, 0.0);
        let path = [
            ([side * (x + 12.0), y - 20.0, 220.0], 1.15 * thick),
            ([side * x, y, 20.0], thick),
            ([side * x, y + 10.0, -160.0], 0.85 * thick),
            ([side * (x - 5.0), y + 30.0, -330.0], 0.6 * thick),
        ];
        let arm = Solid::tube(spline(&path, 5), 1.0);
        scene.body(&arm, Tissue::Skin);
        scene.body(&arm.grow(-2.0), Tissue::SubcutaneousFat);
        scene.body(&arm.grow(-2.0 - 0.25 * thick), Tissue::Muscle);
        let bone =
            |shift: Point, r: f32| Solid::tube(path.iter().map(|&(p, _)| (add(p, shift), r)).collect::<Vec<_>>(), 1.0);
        for shift in [[side * 8.0, 4.0, 0.0], [-side * 9.0, -4.0, 0.0]] {
            let bone = bone(shift, 7.0);
            scene.thin(&bone, Tissue::CorticalBone, 14.0);
            scene.thin(&bone.grow(-2.8), Tissue::Marrow, 8.0);
        }
    }
}

/// Screws, clips or a prosthesis: small bright bodies near the spine or in the upper abdomen.
pub(super) fn metal(scene: &mut Scene, draw: &mut Draw) {
    for _ in 0..draw.count(1, 5) {
        let at = [
            draw.within(-60.0, 90.0),
            draw.within(-60.0, 60.0),
            draw.within(-180.0, -40.0),
        ];
        let axes = turned(draw.within(-1.5, 1.5), draw.within(-1.5, 1.5), draw.within(-1.5, 1.5));
        let clip = Solid::ellipsoid(
            at,
            [draw.within(1.0, 3.0), draw.within(1.0, 3.0), draw.within(3.0, 14.0)],
            axes,
        );
        scene.within(&clip, Tissue::Metal, 2.0);
    }
}
