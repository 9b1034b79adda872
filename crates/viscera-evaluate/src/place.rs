//! Brings a label map onto another grid.

use rayon::prelude::*;
use viscera_image::{Geometry, ImageError, LabelMap};

/// The label map on the grid of `target`: each voxel takes the label of the nearest voxel in the world, the upper index
/// of two equally near; outside the label map it is background.
///
/// Grids may lie in any way to each other. The result is the same for any number of threads.
///
/// # Errors
/// [`ImageError::BadGeometry`] for a target grid that cannot be.
pub(crate) fn onto_grid(labels: &LabelMap, target: &Geometry) -> Result<LabelMap, ImageError> {
    let mut placed = LabelMap::filled(target.clone(), 0)?;
    let source = labels.geometry();
    // The map between the indices of two grids is affine, so that it is known by its values at four points.
    let index = |index: [f64; 3]| source.index_of(target.world_of(index));
    let start = index([0.0; 3]);
    let step = |axis: usize| -> [f64; 3] {
        let mut unit = [0.0; 3];
        unit[axis] = 1.0;
        let there = index(unit);
        std::array::from_fn(|a| there[a] - start[a])
    };
    let [dz, dy, dx] = [step(0), step(1), step(2)];
    let [_, ny, nx] = target.shape;
    placed.data_mut().par_chunks_mut(nx).enumerate().for_each(|(row, out)| {
        let (z, y) = ((row / ny) as f64, (row % ny) as f64);
        let row_start: [f64; 3] = std::array::from_fn(|a| start[a] + z * dz[a] + y * dy[a]);
        for (x, label) in out.iter_mut().enumerate() {
            let nearest: [f64; 3] = std::array::from_fn(|a| (row_start[a] + x as f64 * dx[a] + 0.5 + ROUNDING).floor());
            let inside = (0..3).all(|a| nearest[a] >= 0.0 && nearest[a] < source.shape[a] as f64);
            if inside {
                *label = labels.get(nearest.map(|i| i as usize)).unwrap_or_default();
            }
        }
    });
    Ok(placed)
}

/// Voxels that lie in the middle between two others by their headers must not fall to one or the other by rounding.
const ROUNDING: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::AxisMap;

    fn labels(geometry: Geometry) -> LabelMap {
        let data = (0..geometry.len()).map(|i| (i * 7 % 251) as u8).collect();
        LabelMap::new(geometry, data).unwrap()
    }

    fn oblique() -> Geometry {
        let (s, c) = 0.3f64.sin_cos();
        Geometry {
            origin: [11.0, -2.0, 3.0],
            direction: [[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]],
            ..Geometry::ras([4, 5, 6], [2.5, 0.5, 0.75])
        }
    }

    #[test]
    fn turned_axes_come_back_voxel_by_voxel() {
        let original = labels(oblique());
        for map in AxisMap::all() {
            let turned = map.apply(&original);
            let back = onto_grid(&turned, original.geometry()).unwrap();
            assert!(back.data() == original.data(), "{map:?}");
        }
    }

    #[test]
    fn agrees_with_a_look_up_of_each_voxel() {
        let original = labels(oblique());
        let target = Geometry {
            origin: [7.0, -5.0, 1.0],
            ..Geometry::ras([9, 8, 7], [1.1, 0.9, 0.7])
        };
        let placed = onto_grid(&original, &target).unwrap();
        let mut inside = 0;
        for z in 0..9 {
            for y in 0..8 {
                for x in 0..7 {
                    let at = original
                        .geometry()
                        .index_of(target.world_of([z, y, x].map(|i| i as f64)))
                        .map(f64::round);
                    let expected = if at.iter().all(|&i| i >= 0.0) {
                        original.get(at.map(|i| i as usize))
                    } else {
                        None
                    };
                    inside += usize::from(expected.is_some());
                    assert_eq!(placed.get([z, y, x]), Some(expected.unwrap_or(0)), "{z} {y} {x}");
                }
            }
        }
        assert!(inside > 20, "{inside} voxels meet");
    }
}
