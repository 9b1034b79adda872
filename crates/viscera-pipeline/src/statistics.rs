//! What is measured of each organ in a finished label map.

use crate::PipelineError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use viscera_image::{Geometry, ImageError, Intensity, LabelMap, LabelTable, Volume};

/// Measures of one organ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Organ {
    /// Its id in the label map.
    pub id: u8,
    /// Its name.
    pub name: String,
    /// Its voxels; 0 when it was not found.
    pub voxels: u64,
    /// Its volume in ml.
    pub volume_ml: f64,
    /// Mean HU; `None` when it was not found.
    pub mean_hu: Option<f64>,
    /// Population standard deviation of its HU.
    pub std_hu: Option<f64>,
    /// World point `[R, A, S]` in mm of its centroid.
    pub centroid_mm: Option<[f64; 3]>,
    /// Whether it reaches the outermost voxels of the scan, so that more of it may lie outside.
    pub touches_border: bool,
}

/// Sums over the voxels of one label.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    voxels: u64,
    hu: f64,
    squares: f64,
    index: [u64; 3],
    border: bool,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.voxels += other.voxels;
        self.hu += other.hu;
        self.squares += other.squares;
        for (sum, part) in self.index.iter_mut().zip(other.index) {
            *sum += part;
        }
        self.border |= other.border;
    }

    fn organ(&self, id: u8, name: &str, grid: &Geometry) -> Organ {
        let n = self.voxels as f64;
        let found = self.voxels > 0;
        let mean = self.hu / n;
        Organ {
            id,
            name: name.to_owned(),
            voxels: self.voxels,
            volume_ml: n * grid.voxel_volume_mm3() / 1000.0,
            mean_hu: found.then_some(mean),
            std_hu: found.then(|| (self.squares / n - mean * mean).max(0.0).sqrt()),
            centroid_mm: found.then(|| grid.world_of(self.index.map(|sum| sum as f64 / n))),
            touches_border: self.border,
        }
    }
}

/// Measures every class of a table; classes that were not found have 0 voxels.
///
/// Sums are taken slice by slice and joined in order: the same bits for any number of threads.
///
/// # Errors
/// [`ImageError::GridMismatch`] when scan and label map have different shapes.
pub fn measure<T: Intensity>(
    scan: &Volume<T>,
    labels: &LabelMap,
    table: &LabelTable,
) -> Result<Vec<Organ>, PipelineError> {
    if scan.shape() != labels.shape() {
        return Err(ImageError::GridMismatch {
            left: scan.shape(),
            right: labels.shape(),
        }
        .into());
    }
    let [nz, ny, nx] = labels.shape();
    let slices: Vec<Vec<Sums>> = labels
        .data()
        .par_chunks(ny * nx)
        .zip(scan.data().par_chunks(ny * nx))
        .enumerate()
        .map(|(z, (labels, values))| {
            let mut sums = vec![Sums::default(); 256];
            for (y, (labels, values)) in labels.chunks_exact(nx).zip(values.chunks_exact(nx)).enumerate() {
                let edge = z == 0 || z + 1 == nz || y == 0 || y + 1 == ny;
                for (x, (&label, value)) in labels.iter().zip(values).enumerate() {
                    if label == 0 {
                        continue;
                    }
                    let hu = f64::from(value.to_f32());
                    sums[usize::from(label)].add(&Sums {
                        voxels: 1,
                        hu,
                        squares: hu * hu,
                        index: [z as u64, y as u64, x as u64],
                        border: edge || x == 0 || x + 1 == nx,
                    });
                }
            }
            sums
        })
        .collect();
    let mut total = vec![Sums::default(); 256];
    for slice in &slices {
        for (sum, part) in total.iter_mut().zip(slice) {
            sum.add(part);
        }
    }
    let organs = table
        .entries()
        .iter()
        .map(|e| total[usize::from(e.id)].organ(e.id, &e.name, labels.geometry()));
    Ok(organs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_of_the_voxels() {
        let grid = Geometry {
            origin: [10.0, 0.0, 0.0],
            ..Geometry::ras([3, 3, 4], [2.0, 1.0, 1.0])
        };
        let mut labels = Volume::filled(grid.clone(), 0u8).unwrap();
        let mut scan = Volume::filled(grid, 0i16).unwrap();
        for (x, hu) in [(1, 40), (2, 60)] {
            let at = labels.offset([1, 1, x]);
            labels.data_mut()[at] = 1;
            scan.data_mut()[at] = hu;
        }
        labels.data_mut()[0] = 3;
        let organs = measure(&scan, &labels, &LabelTable::flare13()).unwrap();
        assert_eq!(organs.len(), 13);
        let liver = &organs[0];
        assert_eq!((liver.voxels, liver.volume_ml), (2, 0.004));
        assert_eq!((liver.mean_hu, liver.std_hu), (Some(50.0), Some(10.0)));
        assert_eq!(liver.centroid_mm, Some([11.5, 1.0, 2.0]));
        assert!(!liver.touches_border && organs[2].touches_border);
        assert_eq!((organs[1].voxels, organs[1].mean_hu), (0, None));
    }
}
