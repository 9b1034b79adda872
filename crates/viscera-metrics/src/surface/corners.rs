//! The corners between voxels at which a mask has its surface.

use viscera_image::{Box3, LabelMap};

/// The mask of one class inside a box of voxels; everything outside the box counts as background.
///
/// A box of `n` voxels along an axis has `n + 1` corners along it. Corner `i` lies between the voxels `i - 1` and `i`.
#[derive(Clone, Copy)]
pub(super) struct Mask<'a> {
    pub(super) labels: &'a LabelMap,
    pub(super) class: u8,
    pub(super) bounds: Box3,
}

impl Mask<'_> {
    /// Corners along `[z, y, x]`.
    pub(super) fn corners(&self) -> [usize; 3] {
        self.bounds.shape().map(|n| n + 1)
    }

    /// The voxels of the box along x just before the corners `z` and `y`; `None` outside the box.
    fn row(&self, z: usize, y: usize) -> Option<&[u8]> {
        let at = |axis: usize, corner: usize| {
            let voxel = (self.bounds.start[axis] + corner).checked_sub(1)?;
            (self.bounds.start[axis]..self.bounds.end[axis])
                .contains(&voxel)
                .then_some(voxel)
        };
        let (z, y) = (at(0, z)?, at(1, y)?);
        let first = self.labels.offset([z, y, self.bounds.start[2]]);
        self.labels.data().get(first..)?.get(..self.bounds.shape()[2])
    }

    /// Writes the codes (see [`super::area`]) of the corners along x at `(z, y)`; `codes` holds one per corner.
    pub(super) fn codes(&self, z: usize, y: usize, codes: &mut [u8]) {
        // First the four voxels around each line along x in the even bits, then each corner's code from two of them.
        codes.fill(0);
        let voxels = codes.len().saturating_sub(1);
        for (dz, dy, bit) in [(0, 0, 64), (0, 1, 16), (1, 0, 4), (1, 1, 1)] {
            if let Some(row) = self.row(z + dz, y + dy) {
                for (code, &label) in codes[..voxels].iter_mut().zip(row) {
                    *code |= if label == self.class { bit } else { 0 };
                }
            }
        }
        for x in (1..codes.len()).rev() {
            codes[x] |= codes[x - 1] << 1;
        }
    }
}

/// Whether a code has voxels inside and outside.
pub(super) fn is_border(code: u8) -> bool {
    code.wrapping_add(1) > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::Geometry;

    #[test]
    fn codes_look_at_the_eight_voxels_around_a_corner() {
        let shape = [3, 4, 5];
        let data: Vec<u8> = (0..60).map(|i| u8::from(i * i % 7 < 3) * 2).collect();
        let labels = LabelMap::new(Geometry::ras(shape, [1.0; 3]), data).unwrap();
        // A box inside the map, to the border on some sides: voxels outside the box must not count.
        let bounds = Box3 {
            start: [0, 1, 1],
            end: [2, 4, 4],
        };
        let mask = Mask {
            labels: &labels,
            class: 2,
            bounds,
        };
        let [nz, ny, nx] = mask.corners();
        let mut codes = vec![9; nx];
        for z in 0..nz {
            for y in 0..ny {
                mask.codes(z, y, &mut codes);
                for x in 0..nx {
                    let mut expected = 0;
                    for (i, (dz, dy, dx)) in (0..8).map(|i| (i, (i >> 2, i >> 1 & 1, i & 1))) {
                        let voxel = [z + dz, y + dy + 1, x + dx + 1].map(|v| v.wrapping_sub(1));
                        let within = (0..3).all(|a| (bounds.start[a]..bounds.end[a]).contains(&voxel[a]));
                        if within && labels.get(voxel) == Some(2) {
                            expected |= 128 >> i;
                        }
                    }
                    assert_eq!(codes[x], expected, "{z} {y} {x}");
                    assert_eq!(is_border(codes[x]), !matches!(expected, 0 | 255));
                }
            }
        }
    }
}
