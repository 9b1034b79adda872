//! Lesions as part of the organ that they lie in.

use crate::LabelMap;

/// Gives the voxels of lesions (ids for which `lesion` is true) the label of the organ that reaches them first, growing
/// from neighbour to neighbour (6) in rounds; a lesion that none reaches becomes background (0). Where several organs reach
/// a voxel in one round, the first in the order -z, +z, -y, +y, -x, +x takes it.
pub fn settle(labels: &mut LabelMap, lesion: impl Fn(u8) -> bool) {
    let shape = labels.shape();
    let strides = [shape[1] * shape[2], shape[2], 1];
    let data = labels.data_mut();
    let mut open: Vec<usize> = (0..data.len()).filter(|&i| lesion(data[i])).collect();
    while !open.is_empty() {
        // All of one round look at the same state: the result does not depend on the order.
        let mut settled = Vec::new();
        open.retain(|&i| {
            let index = [i / strides[0], i / strides[1] % shape[1], i % shape[2]];
            let neighbours = (0..3).flat_map(|a| {
                let lower = (index[a] > 0).then(|| i - strides[a]);
                let upper = (index[a] + 1 < shape[a]).then(|| i + strides[a]);
                [lower, upper]
            });
            let organ = neighbours.flatten().map(|n| data[n]).find(|&id| id > 0 && !lesion(id));
            settled.extend(organ.map(|id| (i, id)));
            organ.is_none()
        });
        if settled.is_empty() {
            open.drain(..).for_each(|i| data[i] = 0);
        }
        settled.into_iter().for_each(|(i, id)| data[i] = id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Volume};

    #[test]
    fn a_lesion_goes_to_the_organ_that_reaches_it_first() {
        // A lesion (9) from organ 1 to organ 2, one with only background around, and one of another kind inside organ 2.
        let line = vec![1, 9, 9, 9, 2, 0, 9, 0, 2, 8, 2];
        let geometry = Geometry::ras([1, 1, line.len()], [1.0; 3]);
        let mut labels = Volume::new(geometry, line).unwrap();
        settle(&mut labels, |id| id == 9);
        assert_eq!(labels.data(), [1, 1, 1, 2, 2, 0, 0, 0, 2, 8, 2]);
        settle(&mut labels, |id| id == 8);
        assert_eq!(labels.data()[8..], [2, 2, 2]);
        settle(&mut labels, |_| true);
        assert!(labels.data().iter().all(|&l| l == 0));
    }
}
