//! Aorta and vena cava with their branches, the portal system, and the vessels of the liver.

use super::body::Trunk;
use super::draw::Draw;
use super::organs::Label;
use super::paint::Scene;
use super::shape::{Point, Solid, add, lerp, scale, spline};
use super::texture;
use super::tissue::Tissue;
use std::sync::Arc;

/// Where the great vessels run; organs and smaller vessels refer to it.
pub(super) struct Vessels {
    aorta: Vec<(Point, f32)>,
    cava: Vec<(Point, f32)>,
    /// Height of the aorta's division.
    division: f32,
    calibre: f32,
}

impl Vessels {
    pub(super) fn draw(trunk: &Arc<Trunk>, draw: &mut Draw) -> Self {
        let calibre = draw.within(8.5, 12.5);
        let division = draw.within(-182.0, -160.0);
        let lean = draw.within(-17.0, -8.0);
        let bulge = if draw.chance(0.05) { draw.within(1.3, 2.2) } else { 1.0 };
        let mut before = |z: f32, x: f32, r: f32| {
            let x = x + draw.normal(0.0, 2.0);
            ([x, trunk.spine_y(z) + 19.0 + r + draw.within(0.0, 3.0), z], r)
        };
        let aorta = vec![
            ([-26.0, trunk.spine_y(110.0) + 18.0, 110.0], 1.12 * calibre),
            ([lean - 11.0, trunk.spine_y(50.0) + 22.0, 50.0], 1.1 * calibre),
            before(5.0, lean - 3.0, 1.06 * calibre),
            before(-35.0, lean + 2.0, 1.03 * calibre),
            before(-75.0, lean + 2.0, 0.98 * calibre),
            before(-110.0, lean + 2.0, 0.9 * calibre * bulge.min(1.3)),
            before(-140.0, lean + 3.0, 0.87 * calibre * bulge),
            before(division, lean + 8.0, 0.86 * calibre),
        ];
        let wide = draw.within(9.0, 13.5);
        let low = division - 14.0;
        let mut beside = |z: f32, x: f32, forward: f32, r: f32| {
            (
                [
                    x + draw.normal(0.0, 2.0),
                    trunk.spine_y(z) + 19.0 + 0.7 * r + forward,
                    z,
                ],
                r,
            )
        };
        let cava = vec![
            beside(low, 15.0, 1.0, 0.85 * wide),
            beside(-150.0, 20.0, 2.0, 0.9 * wide),
            beside(-110.0, 22.0, 3.0, 0.95 * wide),
            beside(-75.0, 22.0, 7.0, 1.05 * wide),
            beside(-45.0, 24.0, 17.0, 1.1 * wide),
            beside(-18.0, 26.0, 32.0, 1.15 * wide),
            ([27.0, 14.0, 4.0], 1.15 * wide),
            ([22.0, 26.0, 20.0], 1.2 * wide),
        ];
        Self {
            aorta: spline(&aorta, 7),
            cava: spline(&cava, 7),
            division,
            calibre,
        }
    }

    fn at(path: &[(Point, f32)], z: f32) -> (Point, f32) {
        let near = path
            .iter()
            .min_by(|a, b| (a.0[2] - z).abs().total_cmp(&(b.0[2] - z).abs()));
        near.copied().unwrap_or(([0.0; 3], 1.0))
    }

    /// Middle and radius of the aorta at a height.
    pub(super) fn aorta_at(&self, z: f32) -> (Point, f32) {
        Self::at(&self.aorta, z)
    }

    /// Middle and radius of the vena cava at a height.
    pub(super) fn cava_at(&self, z: f32) -> (Point, f32) {
        Self::at(&self.cava, z)
    }

    /// The great vessels and their branches; over all organs but the liver's own vessels.
    pub(super) fn paint(&self, scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
        self.iliacs(scene, trunk, draw);
        let flat = draw.within(0.5, 1.0);
        let cava = Solid::tube(self.cava.clone(), flat).bumpy(draw.seed(), 1.0, 22.0);
        let aorta = Solid::tube(self.aorta.clone(), 1.0).bumpy(draw.seed(), 0.5, 20.0);
        self.branches(scene, draw);
        scene.organ(&cava, Tissue::Vein, Label::VenaCava as u8);
        scene.body(&aorta.grow(0.7), Tissue::VisceralFat);
        scene.organ(&aorta, Tissue::Artery, Label::Aorta as u8);
        if draw.chance(0.45) {
            // Plaques in patches of the aortic wall.
            let (seed, share) = (draw.seed(), draw.within(0.25, 0.5));
            let patches = Solid::field(aorta.bounds, 3.0, move |p| {
                14.0 * (share - texture::noise(seed, p, 11.0))
            });
            let plaques = aorta.minus(&aorta.grow(-1.6), 0.3).and(&patches, 0.5);
            scene.within(&plaques, Tissue::Calcification, 1.6);
        }
    }

