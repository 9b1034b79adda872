//! Spine, ribs, breastbone, pelvis, and the muscles beside them.

use super::body::Trunk;
use super::draw::Draw;
use super::paint::Scene;
use super::shape::{Bounds, Point, Solid, smooth_max, smooth_min, smoothstep, spline};
use super::tissue::Tissue;
use std::sync::Arc;

/// Heights of the discs' middles below the dome, from the lumbosacral one upwards to mid-chest.
const DISCS: [f32; 15] = [
    -221.0, -188.0, -154.0, -119.0, -87.0, -57.0, -28.0, 0.0, 26.0, 52.0, 77.0, 101.0, 125.0, 148.0, 170.0,
];

pub(super) fn paint(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    muscles(scene, trunk, draw);
    pelvis(scene, draw);
    ribs(scene, trunk, draw);
    spine(scene, trunk, draw);
}

/// Psoas, quadratus lumborum and the muscles along the spine.
fn muscles(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    let strong = draw.within(0.75, 1.2);
    let y = |z: f32| trunk.spine_y(z);
    for side in [1.0, -1.0] {
        let psoas: Vec<(Point, f32)> = [
            ([24.0, y(-55.0) - 4.0, -55.0], 5.0),
            ([31.0, y(-95.0) - 1.0, -95.0], 12.0 * strong),
            ([40.0, y(-140.0) + 1.0, -140.0], 19.0 * strong),
            ([48.0, y(-185.0) + 8.0, -185.0], 23.0 * strong),
            ([62.0, y(-225.0) + 22.0, -225.0], 24.0 * strong),
            ([82.0, 18.0, -265.0], 21.0 * strong),
            ([94.0, 24.0, -310.0], 17.0 * strong),
            ([96.0, 10.0, -350.0], 12.0),
        ]
        .map(|(p, r)| ([side * p[0], p[1], p[2]], r))
        .to_vec();
        scene.body(
            &Solid::tube(spline(&psoas, 4), 1.0).bumpy(draw.seed(), 1.5, 25.0),
            Tissue::Muscle,
        );
        // Quadratus lumborum: a flat sheet from the last rib to the iliac crest.
        let front = trunk.clone();
        let bounds = Bounds::around(&[[side * 30.0, -120.0, -185.0], [side * 115.0, 0.0, -55.0]], 0.0);
        let sheet = Solid::field(bounds, 1.4, move |p| {
            let x = side * p[0] - 60.0 + 0.2 * (p[2] + 60.0);
            let y = p[1] - front.spine_y(p[2]) + 40.0 + 0.2 * x;
            smooth_max(
                smooth_max(x.abs() - 20.0, y.abs() - 7.0 * strong, 10.0),
                (p[2] + 120.0).abs() - 60.0,
                12.0,
            )
        });
        scene.body(&sheet, Tissue::Muscle);
        let front = trunk.clone();
        let bounds = Bounds::around(&[[0.0, -190.0, -330.0], [side * 90.0, 0.0, 330.0]], 0.0);
        let long = Solid::field(bounds, 1.5, move |p| {
            // Broad and thick in the loins, narrow between the shoulder blades and over the sacrum.
            let loins = smoothstep(10.0, -90.0, p[2]) * smoothstep(-300.0, -190.0, p[2]);
            let half = (19.0 + 14.0 * loins) * strong;
            let deep = (12.0 + 12.0 * loins) * strong;
            let y = p[1] - front.spine_y(p[2]) + 34.0 + deep;
            let x = side * p[0] - half - 3.0;
            smooth_max(x.abs() - half, (y - 0.14 * x).abs() - deep, 0.8 * deep).max(-285.0 - p[2])
        })
        .bumpy(draw.seed(), 2.0, 30.0);
        scene.body(&long.grow(1.2), Tissue::SubcutaneousFat);
        scene.body(&long, Tissue::Muscle);
    }
}

