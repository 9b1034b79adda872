//! The distance of every border corner of one mask from the nearest border corner of another.

use super::corners::{Mask, is_border};
use super::envelope::Envelope;
use rayon::prelude::*;

/// A piece of surface at a border corner: its distance from the other surface in mm, and its area in mm².
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Surfel {
    pub(super) distance: f64,
    pub(super) area: f64,
}

/// No corner of the surface along this line.
const NONE: u16 = u16::MAX;
/// Slices of voxels whose corners lie at most `NONE - 1` steps apart.
pub(super) const MAX_SLICES: usize = NONE as usize - 1;

/// The surfels of `from`, with their exact Euclidean distances from the surface of `to`, in the order of the corners.
///
/// Both masks have the same box. The transform goes axis by axis: steps along z for each corner, then, slice by slice,
/// lower envelopes along y and, for rows in which `from` has a surface, along x. A `to` without surface is infinitely
/// far away. Needs two bytes per corner, and eight per corner of a slice in each thread.
pub(super) fn surfels(from: &Mask, to: &Mask, spacing: [f64; 3], areas: &[f64; 256]) -> Vec<Surfel> {
    let steps = steps_along_z(to);
    let [nz, ny, nx] = from.corners();
    let slices: Vec<Vec<Surfel>> = (0..nz)
        .into_par_iter()
        .map_init(
            || Slice::new(ny, nx),
            |slice, z| slice.surfels(from, &steps, spacing, areas, z),
        )
        .collect();
    slices.concat()
}

/// Steps from each corner to the nearest border corner along z, in the order (y, z, x).
fn steps_along_z(mask: &Mask) -> Vec<u16> {
    let [nz, ny, nx] = mask.corners();
    let mut steps = vec![NONE; nz * ny * nx];
    let work = |codes: &mut Vec<u8>, (y, lines): (usize, &mut [u16])| {
        for z in 0..nz {
            mask.codes(z, y, codes);
            let (before, rest) = lines.split_at_mut(z * nx);
            let before = before.rchunks_exact(nx).next();
            let here = &mut rest[..nx];
            if let Some(before) = before {
                here.iter_mut()
                    .zip(before)
                    .for_each(|(here, before)| *here = before.saturating_add(1));
            }
            for (here, &code) in here.iter_mut().zip(codes.iter()) {
                *here = if is_border(code) { 0 } else { *here };
            }
        }
        for z in (1..nz).rev() {
            let (here, after) = lines.split_at_mut(z * nx);
            let here = &mut here[(z - 1) * nx..];
            here.iter_mut()
                .zip(after)
                .for_each(|(here, after)| *here = (*here).min(after.saturating_add(1)));
        }
    };
    steps
        .par_chunks_mut(nz * nx)
        .enumerate()
        .for_each_init(|| vec![0; nx], work);
    steps
}

/// What one thread needs to work on a slice of corners.
struct Slice {
    corners: [usize; 2],
    codes: Vec<u8>,
    rows: Vec<usize>,
    squared: Vec<f64>,
    envelope: Envelope,
}

impl Slice {
    fn new(ny: usize, nx: usize) -> Self {
        Self {
            corners: [ny, nx],
            codes: vec![0; ny * nx],
            rows: Vec::new(),
            squared: vec![0.0; ny * nx],
            envelope: Envelope::default(),
        }
    }

    fn surfels(&mut self, from: &Mask, steps: &[u16], spacing: [f64; 3], areas: &[f64; 256], z: usize) -> Vec<Surfel> {
        let [ny, nx] = self.corners;
        let nz = steps.len() / (ny * nx);
        self.rows.clear();
        for (y, codes) in self.codes.chunks_exact_mut(nx).enumerate() {
            from.codes(z, y, codes);
            if codes.iter().any(|&code| is_border(code)) {
                self.rows.push(y);
            }
        }
        if self.rows.is_empty() {
            return Vec::new();
        }
        for x in 0..nx {
            let heights = steps[z * nx + x..].iter().step_by(nz * nx).map(|&steps| {
                let along = f64::from(steps) * spacing[0];
                if steps == NONE { f64::INFINITY } else { along * along }
            });
            self.envelope.build(heights, spacing[1]);
            let squared = &mut self.squared;
            self.envelope.values(spacing[1], self.rows.iter().copied(), |y, value| {
                squared[y * nx + x] = value
            });
        }
        let mut surfels = Vec::new();
        for &y in &self.rows {
            let row = y * nx..(y + 1) * nx;
            self.envelope
                .build(self.squared[row.clone()].iter().copied(), spacing[2]);
            let codes = &self.codes[row];
            let borders = (0..nx).filter(|&x| is_border(codes[x]));
            self.envelope.values(spacing[2], borders, |x, squared| {
                surfels.push(Surfel {
                    distance: squared.sqrt(),
                    area: areas[usize::from(codes[x])],
                });
            });
        }
        surfels
    }
}
