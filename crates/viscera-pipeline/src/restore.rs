//! From logits on the network's grid to labels at the scan's resolution.
//!
//! Logits are enlarged trilinearly and decided voxel by voxel, one slice at a time: enlarged logits never exist as a whole.
//! The memory beyond the label map is one network slice of logits per thread.
//!
//! **Most voxels need no interpolation, and leaving it out changes nothing.** Call a cell the eight network voxels around
//! a scan voxel, M the greatest absolute logit and ε = 2⁻²⁰·M. An enlarged logit is computed by seven linear
//! interpolations, at most three deep, so it differs from the exact convex combination of the cell's eight logits by less
//! than 16 rounding errors of 2⁻²⁴·M, that is, by less than ε.
//! * If at all eight corners no channel comes nearer to the threshold t than t − 2ε from below, every computed logit of the
//!   cell's inside lies below t: background.
//! * If at all eight corners the same channel c leads all others by more than 2ε and exceeds t + 2ε, then inside the cell
//!   the exact lead is a convex combination of leads above 2ε, so the computed one is above 0, and the computed logit
//!   exceeds t: class c.
//!
//! Other cells, those at borders and those with NaN or infinite corners, are interpolated. A test compares with the plain
//! way, voxel for voxel.

use crate::decide::Decision;
use crate::slab::Slab;
use rayon::prelude::*;
use viscera_image::{AxisTable, Tap};

/// Mark of a cell (or network voxel) that has to be interpolated; ids end at 255, so marks are wider.
const UNCLEAR: u16 = u16::MAX;
/// From this logit on differences may overflow, so nothing is clear.
const HUGE: f32 = 1e30;

/// Enlarges logits to labels as they come, slab after slab.
///
/// A slice of labels is decided as soon as the network's slices around it are there; one network slice of logits is kept
/// from slab to slab. The result does not depend on how the slices were divided, nor on the number of threads.
#[derive(Debug)]
pub struct Enlarger<'a> {
    tables: &'a [AxisTable; 3],
    decision: &'a Decision,
    labels: Vec<u8>,
    /// Slices of labels that are decided.
    decided: usize,
    /// The last network slice that came, channel after channel, and its place.
    last: Option<(Vec<f32>, usize)>,
}

impl<'a> Enlarger<'a> {
    /// Makes labels by the tables of z, y and x, from the network's grid to the labels'.
    #[must_use]
    pub fn new(tables: &'a [AxisTable; 3], decision: &'a Decision) -> Self {
        let voxels = tables.iter().map(|t| t.taps().len()).product();
        Self {
            tables,
            decision,
            labels: vec![0; voxels],
            decided: 0,
            last: None,
        }
    }

    /// Takes the next slab.
    pub fn push(&mut self, slab: &Slab<'_>) {
        let [zs, ys, xs] = [0, 1, 2].map(|a| self.tables[a].taps());
        let stack = Stack {
            before: self.last.as_ref().map(|(values, _)| values.as_slice()),
            slab,
        };
        let first = self.last.as_ref().map_or(slab.start(), |(_, place)| *place);
        let end = first + stack.slices();
        let ready = zs[self.decided..].iter().take_while(|tap| tap.hi < end).count();
        let taps: Vec<Tap> = zs[self.decided..][..ready]
            .iter()
            .map(|tap| Tap {
                lo: tap.lo.saturating_sub(first),
                hi: tap.hi.saturating_sub(first),
                ..*tap
            })
            .collect();
        let plane = ys.len() * xs.len();
        let out = &mut self.labels[self.decided * plane..][..ready * plane];
        enlarge(&stack, [&taps, ys, xs], self.decision, out);
        self.decided += ready;
        if slab.slices() > 0 {
            let z = slab.slices() - 1;
            let values = (0..slab.channels()).flat_map(|c| slab.plane(c, z)).copied().collect();
            self.last = Some((values, slab.start() + z));
        }
    }

    /// The labels, in (z, y, x) order. Slices that no slab led to are background.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.labels
    }
}

/// A slab, and the network slice before it.
struct Stack<'a> {
    before: Option<&'a [f32]>,
    slab: &'a Slab<'a>,
}

impl<'a> Stack<'a> {
    fn slices(&self) -> usize {
        self.slab.slices() + usize::from(self.before.is_some())
    }

