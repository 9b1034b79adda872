//! What tissues look like: Hounsfield units by contrast phase, texture, and their random variation.
//!
//! Two manners of drawing: realistic (values of native, arterial, portal venous and delayed scans, mixed and varied) and
//! wild (a random value per tissue, far beyond what is realistic, as in SynthSeg, Billot et al. 2023: networks that
//! learn from it rely on shape and context more than on brightness).

use super::draw::Draw;
use super::shape::{Point, smoothstep};
use super::texture;
use serde::{Deserialize, Serialize};

/// A kind of tissue or matter with a look of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names say it
#[repr(u8)]
pub enum Tissue {
    /// Air outside the body.
    Air,
    /// Gas inside stomach and bowel.
    Gas,
    Lung,
    LungVessel,
    Skin,
    SubcutaneousFat,
    VisceralFat,
    Muscle,
    CorticalBone,
    Marrow,
    Cartilage,
    Disc,
    SpinalCanal,
    Heart,
    Artery,
    /// Systemic veins, the inferior vena cava among them.
    Vein,
    PortalVein,
    HepaticVein,
    Liver,
    Spleen,
    RenalCortex,
    RenalMedulla,
    RenalPelvis,
    Pancreas,
    Adrenal,
    Bile,
    Oesophagus,
    StomachWall,
    StomachContent,
    DuodenumWall,
    DuodenumContent,
    BowelWall,
    BowelContent,
    Stool,
    Urine,
    /// Prostate, uterus, lymph nodes: soft tissue that is none of the others.
    SoftTissue,
    Glandular,
    DarkTumour,
    BrightTumour,
    Calcification,
    Table,
    Cloth,
    Metal,
}

impl Tissue {
    /// How many tissues there are.
    pub const COUNT: usize = Self::Metal as usize + 1;
}

/// The moment after the injection of contrast medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No contrast medium.
    Native,
    /// About 35 s: bright arteries, kidneys with bright cortex, mottled spleen.
    Arterial,
    /// About 70 s: bright portal vein, liver, kidneys.
    PortalVenous,
    /// Minutes later: all a little bright, excretion into the renal pelvis.
    Delayed,
}

/// The look of one tissue.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    /// Mean HU.
    mean: f32,
    /// Amplitude of a smooth texture, HU.
    texture: f32,
    /// Its grain, mm.
    grain: f32,
    /// Share of the volume (0…1) that is flecked with something else: fat in the pancreas, gas in stool.
    flecked: f32,
    /// HU of the flecks.
    flecks: f32,
    /// Size of the flecks, mm.
    fleck_size: f32,
}

/// Native, arterial, portal venous and delayed HU of each tissue, in the order of [`Tissue`]; sources: the project's
/// anatomy table and textbook ranges.
const HU: [[f32; 4]; Tissue::COUNT] = [
    [-1000.0; 4],
    [-980.0; 4],
    [-830.0, -825.0, -825.0, -825.0],
    [10.0, 130.0, 90.0, 60.0],
    [10.0, 15.0, 20.0, 20.0],
    [-103.0; 4],
    [-100.0, -99.0, -97.0, -97.0],
    [52.0, 57.0, 62.0, 62.0],
    [750.0; 4],
    [165.0, 170.0, 175.0, 175.0],
    [95.0; 4],
    [82.0; 4],
    [28.0; 4],
    [42.0, 150.0, 125.0, 105.0],
    [42.0, 310.0, 160.0, 120.0],
    [40.0, 85.0, 138.0, 115.0],
    [40.0, 115.0, 170.0, 120.0],
    [40.0, 50.0, 160.0, 120.0],
    [55.0, 68.0, 110.0, 92.0],
    [45.0, 118.0, 120.0, 95.0],
    [33.0, 190.0, 185.0, 150.0],
    [31.0, 80.0, 172.0, 155.0],
    [6.0, 8.0, 20.0, 300.0],
    [38.0, 105.0, 97.0, 75.0],
    [24.0, 72.0, 76.0, 55.0],
    [10.0; 4],
    [38.0, 55.0, 70.0, 65.0],
    [36.0, 72.0, 86.0, 75.0],
    [15.0; 4],
    [33.0, 72.0, 80.0, 70.0],
    [20.0; 4],
    [34.0, 72.0, 80.0, 70.0],
    [18.0; 4],
    [25.0; 4],
    [6.0, 6.0, 6.0, 40.0],
    [42.0, 60.0, 75.0, 75.0],
    [15.0, 25.0, 35.0, 35.0],
    [28.0, 45.0, 60.0, 60.0],
    [42.0, 150.0, 115.0, 90.0],
    [500.0; 4],
    [150.0; 4],
    [-750.0; 4],
    [2600.0; 4],
];

