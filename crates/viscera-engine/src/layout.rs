//! How values lie in memory, and the way in and out of that layout.
//!
//! Channels are cut into blocks of eight ([`LANES`]); a block of one voxel is a [`Lane`], one AVX register. Around the
//! voxels lies a halo of zeros as wide as the widest padding that a reader of the value needs, so that no kernel has to
//! ask whether a tap falls outside:
//!
//! ```text
//! sample 0: block 0 (channels 0..8):  plane -hz   | zeros                     |
//!                                     plane 0     | row -hy   zeros           |
//!                                                 | row 0  [0 v v v v ... v 0] |   v = 8 floats, 0 = halo
//!                                                 | ...                       |
//!                                     plane D     | zeros (hz planes)         |
//!           block 1 (channels 8..16): ...
//! ```
//!
//! A value that is stored in bf16 lies in the same way, in elements of half the size (`element.rs`).
//!
//! Lanes past the last channel hold zeros or whatever a pointwise function makes of zero; no kernel lets them reach a
//! real channel, because the weights that would read them are left out.

use crate::Isa;
use crate::element::Element;
use std::ops::Range;
use viscera_net::Tensor;

/// Channels per block.
pub(crate) const LANES: usize = 8;

/// Eight channels of one voxel.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(32))]
pub(crate) struct Lane(pub(crate) [f32; LANES]);

impl Lane {
    pub(crate) const ZERO: Self = Self([0.0; LANES]);

    /// self + factor · other.
    #[inline(always)]
    pub(crate) fn add_scaled(&mut self, factor: f32, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a += factor * b;
        }
    }
}

/// Shape of a blocked value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    /// Samples.
    pub(crate) batch: usize,
    /// Channels that mean something.
    pub(crate) channels: usize,
    /// Voxels along (z, y, x).
    pub(crate) extent: [usize; 3],
    /// Width of the zero frame along (z, y, x), on both sides.
    pub(crate) halo: [usize; 3],
}

impl Dims {
    /// Blocks of channels.
    pub(crate) fn blocks(&self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Lanes per row, plane and block, halo included.
    pub(crate) fn pitch(&self) -> [usize; 3] {
        let [z, y, x]: [usize; 3] = std::array::from_fn(|a| self.extent[a] + 2 * self.halo[a]);
        [z * y * x, y * x, x]
    }

    /// Lanes in all.
    pub(crate) fn lanes(&self) -> usize {
        self.batch * self.blocks() * self.pitch()[0]
    }

    /// Lane of voxel (z, y, x) in a block of a sample.
    pub(crate) fn at(&self, sample: usize, block: usize, [z, y, x]: [usize; 3]) -> usize {
        let pitch = self.pitch();
        (sample * self.blocks() + block) * pitch[0]
            + (z + self.halo[0]) * pitch[1]
            + (y + self.halo[1]) * pitch[2]
            + x
            + self.halo[2]
    }

    /// Voxels of one channel of one sample.
    pub(crate) fn voxels(&self) -> usize {
        self.extent.iter().product()
    }

    pub(crate) fn with_halo(mut self, halo: [usize; 3]) -> Self {
        self.halo = halo;
        self
    }
}

/// A value in the blocked layout. The halo is zero at all times.
#[derive(Debug, Clone)]
pub(crate) struct Blocked<E = Lane> {
    pub(crate) dims: Dims,
    pub(crate) data: Vec<E>,
}

impl<E: Element> Blocked<E> {
    /// Zeros.
    pub(crate) fn new(dims: Dims) -> Self {
        Self {
            dims,
            data: vec![E::ZERO; dims.lanes()],
        }
    }

    /// One row of voxels as it is stored, halo left out.
    #[inline]
    pub(crate) fn row(&self, sample: usize, block: usize, z: usize, y: usize) -> &[E] {
        let start = self.dims.at(sample, block, [z, y, 0]);
        &self.data[start..start + self.dims.extent[2]]
    }

    /// Writes every row through `f(sample, block, z, y, row)`, planes in parallel, and clears the halo.
    pub(crate) fn fill_rows(&mut self, f: impl Fn(usize, usize, usize, usize, &mut [E]) + Sync) {
        self.each_row(true, f);
    }

    /// Changes every row through `f(sample, block, z, y, row)`, planes in parallel; the halo stays as it is.
    pub(crate) fn change_rows(&mut self, f: impl Fn(usize, usize, usize, usize, &mut [E]) + Sync) {
        self.each_row(false, f);
    }

