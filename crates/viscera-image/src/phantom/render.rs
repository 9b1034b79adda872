//! A real anatomy as many scans: a label map of the whole body is rendered, or a real scan's tissues get other looks.
//!
//! After SynthSeg (Billot et al. 2023): networks that learn from labels under random looks rely on shape and context.
//! Where the scan itself is at hand its own detail stays, and only the brightness of each structure moves.

use super::draw::Draw;
use super::scan::{Effects, ScanDescription, scan};
use super::tissue::{Appearance, Tissue};
use super::{Phase, findings};
use crate::blur::blur;
use crate::{AxisMap, ImageError, LabelMap, Volume};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What may vary when a body is rendered.
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
    /// How far bodies differ from the one that is rendered, 0…2; see [`super::reshape()`], which whoever renders calls first.
    pub reshape: f32,
    /// Share of scans with lesions in liver, spleen and kidneys, 0…1. They show; labels stay those of the organs.
    pub lesions: f32,
    /// Share of scans whose liver shows vessels that nobody labelled, 0…1.
    pub liver_vessels: f32,
}

impl Default for RenderConfig {
    fn default() -> Self {
        Self {
            phase: None,
            wild_intensity: 0.4,
            border_blur: 0.5,
            noise: true,
            artefacts: true,
            reshape: 0.0,
            lesions: 0.0,
            liver_vessels: 0.0,
        }
    }
}

