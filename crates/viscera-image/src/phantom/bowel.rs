//! Colon, small bowel, mesentery, bladder: what fills the abdomen around the labelled organs.

use super::body::Trunk;
use super::draw::Draw;
use super::paint::Scene;
use super::shape::{Bounds, Point, Solid, spline, turned};
use super::texture;
use super::tissue::Tissue;
use std::sync::Arc;

pub(super) fn paint(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    let room = Trunk::abdomen(3.0);
    pelvic(scene, trunk, draw);
    small(scene, trunk, &room, draw);
    colon(scene, trunk, &room, draw);
}

/// A gut: wall, then fluid, then gas where the inside lies before (above, in a patient on the back) a random level.
///
/// `gas` is the share of the calibre that gas fills; wall and contents carry `label`.
pub(super) fn gut(scene: &mut Scene, outer: &Solid, wall: f32, tissues: [Tissue; 2], gas: Option<Solid>, label: u8) {
    let inner = outer.grow(-wall);
    scene.organ(outer, tissues[0], label);
    scene.organ(&inner, tissues[1], label);
    if let Some(level) = gas {
        scene.organ(&inner.and(&level, 1.0), Tissue::Gas, label);
    }
}

/// What lies before a level that changes slowly along the gut: gas rises in a patient on the back.
pub(super) fn gas_before(level: f32, wander: f32, seed: u32) -> Solid {
    Solid::field(Bounds::EVERYWHERE, 1.3, move |p| {
        // The level stays flat within one loop: it depends on height and side only.
        level + wander * texture::noise(seed, [p[0], 0.0, p[2]], 70.0) - p[1]
    })
}

/// Gas before the middle of a tube: at each point of the path, a level `above` radii in front of it.
fn gas_in_loop(path: &[(Point, f32)], above: f32) -> Solid {
    let top = path.iter().fold(f32::NEG_INFINITY, |m, k| m.max(k.0[1] + above * k.1));
    Solid::behind([0.0, top, 0.0], [0.0, -1.0, 0.0])
}

fn small(scene: &mut Scene, trunk: &Arc<Trunk>, room: &Solid, draw: &mut Draw) {
    let apart = 0.6 + 3.0 * trunk.visceral;
    // Vessels and strands of the mesentery fan out from its root.
    for _ in 0..26 {
        let root = [
            draw.within(-12.0, 10.0),
            draw.within(22.0, 34.0),
            draw.within(-150.0, -100.0),
        ];
        let tip = [
            draw.within(-85.0, 85.0),
            draw.within(10.0, 75.0),
            draw.within(-250.0, -95.0),
        ];
        let middle = draw.near(super::shape::lerp(root, tip, 0.55), 14.0);
        let tissue = if draw.chance(0.5) {
            Tissue::PortalVein
        } else {
            Tissue::Artery
        };
        let tube = Solid::tube(spline(&[(root, 2.4), (middle, 1.9), (tip, 1.0)], 5), 1.0);
        scene.thin(&tube, tissue, 3.6);
    }
    let loops = draw.count(22, 34);
    for i in 0..loops {
        // Spread evenly: the jejunum high on the left, then cell by cell over the abdomen below.
        let mut at = if i % 4 == 0 {
            [
                draw.within(-98.0, -25.0),
                draw.within(15.0, 65.0),
                draw.within(-130.0, -80.0),
            ]
        } else {
            let (column, row) = ((i * 2) % 5, (i * 3) % 7);
            let x = -85.0 + 42.0 * column as f32;
            let z = -275.0 + 24.0 * row as f32;
            [
                draw.within(x - 22.0, x + 22.0),
                draw.within(0.0, 85.0),
                draw.within(z - 14.0, z + 14.0),
            ]
        };
        let calibre = draw.within(9.5, 16.5);
        let mut heading = draw.direction();
        let mut knots: Vec<(Point, f32)> = Vec::new();
        for _ in 0..draw.count(4, 8) {
            knots.push((at, draw.vary(calibre, 0.2)));
            let turn = draw.direction();
            heading = std::array::from_fn(|a| heading[a] + 0.95 * turn[a]);
            let length = super::shape::length(heading).max(0.2);
            heading = heading.map(|c| c / length);
            at = std::array::from_fn(|a| at[a] + 27.0 * heading[a]);
            at[0] = at[0].clamp(-98.0, 98.0);
            at[1] = at[1].clamp(0.0, 0.85 * trunk.cavity.front(at[2]));
            at[2] = at[2].clamp(-285.0, -75.0);
        }
        let path = spline(&knots, 5);
        let tube = Solid::tube(path.clone(), 1.0)
            .bumpy(draw.seed(), 1.6, 9.0)
            .and(room, 4.0);
        scene.body(&tube.grow(apart), Tissue::VisceralFat);
        let collapsed = draw.chance(0.35);
        let wall = if collapsed {
            0.8 * calibre
        } else {
            draw.within(1.8, 3.2)
        };
        let gas = (!collapsed && draw.chance(0.25)).then(|| gas_in_loop(&path, draw.within(-0.9, 0.3)));
        gut(scene, &tube, wall, [Tissue::BowelWall, Tissue::BowelContent], gas, 0);
    }
}

