//! Which way round the picture of a body lies, by the picture alone: bones lie behind, lungs above, and the largest solid
//! mass, the liver, on the right.
//!
//! A network that learnt organs by their places puts them into the same places of a flipped scan, with wrong shapes, so
//! its masks do not betray the flip. The scan is looked at in blocks of about 5 mm.

use crate::warning::Direction;
use crate::{PipelineError, Warning, Warnings};
use rayon::prelude::*;
use std::cmp::Reverse;
use viscera_image::{AxisMap, Geometry, Intensity, LabelMap, Volume, components, morphology};

/// Where bone begins, above contrast in vessels at most times.
const BONE_HU: f32 = 300.0;
/// Edge in mm of the blocks.
const BLOCK_MM: f64 = 5.0;
/// Radius in mm by which solid masses are eroded, so that muscles vanish and organs come apart; two blocks of 4 to 6 mm.
const CORE_MM: f64 = 12.1;
/// Radius in mm by which lungs are opened, so that the skin's partial volume vanishes; one block.
const RIM_MM: f64 = 6.1;
/// Least volumes in ml before anything is said.
const LEAST_BODY_ML: f64 = 1000.0;
const LEAST_BONE_ML: f64 = 10.0;
const LEAST_LUNG_ML: f64 = 150.0;
const LEAST_MASS_ML: f64 = 300.0;
/// Largest size of the second solid mass against the first: two thighs say nothing.
const MOST_SECOND: f64 = 0.6;
/// Farthest in mm that the spine may lie from the middle of the body; what lies farther out is colon full of contrast medium.
const MIDLINE_MM: f64 = 30.0;
/// Least share of slices in which a place of the spine has bone.
const STEADY: f64 = 0.5;
/// Half of the height in mm around the middle of the mass in which it must be larger than the lungs: the heart, which lies
/// on the left, is not.
const LEVEL_MM: f64 = 15.0;
/// Distances in mm towards the wrong end from which on a scan counts as flipped. Upright scans and phantoms have −14 (a spine
/// too dim beside bright bowel) to 60 (spine), −20 (lungs alone) to 200 (lungs) and 10 (with the heart) to 90 (liver) towards the right end.
const BONES_MM: f64 = 20.0;
const LUNGS_MM: f64 = 25.0;
const MASS_MM: f64 = 20.0;

/// How things lie in a scan, in mm along the patient's axes; `None` where too little of them is in view.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lie {
    /// How far the spine, the bones that most slices have in one place, lies behind the middle of the body.
    pub bones_behind_mm: Option<f64>,
    /// How far the lungs lie above the middle of the body.
    pub lungs_above_mm: Option<f64>,
    /// How far the largest solid mass lies to the right of the bones.
    pub mass_right_mm: Option<f64>,
}

impl Lie {
    /// Adds a warning for each direction in which the scan seems to be flipped.
    pub fn warn(&self, warnings: &mut Warnings) {
        for (direction, distance, least) in [
            (Direction::RightLeft, self.mass_right_mm, MASS_MM),
            (Direction::FrontBack, self.bones_behind_mm, BONES_MM),
            (Direction::HeadFeet, self.lungs_above_mm, LUNGS_MM),
        ] {
            if let Some(mm) = distance.map(|d| -d).filter(|mm| *mm > least) {
                warnings.push(Warning::Flipped { direction, mm });
            }
        }
    }
}

/// One block of a scan.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    mean: f32,
    std: f32,
    /// Share of voxels as bright as bone.
    bone: f32,
}

/// Looks at a scan in HU, whose axes may lie in any way.
///
/// # Errors
/// [`PipelineError::Image`] when memory is short.
pub fn lie_of_body<T: Intensity>(scan: &Volume<T>) -> Result<Lie, PipelineError> {
    let blocks = blocks(scan)?;
    let blocks = AxisMap::to_ras(blocks.geometry()).apply(&blocks);
    let grid = blocks.geometry();
    let ml = |voxels: f64| voxels * grid.voxel_volume_mm3() / 1000.0;

    // The largest thing that is no air, filled slice by slice: the patient, with what lies in him.
    let mut body = blocks.map(|b| u8::from(b.mean > -300.0));
    keep_largest(&mut body)?;
    morphology::fill_holes(&mut body, 1, true);
    let inside = |is: &dyn Fn(&Block) -> f64| {
        let weights = blocks.data().iter().zip(body.data());
        weights
            .map(|(b, body)| if *body == 1 { is(b) } else { 0.0 })
            .collect::<Vec<f64>>()
    };
    let (size, body_at) = centroid(grid, &inside(&|_| 1.0));
    let bones = inside(&|b| f64::from(b.bone));
    let (bone, bone_at) = centroid(grid, &bones);
    let (spine, spine_at) = centroid(grid, &upright(grid, &bones, body_at[2]));
    if ml(size) < LEAST_BODY_ML {
        return Ok(Lie::default());
    }

    let is_lung = inside(&|b| f64::from(u8::from((-950.0..-600.0).contains(&b.mean))));
    let mut lung = Volume::new(grid.clone(), is_lung.iter().map(|v| *v as u8).collect())?;
    morphology::open(&mut lung, 1, RIM_MM)?;
    let lung: Vec<f64> = lung.data().iter().map(|v| f64::from(*v)).collect();
    let (lungs, lung_at) = centroid(grid, &lung);

    let has_bones = ml(bone) >= LEAST_BONE_ML;
    Ok(Lie {
        bones_behind_mm: (has_bones && spine > 0.0).then(|| body_at[1] - spine_at[1]),
        lungs_above_mm: (ml(lungs) >= LEAST_LUNG_ML).then(|| lung_at[0] - body_at[0]),
        mass_right_mm: match has_bones {
            true => mass(grid, &inside(&solid), &lung)?.map(|x| x - bone_at[2]),
            false => None,
        },
    })
}