impl RenderConfig {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ImageError::BadParameter`] for a share outside 0…1, a blur outside 0…10 voxels, or a `reshape` outside 0…2.
    pub fn validate(&self) -> Result<(), ImageError> {
        for (what, value, most) in [
            ("wild_intensity", self.wild_intensity, 1.0),
            ("border_blur", self.border_blur, 10.0),
            ("reshape", self.reshape, 2.0),
            ("lesions", self.lesions, 1.0),
            ("liver_vessels", self.liver_vessels, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                let value = f64::from(value);
                return Err(ImageError::BadParameter { what, value });
            }
        }
        Ok(())
    }
}

/// How a rendered scan came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenderDescription {
    /// The seed.
    pub seed: u64,
    /// Contrast phase.
    pub phase: Phase,
    /// Whether brightness is random beyond realism.
    pub wild_intensity: bool,
    /// Lesions that show.
    pub lesions: usize,
    /// Vessels in the liver that show and that no label map has.
    pub vessels: usize,
    /// The scanner's part.
    pub scan: ScanDescription,
}

/// An anatomy: what each voxel is made of, and its scan where there is one. RAS+.
#[derive(Debug, Clone)]
pub struct Anatomy {
    /// Way back to the grid that it came on.
    back: AxisMap,
    /// Tissue of each voxel; `None` where nothing is labelled.
    tissue: Volume<Option<Tissue>>,
    /// Structure of each voxel, and mean HU of each structure's soft voxels.
    scan: Option<(Volume<f32>, LabelMap, Vec<f32>)>,
}

/// Tissues whose inside, deeper than so many mm, is another one.
const CORES: [(Tissue, Tissue, f32); 5] = [
    (Tissue::RenalCortex, Tissue::RenalMedulla, 7.0),
    (Tissue::CorticalBone, Tissue::Marrow, 2.5),
    (Tissue::StomachWall, Tissue::StomachContent, 4.0),
    (Tissue::DuodenumWall, Tissue::DuodenumContent, 3.0),
    (Tissue::BowelWall, Tissue::BowelContent, 3.0),
];

/// Muscle of the wall where nothing is labelled, mm.
const WALL_MM: f32 = 10.0;
/// From that outline to the end of the body, and how much of it is skin.
const BODY_MM: f32 = 20.0;
const SKIN_MM: f32 = 2.0;

impl Anatomy {
    /// An anatomy from a label map of its structures: `tissues[id]` is the tissue of each label id.
    ///
    /// With a scan on the same grid, what is not labelled keeps its own look. Without one, it is made up: fat inside the
    /// convex outline of each slice, muscle along it, skin and fat around it, and lung above the structures `under_lung`.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when scan and labels lie on other grids.
    pub fn new(
        structures: &LabelMap,
        tissues: &[Option<Tissue>],
        image: Option<&Volume<f32>>,
        under_lung: &[u8],
    ) -> Result<Self, ImageError> {
        if let Some(image) = image {
            image.geometry().require_same_grid(structures.geometry())?;
        }
        // The scanner's in-plane axes are the last two of a RAS+ grid.
        let map = AxisMap::to_ras(structures.geometry());
        let structures = map.apply(structures);
        let mut tissue = structures.map(|id| tissues.get(usize::from(id)).copied().flatten());
        for (shell, core, depth) in CORES {
            // A scan shows for itself what is inside; only kidneys differ by phase.
            if image.is_some() && shell != Tissue::RenalCortex {
                continue;
            }
            let inside = depth_of(&tissue, |t| t == Some(shell), depth);
            let voxels = tissue.data_mut().iter_mut().zip(&inside);
            voxels.filter(|(_, deep)| **deep).for_each(|(t, _)| *t = Some(core));
        }
        let scan = image.map(|image| {
            // What was not measured is air.
            let image = map.apply(image).map(|v| if v.is_finite() { v } else { -1024.0 });
            let means = means(&image, &structures);
            (image, structures.clone(), means)
        });
        if scan.is_none() {
            fill(&mut tissue, &structures, under_lung);
        }
        Ok(Self {
            back: map.inverse(),
            tissue,
            scan,
        })
    }

    /// Its scan of a seed, on the grid that the anatomy came on. The same seed gives the same bits on any number of threads.
    ///
    /// # Errors
    /// As [`RenderConfig::validate`].
    pub fn render(&self, config: &RenderConfig, seed: u64) -> Result<(Volume<i16>, RenderDescription), ImageError> {
        config.validate()?;
        let mut look = Draw::new(seed, 1);
        let (phase, wild, appearance) = Appearance::draw(config.phase, config.wild_intensity, &mut look);
        let geometry = self.tissue.geometry();
        let mut draw = Draw::new(seed, 2);
        let mut hu = match &self.scan {
            Some((image, structures, means)) => self.change(image, structures, means, &appearance, &mut draw),
            None => self.paint(&appearance, &mut draw),
        };
        let mut draw = Draw::new(seed, 3);
        let vessels = findings::vessels(&mut hu, &self.tissue, &appearance, config.liver_vessels, &mut draw);
        let lesions = findings::lesions(&mut hu, &self.tissue, &appearance, config.lesions, &mut draw);
        if self.scan.is_none() {
            for axis in 0..3 {
                blur(&mut hu, geometry.shape, axis, config.border_blur);
            }
        }
        let middle = geometry.world_of(geometry.shape.map(|n| (n as f64 - 1.0) / 2.0));
        let effects = Effects {
            noise: config.noise,
            noise_hu: None,
            kernel: None,
            artefacts: config.artefacts,
        };
        let middle = middle.map(|c| c as f32);
        let (image, scan) = scan(hu, geometry, middle, effects, &mut Draw::new(seed, 11));
        let image = self.back.apply(&Volume::new(geometry.clone(), image)?);
        let description = RenderDescription {
            seed,
            phase,
            wild_intensity: wild,
            lesions,
            vessels,
            scan,
        };
        Ok((image, description))
    }

    /// HU from tissues alone.
    fn paint(&self, appearance: &Appearance, draw: &mut Draw) -> Vec<f32> {
        let geometry = self.tissue.geometry();
        let [_, ny, nx] = geometry.shape;
        // Gas rises to the front of a patient on the back.
        let level = self.gas_level(draw);
        let mut hu = vec![0f32; geometry.len()];
        hu.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
            for (x, value) in line.iter_mut().enumerate() {
                let y = row % ny;
                let tissue = match self.tissue.data()[row * nx + x] {
                    Some(Tissue::StomachContent) if y as f32 > level => Tissue::Gas,
                    Some(tissue) => tissue,
                    None => Tissue::Air,
                };
                let p = geometry.world_of([(row / ny) as f64, y as f64, x as f64]);
                *value = appearance.hu(tissue, p.map(|c| c as f32));
            }
        });
        hu
    }

    /// Index along A–P above which the stomach holds gas.
    fn gas_level(&self, draw: &mut Draw) -> f32 {
        let [_, ny, nx] = self.tissue.shape();
        let inside = self.tissue.data().iter().enumerate();
        let inside = inside.filter(|(_, t)| **t == Some(Tissue::StomachContent));
        let rows = inside.map(|(at, _)| at / nx % ny);
        let (low, high) = rows.fold((usize::MAX, 0), |(a, b), y| (a.min(y), b.max(y)));
        let share = draw.within(0.3, 1.2);
        if low > high {
            return f32::INFINITY;
        }
        low as f32 + share * (high - low) as f32
    }

    /// HU of the real scan, each structure moved to the brightness of its tissue.
    fn change(
        &self,
        image: &Volume<f32>,
        structures: &LabelMap,
        means: &[f32],
        appearance: &Appearance,
        draw: &mut Draw,
    ) -> Vec<f32> {
        let geometry = image.geometry();
        let [_, ny, nx] = geometry.shape;
        let (grain, contrast) = (draw.within(0.0, 1.0), draw.within(0.75, 1.4));
        let fat = appearance.mean(Tissue::VisceralFat) - means[0];
        let muscle = appearance.mean(Tissue::Muscle) - 55.0;
        let mut shifts = vec![0f32; geometry.len()];
        shifts.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
            for (x, shift) in line.iter_mut().enumerate() {
                let at = row * nx + x;
                let value = image.data()[at];
                let Some(tissue) = self.tissue.data()[at] else {
                    // Fat and soft tissue of the rest, by what they look like.
                    *shift = if value < -20.0 {
                        fat * ramp(value, -200.0, -130.0)
                    } else {
                        muscle * (1.0 - ramp(value, 150.0, 250.0))
                    };
                    continue;
                };
                let mean = means[usize::from(structures.data()[at])];
                let p = geometry.world_of([(row / ny) as f64, (row % ny) as f64, x as f64]);
                let own = appearance.mean(tissue);
                let texture = grain * (appearance.hu(tissue, p.map(|c| c as f32)) - own);
                if matches!(tissue, Tissue::CorticalBone | Tissue::Lung | Tissue::Gas) {
                    *shift = (contrast - 1.0) * 0.3 * (value - mean);
                } else {
                    // Gas, stool and the fat of a voxel at the border stay what they are.
                    let soft = ramp(value, -150.0, -10.0);
                    *shift = soft * (own - mean + texture + (contrast - 1.0) * (value - mean).clamp(-60.0, 60.0));
                }
            }
        });
        for axis in 0..3 {
            blur(&mut shifts, geometry.shape, axis, 0.45);
        }
        shifts.iter().zip(image.data()).map(|(shift, v)| v + shift).collect()
    }
}

/// 0 below `low`, 1 above `high`, straight between.
fn ramp(value: f32, low: f32, high: f32) -> f32 {
    ((value - low) / (high - low)).clamp(0.0, 1.0)
}

/// Mean HU of the soft voxels (−20 to 400; all where there are none) of each structure; of id 0, of its fat (−150 to −30).
fn means(image: &Volume<f32>, structures: &LabelMap) -> Vec<f32> {
    let mut sums = vec![[(0f64, 0u64); 2]; 256];
    for (&id, &value) in structures.data().iter().zip(image.data()) {
        let wanted = if id == 0 { -150.0..-30.0 } else { -20.0..400.0 };
        let [all, soft] = &mut sums[usize::from(id)];
        for (sum, counts) in [(all, true), (soft, wanted.contains(&value))] {
            if counts {
                *sum = (sum.0 + f64::from(value), sum.1 + 1);
            }
        }
    }
    let mean = |(sum, count): (f64, u64)| (sum / count.max(1) as f64) as f32;
    let best = |[all, soft]: [(f64, u64); 2]| mean(if soft.1 > 0 { soft } else { all });
    sums.into_iter().map(best).collect()
}

/// Where a voxel of a kind lies deeper than `depth` mm in it, in steps along the axes (so a little shallow at corners).
fn depth_of<T: Copy>(volume: &Volume<T>, is: impl Fn(T) -> bool, depth: f32) -> Vec<bool> {
    let [nz, ny, nx] = volume.shape();
    let step = volume.geometry().spacing.map(|s| s as f32);
    let mut way: Vec<f32> = volume
        .data()
        .iter()
        .map(|&t| if is(t) { f32::INFINITY } else { 0.0 })
        .collect();
    let strides = [ny * nx, nx, 1];
    let counts = [nz, ny, nx];
    // There and back along each axis; distances grow by whole steps, so one round of all axes settles them.
    for axis in 0..3 {
        let stride = strides[axis];
        for start in 0..way.len() {
            if start / stride % counts[axis] != 0 {
                continue;
            }
            let at = |i: usize| start + i * stride;
            for i in 1..counts[axis] {
                way[at(i)] = way[at(i)].min(way[at(i - 1)] + step[axis]);
            }
            for i in (0..counts[axis] - 1).rev() {
                way[at(i)] = way[at(i)].min(way[at(i + 1)] + step[axis]);
            }
        }
    }
    way.into_iter().map(|w| w > depth && w.is_finite()).collect()
}

/// Makes up what is not labelled; see [`Anatomy::new`].
fn fill(tissue: &mut Volume<Option<Tissue>>, structures: &LabelMap, under_lung: &[u8]) {
    let [nz, ny, nx] = structures.shape();
    let plane = structures.geometry().spacing[1].min(structures.geometry().spacing[2]) as f32;
    let slice = ny * nx;
    // Columns: the highest voxel of what the lungs lie on.
    let mut top = vec![None; slice];
    for (at, id) in structures.data().iter().enumerate() {
        if under_lung.contains(id) {
            top[at % slice] = Some(at / slice);
        }
    }
    let outlines: Vec<Outline> = (0..nz)
        .into_par_iter()
        .map(|z| {
            let near = z.saturating_sub(2)..(z + 3).min(nz);
            let labelled = near.flat_map(|z| (0..slice).map(move |i| (z, i)));
            let labelled = labelled.filter(|&(z, i)| structures.data()[z * slice + i] != 0);
            Outline::new(&hull(
                labelled.map(|(_, i)| [(i % nx) as f32, (i / nx) as f32]).collect(),
            ))
        })
        .collect();
    tissue
        .data_mut()
        .par_chunks_mut(nx)
        .enumerate()
        .for_each(|(row, line)| {
            let (z, y) = (row / ny, row % ny);
            for (x, t) in line.iter_mut().enumerate() {
                if t.is_some() || outlines[z].0.len() < 3 {
                    continue;
                }
                let out = plane * outlines[z].outside([x as f32, y as f32], BODY_MM / plane);
                let above = top[y * nx + x].is_some_and(|top| z > top + 1);
                *t = match out {
                    _ if out > BODY_MM => None,
                    _ if out > BODY_MM - SKIN_MM => Some(Tissue::Skin),
                    _ if out > 0.0 => Some(Tissue::SubcutaneousFat),
                    _ if out > -WALL_MM => Some(Tissue::Muscle),
                    _ if above => Some(Tissue::Lung),
                    _ => Some(Tissue::VisceralFat),
                };
            }
        });
}

/// Convex hull, counter-clockwise (Andrew's monotone chain).
fn hull(mut points: Vec<[f32; 2]>) -> Vec<[f32; 2]> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    let turn = |a: [f32; 2], b: [f32; 2], c: [f32; 2]| (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
    let chain = |points: &mut dyn Iterator<Item = [f32; 2]>| {
        let mut chain: Vec<[f32; 2]> = Vec::new();
        for p in points {
            while let [.., a, b] = chain[..]
                && turn(a, b, p) <= 0.0
            {
                chain.pop();
            }
            chain.push(p);
        }
        chain.pop();
        chain
    };
    let mut all = chain(&mut points.iter().copied());
    all.extend(chain(&mut points.iter().rev().copied()));
    all
}

/// The edges of a convex outline.
struct Outline(Vec<Edge>);

struct Edge {
    from: [f32; 2],
    along: [f32; 2],
    length: f32,
    /// Of length 1, outwards.
    normal: [f32; 2],
}

impl Outline {
    /// Of counter-clockwise corners; outside lies to the right of each edge.
    fn new(corners: &[[f32; 2]]) -> Self {
        let next = corners.iter().cycle().skip(1);
        let edges = corners.iter().zip(next).map(|(a, b)| {
            let along = [b[0] - a[0], b[1] - a[1]];
            let length = (along[0] * along[0] + along[1] * along[1]).sqrt().max(1e-6);
            let normal = [along[1] / length, -along[0] / length];
            Edge {
                from: *a,
                along,
                length,
                normal,
            }
        });
        Self(edges.collect())
    }

    /// Distance to it, negative inside; beyond `far` any value that is larger.
    fn outside(&self, p: [f32; 2], far: f32) -> f32 {
        let to = |e: &Edge| [p[0] - e.from[0], p[1] - e.from[1]];
        let beyond = |e: &Edge| to(e)[0] * e.normal[0] + to(e)[1] * e.normal[1];
        let most = self.0.iter().map(beyond).fold(f32::NEG_INFINITY, f32::max);
        if most <= 0.0 || most > far {
            return most;
        }
        let distance = |e: &Edge| {
            let to = to(e);
            let share = ((to[0] * e.along[0] + to[1] * e.along[1]) / (e.length * e.length)).clamp(0.0, 1.0);
            let (dx, dy) = (to[0] - share * e.along[0], to[1] - share * e.along[1]);
            (dx * dx + dy * dy).sqrt()
        };
        self.0.iter().map(distance).fold(f32::INFINITY, f32::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_to_an_outline() {
        // A square of 10, with a point inside and one on an edge that are no corners.
        let points = vec![
            [0.0, 0.0],
            [10.0, 0.0],
            [4.0, 4.0],
            [10.0, 10.0],
            [0.0, 10.0],
            [5.0, 0.0],
        ];
        let corners = hull(points);
        assert_eq!(corners.len(), 4);
        let outline = Outline::new(&corners);
        let wanted = [
            ([5.0, 4.0], -4.0),
            ([9.0, 5.0], -1.0),
            ([5.0, 0.0], 0.0),
            ([13.0, 5.0], 3.0),
            ([13.0, 14.0], 5.0),
            ([-3.0, -4.0], 5.0),
        ];
        for (p, distance) in wanted {
            assert!((outline.outside(p, 100.0) - distance).abs() < 1e-5, "{p:?}");
        }
        // Far away nobody asks how far.
        assert!(outline.outside([300.0, 400.0], 20.0) > 20.0);
    }
}