/// Distance to vertebral bodies and their processes; `discs` gives the discs instead.
fn vertebrae(trunk: &Trunk, heights: &[f32], wide: f32, p: Point, discs: bool) -> f32 {
    let above = heights.partition_point(|&z| z < p[2]).clamp(1, heights.len() - 1);
    let (low, high) = (heights[above - 1], heights[above]);
    let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
    let y = p[1] - trunk.spine_y(p[2]);
    let small = 1.0 - 0.22 * smoothstep(-60.0, 150.0, p[2]);
    let gap = 3.6 - 1.4 * smoothstep(-60.0, 80.0, p[2]);
    let dz = p[2] - middle;
    let waist = 1.0 - 0.09 * (1.0 - (dz / half).powi(2));
    let (a, b) = (wide * small * waist, 0.74 * wide * small * waist);
    let power = |t: f32| t * t * t.abs().sqrt();
    let u = (power((p[0] / a).abs()) + power((y / b).abs())).powf(0.4);
    let radial = (u - 1.0) * b;
    if discs {
        let disc = (p[2] - low).abs().min((p[2] - high).abs()) - gap;
        return smooth_max(radial, disc, 3.0);
    }
    let body = smooth_max(radial, dz.abs() - (half - gap), 4.0);
    let x = p[0].abs();
    // Ring of pedicles and laminae around the canal.
    let canal = [p[0], y + 0.74 * wide * small + 9.0];
    let ring = ((canal[0] * canal[0] + 1.2 * canal[1] * canal[1]).sqrt() - 12.5).abs() - 2.9;
    let arch = smooth_max(ring, (dz + 3.0).abs() - 0.42 * half.min(12.0) - 5.0, 3.0);
    let back = -(0.74 * wide * small) - 18.0;
    let spinous = smooth_max(
        smooth_max(x - 3.2, (y - (back - 17.0)).abs() - 19.0, 3.0),
        (dz + 8.0 + 0.25 * (back - y)).abs() - 9.0,
        3.0,
    );
    let reach = 38.0 - 8.0 * smoothstep(-60.0, 20.0, p[2]);
    let across = smooth_max(
        smooth_max(x - reach, (y - (back + 11.0) + 0.22 * x).abs() - 4.5, 3.0),
        dz.abs() - 5.5,
        3.0,
    );
    let joint = ((x - 15.0).powi(2) + (y - back - 2.0).powi(2) + 0.35 * (dz + half).powi(2)).sqrt() - 8.0;
    let arch = smooth_min(smooth_min(arch, spinous, 4.0), smooth_min(across, joint, 4.0), 4.0);
    let canal = (canal[0] * canal[0] + 1.2 * canal[1] * canal[1]).sqrt() - 9.5;
    smooth_min(body, smooth_max(arch, -canal, 1.0), 2.0)
}

fn spine(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    let wide = draw.within(22.0, 27.5);
    let (shift, stretch) = (draw.normal(0.0, 6.0), draw.within(0.96, 1.05));
    let mut heights: Vec<f32> = DISCS.iter().map(|z| z * stretch + shift).collect();
    heights.extend((1..9).map(|i| (170.0 + 21.0 * i as f32) * stretch + shift));
    let bottom = heights[0];
    let bounds = Bounds {
        low: [-48.0, -190.0, bottom - 4.0],
        high: [48.0, 40.0, 400.0],
    };
    let make = |discs: bool| {
        let (trunk, heights) = (trunk.clone(), heights.clone());
        Solid::field(bounds, 1.8, move |p| vertebrae(&trunk, &heights, wide, p, discs))
    };
    let front = trunk.clone();
    let canal = Solid::field(bounds, 1.3, move |p| {
        let y = p[1] - front.spine_y(p[2]) + 0.74 * wide + 9.0;
        (p[0] * p[0] + 1.2 * y * y).sqrt() - 8.5
    });
    scene.body(&canal.grow(2.0), Tissue::VisceralFat);
    scene.body(&canal, Tissue::SpinalCanal);
    scene.body(&make(true), Tissue::Disc);
    let bones = make(false);
    scene.body(&bones, Tissue::CorticalBone);
    scene.body(&bones.grow(-draw.within(0.9, 1.9)), Tissue::Marrow);

    // Sacrum: a wedge that bends backwards below the last disc.
    let front = trunk.clone();
    let sacrum = Solid::field(
        Bounds {
            low: [-70.0, -150.0, bottom - 120.0],
            high: [70.0, 30.0, bottom],
        },
        1.8,
        move |p| {
            let depth = bottom - p[2];
            let y = p[1] - front.spine_y(p[2]) + 8.0;
            let half = (54.0 - 0.34 * depth).max(9.0);
            let curve = y + 0.003 * p[0] * p[0];
            let slab = curve.abs() - (17.0 - 0.1 * depth).max(5.0);
            let holes = ((p[0].abs() - 24.0).hypot(0.8 * (p[2] - bottom + 30.0).rem_euclid(26.0) - 10.0)) - 5.0;
            smooth_max(
                smooth_max(slab, p[0].abs() - half, 8.0),
                smooth_max(4.0 - depth, -holes, 2.0),
                4.0,
            )
        },
    );
    scene.body(&sacrum, Tissue::CorticalBone);
    scene.body(&sacrum.grow(-1.8), Tissue::Marrow);
}

