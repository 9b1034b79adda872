//! How values are stored between steps: as f32, or rounded to bf16. Arithmetic is f32 in either case.
//!
//! Kernels see rows of [`Lane`]s. Of a value stored in f32 these are its own memory; of one stored in bf16 a copy in the
//! first-level cache ([`Blocked::lanes`], [`Blocked::fill_lanes`], [`Blocked::change_lanes`]). The kernels in which that
//! copy would cost something, Winograd's transforms, load and store [`Element`]s themselves.

use crate::Isa;
use crate::layout::{Blocked, BufferPool, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Mutex;

/// How values are stored between the operations of a network. All arithmetic, sums and the statistics of norms are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// bf16 on processors that multiply in it (AMX), f32 on others.
    Auto,
    /// Four bytes.
    #[default]
    F32,
    /// Two bytes, of which eight bits are the mantissa: half the memory. The weights of convolutions are rounded too. In
    /// training mode this holds for what waits for the backward pass; gradients are f32, and rounded as they are multiplied
    /// where convolutions multiply tiles.
    Bf16,
}

impl Precision {
    /// Whether this means bf16 on this processor.
    #[must_use]
    pub fn is_bf16(self) -> bool {
        match self {
            Self::Auto => Isa::detect().multiplies_tiles(),
            Self::F32 => false,
            Self::Bf16 => true,
        }
    }

    /// What it means on this processor: `f32` or `bf16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.is_bf16() { "bf16" } else { "f32" }
    }
}

/// Eight channels of one voxel, each the upper half of an f32's bits.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(16))]
pub(crate) struct Half(pub(crate) [u16; LANES]);

/// Buffers of either kind.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    full: Mutex<BufferPool<Vec<Lane>>>,
    half: Mutex<BufferPool<Vec<Half>>>,
}

/// Eight channels of one voxel as they are stored.
pub(crate) trait Element: Copy + Debug + Send + Sync + Sized + 'static {
    /// Zeros.
    const ZERO: Self;
    /// The values.
    fn load<V: Vector>(&self) -> V;
    /// Replaces the values.
    fn store<V: Vector>(&mut self, value: V);
    /// The values in bf16.
    fn half<V: Vector>(&self) -> Half;
    /// Elements that are lanes, as such.
    fn as_lanes(row: &[Self]) -> Option<&[Lane]>;
    /// The same, to be changed.
    fn as_lanes_mut(row: &mut [Self]) -> Option<&mut [Lane]>;
    /// A value that is stored in lanes, as such.
    fn as_full(value: &Blocked<Self>) -> Option<&Blocked>;
    /// The same, to be changed.
    fn as_full_mut(value: &mut Blocked<Self>) -> Option<&mut Blocked>;
    /// The pool of buffers of this kind.
    fn pool(pools: &Pools) -> &Mutex<BufferPool<Vec<Self>>>;
    /// A value that is stored in lanes, as such, or back.
    fn into_full(value: Blocked<Self>) -> Result<Blocked, Blocked<Self>>;
    /// A buffer of this kind, from `full` where these are lanes.
    fn take(dims: Dims, full: &mut BufferPool, pools: &Pools) -> Blocked<Self>;
}

impl Element for Lane {
    const ZERO: Self = Self::ZERO;

    #[inline(always)]
    fn load<V: Vector>(&self) -> V {
        V::load(self)
    }

    #[inline(always)]
    fn store<V: Vector>(&mut self, value: V) {
        value.store(self);
    }

    #[inline(always)]
    fn half<V: Vector>(&self) -> Half {
        let mut half = Half([0; LANES]);
        V::load(self).store_half(&mut half);
        half
    }

    #[inline(always)]
    fn as_lanes(row: &[Self]) -> Option<&[Lane]> {
        Some(row)
    }

    #[inline(always)]
    fn as_lanes_mut(row: &mut [Self]) -> Option<&mut [Lane]> {
        Some(row)
    }

    fn as_full(value: &Blocked<Self>) -> Option<&Blocked> {
        Some(value)
    }

