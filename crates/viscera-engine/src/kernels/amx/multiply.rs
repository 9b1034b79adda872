//! The innermost loop: a chain of products of tiles. As plain Rust (the reference, and how the code around it is tested
//! everywhere), and with AMX.

use super::OUT_BLOCKS;
use crate::Isa;
use crate::layout::{LANES, Lane};

/// Numbers in a row of a tile.
pub(super) const ROW: usize = 32;

/// Rows of a tile.
const ROWS: usize = 16;

/// Places that are summed up together: the rows of two tiles.
pub(super) const PLACES: usize = 2 * ROWS;

/// Factors of 32 numbers for 16 columns in bf16, as the instruction wants them: `[pair of numbers][column][2]`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Tile([[[u16; 2]; 16]; ROWS]);

impl Tile {
    /// Zeros.
    pub(super) const ZERO: Self = Self([[[0; 2]; 16]; ROWS]);

    /// From `bits(number, column)`.
    pub(super) fn new(bits: impl Fn(usize, usize) -> u16) -> Self {
        Self(std::array::from_fn(|pair| {
            std::array::from_fn(|column| [bits(2 * pair, column), bits(2 * pair + 1, column)])
        }))
    }

    /// One of its factors, to be changed.
    #[inline(always)]
    pub(super) fn at(&mut self, number: usize, column: usize) -> &mut u16 {
        &mut self.0[number / 2][column][number % 2]
    }
}

/// Σ over units: rows of what is staged times tiles of weights.
pub(super) struct Product<'a> {
    /// Where each unit's row of the first of all places begins in `staged`.
    pub(super) units: &'a [usize],
    /// Numbers in bf16.
    pub(super) staged: &'a [u16],
    /// How much further on the row of the first place of this product begins.
    pub(super) first: usize,
    /// Numbers from the row of one place to that of the next.
    pub(super) record: usize,
    /// Places that count; the sums of others are arbitrary.
    pub(super) places: usize,
    /// Per unit: `pairs` tiles.
    pub(super) weights: &'a [Tile],
    /// 1 or 2 tiles side by side, each for two blocks of columns.
    pub(super) pairs: usize,
    /// Per place: [`OUT_BLOCKS`] lanes, of which the first 2 · `pairs` are written.
    pub(super) sums: &'a mut [Lane],
}

/// The right to multiply tiles on this thread, which holds their shapes until it is dropped.
pub(super) struct Session {
    amx: bool,
    /// Tiles belong to a thread.
    _here: std::marker::PhantomData<*const ()>,
}

impl Session {
    pub(super) fn new(isa: Isa) -> Self {
        let amx = isa == Isa::Amx;
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if amx {
            // SAFETY: this path is taken only where the processor has tiles and the system lets us use them.
            #[allow(unsafe_code)]
            unsafe {
                instructions::configure();
            }
        }
        Self {
            amx,
            _here: std::marker::PhantomData,
        }
    }

    /// Writes the sums of a product.
    ///
    /// # Panics
    /// When a row lies outside `staged`, or there are too few weights or sums: a mistake of the caller.
    pub(super) fn multiply(&self, product: Product<'_>) {
        let rows = product.places.next_multiple_of(ROWS);
        let last = product.units.iter().max().map_or(0, |unit| unit + product.first);
        assert!(
            last + (rows - 1) * product.record + ROW <= product.staged.len(),
            "a row outside what is staged"
        );
        assert!(rows <= PLACES && (1..=2).contains(&product.pairs), "tiles of a product");
        assert_eq!(
            product.weights.len(),
            product.units.len() * product.pairs,
            "weights of a product"
        );
        assert!(product.sums.len() >= rows * OUT_BLOCKS, "sums of a product");
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.amx {
            // SAFETY: the assertions above; the session has configured the tiles of this thread.
            #[allow(unsafe_code)]
            unsafe {
                instructions::multiply(product);
            }
            return;
        }
        plain(product);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self.amx {
            // SAFETY: as for the session.
            #[allow(unsafe_code)]
            unsafe {
                instructions::release();
            }
        }
    }
}

