//! The labelled organs, from the lowest in painter's order to the highest, each pressed into its neighbours.

use super::body::Trunk;
use super::bowel::{gas_before, gut};
use super::draw::Draw;
use super::paint::Scene;
use super::shape::{Bounds, Point, Solid, add, dot, length, scale, spline, sub, turned};
use super::texture;
use super::tissue::Tissue;
use super::vessels::Vessels;
use super::{PhantomConfig, PhantomDescription};
use std::sync::Arc;

/// Label ids of the 13 organs of FLARE22, and 14 for tumours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Label {
    Liver = 1,
    RightKidney = 2,
    Spleen = 3,
    Pancreas = 4,
    Aorta = 5,
    VenaCava = 6,
    RightAdrenal = 7,
    LeftAdrenal = 8,
    Gallbladder = 9,
    Oesophagus = 10,
    Stomach = 11,
    Duodenum = 12,
    LeftKidney = 13,
    Tumour = 14,
}

/// Which organs the patient lacks, and whether to grow tumours.
pub(super) struct Findings {
    pub(super) missing: Vec<Label>,
    pub(super) tumours: usize,
    /// Bounds of their mean radius in mm.
    pub(super) tumour_radius: Option<[f32; 2]>,
}

/// Where a tumour may grow.
struct Host {
    solid: Solid,
    label: Label,
    largest: f32,
}

pub(super) fn paint(
    scene: &mut Scene,
    trunk: &Arc<Trunk>,
    findings: &Findings,
    description: &mut PhantomDescription,
    draw: &mut Draw,
) {
    let vessels = Vessels::draw(trunk, draw);
    let apart = 0.3 + 3.5 * trunk.visceral * draw.within(0.3, 1.0);
    let has = |label: Label| !findings.missing.contains(&label);
    let mut hosts: Vec<Host> = Vec::new();

    let spleen = spleen(trunk, draw);
    layer(scene, &spleen, apart, Tissue::Spleen, Label::Spleen);
    hosts.push(Host {
        solid: spleen,
        label: Label::Spleen,
        largest: 18.0,
    });

    let stomach = stomach(scene, trunk, &vessels, apart, draw);
    let liver = liver(draw);
    layer(scene, &liver, apart, Tissue::Liver, Label::Liver);
    clefts(scene, &liver, trunk, draw);
    let tail = draw.near([-94.0, -20.0, -46.0], 9.0);

    kidneys(scene, trunk, &has, apart, &mut hosts, draw);
    let duodenum = duodenum(&vessels, stomach, draw);
    scene.body(&duodenum.grow(apart), Tissue::VisceralFat);
    let seed = draw.seed();
    let gas = draw
        .chance(0.35)
        .then(|| gas_before(draw.within(20.0, 42.0), 10.0, seed));
    let tissues = [Tissue::DuodenumWall, Tissue::DuodenumContent];
    gut(
        scene,
        &duodenum,
        draw.within(2.2, 4.0),
        tissues,
        gas,
        Label::Duodenum as u8,
    );

    let gate = vessels.portal(scene, tail, draw);
    let pancreas = pancreas(tail, &vessels, draw);
    layer(scene, &pancreas, 0.4 * apart + 0.3, Tissue::Pancreas, Label::Pancreas);
    hosts.push(Host {
        solid: pancreas,
        label: Label::Pancreas,
        largest: 14.0,
    });

    vessels.hepatic(scene, &liver, gate, draw);
    if has(Label::Gallbladder) {
        let bladder = gallbladder(trunk, &liver, draw);
        let wall = draw.within(1.0, 2.2);
        scene.organ(&bladder, Tissue::StomachWall, Label::Gallbladder as u8);
        scene.organ(&bladder.grow(-wall), Tissue::Bile, Label::Gallbladder as u8);
        if draw.chance(0.12) {
            let floor = bladder.bounds.low;
            for _ in 0..draw.count(1, 4) {
                let at = add(
                    floor,
                    [draw.within(10.0, 26.0), draw.within(6.0, 14.0), draw.within(8.0, 26.0)],
                );
                let stone = Solid::ellipsoid(at, [draw.within(2.0, 6.0); 3], turned(0.0, 0.0, 0.0));
                let stone = stone.and(&bladder.grow(-wall), 1.0);
                scene.organ(&stone, Tissue::Calcification, Label::Gallbladder as u8);
            }
        }
    }
    hosts.push(Host {
        solid: liver,
        label: Label::Liver,
        largest: 38.0,
    });
    adrenals(scene, &vessels, draw);
    vessels.paint(scene, trunk, draw);
    tumours(scene, trunk, findings, &hosts, description, draw);
}

