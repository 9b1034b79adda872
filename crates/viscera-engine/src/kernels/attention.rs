//! Multi-head self-attention inside windows, forward and backward.
//!
//! Each window is a task: its tokens are gathered into rows of channels, and each head is a few small matrix products.
//! Results are collected window by window and then brought back to the voxels' order.

use super::functions::exp;
use super::matrix::{Product, floats, floats_mut};
use crate::Isa;
use crate::layout::{Blocked, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector};
use rayon::prelude::*;
use viscera_net::WindowAttention;

/// Tasks of the backward pass: windows in neighbouring runs, each with its own sum of the bias's gradient. A fixed number,
/// so that the order of summation is.
const RUNS: usize = 32;

/// y from x, whose channels are queries, keys and values; `table` holds the relative position bias.
pub(crate) fn forward(isa: Isa, attention: &WindowAttention, table: &[f32], x: &Blocked, y: &mut Blocked) {
    let windows = Windows::new(attention, x.dims);
    let bias = windows.bias(table);
    let out_blocks = y.dims.blocks();
    let mut tokens = vec![Lane::ZERO; windows.count * windows.tokens * out_blocks];
    tokens
        .par_chunks_exact_mut(windows.tokens * out_blocks)
        .enumerate()
        .for_each_init(
            || Scratch::new(&windows),
            |scratch, (window, out)| {
                scratch.gather(&windows, window, x);
                for head in 0..windows.heads {
                    scratch.weigh(isa, &windows, &bias, head);
                    scratch.run(isa, &windows, [Matrix::Weights, Matrix::Values]);
                    windows.put(&scratch.result, out, head * windows.width);
                }
            },
        );
    windows.scatter(&tokens, y);
}

/// Gradients of x and of the table.
pub(crate) fn backward(
    isa: Isa,
    attention: &WindowAttention,
    table: &[f32],
    x: &Blocked,
    dy: &Blocked,
    dx: &mut Blocked,
) -> Vec<f32> {
    let windows = Windows::new(attention, x.dims);
    let bias = windows.bias(table);
    let blocks = x.dims.blocks();
    let run = windows.count.div_ceil(RUNS);
    let mut tokens = vec![Lane::ZERO; windows.count * windows.tokens * blocks];
    let tables: Vec<Vec<f32>> = tokens
        .par_chunks_mut(run * windows.tokens * blocks)
        .enumerate()
        .map(|(index, out)| {
            let mut scratch = Scratch::new(&windows);
            let mut sums = vec![0.0; table.len()];
            for (place, out) in out.chunks_exact_mut(windows.tokens * blocks).enumerate() {
                let window = index * run + place;
                scratch.gather(&windows, window, x);
                scratch.gather_gradient(&windows, window, dy);
                for head in 0..windows.heads {
                    scratch.weigh(isa, &windows, &bias, head);
                    scratch.take_gradient(&windows, head);
                    let first = |part: usize| (part * windows.heads + head) * windows.width;
                    scratch.run(isa, &windows, [Matrix::WeightsTurned, Matrix::Gradient]);
                    windows.put(&scratch.result, out, first(2));
                    scratch.weights_backward(isa, &windows, head, &mut sums);
                    scratch.run(isa, &windows, [Matrix::Weights, Matrix::Keys]);
                    windows.put(&scratch.result, out, first(0));
                    scratch.run(isa, &windows, [Matrix::WeightsTurned, Matrix::Queries]);
                    windows.put(&scratch.result, out, first(1));
                }
            }
            sums
        })
        .collect();
    windows.scatter(&tokens, dx);
    (0..table.len()).map(|i| tables.iter().map(|t| t[i]).sum()).collect()
}

