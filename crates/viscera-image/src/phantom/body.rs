//! The trunk that all else refers to: spine curve, inner and outer contours by height, and the diaphragm.

use super::draw::Draw;
use super::paint::Scene;
use super::shape::{Bounds, Point, Site, Solid, smooth_max, smooth_min, smoothstep, turned};
use super::texture;
use super::tissue::Tissue;
use std::sync::Arc;

/// A value by height, on a fine table.
pub(super) struct Profile {
    lowest: f32,
    values: Vec<f32>,
}

impl Profile {
    const STEP: f32 = 4.0;

    /// Joins `(height, value)` knots, sorted upwards, and smooths the corners over some centimetres.
    fn new(knots: &[(f32, f32)]) -> Self {
        let (lowest, highest) = (-460.0f32, 420.0f32);
        let at = |z: f32| {
            let above = knots.partition_point(|k| k.0 < z).clamp(1, knots.len() - 1);
            let (a, b) = (knots[above - 1], knots[above]);
            a.1 + (b.1 - a.1) * ((z - a.0) / (b.0 - a.0)).clamp(0.0, 1.0)
        };
        let count = ((highest - lowest) / Self::STEP) as usize;
        let values = (0..count)
            .map(|i| {
                (-4..=4)
                    .map(|k| at(lowest + (i as f32 + 2.0 * k as f32) * Self::STEP))
                    .sum::<f32>()
                    / 9.0
            })
            .collect();
        Self { lowest, values }
    }

    /// The value at a height.
    pub(super) fn at(&self, z: f32) -> f32 {
        let position = ((z - self.lowest) / Self::STEP).clamp(0.0, (self.values.len() - 2) as f32);
        let i = position as usize;
        self.values[i] + (position - i as f32) * (self.values[i + 1] - self.values[i])
    }
}

/// A contour of the trunk: a superellipse of half-width, front and back at each height.
pub(super) struct Contour {
    /// 2 is an ellipse; more is squarer.
    power: f32,
    half_width: Profile,
    front: Profile,
    back: Profile,
}

impl Contour {
    fn new(rows: &[[f32; 4]], power: f32, wide: f32, forward: f32, belly: f32) -> Self {
        let knots = |f: &dyn Fn(&[f32; 4]) -> f32| rows.iter().map(|r| (r[0], f(r))).collect::<Vec<_>>();
        // A belly bulges in front and at the sides, below the ribs.
        let bulge = |z: f32| belly * smoothstep(20.0, -120.0, z) * (1.0 - smoothstep(-200.0, -310.0, z));
        Self {
            power,
            half_width: Profile::new(&knots(&|r| r[1] * wide + 0.45 * bulge(r[0]))),
            front: Profile::new(&knots(&|r| r[2] * forward + bulge(r[0]))),
            back: Profile::new(&knots(&|r| r[3])),
        }
    }

    /// Roughly the distance in mm to the contour within the axial plane, negative inside.
    pub(super) fn distance(&self, p: Point) -> f32 {
        let (a, front, back) = (self.half_width.at(p[2]), self.front.at(p[2]), self.back.at(p[2]));
        let (middle, b) = (0.5 * (front + back), 0.5 * (front - back));
        let (x, y) = (p[0], p[1] - middle);
        let u = ((x / a).abs().powf(self.power) + (y / b).abs().powf(self.power)).powf(1.0 / self.power);
        if u < 0.2 {
            return -0.8 * a.min(b);
        }
        (x * x + y * y).sqrt() * (1.0 - 1.0 / u)
    }

    /// Frontmost point at a height.
    pub(super) fn front(&self, z: f32) -> f32 {
        self.front.at(z)
    }

    /// Half-width at a height.
    pub(super) fn half_width(&self, z: f32) -> f32 {
        self.half_width.at(z)
    }

    /// Hindmost point at a height.
    pub(super) fn back(&self, z: f32) -> f32 {
        self.back.at(z)
    }
}

/// The patient's frame: contours, spine curve, diaphragm and proportions.
pub(super) struct Trunk {
    /// Inside of ribs, muscles and pelvis.
    pub(super) cavity: Contour,
    /// Outside of the muscles.
    muscle: Contour,
    /// Outside of the trunk, without the fat of this patient.
    outline: Contour,
    /// Thickness of the subcutaneous fat in mm (at the flank).
    pub(super) fat: f32,
    /// Fat within the cavity: 0 thin … 1 obese.
    pub(super) visceral: f32,
    /// Size of the breasts, where there are any.
    breasts: Option<f32>,
    spine_y: Profile,
    domes: [Dome; 3],
    recess: f32,
    seed: u32,
}