/// Ribs as arcs in the wall: height falls from the spine to the flank, and rises again as cartilage in front.
fn ribs(scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
    /// Height at the spine, fall in mm, angle (radians from the back) where bone ends, and cartilage follows or not.
    struct Rib {
        spine: f32,
        fall: f32,
        end: f32,
        cartilage: f32,
    }
    let steep = draw.within(0.85, 1.15);
    let last = draw.within(0.75, 1.25);
    let ribs: Vec<Rib> = (0..10)
        .map(|i| Rib {
            spine: -36.0 + [0.0, 28.0, 54.0, 79.0, 104.0, 128.0, 152.0, 175.0, 197.0, 218.0][i],
            fall: steep * [52.0, 98.0, 122.0, 134.0, 136.0, 132.0, 122.0, 108.0, 92.0, 76.0][i],
            end: [1.0 * last, 1.6 * last, 2.1, 2.3, 2.45, 2.55, 2.6, 2.65, 2.7, 2.75][i],
            cartilage: if i < 2 { 0.0 } else { 0.75 },
        })
        .collect();
    let ribs = Arc::new(ribs);
    let bounds = Bounds {
        low: [-220.0, -190.0, -165.0],
        high: [220.0, 190.0, 230.0],
    };
    let offset = draw.within(4.5, 8.0);
    let thick = draw.within(3.4, 4.6);
    let make = |cartilage: bool| {
        let (trunk, ribs) = (trunk.clone(), ribs.clone());
        Solid::sited(bounds, 1.6, move |s| {
            let (p, depth) = (s.point, s.wall - offset);
            if depth.abs() > 25.0 {
                return depth.abs() - 10.0;
            }
            let y = p[1] - 0.5 * (trunk.cavity.front(p[2]) + trunk.cavity.back(p[2]));
            let angle = p[0].abs().atan2(-y);
            let radius = p[0].hypot(y);
            let mut best = f32::INFINITY;
            for rib in ribs.iter() {
                let (from, to) = if cartilage {
                    (rib.end - 0.05, rib.end + rib.cartilage)
                } else {
                    (0.12, rib.end)
                };
                if cartilage && rib.cartilage == 0.0 {
                    continue;
                }
                let rise = 62.0 * (angle - rib.end).max(0.0);
                let z = rib.spine - rib.fall * smoothstep(0.05, 2.5, angle) + rise;
                let past = (from - angle).max(angle - to) * radius;
                let (u, v) = (depth / thick, 0.84 * (p[2] - z) / 5.8);
                let arc = ((u * u + v * v).sqrt() - 1.0) * thick;
                best = best.min(smooth_max(arc, past, 3.0));
            }
            best
        })
    };
    let bone = make(false);
    scene.thin(&make(true), Tissue::Cartilage, 9.0);
    scene.thin(&bone, Tissue::CorticalBone, 9.0);
    scene.thin(&bone.grow(-draw.within(1.2, 1.9)), Tissue::Marrow, 5.0);

    let front = trunk.clone();
    let sternum = Solid::field(
        Bounds {
            low: [-30.0, -20.0, 5.0],
            high: [30.0, 160.0, 215.0],
        },
        1.4,
        move |p| {
            let depth = p[1] - front.cavity.front(p[2]) - 7.0;
            let half = 11.0 + 7.0 * smoothstep(30.0, 190.0, p[2]);
            let tip = 14.0 - p[2];
            smooth_max(
                smooth_max(depth.abs() - 5.5, p[0].abs() - half, 5.0),
                tip.max(p[2] - 205.0),
                4.0,
            )
        },
    );
    scene.thin(&sternum, Tissue::CorticalBone, 11.0);
    scene.thin(&sternum.grow(-1.5), Tissue::Marrow, 8.0);
}