/// Where windows and their tokens lie.
struct Windows {
    heads: usize,
    /// Channels of a head.
    width: usize,
    window: [usize; 3],
    shift: [usize; 3],
    extent: [usize; 3],
    /// Windows along each axis, and in all samples.
    grid: [usize; 3],
    count: usize,
    /// Tokens of a window, and the lanes that a row of them takes.
    tokens: usize,
    token_lanes: usize,
    /// Lanes of a token's channels of one head, and of all that is read.
    head_lanes: usize,
    blocks: usize,
    scale: f32,
}

impl Windows {
    fn new(attention: &WindowAttention, dims: Dims) -> Self {
        let width = dims.channels / 3 / attention.heads;
        let tokens: usize = attention.window.iter().product();
        let grid: [usize; 3] = std::array::from_fn(|a| dims.extent[a] / attention.window[a]);
        Self {
            heads: attention.heads,
            width,
            window: attention.window,
            shift: attention.shift,
            extent: dims.extent,
            grid,
            count: dims.batch * grid.iter().product::<usize>(),
            tokens,
            token_lanes: tokens.div_ceil(LANES),
            head_lanes: width.div_ceil(LANES),
            blocks: dims.blocks(),
            scale: 1.0 / (width as f32).sqrt(),
        }
    }

    /// Sample of a window, and its first position in the rolled volume.
    fn start(&self, window: usize) -> (usize, [usize; 3]) {
        let [gz, gy, gx] = self.grid;
        let place = [window / (gy * gx) % gz, window / gx % gy, window % gx];
        (
            window / (gz * gy * gx),
            std::array::from_fn(|a| place[a] * self.window[a]),
        )
    }

    /// A token's place in its window.
    fn place(&self, token: usize) -> [usize; 3] {
        let [_, wy, wx] = self.window;
        [token / (wy * wx), token / wx % wy, token % wx]
    }

    /// Calls `f(token, voxel)` for the first token and voxel of each run along x that stays together, with its length.
    fn runs(&self, start: [usize; 3], mut f: impl FnMut(usize, [usize; 3], usize)) {
        let [wz, wy, wx] = self.window;
        let voxel = |axis: usize, p: usize| (start[axis] + p + self.shift[axis]) % self.extent[axis];
        let first = voxel(2, 0);
        let length = wx.min(self.extent[2] - first);
        for z in 0..wz {
            for y in 0..wy {
                let token = (z * wy + y) * wx;
                let [vz, vy] = [voxel(0, z), voxel(1, y)];
                f(token, [vz, vy, first], length);
                if length < wx {
                    f(token + length, [vz, vy, 0], wx - length);
                }
            }
        }
    }

    /// Row of the table for two tokens: its first part less its second.
    fn offset(&self, token: usize) -> usize {
        let [_, wy, wx] = self.window;
        let [z, y, x] = self.place(token);
        (z * (2 * wy - 1) + y) * (2 * wx - 1) + x
    }

    /// Rows of the table, token by token and key by key.
    fn rows(&self) -> Vec<usize> {
        let offsets: Vec<usize> = (0..self.tokens).map(|t| self.offset(t)).collect();
        let centre = offsets[self.tokens - 1];
        let row = |&i: &usize| offsets.iter().map(move |j| centre + i - j);
        offsets.iter().flat_map(row).collect()
    }

    /// Bias of every head: `[head][token][key]`, keys in lanes; −∞ past the last key.
    fn bias(&self, table: &[f32]) -> Vec<Lane> {
        let rows = self.rows();
        let mut bias = vec![Lane([f32::NEG_INFINITY; LANES]); self.heads * self.tokens * self.token_lanes];
        bias.par_chunks_exact_mut(self.tokens * self.token_lanes)
            .enumerate()
            .for_each(|(head, bias)| {
                let lines = bias.chunks_exact_mut(self.token_lanes);
                for (line, rows) in lines.zip(rows.chunks_exact(self.tokens)) {
                    for (bias, row) in floats_mut(line).iter_mut().zip(rows) {
                        *bias = table[row * self.heads + head];
                    }
                }
            });
        bias
    }

