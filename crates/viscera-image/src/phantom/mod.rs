//! A random abdominal CT with exact labels, for training, tests and demos.
//!
//! Shapes are signed distances in a body frame in mm, drawn at random about measured anatomy; a smooth random
//! deformation leads from the scanner's space to that frame; the scene is painted straight onto the wanted grid with
//! partial volume; kernel, noise and padding make it a scan. The same seed and configuration give the same bits on any
//! number of threads.
//!
//! Label ids are FLARE22's: 1 liver, 2 right kidney, 3 spleen, 4 pancreas, 5 aorta, 6 inferior vena cava, 7 right
//! adrenal, 8 left adrenal, 9 gallbladder, 10 oesophagus, 11 stomach, 12 duodenum, 13 left kidney; 14 is tumour.

mod body;
mod bowel;
mod couch;
mod deform;
mod draw;
mod field_of_view;
mod findings;
mod organs;
mod overlook;
mod paint;
mod render;
mod reshape;
mod scan;
mod shape;
mod skeleton;
mod texture;
mod thorax;
mod tissue;
mod vessels;

#[cfg(test)]
mod tests;

pub use field_of_view::FieldOfView;
pub use overlook::overlook_tumours;
pub use render::{Anatomy, RenderConfig, RenderDescription};
pub use reshape::reshape;
pub use scan::ScanDescription;
pub use tissue::{Phase, Tissue};

use crate::{ImageError, LabelMap, Orientation, Volume};
use deform::Deformation;
use draw::Draw;
use serde::{Deserialize, Serialize};
use tissue::Appearance;

/// What may vary in a phantom. The default varies everything a hospital's scans do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhantomConfig {
    /// Spacing in mm of the (S–I, A–P, R–L) axes; random (0.6–1.0 in plane, slices 1–5) where absent.
    pub spacing: Option<[f64; 3]>,
    /// Voxels along (S–I, A–P, R–L); from the field of view where absent.
    pub shape: Option<[usize; 3]>,
    /// Most voxels along (S–I, A–P, R–L) where `shape` is absent.
    pub max_shape: [usize; 3],
    /// Equal width and depth in plane, as scanners write; otherwise cut to the body.
    pub square: bool,
    /// The part of the body in view; random where absent.
    pub field_of_view: Option<FieldOfView>,
    /// Bounds of the reconstruction's width in mm (R–L, and A–P where `square`); 350 to 480 where absent.
    pub width_mm: Option<[f32; 2]>,
    /// Axis codes in the order x, y, z, such as "LPS" (see [`crate::Orientation`]); random where absent.
    pub orientation: Option<String>,
    /// Whether the body is off the middle of the grid, and the world's origin anywhere.
    pub random_position: bool,
    /// Strength of the random deformation: 0 none, 1 as between patients.
    pub deformation: f32,
    /// Kernel and noise; without them, `noise_hu` and `kernel` count for nothing.
    pub noise: bool,
    /// Bounds of the noise at the middle of the body, standard deviation in HU; by the thickness of the slices, from 2 to
    /// 45, where absent.
    pub noise_hu: Option<[f32; 2]>,
    /// Bounds of the reconstruction kernel: blur (positive, deviation in mm) or edge enhancement (negative, strength);
    /// −0.7 to 0.8 where absent. What is given here shows on coarse grids too.
    pub kernel: Option<[f32; 2]>,
    /// Padding outside the reconstruction circle, streaks, metal.
    pub artefacts: bool,
    /// Table, cloth and arms.
    pub surroundings: bool,
    /// Share of patients with tumours, 0…1.
    pub tumours: f32,
    /// Bounds of their number in such a patient; 1 to 5, mostly 1, where absent.
    pub tumour_count: Option<[usize; 2]>,
    /// Bounds of their mean radius in mm; 3 to what the organ can bear, mostly small, where absent. The organ limits it in
    /// any case: the liver to 38 mm.
    pub tumour_radius_mm: Option<[f32; 2]>,
    /// Whether the gallbladder (8 in 100) or a kidney (2 in 100) may be missing.
    pub missing_organs: bool,
    /// Bounds of the fat in the cavity: 0 thin, 1 obese; 0 to 1, more often thin, where absent.
    pub visceral_fat: Option<[f32; 2]>,
    /// The contrast phase; random where absent.
    pub phase: Option<Phase>,
    /// Share of scans whose tissues get random brightness, far beyond what is realistic, 0…1.
    pub wild_intensity: f32,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        Self {
            spacing: None,
            shape: None,
            max_shape: [512, 512, 512],
            square: true,
            field_of_view: None,
            width_mm: None,
            orientation: None,
            random_position: true,
            deformation: 1.0,
            noise: true,
            noise_hu: None,
            kernel: None,
            artefacts: true,
            surroundings: true,
            tumours: 0.3,
            tumour_count: None,
            tumour_radius_mm: None,
            missing_organs: true,
            visceral_fat: None,
            phase: None,
            wild_intensity: 0.0,
        }
    }
}