/// Bone, times the fourth power of the share of slices in which its place in the slice has bone: the spine stays, bowel full
/// of contrast medium does not. Only near `middle` (mm along x).
fn upright(grid: &Geometry, bones: &[f64], middle: f64) -> Vec<f64> {
    let [_, _, nx] = grid.shape;
    let is_near = |i: usize| ((i % nx) as f64 * grid.spacing[2] - middle).abs() <= MIDLINE_MM;
    let per_slice = grid.shape[1] * grid.shape[2];
    let mut share = vec![0.0f64; per_slice];
    for slice in bones.chunks_exact(per_slice) {
        for (share, bone) in share.iter_mut().zip(slice) {
            *share += f64::from(u8::from(*bone > 0.05)) / grid.shape[0] as f64;
        }
    }
    // Without a place that has bone in most slices no spine is seen.
    for (i, share) in share.iter_mut().enumerate() {
        if *share < STEADY || !is_near(i) {
            *share = 0.0;
        }
    }
    let columns = share.iter().cycle();
    bones
        .iter()
        .zip(columns)
        .map(|(bone, share)| bone * share.powi(4))
        .collect()
}

/// 1 for even soft tissue.
fn solid(block: &Block) -> f64 {
    let even = block.std < 60.0 && block.bone < 0.05;
    f64::from(u8::from(even && (0.0..250.0).contains(&block.mean)))
}

/// Place in mm along x of the largest solid mass, if it is of some size, by far the largest, and not among the lungs.
fn mass(grid: &Geometry, solid: &[f64], lung: &[f64]) -> Result<Option<f64>, PipelineError> {
    let mut core = Volume::new(grid.clone(), solid.iter().map(|v| *v as u8).collect())?;
    morphology::erode(&mut core, 1, CORE_MM)?;
    let second = keep_largest(&mut core)?;
    let core: Vec<f64> = core.data().iter().map(|v| f64::from(*v)).collect();
    let (size, at) = centroid(grid, &core);
    if size * grid.voxel_volume_mm3() / 1000.0 < LEAST_MASS_ML || second as f64 > MOST_SECOND * size {
        return Ok(None);
    }
    let per_slice = grid.shape[1] * grid.shape[2];
    let level = |values: &[f64]| -> f64 {
        let slices = values.chunks_exact(per_slice).enumerate();
        let near = slices.filter(|(z, _)| (*z as f64 * grid.spacing[0] - at[0]).abs() <= LEVEL_MM);
        near.map(|(_, slice)| slice.iter().sum::<f64>()).sum()
    };
    Ok((level(&core) > level(lung)).then_some(at[2]))
}

/// Keeps the largest component, and gives the voxels of the second largest.
fn keep_largest(labels: &mut LabelMap) -> Result<usize, PipelineError> {
    let found = components(labels)?;
    let mut by_size: Vec<usize> = (0..found.list().len()).collect();
    by_size.sort_by_key(|&i| Reverse(found.list()[i].voxels));
    let mut places = 0..;
    found.retain(labels, |_| places.next() == by_size.first().copied())?;
    Ok(by_size.get(1).map_or(0, |&i| found.list()[i].voxels))
}

/// The sum of weights of voxels, and their mean place in mm from the first voxel along each axis.
fn centroid(grid: &Geometry, weights: &[f64]) -> (f64, [f64; 3]) {
    let [_, ny, nx] = grid.shape;
    let (mut sum, mut at) = (0.0, [0.0; 3]);
    for (i, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        sum += weight;
        for (a, index) in [i / (ny * nx), i / nx % ny, i % nx].into_iter().enumerate() {
            at[a] += weight * index as f64;
        }
    }
    (
        sum,
        std::array::from_fn(|a| at[a] / sum.max(f64::MIN_POSITIVE) * grid.spacing[a]),
    )
}