    /// Which of the regions that the roll has brought together a token is from.
    fn region(&self, start: [usize; 3], token: usize) -> [usize; 3] {
        let place = self.place(token);
        std::array::from_fn(|a| {
            let position = start[a] + place[a];
            let (extent, shift) = (self.extent[a], self.shift[a]);
            match position {
                _ if shift == 0 => 0,
                p if p < extent - self.window[a] => 0,
                p if p < extent - shift => 1,
                _ => 2,
            }
        })
    }

    /// Writes a head's rows (`[token][channel]`) to the channels from `first` on of rows of all channels.
    fn put(&self, head: &[Lane], all: &mut [Lane], first: usize) {
        let lanes = all.len() / self.tokens;
        for (all, head) in all.chunks_exact_mut(lanes).zip(head.chunks_exact(self.head_lanes)) {
            floats_mut(all)[first..first + self.width].copy_from_slice(&floats(head)[..self.width]);
        }
    }

    /// From rows of tokens, window by window, to voxels.
    fn scatter(&self, tokens: &[Lane], y: &mut Blocked) {
        let blocks = y.dims.blocks();
        let [_, gy, gx] = self.grid;
        let [wz, wy, wx] = self.window;
        let rolled = |axis: usize, v: usize| (v + self.extent[axis] - self.shift[axis]) % self.extent[axis];
        let per_sample = self.grid.iter().product::<usize>();
        y.fill_rows(|sample, block, z, yy, row| {
            let [rz, ry] = [rolled(0, z), rolled(1, yy)];
            for (x, y) in row.iter_mut().enumerate() {
                let rx = rolled(2, x);
                let window = sample * per_sample + ((rz / wz) * gy + ry / wy) * gx + rx / wx;
                let token = ((rz % wz) * wy + ry % wy) * wx + rx % wx;
                *y = tokens[(window * self.tokens + token) * blocks + block];
            }
        });
    }
}

/// An operand of a product within a head. Rows are tokens, unless turned.
#[derive(Clone, Copy)]
enum Matrix {
    Queries,
    Keys,
    Values,
    Gradient,
    Weights,
    WeightsTurned,
}

/// Buffers of one task.
struct Scratch {
    /// Queries, keys and values of a window: `[token][channel]`, as they come.
    tokens: Vec<Lane>,
    /// The result's gradient likewise.
    gradients: Vec<Lane>,
    /// Added to the scores, `[token][key]`, where the window holds several regions.
    mask: Option<Vec<Lane>>,
    /// Queries, keys, values, gradient of one head: `[token][channel]`.
    head: [Vec<Lane>; 4],
    /// `[channel][token]` of keys or values.
    turned: Vec<Lane>,
    /// `[token][key]`: weights, or the gradient of scores.
    weights: Vec<Lane>,
    /// `[token][key]`.
    weight_gradients: Vec<Lane>,
    /// `[token][channel]`.
    result: Vec<Lane>,
}

impl Scratch {
    fn new(windows: &Windows) -> Self {
        let lanes = |n: usize| vec![Lane::ZERO; n];
        let of_head = windows.tokens * windows.head_lanes;
        let square = windows.tokens * windows.token_lanes;
        Self {
            tokens: lanes(windows.tokens * windows.blocks),
            gradients: Vec::new(),
            mask: None,
            head: std::array::from_fn(|_| lanes(of_head)),
            turned: lanes(windows.width * windows.token_lanes),
            weights: lanes(square),
            weight_gradients: Vec::new(),
            result: lanes(of_head),
        }
    }

