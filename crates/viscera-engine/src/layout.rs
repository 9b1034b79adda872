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
//! Lanes past the last channel hold zeros or whatever a pointwise function makes of zero; no kernel lets them reach a
//! real channel, because the weights that would read them are left out.

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
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) dims: Dims,
    pub(crate) data: Vec<Lane>,
}

impl Blocked {
    /// The lanes of one row of voxels, halo left out.
    #[inline]
    pub(crate) fn row(&self, sample: usize, block: usize, z: usize, y: usize) -> &[Lane] {
        let start = self.dims.at(sample, block, [z, y, 0]);
        &self.data[start..start + self.dims.extent[2]]
    }

    /// Writes every row through `f(sample, block, z, y, row)`, planes in parallel, and clears the halo.
    pub(crate) fn fill_rows(&mut self, f: impl Fn(usize, usize, usize, usize, &mut [Lane]) + Sync) {
        self.each_row(true, f);
    }

    /// Changes every row through `f(sample, block, z, y, row)`, planes in parallel; the halo stays as it is.
    pub(crate) fn change_rows(&mut self, f: impl Fn(usize, usize, usize, usize, &mut [Lane]) + Sync) {
        self.each_row(false, f);
    }

    fn each_row(&mut self, clear_halo: bool, f: impl Fn(usize, usize, usize, usize, &mut [Lane]) + Sync) {
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
                        plane.fill(Lane::ZERO);
                    }
                    return;
                }
                for (y, row) in plane.chunks_exact_mut(row_pitch).enumerate() {
                    if y < halo[1] || y >= halo[1] + extent[1] {
                        if clear_halo {
                            row.fill(Lane::ZERO);
                        }
                        continue;
                    }
                    if clear_halo {
                        row[..halo[2]].fill(Lane::ZERO);
                        row[halo[2] + extent[2]..].fill(Lane::ZERO);
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
    pub(crate) fn load(&mut self, tensor: &Tensor) {
        let channels = self.dims.channels;
        let [_, rows, width] = self.dims.extent;
        self.fill_rows(|sample, block, z, y, row| {
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
    pub(crate) fn store(&self) -> Tensor {
        use rayon::prelude::*;
        let Dims { batch, channels, .. } = self.dims;
        let [depth, height, width] = self.dims.extent;
        let mut tensor = Tensor::zeros([batch, channels, depth, height, width]);
        tensor
            .data_mut()
            .par_chunks_exact_mut(height * width)
            .with_min_len((4096 / (height * width)).max(1))
            .enumerate()
            .for_each(|(index, plane)| {
                let (unit, z) = (index / depth, index % depth);
                let (sample, channel) = (unit / channels, unit % channels);
                for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                    let source = self.row(sample, channel / LANES, z, y);
                    for (to, from) in row.iter_mut().zip(source) {
                        *to = from.0[channel % LANES];
                    }
                }
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
    /// Nothing; and a smaller buffer to be dropped.
    None(Option<B>),
}

/// What a [`BufferPool`] must know of its buffers.
pub(crate) trait Buffer {
    /// Lanes that fit.
    fn room(&self) -> usize;
}

impl Buffer for Vec<Lane> {
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
    /// The tightest buffer that holds so many lanes and wastes less than half of itself. Where there is none, the largest
    /// of those that are too small goes back to the system, to make room for the one that its caller will make; a pool
    /// that hoards keeps it.
    pub(crate) fn find(&mut self, lanes: usize) -> Found<B> {
        let room = |i: usize| self.free[i].room();
        let all = 0..self.free.len();
        let fits = all.clone().filter(|&i| room(i) >= lanes && room(i) / 2 <= lanes);
        if let Some(fit) = fits.min_by_key(|&i| room(i)) {
            return Found::Fits(self.free.swap_remove(fit));
        }
        if self.hoards {
            return Found::None(None);
        }
        match all.filter(|&i| room(i) < lanes).max_by_key(|&i| room(i)) {
            Some(small) => Found::None(Some(self.free.swap_remove(small))),
            None => Found::None(None),
        }
    }

    /// Takes a buffer back.
    pub(crate) fn put(&mut self, buffer: B) {
        self.free.push(buffer);
    }
}

impl BufferPool {
    /// A buffer for a value. Its contents are arbitrary where it was used before: write all rows through
    /// [`Blocked::fill_rows`], or call [`Blocked::clear_halo`] before a kernel writes the voxels.
    pub(crate) fn take(&mut self, dims: Dims) -> Blocked {
        let mut data = match self.find(dims.lanes()) {
            Found::Fits(data) => data,
            Found::None(small) => {
                drop(small);
                Vec::new()
            }
        };
        data.resize(dims.lanes(), Lane::ZERO);
        Blocked { dims, data }
    }

    /// Takes a value's buffer back.
    pub(crate) fn give(&mut self, value: Blocked) {
        self.put(value.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_and_store_are_inverse_and_the_halo_is_zero() {
        let shape = [2, 11, 3, 4, 5];
        let data: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32 + 1.0).collect();
        let tensor = Tensor::new(shape, data).unwrap();
        let dims = Dims {
            batch: 2,
            channels: 11,
            extent: [3, 4, 5],
            halo: [1, 0, 2],
        };
        let mut value = Blocked {
            dims,
            data: vec![Lane([7.0; LANES]); dims.lanes()],
        };
        value.load(&tensor);
        assert_eq!(value.store(), tensor);
        let total: f64 = value.data.iter().flat_map(|l| l.0).map(f64::from).sum();
        assert_eq!(total, tensor.data().iter().map(|&v| f64::from(v)).sum::<f64>());
    }

    #[test]
    fn a_used_buffer_comes_back_for_a_smaller_value() {
        let dims = Dims {
            batch: 1,
            channels: 8,
            extent: [4; 3],
            halo: [0; 3],
        };
        let mut pool = BufferPool::default();
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