/// A paraboloid cap of the diaphragm.
struct Dome {
    top: Point,
    radii: [f32; 2],
    drop: [f32; 2],
}

impl Trunk {
    /// A patient; `visceral` bounds the fat in the cavity.
    pub(super) fn draw(visceral: Option<[f32; 2]>, draw: &mut Draw) -> Arc<Self> {
        let share = draw.within(0.0, 1.0);
        let visceral = match visceral {
            Some([low, high]) => low + (high - low) * share,
            None => share.powf(1.3),
        };
        let fat = (6.0 + 34.0 * draw.within(0.0, 1.0).powi(2) + 12.0 * visceral * draw.within(0.0, 1.0)).min(55.0);
        let muscular = draw.within(-4.0, 5.0);
        let (wide, forward) = (draw.within(0.9, 1.08), draw.within(0.88, 1.1));
        let square = draw.within(2.1, 2.55);
        let belly = 50.0 * visceral - 18.0;
        // Height, half-width, front, back.
        #[rustfmt::skip]
        let cavity = [
            [-450.0, 58.0, 45.0, -60.0], [-390.0, 62.0, 50.0, -62.0], [-330.0, 82.0, 58.0, -68.0],
            [-270.0, 104.0, 74.0, -62.0], [-220.0, 124.0, 82.0, -50.0], [-170.0, 132.0, 92.0, -56.0],
            [-120.0, 139.0, 97.0, -76.0], [-60.0, 144.0, 104.0, -93.0], [0.0, 143.0, 103.0, -97.0],
            [50.0, 138.0, 92.0, -103.0], [100.0, 131.0, 78.0, -109.0], [150.0, 122.0, 63.0, -113.0],
            [200.0, 116.0, 46.0, -112.0], [250.0, 94.0, 28.0, -106.0], [300.0, 50.0, 5.0, -90.0],
            [400.0, 45.0, 0.0, -85.0],
        ];
        #[rustfmt::skip]
        let muscle = [
            [-450.0, 160.0, 52.0, -92.0], [-390.0, 166.0, 57.0, -97.0], [-330.0, 167.0, 70.0, -109.0],
            [-270.0, 160.0, 85.0, -110.0], [-220.0, 151.0, 92.0, -97.0], [-170.0, 150.0, 102.0, -79.0],
            [-120.0, 157.0, 107.0, -93.0], [-60.0, 160.0, 114.0, -107.0], [0.0, 158.0, 114.0, -112.0],
            [50.0, 157.0, 104.0, -119.0], [100.0, 157.0, 93.0, -125.0], [150.0, 153.0, 81.0, -129.0],
            [200.0, 154.0, 63.0, -130.0], [250.0, 152.0, 41.0, -126.0], [300.0, 147.0, 18.0, -115.0],
            [400.0, 68.0, -1.0, -108.0],
        ];
        #[rustfmt::skip]
        let outline = [
            [-450.0, 164.0, 55.0, -95.0], [-390.0, 171.0, 60.0, -100.0], [-330.0, 172.0, 74.0, -114.0],
            [-270.0, 166.0, 88.0, -117.0], [-220.0, 157.0, 94.0, -113.0], [-170.0, 153.0, 104.0, -108.0],
            [-120.0, 160.0, 110.0, -112.0], [-60.0, 163.0, 117.0, -119.0], [0.0, 161.0, 117.0, -125.0],
            [50.0, 160.0, 107.0, -132.0], [100.0, 160.0, 96.0, -138.0], [150.0, 157.0, 84.0, -142.0],
            [200.0, 158.0, 66.0, -143.0], [250.0, 156.0, 44.0, -138.0], [300.0, 150.0, 20.0, -122.0],
            [400.0, 70.0, 0.0, -110.0],
        ];
        let stronger = |[z, a, f, b]: [f32; 4]| [z, a + muscular, f, b - 0.6 * muscular];
        let (muscle, outline) = (muscle.map(stronger), outline.map(stronger));
        #[rustfmt::skip]
        let spine = [
            (-450.0, -70.0), (-330.0, -88.0), (-290.0, -80.0), (-255.0, -55.0), (-221.0, -30.0), (-188.0, -21.0),
            (-154.0, -19.0), (-118.0, -23.0), (-88.0, -29.0), (-57.0, -36.0), (-28.0, -42.0), (0.0, -47.0),
            (60.0, -60.0), (150.0, -74.0), (250.0, -72.0), (400.0, -40.0),
        ];
        let (bend, slope) = (draw.within(0.75, 1.25), draw.normal(0.0, 0.015));
        let spine = spine.map(|(z, y)| (z, -33.0 + bend * (y + 33.0) + slope * (z + 60.0)));
        let left = draw.within(-26.0, -2.0);
        let domes = [
            Dome {
                top: [draw.within(62.0, 78.0), draw.within(10.0, 32.0), 0.0],
                radii: [95.0, 105.0],
                drop: [draw.within(45.0, 70.0), draw.within(55.0, 85.0)],
            },
            Dome {
                top: [draw.within(-82.0, -68.0), draw.within(0.0, 25.0), left],
                radii: [85.0, 105.0],
                drop: [draw.within(45.0, 65.0), draw.within(50.0, 80.0)],
            },
            Dome {
                top: [
                    draw.within(-25.0, -5.0),
                    draw.within(42.0, 58.0),
                    draw.within(-30.0, -16.0),
                ],
                radii: [75.0, 65.0],
                drop: [40.0, 40.0],
            },
        ];
        Arc::new(Self {
            cavity: Contour::new(&cavity, square, wide, forward, belly),
            muscle: Contour::new(&muscle, square, wide, forward, belly),
            outline: Contour::new(&outline, square, wide, forward, belly),
            fat,
            visceral,
            breasts: draw.chance(0.4).then(|| draw.within(0.7, 1.25)),
            spine_y: Profile::new(&spine),
            domes,
            recess: draw.within(12.0, 38.0),
            seed: draw.seed(),
        })
    }