/// An organ over a thin coat of fat that parts it from what it presses on.
fn layer(scene: &mut Scene, solid: &Solid, apart: f32, tissue: Tissue, label: Label) {
    scene.body(&solid.grow(apart), Tissue::VisceralFat);
    scene.organ(solid, tissue, label as u8);
}

/// The liver: two lobes that fill the cavity under the diaphragm, cut by their under sides.
fn liver(draw: &mut Draw) -> Solid {
    let room = Trunk::abdomen(1.2);
    let (low, steep, back) = (
        draw.within(-106.0, -62.0),
        draw.within(0.35, 0.9),
        draw.within(0.0, 0.35),
    );
    let front = draw.within(-0.15, 0.35);
    let under = Solid::field(Bounds::EVERYWHERE, 1.3, move |p| {
        let z = low - steep * (p[0] - 70.0) - if p[1] > 10.0 { front } else { -back } * (p[1] - 10.0);
        // A rounded tip: at most about this long.
        0.8 * (z.max(-205.0) - p[2])
    });
    // The lobe's inner border runs outwards behind, and outwards again below, where the kidney lies.
    let normal = [-0.86, -draw.within(0.34, 0.48), -draw.within(0.28, 0.42)];
    let normal = scale(normal, 1.0 / length(normal));
    let medial = Solid::behind([draw.within(19.0, 28.0), -5.0, -10.0], normal);
    let right = room.and(&medial, 10.0).and(&under, 16.0);

    let reach = draw.within(35.0, 120.0);
    let turn = draw.within(0.62, 0.95);
    let behind = Solid::behind(
        [draw.within(8.0, 22.0), draw.within(-4.0, 10.0), -20.0],
        [-turn.sin(), -turn.cos(), 0.0],
    );
    let (depth, rise) = (draw.within(-92.0, -62.0), draw.within(0.1, 0.45));
    let left_under = Solid::field(Bounds::EVERYWHERE, 1.3, move |p| 0.85 * (depth - rise * p[0] - p[2]));
    let side = Solid::behind([-reach, 0.0, 0.0], [-0.94, -0.05, -0.34]);
    let left = room.and(&behind, 12.0).and(&left_under, 12.0).and(&side, 14.0);
    let mut liver = right
        .or(&left, 14.0)
        .bumpy(draw.seed(), draw.within(0.8, 2.6), draw.within(26.0, 50.0));
    liver.bounds = Bounds {
        low: [-150.0, -120.0, -215.0],
        high: [185.0, 160.0, 12.0],
    };
    liver
}

/// The fissure of the round ligament, and the fat of the porta hepatis.
fn clefts(scene: &mut Scene, liver: &Solid, trunk: &Trunk, draw: &mut Draw) {
    let place = draw.within(-10.0, 10.0);
    let wide = draw.within(0.4, 1.6 + 2.0 * trunk.visceral);
    let top = draw.within(-62.0, -38.0);
    let start = draw.within(34.0, 75.0);
    let cleft = Solid::field(
        Bounds {
            low: [-40.0, 20.0, -150.0],
            high: [40.0, 170.0, top],
        },
        1.4,
        move |p| {
            let sheet = (p[0] - place - 0.12 * (p[1] - 60.0)).abs() - wide - 0.03 * (top - p[2]);
            sheet.max(p[2] - top).max(start - p[1])
        },
    );
    scene.thin(&cleft.and(&liver.grow(0.5), 1.0), Tissue::VisceralFat, 3.0 * wide);
    let gate = Solid::ellipsoid(
        draw.near([32.0, 28.0, -58.0], 4.0),
        [draw.within(14.0, 24.0), draw.within(6.0, 13.0), draw.within(9.0, 15.0)],
        turned(0.0, draw.within(0.1, 0.6), draw.within(-0.3, 0.3)),
    );
    scene.body(&gate.bumpy(draw.seed(), 2.0, 15.0), Tissue::VisceralFat);
}

