//! Which slices to show, and how to find their voxels in a file whose axes lie in any way.

use rayon::prelude::*;
use viscera_image::{AxisMap, Geometry, LabelMap};

/// A volume seen in RAS+ without being turned.
#[derive(Debug, Clone)]
pub(super) struct RasView {
    map: AxisMap,
    /// Shape in the file.
    source: [usize; 3],
    /// The turned grid.
    pub(super) grid: Geometry,
}

impl RasView {
    pub(super) fn new(source: &Geometry) -> Self {
        let map = AxisMap::to_ras(source);
        Self {
            map,
            source: source.shape,
            grid: map.geometry(source),
        }
    }

    /// Extent in mm along `[z, y, x]` of RAS+.
    pub(super) fn extent_mm(&self) -> [f64; 3] {
        std::array::from_fn(|a| self.grid.shape[a] as f64 * self.grid.spacing[a])
    }

    /// Position in the file's data of a voxel in RAS+.
    pub(super) fn offset(&self, index: [usize; 3]) -> usize {
        let mut at = [0; 3];
        for a in 0..3 {
            let along = self.map.perm()[a];
            at[along] = if self.map.flip()[a] {
                self.grid.shape[a] - 1 - index[a]
            } else {
                index[a]
            };
        }
        (at[0] * self.source[1] + at[1]) * self.source[2] + at[2]
    }
}

/// The slices that show most.
pub(super) struct Best {
    /// Position along z (axial), y (coronal) and x (sagittal) of RAS+.
    pub(super) slices: [usize; 3],
}

/// Voxels per label, for each slice along each axis of the file.
type Counts = [Vec<[u32; 256]>; 3];

impl Best {
    /// Each organ counts by the square root of its share of its own largest slice, so that a slice through many organs
    /// wins over one through the middle of the largest. Without any label, the middle.
    pub(super) fn new(labels: &LabelMap, view: &RasView) -> Self {
        let counts = count(labels);
        let slices = std::array::from_fn(|a| {
            let along = view.map.perm()[a];
            let n = labels.shape()[along];
            let counts = &counts[along];
            let mut largest = [0u32; 256];
            for slice in counts {
                for (most, &count) in largest.iter_mut().zip(slice) {
                    *most = (*most).max(count);
                }
            }
            let score = |position: usize| -> f64 {
                let slice = if view.map.flip()[a] { n - 1 - position } else { position };
                (1..256)
                    .filter(|&label| largest[label] > 0)
                    .map(|label| (f64::from(counts[slice][label]) / f64::from(largest[label])).sqrt())
                    .sum()
            };
            // Of equal ones the nearest to the middle.
            let mut positions: Vec<usize> = (0..n).collect();
            positions.sort_by_key(|&position| position.abs_diff(n / 2));
            let mut best = (n / 2, 0.0);
            for position in positions {
                let score = score(position);
                if score > best.1 {
                    best = (position, score);
                }
            }
            best.0
        });
        Self { slices }
    }
}

fn count(labels: &LabelMap) -> Counts {
    let [nz, ny, nx] = labels.shape();
    let empty = || -> Counts { [nz, ny, nx].map(|n| vec![[0u32; 256]; n]) };
    // Whole numbers, so the order of adding does not matter.
    let per_thread = nz.div_ceil(rayon::current_num_threads()).max(1);
    let parts = labels
        .data()
        .par_chunks(per_thread * ny * nx)
        .enumerate()
        .map(|(part, data)| {
            let mut counts = empty();
            for (row, values) in data.chunks_exact(nx).enumerate() {
                let (z, y) = (part * per_thread + row / ny, row % ny);
                for (x, &label) in values.iter().enumerate().filter(|(_, label)| **label != 0) {
                    let label = usize::from(label);
                    counts[0][z][label] += 1;
                    counts[1][y][label] += 1;
                    counts[2][x][label] += 1;
                }
            }
            counts
        });
    parts.reduce(empty, |mut a, b| {
        for (a, b) in a.iter_mut().flatten().flatten().zip(b.iter().flatten().flatten()) {
            *a += b;
        }
        a
    })
}
