//! 26-connected components of all labels of a label map in one pass.
//!
//! Each row is cut into runs of one label; runs of neighbouring rows that touch (edges and corners included) and carry the
//! same label are joined by union-find. The runs are kept, so components can be erased without labelling again. Equals
//! `scipy.ndimage.label` with a structure of 3 × 3 × 3 ones, called once per label.

use crate::{Box3, ImageError, LabelMap};
use rayon::prelude::*;

/// One connected piece of one label.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The label; never 0.
    pub label: u8,
    /// How many voxels it has.
    pub voxels: usize,
    /// Mean index `[z, y, x]` of its voxels.
    pub centroid: [f64; 3],
    /// The smallest box that holds it.
    pub bounding_box: Box3,
}

/// Voxels of one label side by side in a row.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
    label: u8,
}

/// The components of a label map, and which voxels belong to each.
#[derive(Debug, Clone)]
pub struct Components {
    shape: [usize; 3],
    components: Vec<Component>,
    runs: Vec<Run>,
    /// For each run its component.
    component_of: Vec<u32>,
    /// For each row (z, y) its first run; one more entry at the end.
    row_starts: Vec<u32>,
}

/// Finds the 26-connected components of every label but 0. Voxels connect only to voxels of the same label.
///
/// Components come in the order of their first voxels (z, then y, then x).
///
/// ```
/// use viscera_image::{components, Geometry, Volume};
/// // Two pieces of label 1 (the first two touch), one of label 2.
/// let labels = Volume::new(Geometry::ras([1, 2, 5], [1.0; 3]), vec![1, 0, 0, 0, 1, 0, 1, 2, 0, 0])?;
/// let found = components(&labels)?;
/// let sizes: Vec<_> = found.list().iter().map(|c| (c.label, c.voxels)).collect();
/// assert_eq!(sizes, [(1, 2), (1, 1), (2, 1)]);
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
///
/// # Errors
/// [`ImageError::BadGeometry`] for a grid of 2³² voxels or more.
pub fn components(labels: &LabelMap) -> Result<Components, ImageError> {
    let shape = labels.shape();
    let [nz, ny, nx] = shape;
    // Positions and numbers of runs are kept in 32 bits.
    if u32::try_from(labels.data().len()).is_err() {
        return Err(ImageError::BadGeometry {
            reason: format!("shape {shape:?} has 2^32 voxels or more"),
        });
    }
    let (runs, row_starts) = find_runs(labels.data(), ny, nx);

    // A parent never comes after its child, so a root is the first run of its component.
    let mut parent: Vec<u32> = (0..runs.len() as u32).collect();
    let row = |z: usize, y: usize| {
        let at = z * ny + y;
        row_starts[at] as usize..row_starts[at + 1] as usize
    };
    for z in 0..nz {
        for y in 0..ny {
            let here = row(z, y);
            if here.is_empty() {
                continue;
            }
            if y > 0 {
                join_rows(&runs, row(z, y - 1), here.clone(), &mut parent);
            }
            if z > 0 {
                for y in y.saturating_sub(1)..(y + 2).min(ny) {
                    join_rows(&runs, row(z - 1, y), here.clone(), &mut parent);
                }
            }
        }
    }

    let mut sums: Vec<[u64; 3]> = Vec::new();
    let mut components: Vec<Component> = Vec::new();
    let mut component_of = parent;
    for z in 0..nz {
        for y in 0..ny {
            for i in row(z, y) {
                let Run { start, end, label } = runs[i];
                let here = Box3 {
                    start: [z, y, start as usize],
                    end: [z + 1, y + 1, end as usize],
                };
                if component_of[i] as usize == i {
                    component_of[i] = components.len() as u32;
                    sums.push([0; 3]);
                    components.push(Component {
                        label,
                        voxels: 0,
                        centroid: [0.0; 3],
                        bounding_box: here,
                    });
                } else {
                    // The parent came before and already holds its component's number.
                    component_of[i] = component_of[component_of[i] as usize];
                }
                let c = component_of[i] as usize;
                let length = u64::from(end - start);
                components[c].voxels += length as usize;
                components[c].bounding_box = components[c].bounding_box.union(&here);
                sums[c][0] += z as u64 * length;
                sums[c][1] += y as u64 * length;
                sums[c][2] += (u64::from(start) + u64::from(end) - 1) * length / 2;
            }
        }
    }
    for (component, sum) in components.iter_mut().zip(sums) {
        component.centroid = sum.map(|s| s as f64 / component.voxels as f64);
    }
    Ok(Components {
        shape,
        components,
        runs,
        component_of,
        row_starts,
    })
}

