//! The transforms on either side of the products: Bᵀ on inputs, Aᵀ on outputs, A on gradients of outputs.

use super::{Form, Run};
use crate::element::Element;
use crate::kernels::moments::Moments;
use crate::layout::{Blocked, Lane};
use crate::vector::{Kernel, Vector};

/// Bᵀ.
#[inline(always)]
fn input_points<V: Vector>(d: [V; 4]) -> [V; 4] {
    [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])]
}

/// Aᵀ.
#[inline(always)]
fn outputs<V: Vector>(m: [V; 4]) -> [V; 2] {
    let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
    [m[0].add(sum), difference.sub(m[3])]
}

/// A.
#[inline(always)]
fn gradient_points<V: Vector>(y: [V; 2]) -> [V; 4] {
    [y[0], y[0].add(y[1]), y[0].sub(y[1]), V::splat(0.0).sub(y[1])]
}

/// Bᵀ of F(4, 3).
#[inline(always)]
fn wide_input_points<V: Vector>(d: [V; 6]) -> [V; 6] {
    let (two, four, five) = (V::splat(2.0), V::splat(4.0), V::splat(-5.0));
    let minus_four = V::splat(-4.0);
    // Even and odd parts of the points at ±1 and ±2.
    let (even1, odd1) = (d[2].mul_add(minus_four, d[4]), d[1].mul_add(minus_four, d[3]));
    let (even2, odd2) = (d[4].sub(d[2]), d[3].sub(d[1]).mul(two));
    [
        d[0].mul_add(four, d[2].mul_add(five, d[4])),
        even1.add(odd1),
        even1.sub(odd1),
        even2.add(odd2),
        even2.sub(odd2),
        d[1].mul_add(four, d[3].mul_add(five, d[5])),
    ]
}

/// Aᵀ of F(4, 3).
#[inline(always)]
fn wide_outputs<V: Vector>(m: [V; 6]) -> [V; 4] {
    let (sum1, difference1) = (m[1].add(m[2]), m[1].sub(m[2]));
    let (sum2, difference2) = (m[3].add(m[4]), m[3].sub(m[4]));
    [
        m[0].add(sum1).add(sum2),
        difference2.mul_add(V::splat(2.0), difference1),
        sum2.mul_add(V::splat(4.0), sum1),
        difference2.mul_add(V::splat(8.0), difference1).add(m[5]),
    ]
}

/// A of F(4, 3).
#[inline(always)]
fn wide_gradient_points<V: Vector>(y: [V; 4]) -> [V; 6] {
    let (even1, odd1) = (y[0].add(y[2]), y[1].add(y[3]));
    let even2 = y[2].mul_add(V::splat(4.0), y[0]);
    let odd2 = y[3].mul_add(V::splat(4.0), y[1]).mul(V::splat(2.0));
    [
        y[0],
        even1.add(odd1),
        even1.sub(odd1),
        even2.add(odd2),
        even2.sub(odd2),
        y[3],
    ]
}

/// Bᵀ on a run of tiles of one input block.
pub(super) struct TransformInput<'a, E> {
    pub(super) form: Form,
    pub(super) x: &'a Blocked<E>,
    pub(super) sample: usize,
    pub(super) block: usize,
    /// Place of the block among all input blocks, and how many there are.
    pub(super) place: [usize; 2],
    pub(super) run: Run,
    pub(super) columns: &'a mut [Lane],
    pub(super) v: &'a mut [Lane],
    pub(super) slots: usize,
}

impl<E: Element> Kernel for TransformInput<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.form.step {
            [1, 1, _] => self.points::<V, 1, 1>(),
            [1, _, _] => self.points::<V, 1, 4>(),
            [_, 1, _] => self.points::<V, 4, 1>(),
            _ => self.points::<V, 4, 4>(),
        }
    }
}