fn colon(scene: &mut Scene, trunk: &Arc<Trunk>, room: &Solid, draw: &mut Draw) {
    let stretch = trunk.cavity.front(-130.0) / 97.0;
    let side = trunk.cavity.half_width(-130.0) / 139.0;
    let mut knot = |p: Point, r: f32| {
        let p = draw.near(p, 9.0);
        (
            [p[0] * side, if p[1] > 0.0 { p[1] * stretch } else { p[1] }, p[2]],
            draw.vary(r, 0.3),
        )
    };
    let ascending = [
        knot([82.0, 25.0, -262.0], 22.0),
        knot([100.0, 12.0, -235.0], 27.0),
        knot([108.0, 0.0, -195.0], 25.0),
        knot([106.0, -2.0, -155.0], 23.0),
        knot([96.0, 22.0, -128.0], 21.0),
        knot([84.0, 52.0, -124.0], 20.0),
    ];
    let dip = knot([0.0, 82.0, -145.0], 21.0);
    let transverse = [
        ascending[5],
        knot([48.0, 74.0, -138.0], 20.0),
        dip,
        knot([-48.0, 78.0, -125.0], 20.0),
        knot([-88.0, 62.0, -88.0], 21.0),
        knot([-112.0, 32.0, -58.0], 21.0),
    ];
    let descending = [
        transverse[5],
        knot([-120.0, 2.0, -85.0], 17.0),
        knot([-116.0, -18.0, -130.0], 15.0),
        knot([-112.0, -12.0, -180.0], 14.0),
        knot([-100.0, 8.0, -225.0], 14.0),
        knot([-70.0, 28.0, -262.0], 14.0),
        knot([-20.0, 35.0, -272.0], 15.0),
        knot([8.0, 5.0, -262.0], 15.0),
        knot([2.0, -38.0, -285.0], 17.0),
        knot([0.0, -48.0, -350.0], 17.0),
    ];
    let full = draw.within(0.8, 1.4);
    for (part, knots) in [&ascending[..], &transverse[..], &descending[..]]
        .into_iter()
        .enumerate()
    {
        let knots: Vec<(Point, f32)> = knots.iter().map(|&(p, r)| (p, r * full)).collect();
        let mut path = spline(&knots, 9);
        // Haustra: the calibre swells and narrows every three to four centimetres.
        let (wave, depth) = (draw.within(0.75, 1.25), draw.within(0.06, 0.2));
        for (i, (_, r)) in path.iter_mut().enumerate() {
            *r *= 1.0 + depth * (i as f32 * wave).sin();
        }
        let tube = Solid::tube(path, 1.0).bumpy(draw.seed(), 2.0, 13.0).and(room, 4.0);
        scene.body(&tube.grow(0.5 + 3.0 * trunk.visceral), Tissue::VisceralFat);
        let content = if draw.chance(0.72) {
            Tissue::Stool
        } else {
            Tissue::BowelContent
        };
        let gassy = if part == 1 { 0.85 } else { 0.5 };
        let middle = if part == 1 { 68.0 * stretch } else { 8.0 };
        let gas = draw
            .chance(gassy)
            .then(|| gas_before(middle + draw.within(-25.0, 22.0), 14.0, draw.seed()));
        gut(
            scene,
            &tube,
            draw.within(1.6, 3.0),
            [Tissue::BowelWall, content],
            gas,
            0,
        );
    }
}

/// Bladder, and what lies behind it.
fn pelvic(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    let full = draw.within(0.5, 1.25);
    let behind = Solid::ellipsoid(
        draw.near([0.0, -12.0, -315.0], 6.0),
        [28.0, 20.0, 26.0].map(|r| draw.vary(r, 0.25)),
        turned(0.3, 0.0, 0.0),
    );
    scene.body(&behind, Tissue::SoftTissue);
    let bladder = Solid::ellipsoid(
        [
            draw.within(-6.0, 6.0),
            22.0 * trunk.cavity.front(-290.0) / 68.0,
            -318.0 + 26.0 * full,
        ],
        [42.0 * full, 34.0 * full, 36.0 * full],
        turned(draw.within(-0.2, 0.2), 0.0, 0.0),
    );
    scene.body(&bladder.grow(2.5), Tissue::SoftTissue);
    scene.body(&bladder, Tissue::Urine);
}