    fn each_row(&mut self, clear_halo: bool, f: impl Fn(usize, usize, usize, usize, &mut [E]) + Sync) {
        use rayon::prelude::*;
        let Dims { extent, halo, .. } = self.dims;
        let blocks = self.dims.blocks();
        let [block_pitch, plane_pitch, row_pitch] = self.dims.pitch();
        let planes = block_pitch / plane_pitch;
        self.data
            .par_chunks_exact_mut(plane_pitch)
            .with_min_len((4096 / plane_pitch).max(1))
            .enumerate()
            .for_each(|(index, plane)| {
                let (unit, z) = (index / planes, index % planes);
                let (sample, block) = (unit / blocks, unit % blocks);
                if z < halo[0] || z >= halo[0] + extent[0] {
                    if clear_halo {
                        plane.fill(E::ZERO);
                    }
                    return;
                }
                for (y, row) in plane.chunks_exact_mut(row_pitch).enumerate() {
                    if y < halo[1] || y >= halo[1] + extent[1] {
                        if clear_halo {
                            row.fill(E::ZERO);
                        }
                        continue;
                    }
                    if clear_halo {
                        row[..halo[2]].fill(E::ZERO);
                        row[halo[2] + extent[2]..].fill(E::ZERO);
                    }
                    let inner = &mut row[halo[2]..halo[2] + extent[2]];
                    f(sample, block, z - halo[0], y - halo[1], inner);
                }
            });
    }

    /// Sets the halo to zero and leaves the voxels.
    pub(crate) fn clear_halo(&mut self) {
        if self.dims.halo != [0; 3] {
            self.fill_rows(|_, _, _, _, _| {});
        }
    }

    /// Takes the values of a plain tensor.
    pub(crate) fn load(&mut self, isa: Isa, tensor: &Tensor) {
        let channels = self.dims.channels;
        let [_, rows, width] = self.dims.extent;
        self.fill_lanes(isa, |sample, block, z, y, row| {
            row.fill(Lane::ZERO);
            for lane in 0..LANES.min(channels - block * LANES) {
                let start = (z * rows + y) * width;
                let source = &tensor.channel(sample, block * LANES + lane)[start..start + width];
                for (to, from) in row.iter_mut().zip(source) {
                    to.0[lane] = *from;
                }
            }
        });
    }

    /// The values as a plain tensor.
    pub(crate) fn store(&self, isa: Isa) -> Tensor {
        self.store_slices(isa, 0..self.dims.extent[0])
    }

    /// The values of some slices as a plain tensor.
    pub(crate) fn store_slices(&self, isa: Isa, slices: Range<usize>) -> Tensor {
        use rayon::prelude::*;
        let Dims { batch, channels, .. } = self.dims;
        let [_, height, width] = self.dims.extent;
        let (first, depth) = (slices.start, slices.len());
        let mut tensor = Tensor::zeros([batch, channels, depth, height, width]);
        let voxels = depth * height * width;
        // One task is a block's share of the tensor: each row is looked at once for all its channels.
        let mut shares: Vec<&mut [f32]> = Vec::with_capacity(batch * self.dims.blocks());
        for sample in tensor.data_mut().chunks_exact_mut(channels * voxels) {
            shares.extend(sample.chunks_mut(LANES * voxels));
        }
        let blocks = self.dims.blocks();
        shares.into_iter().enumerate().for_each(|(unit, share)| {
            // Per plane, that plane of every channel.
            let mut planes: Vec<Vec<&mut [f32]>> = (0..depth).map(|_| Vec::with_capacity(LANES)).collect();
            for (index, plane) in share.chunks_exact_mut(height * width).enumerate() {
                planes[index % depth].push(plane);
            }
            planes
                .into_par_iter()
                .with_min_len((4096 / (height * width)).max(1))
                .enumerate()
                .for_each(|(z, mut channels)| {
                    for y in 0..height {
                        let row = self.lanes(isa, unit / blocks, unit % blocks, first + z, y);
                        for (channel, plane) in channels.iter_mut().enumerate() {
                            for (to, from) in plane[y * width..(y + 1) * width].iter_mut().zip(row.iter()) {
                                *to = from.0[channel];
                            }
                        }
                    }
                });
        });
        tensor
    }
}

/// Buffers that wait to be used again, so that a run asks the system for memory once. Of another type than lanes, only
/// their sizes: to know before a run what it will take.
#[derive(Debug)]
pub(crate) struct BufferPool<B = Vec<Lane>> {
    free: Vec<B>,
    /// Rather takes more memory than gives some back: for steps that repeat a thousand times.
    pub(crate) hoards: bool,
}

/// What a pool has for a value.
pub(crate) enum Found<B> {
    /// A buffer.
    Fits(B),
    /// Nothing; and buffers to be dropped.
    None(Vec<B>),
}

/// What a [`BufferPool`] must know of its buffers.
pub(crate) trait Buffer {
    /// Lanes that fit.
    fn room(&self) -> usize;
}

impl<E> Buffer for Vec<E> {
    fn room(&self) -> usize {
        self.capacity()
    }
}

impl Buffer for usize {
    fn room(&self) -> usize {
        *self
    }
}

impl<B> Default for BufferPool<B> {
    fn default() -> Self {
        Self {
            free: Vec::new(),
            hoards: false,
        }
    }
}

impl<B: Buffer> BufferPool<B> {
    /// The tightest buffer that holds so many lanes and is at most 2.5 times as large, so that half the channels without a
    /// halo still fit. Where there is none, those that are too small go back to the system, the largest first, until there
    /// is room for the one that the caller will make; a pool that hoards keeps them.
    pub(crate) fn find(&mut self, lanes: usize) -> Found<B> {
        let room = |i: usize| self.free[i].room();
        let fits = (0..self.free.len()).filter(|&i| room(i) >= lanes && 2 * room(i) <= 5 * lanes);
        if let Some(fit) = fits.min_by_key(|&i| room(i)) {
            return Found::Fits(self.free.swap_remove(fit));
        }
        Found::None(self.trim(lanes, lanes))
    }