    fn plane(&self, channel: usize, z: usize) -> &'a [f32] {
        let [y, x] = self.slab.plane_shape();
        match (self.before, z) {
            (Some(before), 0) => &before[channel * y * x..][..y * x],
            (Some(_), z) => self.slab.plane(channel, z - 1),
            (None, z) => self.slab.plane(channel, z),
        }
    }
}

/// The labels of the enlarged logits.
fn enlarge(logits: &Stack<'_>, [zs, ys, xs]: [&[Tap]; 3], decision: &Decision, labels: &mut [u8]) {
    let [ny, nx] = logits.slab.plane_shape();
    let channels = logits.slab.channels();
    let cells = Cells::new(logits, decision);
    // The taps of x, cell by cell: scan voxels that lie in one cell stand side by side.
    let runs = runs(xs);

    labels.par_chunks_mut(ys.len() * xs.len()).enumerate().for_each_init(
        || Slice {
            values: vec![0.0; channels * ny * nx],
            row: vec![0.0; channels * nx],
        },
        |slice, (z, out)| {
            let tap = zs[z];
            if !cells.all_clear(tap.lo) {
                slice.fill(logits, tap);
            }
            for (y, out) in out.chunks_exact_mut(xs.len()).enumerate() {
                let row = cells.row(tap.lo, ys[y].lo);
                let mut filled = false;
                for run in &runs {
                    let cell = row[xs[run.start].lo];
                    let out = &mut out[run.clone()];
                    if let Ok(label) = u8::try_from(cell) {
                        out.fill(label);
                        continue;
                    }
                    if !filled {
                        slice.fill_row(ys[y], ny, nx);
                        filled = true;
                    }
                    for (label, x) in out.iter_mut().zip(&xs[run.clone()]) {
                        let along_x = slice
                            .row
                            .chunks_exact(nx)
                            .map(|line| lerp(line[x.lo], line[x.hi], x.weight));
                        *label = decision.label(along_x);
                    }
                }
            }
        },
    );
}

/// `a` for weight 0, whatever `b` is.
fn lerp(a: f32, b: f32, weight: f32) -> f32 {
    if weight == 0.0 { a } else { a + weight * (b - a) }
}

/// Ranges of taps with one lower position.
fn runs(taps: &[Tap]) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (i, tap) in taps.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if taps[run.start].lo == tap.lo => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    runs
}

/// Logits of one slice of the scan, on the network's grid along y and x.
struct Slice {
    /// (channel, y, x).
    values: Vec<f32>,
    /// The same for one row of the scan: (channel, x).
    row: Vec<f32>,
}

impl Slice {
    fn fill(&mut self, logits: &Stack<'_>, z: Tap) {
        let [ny, nx] = logits.slab.plane_shape();
        for (c, out) in self.values.chunks_exact_mut(ny * nx).enumerate() {
            let (lower, upper) = (logits.plane(c, z.lo), logits.plane(c, z.hi));
            for ((out, a), b) in out.iter_mut().zip(lower).zip(upper) {
                *out = lerp(*a, *b, z.weight);
            }
        }
    }

    fn fill_row(&mut self, y: Tap, ny: usize, nx: usize) {
        for (out, plane) in self.row.chunks_exact_mut(nx).zip(self.values.chunks_exact(ny * nx)) {
            let lower = &plane[y.lo * nx..][..nx];
            let upper = &plane[y.hi * nx..][..nx];
            for ((out, a), b) in out.iter_mut().zip(lower).zip(upper) {
                *out = lerp(*a, *b, y.weight);
            }
        }
    }
}

/// For each cell, by its lowest corner, the label of everything inside it, or [`UNCLEAR`].
struct Cells {
    shape: [usize; 3],
    marks: Vec<u16>,
    /// Whether a slice has no unclear cell.
    clear: Vec<bool>,
}

impl Cells {
    fn new(logits: &Stack<'_>, decision: &Decision) -> Self {
        let [ny, nx] = logits.slab.plane_shape();
        let shape = [logits.slices(), ny, nx];
        let corners = marks(logits, decision);
        let mut marks = vec![UNCLEAR; corners.len()];
        marks.par_chunks_mut(ny * nx).enumerate().for_each(|(z, out)| {
            for (i, mark) in out.iter_mut().enumerate() {
                let (y, x) = (i / nx, i % nx);
                let first = corners[(z * ny + y) * nx + x];
                let next = [(z + 1).min(shape[0] - 1), (y + 1).min(ny - 1), (x + 1).min(nx - 1)];
                let same = [z, next[0]].into_iter().all(|z| {
                    [y, next[1]].into_iter().all(|y| {
                        [x, next[2]]
                            .into_iter()
                            .all(|x| corners[(z * ny + y) * nx + x] == first)
                    })
                });
                if same {
                    *mark = first;
                }
            }
        });
        let clear = marks
            .par_chunks(ny * nx)
            .map(|slice| !slice.contains(&UNCLEAR))
            .collect();
        Self { shape, marks, clear }
    }

