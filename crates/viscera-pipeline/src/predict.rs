//! Running a stage's networks over its input: the whole volume at once, or patch by patch; mirrored, and as an ensemble.
//!
//! A sliding window streams. Patches are visited in rows of equal z; once a row is done, the slices that no later row
//! touches are averaged, handed on and forgotten. So memory holds one patch's height of logits, however long the scan is.
//!
//! Weights of patches are a product over the axes, and so is their sum over all patches of a regular grid: no second
//! volume is needed to divide by. (nnU-Net replaces the smallest weights by a larger one, in half precision; that is below
//! 10⁻⁷ of the greatest.)

use crate::PipelineError;
use crate::prepare::network_error;
use crate::recipe::{Activation, Average, Axis, SlidingWindow, Stage};
use crate::slab::Slab;
use crate::window::{coverage, positions, weights};
use rayon::prelude::*;
use viscera_engine::Engine;
use viscera_net::{NetError, Tensor};

/// Slices of a slab of a whole volume's logits.
const SLAB: usize = 16;

/// What can fail while a network's output is read.
enum Failed {
    Network(NetError),
    Pipeline(PipelineError),
}

impl From<NetError> for Failed {
    fn from(error: NetError) -> Self {
        Self::Network(error)
    }
}

impl From<PipelineError> for Failed {
    fn from(error: PipelineError) -> Self {
        Self::Pipeline(error)
    }
}

/// A network that gives logits: one output, on its input's grid.
pub trait Infer {
    /// Runs it on `[n, c, z, y, x]`.
    ///
    /// # Errors
    /// When the input does not fit.
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, NetError>;

    /// Runs it and hands its output on in slabs of at most `height` slices, with the place of their first; whoever cannot
    /// hands it on whole.
    ///
    /// # Errors
    /// When the input does not fit; the first error of `read`, which ends the reading.
    fn run_in_slabs<E: From<NetError>>(
        &self,
        input: &Tensor,
        height: usize,
        read: &mut dyn FnMut(usize, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let _ = height;
        self.run(input)?
            .into_iter()
            .take(1)
            .try_for_each(|output| read(0, output))
    }
}

impl Infer for Engine {
    fn run(&self, input: &Tensor) -> Result<Vec<Tensor>, NetError> {
        Self::run(self, input)
    }

