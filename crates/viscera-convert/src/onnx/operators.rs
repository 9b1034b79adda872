//! Which operator is read by what; those that only change the layout; and concatenation and its inverse.

use super::extent::Dim;
use super::fold::{axes_of, axis, permutation, resolve};
use super::import::{Import, Value, View};
use super::layout::{self, Axes, with_shape};
use super::proto::NodeProto;
use viscera_net::{Activation, Init, Op};

impl<'m> Import<'m> {
    /// Runs an operator that reads at least one node of the graph.
    pub(super) fn operator(&mut self, node: &NodeProto<'m>) -> Result<Vec<Value<'m>>, String> {
        let activation = |activation| Op::Activation(activation);
        let view = match (node.domain, node.op) {
            (super::DOMAIN, op) if op.starts_with("WindowAttention") => self.window_attention(node)?,
            ("" | "ai.onnx", op) => match op {
                "Conv" => self.conv(node)?,
                "ConvTranspose" => self.conv_transpose(node)?,
                "MatMul" => self.mat_mul(node)?,
                "Gemm" => self.gemm(node)?,
                "BatchNormalization" => self.batch_norm(node)?,
                "InstanceNormalization" => self.instance_norm(node)?,
                "GroupNormalization" => self.group_norm(node)?,
                "LayerNormalization" => self.layer_norm(node)?,
                "Relu" => self.activation(node, activation(Activation::LeakyRelu { slope: 0.0 }))?,
                "LeakyRelu" => {
                    let slope = node.float("alpha").unwrap_or(0.01);
                    self.activation(node, activation(Activation::LeakyRelu { slope }))?
                }
                "PRelu" => self.prelu(node)?,
                "Sigmoid" => self.activation(node, activation(Activation::Sigmoid))?,
                "Tanh" => self.activation(node, activation(Activation::Tanh))?,
                "Gelu" if node.text("approximate").is_none_or(|a| a == "none") => {
                    self.activation(node, activation(Activation::Gelu))?
                }
                "Clip" => self.clip(node)?,
                "Softmax" => self.softmax(node)?,
                "Dropout" => self.dropout(node)?,
                "Identity" => {
                    let value = self.operand(node, 0)?;
                    return Ok(vec![match value {
                        Value::View(view) => Value::View(self.relaid(node, &view, view.axes.clone())),
                        other => other,
                    }]);
                }
                "Cast" if matches!(node.int("to"), Some(1 | 10 | 11 | 16)) => {
                    let view = self.view(node, 0)?;
                    self.relaid(node, &view, view.axes.clone())
                }
                "Add" | "Sub" | "Mul" | "Div" | "Pow" => return Ok(vec![self.binary(node)?]),
                "Sum" => self.sum(node)?,
                "Sqrt" => return Ok(vec![self.root(node)?]),
                "Erf" => return Ok(vec![self.erf(node)?]),
                "ReduceMean" => return Ok(vec![self.reduce_mean(node)?]),
                "GlobalAveragePool" => self.global_mean(node)?,
                "MaxPool" | "AveragePool" => self.pool(node)?,
                "Resize" | "Upsample" => self.resize(node)?,
                "Pad" => self.pad(node)?,
                "Slice" => self.slice(node)?,
                "Concat" => return self.concat(node),
                "Split" => return self.split(node),
                "Transpose" => {
                    let view = self.view(node, 0)?;
                    let perm = permutation(node, view.axes.len())?;
                    let axes = perm.iter().filter_map(|&p| view.axes.get(p).cloned()).collect();
                    self.relaid(node, &view, axes)
                }
                "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.relay(node)?,
                "Shape" => return Ok(vec![Value::Constant(std::rc::Rc::new(self.shape_of(node)?))]),
                _ => return Err("is an operator that is not covered".to_owned()),
            },
            _ => return Err("is an operator of a domain that is not covered".to_owned()),
        };
        Ok(vec![Value::View(view)])
    }

    fn activation(&mut self, node: &NodeProto<'m>, op: Op) -> Result<View, String> {
        let view = self.view(node, 0)?;
        self.pointwise(node, op, &view)
    }

    fn prelu(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let slope = self.constant(node, 1)?;
        self.vector(&slope, &view)?;
        let slope = self.param(node, &slope, "weight", vec![slope.data.len()], Init::Constant(0.25))?;
        self.pointwise(node, Op::Activation(Activation::PRelu { slope }), &view)
    }

    /// ReLU written as a clip from 0 on.
    fn clip(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let bound = |array: Option<std::rc::Rc<super::array::Array>>| -> Result<Option<f32>, String> {
            array.map_or(Ok(None), |a| Ok(a.floats()?.first().copied()))
        };
        let (low, high) = (bound(self.optional(node, 1)?)?, bound(self.optional(node, 2)?)?);
        if low == Some(0.0) && high.is_none_or(|h| h >= f32::MAX) {
            return self.pointwise(node, Op::Activation(Activation::LeakyRelu { slope: 0.0 }), &view);
        }
        Err(format!(
            "clips to {low:?} and {high:?}; only the clip from 0 on (ReLU) is covered"
        ))
    }

    fn softmax(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let rank = view.axes.len();
        // Before operator set 13 all axes from this one on are taken together.
        let (default, together) = if self.opset < 13 { (1, true) } else { (-1, false) };
        let along = axis(node.int("axis").unwrap_or(default), rank)?;
        let channels = layout::channels(self.net.shape(view.node).0);
        let behind = view.axes.iter().skip(along + 1).all(Vec::is_empty);
        if view.axes.get(along) != Some(&channels) || (together && !behind) {
            return Err("is not over the channels alone, which is not covered".to_owned());
        }
        self.pointwise(node, Op::Softmax, &view)
    }

    fn dropout(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let ratio = match self.optional(node, 1)? {
            Some(array) => array.floats()?.first().copied(),
            None => node.float("ratio"),
        };
        match ratio.unwrap_or(0.5) {
            p if p > 0.0 && p < 1.0 => self.pointwise(node, Op::Dropout { p }, &view),
            _ => Ok(self.relaid(node, &view, view.axes.clone())),
        }
    }

    /// Reshape, Flatten, Squeeze, Unsqueeze: another layout of the same node.
    fn relay(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let dims = self.dims(&view)?;
        let rank = dims.len();
        let target: Vec<Option<Dim>> = match node.op {
            "Reshape" => {
                let wanted = self.constant(node, 1)?;
                let keep_zero = node.int("allowzero") == Some(1);
                let mut target = Vec::new();
                for (i, int) in wanted.integers()?.iter().enumerate() {
                    target.push(match int.dim {
                        Dim::Known(-1) => None,
                        Dim::Known(0) if !keep_zero => Some(*dims.get(i).ok_or("copies an axis that is not there")?),
                        dim => Some(dim),
                    });
                }
                target
            }
            "Flatten" => {
                let at = node.int("axis").unwrap_or(1);
                let at = if at == rank as i64 { rank } else { axis(at, rank)? };
                vec![Some(self.extents.product(dims.into_iter().take(at))?), None]
            }
            op => {
                let input = self.optional(node, 1)?;
                let listed = axes_of(node, input.as_deref())?;
                if op == "Squeeze" {
                    let listed = listed.ok_or("drops whatever axes are 1 long; name them")?;
                    let gone = resolve(&listed, rank)?;
                    let kept = view.axes.iter().enumerate().filter(|(i, _)| !gone.contains(i));
                    let axes: Axes = kept.map(|(_, axis)| axis.clone()).collect();
                    if gone
                        .iter()
                        .any(|&i| view.axes.get(i).is_none_or(|axis| !axis.is_empty()))
                    {
                        return Err("drops an axis that is not known to be 1 long".to_owned());
                    }
                    return Ok(self.relaid(node, &view, axes));
                }
                let listed = listed.ok_or("has no axes")?;
                let total = rank + listed.len();
                let added = resolve(&listed, total)?;
                let mut old = view.axes.iter().cloned();
                let axes = (0..total)
                    .filter_map(|i| {
                        if added.contains(&i) {
                            Some(Vec::new())
                        } else {
                            old.next()
                        }
                    })
                    .collect();
                return Ok(self.relaid(node, &view, axes));
            }
        };
        let shape = self.net.shape(view.node);
        let axes = layout::reshape(&view.axes, &target, shape, self.batch, &mut self.extents)?;
        Ok(self.relaid(node, &view, axes))
    }

    fn concat(&mut self, node: &NodeProto<'m>) -> Result<Vec<Value<'m>>, String> {
        let mut views = Vec::new();
        for i in 0..node.inputs.len() {
            views.push(self.view(node, i)?);
        }
        let first = views.first().ok_or("joins nothing")?.clone();
        let along = axis(node.int("axis").ok_or("has no axis")?, first.axes.len())?;
        if let [one] = views.as_slice() {
            return Ok(vec![Value::View(self.relaid(node, one, one.axes.clone()))]);
        }
        let mut channels = 0usize;
        let mut shape = self.net.shape(first.node);
        for view in &views {
            let own = self.net.shape(view.node);
            // Along the joined axis there must be all channels and nothing else; the other axes agree.
            let whole = view.axes.get(along) == Some(&layout::channels(own.0));
            let others = |axes: &Axes| -> Axes {
                axes.iter()
                    .enumerate()
                    .filter(|(i, _)| *i != along)
                    .map(|(_, axis)| axis.clone())
                    .collect()
            };
            let complete = others(&view.axes)
                .iter()
                .flatten()
                .all(|a| !matches!(a, layout::Atom::Channels { .. }));
            if !whole || !complete || others(&view.axes) != others(&first.axes) {
                return Err("joins something else than channels, which is not covered".to_owned());
            }
            if own
                .1
                .iter()
                .zip(&shape.1)
                .any(|(a, b)| matches!((a, b), (Dim::Known(a), Dim::Known(b)) if a != b))
            {
                return Err("joins values of unequal extents".to_owned());
            }
            channels = channels.checked_add(own.0).ok_or("has too many channels")?;
        }
        shape.0 = channels;
        let mut axes = first.axes;
        if let Some(axis) = axes.get_mut(along) {
            *axis = layout::channels(channels);
        }
        let inputs = views.iter().map(|view| view.node).collect();
        Ok(vec![Value::View(self.push_as(
            node,
            Op::Concat,
            inputs,
            shape,
            axes,
        )?)])
    }

    /// A part of the channels, for a slice or split along their axis.
    pub(super) fn channels(
        &mut self,
        node: &NodeProto<'m>,
        view: &View,
        start: usize,
        len: usize,
    ) -> Result<View, String> {
        let shape = self.net.shape(view.node);
        if len == 0 || start.checked_add(len).is_none_or(|end| end > shape.0) {
            return Err(format!("takes {len} of {} channels from {start} on", shape.0));
        }
        if len == shape.0 {
            return Ok(self.relaid(node, view, view.axes.clone()));
        }
        let to = (len, shape.1);
        let axes = with_shape(&view.axes, shape, to).ok_or("is in a layout that is not covered")?;
        self.push_as(node, Op::Channels { start, len }, vec![view.node], to, axes)
    }

    fn split(&mut self, node: &NodeProto<'m>) -> Result<Vec<Value<'m>>, String> {
        let view = self.view(node, 0)?;
        let along = axis(node.int("axis").unwrap_or(0), view.axes.len())?;
        let (count, _) = self.net.shape(view.node);
        if view.axes.get(along) != Some(&layout::channels(count)) {
            return Err("splits something else than channels, which is not covered".to_owned());
        }
        let given = match self.optional(node, 1)? {
            Some(array) => Some(array.numbers()?),
            None => node.ints("split").map(<[i64]>::to_vec),
        };
        let parts = match given {
            Some(parts) => parts
                .into_iter()
                .map(|n| usize::try_from(n).map_err(|_| format!("has a part of {n} channels")))
                .collect::<Result<Vec<_>, _>>()?,
            None => {
                let n = node.outputs.len().max(1);
                let each = count.div_ceil(n);
                (0..n).map(|i| each.min(count.saturating_sub(i * each))).collect()
            }
        };
        let mut start = 0usize;
        let mut values = Vec::new();
        for (i, len) in parts.into_iter().enumerate().take(node.outputs.len()) {
            let mut part = self.channels(node, &view, start, len)?;
            part.sole = node.outputs.get(i).is_some_and(|name| self.uses_of(name) == 1);
            values.push(Value::View(part));
            start = start.saturating_add(len);
        }
        Ok(values)
    }
}