/// A crescent along the left posterior ribs, hollow towards stomach and kidney.
fn spleen(trunk: &Trunk, draw: &mut Draw) -> Solid {
    let size = draw.within(0.92, 1.4);
    let wide = trunk.cavity.half_width(-45.0);
    let centre = [
        -0.71 * wide + draw.within(-5.0, 5.0),
        -55.0 + draw.within(-10.0, 10.0),
        -34.0 + draw.within(-14.0, 10.0),
    ];
    let axes = turned(draw.within(-0.1, 0.5), draw.within(-0.1, 0.4), draw.within(0.45, 0.9));
    let radii = [draw.vary(45.0, 0.12), draw.vary(60.0, 0.14), draw.vary(52.0, 0.18)].map(|r| r * size);
    let body = Solid::ellipsoid(centre, radii, axes).and(&Trunk::abdomen(1.5), 8.0);
    let hollow = add(
        centre,
        [draw.within(63.0, 78.0), draw.within(34.0, 48.0), draw.within(-8.0, 8.0)],
    );
    let hollow = Solid::ellipsoid(hollow, [draw.within(42.0, 54.0); 3], axes);
    body.minus(&hollow, 14.0)
        .bumpy(draw.seed(), draw.within(1.0, 3.0), draw.within(20.0, 40.0))
}

/// Oesophagus and stomach, wall and contents; gives the pylorus.
fn stomach(scene: &mut Scene, trunk: &Arc<Trunk>, vessels: &Vessels, apart: f32, draw: &mut Draw) -> Point {
    let forward = trunk.cavity.front(-70.0) / 104.0;
    let full = draw.within(0.5, 1.12);
    let long = draw.within(0.0, 1.0);
    let y = |y: f32| y * forward;
    let cardia = draw.near([-26.0, 14.0, -26.0], 5.0);
    let pylorus = draw.near([34.0, y(44.0), -74.0], 6.0);
    let knots = [
        ([-54.0, -16.0, -8.0], 20.0 * full + 4.0),
        ([-62.0, 2.0, -20.0], 35.0 * full),
        ([-65.0, y(30.0), -40.0], 35.0 * full),
        ([-58.0, y(52.0), -66.0 - 22.0 * long], 31.0 * full),
        ([-24.0, y(64.0), -82.0 - 36.0 * long], 25.0 * full),
        ([10.0, y(60.0), -84.0 - 14.0 * long], 18.0 * full + 3.0),
        (pylorus, 10.0),
    ];
    let knots: Vec<(Point, f32)> = knots
        .iter()
        .enumerate()
        .map(|(i, &(p, r))| {
            if i == 6 {
                (p, r)
            } else {
                (draw.near(p, 8.0), draw.vary(r, 0.14))
            }
        })
        .collect();
    let room = Trunk::abdomen(3.0);
    let body = Solid::tube(spline(&knots, 6), 1.0);
    let entry = Solid::tube(vec![(cardia, 8.0), (knots[1].0, 12.0)], 1.0);
    let stomach = body
        .or(&entry, 14.0)
        .and(&room, 8.0)
        .bumpy(draw.seed(), draw.within(1.0, 3.0), 22.0);
    scene.body(&stomach.grow(apart), Tissue::VisceralFat);
    let wall = draw.within(2.5, 4.0) + if full < 0.7 { draw.within(1.0, 4.0) } else { 0.0 };
    let gas = draw.chance(0.75).then(|| {
        let level = draw.within(y(20.0), y(88.0));
        Solid::behind([0.0, level, 0.0], [0.0, -1.0, 0.0])
    });
    gut(
        scene,
        &stomach,
        wall,
        [Tissue::StomachWall, Tissue::StomachContent],
        gas,
        Label::Stomach as u8,
    );

    let (aorta, radius) = vessels.aorta_at(5.0);
    let calibre = draw.within(5.5, 8.5);
    let tube = [
        ([0.0, trunk.spine_y(260.0) + 22.0, 260.0], 0.9 * calibre),
        ([-3.0, trunk.spine_y(110.0) + 24.0, 110.0], 0.95 * calibre),
        (draw.near([-6.0, trunk.spine_y(50.0) + 34.0, 50.0], 3.0), calibre),
        ([aorta[0] + 2.0, aorta[1] + radius + calibre + 2.0, 8.0], 1.05 * calibre),
        (add(cardia, [6.0, 2.0, 10.0]), 1.15 * calibre),
        (add(cardia, [-6.0, 1.0, -4.0]), 1.1 * calibre),
    ];
    let path = spline(&tube, 7);
    let oesophagus = Solid::tube(path.clone(), draw.within(0.65, 1.0)).minus(&stomach, 1.0);
    scene.body(&oesophagus.grow(1.2), Tissue::VisceralFat);
    scene.organ(&oesophagus, Tissue::Oesophagus, Label::Oesophagus as u8);
    if draw.chance(0.45) {
        let share = draw.within(0.25, 0.6);
        let bubbles = path
            .iter()
            .filter(|_| draw.chance(0.5))
            .map(|&(p, r)| (p, share * r))
            .collect::<Vec<_>>();
        for pair in bubbles.chunks(3) {
            scene.within(
                &Solid::tube(pair.to_vec(), 0.7).and(&oesophagus.grow(-1.5), 1.0),
                Tissue::Gas,
                5.0,
            );
        }
    }
    pylorus
}