    /// Takes buffers of less than `below` lanes out, the largest first, until they hold `lanes` together; a pool that
    /// hoards gives none.
    pub(crate) fn trim(&mut self, lanes: usize, below: usize) -> Vec<B> {
        let mut dropped = Vec::new();
        let mut sum = 0;
        while !self.hoards && sum < lanes {
            let small = (0..self.free.len()).filter(|&i| self.free[i].room() < below);
            let Some(largest) = small.max_by_key(|&i| self.free[i].room()) else {
                break;
            };
            let buffer = self.free.swap_remove(largest);
            sum += buffer.room();
            dropped.push(buffer);
        }
        dropped
    }

    /// Takes a buffer back.
    pub(crate) fn put(&mut self, buffer: B) {
        self.free.push(buffer);
    }
}

impl<E: Element> BufferPool<Vec<E>> {
    /// A buffer for a value. Its contents are arbitrary where it was used before: write all rows through
    /// [`Blocked::fill_rows`], or call [`Blocked::clear_halo`] before a kernel writes the voxels.
    pub(crate) fn take(&mut self, dims: Dims) -> Blocked<E> {
        use rayon::prelude::*;
        let lanes = dims.lanes();
        let mut data = match self.find(lanes) {
            Found::Fits(data) => data,
            Found::None(small) => {
                drop(small);
                Vec::with_capacity(lanes)
            }
        };
        data.truncate(lanes);
        // What the system gives is mapped page by page as it is first written, which takes longer than the writing: on all
        // threads.
        data.par_extend(rayon::iter::repeat_n(E::ZERO, lanes - data.len()));
        Blocked { dims, data }
    }

    /// Takes a value's buffer back.
    pub(crate) fn give(&mut self, value: Blocked<E>) {
        self.put(value.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Half;

    fn round_trip<E: Element>(isa: Isa, seven: E) {
        let shape = [2, 11, 3, 4, 5];
        // Whole numbers that are not too large for bf16.
        let data: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|i| (i % 251) as f32 + 1.0)
            .collect();
        let tensor = Tensor::new(shape, data).unwrap();
        let dims = Dims {
            batch: 2,
            channels: 11,
            extent: [3, 4, 5],
            halo: [1, 0, 2],
        };
        let mut value = Blocked {
            dims,
            data: vec![seven; dims.lanes()],
        };
        value.load(isa, &tensor);
        assert_eq!(value.store(isa), tensor);
        let wide = value.widened(isa).into_owned();
        let total: f64 = wide.data.iter().flat_map(|l| l.0).map(f64::from).sum();
        assert_eq!(total, tensor.data().iter().map(|&v| f64::from(v)).sum::<f64>());
    }

    #[test]
    fn load_and_store_are_inverse_and_the_halo_is_zero() {
        for isa in Isa::available() {
            round_trip(isa, Lane([7.0; LANES]));
            round_trip(isa, Half([0x40E0; LANES]));
        }
    }

    #[test]
    fn a_used_buffer_comes_back_for_a_smaller_value() {
        let dims = Dims {
            batch: 1,
            channels: 8,
            extent: [4; 3],
            halo: [0; 3],
        };
        let mut pool = BufferPool::<Vec<Lane>>::default();
        let value = pool.take(dims);
        let address = value.data.as_ptr();
        pool.give(value);
        let smaller = pool.take(Dims {
            extent: [4, 4, 3],
            ..dims
        });
        assert_eq!(smaller.data.as_ptr(), address);
    }
}
