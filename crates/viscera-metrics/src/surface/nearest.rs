//! The distance of every border corner of one mask from the nearest border corner of another.

use super::corners::{Mask, is_border};
use super::envelope::Envelope;
use super::search::Search;
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
/// Corners that a search may look at before the transform of its slice is the cheaper way, per corner of the slice.
pub(super) const SEARCHED: usize = 6;

/// The surfels of `from`, with their exact Euclidean distances from the surface of `to`, in the order of the corners.
///
/// Both masks have the same box. The transform goes axis by axis: steps along z for each corner, then, slice by slice,
/// a search around each corner of `from`; where that takes long, as the surfaces lie far apart, lower envelopes along y
/// and, for rows in which `from` has a surface, along x. Both give the smallest of the same sums. A `to` without surface
/// is infinitely far away. `searched` is [`SEARCHED`], but in tests: it must not matter. Needs two bytes per corner, and eight per corner of a slice in each thread.
pub(super) fn surfels(from: &Mask, to: &Mask, spacing: [f64; 3], areas: &[f64; 256], searched: usize) -> Vec<Surfel> {
    let steps = steps_along_z(to);
    let [nz, ny, nx] = from.corners();
    let squares: Vec<f64> = (0..nz)
        .map(|steps| {
            let along = steps as f64 * spacing[0];
            along * along
        })
        .collect();
    let slices: Vec<Vec<Surfel>> = (0..nz)
        .into_par_iter()
        .map_init(
            || Slice::new(ny, nx),
            |slice, z| {
                slice.find_surface(from, z);
                let mut search = Search {
                    steps: &steps,
                    squares: &squares,
                    corners: [nz, ny, nx],
                    spacing: [spacing[1], spacing[2]],
                    z,
                    budget: searched * ny * nx,
                };
                slice
                    .by_search(&mut search, areas)
                    .unwrap_or_else(|| slice.by_envelopes(&search, areas))
            },
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

    /// Finds the rows in which a mask has surface at `z`.
    fn find_surface(&mut self, mask: &Mask, z: usize) {
        self.rows.clear();
        for (y, codes) in self.codes.chunks_exact_mut(self.corners[1]).enumerate() {
            mask.codes(z, y, codes);
            if codes.iter().any(|&code| is_border(code)) {
                self.rows.push(y);
            }
        }
    }

    /// The places of surface in a row, and their codes.
    fn borders(&self, y: usize) -> impl Iterator<Item = (usize, u8)> + '_ {
        let nx = self.corners[1];
        let codes = self.codes[y * nx..(y + 1) * nx].iter().copied();
        codes.enumerate().filter(|&(_, code)| is_border(code))
    }

    /// The surfels of the slice; `None` when the search took too long.
    fn by_search(&self, search: &mut Search, areas: &[f64; 256]) -> Option<Vec<Surfel>> {
        let mut surfels = Vec::new();
        for &y in &self.rows {
            for (x, code) in self.borders(y) {
                surfels.push(Surfel {
                    distance: search.nearest(y, x)?.sqrt(),
                    area: areas[usize::from(code)],
                });
            }
        }
        Some(surfels)
    }

    /// The surfels of the slice by a transform of the whole slice.
    fn by_envelopes(&mut self, search: &Search, areas: &[f64; 256]) -> Vec<Surfel> {
        let [nz, _, nx] = search.corners;
        let [step_y, step_x] = search.spacing;
        for x in 0..nx {
            let column = search.steps[search.z * nx + x..].iter().step_by(nz * nx);
            let heights = column.map(|&steps| *search.squares.get(usize::from(steps)).unwrap_or(&f64::INFINITY));
            self.envelope.build(heights, step_y);
            let squared = &mut self.squared;
            self.envelope.values(step_y, self.rows.iter().copied(), |y, value| {
                squared[y * nx + x] = value
            });
        }
        let mut surfels = Vec::new();
        for &y in &self.rows {
            let row = &self.squared[y * nx..(y + 1) * nx];
            self.envelope.build(row.iter().copied(), step_x);
            let places = self.borders(y).map(|(x, _)| x);
            self.envelope.values(step_x, places, |x, squared| {
                surfels.push(Surfel {
                    distance: squared.sqrt(),
                    area: areas[usize::from(self.codes[y * nx + x])],
                });
            });
        }
        surfels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use viscera_image::{Box3, Geometry, LabelMap};

    proptest! {
        #[test]
        fn search_and_transform_give_the_same_bits(
            shape in prop::array::uniform3(1usize..9),
            spacing in prop::array::uniform3(prop::sample::select(vec![0.5, 0.7, 0.9, 1.0, 2.5, 5.0])),
            dense in prop::collection::vec(0u8..4, 8 * 8 * 8),
            sparse in prop::collection::vec(0u8..40, 8 * 8 * 8),
        ) {
            let total: usize = shape.iter().product();
            let map = |data: &[u8]| LabelMap::new(Geometry::ras(shape, spacing), data[..total].to_vec()).unwrap();
            let (dense, sparse) = (map(&dense), map(&sparse));
            let mask = |labels| Mask { labels, class: 1, bounds: Box3::whole(shape) };
            let areas = [1.0; 256];
            for (from, to) in [(&dense, &sparse), (&sparse, &dense)] {
                let [search, transform] =
                    [1000, 0].map(|searched| surfels(&mask(from), &mask(to), spacing, &areas, searched));
                prop_assert_eq!(search, transform);
            }
        }
    }
}