/// The looks of all tissues in one scan.
#[derive(Debug, Clone)]
pub(super) struct Appearance {
    looks: [Look; Tissue::COUNT],
    seed: u32,
}

impl Appearance {
    /// Draws the phase unless it is given (portal venous in two of five), whether the look is wild, and the look.
    pub(super) fn draw(phase: Option<Phase>, wild: f32, draw: &mut Draw) -> (Phase, bool, Self) {
        let drawn = [
            Phase::Native,
            Phase::Arterial,
            Phase::PortalVenous,
            Phase::PortalVenous,
            Phase::Delayed,
        ][draw.count(0, 4)];
        let phase = phase.unwrap_or(drawn);
        let wild = draw.chance(wild);
        let look = if wild {
            Self::wild(phase, draw)
        } else {
            Self::realistic(phase, draw)
        };
        (phase, wild, look)
    }

    /// Values of a scan in `phase`, varied as between patients and injections.
    pub(super) fn realistic(phase: Phase, draw: &mut Draw) -> Self {
        let at = phase as usize;
        // Scans lie between the textbook's moments, and injections differ in strength.
        let (before, after) = (at.saturating_sub(1), (at + 1).min(3));
        let (other, share) = match phase {
            Phase::Native => (0, 0.0),
            _ if draw.chance(0.5) => (before.max(1), draw.within(0.0, 0.35)),
            _ => (after, draw.within(0.0, 0.35)),
        };
        let strength = draw.within(0.6, 1.3);
        let mut looks: [Look; Tissue::COUNT] = std::array::from_fn(|t| {
            let enhanced = HU[t][at] + share * (HU[t][other] - HU[t][at]);
            Look {
                mean: HU[t][0] + strength * (enhanced - HU[t][0]) + draw.normal(0.0, 5.0),
                texture: draw.within(1.0, 4.0),
                grain: draw.within(3.0, 9.0),
                flecked: 0.0,
                flecks: 0.0,
                fleck_size: 1.0,
            }
        });
        let mut set = |tissue: Tissue, change: &dyn Fn(&mut Look)| change(&mut looks[tissue as usize]);

        let fatty = if draw.chance(0.2) {
            draw.within(10.0, 55.0)
        } else {
            draw.normal(0.0, 4.0)
        };
        set(Tissue::Liver, &|l| l.mean -= fatty);
        let lung = draw.within(-890.0, -760.0);
        set(Tissue::Lung, &|l| {
            (l.mean, l.texture, l.grain, l.flecked, l.flecks, l.fleck_size) = (lung, 25.0, 14.0, 0.04, -350.0, 9.0);
        });
        let fat = draw.within(-115.0, -92.0);
        let (strands, stranded) = (draw.within(0.0, 0.1), draw.within(-80.0, -30.0));
        set(Tissue::SubcutaneousFat, &|l| (l.mean, l.texture) = (fat, 5.0));
        set(Tissue::VisceralFat, &|l| {
            (l.mean, l.texture, l.flecked, l.flecks, l.fleck_size) = (fat + 3.0, 8.0, strands, stranded, 6.0);
        });
        let marbling = if draw.chance(0.25) { draw.within(0.02, 0.1) } else { 0.0 };
        set(Tissue::Muscle, &|l| {
            (l.texture, l.grain, l.flecked, l.flecks, l.fleck_size) = (5.0, 7.0, marbling, -25.0, 4.0);
        });
        let bone = draw.within(380.0, 900.0);
        let spongy = draw.within(60.0, 260.0);
        set(Tissue::CorticalBone, &|l| {
            (l.mean, l.texture, l.grain) = (bone, 120.0, 4.0)
        });
        set(Tissue::Marrow, &|l| (l.mean, l.texture, l.grain) = (spongy, 60.0, 3.5));
        let lobules = draw.within(0.0, 0.35);
        set(Tissue::Pancreas, &|l| {
            (l.texture, l.flecked, l.flecks, l.fleck_size) = (8.0, lobules, -50.0, 4.5)
        });
        if phase == Phase::Arterial {
            set(Tissue::Spleen, &|l| (l.texture, l.grain) = (28.0, 11.0));
            set(Tissue::Heart, &|l| (l.texture, l.grain) = (35.0, 18.0));
            set(Tissue::Vein, &|l| (l.texture, l.grain) = (20.0, 12.0));
        }
        let bile = draw.within(-2.0, 22.0);
        set(Tissue::Bile, &|l| l.mean = bile);
        // Water, food, or an oral contrast medium.
        let oral = draw.chance(0.12).then(|| draw.within(120.0, 450.0));
        let meal = draw.within(-5.0, 45.0);
        let lumps = if draw.chance(0.4) { draw.within(0.1, 0.45) } else { 0.0 };
        set(Tissue::StomachContent, &|l| {
            l.mean = oral.unwrap_or(meal);
            (l.texture, l.flecked, l.flecks, l.fleck_size) = (8.0, lumps, -60.0, 5.0);
        });
        for tissue in [Tissue::DuodenumContent, Tissue::BowelContent] {
            let value = if oral.is_some() && draw.chance(0.6) {
                draw.within(80.0, 350.0)
            } else {
                draw.within(5.0, 40.0)
            };
            set(tissue, &|l| (l.mean, l.texture) = (value, 8.0));
        }
        let (gassy, solid) = (draw.within(0.15, 0.5), draw.within(10.0, 70.0));
        set(Tissue::Stool, &|l| {
            (l.mean, l.texture, l.grain, l.flecked, l.flecks, l.fleck_size) = (solid, 35.0, 5.0, gassy, -650.0, 4.0);
        });
        set(Tissue::Glandular, &|l| {
            (l.flecked, l.flecks, l.fleck_size) = (0.4, -90.0, 7.0)
        });
        for tissue in [Tissue::DarkTumour, Tissue::BrightTumour] {
            let (rough, necrosis) = (draw.within(2.0, 14.0), draw.within(0.0, 0.25));
            let shift = draw.normal(0.0, 10.0);
            set(tissue, &|l| {
                l.mean += shift;
                (l.texture, l.grain, l.flecked, l.flecks, l.fleck_size) = (rough, 7.0, necrosis, 12.0, 8.0);
            });
        }
        for tissue in [Tissue::Air, Tissue::Gas] {
            set(tissue, &|l| (l.mean, l.texture) = (-1000.0, 2.0));
        }
        Self {
            looks,
            seed: draw.seed(),
        }
    }

