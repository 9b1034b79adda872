//! Operators on constants, and the arithmetic of sizes that exporters write around resizes, pads and reshapes.

use super::array::{Array, Data, Int, Store, count};
use super::extent::{Dim, Extents};
use super::proto::NodeProto;

/// What folding needs of the model.
pub(super) struct Folder<'s> {
    pub(super) store: &'s mut Store,
    pub(super) extents: &'s mut Extents,
}

impl Folder<'_> {
    /// Computes a node whose inputs are all constants; `None` where the operator is not one that is folded.
    pub(super) fn fold(
        &mut self,
        node: &NodeProto<'_>,
        inputs: &[Option<&Array>],
    ) -> Result<Option<Vec<Array>>, String> {
        let input = |i: usize| {
            let array = inputs.get(i).copied().flatten();
            array.ok_or_else(|| format!("has no input {i}"))
        };
        let one = |array: Array| Ok(Some(vec![array]));
        match node.op {
            "Constant" => one(self.constant(node)?),
            "Identity" => one(self.copy(input(0)?)?),
            "Shape" => {
                let dims = input(0)?.dims.iter().map(|&d| int(d as i64));
                one(slice_shape(node, dims.collect())?)
            }
            "Size" => one(scalar(int(input(0)?.data.len() as i64))),
            "Cast" => one(self.cast(node, input(0)?)?),
            "ConstantOfShape" => one(self.constant_of_shape(node, input(0)?)?),
            "Concat" => {
                let all = inputs.iter().copied().flatten().collect::<Vec<_>>();
                one(self.concat(node, &all)?)
            }
            "Gather" => one(self.gather(node, input(0)?, input(1)?)?),
            "Slice" => one(self.slice(input(0)?, inputs)?),
            "Reshape" => {
                let allow_zero = node.int("allowzero") == Some(1);
                one(self.reshape(input(0)?, &input(1)?.numbers()?, allow_zero)?)
            }
            "Flatten" | "Squeeze" | "Unsqueeze" => one(self.axes(node, input(0)?, inputs.get(1).copied().flatten())?),
            "Transpose" => one(self.transpose(node, input(0)?)?),
            "Expand" => {
                let dims = sizes(&input(1)?.numbers()?)?;
                let wanted = broadcast(&input(0)?.dims, &dims)?;
                one(self.spread(input(0)?, &wanted)?)
            }
            "Range" => one(self.range(input(0)?, input(1)?, input(2)?)?),
            "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Equal" | "Less" | "Greater" | "Min" | "Max" | "And"
            | "Or"
                if inputs.len() == 2 =>
            {
                one(self.binary(node.op, input(0)?, input(1)?)?)
            }
            "Where" => one(self.choose(input(0)?, input(1)?, input(2)?)?),
            "Neg" | "Sqrt" | "Floor" | "Ceil" | "Round" | "Exp" | "Reciprocal" | "Abs" | "Not" => {
                one(self.unary(node.op, input(0)?)?)
            }
            "ReduceProd" => {
                let product = self.extents.product(input(0)?.integers()?.iter().map(|i| i.dim))?;
                let mut array = scalar(product.into());
                if node.int("keepdims") != Some(0) {
                    array.dims = vec![1; input(0)?.dims.len()];
                }
                one(array)
            }
            _ => Ok(None),
        }
    }

    /// The value of a Constant node.
    fn constant(&mut self, node: &NodeProto<'_>) -> Result<Array, String> {
        if let Some(tensor) = node.tensor("value") {
            let mut array = self.store.read(tensor)?;
            array.name = None;
            return Ok(array);
        }
        let floats = |dims: Vec<usize>, values: Vec<f32>| Array {
            dims,
            data: Data::Floats(values),
            name: None,
        };
        if let Some(value) = node.float("value_float") {
            return Ok(floats(vec![], vec![value]));
        }
        if let Some(values) = node.floats("value_floats") {
            return Ok(floats(vec![values.len()], values.to_vec()));
        }
        if let Some(value) = node.int("value_int") {
            return Ok(scalar(int(value)));
        }
        match node.ints("value_ints") {
            Some(values) => Ok(Array::ints(values.iter().map(|&v| int(v)))),
            None => Err("has no numbers for its value".to_owned()),
        }
    }

    fn copy(&mut self, array: &Array) -> Result<Array, String> {
        self.store.charge(array.data.len())?;
        Ok(array.clone())
    }

    fn with_dims(&mut self, array: &Array, dims: Vec<usize>) -> Result<Array, String> {
        if count(&dims)? != array.data.len() {
            return Err(format!("cannot give {:?} the shape {dims:?}", array.dims));
        }
        let mut array = self.copy(array)?;
        array.dims = dims;
        Ok(array)
    }

    /// Takes the values at `start` and steps of `strides` from it, as many as `dims` say.
    fn strided(&mut self, array: &Array, dims: Vec<usize>, strides: &[i64], start: i64) -> Result<Array, String> {
        let n = count(&dims)?;
        self.store.charge(n)?;
        let mut places = vec![start];
        for (&dim, &stride) in dims.iter().zip(strides) {
            let along = |place: i64| (0..dim as i64).map(move |i| place.saturating_add(i.saturating_mul(stride)));
            places = places.into_iter().flat_map(along).collect();
        }
        self.pick(array, dims, places.into_iter())
    }

    fn pick(&self, array: &Array, dims: Vec<usize>, places: impl Iterator<Item = i64>) -> Result<Array, String> {
        fn take<T: Copy>(values: &[T], places: impl Iterator<Item = i64>) -> Result<Vec<T>, String> {
            let at = |place: i64| usize::try_from(place).ok().and_then(|p| values.get(p).copied());
            places
                .map(|place| at(place).ok_or_else(|| format!("reads value {place} of {}", values.len())))
                .collect()
        }
        let data = match &array.data {
            Data::Ints(values) => Data::Ints(take(values, places)?),
            Data::Floats(values) => Data::Floats(take(values, places)?),
        };
        Ok(Array { dims, data, name: None })
    }

    fn transpose(&mut self, node: &NodeProto<'_>, array: &Array) -> Result<Array, String> {
        let rank = array.dims.len();
        let perm = permutation(node, rank)?;
        let strides = strides(&array.dims);
        let dims = perm.iter().filter_map(|&p| array.dims.get(p).copied()).collect();
        let steps: Vec<i64> = perm.iter().filter_map(|&p| strides.get(p).copied()).collect();
        let mut turned = self.strided(array, dims, &steps, 0)?;
        turned.name.clone_from(&array.name);
        Ok(turned)
    }

    /// Repeats along axes that are 1 long.
    fn spread(&mut self, array: &Array, dims: &[usize]) -> Result<Array, String> {
        if array.dims == dims {
            return self.copy(array);
        }
        let missing = dims.len().saturating_sub(array.dims.len());
        let steps = array.dims.iter().zip(strides(&array.dims));
        let steps: Vec<i64> = std::iter::repeat_n(0, missing)
            .chain(steps.map(|(&dim, stride)| if dim == 1 { 0 } else { stride }))
            .collect();
        self.strided(array, dims.to_vec(), &steps, 0)
    }

    fn concat(&mut self, node: &NodeProto<'_>, all: &[&Array]) -> Result<Array, String> {
        let first = all.first().ok_or("joins nothing")?;
        let axis = axis(node.int("axis").ok_or("has no axis")?, first.dims.len())?;
        let before: usize = first.dims.iter().take(axis).product();
        let mut dims = first.dims.clone();
        let mut parts = Vec::new();
        let mut joined = 0usize;
        for array in all {
            let differs = |(i, (a, b)): (usize, (&usize, &usize))| i != axis && a != b;
            if array.dims.len() != dims.len() || array.dims.iter().zip(&dims).enumerate().any(differs) {
                return Err(format!("joins arrays of {:?} and {dims:?}", array.dims));
            }
            self.store.charge(array.data.len())?;
            joined = joined.saturating_add(array.dims.get(axis).copied().unwrap_or(0));
            parts.push((*array, array.data.len().checked_div(before).unwrap_or(0)));
        }
        if let Some(dim) = dims.get_mut(axis) {
            *dim = joined;
        }
        fn weave<'a, T: Copy + 'a>(before: usize, parts: &[(&'a [T], usize)]) -> Vec<T> {
            (0..before)
                .flat_map(|i| {
                    parts
                        .iter()
                        .map(move |&(values, n)| values.get(i * n..(i + 1) * n).unwrap_or(&[]))
                })
                .flatten()
                .copied()
                .collect()
        }
        let data = if all.iter().all(|a| matches!(a.data, Data::Floats(_))) {
            let parts = parts
                .iter()
                .map(|(a, n)| Ok((a.floats()?, *n)))
                .collect::<Result<Vec<_>, String>>()?;
            Data::Floats(weave(before, &parts))
        } else {
            let parts = parts
                .iter()
                .map(|(a, n)| Ok((a.integers()?, *n)))
                .collect::<Result<Vec<_>, String>>()?;
            Data::Ints(weave(before, &parts))
        };
        Ok(Array { dims, data, name: None })
    }

    fn gather(&mut self, node: &NodeProto<'_>, array: &Array, indices: &Array) -> Result<Array, String> {
        let axis = axis(node.int("axis").unwrap_or(0), array.dims.len())?;
        let length = array.dims.get(axis).copied().unwrap_or(0) as i64;
        let before: usize = array.dims.iter().take(axis).product();
        let after: usize = array.dims.iter().skip(axis + 1).product();
        let chosen = indices.numbers()?;
        let dims: Vec<usize> = array
            .dims
            .iter()
            .take(axis)
            .chain(&indices.dims)
            .chain(array.dims.iter().skip(axis + 1))
            .copied()
            .collect();
        self.store.charge(count(&dims)?)?;
        let mut places = Vec::new();
        for outer in 0..before as i64 {
            for &index in &chosen {
                let index = if index < 0 { index.saturating_add(length) } else { index };
                if !(0..length).contains(&index) {
                    return Err(format!("takes entry {index} of {length}"));
                }
                let start = (outer * length + index) * after as i64;
                places.extend(start..start + after as i64);
            }
        }
        self.pick(array, dims, places.into_iter())
    }

    fn slice(&mut self, array: &Array, inputs: &[Option<&Array>]) -> Result<Array, String> {
        let list = |i: usize| inputs.get(i).copied().flatten().map(Array::numbers).transpose();
        let (starts, ends) = (list(1)?.ok_or("has no starts")?, list(2)?.ok_or("has no ends")?);
        let axes = list(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = list(4)?.unwrap_or_else(|| vec![1; starts.len()]);
        let mut dims = array.dims.clone();
        let mut strides = strides(&array.dims);
        let mut origin = 0i64;
        for (((start, end), along), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let along = axis(along, dims.len())?;
            let (Some(dim), Some(stride)) = (dims.get_mut(along), strides.get_mut(along)) else {
                return Err("has an axis that is not there".to_owned());
            };
            if step == 0 {
                return Err("has a step of 0".to_owned());
            }
            let n = *dim as i64;
            let wrap = |place: i64| if place < 0 { place.saturating_add(n) } else { place };
            let (start, length) = if step > 0 {
                let (start, end) = (wrap(start).clamp(0, n), wrap(end).clamp(0, n));
                (start, (end - start).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
            } else {
                let (start, end) = (wrap(start).clamp(-1, n - 1), wrap(end).clamp(-1, n - 1));
                (start, (start - end).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
            };
            origin = origin.saturating_add(start.saturating_mul(*stride));
            *dim = usize::try_from(length).unwrap_or(usize::MAX);
            *stride = stride.saturating_mul(step);
        }
        self.strided(array, dims, &strides, origin)
    }

    fn reshape(&mut self, array: &Array, target: &[i64], allow_zero: bool) -> Result<Array, String> {
        let mut dims = Vec::new();
        for (i, &value) in target.iter().enumerate() {
            dims.push(match value {
                -1 => None,
                0 if !allow_zero => Some(array.dims.get(i).copied().ok_or("copies an axis that is not there")?),
                _ => Some(usize::try_from(value).map_err(|_| format!("asks for the shape {target:?}"))?),
            });
        }
        let known = count(&dims.iter().copied().flatten().collect::<Vec<_>>())?;
        let rest = array.data.len().checked_div(known).unwrap_or(0);
        self.with_dims(array, dims.into_iter().map(|d| d.unwrap_or(rest)).collect())
    }

    /// Flatten, Squeeze, Unsqueeze.
    fn axes(&mut self, node: &NodeProto<'_>, array: &Array, axes: Option<&Array>) -> Result<Array, String> {
        let listed = axes_of(node, axes)?;
        let rank = array.dims.len();
        let dims = match node.op {
            "Flatten" => {
                let at = node.int("axis").unwrap_or(1);
                let at = if at == rank as i64 { rank } else { axis(at, rank)? };
                let product = |dims: &mut dyn Iterator<Item = &usize>| dims.product();
                vec![
                    product(&mut array.dims.iter().take(at)),
                    product(&mut array.dims.iter().skip(at)),
                ]
            }
            "Squeeze" => {
                let listed = listed.map(|l| resolve(&l, rank)).transpose()?;
                let goes = |i: usize, dim: usize| listed.as_ref().map_or(dim == 1, |l| l.contains(&i));
                let kept = array.dims.iter().enumerate().filter(|&(i, &dim)| !goes(i, dim));
                kept.map(|(_, &dim)| dim).collect()
            }
            _ => {
                let listed = listed.ok_or("has no axes")?;
                let total = rank + listed.len();
                let listed = resolve(&listed, total)?;
                let mut old = array.dims.iter().copied();
                (0..total)
                    .filter_map(|i| if listed.contains(&i) { Some(1) } else { old.next() })
                    .collect()
            }
        };
        self.with_dims(array, dims)
    }

    fn cast(&mut self, node: &NodeProto<'_>, array: &Array) -> Result<Array, String> {
        let to_float = matches!(node.int("to"), Some(1 | 10 | 11 | 16));
        let mut array = self.copy(array)?;
        array.data = match (array.data, to_float) {
            // Open sizes stay formulas.
            (Data::Ints(values), true) => match known(&values) {
                Some(numbers) => Data::Floats(numbers.iter().map(|&v| v as f32).collect()),
                None => Data::Ints(values),
            },
            (Data::Floats(values), false) => Data::Ints(values.iter().map(|&v| int(v as i64)).collect()),
            (data, _) => data,
        };
        Ok(array)
    }

    fn constant_of_shape(&mut self, node: &NodeProto<'_>, shape: &Array) -> Result<Array, String> {
        let dims = sizes(&shape.numbers()?)?;
        let value = match node.tensor("value") {
            Some(tensor) => self.store.read(tensor)?,
            None => Array {
                dims: vec![1],
                data: Data::Floats(vec![0.0]),
                name: None,
            },
        };
        let n = count(&dims)?;
        self.store.charge(n)?;
        self.pick(&value, dims, std::iter::repeat_n(0, n))
    }

    fn range(&mut self, start: &Array, limit: &Array, step: &Array) -> Result<Array, String> {
        let number = |array: &Array| {
            array
                .numbers()?
                .first()
                .copied()
                .ok_or_else(|| "has an empty input".to_owned())
        };
        let (start, limit, step) = (number(start)?, number(limit)?, number(step)?);
        if step <= 0 {
            return Err("counts down or not at all, which is not covered".to_owned());
        }
        let span = limit.checked_sub(start).ok_or("overflows")?.max(0).unsigned_abs();
        let n = usize::try_from(span.div_ceil(step.unsigned_abs())).map_err(|_| "overflows")?;
        self.store.charge(n)?;
        Ok(Array::ints((0..n as i64).map(|i| int(start + i * step))))
    }

    fn binary(&mut self, op: &str, a: &Array, b: &Array) -> Result<Array, String> {
        let dims = broadcast(&a.dims, &b.dims)?;
        let (a, b) = (self.spread(a, &dims)?, self.spread(b, &dims)?);
        let data = match (a.data, b.data) {
            (Data::Ints(a), Data::Ints(b)) => {
                let pairs = a.iter().zip(&b);
                let values = pairs.map(|(a, b)| self.int_op(op, *a, *b)).collect::<Result<_, _>>()?;
                Data::Ints(values)
            }
            (a, b) => match (to_floats(&a), to_floats(&b)) {
                (Some(a), Some(b)) => float_op(op, &a, &b)?,
                // An open size that was cast to float meets a real number: whole ones only.
                _ => match (whole(&a), whole(&b)) {
                    (Some(a), Some(b)) => {
                        let pairs = a.iter().zip(&b);
                        Data::Ints(pairs.map(|(a, b)| self.int_op(op, *a, *b)).collect::<Result<_, _>>()?)
                    }
                    _ => return Err("multiplies an open size by a fraction, which is not covered".to_owned()),
                },
            },
        };
        Ok(Array { dims, data, name: None })
    }

    fn int_op(&mut self, op: &str, a: Int, b: Int) -> Result<Int, String> {
        let extents = &mut *self.extents;
        let overflow = || "overflows".to_owned();
        let flag = |value: bool| Ok(int(i64::from(value)));
        let dim = match (op, a.dim, b.dim) {
            ("Add", x, Dim::Known(n)) | ("Add", Dim::Known(n), x) => extents.plus(x, n)?,
            ("Sub", x, Dim::Known(n)) => extents.plus(x, n.checked_neg().ok_or_else(overflow)?)?,
            ("Sub", x, y) => match extents.difference(x, y) {
                Some(number) => Dim::Known(number),
                None => extents.unknown(),
            },
            ("Mul", x, y) => extents.product([x, y])?,
            ("Div", Dim::Known(x), Dim::Known(y)) => Dim::Known(x.checked_div(y).ok_or("divides by zero")?),
            ("Div", x, Dim::Known(n)) if n > 0 => extents.over(x, n)?,
            ("Mod", Dim::Known(x), Dim::Known(y)) => Dim::Known(x.checked_rem_euclid(y).ok_or("divides by zero")?),
            ("Pow", Dim::Known(x), Dim::Known(y)) => {
                let power = u32::try_from(y).ok().and_then(|y| x.checked_pow(y));
                Dim::Known(power.ok_or_else(overflow)?)
            }
            ("Equal", x, y) if x == y => return flag(true),
            // A size is never negative: this is how exporters ask for an axis that is left open.
            ("Equal", Dim::Open(_), Dim::Known(n)) | ("Equal", Dim::Known(n), Dim::Open(_)) if n < 0 => {
                return flag(false);
            }
            (_, x, y) => match (op, extents.value(x), extents.value(y)) {
                ("Equal", Some(x), Some(y)) => return flag(x == y),
                ("Less", Some(x), Some(y)) => return flag(x < y),
                ("Greater", Some(x), Some(y)) => return flag(x > y),
                ("And", Some(x), Some(y)) => return flag(x != 0 && y != 0),
                ("Or", Some(x), Some(y)) => return flag(x != 0 || y != 0),
                ("Min", Some(v), Some(w)) => return Ok(if v <= w { a } else { b }),
                ("Max", Some(v), Some(w)) => return Ok(if v >= w { a } else { b }),
                ("Equal" | "Less" | "Greater" | "And" | "Or" | "Min" | "Max", ..) => {
                    return Err("compares sizes that are open until the network runs".to_owned());
                }
                _ => extents.unknown(),
            },
        };
        Ok(dim.into())
    }

    fn choose(&mut self, condition: &Array, yes: &Array, no: &Array) -> Result<Array, String> {
        let dims = broadcast(&broadcast(&condition.dims, &yes.dims)?, &no.dims)?;
        let condition = self.spread(condition, &dims)?.numbers()?;
        let (yes, no) = (self.spread(yes, &dims)?, self.spread(no, &dims)?);
        fn mix<T: Copy>(condition: &[i64], yes: &[T], no: &[T]) -> Vec<T> {
            let pairs = condition.iter().zip(yes.iter().zip(no));
            pairs.map(|(&c, (&y, &n))| if c != 0 { y } else { n }).collect()
        }
        let data = match (&yes.data, &no.data) {
            (Data::Ints(yes), Data::Ints(no)) => Data::Ints(mix(&condition, yes, no)),
            _ => Data::Floats(mix(&condition, yes.floats()?, no.floats()?)),
        };
        Ok(Array { dims, data, name: None })
    }

    fn unary(&mut self, op: &str, array: &Array) -> Result<Array, String> {
        self.store.charge(array.data.len())?;
        let data = match (&array.data, op) {
            // Sizes are whole already.
            (Data::Ints(values), "Floor" | "Ceil" | "Round") => Data::Ints(values.clone()),
            (Data::Ints(_), "Neg" | "Abs" | "Not") => {
                let change = |v: i64| match op {
                    "Neg" => v.checked_neg(),
                    "Abs" => v.checked_abs(),
                    _ => Some(i64::from(v == 0)),
                };
                let numbers = array.numbers()?.into_iter().map(change).collect::<Option<Vec<_>>>();
                Data::Ints(numbers.ok_or("overflows")?.into_iter().map(int).collect())
            }
            _ => {
                let change = |v: &f32| match op {
                    "Neg" => -v,
                    "Sqrt" => v.sqrt(),
                    "Floor" => v.floor(),
                    "Ceil" => v.ceil(),
                    "Round" => v.round_ties_even(),
                    "Exp" => v.exp(),
                    "Abs" => v.abs(),
                    _ => 1.0 / v,
                };
                Data::Floats(array.floats()?.iter().map(change).collect())
            }
        };
        Ok(Array {
            dims: array.dims.clone(),
            data,
            name: None,
        })
    }
}

fn float_op(op: &str, a: &[f32], b: &[f32]) -> Result<Data, String> {
    let compute: fn(f32, f32) -> f32 = match op {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f32::powf,
        "Min" => f32::min,
        "Max" => f32::max,
        _ => {
            let compare: fn(f32, f32) -> bool = match op {
                "Equal" => |a, b| a == b,
                "Less" => |a, b| a < b,
                "Greater" => |a, b| a > b,
                _ => return Err("is not covered for constants of real numbers".to_owned()),
            };
            let flags = a.iter().zip(b).map(|(&a, &b)| int(i64::from(compare(a, b))));
            return Ok(Data::Ints(flags.collect()));
        }
    };
    Ok(Data::Floats(a.iter().zip(b).map(|(&a, &b)| compute(a, b)).collect()))
}

fn to_floats(data: &Data) -> Option<Vec<f32>> {
    match data {
        Data::Floats(values) => Some(values.clone()),
        Data::Ints(values) => known(values).map(|v| v.into_iter().map(|v| v as f32).collect()),
    }
}

/// Integers, where all values are whole.
fn whole(data: &Data) -> Option<Vec<Int>> {
    match data {
        Data::Ints(values) => Some(values.clone()),
        Data::Floats(values) => {
            let each = values
                .iter()
                .map(|&v| (v.fract() == 0.0 && v.abs() < 1e9).then(|| int(v as i64)));
            each.collect()
        }
    }
}

fn known(values: &[Int]) -> Option<Vec<i64>> {
    let number = |int: &Int| match int.dim {
        Dim::Known(value) => Some(value),
        Dim::Open(_) => None,
    };
    values.iter().map(number).collect()
}

fn int(value: i64) -> Int {
    Dim::Known(value).into()
}

fn scalar(value: Int) -> Array {
    Array {
        dims: vec![],
        data: Data::Ints(vec![value]),
        name: None,
    }
}

fn sizes(numbers: &[i64]) -> Result<Vec<usize>, String> {
    let size = |&n: &i64| usize::try_from(n).map_err(|_| format!("asks for the shape {numbers:?}"));
    numbers.iter().map(size).collect()
}

/// Row-major strides.
fn strides(dims: &[usize]) -> Vec<i64> {
    let mut step = 1i64;
    let mut strides: Vec<i64> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let here = step;
            step = step.saturating_mul(dim as i64);
            here
        })
        .collect();
    strides.reverse();
    strides
}

/// The shape that two shapes have together, by NumPy's rule.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| {
        (i + dims.len())
            .checked_sub(rank)
            .and_then(|i| dims.get(i).copied())
            .unwrap_or(1)
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => Err(format!("shapes {a:?} and {b:?} do not fit")),
        })
        .collect()
}