/// The C around the head of the pancreas, and the way back across the midline before the great vessels.
fn duodenum(vessels: &Vessels, pylorus: Point, draw: &mut Draw) -> Solid {
    let low = draw.within(-140.0, -110.0);
    let (cava, wide) = vessels.cava_at(low);
    let (aorta, radius) = vessels.aorta_at(low);
    let calibre = draw.within(8.5, 12.5);
    let lateral = draw.within(54.0, 66.0);
    let knots = [
        (pylorus, 9.0),
        (draw.near([48.0, pylorus[1] - 8.0, -69.0], 4.0), 1.15 * calibre),
        (draw.near([lateral - 2.0, 20.0, -76.0], 3.0), calibre),
        (draw.near([lateral, 8.0, -96.0], 3.0), calibre),
        (draw.near([lateral - 6.0, 10.0, low + 10.0], 3.0), 1.05 * calibre),
        ([cava[0] + 14.0, cava[1] + 0.8 * wide + calibre, low], calibre),
        (
            [aorta[0] + 4.0, aorta[1] + radius + 0.85 * calibre + 1.0, low - 2.0],
            0.9 * calibre,
        ),
        ([aorta[0] - 20.0, aorta[1] + 6.0, low + 12.0], 0.95 * calibre),
        (
            draw.near([aorta[0] - 26.0, aorta[1] + 16.0, low + 38.0], 4.0),
            0.95 * calibre,
        ),
    ];
    Solid::tube(spline(&knots, 6), 1.0).bumpy(draw.seed(), 1.8, 10.0)
}

