//! Where each class lies.

use rayon::prelude::*;
use viscera_image::{Box3, LabelMap};

/// Voxels looked at together. Most groups are of one class, often the one before them.
const GROUP: usize = 16;

/// The bounding box of every class of a label map.
pub(crate) struct ClassBounds(Vec<Option<Box3>>);

impl ClassBounds {
    /// Finds all boxes in one pass, multi-threaded over slices.
    pub(crate) fn of(labels: &LabelMap) -> Self {
        let [_, ny, nx] = labels.shape();
        let empty = || Self(vec![None; 256]);
        labels
            .data()
            .par_chunks((ny * nx).max(1))
            .enumerate()
            .fold(empty, |mut bounds, (z, slice)| {
                for (y, row) in slice.chunks(nx.max(1)).enumerate() {
                    bounds.add_row(z, y, row);
                }
                bounds
            })
            .reduce(empty, |a, b| {
                Self(a.0.into_iter().zip(b.0).map(|(a, b)| union(a, b)).collect())
            })
    }

    /// The box of a class; `None` when it does not occur.
    pub(crate) fn of_class(&self, class: u8) -> Option<Box3> {
        self.0.get(usize::from(class)).copied().flatten()
    }

    /// Adds the runs of equal labels in a row.
    fn add_row(&mut self, z: usize, y: usize, row: &[u8]) {
        let Some(&first) = row.first() else { return };
        let (mut label, mut start) = (first, 0);
        for (group, labels) in row.chunks(GROUP).enumerate() {
            if labels.iter().fold(0, |differs, &l| differs | (l ^ label)) == 0 {
                continue;
            }
            for (x, &here) in (group * GROUP..).zip(labels) {
                if here != label {
                    self.add_run(label, z, y, start, x);
                    (label, start) = (here, x);
                }
            }
        }
        self.add_run(label, z, y, start, row.len());
    }

    fn add_run(&mut self, label: u8, z: usize, y: usize, start: usize, end: usize) {
        let run = Box3 {
            start: [z, y, start],
            end: [z + 1, y + 1, end],
        };
        if let Some(bounds) = self.0.get_mut(usize::from(label)) {
            *bounds = union(*bounds, Some(run));
        }
    }
}

/// The smallest box around both.
pub(crate) fn union(a: Option<Box3>, b: Option<Box3>) -> Option<Box3> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Box3 {
            start: std::array::from_fn(|axis| a.start[axis].min(b.start[axis])),
            end: std::array::from_fn(|axis| a.end[axis].max(b.end[axis])),
        }),
        (one, None) | (None, one) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::{Geometry, bounding_box};

    #[test]
    fn boxes_are_those_of_each_class_alone() {
        let shape = [3, 5, 41];
        let mut data = vec![0; 3 * 5 * 41];
        for (i, label) in data.iter_mut().enumerate() {
            // Runs shorter and longer than a group, across rows and slices.
            *label = [0, 0, 3, 0, 200, 0, 0, 7][i / 11 % 8] * u8::from(!(30..140).contains(&i));
        }
        let labels = LabelMap::new(Geometry::ras(shape, [1.0; 3]), data).unwrap();
        let bounds = ClassBounds::of(&labels);
        for class in 0..=255 {
            let one = bounding_box(&labels, |label| label == class);
            assert_eq!(bounds.of_class(class), one, "class {class}");
        }
    }
}
