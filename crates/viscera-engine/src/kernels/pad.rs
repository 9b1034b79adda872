//! Zeros around the voxels, or voxels taken away.

use crate::element::Element;
use crate::layout::Blocked;

/// Output voxel `o` is input voxel `o − before`; zero where there is none. With `−before` it turns the gradient of the output
/// into that of the input.
pub(crate) fn pad<E: Element>(before: [isize; 3], x: &Blocked<E>, y: &mut Blocked<E>) {
    let (from, to) = (x.dims.extent, y.dims.extent);
    let source = |axis: usize, o: usize| o.checked_add_signed(-before[axis]).filter(|&i| i < from[axis]);
    // The outputs along x that have an input.
    let first = before[2].max(0).unsigned_abs().min(to[2]);
    let last = from[2].saturating_add_signed(before[2]).min(to[2]).max(first);
    let start = first.saturating_add_signed(-before[2]);
    y.fill_rows(|sample, block, oz, oy, row| {
        row.fill(E::ZERO);
        if let (Some(z), Some(yy)) = (source(0, oz), source(1, oy)) {
            let values = &x.row(sample, block, z, yy)[start..start + last - first];
            row[first..last].copy_from_slice(values);
        }
    });
}