/// Head beside the duodenum, neck before the portal vein, body over the spine, tail towards the spleen.
fn pancreas(tail: Point, vessels: &Vessels, draw: &mut Draw) -> Solid {
    let plump = draw.within(0.75, 1.25);
    let (aorta, radius) = vessels.aorta_at(-66.0);
    let body = aorta[1] + radius + draw.within(16.0, 24.0);
    let knots = [
        ([34.0, 16.0, -112.0], 7.0 * plump),
        ([37.0, 22.0, -97.0], 13.0 * plump),
        ([32.0, 28.0, -84.0], 13.5 * plump),
        ([14.0, 40.0, -75.0], 9.0 * plump),
        ([aorta[0] + 4.0, body + 2.0, -66.0], 9.0 * plump),
        ([-42.0, body - 12.0, -58.0], 9.5 * plump),
        ([-68.0, 2.0, -52.0], 9.5 * plump),
        (tail, 8.5 * plump),
    ];
    let knots: Vec<(Point, f32)> = knots
        .iter()
        .map(|&(p, r)| (draw.near(p, 3.5), draw.vary(r, 0.12)))
        .collect();
    let hook = Solid::tube(
        vec![(knots[1].0, 9.0 * plump), ([18.0, 22.0, -102.0], 5.5 * plump)],
        0.8,
    );
    let lobules = draw.within(0.8, 2.8);
    Solid::tube(spline(&knots, 6), 0.9)
        .or(&hook, 8.0)
        .bumpy(draw.seed(), lobules, draw.within(6.0, 11.0))
}

/// A pear that hangs under the right lobe and points forwards.
fn gallbladder(trunk: &Trunk, liver: &Solid, draw: &mut Draw) -> Solid {
    let forward = trunk.cavity.front(-85.0) / 101.0;
    let full = draw.within(0.65, 1.2);
    // Down from within the liver to its under side.
    let mut under = |x: f32, y: f32, from: f32, below: f32| {
        let low = (0..60)
            .map(|i| from - 2.0 * i as f32)
            .find(|&z| liver.distance(&trunk.site([x, y, z])) > 0.0);
        draw.near([x, y, low.unwrap_or(from) - below], 4.0)
    };
    let neck = under(45.0, 28.0, -50.0, 3.0);
    let middle = under(55.0, 42.0 * forward, -50.0, 3.0 * full);
    let fundus = under(65.0, 57.0 * forward, -54.0, 3.0 * full);
    let knots = [(neck, 4.0), (middle, 13.0 * full), (fundus, 14.5 * full)];
    Solid::tube(spline(&knots, 6), 1.0).and(&Trunk::abdomen(2.0), 4.0)
}