    /// A–P place of the middle of the vertebral bodies.
    pub(super) fn spine_y(&self, z: f32) -> f32 {
        self.spine_y.at(z)
    }

    /// All distances at a point.
    pub(super) fn site(&self, point: Point) -> Site {
        let wall = self.cavity.distance(point);
        let muscle = self.muscle.distance(point);
        Site {
            point,
            wall,
            muscle,
            skin: self.skin(point, muscle),
            roof: self.roof(point, wall),
        }
    }

    /// Distance to the diaphragm, negative below it, given the distance to the cavity's wall.
    pub(super) fn roof(&self, p: Point, wall: f32) -> f32 {
        let caps = self.domes.iter().map(|dome| {
            let u = |a: usize| (p[a] - dome.top[a]) / dome.radii[a];
            let (x, y) = (u(0) * u(0), u(1) * u(1));
            // Flat on top and steep at the sides.
            dome.top[2] - (0.3 + 0.7 * (x + y).min(2.0)) * (dome.drop[0] * x + dome.drop[1] * y)
        });
        let height = caps.fold(-400.0, |a, b| smooth_max(a, b, 14.0));
        // The lung's thin recess reaches far down behind and at the sides.
        let edge = ((wall + 15.0) / 15.0).clamp(0.0, 1.3);
        let behind = (0.75 - p[1] / 110.0).clamp(0.15, 1.4);
        // Near the spine the crura rise no higher than the back of the domes.
        0.75 * (p[2] - (height - self.recess * behind * edge * edge).max(-92.0))
    }

    /// Distance to the skin.
    fn skin(&self, p: Point, muscle: f32) -> f32 {
        let side = (p[0].abs() / 150.0).min(1.2);
        let low = smoothstep(-20.0, -170.0, p[2]);
        let high = smoothstep(0.0, 120.0, p[2]);
        // Thicker at the flanks and buttocks than over the breastbone and the midline of the back.
        let thickness = self.fat
            * (0.55 + 0.35 * side * low + 0.35 * low * smoothstep(0.0, -80.0, p[1]) - 0.2 * high)
            * (1.0 + 0.25 * texture::noise(self.seed, p, 110.0));
        let groove = 6.0 * (-(p[0] / 16.0) * (p[0] / 16.0)).exp() * smoothstep(-60.0, -100.0, p[1]);
        smooth_min(
            self.outline.distance(p) - thickness.max(2.5) + groove,
            muscle - 4.0,
            10.0,
        )
    }