/// Iliac wings, hip joints, and pubic bones.
fn pelvis(scene: &mut Scene, draw: &mut Draw) {
    let crest = draw.within(-172.0, -150.0);
    let spread = draw.within(0.95, 1.08);
    for side in [1.0f32, -1.0] {
        let wing = Solid::field(
            Bounds::around(&[[side * 20.0, -120.0, -345.0], [side * 175.0, 60.0, crest + 6.0]], 0.0),
            1.6,
            move |p| {
                let (x, y, z) = (side * p[0] / spread, p[1], p[2]);
                // A plate from the sacrum forwards and outwards, that leans in towards the hip joint.
                let lean = 0.16 * (z - crest);
                let across = 0.76 * (x - 92.0 - lean) - 0.65 * (y + 30.0) + 0.0034 * (y + 30.0) * (y + 30.0);
                let along = 0.65 * (x - 92.0) + 0.76 * (y + 30.0);
                let half = 3.6 + 5.5 * (along / 68.0).powi(2) + 7.0 * smoothstep(crest - 70.0, crest - 135.0, z);
                let outline = ((along / 68.0).powi(2) + ((z - crest + 78.0) / 80.0).powi(2)).sqrt() - 1.0;
                smooth_max(across.abs() - half, outline * 66.0, 6.0)
            },
        );
        let hip: Point = [side * 90.0, -8.0, crest - 138.0];
        let cup = Solid::ellipsoid(hip, [33.0; 3], super::shape::turned(0.0, 0.0, 0.0));
        let pubis = spline(
            &[
                ([side * 75.0, 12.0, hip[2] - 5.0], 12.0),
                ([side * 40.0, 38.0, hip[2] - 22.0], 9.0),
                ([side * 8.0, 42.0, hip[2] - 40.0], 13.0),
                ([side * 35.0, 5.0, hip[2] - 75.0], 9.0),
                ([side * 62.0, -35.0, hip[2] - 60.0], 14.0),
                ([side * 80.0, -30.0, hip[2] - 20.0], 14.0),
            ],
            4,
        );
        let femur = Solid::tube(
            spline(
                &[
                    (hip, 23.0),
                    ([side * 112.0, -12.0, hip[2] - 18.0], 17.0),
                    ([side * 140.0, -18.0, hip[2] - 42.0], 21.0),
                    ([side * 143.0, -14.0, hip[2] - 100.0], 15.0),
                    ([side * 138.0, -8.0, hip[2] - 180.0], 14.0),
                ],
                4,
            ),
            1.0,
        );
        let bone = wing.or(&cup, 12.0).or(&Solid::tube(pubis, 1.0), 8.0);
        scene.thin(&bone, Tissue::CorticalBone, 12.0);
        scene.thin(&bone.grow(-2.2), Tissue::Marrow, 9.0);
        scene.body(&femur.grow(3.5), Tissue::Cartilage);
        scene.body(&femur, Tissue::CorticalBone);
        scene.body(&femur.grow(-2.5), Tissue::Marrow);
        // Iliacus on the inner side, and the fat between the gluteal muscles behind.
        let iliacus = Solid::ellipsoid(
            [side * 92.0, 2.0, crest - 70.0],
            [34.0, 14.0, 62.0],
            super::shape::turned(0.0, 0.0, side * 0.75),
        );
        scene.body(&iliacus.minus(&wing.grow(1.0), 3.0), Tissue::Muscle);
        let septum = Solid::sited(
            Bounds::around(
                &[[side * 30.0, -130.0, -420.0], [side * 170.0, -20.0, crest - 30.0]],
                5.0,
            ),
            1.5,
            move |s| {
                let p = s.point;
                let sheet = (0.55 * side * p[0] + 0.83 * (p[1] + 62.0) - 34.0).abs() - 1.5;
                sheet.max(s.muscle + 3.0)
            },
        );
        scene.thin(&septum.minus(&bone.grow(2.0), 1.0), Tissue::SubcutaneousFat, 3.0);
    }
}
