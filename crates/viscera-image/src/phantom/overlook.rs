//! Annotators overlook tumours.

use super::draw::Draw;
use super::organs::Label;
use crate::{ImageError, LabelMap, components};
use std::collections::BTreeMap;

/// The label map of someone who overlooks each tumour with probability `share`, and how many were overlooked.
///
/// A tumour is a 26-connected component of label 14; it is overlooked as a whole. Its voxels then bear the label of the
/// organ that touches most of them (face to face; the lower label of two that touch as many), or 0 where none does. The
/// same seed overlooks the same tumours, and those of a smaller share are among those of a larger one.
///
/// # Errors
/// [`ImageError::BadParameter`] for a share outside 0…1; as [`components`].
pub fn overlook_tumours(labels: &LabelMap, share: f32, seed: u64) -> Result<(LabelMap, usize), ImageError> {
    if !(0.0..=1.0).contains(&share) {
        return Err(ImageError::BadParameter {
            what: "share of overlooked tumours",
            value: f64::from(share),
        });
    }
    const TUMOUR: u8 = Label::Tumour as u8;
    let found = components(labels)?;
    let mut draw = Draw::new(seed, 12);
    let overlooked: Vec<bool> = found
        .list()
        .iter()
        .map(|c| c.label == TUMOUR && draw.chance(share))
        .collect();
    let count = overlooked.iter().filter(|o| **o).count();
    let mut seen = labels.clone();
    if count == 0 {
        return Ok((seen, 0));
    }

    let [nz, ny, nx] = labels.shape();
    let mut touching: Vec<BTreeMap<u8, usize>> = vec![BTreeMap::new(); overlooked.len()];
    for (component, run) in found.runs().filter(|(component, _)| overlooked[*component]) {
        for at in run {
            let (z, y, x) = (at / nx / ny, at / nx % ny, at % nx);
            let sides = [
                (z > 0).then(|| at - ny * nx),
                (z + 1 < nz).then_some(at + ny * nx),
                (y > 0).then(|| at - nx),
                (y + 1 < ny).then_some(at + nx),
                (x > 0).then(|| at - 1),
                (x + 1 < nx).then_some(at + 1),
            ];
            for side in sides.into_iter().flatten() {
                let label = labels.data()[side];
                if label != 0 && label != TUMOUR {
                    *touching[component].entry(label).or_default() += 1;
                }
            }
        }
    }
    // `max_by_key` gives the last of equals, so the labels run downwards.
    let organs: Vec<u8> = touching
        .iter()
        .map(|of| of.iter().rev().max_by_key(|(_, n)| **n).map_or(0, |(label, _)| *label))
        .collect();
    for (component, run) in found.runs().filter(|(component, _)| overlooked[*component]) {
        seen.data_mut()[run].fill(organs[component]);
    }
    Ok((seen, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Geometry, Volume};

    /// A liver with two tumours, a spleen with one that touches the air, and one in fat.
    fn map() -> LabelMap {
        let rows = [
            [1, 14, 1, 1, 1, 0, 0, 0],
            [1, 1, 14, 1, 1, 0, 14, 0],
            [1, 1, 1, 1, 14, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [3, 3, 14, 0, 0, 0, 0, 0],
            [3, 3, 3, 0, 0, 0, 0, 0],
        ];
        Volume::new(Geometry::ras([1, 6, 8], [1.0; 3]), rows.concat()).unwrap()
    }

    #[test]
    fn the_overlooked_become_the_organ_around() {
        let (seen, count) = overlook_tumours(&map(), 1.0, 1).unwrap();
        assert_eq!(count, 4);
        let at = |y: usize, x: usize| seen.data()[y * 8 + x];
        assert_eq!([at(0, 1), at(1, 2), at(2, 4), at(4, 2), at(1, 6)], [1, 1, 1, 3, 0]);
        assert_eq!(overlook_tumours(&map(), 0.0, 1).unwrap(), (map(), 0));
        for share in [f32::NAN, -0.1, 1.1] {
            assert!(overlook_tumours(&map(), share, 1).is_err());
        }
    }

    #[test]
    fn tumours_are_overlooked_whole_and_as_often_as_asked() {
        let (true_map, mut sum) = (map(), 0);
        let pieces = components(&true_map).unwrap();
        for seed in 0..200 {
            let (seen, count) = overlook_tumours(&true_map, 0.3, seed).unwrap();
            sum += count;
            let mut gone = vec![0; pieces.list().len()];
            for (component, run) in pieces.runs() {
                gone[component] += run.filter(|&i| seen.data()[i] != true_map.data()[i]).count();
            }
            let mut whole = 0;
            for (piece, gone) in pieces.list().iter().zip(gone) {
                assert!(gone == 0 || (piece.label == 14 && gone == piece.voxels));
                whole += usize::from(gone > 0);
            }
            assert_eq!(whole, count);
            let (more, _) = overlook_tumours(&true_map, 0.6, seed).unwrap();
            let both = |i: usize| seen.data()[i] == true_map.data()[i] || more.data()[i] == seen.data()[i];
            assert!((0..more.data().len()).all(both));
        }
        assert!((170..310).contains(&sum), "{sum} of 800");
    }
}