/// Multiplies four pairs of tiles, so often; gives the multiply-adds that this took. None without the instructions.
pub(crate) fn peak(isa: Isa, rounds: usize) -> usize {
    let session = Session::new(isa);
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if session.amx {
        // SAFETY: the session has configured the tiles of this thread.
        #[allow(unsafe_code)]
        unsafe {
            instructions::repeat(rounds);
        }
        return rounds * 4 * ROWS * ROW * ROWS;
    }
    let _ = (session, rounds);
    0
}

fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Sums even and odd numbers of a unit apart, then adds both to the sum, as the instruction does.
fn plain(product: Product<'_>) {
    for (place, lanes) in product
        .sums
        .chunks_exact_mut(OUT_BLOCKS)
        .take(product.places)
        .enumerate()
    {
        let mut sums = [0.0f32; OUT_BLOCKS * LANES];
        for (index, unit) in product.units.iter().enumerate() {
            let row = &product.staged[unit + product.first + place * product.record..][..ROW];
            let tiles = &product.weights[index * product.pairs..][..product.pairs];
            for (sums, tile) in sums.chunks_exact_mut(2 * LANES).zip(tiles) {
                let mut parts = [[0.0f32; 2]; 2 * LANES];
                for (pair, weights) in tile.0.iter().enumerate() {
                    let numbers: [f32; 2] = std::array::from_fn(|i| widen(row[2 * pair + i]));
                    for (part, weight) in parts.iter_mut().zip(weights) {
                        for i in 0..2 {
                            part[i] += numbers[i] * widen(weight[i]);
                        }
                    }
                }
                for (sum, [even, odd]) in sums.iter_mut().zip(parts) {
                    *sum += even + odd;
                }
            }
        }
        for (lane, sums) in lanes.iter_mut().zip(sums.chunks_exact(LANES)).take(2 * product.pairs) {
            lane.0.copy_from_slice(sums);
        }
    }
}

/// The instructions themselves. The standard library has none for tiles in this version of Rust, so they are written
/// out; no code but this touches tile registers, so they keep their contents between the statements of one function.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
mod instructions {
    use super::{Lane, OUT_BLOCKS, Product, ROW, ROWS, Tile};
    use std::arch::asm;

    /// Palette 1: eight tiles of sixteen rows of 64 bytes.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static SHAPES: Shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// # Safety
    /// The processor has tiles and the system lets us use them. So for all here.
    pub(super) unsafe fn configure() {
        // SAFETY: 64 bytes that last for ever.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags, readonly)) }
    }

    /// # Safety
    /// As [`configure`].
    pub(super) unsafe fn release() {
        // SAFETY: frees registers that nobody else uses.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags, nomem)) }
    }

    /// Fills a tile from rows `stride` bytes apart.
    macro_rules! load {
        ($tile:literal, $from:expr, $stride:expr) => {
            asm!(concat!("tileloadd ", $tile, ", [{} + {} * 1]"), in(reg) $from, in(reg) $stride,
                options(nostack, preserves_flags, readonly))
        };
    }

    macro_rules! store {
        ($tile:literal, $to:expr, $stride:expr) => {
            asm!(concat!("tilestored [{} + {} * 1], ", $tile), in(reg) $to, in(reg) $stride,
                options(nostack, preserves_flags))
        };
    }

    macro_rules! zero {
        ($tile:literal) => {
            asm!(
                concat!("tilezero ", $tile),
                options(nostack, preserves_flags, nomem)
            )
        };
    }

    /// sum += rows · weights.
    macro_rules! add {
        ($sum:literal, $rows:literal, $weights:literal) => {
            asm!(
                concat!("tdpbf16ps ", $sum, ", ", $rows, ", ", $weights),
                options(nostack, preserves_flags, nomem)
            )
        };
    }

    /// # Safety
    /// On a thread that has called [`configure`].
    pub(super) unsafe fn repeat(rounds: usize) {
        // SAFETY: touches tiles alone.
        unsafe {
            zero!("tmm4");
            zero!("tmm5");
            zero!("tmm6");
            zero!("tmm7");
            for _ in 0..rounds {
                add!("tmm0", "tmm4", "tmm6");
                add!("tmm1", "tmm4", "tmm7");
                add!("tmm2", "tmm5", "tmm6");
                add!("tmm3", "tmm5", "tmm7");
            }
        }
    }

