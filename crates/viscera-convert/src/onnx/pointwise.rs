//! Arithmetic between values, and the formulas by which exporters write GELU, SiLU and layer norm.

use super::extent::Dim;
use super::fold::{axes_of, resolve};
use super::import::{Import, Part, Value, Vector, View};
use super::layout::{self, Axes, Shape};
use super::proto::NodeProto;
use viscera_net::{Activation, Conv, Init, NodeId, Op, ParamKind};

/// How far a constant of a formula may be from its exact value.
const CLOSE: f32 = 1e-5;

fn close(value: f32, exact: f32) -> bool {
    (value - exact).abs() <= CLOSE * exact.abs()
}

impl<'m> Import<'m> {
    /// Add, Sub, Mul, Div, Pow.
    pub(super) fn binary(&mut self, node: &NodeProto<'m>) -> Result<Value<'m>, String> {
        let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
        match (a, b) {
            (Value::View(view), Value::Constant(array)) => {
                self.with_constant(node, &view, &array, false).map(Value::View)
            }
            (Value::Constant(array), Value::View(view)) => {
                self.with_constant(node, &view, &array, true).map(Value::View)
            }
            (Value::View(a), Value::View(b)) => self.between(node, a, b).map(Value::View),
            (a, b) => self.part(node, a, b),
        }
    }

    fn with_constant(
        &mut self,
        node: &NodeProto<'m>,
        view: &View,
        array: &super::array::Array,
        constant_first: bool,
    ) -> Result<View, String> {
        let vector = self.vector(array, view)?;
        let name = array.name.as_deref();
        let map = |vector: Vector, f: fn(f32) -> f32| match vector {
            Vector::One(v) => Vector::One(f(v)),
            Vector::Channels(values) => Vector::Channels(values.into_iter().map(f).collect()),
        };
        match (node.op, constant_first) {
            ("Add", _) => self.affine(node, view, name, vector, true),
            ("Mul", _) => self.affine(node, view, name, vector, false),
            ("Sub", false) => self.affine(node, view, None, map(vector, |v| -v), true),
            ("Sub", true) => {
                let negative = self.affine(node, view, None, Vector::One(-1.0), false)?;
                self.affine(node, &View { sole: true, ..negative }, name, vector, true)
            }
            ("Div", false) => self.affine(node, view, None, map(vector, |v| 1.0 / v), false),
            ("Pow", false) if matches!(vector, Vector::One(v) if v == 2.0) => {
                let shape = self.net.shape(view.node);
                self.push_as(node, Op::Mul, vec![view.node; 2], shape, view.axes.clone())
            }
            _ => Err("divides a constant by a value, or takes a power other than 2, which is not covered".to_owned()),
        }
    }

    fn between(&mut self, node: &NodeProto<'m>, a: View, b: View) -> Result<View, String> {
        let (first, second) = (self.net.node(a.node), self.net.node(b.node));
        // x · sigmoid(x), in either order.
        let sigmoid_of = |of: NodeId, gate: Option<&viscera_net::Node>| {
            gate.is_some_and(|gate| gate.op == Op::Activation(Activation::Sigmoid) && gate.inputs == [of])
        };
        if node.op == "Mul" && a.axes == b.axes {
            let silu = Op::Activation(Activation::Silu);
            if sigmoid_of(a.node, second) && b.sole {
                return self.pointwise(node, silu, &a);
            }
            if sigmoid_of(b.node, first) && a.sole {
                return self.pointwise(node, silu, &b);
            }
        }
        match node.op {
            "Mul" => {
                let (shape, axes) = self.together(&[&a, &b])?;
                self.push_as(node, Op::Mul, vec![a.node, b.node], shape, axes)
            }
            "Add" => self.add(node, &[a, b]),
            "Sub" => {
                let negative = self.affine(node, &View { sole: false, ..b }, None, Vector::One(-1.0), false)?;
                self.add(node, &[a, negative])
            }
            _ => Err("divides or raises one value by another, which is not covered".to_owned()),
        }
    }

    /// A sum of any number of values.
    pub(super) fn sum(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let views = (0..node.inputs.len())
            .map(|i| self.view(node, i))
            .collect::<Result<Vec<_>, _>>()?;
        match views.as_slice() {
            [one] => Ok(self.relaid(node, one, one.axes.clone())),
            _ => self.add(node, &views),
        }
    }

    fn add(&mut self, node: &NodeProto<'m>, views: &[View]) -> Result<View, String> {
        let (shape, axes) = self.together(&views.iter().collect::<Vec<_>>())?;
        let mut inputs = Vec::new();
        for view in views {
            inputs.push(self.repeated(node, view, shape)?);
        }
        self.push_as(node, Op::Add, inputs, shape, axes)
    }

    /// The shape and layout that several values have together when those 1 long are repeated.
    fn together(&self, views: &[&View]) -> Result<(Shape, Axes), String> {
        let rank = views.iter().map(|v| v.axes.len()).max().unwrap_or(0);
        let mut axes: Axes = vec![Vec::new(); rank];
        let mut shape: Shape = (1, [Dim::Known(1); 3]);
        for view in views {
            let missing = rank.saturating_sub(view.axes.len());
            for (whole, own) in axes.iter_mut().skip(missing).zip(&view.axes) {
                if whole.is_empty() {
                    whole.clone_from(own);
                } else if !own.is_empty() && whole != own {
                    return Err(
                        "joins values whose axes stand in different orders, or whose channels differ".to_owned(),
                    );
                }
            }
            let (channels, extent) = self.net.shape(view.node);
            if channels != 1 {
                if shape.0 != 1 && shape.0 != channels {
                    return Err(format!("joins {} channels with {channels}", shape.0));
                }
                shape.0 = channels;
            }
            for (whole, own) in shape.1.iter_mut().zip(extent) {
                if *whole == Dim::Known(1) {
                    *whole = own;
                }
            }
        }
        Ok((shape, axes))
    }

    /// Repeats a value that is 1 long somewhere; an addition in the graph does not do so itself.
    fn repeated(&mut self, node: &NodeProto<'m>, view: &View, shape: Shape) -> Result<NodeId, String> {
        let (channels, extent) = self.net.shape(view.node);
        let mut id = view.node;
        if channels != shape.0 {
            self.store.charge(shape.0)?;
            let (role, dims) = ("repeat", vec![shape.0, 1, 1, 1, 1]);
            let ones = vec![1.0; shape.0];
            let weight = self.param_of(node, None, role, dims, ones, Init::Constant(1.0), ParamKind::Learnt)?;
            let op = Op::Conv(Conv {
                out_channels: shape.0,
                kernel: [1; 3],
                stride: [1; 3],
                padding: [0; 3],
                dilation: [1; 3],
                groups: 1,
                weight,
                bias: None,
            });
            id = self.push(node, op, vec![id], (shape.0, extent))?.node;
        }
        if extent
            .iter()
            .zip(shape.1)
            .any(|(&own, whole)| own == Dim::Known(1) && whole != own)
        {
            let like = self.net.with_extent(shape.1, &self.extents);
            let like = like.ok_or("repeats a value to an extent that no layer has")?;
            let op = Op::ResizeLike { align_corners: false };
            id = self.push(node, op, vec![id, like], shape)?.node;
        }
        Ok(id)
    }

    /// The next step of a formula that has begun.
    fn part(&mut self, node: &NodeProto<'m>, a: Value<'m>, b: Value<'m>) -> Result<Value<'m>, String> {
        let unknown = || Err("stands amidst a formula that is not a known norm or GELU".to_owned());
        // Addition and multiplication: the part first.
        let (a, b) = match (node.op, a, b) {
            ("Add" | "Mul", a, b @ Value::Part(_)) if !matches!(a, Value::Part(_)) => (b, a),
            (_, a, b) => (a, b),
        };
        let number = |value: &Value<'m>| match value {
            Value::Constant(array) => match (array.data.len(), array.floats()) {
                (1, Ok(values)) => values.first().copied(),
                _ => None,
            },
            _ => None,
        };
        let part = match (node.op, a, b) {
            ("Add", Value::Part(Part::Erf { of, factor, addend }), other) => match number(&other) {
                Some(more) => Part::Erf {
                    of,
                    factor,
                    addend: addend + more,
                },
                None => return unknown(),
            },
            ("Mul" | "Div", Value::Part(part @ (Part::Erf { .. } | Part::Gelu { .. })), other) => {
                let scale = number(&other).map(|n| if node.op == "Div" { 1.0 / n } else { n });
                match (part, scale, other) {
                    (Part::Erf { of, factor, addend }, Some(n), _) => Part::Erf {
                        of,
                        factor: factor * n,
                        addend: addend * n,
                    },
                    (Part::Gelu { of, factor }, Some(n), _) => return self.gelu(node, of, factor * n),
                    (Part::Erf { of, factor, addend }, None, Value::View(x)) if close(addend, factor) => {
                        let Some(scale) = self.multiple_of(&x, of.node) else {
                            return unknown();
                        };
                        return self.gelu(node, of, 2.0 * scale * factor);
                    }
                    _ => return unknown(),
                }
            }
            ("Sub", Value::View(x), Value::Part(Part::Mean(of))) if x.node == of.node => Part::Centred(of),
            ("Pow", Value::Part(Part::Centred(of)), other) if number(&other) == Some(2.0) => Part::Square(of),
            ("Mul", Value::Part(Part::Centred(of)), Value::Part(Part::Centred(too))) if of.node == too.node => {
                Part::Square(of)
            }
            ("Add", Value::Part(Part::Variance(of, eps)), other) => match number(&other) {
                Some(more) => Part::Variance(of, eps + more),
                None => return unknown(),
            },
            ("Div", Value::Part(Part::Centred(of)), Value::Part(Part::Deviation(same, eps)))
                if of.node == same.node =>
            {
                return self
                    .pointwise(node, Op::LayerNorm { eps, affine: None }, &of)
                    .map(Value::View);
            }
            _ => return unknown(),
        };
        Ok(Value::Part(part))
    }

    fn gelu(&mut self, node: &NodeProto<'m>, of: View, factor: f32) -> Result<Value<'m>, String> {
        if !close(factor, 1.0) {
            return Ok(Value::Part(Part::Gelu { of, factor }));
        }
        self.pointwise(node, Op::Activation(Activation::Gelu), &of)
            .map(Value::View)
    }

    /// The number by which a node is multiplied to give this view, if that is all there is between them.
    fn multiple_of(&self, view: &View, of: NodeId) -> Option<f32> {
        if view.node == of {
            return Some(1.0);
        }
        let node = self.net.node(view.node)?;
        match &node.op {
            Op::Affine {
                weight: Some(weight),
                bias: None,
            } if node.inputs == [of] => match self.net.values(*weight) {
                [one] => Some(*one),
                _ => None,
            },
            _ => None,
        }
    }

    /// erf(x / √2), the beginning of GELU.
    pub(super) fn erf(&mut self, node: &NodeProto<'m>) -> Result<Value<'m>, String> {
        let view = self.view(node, 0)?;
        let source = self.net.node(view.node).and_then(|node| node.inputs.first().copied());
        match source {
            Some(of)
                if self
                    .multiple_of(&view, of)
                    .is_some_and(|s| close(s, std::f32::consts::FRAC_1_SQRT_2)) =>
            {
                let of = View {
                    node: of,
                    axes: view.axes,
                    sole: false,
                };
                Ok(Value::Part(Part::Erf {
                    of,
                    factor: 1.0,
                    addend: 0.0,
                }))
            }
            _ => Err("is not part of GELU, which is not covered".to_owned()),
        }
    }

    /// The root of a variance.
    pub(super) fn root(&mut self, node: &NodeProto<'m>) -> Result<Value<'m>, String> {
        match self.operand(node, 0)? {
            Value::Part(Part::Variance(of, eps)) => Ok(Value::Part(Part::Deviation(of, eps))),
            _ => Err("is not part of layer norm, which is not covered".to_owned()),
        }
    }

    /// Mean over space, or over the channels as part of layer norm.
    pub(super) fn reduce_mean(&mut self, node: &NodeProto<'m>) -> Result<Value<'m>, String> {
        let value = self.operand(node, 0)?;
        let view = match &value {
            Value::View(view) | Value::Part(Part::Square(view)) => view.clone(),
            _ => return Err("is not over a value of the network, which is not covered".to_owned()),
        };
        let listed = self.optional(node, 1)?;
        let listed = axes_of(node, listed.as_deref())?.ok_or("is over all axes, which is not covered")?;
        let along = resolve(&listed, view.axes.len())?;
        let keep = node.int("keepdims") != Some(0);
        let (channels, _) = self.net.shape(view.node);
        let whole = layout::channels(channels);
        if let [one] = along.as_slice()
            && channels > 1
            && view.axes.get(*one) == Some(&whole)
            && keep
        {
            return Ok(Value::Part(match value {
                Value::Part(_) => Part::Variance(view, 0.0),
                _ => Part::Mean(view),
            }));
        }
        let mut space = [false; 3];
        for atom in along.iter().filter_map(|&i| view.axes.get(i)).flatten() {
            match atom {
                layout::Atom::Space(axis) => {
                    if let Some(flag) = space.get_mut(*axis) {
                        *flag = true;
                    }
                }
                _ => return Err("is over the batch or channels, which is not covered".to_owned()),
            }
        }
        if matches!(value, Value::Part(_)) {
            return Err("is amidst a formula that is not layer norm".to_owned());
        }
        let shape = self.without(self.net.shape(view.node), space);
        let left = view
            .axes
            .iter()
            .enumerate()
            .filter_map(|(i, axis)| match along.contains(&i) {
                true => keep.then(Vec::new),
                false => Some(axis.clone()),
            });
        let axes = left.collect();
        self.push_as(node, Op::AxisMean { axes: space }, vec![view.node], shape, axes)
            .map(Value::View)
    }

    /// Mean over all voxels.
    pub(super) fn global_mean(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.plain(node, 0)?;
        let axes = [true; 3];
        let shape = self.without(self.net.shape(view.node), axes);
        self.push(node, Op::AxisMean { axes }, vec![view.node], shape)
    }

    fn without(&self, (channels, extent): Shape, axes: [bool; 3]) -> Shape {
        let mut left = extent;
        for (dim, gone) in left.iter_mut().zip(axes) {
            if gone {
                *dim = Dim::Known(1);
            }
        }
        (channels, left)
    }
}