    fn iliacs(&self, scene: &mut Scene, trunk: &Arc<Trunk>, draw: &mut Draw) {
        let (fork, _) = self.aorta_at(self.division);
        let (join, wide) = self.cava_at(self.division - 14.0);
        for side in [1.0, -1.0] {
            let vein = spline(
                &[
                    (join, 0.75 * wide),
                    ([side * 30.0 + 2.0, trunk.spine_y(-215.0) + 26.0, -215.0], 7.5),
                    ([side * 52.0, 0.0, -250.0], 7.0),
                    ([side * 70.0, 20.0, -290.0], 7.0),
                    ([side * 78.0, 42.0, -335.0], 7.0),
                ],
                6,
            );
            scene.body(&Solid::tube(vein, 0.85), Tissue::Vein);
            let artery = spline(
                &[
                    (fork, 0.62 * self.calibre),
                    ([side * 30.0, trunk.spine_y(-205.0) + 34.0, -205.0], 0.55 * self.calibre),
                    (draw.near([side * 54.0, 16.0, -240.0], 4.0), 0.5 * self.calibre),
                    ([side * 72.0, 34.0, -290.0], 0.42 * self.calibre),
                    ([side * 84.0, 54.0, -335.0], 0.42 * self.calibre),
                ],
                6,
            );
            scene.body(&Solid::tube(artery, 1.0), Tissue::Artery);
        }
    }

    /// Coeliac trunk, mesenteric and renal arteries, renal veins.
    fn branches(&self, scene: &mut Scene, draw: &mut Draw) {
        let mut tube = |knots: &[(Point, f32)], tissue: Tissue| {
            let wide = knots.iter().fold(0.0f32, |m, k| m.max(k.1));
            scene.thin(&Solid::tube(spline(knots, 5), 1.0), tissue, 2.0 * wide);
        };
        let (a, r) = self.aorta_at(-58.0);
        let coeliac = add(a, [2.0, r + 17.0, 4.0]);
        tube(&[(a, 4.0), (coeliac, 3.6)], Tissue::Artery);
        tube(
            &[
                (coeliac, 3.2),
                (draw.near([20.0, 34.0, -58.0], 4.0), 2.6),
                ([38.0, 36.0, -60.0], 2.2),
            ],
            Tissue::Artery,
        );
        let mut wind = vec![(coeliac, 3.2)];
        for i in 1..=7 {
            let t = i as f32 / 7.0;
            wind.push((draw.near(lerp(coeliac, [-92.0, -16.0, -44.0], t), 7.0), 2.7));
        }
        tube(&wind, Tissue::Artery);
        let (a, r) = self.aorta_at(-74.0);
        tube(
            &[
                (a, 4.2),
                (add(a, [1.0, r + 11.0, -10.0]), 3.8),
                (draw.near([-4.0, 32.0, -115.0], 3.0), 3.3),
                (draw.near([6.0, 36.0, -170.0], 6.0), 2.4),
                (draw.near([25.0, 40.0, -220.0], 8.0), 1.5),
            ],
            Tissue::Artery,
        );
        let (a, r) = self.aorta_at(-135.0);
        tube(
            &[
                (a, 2.2),
                (add(a, [-9.0, r + 4.0, -22.0]), 2.0),
                ([-30.0, 5.0, -220.0], 1.5),
            ],
            Tissue::Artery,
        );
        for (side, z) in [(1.0, -90.0), (-1.0, -84.0)] {
            let (a, _) = self.aorta_at(z + 4.0);
            let hilum = [side * 52.0, -24.0, z];
            tube(
                &[
                    (a, 3.0),
                    (lerp(a, [hilum[0], hilum[1] - 6.0, z], 0.55), 2.8),
                    (hilum, 2.4),
                ],
                Tissue::Artery,
            );
            let (v, wide) = self.cava_at(z);
            let before = add(self.aorta_at(z).0, [0.0, self.aorta_at(z).1 + 5.0, 0.0]);
            if side > 0.0 {
                tube(
                    &[(v, 0.5 * wide), (lerp(v, hilum, 0.5), 5.5), (hilum, 5.0)],
                    Tissue::Vein,
                );
            } else {
                tube(
                    &[
                        (v, 0.45 * wide),
                        (before, 4.2),
                        (lerp(before, hilum, 0.6), 5.5),
                        (hilum, 5.0),
                    ],
                    Tissue::Vein,
                );
            }
        }
    }