    fn run_in_slabs<E: From<NetError>>(
        &self,
        input: &Tensor,
        height: usize,
        read: &mut dyn FnMut(usize, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        Self::run_in_slabs(self, input, height, read)
    }
}

/// A stage's networks, ready to run.
#[derive(Debug)]
pub struct Predictor<'a, N> {
    stage: &'a Stage,
    networks: &'a [N],
}

/// Who reads slabs as they come, in rising order of z, without gaps.
pub type Reader<'r> = &'r mut dyn FnMut(&Slab<'_>) -> Result<(), PipelineError>;

impl<'a, N: Infer> Predictor<'a, N> {
    /// The networks of a stage, one per fold.
    #[must_use]
    pub fn new(stage: &'a Stage, networks: &'a [N]) -> Self {
        Self { stage, networks }
    }

    /// Runs them on `[1, c, z, y, x]` input and hands logits (or probabilities, where the recipe averages these) to
    /// `read`.
    ///
    /// # Errors
    /// [`PipelineError::Network`] when the engine fails or an output does not have the input's grid; those of `read`.
    pub fn run(&self, input: &Tensor, read: Reader<'_>) -> Result<(), PipelineError> {
        match (self.stage.inference.window, self.networks) {
            (None, [network]) if self.stage.inference.mirror.is_empty() => self.stream(network, input, read),
            (None, _) => {
                let mut all = self.patch(input)?;
                let floor = self.floor();
                if floor > 0.0 {
                    all.data_mut().par_iter_mut().for_each(|p| *p = raised(*p, floor));
                }
                read(&Slab::of(&all))
            }
            (Some(window), _) => self.slide(input, window, read),
        }
    }

    /// One run over the whole volume; its output comes in slabs and never exists as a whole.
    fn stream(&self, network: &N, input: &Tensor, read: Reader<'_>) -> Result<(), PipelineError> {
        let floor = self.floor();
        self.slabs(network, input, &mut |start, mut logits| {
            let [slices, y, x] = logits.spatial();
            if floor > 0.0 {
                logits.data_mut().par_iter_mut().for_each(|p| *p = raised(*p, floor));
            }
            let slab = Slab::new(logits.data(), slices, slices, [y, x], start);
            read(&slab.ok_or_else(|| self.off_grid(input))?)
        })
    }

    /// Runs a network once and hands what is to be averaged on in slabs, each with the place of its first slice.
    fn slabs(
        &self,
        network: &N,
        input: &Tensor,
        take: &mut dyn FnMut(usize, Tensor) -> Result<(), PipelineError>,
    ) -> Result<(), PipelineError> {
        let [_, _, nz, ny, nx] = input.shape();
        let mut next = 0;
        let mut each = |start: usize, mut logits: Tensor| -> Result<(), Failed> {
            let [slices, y, x] = logits.spatial();
            if [y, x] != [ny, nx] || start + slices > nz {
                return Err(self.off_grid(input).into());
            }
            self.finish(&mut logits);
            next = start + slices;
            Ok(take(start, logits)?)
        };
        network
            .run_in_slabs(input, SLAB, &mut each)
            .map_err(|failed| match failed {
                Failed::Network(e) => network_error(self.stage, e),
                Failed::Pipeline(e) => e,
            })?;
        if next == nz { Ok(()) } else { Err(self.off_grid(input)) }
    }

    fn off_grid(&self, input: &Tensor) -> PipelineError {
        let grid = input.spatial();
        self.fails(&format!("the network gives no logits on its input's grid of {grid:?}"))
    }

    /// Makes probabilities of logits where these are averaged.
    fn finish(&self, output: &mut Tensor) {
        let inference = &self.stage.inference;
        if inference.average == Average::Probabilities && inference.activation == Activation::Softmax {
            softmax(output);
        }
    }

    /// The average over folds and mirrored runs, on the patch's grid.
    fn patch(&self, input: &Tensor) -> Result<Tensor, PipelineError> {
        let mut sum: Option<Tensor> = None;
        let mirrors = mirrors(&self.stage.inference.mirror);
        for network in self.networks {
            for &flip in &mirrors {
                let output = if flip == [false; 3] {
                    self.once(network, input)?
                } else {
                    flipped(&self.once(network, &flipped(input, flip))?, flip)
                };
                match &mut sum {
                    None => sum = Some(output),
                    Some(sum) => add(sum.data_mut(), output.data()),
                }
            }
        }
        let mut sum = sum.ok_or_else(|| self.fails("there is no network"))?;
        let runs = self.networks.len() * mirrors.len();
        if runs > 1 {
            let share = 1.0 / runs as f32;
            sum.data_mut().par_iter_mut().for_each(|v| *v *= share);
        }
        Ok(sum)
    }

    fn once(&self, network: &N, input: &Tensor) -> Result<Tensor, PipelineError> {
        let outputs = network.run(input).map_err(|e| network_error(self.stage, e))?;
        let grid = input.spatial();
        let mut output = outputs
            .into_iter()
            .next()
            .filter(|t| t.spatial() == grid)
            .ok_or_else(|| self.off_grid(input))?;
        self.finish(&mut output);
        Ok(output)
    }

    fn fails(&self, reason: &str) -> PipelineError {
        let node = "output".to_owned();
        let reason = reason.to_owned();
        network_error(self.stage, NetError::Shape { node, reason })
    }

    fn slide(&self, input: &Tensor, window: SlidingWindow, read: Reader<'_>) -> Result<(), PipelineError> {
        let patch = window.patch;
        let inner = input.spatial();
        let padded;
        let (input, first) = match padding(inner, patch) {
            None => (input, [0; 3]),
            Some((shape, first)) => {
                padded = pad(input, shape, first);
                (&padded, first)
            }
        };
        let [nz, ny, nx] = input.spatial();
        let starts: [Vec<usize>; 3] = std::array::from_fn(|a| positions(input.spatial()[a], patch[a], window.step));
        let weights: [Vec<f32>; 3] = std::array::from_fn(|a| weights(patch[a], window.weights));
        let shares: [Vec<f32>; 3] = std::array::from_fn(|a| {
            let sums = coverage(input.spatial()[a], &starts[a], &weights[a]);
            sums.into_iter().map(|s| 1.0 / s).collect()
        });

        let plane = ny * nx;
        let mut sums: Vec<f32> = Vec::new();
        let once = mirrors(&self.stage.inference.mirror).len() == 1;
        for (row, &z0) in starts[0].iter().enumerate() {
            for &y0 in &starts[1] {
                for &x0 in &starts[2] {
                    let mut take = |slice: usize, output: Tensor| {
                        let channels = output.shape()[1];
                        sums.resize(channels * patch[0] * plane, 0.0);
                        accumulate(&mut sums, [patch[0], ny, nx], &output, [slice, y0, x0], &weights);
                        Ok(())
                    };
                    let part = cut(input, [z0, y0, x0], patch);
                    match self.networks {
                        // The whole output need not exist.
                        [network] if once => self.slabs(network, &part, &mut take)?,
                        _ => take(0, self.patch(&part)?)?,
                    }
                }
            }
            let next = starts[0].get(row + 1).copied().unwrap_or(nz);
            let done = next - z0;
            average(&mut sums, patch[0], [done, ny, nx], z0, &shares, self.floor());
            self.emit(&sums, patch[0], [done, ny, nx], z0, (inner, first), read)?;
            forget(&mut sums, patch[0], done, plane);
        }
        Ok(())
    }

    /// Hands the first slices of `sums` on, without what was padded.
    fn emit(
        &self,
        sums: &[f32],
        stored: usize,
        [slices, ny, nx]: [usize; 3],
        z0: usize,
        (inner, first): ([usize; 3], [usize; 3]),
        read: Reader<'_>,
    ) -> Result<(), PipelineError> {
        let (from, to) = (z0.max(first[0]), (z0 + slices).min(first[0] + inner[0]));
        if from >= to {
            return Ok(());
        }
        let channels = sums.len() / (stored * ny * nx).max(1);
        let whole = first == [0; 3] && inner[1..] == [ny, nx];
        if whole {
            let slab = Slab::new(sums, stored, to - from, [ny, nx], from).ok_or_else(|| self.fails("no logits"))?;
            return read(&slab);
        }
        let mut compact = Vec::with_capacity(channels * (to - from) * inner[1] * inner[2]);
        for c in 0..channels {
            for z in from - z0..to - z0 {
                for y in first[1]..first[1] + inner[1] {
                    let row = ((c * stored + z) * ny + y) * nx + first[2];
                    compact.extend_from_slice(&sums[row..][..inner[2]]);
                }
            }
        }
        let slab = Slab::new(&compact, to - from, to - from, [inner[1], inner[2]], from - first[0]);
        read(&slab.ok_or_else(|| self.fails("no logits"))?)
    }

    /// The probability below which there is none.
    fn floor(&self) -> f32 {
        self.stage
            .inference
            .floor
            .map_or(f32::NEG_INFINITY, |floor| floor as f32)
    }
}

/// 0 for what is below the floor.
fn raised(p: f32, floor: f32) -> f32 {
    if p < floor { 0.0 } else { p }
}

/// All combinations of flips along the axes, none first.
fn mirrors(axes: &[Axis]) -> Vec<[bool; 3]> {
    let mut all = vec![[false; 3]];
    for axis in axes {
        let axis = match axis {
            Axis::Z => 0,
            Axis::Y => 1,
            Axis::X => 2,
        };
        for mut flip in all.clone() {
            flip[axis] = true;
            all.push(flip);
        }
    }
    all
}

/// A tensor run backwards along some axes.
fn flipped(tensor: &Tensor, flip: [bool; 3]) -> Tensor {
    let [_, _, nz, ny, nx] = tensor.shape();
    let mut out = Tensor::zeros(tensor.shape());
    let source = tensor.data();
    out.data_mut().par_chunks_mut(nx).enumerate().for_each(|(row, out)| {
        let (y, rest) = (row % ny, row / ny);
        let (z, sample) = (rest % nz, rest / nz);
        let y = if flip[1] { ny - 1 - y } else { y };
        let z = if flip[0] { nz - 1 - z } else { z };
        let row = &source[((sample * nz + z) * ny + y) * nx..][..nx];
        if flip[2] {
            out.iter_mut().zip(row.iter().rev()).for_each(|(o, v)| *o = *v);
        } else {
            out.copy_from_slice(row);
        }
    });
    out
}

fn add(sum: &mut [f32], more: &[f32]) {
    let chunk = 1 << 16;
    let pairs = sum.par_chunks_mut(chunk).zip(more.par_chunks(chunk));
    pairs.for_each(|(sum, more)| sum.iter_mut().zip(more).for_each(|(s, m)| *s += m));
}

/// Probabilities of the channels of each voxel of the first sample, in place.
fn softmax(logits: &mut Tensor) {
    let [_, channels, z, y, x] = logits.shape();
    let voxels = z * y * x;
    let mut rows: Vec<Vec<&mut [f32]>> = Vec::new();
    let len = x.max(1) * 8;
    rows.resize_with(voxels.div_ceil(len), || Vec::with_capacity(channels));
    for channel in logits.data_mut().chunks_mut(voxels.max(1)).take(channels) {
        for (rows, part) in rows.iter_mut().zip(channel.chunks_mut(len)) {
            rows.push(part);
        }
    }
    rows.into_par_iter().for_each(|mut rows| {
        let len = rows.first().map_or(0, |r| r.len());
        for i in 0..len {
            let greatest = rows.iter().map(|r| r[i]).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for row in &mut rows {
                row[i] = (row[i] - greatest).exp();
                sum += row[i];
            }
            for row in &mut rows {
                row[i] /= sum;
            }
        }
    });
}

/// The shape with every axis as long as the patch at least, and where the volume begins in it: in the middle, the odd voxel
/// behind it. `None` where nothing is needed.
fn padding(shape: [usize; 3], patch: [usize; 3]) -> Option<([usize; 3], [usize; 3])> {
    let padded = std::array::from_fn(|a| shape[a].max(patch[a]));
    let first = std::array::from_fn(|a| (padded[a] - shape[a]) / 2);
    (padded != shape).then_some((padded, first))
}

fn pad(tensor: &Tensor, shape: [usize; 3], first: [usize; 3]) -> Tensor {
    let [n, c, z, y, x] = tensor.shape();
    let mut out = Tensor::zeros([n, c, shape[0], shape[1], shape[2]]);
    for (row, values) in tensor.data().chunks_exact(x.max(1)).enumerate() {
        let (at_y, rest) = (row % y, row / y);
        let (at_z, sample) = (rest % z, rest / z);
        let start = ((sample * shape[0] + first[0] + at_z) * shape[1] + first[1] + at_y) * shape[2] + first[2];
        out.data_mut()[start..][..x].copy_from_slice(values);
    }
    out
}

/// A patch of a tensor.
fn cut(tensor: &Tensor, start: [usize; 3], patch: [usize; 3]) -> Tensor {
    let [_, channels, nz, ny, nx] = tensor.shape();
    let [pz, py, px] = patch;
    let mut out = Tensor::zeros([1, channels, pz, py, px]);
    out.data_mut().par_chunks_mut(px).enumerate().for_each(|(row, out)| {
        let (y, rest) = (row % py, row / py);
        let (z, c) = (rest % pz, rest / pz);
        let at = ((c * nz + start[0] + z) * ny + start[1] + y) * nx + start[2];
        out.copy_from_slice(&tensor.data()[at..][..px]);
    });
    out
}

/// Adds slices of a weighted patch to sums of the patch's height and the volume's plane; (z, y, x) is the first voxel's
/// place in them.
fn accumulate(
    sums: &mut [f32],
    [pz, ny, nx]: [usize; 3],
    output: &Tensor,
    [z0, y0, x0]: [usize; 3],
    weights: &[Vec<f32>; 3],
) {
    let [slices, py, px] = output.spatial();
    sums.par_chunks_mut(ny * nx).enumerate().for_each(|(plane, sums)| {
        let (channel, z) = (plane / pz, plane % pz);
        if !(z0..z0 + slices).contains(&z) {
            return;
        }
        let values = &output.data()[(channel * slices + z - z0) * py * px..][..py * px];
        for (y, values) in values.chunks_exact(px).enumerate() {
            let weight = weights[0][z] * weights[1][y];
            let row = &mut sums[(y0 + y) * nx + x0..][..px];
            for ((sum, value), wx) in row.iter_mut().zip(values).zip(&weights[2]) {
                *sum += weight * wx * value;
            }
        }
    });
}

/// Divides the first `slices` of each channel by the sums of their weights.
fn average(
    sums: &mut [f32],
    stored: usize,
    [slices, ny, nx]: [usize; 3],
    z0: usize,
    shares: &[Vec<f32>; 3],
    floor: f32,
) {
    sums.par_chunks_mut(ny * nx).enumerate().for_each(|(plane, values)| {
        let z = plane % stored;
        if z >= slices {
            return;
        }
        for (y, row) in values.chunks_exact_mut(nx).enumerate() {
            let share = shares[0][z0 + z] * shares[1][y];
            row.iter_mut()
                .zip(&shares[2])
                .for_each(|(v, sx)| *v = raised(*v * (share * sx), floor));
        }
    });
}

/// Moves what is left to the front and clears the rest.
fn forget(sums: &mut [f32], stored: usize, slices: usize, plane: usize) {
    sums.par_chunks_mut(stored * plane).for_each(|channel| {
        let gone = (slices * plane).min(channel.len());
        channel.copy_within(gone.., 0);
        let kept = channel.len() - gone;
        channel[kept..].fill(0.0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::PatchWeights;
    use crate::recipe::sample::sliding;
    use viscera_image::LabelTable;
    use viscera_net::Weights;

    fn stage() -> Stage {
        sliding().stages.remove(0)
    }

    fn engines(stage: &Stage, folds: u64) -> Vec<Engine> {
        let classes = stage.table(&LabelTable::flare13()).unwrap().entries().len() + 1;
        let graph = stage.network.graph(1, classes).unwrap();
        let graph = stage.inference_graph(&graph).unwrap();
        (0..folds)
            .map(|seed| Engine::new(&graph, &Weights::init(&graph, seed)).unwrap())
            .collect()
    }

    fn input(shape: [usize; 3]) -> Tensor {
        let [z, y, x] = shape;
        let values = (0..z * y * x).map(|i| ((i * 2_654_435_761) >> 9 & 255) as f32 / 128.0 - 1.0);
        Tensor::new([1, 1, z, y, x], values.collect()).unwrap()
    }

    /// All slabs in one tensor.
    fn collected(stage: &Stage, engines: &[Engine], input: &Tensor) -> Tensor {
        let [z, y, x] = input.spatial();
        let mut out = Tensor::zeros([1, 3, z, y, x]);
        let mut next = 0;
        let run = Predictor::new(stage, engines).run(input, &mut |slab| {
            assert_eq!(slab.start(), next);
            next += slab.slices();
            for c in 0..3 {
                for i in 0..slab.slices() {
                    let at = ((c * z) + slab.start() + i) * y * x;
                    out.data_mut()[at..][..y * x].copy_from_slice(slab.plane(c, i));
                }
            }
            Ok(())
        });
        run.unwrap();
        assert_eq!(next, z);
        out
    }

    /// As nnU-Net does it, voxel by voxel, in double precision.
    fn plain(stage: &Stage, engines: &[Engine], input: &Tensor) -> Vec<f64> {
        let window = stage.inference.window.unwrap();
        let inner = input.spatial();
        let (shape, first) = padding(inner, window.patch).unwrap_or((inner, [0; 3]));
        let padded = pad(input, shape, first);
        let starts: Vec<Vec<usize>> = (0..3)
            .map(|a| positions(shape[a], window.patch[a], window.step))
            .collect();
        let gauss = |a: usize, i: usize| match window.weights {
            PatchWeights::Uniform => 1.0,
            PatchWeights::Gaussian => {
                let sigma = window.patch[a] as f64 / 8.0;
                (-0.5 * ((i as f64 - (window.patch[a] / 2) as f64) / sigma).powi(2)).exp()
            }
        };
        let voxels = shape.iter().product::<usize>();
        let (mut sums, mut weights) = (vec![0.0; 3 * voxels], vec![0.0; voxels]);
        let flips = mirrors(&stage.inference.mirror);
        for (&z0, (&y0, &x0)) in starts[0].iter().flat_map(|z| {
            let pairs = starts[1].iter().flat_map(|y| starts[2].iter().map(move |x| (y, x)));
            pairs.map(move |pair| (z, pair))
        }) {
            let patch = cut(&padded, [z0, y0, x0], window.patch);
            let mut mean = vec![0.0f64; 3 * window.patch.iter().product::<usize>()];
            for engine in engines {
                for &flip in &flips {
                    let mut output = engine.run(&flipped(&patch, flip)).unwrap().remove(0);
                    if stage.inference.average == Average::Probabilities {
                        softmax(&mut output);
                    }
                    let output = flipped(&output, flip);
                    mean.iter_mut()
                        .zip(output.data())
                        .for_each(|(m, v)| *m += f64::from(*v));
                }
            }
            let [pz, py, px] = window.patch;
            for (i, value) in mean.iter().enumerate() {
                let (x, y, z, c) = (i % px, i / px % py, i / px / py % pz, i / px / py / pz);
                let weight = gauss(0, z) * gauss(1, y) * gauss(2, x);
                let at = ((z0 + z) * shape[1] + y0 + y) * shape[2] + x0 + x;
                sums[c * voxels + at] += weight * value / (engines.len() * flips.len()) as f64;
                if c == 0 {
                    weights[at] += weight;
                }
            }
        }
        let mut out = Vec::new();
        for c in 0..3 {
            for z in first[0]..first[0] + inner[0] {
                for y in first[1]..first[1] + inner[1] {
                    for x in first[2]..first[2] + inner[2] {
                        let at = (z * shape[1] + y) * shape[2] + x;
                        out.push(sums[c * voxels + at] / weights[at]);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn a_streamed_window_is_the_plain_one() {
        for (shape, mirror, folds, average, weights, step) in [
            ([19, 13, 9], vec![], 1, Average::Logits, PatchWeights::Gaussian, 0.5),
            ([8, 6, 4], vec![], 1, Average::Logits, PatchWeights::Gaussian, 0.5),
            (
                [5, 9, 3],
                vec![Axis::X],
                1,
                Average::Logits,
                PatchWeights::Gaussian,
                0.5,
            ),
            (
                [17, 5, 11],
                vec![Axis::Z, Axis::Y, Axis::X],
                2,
                Average::Logits,
                PatchWeights::Uniform,
                1.0,
            ),
            (
                [12, 7, 5],
                vec![Axis::Y],
                2,
                Average::Probabilities,
                PatchWeights::Uniform,
                0.3,
            ),
        ] {
            let mut stage = stage();
            stage.inference.mirror = mirror;
            stage.inference.average = average;
            let window = stage.inference.window.as_mut().unwrap();
            (window.weights, window.step) = (weights, step);
            let (engines, input) = (engines(&stage, folds), input(shape));
            let found = collected(&stage, &engines, &input);
            let expected = plain(&stage, &engines, &input);
            for (found, expected) in found.data().iter().zip(&expected) {
                assert!(
                    (f64::from(*found) - expected).abs() < 2e-5,
                    "{shape:?}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn probabilities_below_the_floor_are_none() {
        let mut stage = stage();
        stage.inference.average = Average::Probabilities;
        let (engines, input) = (engines(&stage, 1), input([9, 7, 5]));
        let free = collected(&stage, &engines, &input);
        stage.inference.floor = Some(0.3);
        let found = collected(&stage, &engines, &input);
        let mut cleared = 0;
        for (found, free) in found.data().iter().zip(free.data()) {
            assert_eq!(*found, if *free < 0.3 { 0.0 } else { *free });
            cleared += usize::from(*found == 0.0);
        }
        assert!(cleared > 100);
        let sums = (0..9 * 7 * 5).map(|i| (0..3).map(|c| free.channel(0, c)[i]).sum::<f32>());
        assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-5));
    }
}