/// An axis counted from the end where negative.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let wrapped = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    let found = usize::try_from(wrapped).ok().filter(|&a| a < rank);
    found.ok_or_else(|| format!("axis {axis} of {rank}"))
}

/// Several axes.
pub(super) fn resolve(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    axes.iter().map(|&a| axis(a, rank)).collect()
}

/// Axes as an attribute (older operator sets) or as an input.
pub(super) fn axes_of(node: &NodeProto<'_>, input: Option<&Array>) -> Result<Option<Vec<i64>>, String> {
    match input {
        Some(array) => array.numbers().map(Some),
        None => Ok(node.ints("axes").map(<[i64]>::to_vec)),
    }
}

/// The order of a Transpose, checked to hold each axis once.
pub(super) fn permutation(node: &NodeProto<'_>, rank: usize) -> Result<Vec<usize>, String> {
    let perm = match node.ints("perm") {
        Some(perm) => resolve(perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(format!("has the order {perm:?} for {rank} axes"));
    }
    Ok(perm)
}

/// The part of a shape that a Shape node asks for (`start`, `end` since operator set 15).
pub(super) fn slice_shape(node: &NodeProto<'_>, dims: Vec<Int>) -> Result<Array, String> {
    let n = dims.len() as i64;
    let place = |value: i64| {
        usize::try_from((if value < 0 { value.saturating_add(n) } else { value }).clamp(0, n)).unwrap_or(0)
    };
    let (start, end) = (
        place(node.int("start").unwrap_or(0)),
        place(node.int("end").unwrap_or(n)),
    );
    Ok(Array::ints(
        dims.get(start..end.max(start)).unwrap_or(&[]).iter().copied(),
    ))
}