    fn as_full_mut(value: &mut Blocked<Self>) -> Option<&mut Blocked> {
        Some(value)
    }

    fn pool(pools: &Pools) -> &Mutex<BufferPool<Vec<Self>>> {
        &pools.full
    }

    fn into_full(value: Blocked) -> Result<Blocked, Blocked> {
        Ok(value)
    }

    fn take(dims: Dims, full: &mut BufferPool, _: &Pools) -> Blocked {
        full.take(dims)
    }
}

impl Element for Half {
    const ZERO: Self = Self([0; LANES]);

    #[inline(always)]
    fn load<V: Vector>(&self) -> V {
        V::load_half(self)
    }

    #[inline(always)]
    fn store<V: Vector>(&mut self, value: V) {
        value.store_half(self);
    }

    #[inline(always)]
    fn half<V: Vector>(&self) -> Half {
        *self
    }

    #[inline(always)]
    fn as_lanes(_: &[Self]) -> Option<&[Lane]> {
        None
    }

    #[inline(always)]
    fn as_lanes_mut(_: &mut [Self]) -> Option<&mut [Lane]> {
        None
    }

    fn as_full(_: &Blocked<Self>) -> Option<&Blocked> {
        None
    }

    fn as_full_mut(_: &mut Blocked<Self>) -> Option<&mut Blocked> {
        None
    }

    fn pool(pools: &Pools) -> &Mutex<BufferPool<Vec<Self>>> {
        &pools.half
    }

    fn into_full(value: Blocked<Self>) -> Result<Blocked, Blocked<Self>> {
        Err(value)
    }

    fn take(dims: Dims, _: &mut BufferPool, pools: &Pools) -> Blocked<Self> {
        match Self::pool(pools).lock() {
            Ok(mut pool) => pool.take(dims),
            Err(_) => Blocked::new(dims),
        }
    }
}

/// to = from, of equal length.
pub(crate) struct Widen<'a, E>(pub(crate) &'a [E], pub(crate) &'a mut [Lane]);

impl<E: Element> Kernel for Widen<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (from, to) in self.0.iter().zip(self.1) {
            from.load::<V>().store(to);
        }
    }
}

/// to = from, rounded, of equal length.
pub(crate) struct Narrow<'a, E>(pub(crate) &'a [Lane], pub(crate) &'a mut [E]);

impl<E: Element> Kernel for Narrow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (from, to) in self.0.iter().zip(self.1) {
            to.store(V::load(from));
        }
    }
}

thread_local! {
    /// Rows that are not in use.
    static ROWS: RefCell<Vec<Vec<Lane>>> = const { RefCell::new(Vec::new()) };
}

/// A row of lanes of this thread, of arbitrary contents, given back when dropped.
struct Scratch(Vec<Lane>);

impl Scratch {
    fn new(len: usize) -> Self {
        let mut row = ROWS.with_borrow_mut(Vec::pop).unwrap_or_default();
        row.resize(len, Lane::ZERO);
        Self(row)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let row = std::mem::take(&mut self.0);
        // A thread that ends has no more use for it.
        let _ = ROWS.try_with(|rows| rows.borrow_mut().push(row));
    }
}

/// A row of a value: its own memory, or a widened copy.
pub(crate) struct Lanes<'a>(Source<'a>);

enum Source<'a> {
    Own(&'a [Lane]),
    Copy(Scratch),
}

impl Deref for Lanes<'_> {
    type Target = [Lane];

    #[inline]
    fn deref(&self) -> &[Lane] {
        match &self.0 {
            Source::Own(row) => row,
            Source::Copy(row) => &row.0,
        }
    }
}