impl<E: Element> TransformInput<'_, E> {
    #[inline(always)]
    fn points<V: Vector, const PZ: usize, const PY: usize>(self) {
        let (step, points) = (self.form.step, self.form.points());
        let dims = &self.x.dims;
        let from: [isize; 3] = std::array::from_fn(|a| (self.run.tile[a] * step[a]) as isize + self.form.origin[a]);
        let last = |a: usize| (dims.extent[a] + dims.halo[a]) as isize - 1;
        let width = self.run.count * step[2] + points[2] - step[2];
        // Columns past the halo feed only outputs past the end of the row; so do planes and rows.
        let inside = width.min((last(2) - from[2] + 1) as usize);
        let rows: [[&[E]; PY]; PZ] = std::array::from_fn(|z| {
            std::array::from_fn(|y| {
                let z = (from[0] + z as isize).min(last(0)) + dims.halo[0] as isize;
                let y = (from[1] + y as isize).min(last(1)) + dims.halo[1] as isize;
                let [block, plane, row] = dims.pitch();
                let start = (self.sample * dims.blocks() + self.block) * block
                    + z as usize * plane
                    + y as usize * row
                    + (from[2] + dims.halo[2] as isize) as usize;
                &self.x.data[start..start + inside]
            })
        });
        let columns = &mut self.columns[..PZ * PY * width];
        for column in 0..inside {
            // SAFETY: all rows are `inside` long.
            #[allow(unsafe_code)]
            let load = |z: usize, y: usize| unsafe { rows[z][y].get_unchecked(column) }.load::<V>();
            let mut d: [[V; PY]; PZ] = std::array::from_fn(|z| std::array::from_fn(|y| load(z, y)));
            if PY == 4 {
                for line in &mut d {
                    let [a, b, c, d]: [V; 4] = std::array::from_fn(|y| line[y % PY]);
                    for (to, from) in line.iter_mut().zip(input_points([a, b, c, d])) {
                        *to = from;
                    }
                }
            }
            if PZ == 4 {
                for y in 0..PY {
                    let line = input_points(std::array::from_fn(|z| d[z % PZ][y]));
                    for (to, from) in d.iter_mut().zip(line) {
                        to[y] = from;
                    }
                }
            }
            for z in 0..PZ {
                for y in 0..PY {
                    // SAFETY: `columns` has `width` ≥ `inside` lanes per pair of points.
                    #[allow(unsafe_code)]
                    d[z][y].store(unsafe { columns.get_unchecked_mut((z * PY + y) * width + column) });
                }
            }
        }
        for line in columns.chunks_exact_mut(width) {
            line[inside..].fill(Lane::ZERO);
        }
        let [at, in_blocks] = self.place;
        let (count, slots) = (self.run.count, self.slots);
        for (pair, line) in columns.chunks_exact(width).enumerate() {
            let place = |k: usize| ((pair * points[2] + k) * in_blocks + at) * slots + self.run.slot;
            if points[2] == 1 {
                self.v[place(0)..place(0) + count].copy_from_slice(&line[..count]);
                continue;
            }
            assert!(place(points[2] - 1) + count <= self.v.len() && line.len() == step[2] * count + 2);
            let v = self.v.as_mut_ptr();
            let [mut d0, mut d1] = [V::load(&line[0]), V::load(&line[1])];
            for t in 0..count {
                // SAFETY: the assertion above; `place(k)` rises with k.
                #[allow(unsafe_code)]
                unsafe {
                    let next = |k: usize| V::load(line.get_unchecked(step[2] * t + k));
                    let store = |k: usize, value: V| value.store(&mut *v.add(place(k) + t));
                    let (d2, d3) = (next(2), next(3));
                    if points[2] == 4 {
                        for (k, value) in input_points([d0, d1, d2, d3]).into_iter().enumerate() {
                            store(k, value);
                        }
                        [d0, d1] = [d2, d3];
                    } else {
                        let (d4, d5) = (next(4), next(5));
                        for (k, value) in wide_input_points([d0, d1, d2, d3, d4, d5]).into_iter().enumerate() {
                            store(k, value);
                        }
                        [d0, d1] = [d4, d5];
                    }
                }
            }
        }
    }
}

