//! The innermost loops of convolution: a tile of one output row, and a piece of a weight gradient.
//!
//! Both exist as plain Rust (the reference) and for AVX2 + FMA, tiles also for AVX-512, whose registers hold two blocks.
//! A tile holds `blocks` (1, 2, and 4 for AVX-512) blocks of output channels for up to [`max_width`] voxels in registers
//! while all taps and input channels stream by: per input channel one broadcast per voxel and one weight load per
//! register feed as many fused multiply-adds as there are registers. Every path adds in the same order.

use super::packed::PackedSlice;
use crate::Isa;
use crate::layout::{LANES, Lane};

/// One tap of a tile: where its input lies relative to the tile's first voxel, and how many channels of the block count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tap {
    /// In lanes.
    pub(crate) offset: isize,
    /// 1..=8.
    pub(crate) channels: usize,
}

/// What a tile starts from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start<'a> {
    /// These values, one lane per block.
    Value(&'a [Lane]),
    /// What the output holds already.
    Output,
}

/// A tile's operands. All pointers are in lanes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileArgs<'a> {
    pub(crate) taps: &'a [Tap],
    /// Per tap, per channel: `blocks` lanes.
    pub(crate) weights: PackedSlice<'a>,
    pub(crate) x: *const Lane,
    /// Lanes between the inputs of neighbouring outputs.
    pub(crate) x_step: usize,
    pub(crate) y: *mut Lane,
    /// Lanes between neighbouring outputs.
    pub(crate) y_step: usize,
    /// Lanes between the blocks of the output.
    pub(crate) y_block: usize,
    pub(crate) start: Start<'a>,
    /// Tiles of this width, one behind the other along the row.
    pub(crate) tiles: usize,
}

impl TileArgs<'_> {
    /// The operands of the tile `index` tiles of `width` voxels further on.
    #[inline(always)]
    fn further(&self, width: usize, index: usize) -> (*const Lane, *mut Lane) {
        let voxels = width * index;
        (
            self.x.wrapping_add(voxels * self.x_step),
            self.y.wrapping_add(voxels * self.y_step),
        )
    }
}

/// Cuts a row of voxels into tiles whose widths differ by one at most: twice (number of tiles, width).
pub(crate) fn cut(isa: Isa, row: usize, blocks: usize) -> [(usize, usize); 2] {
    let tiles = row.div_ceil(max_width(isa, blocks)).max(1);
    let (narrow, wide) = (row / tiles, row % tiles);
    [(wide, narrow + 1), (tiles - wide, narrow)]
}

/// Cuts a number of blocks into what tiles of a path hold: their numbers of blocks, the larger ones first.
pub(crate) fn cut_blocks(isa: Isa, mut blocks: usize) -> Vec<usize> {
    let mut cut = Vec::new();
    let mut most = isa.blocks();
    while blocks > 0 {
        while most > blocks {
            most /= 2;
        }
        cut.push(most);
        blocks -= most;
    }
    cut
}

/// Widest tile for a number of blocks: what sixteen registers hold, or thirty-two of AVX-512.
const fn max_width(isa: Isa, blocks: usize) -> usize {
    match (isa, blocks) {
        (_, 1) => 12,
        (Isa::Avx512 | Isa::Amx, _) => 14,
        _ => 6,
    }
}