/// Means, deviations and shares of bone of blocks of voxels. Voxels beyond the last whole block are left out.
fn blocks<T: Intensity>(scan: &Volume<T>) -> Result<Volume<Block>, PipelineError> {
    let grid = scan.geometry();
    let size: [usize; 3] = std::array::from_fn(|a| {
        let voxels = (BLOCK_MM / grid.spacing[a]).round().max(1.0) as usize;
        voxels.min(grid.shape[a])
    });
    let shape: [usize; 3] = std::array::from_fn(|a| grid.shape[a] / size[a]);
    let coarse = Geometry {
        shape,
        spacing: std::array::from_fn(|a| grid.spacing[a] * size[a] as f64),
        origin: grid.world_of(size.map(|n| (n as f64 - 1.0) / 2.0)),
        direction: grid.direction,
    };
    let [_, ny, nx] = grid.shape;
    let count = size.iter().product::<usize>() as f32;
    let layers: Vec<Vec<Block>> = scan
        .data()
        .par_chunks_exact(size[0] * ny * nx)
        .map(|slab| {
            let mut layer = vec![Block::default(); shape[1] * shape[2]];
            for (row, voxels) in slab.chunks_exact(nx).enumerate() {
                let y = row % ny / size[1];
                if y >= shape[1] {
                    continue;
                }
                let blocks = &mut layer[y * shape[2]..][..shape[2]];
                for (block, voxels) in blocks.iter_mut().zip(voxels.chunks_exact(size[2])) {
                    for hu in voxels.iter().map(|v| v.to_f32().clamp(-1024.0, 1500.0)) {
                        block.mean += hu;
                        block.std += hu * hu;
                        block.bone += f32::from(u8::from(hu > BONE_HU));
                    }
                }
            }
            for block in &mut layer {
                block.mean /= count;
                block.std = (block.std / count - block.mean * block.mean).max(0.0).sqrt();
                block.bone /= count;
            }
            layer
        })
        .collect();
    Ok(Volume::new(coarse, layers.concat())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::phantom::{FieldOfView, PhantomConfig, generate};

    fn scan(seed: u64) -> Volume<i16> {
        let config = PhantomConfig {
            spacing: Some([5.0, 4.0, 4.0]),
            field_of_view: Some(FieldOfView::Abdomen),
            orientation: Some("RAS".to_owned()),
            ..PhantomConfig::default()
        };
        generate(&config, seed).unwrap().image
    }

    /// The same voxels in the same grid, the other way round along an axis.
    fn flipped(scan: &Volume<i16>, axis: usize) -> Volume<i16> {
        let [nz, ny, nx] = scan.shape();
        let at = |i: usize| {
            let mut index = [i / (ny * nx), i / nx % ny, i % nx];
            index[axis] = [nz, ny, nx][axis] - 1 - index[axis];
            scan.data()[scan.offset(index)]
        };
        Volume::new(scan.geometry().clone(), (0..scan.data().len()).map(at).collect()).unwrap()
    }

    fn codes(scan: &Volume<i16>) -> Vec<&'static str> {
        let mut warnings = Warnings::default();
        lie_of_body(scan).unwrap().warn(&mut warnings);
        warnings.list().iter().map(Warning::code).collect()
    }

    #[test]
    fn flips_are_seen_and_upright_scans_are_not_reported() {
        for seed in 0..4 {
            let scan = scan(seed);
            assert!(codes(&scan).is_empty(), "seed {seed}: {:?}", lie_of_body(&scan));
            for (axis, code) in [(2, "mirrored"), (0, "upside-down")] {
                assert_eq!(codes(&flipped(&scan, axis)), [code], "seed {seed}");
            }
        }
        // Thin bones are not bright in so coarse a grid, so not every seed has enough of them.
        assert!((0..4).any(|seed| codes(&flipped(&scan(seed), 1)) == ["back-to-front"]));
    }

    #[test]
    fn the_files_axes_do_not_matter() {
        let scan = scan(2);
        let first = lie_of_body(&scan).unwrap();
        for map in AxisMap::all().step_by(5) {
            let turned = lie_of_body(&map.apply(&scan)).unwrap();
            for (a, b) in [
                (turned.bones_behind_mm, first.bones_behind_mm),
                (turned.lungs_above_mm, first.lungs_above_mm),
                (turned.mass_right_mm, first.mass_right_mm),
            ] {
                assert!(
                    a.is_some() == b.is_some() && a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 6.0),
                    "{map:?}: {turned:?}, {first:?}"
                );
            }
        }
    }

    #[test]
    fn too_little_says_nothing() {
        let air = Volume::filled(Geometry::ras([3, 4, 5], [5.0; 3]), -1000i16).unwrap();
        assert_eq!(lie_of_body(&air).unwrap(), Lie::default());
        let meat = Volume::filled(Geometry::ras([60, 60, 60], [5.0; 3]), 50i16).unwrap();
        assert_eq!(lie_of_body(&meat).unwrap(), Lie::default());
    }
}