/// Aᵀ on a run of tiles of one output block.
pub(super) struct TransformOutput<'a, E> {
    pub(super) form: Form,
    pub(super) m: &'a [Lane],
    pub(super) block: usize,
    pub(super) blocks: usize,
    pub(super) slots: usize,
    pub(super) run: Run,
    pub(super) columns: &'a mut [Lane],
    /// A bias, or `None` to add to what is there.
    pub(super) write: Option<Lane>,
    /// What the weights are in units of.
    pub(super) unit: f32,
    /// Outputs from the first one on to the end of each axis.
    pub(super) room: [usize; 3],
    pub(super) y: *mut E,
    pub(super) y_pitch: [usize; 3],
    pub(super) moments: &'a mut Option<Moments>,
}

impl<E: Element> Kernel for TransformOutput<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.form.step {
            [1, 1, _] => self.outputs::<V, 1, 1>(),
            [1, _, _] => self.outputs::<V, 1, 4>(),
            [_, 1, _] => self.outputs::<V, 4, 1>(),
            _ => self.outputs::<V, 4, 4>(),
        }
    }
}

impl<E: Element> TransformOutput<'_, E> {
    #[inline(always)]
    fn outputs<V: Vector, const PZ: usize, const PY: usize>(self) {
        let (step, points) = (self.form.step, self.form.points());
        let width = self.run.count * step[2];
        let columns = &mut self.columns[..PZ * PY * width];
        for (pair, line) in columns.chunks_exact_mut(width).enumerate() {
            let place = |k: usize| ((pair * points[2] + k) * self.blocks + self.block) * self.slots + self.run.slot;
            let m: [&[Lane]; 6] = std::array::from_fn(|k| {
                let place = place(k % points[2]);
                &self.m[place..place + self.run.count]
            });
            if points[2] == 1 {
                line.copy_from_slice(m[0]);
                continue;
            }
            for (t, tile) in line.chunks_exact_mut(step[2]).enumerate() {
                if points[2] == 4 {
                    for (to, value) in tile.iter_mut().zip(outputs(std::array::from_fn(|k| V::load(&m[k][t])))) {
                        value.store(to);
                    }
                } else {
                    for (to, value) in tile
                        .iter_mut()
                        .zip(wide_outputs(std::array::from_fn(|k| V::load(&m[k][t]))))
                    {
                        value.store(to);
                    }
                }
            }
        }
        let wanted = width.min(self.room[2]);
        let [_, plane, row] = self.y_pitch;
        let [depth, height] = [step[0].min(self.room[0]), step[1].min(self.room[1])];
        let bias = self.write.as_ref().map_or(V::splat(0.0), V::load);
        let add = self.write.is_none();
        let unit = V::splat(self.unit);
        for column in 0..wanted {
            let mut m: [[V; PY]; PZ] = std::array::from_fn(|z| {
                // SAFETY: `columns` has `width` ≥ `wanted` lanes per pair of points.
                #[allow(unsafe_code)]
                std::array::from_fn(|y| V::load(unsafe { columns.get_unchecked((z * PY + y) * width + column) }))
            });
            if PZ == 4 {
                for y in 0..PY {
                    let [a, b] = outputs(std::array::from_fn(|z| m[z % PZ][y]));
                    m[0][y] = a;
                    m[1 % PZ][y] = b;
                }
            }
            for z in 0..depth {
                let line = if PY == 4 {
                    outputs(std::array::from_fn(|y| m[z % PZ][y % PY]))
                } else {
                    [m[z % PZ][0]; 2]
                };
                for y in 0..height {
                    // SAFETY: the place lies within the run's own outputs, inside the extent by `room`.
                    #[allow(unsafe_code)]
                    let to = unsafe { &mut *self.y.add(z * plane + y * row + column) };
                    let value = line[y % 2].mul_add(unit, if add { to.load::<V>() } else { bias });
                    to.store(value);
                }
            }
        }
        if let Some(moments) = self.moments {
            for z in 0..depth {
                for y in 0..height {
                    // SAFETY: as above; what was just written.
                    #[allow(unsafe_code)]
                    let written = unsafe { std::slice::from_raw_parts(self.y.add(z * plane + y * row), wanted) };
                    moments.add::<V, E>(written);
                }
            }
        }
    }
}