    /// Half-width of the trunk at a height, fat and all.
    pub(super) fn half_width(&self, z: f32) -> f32 {
        self.outline.half_width(z) + self.fat
    }

    /// Hindmost point of the trunk at a height.
    pub(super) fn back(&self, z: f32) -> f32 {
        self.outline.back(z) - 0.75 * self.fat
    }

    /// Everything within `inset` mm of the wall of the cavity and the under side of the diaphragm.
    pub(super) fn abdomen(inset: f32) -> Solid {
        let bounds = Bounds {
            low: [-250.0, -160.0, -460.0],
            high: [250.0, 240.0, 20.0],
        };
        Solid::sited(bounds, 4.0, move |s| smooth_max(s.wall, s.roof, 4.0) + inset)
    }

    /// The inside of the chest, above the diaphragm.
    pub(super) fn chest(inset: f32) -> Solid {
        let bounds = Bounds {
            low: [-250.0, -180.0, -130.0],
            high: [250.0, 200.0, 420.0],
        };
        Solid::sited(bounds, 4.0, move |s| (s.wall + inset).max(0.3 * inset - s.roof))
    }

    /// Skin, fat under it, the muscular wall and the fat that fills the cavity.
    pub(super) fn paint(&self, scene: &mut Scene) {
        let all = Bounds {
            low: [-290.0, -260.0, -455.0],
            high: [290.0, 260.0, 415.0],
        };
        let skin = Solid::sited(all, 1.6, |s| s.skin);
        scene.body(&skin, Tissue::Skin);
        scene.body(&skin.grow(-1.8), Tissue::SubcutaneousFat);
        self.paint_breasts(scene);
        scene.body(&Solid::sited(all, 1.4, |s| s.muscle), Tissue::Muscle);
        self.paint_septa(scene, all);
        scene.body(&Solid::sited(all, 1.4, |s| s.wall), Tissue::VisceralFat);
    }

    fn paint_breasts(&self, scene: &mut Scene) {
        let Some(size) = self.breasts else { return };
        for side in [1.0, -1.0] {
            // They lie low and to the sides in a patient on the back.
            let front = self.outline.front(75.0) - 26.0 + 0.4 * self.fat;
            let axes = turned(0.1, 0.0, side * 0.5);
            let breast = Solid::ellipsoid(
                [side * 84.0, front, 72.0],
                [58.0 * size, 34.0 * size, 52.0 * size],
                axes,
            );
            let gland = Solid::ellipsoid(
                [side * 86.0, front + 6.0, 70.0],
                [32.0 * size, 18.0 * size, 28.0 * size],
                axes,
            );
            scene.body(&breast, Tissue::Skin);
            scene.body(&breast.grow(-1.8), Tissue::SubcutaneousFat);
            scene.body(&gland.bumpy(self.seed ^ 3, 4.0, 15.0), Tissue::Glandular);
        }
    }

    /// Thin sheets of fat between the layers of the muscular wall, and the white line between the straight muscles.
    fn paint_septa(&self, scene: &mut Scene, all: Bounds) {
        let seed = self.seed;
        let wide = 0.4 + 0.8 * self.visceral;
        let septa = Solid::sited(all, 3.0, move |s| {
            if s.wall < -3.0 || s.muscle > 1.0 {
                return s.muscle.max(-s.wall).max(1.0);
            }
            let p = s.point;
            let thickness = (s.wall - s.muscle).max(1.0);
            let share = s.wall / thickness;
            let lateral = smoothstep(-45.0, -20.0, p[1]) * smoothstep(50.0, 80.0, p[0].abs());
            let sheet = (share - 0.36).abs().min((share - 0.68).abs()) * thickness + 20.0 * (1.0 - lateral);
            let middle = p[0].abs() + 40.0 * smoothstep(40.0, 0.0, p[1]);
            let rectus = (p[0].abs() - 68.0).abs() + 40.0 * smoothstep(80.0, 40.0, p[1]);
            // Between the bundles of the gluteal muscles.
            let low = 20.0 * (1.0 - smoothstep(-170.0, -200.0, p[2]) * smoothstep(0.0, -30.0, p[1]));
            let bundles = if low < 20.0 {
                40.0 * texture::noise(seed ^ 9, p, 48.0).abs() + low
            } else {
                20.0
            };
            sheet.min(bundles).min(middle).min(rectus) - wide
        });
        scene.thin(&septa, Tissue::SubcutaneousFat, 2.0 * wide);
    }
}
