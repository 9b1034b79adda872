//! Gives CT intensities to a label map of the whole anatomy: a real label map becomes a synthetic scan.

use super::Phase;
use super::draw::Draw;
use super::scan::{Effects, ScanDescription, blur, scan};
use super::tissue::{Appearance, Tissue};
use crate::{AxisMap, ImageError, LabelMap, Volume};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What may vary when a label map is rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RenderConfig {
    /// The contrast phase; random where absent.
    pub phase: Option<Phase>,
    /// Share of scans whose tissues get random brightness beyond realism, 0…1.
    pub wild_intensity: f32,
    /// Blur of the tissue borders in voxels (standard deviation), which stands for partial volume.
    pub border_blur: f32,
    /// Kernel and noise.
    pub noise: bool,
    /// Padding and streaks.
    pub artefacts: bool,
}

impl Default for RenderConfig {
    fn default() -> Self {
        Self {
            phase: None,
            wild_intensity: 0.5,
            border_blur: 0.5,
            noise: true,
            artefacts: true,
        }
    }
}

/// Renders a label map as a scan: `tissues[id]` is the tissue of each label id; ids past the table's end are air.
///
/// Looks, textures, kernel and noise are the phantom's own. Labels keep their meaning: the map itself stays the
/// reference. The same seed gives the same bits on any number of threads.
///
/// # Errors
/// [`ImageError::BadGeometry`] never for a valid label map; it is passed on from [`Volume::new`].
pub fn render_label_map(
    labels: &LabelMap,
    tissues: &[Tissue],
    config: &RenderConfig,
    seed: u64,
) -> Result<(Volume<i16>, ScanDescription), ImageError> {
    let mut look = Draw::new(seed, 1);
    let (_, _, appearance) = Appearance::draw(config.phase, config.wild_intensity, &mut look);
    // The scanner's in-plane axes are the last two of a RAS+ grid.
    let map = AxisMap::to_ras(labels.geometry());
    let labels = map.apply(labels);
    let geometry = labels.geometry();
    let [_, ny, nx] = geometry.shape;
    let mut hu = vec![0f32; geometry.len()];
    hu.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
        for (x, value) in line.iter_mut().enumerate() {
            let id = labels.data()[row * nx + x];
            let tissue = tissues.get(usize::from(id)).copied().unwrap_or(Tissue::Air);
            let p = geometry.world_of([(row / ny) as f64, (row % ny) as f64, x as f64]);
            *value = appearance.hu(tissue, p.map(|c| c as f32));
        }
    });
    for axis in 0..3 {
        blur(&mut hu, geometry.shape, axis, config.border_blur);
    }
    let middle = geometry.world_of(geometry.shape.map(|n| (n as f64 - 1.0) / 2.0));
    let effects = Effects {
        noise: config.noise,
        noise_hu: None,
        kernel: None,
        artefacts: config.artefacts,
    };
    let (image, description) = scan(
        hu,
        geometry,
        middle.map(|c| c as f32),
        effects,
        &mut Draw::new(seed, 11),
    );
    let image = map.inverse().apply(&Volume::new(geometry.clone(), image)?);
    Ok((image, description))
}