/// A on a run of tiles of one block of gradients.
pub(super) struct TransformGradient<'a> {
    pub(super) form: Form,
    pub(super) dy: &'a Blocked,
    pub(super) sample: usize,
    pub(super) block: usize,
    pub(super) run: Run,
    pub(super) columns: &'a mut [Lane],
    /// `[point][block of `blocks`][slot]`; this block is the `at`-th.
    pub(super) m: &'a mut [Lane],
    pub(super) at: usize,
    pub(super) blocks: usize,
    pub(super) slots: usize,
}

impl Kernel for TransformGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.form.step {
            [1, 1, _] => self.points::<V, 1, 1>(),
            [1, _, _] => self.points::<V, 1, 4>(),
            [_, 1, _] => self.points::<V, 4, 1>(),
            _ => self.points::<V, 4, 4>(),
        }
    }
}

impl TransformGradient<'_> {
    #[inline(always)]
    fn points<V: Vector, const PZ: usize, const PY: usize>(self) {
        let (step, points) = (self.form.step, self.form.points());
        let dims = &self.dy.dims;
        let first: [usize; 3] = std::array::from_fn(|a| self.run.tile[a] * step[a]);
        let width = self.run.count * step[2];
        let inside = width.min(dims.extent[2] - first[2]);
        // Outputs past the end have no gradient.
        let row = |z: usize, y: usize| {
            let (z, y) = (first[0] + z, first[1] + y);
            (z < dims.extent[0] && y < dims.extent[1]).then(|| {
                let start = dims.at(self.sample, self.block, [z, y, first[2]]);
                &self.dy.data[start..start + inside]
            })
        };
        let rows = [[row(0, 0), row(0, 1)], [row(1, 0), row(1, 1)]];
        let columns = &mut self.columns[..PZ * PY * width];
        for column in 0..inside {
            let load = |z: usize, y: usize| match rows[z][y] {
                // SAFETY: all rows are `inside` long.
                #[allow(unsafe_code)]
                Some(row) => V::load(unsafe { row.get_unchecked(column) }),
                None => V::splat(0.0),
            };
            let mut d: [[V; PY]; PZ] = [[V::splat(0.0); PY]; PZ];
            for (z, line) in d.iter_mut().enumerate().take(step[0]) {
                if PY == 4 {
                    for (to, from) in line.iter_mut().zip(gradient_points([load(z, 0), load(z, 1)])) {
                        *to = from;
                    }
                } else {
                    line[0] = load(z, 0);
                }
            }
            if PZ == 4 {
                for y in 0..PY {
                    let line = gradient_points([d[0][y], d[1 % PZ][y]]);
                    for (to, from) in d.iter_mut().zip(line) {
                        to[y] = from;
                    }
                }
            }
            for z in 0..PZ {
                for y in 0..PY {
                    // SAFETY: `columns` has `width` ≥ `inside` lanes per pair of points.
                    #[allow(unsafe_code)]
                    d[z][y].store(unsafe { columns.get_unchecked_mut((z * PY + y) * width + column) });
                }
            }
        }
        for line in columns.chunks_exact_mut(width) {
            line[inside..].fill(Lane::ZERO);
        }
        let count = self.run.count;
        for (pair, line) in columns.chunks_exact(width).enumerate() {
            let place = |k: usize| ((pair * points[2] + k) * self.blocks + self.at) * self.slots + self.run.slot;
            if points[2] == 1 {
                self.m[place(0)..place(0) + count].copy_from_slice(line);
                continue;
            }
            assert!(place(points[2] - 1) + count <= self.m.len());
            let m = self.m.as_mut_ptr();
            for (t, tile) in line.chunks_exact(step[2]).enumerate() {
                // SAFETY: the assertion above; `place(k)` rises with k, and there are `count` tiles.
                #[allow(unsafe_code)]
                let store = |k: usize, value: V| value.store(unsafe { &mut *m.add(place(k) + t) });
                if points[2] == 4 {
                    for (k, value) in gradient_points([V::load(&tile[0]), V::load(&tile[1])])
                        .into_iter()
                        .enumerate()
                    {
                        store(k, value);
                    }
                } else {
                    let tile = std::array::from_fn(|i| V::load(&tile[i]));
                    for (k, value) in wide_gradient_points(tile).into_iter().enumerate() {
                        store(k, value);
                    }
                }
            }
        }
    }
}