impl<E: Element> Blocked<E> {
    /// The values of one row of voxels, halo left out.
    #[inline]
    pub(crate) fn lanes(&self, isa: Isa, sample: usize, block: usize, z: usize, y: usize) -> Lanes<'_> {
        let row = self.row(sample, block, z, y);
        Lanes(E::as_lanes(row).map_or_else(
            || {
                let mut copy = Scratch::new(row.len());
                isa.run(Widen(row, &mut copy.0));
                Source::Copy(copy)
            },
            Source::Own,
        ))
    }

    /// [`Self::fill_rows`] with rows of lanes.
    pub(crate) fn fill_lanes(&mut self, isa: Isa, f: impl Fn(usize, usize, usize, usize, &mut [Lane]) + Sync) {
        self.fill_rows(|sample, block, z, y, row| match E::as_lanes_mut(row) {
            Some(row) => f(sample, block, z, y, row),
            None => {
                let mut lanes = Scratch::new(row.len());
                f(sample, block, z, y, &mut lanes.0);
                isa.run(Narrow(&lanes.0, row));
            }
        });
    }

    /// [`Self::change_rows`] with rows of lanes.
    pub(crate) fn change_lanes(&mut self, isa: Isa, f: impl Fn(usize, usize, usize, usize, &mut [Lane]) + Sync) {
        self.change_rows(|sample, block, z, y, row| match E::as_lanes_mut(row) {
            Some(row) => f(sample, block, z, y, row),
            None => {
                let mut lanes = Scratch::new(row.len());
                isa.run(Widen(row, &mut lanes.0));
                f(sample, block, z, y, &mut lanes.0);
                isa.run(Narrow(&lanes.0, row));
            }
        });
    }

    /// The whole value in lanes, for operations that know no other.
    pub(crate) fn widened(&self, isa: Isa) -> Cow<'_, Blocked> {
        match E::as_full(self) {
            Some(value) => Cow::Borrowed(value),
            None => {
                let mut value = Blocked::new(self.dims);
                self.widen(isa, &mut value);
                Cow::Owned(value)
            }
        }
    }

    /// Writes the values into lanes.
    pub(crate) fn widen(&self, isa: Isa, to: &mut Blocked) {
        to.fill_rows(|sample, block, z, y, row| isa.run(Widen(self.row(sample, block, z, y), row)));
    }

    /// Lets `f` write the value in lanes.
    pub(crate) fn write_widened(&mut self, isa: Isa, f: impl FnOnce(&mut Blocked)) {
        match E::as_full_mut(self) {
            Some(value) => f(value),
            None => {
                let mut value = Blocked::new(self.dims);
                f(&mut value);
                self.fill_rows(|sample, block, z, y, row| isa.run(Narrow(value.row(sample, block, z, y), row)));
            }
        }
    }
}

/// A value with its elements rounded, for tests.
#[cfg(test)]
pub(crate) fn rounded(isa: Isa, value: &Blocked) -> Blocked<Half> {
    let mut rounded = Blocked::new(value.dims);
    isa.run(Narrow(&value.data, &mut rounded.data));
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_keeps_nan_and_infinity() {
        // Of each pattern of upper bits, what lies at, below and above the middle to the next.
        let upper = (0..=u16::MAX)
            .step_by(7)
            .chain([0, 0x7F80, 0xFF80, 0x7F7F, 0xFF7F, 0x7FFF]);
        for upper in upper {
            for lower in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
                let value = f32::from_bits(u32::from(upper) << 16 | lower);
                let expected = half::bf16::from_f32(value).to_bits();
                for isa in Isa::available() {
                    let (mut half, mut back) = ([Half::ZERO], [Lane::ZERO]);
                    isa.run(Narrow(&[Lane([value; LANES])], &mut half));
                    assert_eq!(half[0].0, [expected; LANES], "{value}");
                    isa.run(Widen(&half, &mut back));
                    let bits = u32::from(expected) << 16;
                    assert_eq!(back[0].0.map(f32::to_bits), [bits; LANES], "{value}");
                }
            }
        }
        // Each channel stays in its place.
        let lane = Lane(std::array::from_fn(|i| i as f32));
        for isa in Isa::available() {
            let (mut half, mut back) = ([Half::ZERO], [Lane::ZERO]);
            isa.run(Narrow(&[lane], &mut half));
            isa.run(Widen(&half, &mut back));
            assert_eq!(back[0], lane);
        }
    }
}