impl PhantomConfig {
    /// Checks the numbers; [`generate`] does so too.
    ///
    /// # Errors
    /// [`ImageError::BadParameter`] for a share outside 0…1, and for bounds that are not finite, fall, or lie where no
    /// scan has them; [`ImageError::BadOrientation`].
    pub fn validate(&self) -> Result<(), ImageError> {
        let shares = [("tumours", self.tumours), ("wild_intensity", self.wild_intensity)];
        let shares = shares.map(|(what, share)| (what, Some([share; 2]), [0.0, 1.0]));
        let count = self.tumour_count.map(|bounds| bounds.map(|n| n as f32));
        let bounds = [
            ("tumour_count", count, [1.0, 50.0]),
            ("tumour_radius_mm", self.tumour_radius_mm, [1.0, 100.0]),
            ("width_mm", self.width_mm, [50.0, 1000.0]),
            ("noise_hu", self.noise_hu, [0.0, 500.0]),
            ("kernel", self.kernel, [-5.0, 20.0]),
            ("visceral_fat", self.visceral_fat, [0.0, 1.0]),
        ];
        for (what, given, [least, most]) in shares.into_iter().chain(bounds) {
            let Some([low, high]) = given else { continue };
            let bad = |value: f32| {
                let value = f64::from(value);
                Err(ImageError::BadParameter { what, value })
            };
            // NaN is in no range.
            if !(least..=most).contains(&low) {
                return bad(low);
            }
            if !(low..=most).contains(&high) {
                return bad(high);
            }
        }
        if let Some(code) = &self.orientation {
            code.parse::<Orientation>()?;
        }
        Ok(())
    }
}

/// A phantom: the scan, its labels on the same grid, and how it came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Phantom {
    /// HU; −1024 or the scan's padding outside.
    pub image: Volume<i16>,
    /// Label ids, 0 background; see the module's head.
    pub labels: LabelMap,
    /// What was drawn.
    pub description: PhantomDescription,
}

/// What was drawn for one phantom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhantomDescription {
    /// The seed.
    pub seed: u64,
    /// Contrast phase.
    pub phase: Phase,
    /// Whether brightness is random beyond realism.
    pub wild_intensity: bool,
    /// The part of the body in view.
    pub field_of_view: FieldOfView,
    /// Axis codes in the order x, y, z.
    pub orientation: String,
    /// Label ids of organs that this patient lacks.
    pub missing: Vec<u8>,
    /// Tumours, in view or not.
    pub tumours: Vec<TumourDescription>,
    /// Arms beside the trunk.
    pub arms: bool,
    /// Metal in the body.
    pub metal: bool,
    /// Subcutaneous fat at the flank, mm.
    pub subcutaneous_fat_mm: f32,
    /// Fat in the cavity: 0 thin, 1 obese.
    pub visceral_fat: f32,
    /// The scanner's part.
    pub scan: ScanDescription,
}