impl Components {
    /// All components, in the order of their first voxels.
    #[must_use]
    pub fn list(&self) -> &[Component] {
        &self.components
    }

    /// The voxels of all components as runs in memory order: the component's place in [`Self::list`] and the offsets of
    /// its voxels in the data. Runs do not overlap and do not cross rows.
    pub fn runs(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + '_ {
        let nx = self.shape[2];
        self.row_starts.windows(2).enumerate().flat_map(move |(row, bounds)| {
            (bounds[0] as usize..bounds[1] as usize).map(move |i| {
                let run = self.runs[i];
                let at = row * nx;
                (
                    self.component_of[i] as usize,
                    at + run.start as usize..at + run.end as usize,
                )
            })
        })
    }

    /// Sets the voxels of every component for which `keep` is false to 0, and gives the erased components.
    ///
    /// `labels` is the map that the components were found in, or one derived from it: only voxels of erased components
    /// are touched.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when `labels` has another shape.
    pub fn retain(
        &self,
        labels: &mut LabelMap,
        mut keep: impl FnMut(&Component) -> bool,
    ) -> Result<Vec<&Component>, ImageError> {
        if labels.shape() != self.shape {
            return Err(ImageError::GridMismatch {
                left: self.shape,
                right: labels.shape(),
            });
        }
        let kept: Vec<bool> = self.components.iter().map(&mut keep).collect();
        let nx = self.shape[2];
        if kept.contains(&false) {
            for (row, voxels) in labels.data_mut().chunks_exact_mut(nx).enumerate() {
                for i in self.row_starts[row] as usize..self.row_starts[row + 1] as usize {
                    if !kept[self.component_of[i] as usize] {
                        voxels[self.runs[i].start as usize..self.runs[i].end as usize].fill(0);
                    }
                }
            }
        }
        Ok(self
            .components
            .iter()
            .zip(kept)
            .filter_map(|(component, kept)| (!kept).then_some(component))
            .collect())
    }
}

/// All runs in memory order, and for each row the number of runs before it (one more entry at the end).
fn find_runs(data: &[u8], ny: usize, nx: usize) -> (Vec<Run>, Vec<u32>) {
    let slices: Vec<(Vec<Run>, Vec<u32>)> = data
        .par_chunks(ny * nx)
        .map(|slice| {
            let mut runs = Vec::new();
            let mut counts = Vec::with_capacity(ny);
            for row in slice.chunks_exact(nx) {
                let before = runs.len();
                let mut x = 0;
                while x < nx {
                    let label = row[x];
                    let end = x + length_of_run(&row[x..]);
                    if label != 0 {
                        runs.push(Run {
                            start: x as u32,
                            end: end as u32,
                            label,
                        });
                    }
                    x = end;
                }
                counts.push((runs.len() - before) as u32);
            }
            (runs, counts)
        })
        .collect();
    let mut runs = Vec::with_capacity(slices.iter().map(|s| s.0.len()).sum());
    let mut row_starts = vec![0];
    let mut total = 0;
    for (slice, counts) in slices {
        runs.extend_from_slice(&slice);
        for count in counts {
            total += count;
            row_starts.push(total);
        }
    }
    (runs, row_starts)
}

/// How many values at the beginning equal the first one.
fn length_of_run(row: &[u8]) -> usize {
    const WIDTH: usize = 32;
    let Some(&value) = row.first() else { return 0 };
    // Whole blocks are compared without branches, which the compiler turns into wide loads.
    let equal = |block: &&[u8]| block.iter().fold(0, |acc, v| acc | (v ^ value)) == 0;
    let skipped = WIDTH * row.chunks_exact(WIDTH).take_while(equal).count();
    skipped + row[skipped..].iter().take_while(|&&v| v == value).count()
}

/// Joins the runs of two neighbouring rows that have one label and touch, be it by a corner.
fn join_rows(runs: &[Run], before: std::ops::Range<usize>, here: std::ops::Range<usize>, parent: &mut [u32]) {
    let (mut i, mut j) = (before.start, here.start);
    while i < before.end && j < here.end {
        let (a, b) = (runs[i], runs[j]);
        // Runs one voxel apart along x touch by a corner.
        if a.label == b.label && a.start <= b.end && b.start <= a.end {
            union(parent, i as u32, j as u32);
        }
        // Where both end together, each may also touch the other's successor by a corner.
        if a.end == b.end && j + 1 < here.end && runs[j + 1].start == a.end && runs[j + 1].label == a.label {
            union(parent, i as u32, (j + 1) as u32);
        }
        if a.end <= b.end {
            i += 1;
        } else {
            j += 1;
        }
    }
}