    /// Takes the tokens of a window.
    fn gather(&mut self, windows: &Windows, window: usize, x: &Blocked) {
        let (_, start) = windows.start(window);
        gather(windows, window, x, &mut self.tokens);
        let regions: Vec<[usize; 3]> = (0..windows.tokens).map(|t| windows.region(start, t)).collect();
        self.mask = regions.iter().any(|r| *r != regions[0]).then(|| {
            let mut mask = vec![Lane::ZERO; windows.tokens * windows.token_lanes];
            for (line, own) in mask.chunks_exact_mut(windows.token_lanes).zip(&regions) {
                for (mask, other) in floats_mut(line).iter_mut().zip(&regions) {
                    *mask = if own == other { 0.0 } else { -100.0 };
                }
            }
            mask
        });
    }

    fn gather_gradient(&mut self, windows: &Windows, window: usize, dy: &Blocked) {
        self.gradients.resize(windows.tokens * dy.dims.blocks(), Lane::ZERO);
        gather(windows, window, dy, &mut self.gradients);
    }

    /// Takes a head's queries, keys and values, and finds its weights.
    fn weigh(&mut self, isa: Isa, windows: &Windows, bias: &[Lane], head: usize) {
        for part in 0..3 {
            let first = (part * windows.heads + head) * windows.width;
            take(windows, &self.tokens, first, &mut self.head[part]);
        }
        turn(windows, &self.head[1], &mut self.turned);
        isa.run(Product {
            left: floats(&self.head[0]),
            steps: [windows.head_lanes * LANES, 1],
            right: &self.turned,
            inner: windows.width,
            width: windows.token_lanes,
            out: &mut self.weights,
        });
        let square = self.weights.len();
        isa.run(Weigh {
            bias: &bias[head * square..(head + 1) * square],
            mask: self.mask.as_deref(),
            scale: windows.scale,
            width: windows.token_lanes,
            weights: &mut self.weights,
        });
    }

    /// Takes a head's part of the result's gradient.
    fn take_gradient(&mut self, windows: &Windows, head: usize) {
        take(windows, &self.gradients, head * windows.width, &mut self.head[3]);
    }

    /// `result` = left · right.
    fn run(&mut self, isa: Isa, windows: &Windows, [left, right]: [Matrix; 2]) {
        let row = windows.token_lanes * LANES;
        let steps = match left {
            Matrix::WeightsTurned => [1, row],
            _ => [row, 1],
        };
        let right = match right {
            Matrix::Queries => 0,
            Matrix::Keys => 1,
            Matrix::Values => 2,
            _ => 3,
        };
        isa.run(Product {
            left: floats(&self.weights),
            steps,
            right: &self.head[right],
            inner: windows.tokens,
            width: windows.head_lanes,
            out: &mut self.result,
        });
    }

    /// Turns `weights` into the gradient of the scores before scale and bias, times the scale, and adds that of the bias to
    /// the table's.
    fn weights_backward(&mut self, isa: Isa, windows: &Windows, head: usize, table: &mut [f32]) {
        turn(windows, &self.head[2], &mut self.turned);
        self.weight_gradients.resize(self.weights.len(), Lane::ZERO);
        isa.run(Product {
            left: floats(&self.head[3]),
            steps: [windows.head_lanes * LANES, 1],
            right: &self.turned,
            inner: windows.width,
            width: windows.token_lanes,
            out: &mut self.weight_gradients,
        });
        isa.run(WeighBackward {
            gradients: &self.weight_gradients,
            width: windows.token_lanes,
            weights: &mut self.weights,
        });
        let lines = self.weights.chunks_exact(windows.token_lanes);
        for (line, rows) in lines.zip(windows.rows().chunks_exact(windows.tokens)) {
            for (gradient, row) in floats(line).iter().zip(rows) {
                table[row * windows.heads + head] += gradient;
            }
        }
        for value in floats_mut(&mut self.weights) {
            *value *= windows.scale;
        }
    }
}