/// One tumour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TumourDescription {
    /// Label id of the organ it grows in.
    pub organ: u8,
    /// Mean radius in mm.
    pub radius_mm: f32,
}

/// Makes the phantom of a seed.
///
/// # Errors
/// [`ImageError::BadGeometry`] when the configuration's shape or spacing is impossible; as [`PhantomConfig::validate`].
pub fn generate(config: &PhantomConfig, seed: u64) -> Result<Phantom, ImageError> {
    config.validate()?;
    let view = field_of_view::draw(config, &mut Draw::new(seed, 0))?;
    let (geometry, origin) = (&view.geometry, view.origin);

    let mut look = Draw::new(seed, 1);
    let (phase, wild, mut appearance) = Appearance::draw(config.phase, config.wild_intensity, &mut look);
    tune_tumours(&mut appearance, wild, &mut look);

    let mut patient = Draw::new(seed, 2);
    let arms = patient.chance(0.1) && config.surroundings;
    let metal = patient.chance(0.04) && config.artefacts;
    let findings = organs::findings(config, &mut patient);
    let trunk = body::Trunk::draw(config.visceral_fat, &mut Draw::new(seed, 3));
    let mut description = PhantomDescription {
        seed,
        phase,
        wild_intensity: wild,
        field_of_view: view.field_of_view,
        orientation: view.orientation.to_string(),
        missing: findings.missing.iter().map(|&l| l as u8).collect(),
        tumours: Vec::new(),
        arms,
        metal,
        subcutaneous_fat_mm: trunk.fat,
        visceral_fat: trunk.visceral,
        scan: ScanDescription {
            noise_hu: 0.0,
            kernel: 0.0,
            padding_hu: None,
            streaks: false,
        },
    };

    let mut scene = paint::Scene::default();
    if config.surroundings {
        let mut draw = Draw::new(seed, 4);
        couch::table(&mut scene, &trunk, origin, &mut draw);
        couch::around(&mut scene, &trunk, arms, &mut draw);
    }
    trunk.paint(&mut scene);
    let mut chest = Draw::new(seed, 5);
    thorax::paint(&mut scene, &trunk, &mut chest);
    bowel::paint(&mut scene, &trunk, &mut Draw::new(seed, 6));
    thorax::diaphragm(&mut scene, &trunk, &mut chest);
    organs::paint(&mut scene, &trunk, &findings, &mut description, &mut Draw::new(seed, 7));
    skeleton::paint(&mut scene, &trunk, &mut Draw::new(seed, 8));
    if metal {
        couch::metal(&mut scene, &mut Draw::new(seed, 9));
    }

    let deformation = Deformation::draw(origin, config.deformation, &mut Draw::new(seed, 10));
    let (hu, labels) = paint::paint(&scene, &trunk, geometry, &deformation, &appearance);
    let effects = scan::Effects {
        noise: config.noise,
        noise_hu: config.noise_hu,
        kernel: config.kernel,
        artefacts: config.artefacts,
    };
    let (image, taken) = scan::scan(hu, geometry, origin, effects, &mut Draw::new(seed, 11));
    description.scan = taken;
    let map = view.axis_map();
    Ok(Phantom {
        image: map.apply(&Volume::new(geometry.clone(), image)?),
        labels: map.apply(&Volume::new(geometry.clone(), labels)?),
        description,
    })
}

/// Tumours stand out from the liver, darker or brighter, whatever the phase.
fn tune_tumours(appearance: &mut Appearance, wild: bool, draw: &mut Draw) {
    let (darker, brighter) = (draw.within(18.0, 70.0), draw.within(15.0, 60.0));
    if !wild {
        let liver = appearance.mean(Tissue::Liver);
        appearance.set_mean(Tissue::DarkTumour, (liver - darker).max(-5.0));
        appearance.set_mean(Tissue::BrightTumour, liver + brighter);
    }
}