    /// Realistic values, then most tissues moved to random ones, far beyond any scan.
    pub(super) fn wild(phase: Phase, draw: &mut Draw) -> Self {
        let mut appearance = Self::realistic(phase, draw);
        let kept = draw.within(0.0, 0.5);
        for (t, look) in appearance.looks.iter_mut().enumerate() {
            if draw.chance(kept) {
                continue;
            }
            let near = HU[t][0];
            look.mean = if near < -500.0 {
                near + draw.within(-20.0, 250.0)
            } else if near > 400.0 {
                near + draw.within(-350.0, 600.0)
            } else if near < -50.0 {
                draw.within(-150.0, -20.0)
            } else {
                draw.within(-60.0, 280.0)
            };
            if near > -500.0 {
                look.texture *= draw.within(0.5, 5.0);
                look.grain *= draw.within(0.6, 3.0);
            }
        }
        appearance
    }

    /// HU of a tissue at a point in mm (the texture's frame).
    pub(super) fn hu(&self, tissue: Tissue, p: Point) -> f32 {
        let look = &self.looks[tissue as usize];
        let seed = self.seed.wrapping_add((tissue as u32).wrapping_mul(0x9E37_79B9));
        let mut value = look.mean;
        if look.texture > 2.5 {
            value += look.texture * texture::noise(seed, p, look.grain);
        }
        if look.flecked > 0.0 {
            // Value noise lies within ±0.6 for nine points in ten, evenly enough for a threshold.
            let threshold = 0.6 - 1.2 * look.flecked;
            let fleck = smoothstep(
                threshold - 0.1,
                threshold + 0.1,
                texture::noise(seed ^ 0xabcd, p, look.fleck_size),
            );
            value += fleck * (look.flecks - value);
        }
        value
    }

    /// Mean HU of a tissue, without its texture.
    pub(super) fn mean(&self, tissue: Tissue) -> f32 {
        self.looks[tissue as usize].mean
    }

    /// Moves a tissue's mean to `value`.
    pub(super) fn set_mean(&mut self, tissue: Tissue, value: f32) {
        self.looks[tissue as usize].mean = value;
    }
}