fn gather(windows: &Windows, window: usize, x: &Blocked, tokens: &mut [Lane]) {
    let (sample, start) = windows.start(window);
    let blocks = x.dims.blocks();
    windows.runs(start, |token, [z, y, first], length| {
        let to = &mut tokens[token * blocks..(token + length) * blocks];
        for block in 0..blocks {
            let row = &x.row(sample, block, z, y)[first..first + length];
            for (to, from) in to[block..].iter_mut().step_by(blocks).zip(row) {
                *to = *from;
            }
        }
    });
}

/// A head's channels, from `first` on, of rows of all channels; zero past the last.
fn take(windows: &Windows, all: &[Lane], first: usize, head: &mut [Lane]) {
    let lanes = all.len() / windows.tokens;
    for (all, head) in all.chunks_exact(lanes).zip(head.chunks_exact_mut(windows.head_lanes)) {
        floats_mut(head)[..windows.width].copy_from_slice(&floats(all)[first..first + windows.width]);
    }
}

/// `[token][channel]` as `[channel][token]`; zero past the last token.
fn turn(windows: &Windows, rows: &[Lane], turned: &mut [Lane]) {
    let columns = windows.token_lanes * LANES;
    let turned = floats_mut(turned);
    for (token, row) in rows.chunks_exact(windows.head_lanes).enumerate() {
        for (channel, &value) in floats(row)[..windows.width].iter().enumerate() {
            turned[channel * columns + token] = value;
        }
    }
}

/// Scores to weights: softmax of each row of scale · score + bias + mask.
struct Weigh<'a> {
    bias: &'a [Lane],
    mask: Option<&'a [Lane]>,
    scale: f32,
    width: usize,
    weights: &'a mut [Lane],
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let scale = V::splat(self.scale);
        let rows = self.weights.chunks_exact_mut(self.width);
        for (index, (row, bias)) in rows.zip(self.bias.chunks_exact(self.width)).enumerate() {
            let mut largest = V::splat(f32::NEG_INFINITY);
            match self.mask {
                Some(mask) => {
                    let mask = &mask[index * self.width..][..self.width];
                    for ((score, bias), mask) in row.iter_mut().zip(bias).zip(mask) {
                        let value = V::load(score).mul_add(scale, V::load(bias).add(V::load(mask)));
                        value.store(score);
                        largest = largest.max(value);
                    }
                }
                None => {
                    for (score, bias) in row.iter_mut().zip(bias) {
                        let value = V::load(score).mul_add(scale, V::load(bias));
                        value.store(score);
                        largest = largest.max(value);
                    }
                }
            }
            let largest = V::splat(values(largest).into_iter().fold(f32::NEG_INFINITY, f32::max));
            let mut sum = V::splat(0.0);
            for score in row.iter_mut() {
                let weight = exp(V::load(score).sub(largest));
                weight.store(score);
                sum = sum.add(weight);
            }
            let share = V::splat(1.0 / values(sum).iter().sum::<f32>());
            for weight in row {
                V::load(weight).mul(share).store(weight);
            }
        }
    }
}

/// Weights to the gradient of what softmax read: w · (dw − Σ w · dw), row by row.
struct WeighBackward<'a> {
    gradients: &'a [Lane],
    width: usize,
    weights: &'a mut [Lane],
}

impl Kernel for WeighBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let rows = self.weights.chunks_exact_mut(self.width);
        for (weights, gradients) in rows.zip(self.gradients.chunks_exact(self.width)) {
            let mut sum = V::splat(0.0);
            for (weight, gradient) in weights.iter().zip(gradients) {
                sum = V::load(weight).mul_add(V::load(gradient), sum);
            }
            let sum = V::splat(values(sum).iter().sum::<f32>());
            for (weight, gradient) in weights.iter_mut().zip(gradients) {
                V::load(gradient).sub(sum).mul(V::load(weight)).store(weight);
            }
        }
    }
}

#[inline(always)]
fn values<V: Vector>(vector: V) -> [f32; LANES] {
    let mut lane = Lane::ZERO;
    vector.store(&mut lane);
    lane.0
}