    /// # Safety
    /// On a thread that has called [`configure`]; what [`super::Session::multiply`] asserts.
    pub(super) unsafe fn multiply(product: Product<'_>) {
        // SAFETY: passed on from the caller.
        unsafe {
            match (product.places > ROWS, product.pairs) {
                (false, 1) => tiles::<1, 1>(product),
                (false, _) => tiles::<1, 2>(product),
                (true, 1) => tiles::<2, 1>(product),
                (true, _) => tiles::<2, 2>(product),
            }
        }
    }

    /// # Safety
    /// As [`multiply`]; `HIGH` · 16 are the places, rounded up, `WIDE` the pairs.
    unsafe fn tiles<const HIGH: usize, const WIDE: usize>(product: Product<'_>) {
        const { assert!(size_of::<[u16; ROW]>() == 64 && size_of::<Tile>() == 1024) };
        let staged = product.staged.as_ptr();
        let stride = product.record * size_of::<u16>();
        let mut weights: *const Tile = product.weights.as_ptr();
        // SAFETY: all rows, weights and sums lie in their slices, as the caller has asserted.
        unsafe {
            zero!("tmm0");
            zero!("tmm1");
            zero!("tmm2");
            zero!("tmm3");
            for unit in product.units {
                let rows = staged.add(unit + product.first);
                load!("tmm4", rows, stride);
                load!("tmm6", weights, 64usize);
                add!("tmm0", "tmm4", "tmm6");
                if WIDE == 2 {
                    load!("tmm7", weights.add(1), 64usize);
                    add!("tmm1", "tmm4", "tmm7");
                }
                if HIGH == 2 {
                    load!("tmm5", rows.add(ROWS * product.record), stride);
                    add!("tmm2", "tmm5", "tmm6");
                    if WIDE == 2 {
                        add!("tmm3", "tmm5", "tmm7");
                    }
                }
                weights = weights.add(WIDE);
            }
            let sums = product.sums.as_mut_ptr();
            let stride = OUT_BLOCKS * size_of::<Lane>();
            store!("tmm0", sums, stride);
            if WIDE == 2 {
                store!("tmm1", sums.add(2), stride);
            }
            if HIGH == 2 {
                let sums = sums.add(ROWS * OUT_BLOCKS);
                store!("tmm2", sums, stride);
                if WIDE == 2 {
                    store!("tmm3", sums.add(2), stride);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::round;

    /// The instructions against the plain loop, where this processor has them.
    #[allow(clippy::print_stderr, reason = "says what was not tested")]
    #[test]
    fn tiles_agree_with_the_plain_loop() {
        let isa = Isa::detect();
        if isa != Isa::Amx {
            eprintln!("left out: this processor has no AMX");
            return;
        }
        let number = |i: usize| round((i * 7919 % 2003) as f32 / 1001.0 - 1.0);
        for (record, places, pairs, units) in [
            (32, 32, 2, 27),
            (32, 17, 1, 3),
            (16, 16, 2, 5),
            (8, 3, 1, 1),
            (99, 32, 2, 2),
        ] {
            let staged: Vec<u16> = (0..units + 40 * record + ROW).map(number).collect();
            let weights: Vec<Tile> = (0..units * pairs)
                .map(|unit| Tile::new(|k, column| number(unit * 512 + k * 16 + column + 77)))
                .collect();
            let offsets: Vec<usize> = (0..units).rev().collect();
            let mut found = [
                vec![Lane::ZERO; PLACES * OUT_BLOCKS],
                vec![Lane::ZERO; PLACES * OUT_BLOCKS],
            ];
            for (isa, sums) in [Isa::ScalarTiles, isa].into_iter().zip(&mut found) {
                Session::new(isa).multiply(Product {
                    units: &offsets,
                    staged: &staged,
                    first: record,
                    record,
                    places,
                    weights: &weights,
                    pairs,
                    sums,
                });
            }
            for place in 0..places {
                for block in 0..2 * pairs {
                    let [plain, tiles] = [0, 1].map(|which: usize| found[which][place * OUT_BLOCKS + block].0);
                    for (a, b) in plain.iter().zip(tiles) {
                        assert!((a - b).abs() <= 1e-5 * units as f32, "{a} {b} at {place}, {block}");
                    }
                }
            }
        }
    }
}
