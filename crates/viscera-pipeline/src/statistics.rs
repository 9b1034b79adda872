//! What is measured of each organ in a finished label map.

use crate::PipelineError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use viscera_image::{Geometry, ImageError, Intensity, LabelMap, LabelTable, Volume, components};

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
    /// Which sides of the scan it reaches.
    pub borders: Vec<Side>,
    /// How many pieces it has (26 neighbours).
    pub components: usize,
    /// The largest piece's share of its voxels; `None` when it was not found.
    pub largest_share: Option<f64>,
    /// Mean probability of the class over the voxels that its network gave to it, 0 to 1; on the network's grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Mean entropy there, from 0 (certain) to 1 (no idea).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
}

/// A side of the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The patient's right.
    Right,
    /// The patient's left.
    Left,
    /// Front.
    Anterior,
    /// Back.
    Posterior,
    /// Head.
    Superior,
    /// Feet.
    Inferior,
}

impl Side {
    /// The sides that the first and the last slice across an axis of a grid face, for axes at any angle the nearest ones.
    fn of_axis(grid: &Geometry, axis: usize) -> [Self; 2] {
        const SIDES: [[Side; 2]; 3] = [
            [Side::Left, Side::Right],
            [Side::Posterior, Side::Anterior],
            [Side::Inferior, Side::Superior],
        ];
        let along = grid.direction[axis];
        let world = (0..3).fold(0, |best, w| if along[w].abs() > along[best].abs() { w } else { best });
        let [low, high] = SIDES[world];
        if along[world] < 0.0 { [high, low] } else { [low, high] }
    }
}

/// Sums over the voxels of one label.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    voxels: u64,
    hu: f64,
    squares: f64,
    index: [u64; 3],
    /// Whether the first and the last slice across each axis are reached.
    border: [[bool; 2]; 3],
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.voxels += other.voxels;
        self.hu += other.hu;
        self.squares += other.squares;
        for (sum, part) in self.index.iter_mut().zip(other.index) {
            *sum += part;
        }
        for (all, part) in self.border.iter_mut().zip(other.border) {
            *all = [all[0] | part[0], all[1] | part[1]];
        }
    }

    /// `pieces` are the voxels of its components.
    fn organ(&self, id: u8, name: &str, grid: &Geometry, pieces: &[usize]) -> Organ {
        let n = self.voxels as f64;
        let found = self.voxels > 0;
        let mean = self.hu / n;
        let mut borders: Vec<Side> = (0..3)
            .flat_map(|a| Side::of_axis(grid, a).into_iter().zip(self.border[a]))
            .filter_map(|(side, reached)| reached.then_some(side))
            .collect();
        borders.sort_unstable();
        Organ {
            id,
            name: name.to_owned(),
            voxels: self.voxels,
            volume_ml: n * grid.voxel_volume_mm3() / 1000.0,
            mean_hu: found.then_some(mean),
            std_hu: found.then(|| (self.squares / n - mean * mean).max(0.0).sqrt()),
            centroid_mm: found.then(|| grid.world_of(self.index.map(|sum| sum as f64 / n))),
            touches_border: !borders.is_empty(),
            borders,
            components: pieces.len(),
            largest_share: pieces.iter().max().map(|&voxels| voxels as f64 / n),
            confidence: None,
            entropy: None,
        }
    }
}

/// Measures every class of a table; classes that were not found have 0 voxels.
///
/// Sums are taken slice by slice and joined in order: the same bits for any number of threads.
///
/// # Errors
/// [`ImageError::GridMismatch`] when scan and label map have different shapes; [`ImageError::BadGeometry`] for a grid of 2³²
/// voxels or more.
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
                let edges = [[z == 0, z + 1 == nz], [y == 0, y + 1 == ny]];
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
                        border: [edges[0], edges[1], [x == 0, x + 1 == nx]],
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
    let found = components(labels)?;
    let organs = table.entries().iter().map(|e| {
        let pieces = found.list().iter().filter(|c| c.label == e.id);
        let pieces: Vec<usize> = pieces.map(|c| c.voxels).collect();
        total[usize::from(e.id)].organ(e.id, &e.name, labels.geometry(), &pieces)
    });
    Ok(organs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::AxisMap;

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
        assert_eq!((organs[1].components, organs[1].largest_share), (0, None));
        assert_eq!((liver.components, liver.largest_share), (1, Some(1.0)));
    }

    #[test]
    fn sides_are_the_patients_whatever_the_file() {
        // Spleen at the feet and at the right; two pieces of three and one voxels.
        let grid = Geometry::ras([4, 5, 6], [1.0; 3]);
        let mut labels = Volume::filled(grid, 0u8).unwrap();
        for index in [[0, 2, 3], [1, 2, 3], [0, 2, 2], [2, 2, 5]] {
            let at = labels.offset(index);
            labels.data_mut()[at] = 3;
        }
        for map in AxisMap::all() {
            let labels = map.apply(&labels);
            let scan = labels.map(i16::from);
            let spleen = measure(&scan, &labels, &LabelTable::flare13()).unwrap().remove(2);
            assert_eq!(spleen.borders, [Side::Right, Side::Inferior], "{map:?}");
            assert_eq!((spleen.components, spleen.largest_share), (2, Some(0.75)));
        }
    }
}