    /// Portal, splenic and mesenteric veins before they enter the liver; gives the point where the portal vein enters.
    pub(super) fn portal(&self, scene: &mut Scene, tail: Point, draw: &mut Draw) -> Point {
        let meeting = draw.near([12.0, 30.0, -76.0], 4.0);
        let gate = draw.near([38.0, 31.0, -52.0], 4.0);
        let wide = draw.within(5.5, 8.0);
        let mut tube = |knots: &[(Point, f32)]| {
            scene.thin(&Solid::tube(spline(knots, 6), 1.0), Tissue::PortalVein, 2.0 * wide);
        };
        tube(&[
            (meeting, 0.75 * wide),
            (draw.near([-12.0, 28.0, -68.0], 3.0), 0.7 * wide),
            (draw.near([-45.0, 12.0, -60.0], 5.0), 0.65 * wide),
            (add(tail, [-4.0, -9.0, 0.0]), 0.5 * wide),
        ]);
        tube(&[
            (meeting, 0.9 * wide),
            (draw.near([13.0, 31.0, -110.0], 4.0), 0.85 * wide),
            (draw.near([18.0, 38.0, -160.0], 7.0), 0.65 * wide),
            (draw.near([40.0, 38.0, -215.0], 9.0), 0.3 * wide),
        ]);
        tube(&[(meeting, wide), (lerp(meeting, gate, 0.5), wide), (gate, wide)]);
        gate
    }

    /// Hepatic veins from the vena cava, and the portal tree from `gate`, inside the liver.
    pub(super) fn hepatic(&self, scene: &mut Scene, liver: &Solid, gate: Point, draw: &mut Draw) {
        let inside = liver.grow(-4.0);
        let (mouth, _) = self.cava_at(-12.0);
        for (tip, wide) in [
            ([122.0, -10.0, -72.0], 5.0),
            ([66.0, 72.0, -72.0], 5.0),
            ([-28.0, 72.0, -45.0], 4.2),
            ([95.0, -45.0, -60.0], 3.5),
        ] {
            let tip = draw.near(tip, 12.0);
            let middle = add(draw.near(lerp(mouth, tip, 0.45), 5.0), [0.0, 0.0, 7.0]);
            branch(
                scene,
                &inside,
                Tissue::HepaticVein,
                [mouth, middle, tip],
                wide * draw.within(0.75, 1.2),
                2,
                draw,
            );
        }
        for (tip, wide) in [
            ([108.0, 25.0, -88.0], 5.2),
            ([92.0, -35.0, -92.0], 4.4),
            ([88.0, 50.0, -40.0], 4.4),
            ([88.0, -20.0, -40.0], 4.0),
            ([-20.0, 70.0, -58.0], 4.6),
            ([-40.0, 66.0, -40.0], 3.2),
        ] {
            let tip = draw.near(tip, 12.0);
            let middle = draw.near(lerp(gate, tip, 0.45), 6.0);
            branch(
                scene,
                &inside,
                Tissue::PortalVein,
                [gate, middle, tip],
                wide * draw.within(0.75, 1.2),
                2,
                draw,
            );
        }
    }
}

/// A tapering vessel with side branches, `depth` generations of them.
fn branch(
    scene: &mut Scene,
    inside: &Solid,
    tissue: Tissue,
    [from, middle, to]: [Point; 3],
    wide: f32,
    depth: usize,
    draw: &mut Draw,
) {
    let path = spline(&[(from, wide), (middle, 0.72 * wide), (to, 0.25 * wide)], 6);
    scene.within(&Solid::tube(path.clone(), 1.0).and(inside, 1.0), tissue, 1.6 * wide);
    if depth == 0 {
        return;
    }
    let reach = super::shape::length(super::shape::sub(to, from));
    for _ in 0..3 {
        let (start, r) = path[draw.count(4, path.len() - 3)];
        let forward = scale(super::shape::sub(to, from), 0.3);
        let tip = add(add(start, forward), scale(draw.direction(), 0.32 * reach));
        let middle = draw.near(lerp(start, tip, 0.5), 0.06 * reach);
        branch(scene, inside, tissue, [start, middle, tip], 0.72 * r, depth - 1, draw);
    }
}