fn root(parent: &mut [u32], mut run: u32) -> u32 {
    while parent[run as usize] != run {
        let above = parent[parent[run as usize] as usize];
        parent[run as usize] = above; // halves the path
        run = above;
    }
    run
}

fn union(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parent, a), root(parent, b));
    if a < b {
        parent[b as usize] = a;
    } else {
        parent[a as usize] = b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Volume};
    use proptest::prelude::*;

    /// For each voxel the number of its component, 0 for background, by flood fill in the order of first voxels.
    fn flood(labels: &LabelMap) -> Vec<usize> {
        let [nz, ny, nx] = labels.shape().map(|n| n as isize);
        let mut found = vec![0; labels.data().len()];
        let mut count = 0;
        for seed in 0..found.len() {
            if labels.data()[seed] == 0 || found[seed] != 0 {
                continue;
            }
            count += 1;
            found[seed] = count;
            let mut open = vec![seed as isize];
            while let Some(at) = open.pop() {
                let (z, y, x) = (at / (ny * nx), at / nx % ny, at % nx);
                for step in 0..27 {
                    let (z, y, x) = (z + step / 9 - 1, y + step / 3 % 3 - 1, x + step % 3 - 1);
                    if z < 0 || y < 0 || x < 0 || z >= nz || y >= ny || x >= nx {
                        continue;
                    }
                    let next = (z * ny + y) * nx + x;
                    if found[next as usize] == 0 && labels.data()[next as usize] == labels.data()[seed] {
                        found[next as usize] = count;
                        open.push(next);
                    }
                }
            }
        }
        found
    }

    prop_compose! {
        /// Sparse to dense label maps of up to three labels, some rows longer than a block of comparison.
        fn label_maps()(shape in [1usize..6, 1usize..7, 1usize..80], density in 0.05f64..1.0, coarse in 1usize..6)(
            shape in Just(shape),
            density in Just(density),
            coarse in Just(coarse),
            noise in prop::collection::vec((0.0f64..1.0, 1u8..4), shape.iter().product::<usize>()),
        ) -> LabelMap {
            // Runs of `coarse` voxels share one draw.
            let data = (0..noise.len())
                .map(|i| noise[i / coarse * coarse])
                .map(|(chance, label)| if chance < density { label } else { 0 })
                .collect();
            Volume::new(Geometry::ras(shape, [1.0; 3]), data).unwrap()
        }
    }

    proptest! {
        #[test]
        fn equals_flood_fill(labels in label_maps()) {
            let expected = flood(&labels);
            let found = components(&labels).unwrap();
            let mut painted = vec![0; expected.len()];
            found.runs().for_each(|(component, run)| painted[run].fill(component + 1));
            prop_assert_eq!(&painted, &expected);
            prop_assert_eq!(found.list().len(), expected.iter().copied().max().unwrap_or(0));
            for (i, component) in found.list().iter().enumerate() {
                // Keeping one component alone shows which voxels it has.
                let mut alone = labels.clone();
                let erased = found.retain(&mut alone, |c| std::ptr::eq(c, component)).unwrap();
                prop_assert_eq!(erased.len(), found.list().len() - 1);
                for (voxel, number) in alone.data().iter().zip(&expected) {
                    prop_assert_eq!(*voxel, if *number == i + 1 { component.label } else { 0 });
                }
                prop_assert_eq!(component.voxels, alone.data().iter().filter(|&&v| v != 0).count());
                prop_assert_eq!(Some(component.bounding_box), crate::bounding_box(&alone, |v| v != 0));
            }
        }

        #[test]
        fn keeping_all_changes_nothing(labels in label_maps()) {
            let mut same = labels.clone();
            prop_assert!(components(&labels).unwrap().retain(&mut same, |_| true).unwrap().is_empty());
            prop_assert_eq!(same, labels);
        }
    }

    #[test]
    fn retain_refuses_another_grid() {
        let labels = Volume::filled(Geometry::ras([2, 2, 2], [1.0; 3]), 1u8).unwrap();
        let mut other = Volume::filled(Geometry::ras([2, 2, 3], [1.0; 3]), 1u8).unwrap();
        let found = components(&labels).unwrap();
        assert!(matches!(
            found.retain(&mut other, |_| false),
            Err(ImageError::GridMismatch { .. })
        ));
    }
}