fn kidneys(
    scene: &mut Scene,
    trunk: &Arc<Trunk>,
    has: &dyn Fn(Label) -> bool,
    apart: f32,
    hosts: &mut Vec<Host>,
    draw: &mut Draw,
) {
    let size = draw.within(0.88, 1.2);
    let out = 2.0 + 9.0 * trunk.visceral;
    let coat = 0.5 + 9.0 * trunk.visceral * draw.within(0.4, 1.0);
    for (side, label, height) in [(1.0f32, Label::RightKidney, -96.0), (-1.0, Label::LeftKidney, -82.0)] {
        let centre = [side * (68.0 + out), -41.0, height];
        let centre = add(
            centre,
            [draw.within(-4.0, 4.0), draw.within(-5.0, 5.0), draw.within(-14.0, 14.0)],
        );
        // Upper poles lie behind and towards the midline; the hilum faces forwards and inwards.
        let axes = turned(
            draw.within(0.08, 0.4),
            -side * draw.within(0.1, 0.4),
            -side * draw.within(0.3, 0.95),
        );
        let radii = [draw.vary(30.0, 0.1), draw.vary(25.0, 0.12), draw.vary(54.0, 0.1)].map(|r| r * size);
        let cyst_seed = draw.seed();
        let cyst = draw.chance(0.2).then(|| {
            let lift = draw.direction();
            let out = axes.map(|a| dot(a, lift));
            let at: Point =
                std::array::from_fn(|w| centre[w] + (0..3).map(|a| axes[a][w] * out[a] * radii[a]).sum::<f32>());
            Solid::ellipsoid(at, [draw.within(4.0, 17.0); 3], axes)
        });
        if !has(label) {
            continue;
        }
        let whole = Solid::ellipsoid(centre, radii, axes)
            .and(&Trunk::abdomen(4.0), 6.0)
            .bumpy(cyst_seed, draw.within(0.5, 1.8), 24.0);
        // The hilum opens forwards and to the midline.
        let medial = scale(axes[0], -side);
        let local = |medially: f32| add(centre, scale(medial, medially * radii[0]));
        let mouth = Solid::ellipsoid(local(0.95), [0.52 * radii[0], 0.42 * radii[1], 0.27 * radii[2]], axes);
        let sinus_wide = draw.within(0.75, 1.2);
        let sinus = Solid::ellipsoid(
            local(0.3),
            [
                0.42 * radii[0] * sinus_wide,
                0.3 * radii[1] * sinus_wide,
                0.5 * radii[2] * sinus_wide,
            ],
            axes,
        )
        .bumpy(draw.seed(), 2.6, 9.0);
        let hollow = mouth.or(&sinus, 5.0);
        let kidney = whole.minus(&hollow, 3.0);

        // Fat of the capsule: thin towards liver and spleen, thick behind and below.
        scene.body(&whole.grow(apart.max(0.8)), Tissue::VisceralFat);
        let below = add(centre, [side * 4.0, -8.0, -14.0]);
        let capsule = Solid::ellipsoid(below, radii.map(|r| r + coat), axes);
        scene.body(
            &capsule.and(&Solid::behind(add(centre, [0.0, 0.0, -8.0]), [0.0, 0.45, 0.89]), 8.0),
            Tissue::VisceralFat,
        );
        scene.organ(&kidney, Tissue::RenalCortex, label as u8);
        let (seed, cortex) = (draw.seed(), draw.within(5.0, 7.5));
        let (inner, at) = (kidney.clone(), centre);
        let pyramids = Solid::sited(kidney.bounds, 2.5, move |s| {
            let p = s.point;
            let d = sub(p, at);
            let (u, v) = (dot(d, axes[2]) / radii[2], dot(d, axes[0]) / radii[0]);
            let columns = (7.0 * v.abs().atan2(u)).sin() + 0.9 * texture::noise(seed, p, 13.0);
            (inner.distance(s) + cortex).max(5.0 * (-0.35 - columns))
        });
        scene.within(&pyramids, Tissue::RenalMedulla, 14.0);
        // Fat of the sinus, and the pelvis with its ureter within.
        scene.body(&hollow.and(&whole.grow(1.0), 1.0), Tissue::VisceralFat);
        let wide = draw.within(0.5, 1.3);
        let pelvis = Solid::ellipsoid(local(0.42), [9.0 * wide, 4.5 * wide, 11.0 * wide], axes);
        scene.thin(&pelvis.bumpy(draw.seed(), 1.5, 8.0), Tissue::RenalPelvis, 9.0 * wide);
        let ureter = spline(
            &[
                (local(0.6), 3.2 * wide),
                (add(local(1.15), [0.0, 2.0, -22.0]), 2.2),
                ([side * 38.0, trunk.spine_y(-150.0) + 28.0, -150.0], 2.0),
                ([side * 40.0, 5.0, -240.0], 2.0),
            ],
            5,
        );
        scene.thin(&Solid::tube(ureter, 1.0), Tissue::RenalPelvis, 4.0);
        if let Some(cyst) = cyst {
            scene.organ(&cyst.and(&Trunk::abdomen(3.0), 4.0), Tissue::Bile, label as u8);
        }
        hosts.push(Host {
            solid: kidney,
            label,
            largest: 20.0,
        });
    }
}