/// Computes `blocks` × `width` lanes of output, as often as `args.tiles` says.
///
/// # Safety
/// For every voxel `p < width · tiles` and tap, `x + p · x_step + offset` is readable; for every block `b < blocks`,
/// `y + p · y_step + b · y_block` is writable and nobody else touches it; `weights` holds `blocks` lanes per channel of
/// every tap; a `Start::Value` holds `blocks` lanes; `isa` is one that this processor has.
#[allow(unsafe_code)]
pub(crate) unsafe fn tile(isa: Isa, blocks: usize, width: usize, args: &TileArgs<'_>) {
    if args.tiles == 0 || width == 0 {
        return;
    }
    debug_assert!(blocks <= isa.blocks() && width <= max_width(isa, blocks));
    debug_assert_eq!(
        args.weights.len(),
        blocks * args.taps.iter().map(|t| t.channels).sum::<usize>()
    );
    // SAFETY: passed on from the caller.
    unsafe {
        match isa {
            Isa::ScalarTiles | Isa::Scalar => tile_scalar(blocks, width, args),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Amx if blocks > 1 => wide::avx512::tile(blocks, width, args),
            #[cfg(target_arch = "x86_64")]
            _ => wide::avx2::tile(blocks, width, args),
            #[cfg(not(target_arch = "x86_64"))]
            _ => tile_scalar(blocks, width, args),
        }
    }
}

/// # Safety
/// As [`tile`].
#[allow(unsafe_code)]
unsafe fn tile_scalar(blocks: usize, width: usize, args: &TileArgs<'_>) {
    for p in 0..width * args.tiles {
        for b in 0..blocks {
            // SAFETY: in bounds by the caller's promise.
            let (y, x) = unsafe {
                (
                    args.y.add(p * args.y_step + b * args.y_block),
                    args.x.wrapping_add(p * args.x_step),
                )
            };
            let mut sum = match args.start {
                Start::Value(value) => value[b],
                // SAFETY: as above.
                Start::Output => unsafe { *y },
            };
            let mut weights = (b..args.weights.len()).step_by(blocks);
            for tap in args.taps {
                // SAFETY: as above.
                let input = unsafe { &*x.wrapping_offset(tap.offset) };
                for (value, weight) in input.0[..tap.channels].iter().zip(&mut weights) {
                    for (s, w) in sum.0.iter_mut().zip(args.weights.get(weight).0) {
                        *s = value.mul_add(w, *s);
                    }
                }
            }
            // SAFETY: as above.
            unsafe { *y = sum };
        }
    }
}

/// Rows of one block of inputs and one block of output gradients, for [`weight_rows`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightRows {
    pub(crate) x: *const Lane,
    /// Lanes between the inputs of neighbouring outputs, and of neighbouring rows of outputs.
    pub(crate) x_step: [usize; 2],
    pub(crate) dy: *const Lane,
    /// Lanes between rows of gradients; voxels of a row are neighbours.
    pub(crate) dy_row: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

/// Adds, for each of the first `sum.len()` input channels, Σ x[channel] · dy over all rows to `sum[channel]`.
///
/// # Safety
/// All rows are readable; `sum` has at most eight lanes; `isa` is one that this processor has.
#[allow(unsafe_code)]
pub(crate) unsafe fn weight_rows(isa: Isa, args: &WeightRows, sum: &mut [Lane]) {
    debug_assert!(sum.len() <= LANES);
    // SAFETY: passed on from the caller.
    unsafe {
        match isa {
            Isa::ScalarTiles | Isa::Scalar => weight_rows_scalar(args, sum),
            #[cfg(target_arch = "x86_64")]
            _ => wide::weight_rows(args, sum),
            #[cfg(not(target_arch = "x86_64"))]
            _ => weight_rows_scalar(args, sum),
        }
    }
}

/// # Safety
/// As [`weight_rows`].
#[allow(unsafe_code)]
unsafe fn weight_rows_scalar(args: &WeightRows, sum: &mut [Lane]) {
    for row in 0..args.rows {
        for p in 0..args.width {
            // SAFETY: in bounds by the caller's promise.
            let (x, dy) = unsafe {
                (
                    *args.x.add(row * args.x_step[1] + p * args.x_step[0]),
                    *args.dy.add(row * args.dy_row + p),
                )
            };
            for (channel, sum) in sum.iter_mut().enumerate() {
                for (s, d) in sum.0.iter_mut().zip(dy.0) {
                    *s = x.0[channel].mul_add(d, *s);
                }
            }
        }
    }
}