    fn all_clear(&self, z: usize) -> bool {
        self.clear[z]
    }

    fn row(&self, z: usize, y: usize) -> &[u16] {
        let [_, ny, nx] = self.shape;
        &self.marks[(z * ny + y) * nx..][..nx]
    }
}

/// For each network voxel its label, or [`UNCLEAR`] where another class or the threshold is within 2ε.
fn marks(logits: &Stack<'_>, decision: &Decision) -> Vec<u16> {
    let [ny, nx] = logits.slab.plane_shape();
    let (nz, channels) = (logits.slices(), logits.slab.channels());
    // NaN is left out of `max`.
    let planes = (0..channels * nz).into_par_iter().map(|i| logits.plane(i / nz, i % nz));
    let greatest = planes
        .map(|plane| plane.iter().fold(0.0f32, |m, v| m.max(v.abs())))
        .reduce(|| 0.0, f32::max);
    // A softmax has no threshold.
    let threshold = Some(decision.threshold().abs())
        .filter(|t| t.is_finite())
        .unwrap_or(0.0);
    let gap = if greatest < HUGE {
        2.0 * greatest.max(threshold) * (1.0 / (1 << 20) as f32)
    } else {
        f32::INFINITY
    };
    let mut marks = vec![UNCLEAR; nz * ny * nx];
    marks.par_chunks_mut(ny * nx).enumerate().for_each(|(z, out)| {
        let mut best = vec![f32::NEG_INFINITY; ny * nx];
        let mut second = best.clone();
        let mut winner = vec![0usize; ny * nx];
        let mut broken = vec![false; ny * nx];
        for c in 0..channels {
            for (i, &v) in logits.plane(c, z).iter().enumerate() {
                broken[i] |= v.is_nan();
                if v > best[i] {
                    second[i] = best[i];
                    best[i] = v;
                    winner[i] = c;
                } else if v > second[i] {
                    second[i] = v;
                }
            }
        }
        for (i, mark) in out.iter_mut().enumerate() {
            if broken[i] {
                continue;
            }
            if best[i] < decision.threshold() - gap {
                *mark = 0;
            } else if best[i] > decision.threshold() + gap && best[i] - second[i] > gap {
                *mark = u16::from(decision.id(winner[i]));
            }
        }
    });
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use proptest::prelude::*;
    use viscera_image::{Convention, LabelTable};
    use viscera_net::Tensor;

    /// The labels when logits come `height` slices at a time.
    fn enlarged(logits: &Tensor, tables: &[AxisTable; 3], decision: &Decision, height: usize) -> Vec<u8> {
        let mut enlarger = Enlarger::new(tables, decision);
        let [_, channels, nz, ny, nx] = logits.shape();
        for start in (0..nz).step_by(height) {
            let slices = height.min(nz - start);
            let values: Vec<f32> = (0..channels)
                .flat_map(|c| &logits.channel(0, c)[start * ny * nx..][..slices * ny * nx])
                .copied()
                .collect();
            enlarger.push(&Slab::new(&values, slices, slices, [ny, nx], start).unwrap());
        }
        enlarger.finish()
    }

    fn tables(from: [usize; 3], to: [usize; 3], convention: Convention) -> [AxisTable; 3] {
        std::array::from_fn(|a| AxisTable::linear(from[a], to[a], convention).unwrap())
    }

    /// The plain way: every voxel, every channel, all eight corners.
    fn plain(logits: &Tensor, to: [usize; 3], convention: Convention, decision: &Decision) -> Vec<u8> {
        let from = logits.spatial();
        let tables = tables(from, to, convention);
        let mut out = Vec::new();
        for z in tables[0].taps() {
            for y in tables[1].taps() {
                for x in tables[2].taps() {
                    out.push(decision.label((0..logits.shape()[1]).map(|c| {
                        let at = |z: usize, y: usize, x: usize| logits.channel(0, c)[(z * from[1] + y) * from[2] + x];
                        let along_z = |y, x| lerp(at(z.lo, y, x), at(z.hi, y, x), z.weight);
                        let along_y = |x| lerp(along_z(y.lo, x), along_z(y.hi, x), y.weight);
                        lerp(along_y(x.lo), along_y(x.hi), x.weight)
                    })));
                }
            }
        }
        out
    }

    fn decision(threshold: f64) -> Decision {
        let mut inference = Recipe::builtin("efficientsegnet-small").unwrap().stages[1]
            .inference
            .clone();
        inference.threshold = Some(threshold);
        Decision::new(&inference, &LabelTable::flare13())
    }

    fn softmax() -> Decision {
        let mut inference = Recipe::builtin("efficientsegnet-small").unwrap().stages[1]
            .inference
            .clone();
        (inference.activation, inference.threshold) = (crate::recipe::Activation::Softmax, None);
        Decision::new(&inference, &LabelTable::flare13())
    }

    fn logits(from: [usize; 3], channels: usize, values: &[f32]) -> Tensor {
        let n = channels * from.iter().product::<usize>();
        let data = values.iter().copied().cycle().take(n).collect();
        Tensor::new([1, channels, from[0], from[1], from[2]], data).unwrap()
    }

    proptest! {
        #[test]
        fn slab_wise_equals_the_plain_way(
            from in prop::array::uniform3(1usize..7),
            to in prop::array::uniform3(1usize..19),
            half_pixel: bool,
            threshold in prop::sample::select(vec![0.5, 0.3, 0.9]),
            // Few values, so that ties, equal neighbours and values on the threshold are common; runs of equal ones,
            // so that clear cells are.
            runs in prop::collection::vec(
                (prop::sample::select(vec![-3.0f32, -1.0, 0.0, 1e-7, 0.5, 1.0, 1.0 + 1e-6, 3.0, 1e6, f32::NAN, f32::INFINITY]), 1usize..40),
                1..40),
            noise in -1e-3f32..1e-3,
            height in 1usize..8,
        ) {
            let convention = if half_pixel { Convention::HalfPixel } else { Convention::AlignCorners };
            let values: Vec<f32> = runs
                .iter()
                .flat_map(|&(v, n)| (0..n).map(move |i| v + noise * (i % 3) as f32))
                .collect();
            let logits = logits(from, 3, &values);
            let decision = if threshold == 0.3 { softmax() } else { decision(threshold) };
            let tables = tables(from, to, convention);
            prop_assert_eq!(enlarged(&logits, &tables, &decision, height), plain(&logits, to, convention, &decision));
        }

        #[test]
        fn smooth_logits_too(
            to in prop::array::uniform3(5usize..40),
            half_pixel: bool,
            centres in prop::collection::vec(prop::array::uniform3(0.0f32..9.0), 4),
        ) {
            let convention = if half_pixel { Convention::HalfPixel } else { Convention::AlignCorners };
            let from = [9, 8, 10];
            let mut values = Vec::new();
            for centre in &centres {
                for i in 0..720usize {
                    let at = [i / 80, i / 10 % 8, i % 10].map(|v| v as f32);
                    let d: f32 = at.iter().zip(centre).map(|(a, c)| (a - c).powi(2)).sum();
                    values.push(3.0 - d.sqrt());
                }
            }
            let logits = logits(from, 4, &values);
            let decision = decision(0.5);
            let tables = tables(from, to, convention);
            prop_assert_eq!(enlarged(&logits, &tables, &decision, 4), plain(&logits, to, convention, &decision));
        }
    }

    #[test]
    fn clear_cells_are_found() {
        // Half background, half liver: only the cells between are unclear.
        let mut data = vec![-5.0f32; 2 * 8 * 8 * 8];
        for (i, v) in data.iter_mut().take(512).enumerate() {
            if i % 8 >= 4 {
                *v = 5.0;
            }
        }
        let logits = Tensor::new([1, 2, 8, 8, 8], data).unwrap();
        let stack = Stack {
            before: None,
            slab: &Slab::of(&logits),
        };
        let cells = Cells::new(&stack, &decision(0.5));
        assert_eq!(cells.row(0, 0), [0, 0, 0, UNCLEAR, 1, 1, 1, 1]);
        // With a softmax the first channel is the background; equal logits are never clear.
        let cells = Cells::new(&stack, &softmax());
        assert_eq!(cells.row(0, 0), [UNCLEAR, UNCLEAR, UNCLEAR, UNCLEAR, 0, 0, 0, 0]);
    }
}
