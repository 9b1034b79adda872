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
            Isa::Avx512 | Isa::Amx if blocks > 1 => avx512::tile(blocks, width, args),
            #[cfg(target_arch = "x86_64")]
            _ => avx2::tile(blocks, width, args),
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
            _ => avx2::weight_rows(args, sum),
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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Lane, PackedSlice, Start, TileArgs, WeightRows};
    use crate::kernels::packed::HalfLane;
    use std::arch::x86_64::{
        __m256, _mm_load_si128, _mm256_add_ps, _mm256_broadcast_ss, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_load_ps,
        _mm256_setzero_ps, _mm256_store_ps,
    };

    /// Eight weights as they are kept.
    trait Weight: Copy {
        /// # Safety
        /// On a processor with AVX2 and F16C; the pointer is to such weights.
        #[allow(unsafe_code)]
        unsafe fn load(from: *const Self) -> __m256;
    }

    impl Weight for Lane {
        #[allow(unsafe_code)]
        #[inline(always)]
        unsafe fn load(from: *const Self) -> __m256 {
            // SAFETY: promised by the caller; a `Lane` is 32-byte aligned.
            unsafe { _mm256_load_ps(from.cast()) }
        }
    }

    impl Weight for HalfLane {
        #[allow(unsafe_code)]
        #[inline(always)]
        unsafe fn load(from: *const Self) -> __m256 {
            // SAFETY: promised by the caller; a `HalfLane` is 16-byte aligned.
            unsafe { _mm256_cvtph_ps(_mm_load_si128(from.cast())) }
        }
    }

    /// # Safety
    /// As [`super::tile`], on a processor with AVX2, FMA and F16C.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) unsafe fn tile(blocks: usize, width: usize, args: &TileArgs<'_>) {
        // SAFETY: passed on from the caller.
        unsafe {
            match args.weights {
                PackedSlice::Full(weights) => tile_of(blocks, width, args, weights.as_ptr()),
                PackedSlice::Half(weights) => tile_of(blocks, width, args, weights.as_ptr()),
            }
        }
    }

    /// # Safety
    /// As [`super::tile`]; `weights` are those of `args`.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn tile_of<W: Weight>(blocks: usize, width: usize, args: &TileArgs<'_>, weights: *const W) {
        /// One arm per width, each with the steps that occur (1 and 2) as constants and 0 for any other.
        macro_rules! dispatch {
            ($blocks:literal: $($width:literal)*) => {
                match (width, args.x_step) {
                    $(
                        // SAFETY: passed on from the caller.
                        ($width, 1) => unsafe { fixed::<W, $blocks, $width, 1>(args, weights) },
                        // SAFETY: as above.
                        ($width, 2) => unsafe { fixed::<W, $blocks, $width, 2>(args, weights) },
                        // SAFETY: as above.
                        ($width, _) => unsafe { fixed::<W, $blocks, $width, 0>(args, weights) },
                    )*
                    _ => unreachable!("tiles are no wider than max_width"),
                }
            };
        }
        if blocks == 2 {
            dispatch!(2: 1 2 3 4 5 6);
        } else {
            dispatch!(1: 1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }

    /// # Safety
    /// As [`super::tile`]; `STEP` equals `x_step` unless it is 0.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn fixed<W: Weight, const BLOCKS: usize, const WIDTH: usize, const STEP: usize>(
        args: &TileArgs<'_>,
        all_weights: *const W,
    ) {
        let step = if STEP == 0 { args.x_step } else { STEP };
        for index in 0..args.tiles {
            let (tile_x, tile_y) = args.further(WIDTH, index);
            let mut sum = [[_mm256_setzero_ps(); WIDTH]; BLOCKS];
            // SAFETY: every address is in bounds by the caller's promise; a `Lane` is 32-byte aligned.
            unsafe {
                for b in 0..BLOCKS {
                    for p in 0..WIDTH {
                        sum[b][p] = match args.start {
                            Start::Value(value) => _mm256_load_ps(value.as_ptr().add(b).cast()),
                            Start::Output => _mm256_load_ps(tile_y.add(p * args.y_step + b * args.y_block).cast()),
                        };
                    }
                }
                let mut weights = all_weights;
                for tap in args.taps {
                    let x: *const f32 = tile_x.wrapping_offset(tap.offset).cast();
                    let mut channel = |channel: usize| {
                        let x = x.add(channel);
                        let weights = weights.add(channel * BLOCKS);
                        let weight: [_; BLOCKS] = std::array::from_fn(|b| W::load(weights.add(b)));
                        for p in 0..WIDTH {
                            let value = _mm256_broadcast_ss(&*x.add(p * step * super::LANES));
                            for b in 0..BLOCKS {
                                sum[b][p] = _mm256_fmadd_ps(value, weight[b], sum[b][p]);
                            }
                        }
                    };
                    // Almost all blocks are whole: eight channels without a loop.
                    if tap.channels == super::LANES {
                        for c in 0..super::LANES {
                            channel(c);
                        }
                    } else {
                        for c in 0..tap.channels {
                            channel(c);
                        }
                    }
                    weights = weights.add(tap.channels * BLOCKS);
                }
                for b in 0..BLOCKS {
                    for p in 0..WIDTH {
                        _mm256_store_ps(tile_y.add(p * args.y_step + b * args.y_block).cast(), sum[b][p]);
                    }
                }
            }
        }
    }

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
                    x = x.add(args.x_step[0] * super::LANES);
                    dy = dy.add(super::LANES);
                }
            }
            for (acc, sum) in acc.iter().zip(sum) {
                let address = sum.0.as_mut_ptr();
                _mm256_store_ps(address, _mm256_add_ps(_mm256_load_ps(address), *acc));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Lane, PackedSlice, Start, TileArgs};
    use crate::kernels::packed::HalfLane;
    use std::arch::x86_64::{
        __m512, _mm256_castpd_ps, _mm256_castps_pd, _mm256_load_ps, _mm256_loadu_si256, _mm256_store_ps,
        _mm512_castpd_ps, _mm512_castps_pd, _mm512_castps256_ps512, _mm512_castps512_ps256, _mm512_cvtph_ps,
        _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_insertf64x4, _mm512_loadu_ps, _mm512_set1_ps,
        _mm512_setzero_ps,
    };

    /// Sixteen weights as they are kept: those of two blocks.
    trait Weight: Copy {
        /// # Safety
        /// On a processor with AVX-512; the pointer is to two of these.
        #[allow(unsafe_code)]
        unsafe fn load(from: *const Self) -> __m512;
    }

    impl Weight for Lane {
        #[allow(unsafe_code)]
        #[inline(always)]
        unsafe fn load(from: *const Self) -> __m512 {
            // SAFETY: promised by the caller.
            unsafe { _mm512_loadu_ps(from.cast()) }
        }
    }

    impl Weight for HalfLane {
        #[allow(unsafe_code)]
        #[inline(always)]
        unsafe fn load(from: *const Self) -> __m512 {
            // SAFETY: promised by the caller; not every pair is 32-byte aligned.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }
    }

    /// Two lanes in one register.
    ///
    /// # Safety
    /// On a processor with AVX-512; both can be read.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn join(low: *const Lane, high: *const Lane) -> __m512 {
        // SAFETY: promised by the caller; a `Lane` is 32-byte aligned.
        unsafe {
            let low = _mm512_castps256_ps512(_mm256_load_ps(low.cast()));
            let high = _mm256_castps_pd(_mm256_load_ps(high.cast()));
            _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castps_pd(low), high))
        }
    }

    /// # Safety
    /// As [`super::tile`] for 2 or 4 blocks, on a processor with AVX-512.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(super) unsafe fn tile(blocks: usize, width: usize, args: &TileArgs<'_>) {
        // SAFETY: passed on from the caller.
        unsafe {
            match args.weights {
                PackedSlice::Full(weights) => tile_of(blocks, width, args, weights.as_ptr()),
                PackedSlice::Half(weights) => tile_of(blocks, width, args, weights.as_ptr()),
            }
        }
    }

    /// # Safety
    /// As [`tile`]; `weights` are those of `args`.
    #[allow(unsafe_code)]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn tile_of<W: Weight>(blocks: usize, width: usize, args: &TileArgs<'_>, weights: *const W) {
        /// One arm per width, each with the step that is most common as a constant and 0 for any other.
        macro_rules! dispatch {
            ($pairs:literal: $($width:literal)*) => {
                match (width, args.x_step) {
                    $(
                        // SAFETY: passed on from the caller.
                        ($width, 1) => unsafe { fixed::<W, $pairs, $width, 1>(args, weights) },
                        // SAFETY: as above.
                        ($width, _) => unsafe { fixed::<W, $pairs, $width, 0>(args, weights) },
                    )*
                    _ => unreachable!("tiles are no wider than max_width"),
                }
            };
        }
        if blocks == 4 {
            dispatch!(2: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        } else {
            dispatch!(1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        }
    }

    /// # Safety
    /// As [`tile`] for `PAIRS` · 2 blocks; `STEP` equals `x_step` unless it is 0.
    #[allow(unsafe_code)]
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    unsafe fn fixed<W: Weight, const PAIRS: usize, const WIDTH: usize, const STEP: usize>(
        args: &TileArgs<'_>,
        all_weights: *const W,
    ) {
        let step = if STEP == 0 { args.x_step } else { STEP };
        for index in 0..args.tiles {
            let (tile_x, tile_y) = args.further(WIDTH, index);
            let place = |voxel: usize, block: usize| tile_y.wrapping_add(voxel * args.y_step + block * args.y_block);
            let mut sum = [[_mm512_setzero_ps(); WIDTH]; PAIRS];
            // SAFETY: every address is in bounds by the caller's promise; a `Lane` is 32-byte aligned.
            unsafe {
                for pair in 0..PAIRS {
                    for p in 0..WIDTH {
                        sum[pair][p] = match args.start {
                            Start::Value(value) => {
                                let value = value.as_ptr().add(2 * pair);
                                join(value, value.add(1))
                            }
                            Start::Output => join(place(p, 2 * pair), place(p, 2 * pair + 1)),
                        };
                    }
                }
                let mut weights = all_weights;
                for tap in args.taps {
                    let x: *const f32 = tile_x.wrapping_offset(tap.offset).cast();
                    let mut channel = |channel: usize| {
                        let x = x.add(channel);
                        let weights = weights.add(channel * 2 * PAIRS);
                        let weight: [_; PAIRS] = std::array::from_fn(|pair| W::load(weights.add(2 * pair)));
                        for p in 0..WIDTH {
                            let value = _mm512_set1_ps(*x.add(p * step * super::LANES));
                            for pair in 0..PAIRS {
                                sum[pair][p] = _mm512_fmadd_ps(value, weight[pair], sum[pair][p]);
                            }
                        }
                    };
                    // Almost all blocks are whole: eight channels without a loop.
                    if tap.channels == super::LANES {
                        for c in 0..super::LANES {
                            channel(c);
                        }
                    } else {
                        for c in 0..tap.channels {
                            channel(c);
                        }
                    }
                    weights = weights.add(tap.channels * 2 * PAIRS);
                }
                for pair in 0..PAIRS {
                    for p in 0..WIDTH {
                        let high = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sum[pair][p]));
                        _mm256_store_ps(place(p, 2 * pair).cast(), _mm512_castps512_ps256(sum[pair][p]));
                        _mm256_store_ps(place(p, 2 * pair + 1).cast(), _mm256_castpd_ps(high));
                    }
                }
            }
        }
    }
}