/// Thin leaves joined along a ridge: a Y on the right, a lambda on the left.
fn adrenals(scene: &mut Scene, vessels: &Vessels, draw: &mut Draw) {
    let (cava, wide) = vessels.cava_at(-46.0);
    let (aorta, radius) = vessels.aorta_at(-48.0);
    let right = [cava[0] + 0.45 * wide, cava[1] - 0.9 * wide - 3.0, -44.0];
    let left = [
        aorta[0] - radius - draw.within(14.0, 22.0),
        aorta[1] + draw.within(2.0, 10.0),
        -48.0,
    ];
    for (side, label, ridge, leaves) in [
        (
            1.0f32,
            Label::RightAdrenal,
            right,
            [(0.42, 21.0, 15.0), (0.08, 14.0, 11.0)],
        ),
        (
            -1.0,
            Label::LeftAdrenal,
            left,
            [(0.62, 18.0, 17.0), (-0.12, 17.0, 14.0)],
        ),
    ] {
        let ridge = draw.near(ridge, 2.5);
        let tilt = draw.within(0.05, 0.3);
        let thick = draw.within(2.1, 3.4);
        let mut gland: Option<Solid> = None;
        for (angle, reach, height) in leaves {
            let angle = side * (angle + draw.within(-0.12, 0.12));
            let (reach, height) = (draw.vary(reach, 0.15), draw.vary(height, 0.2));
            let axes = turned(tilt, -side * 0.15, angle);
            let centre = add(ridge, scale(axes[1], -0.85 * reach));
            let leaf = Solid::ellipsoid(centre, [thick, reach, height], axes);
            gland = Some(match gland {
                Some(other) => other.or(&leaf, 3.0),
                None => leaf,
            });
        }
        if let Some(gland) = gland {
            let gland = gland.bumpy(draw.seed(), 0.5, 9.0);
            scene.thin(&gland.grow(1.6), Tissue::VisceralFat, 2.0 * thick + 3.0);
            scene.organ(&gland, Tissue::Adrenal, label as u8);
        }
    }
}

/// Lumps within random hosts, dark or bright, round or ragged.
fn tumours(
    scene: &mut Scene,
    trunk: &Trunk,
    findings: &Findings,
    hosts: &[Host],
    description: &mut PhantomDescription,
    draw: &mut Draw,
) {
    for _ in 0..findings.tumours {
        // The liver is the commonest seat.
        let liver = hosts.len() - 1;
        let host = &hosts[if draw.chance(0.5) { liver } else { draw.count(0, liver) }];
        let share = draw.within(0.0, 1.0);
        let radius = match findings.tumour_radius {
            Some([low, high]) => (low + (high - low) * share).min(host.largest),
            None => 3.0 + (host.largest - 3.0) * share.powi(2),
        };
        let bounds = host.solid.bounds;
        let place = (0..400).find_map(|_| {
            let at: Point = std::array::from_fn(|a| draw.within(bounds.low[a], bounds.high[a]));
            (host.solid.distance(&trunk.site(at)) < -0.4 * radius.min(12.0)).then_some(at)
        });
        let Some(centre) = place else { continue };
        let axes = turned(draw.within(-1.0, 1.0), draw.within(-1.0, 1.0), draw.within(-1.0, 1.0));
        let radii: Point = std::array::from_fn(|_| draw.vary(radius, 0.25));
        let ragged = draw.within(0.05, 0.25) * radius;
        let lump = Solid::ellipsoid(centre, radii, axes).bumpy(draw.seed(), ragged, 0.9 * radius + 2.0);
        // It may bulge a little out of its host.
        let lump = lump.and(&host.solid.grow(0.15 * radius), 2.0);
        let tissue = if draw.chance(0.75) {
            Tissue::DarkTumour
        } else {
            Tissue::BrightTumour
        };
        scene.organ(&lump, tissue, Label::Tumour as u8);
        description.tumours.push(super::TumourDescription {
            organ: host.label as u8,
            radius_mm: radius,
        });
    }
}

/// Draws which organs are missing and how many tumours there are.
pub(super) fn findings(config: &PhantomConfig, draw: &mut Draw) -> Findings {
    let mut absent = Vec::new();
    let (gallbladder, kidney, side) = (draw.chance(0.08), draw.chance(0.02), draw.chance(0.5));
    if config.missing_organs && gallbladder {
        absent.push(Label::Gallbladder);
    }
    if config.missing_organs && kidney {
        absent.push(if side { Label::RightKidney } else { Label::LeftKidney });
    }
    let ill = draw.chance(config.tumours);
    let share = draw.within(0.0, 1.0);
    let count = match config.tumour_count {
        Some([low, high]) => (low + (share * (high + 1 - low) as f32) as usize).min(high),
        None => 1 + (5.0 * share.powi(3)) as usize,
    };
    Findings {
        missing: absent,
        tumours: if ill { count } else { 0 },
        tumour_radius: config.tumour_radius_mm,
    }
}