/// The kernels for AVX2 and AVX-512: one loop over either's registers.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{LANES, Lane, PackedSlice, Start, TileArgs, WeightRows};
    use crate::kernels::packed::HalfLane;
    use std::arch::x86_64::{
        __m256, __m512, _mm_load_si128, _mm256_add_ps, _mm256_broadcast_ss, _mm256_castpd_ps, _mm256_castps_pd,
        _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_load_ps, _mm256_loadu_si256, _mm256_setzero_ps, _mm256_store_ps,
        _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps256_ps512, _mm512_castps512_ps256, _mm512_cvtph_ps,
        _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_insertf64x4, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_setzero_ps,
    };

    /// A register that holds one or two blocks of one voxel.
    ///
    /// # Safety
    /// All methods want a processor with its instruction set, and pointers to what they read or write.
    #[allow(unsafe_code)]
    trait Register: Copy {
        /// Blocks that it holds.
        const BLOCKS: usize;
        unsafe fn zero() -> Self;
        /// The blocks at `place(0)` and, if it holds two, `place(1)`.
        unsafe fn load(place: impl Fn(usize) -> *const Lane) -> Self;
        unsafe fn store(self, place: impl Fn(usize) -> *mut Lane);
        /// One number everywhere.
        unsafe fn splat(from: *const f32) -> Self;
        /// self · factor + sum.
        unsafe fn mul_add(self, factor: Self, sum: Self) -> Self;
    }

    /// A register that is filled with weights as they are kept: as many lanes of them as it holds blocks.
    ///
    /// # Safety
    /// As [`Register`].
    #[allow(unsafe_code)]
    trait Weights<W>: Register {
        unsafe fn weights(from: *const W) -> Self;
    }

    #[allow(unsafe_code)]
    impl Register for __m256 {
        const BLOCKS: usize = 1;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: promised by the caller. So for all that follow.
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn load(place: impl Fn(usize) -> *const Lane) -> Self {
            // SAFETY: as above; a `Lane` is 32-byte aligned.
            unsafe { _mm256_load_ps(place(0).cast()) }
        }

        #[inline(always)]
        unsafe fn store(self, place: impl Fn(usize) -> *mut Lane) {
            // SAFETY: as above.
            unsafe { _mm256_store_ps(place(0).cast(), self) }
        }

        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_broadcast_ss(&*from) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_fmadd_ps(self, factor, sum) }
        }
    }

    #[allow(unsafe_code)]
    impl Weights<Lane> for __m256 {
        #[inline(always)]
        unsafe fn weights(from: *const Lane) -> Self {
            // SAFETY: as above.
            unsafe { _mm256_load_ps(from.cast()) }
        }
    }

    #[allow(unsafe_code)]
    impl Weights<HalfLane> for __m256 {
        #[inline(always)]
        unsafe fn weights(from: *const HalfLane) -> Self {
            // SAFETY: as above; a `HalfLane` is 16-byte aligned.
            unsafe { _mm256_cvtph_ps(_mm_load_si128(from.cast())) }
        }
    }

    #[allow(unsafe_code)]
    impl Register for __m512 {
        const BLOCKS: usize = 2;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as above.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn load(place: impl Fn(usize) -> *const Lane) -> Self {
            // SAFETY: as above; a `Lane` is 32-byte aligned.
            unsafe {
                let low = _mm512_castps256_ps512(_mm256_load_ps(place(0).cast()));
                let high = _mm256_castps_pd(_mm256_load_ps(place(1).cast()));
                _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castps_pd(low), high))
            }
        }

        #[inline(always)]
        unsafe fn store(self, place: impl Fn(usize) -> *mut Lane) {
            // SAFETY: as above.
            unsafe {
                let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self));
                _mm256_store_ps(place(0).cast(), _mm512_castps512_ps256(self));
                _mm256_store_ps(place(1).cast(), _mm256_castpd_ps(high));
            }
        }

        #[inline(always)]
        unsafe fn splat(from: *const f32) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_set1_ps(*from) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, factor: Self, sum: Self) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_fmadd_ps(self, factor, sum) }
        }
    }

    #[allow(unsafe_code)]
    impl Weights<Lane> for __m512 {
        #[inline(always)]
        unsafe fn weights(from: *const Lane) -> Self {
            // SAFETY: as above; not every pair is 64-byte aligned.
            unsafe { _mm512_loadu_ps(from.cast()) }
        }
    }

    #[allow(unsafe_code)]
    impl Weights<HalfLane> for __m512 {
        #[inline(always)]
        unsafe fn weights(from: *const HalfLane) -> Self {
            // SAFETY: as above.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }
    }

    /// What a path needs of its own: a function for each form of the loop, compiled for its instruction set, and the choice
    /// among them.
    macro_rules! path {
        ($name:ident, $register:ty, $features:literal, one register: $($one:literal)*, two: $($two:literal)*) => {
            pub(super) mod $name {
                use super::*;

                /// # Safety
                /// As [`super::super::tile`], on a processor with this path's instruction set, for as many blocks as one or
                /// two registers hold.
                #[allow(unsafe_code)]
                #[target_feature(enable = $features)]
                pub(in super::super) unsafe fn tile(blocks: usize, width: usize, args: &TileArgs<'_>) {
                    // SAFETY: passed on from the caller.
                    unsafe {
                        match args.weights {
                            PackedSlice::Full(weights) => choose(blocks, width, args, weights.as_ptr()),
                            PackedSlice::Half(weights) => choose(blocks, width, args, weights.as_ptr()),
                        }
                    }
                }

                /// One arm per width, each with the steps that occur (1 and 2) as constants and 0 for any other.
                ///
                /// # Safety
                /// As [`tile`]; `weights` are those of `args`.
                #[allow(unsafe_code)]
                #[target_feature(enable = $features)]
                unsafe fn choose<W>(blocks: usize, width: usize, args: &TileArgs<'_>, weights: *const W)
                where
                    $register: Weights<W>,
                {
                    // SAFETY: passed on from the caller.
                    unsafe {
                        match (blocks / <$register>::BLOCKS, width, args.x_step) {
                            $(
                                (1, $one, 1) => fixed::<W, 1, $one, 1>(args, weights),
                                (1, $one, 2) => fixed::<W, 1, $one, 2>(args, weights),
                                (1, $one, _) => fixed::<W, 1, $one, 0>(args, weights),
                            )*
                            $(
                                (2, $two, 1) => fixed::<W, 2, $two, 1>(args, weights),
                                (2, $two, 2) => fixed::<W, 2, $two, 2>(args, weights),
                                (2, $two, _) => fixed::<W, 2, $two, 0>(args, weights),
                            )*
                            _ => unreachable!("tiles are no wider than max_width"),
                        }
                    }
                }

                /// The loop, with `COUNT` registers for each of `WIDTH` voxels. Its closures must have the instruction set
                /// too, hence a function of each path.
                ///
                /// # Safety
                /// As [`choose`]; `STEP` equals `x_step` unless it is 0.
                #[allow(unsafe_code)]
                #[inline]
                #[target_feature(enable = $features)]
                unsafe fn fixed<W, const COUNT: usize, const WIDTH: usize, const STEP: usize>(
                    args: &TileArgs<'_>,
                    all_weights: *const W,
                ) where
                    $register: Weights<W>,
                {
                    let step = if STEP == 0 { args.x_step } else { STEP };
                    let blocks = COUNT * <$register>::BLOCKS;
                    for index in 0..args.tiles {
                        let (tile_x, tile_y) = args.further(WIDTH, index);
                        let place = |p: usize, b: usize| tile_y.wrapping_add(p * args.y_step + b * args.y_block);
                        // SAFETY: every address is in bounds by the caller's promise.
                        unsafe {
                            let mut sum = [[<$register>::zero(); WIDTH]; COUNT];
                            for r in 0..COUNT {
                                for p in 0..WIDTH {
                                    sum[r][p] = match args.start {
                                        Start::Value(value) => {
                                            <$register>::load(|b| value.as_ptr().add(r * <$register>::BLOCKS + b))
                                        }
                                        Start::Output => {
                                            <$register>::load(|b| place(p, r * <$register>::BLOCKS + b).cast_const())
                                        }
                                    };
                                }
                            }
                            let mut weights = all_weights;
                            for tap in args.taps {
                                let x: *const f32 = tile_x.wrapping_offset(tap.offset).cast();
                                let mut channel = |channel: usize| {
                                    let x = x.add(channel);
                                    let weights = weights.add(channel * blocks);
                                    let weight: [$register; COUNT] = std::array::from_fn(|r| {
                                        <$register>::weights(weights.add(r * <$register>::BLOCKS))
                                    });
                                    for p in 0..WIDTH {
                                        let value = <$register>::splat(x.add(p * step * LANES));
                                        for r in 0..COUNT {
                                            sum[r][p] = value.mul_add(weight[r], sum[r][p]);
                                        }
                                    }
                                };
                                // Almost all blocks are whole: eight channels without a loop.
                                if tap.channels == LANES {
                                    for c in 0..LANES {
                                        channel(c);
                                    }
                                } else {
                                    for c in 0..tap.channels {
                                        channel(c);
                                    }
                                }
                                weights = weights.add(tap.channels * blocks);
                            }
                            for r in 0..COUNT {
                                for p in 0..WIDTH {
                                    sum[r][p].store(|b| place(p, r * <$register>::BLOCKS + b));
                                }
                            }
                        }
                    }
                }
            }
        };
    }

    path!(avx2, __m256, "avx2,fma,f16c", one register: 1 2 3 4 5 6 7 8 9 10 11 12, two: 1 2 3 4 5 6);
    path!(
        avx512, __m512, "avx512f,avx512vl",
        one register: 1 2 3 4 5 6 7 8 9 10 11 12 13 14, two: 1 2 3 4 5 6 7 8 9 10 11 12 13 14
    );

    /// # Safety
    /// As [`super::weight_rows`], on a processor with AVX2 and FMA.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn weight_rows(args: &WeightRows, sum: &mut [Lane]) {
        macro_rules! dispatch {
            ($($channels:literal)*) => {
                match sum.len() {
                    // SAFETY: passed on from the caller.
                    $($channels => unsafe { weight_rows_fixed::<$channels>(args, sum) },)*
                    _ => unreachable!("a block has eight channels"),
                }
            };
        }
        dispatch!(1 2 3 4 5 6 7 8);
    }

    /// # Safety
    /// As [`super::weight_rows`]; `sum` has `CHANNELS` lanes.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn weight_rows_fixed<const CHANNELS: usize>(args: &WeightRows, sum: &mut [Lane]) {
        let mut acc = [_mm256_setzero_ps(); CHANNELS];
        // SAFETY: every address is in bounds by the caller's promise; a `Lane` is 32-byte aligned.
        unsafe {
            for row in 0..args.rows {
                let mut x: *const f32 = args.x.add(row * args.x_step[1]).cast();
                let mut dy: *const f32 = args.dy.add(row * args.dy_row).cast();
                for _ in 0..args.width {
                    let gradient = _mm256_load_ps(dy);
                    for (channel, acc) in acc.iter_mut().enumerate() {
                        *acc = _mm256_fmadd_ps(_mm256_broadcast_ss(&*x.add(channel)), gradient, *acc);
                    }
                    x = x.add(args.x_step[0] * LANES);
                    dy = dy.add(LANES);
                }
            }
            for (acc, sum) in acc.iter().zip(sum) {
                let address = sum.0.as_mut_ptr();
                _mm256_store_ps(address, _mm256_add_ps(_mm256_load_ps(address), *acc));
            }
        }
    }
}
