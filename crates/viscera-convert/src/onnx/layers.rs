//! Convolutions, matrix products over channels, norms, window attention.

use super::array::Array;
use super::import::{Import, Vector, View};
use super::layout::{self, Atom, with_shape};
use super::proto::NodeProto;
use std::rc::Rc;
use viscera_net::{Conv, Init, Op, ParamId, ParamKind, WindowAttention};

const ONE: Init = Init::Constant(1.0);
const ZERO: Init = Init::Constant(0.0);

/// Positive numbers of an attribute with one entry per spatial axis.
pub(super) fn triple(node: &NodeProto<'_>, name: &str, default: usize) -> Result<[usize; 3], String> {
    let Some(values) = node.ints(name) else {
        return Ok([default; 3]);
    };
    let number = |v: &i64| usize::try_from(*v).ok().filter(|n| (1..1 << 31).contains(n));
    let found: Option<Vec<usize>> = values.iter().map(number).collect();
    let array = found.and_then(|found| found.try_into().ok());
    array.ok_or_else(|| format!("has the {name} {values:?}; three positive numbers are needed"))
}

/// Voxels before and after each axis.
pub(super) fn pads(
    node: &NodeProto<'_>,
    span: [usize; 3],
    stride: [usize; 3],
) -> Result<([usize; 3], [usize; 3]), String> {
    let auto = node.text("auto_pad").unwrap_or("NOTSET");
    match auto {
        "NOTSET" => {}
        "VALID" => return Ok(([0; 3], [0; 3])),
        "SAME_UPPER" | "SAME_LOWER" if stride == [1; 3] => {
            let total = span.map(|s| s.saturating_sub(1));
            let (less, more) = (total.map(|t| t / 2), total.map(|t| t.div_ceil(2)));
            return Ok(if auto == "SAME_UPPER" {
                (less, more)
            } else {
                (more, less)
            });
        }
        _ => {
            return Err(format!(
                "has auto_pad {auto} with strides, which depends on the size: export it with pads"
            ));
        }
    }
    let Some(values) = node.ints("pads") else {
        return Ok(([0; 3], [0; 3]));
    };
    let number = |v: &i64| usize::try_from(*v).ok().filter(|n| *n < 1 << 31);
    let found: Option<Vec<usize>> = values.iter().map(number).collect();
    match found.as_deref() {
        Some(&[a, b, c, d, e, f]) => Ok(([a, b, c], [d, e, f])),
        _ => Err(format!("has the pads {values:?}; six numbers from 0 on are needed")),
    }
}

/// Voxels that a kernel reaches over.
pub(super) fn span(kernel: [usize; 3], dilation: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| {
        let (k, d) = (
            kernel.get(a).copied().unwrap_or(1),
            dilation.get(a).copied().unwrap_or(1),
        );
        k.saturating_sub(1).saturating_mul(d).saturating_add(1)
    })
}

impl<'m> Import<'m> {
    /// A convolution's weight: shape of five axes, and the constant.
    fn kernel(&mut self, node: &NodeProto<'m>) -> Result<(Rc<Array>, [usize; 5]), String> {
        let weight = self.constant(node, 1)?;
        let Ok(shape) = <[usize; 5]>::try_from(weight.dims.as_slice()) else {
            let dims = &weight.dims;
            return Err(format!("has a weight of shape {dims:?}; 3-D convolutions are covered"));
        };
        let [.., z, y, x] = shape;
        if shape.contains(&0)
            || node
                .ints("kernel_shape")
                .is_some_and(|k| k != [z as i64, y as i64, x as i64])
        {
            return Err(format!("has a weight of shape {shape:?}, which is not its kernel's"));
        }
        Ok((weight, shape))
    }

    fn bias(&mut self, node: &NodeProto<'m>, index: usize, channels: usize) -> Result<Option<ParamId>, String> {
        match self.optional(node, index)? {
            Some(bias) => self.param(node, &bias, "bias", vec![channels], ZERO).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn conv(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let mut view = self.plain(node, 0)?;
        let (weight, [out_channels, per_group, kz, ky, kx]) = self.kernel(node)?;
        let kernel = [kz, ky, kx];
        let groups = usize::try_from(node.int("group").unwrap_or(1)).map_err(|_| "has a negative group")?;
        let (channels, _) = self.net.shape(view.node);
        if per_group.checked_mul(groups) != Some(channels) || groups == 0 || !out_channels.is_multiple_of(groups) {
            let shape = &weight.dims;
            return Err(format!(
                "has a weight of shape {shape:?} in {groups} groups for {channels} channels"
            ));
        }
        let (stride, dilation) = (triple(node, "strides", 1)?, triple(node, "dilations", 1)?);
        let span = span(kernel, dilation);
        let (before, after) = pads(node, span, stride)?;
        let mut padding = before;
        if before != after {
            view = self.padded(node, &view, before.map(|n| n as isize), after.map(|n| n as isize))?;
            padding = [0; 3];
        }
        let (_, extent) = self.net.shape(view.node);
        let shape = (out_channels, self.windows(extent, span, stride, padding)?);
        let fan_in = per_group.saturating_mul(kz).saturating_mul(ky).saturating_mul(kx);
        let dims = vec![out_channels, per_group, kz, ky, kx];
        let weight = self.param(node, &weight, "weight", dims, Init::HeNormal { fan_in, slope: 0.0 })?;
        let bias = self.bias(node, 2, out_channels)?;
        let op = Op::Conv(Conv {
            out_channels,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            weight,
            bias,
        });
        self.push(node, op, vec![view.node], shape)
    }

    pub(super) fn conv_transpose(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.plain(node, 0)?;
        let (weight, [ins, outs, kz, ky, kx]) = self.kernel(node)?;
        let kernel = [kz, ky, kx];
        let (channels, extent) = self.net.shape(view.node);
        let groups = usize::try_from(node.int("group").unwrap_or(1)).map_err(|_| "has a negative group")?;
        if ins != channels || groups == 0 || !ins.is_multiple_of(groups) {
            let shape = &weight.dims;
            return Err(format!(
                "has a weight of shape {shape:?} in {groups} groups for {channels} channels"
            ));
        }
        let stride = triple(node, "strides", 1)?;
        let plain_pads = node.ints("pads").is_none_or(|p| p.iter().all(|&p| p == 0));
        let plain_out = node.ints("output_padding").is_none_or(|p| p.iter().all(|&p| p == 0));
        let auto = matches!(node.text("auto_pad"), None | Some("NOTSET" | "VALID"));
        if stride != kernel || !plain_pads || !plain_out || !auto || node.ints("output_shape").is_some() {
            return Err(format!(
                "has kernel {kernel:?} and stride {stride:?}; transposed convolutions with kernel = stride and without padding are covered"
            ));
        }
        let mut extent = extent;
        for (extent, k) in extent.iter_mut().zip(kernel) {
            let factor = super::extent::Dim::Known(k as i64);
            *extent = self.extents.product([*extent, factor])?;
        }
        let out_channels = outs.checked_mul(groups).ok_or("has too many channels")?;
        let dims = vec![ins, out_channels, kz, ky, kx];
        let init = Init::HeNormal {
            fan_in: ins,
            slope: 0.0,
        };
        let weight = if groups == 1 {
            self.param(node, &weight, "weight", dims, init)?
        } else {
            // The graph's transposed convolution has one group: zeros stand between the groups.
            let taps = kz * ky * kx;
            let total = super::array::count(&dims)?;
            self.store.charge(total)?;
            let mut dense = vec![0.0; total];
            let (rows, row) = (weight.floats()?.chunks_exact(outs * taps), out_channels * taps);
            for (i, values) in rows.enumerate() {
                let start = i * row + i / (ins / groups) * outs * taps;
                if let Some(place) = dense.get_mut(start..start + values.len()) {
                    place.copy_from_slice(values);
                }
            }
            self.param_of(node, None, "weight", dims, dense, init, ParamKind::Learnt)?
        };
        let bias = self.bias(node, 2, out_channels)?;
        let op = Op::ConvTranspose {
            out_channels,
            kernel,
            weight,
            bias,
        };
        self.push(node, op, vec![view.node], (out_channels, extent))
    }

    /// A product with a constant matrix over the channels, which stand on the last axis: a 1×1×1 convolution.
    pub(super) fn mat_mul(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let matrix = self.constant(node, 1)?;
        self.linear(node, &view, &matrix, false, None)
    }

    pub(super) fn gemm(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let scales = [node.float("alpha"), node.float("beta")];
        if node.int("transA").is_some_and(|t| t != 0) || scales.iter().flatten().any(|&s| s != 1.0) {
            return Err("transposes its first input or scales, which is not covered".to_owned());
        }
        let matrix = self.constant(node, 1)?;
        self.linear(node, &view, &matrix, node.int("transB") == Some(1), Some(2))
    }

    fn linear(
        &mut self,
        node: &NodeProto<'m>,
        view: &View,
        matrix: &Array,
        transposed: bool,
        bias: Option<usize>,
    ) -> Result<View, String> {
        let shape = self.net.shape(view.node);
        let &[rows, columns] = matrix.dims.as_slice() else {
            return Err(format!(
                "multiplies by an array of shape {:?}; a matrix is needed",
                matrix.dims
            ));
        };
        let (ins, outs) = if transposed { (columns, rows) } else { (rows, columns) };
        if view.axes.last() != Some(&layout::channels(shape.0)) || ins != shape.0 || outs == 0 {
            return Err("multiplies along something else than all channels, which is not covered".to_owned());
        }
        let to = (outs, shape.1);
        let axes = with_shape(&view.axes, shape, to).ok_or("has a layout that is not covered")?;
        let values = matrix.floats()?;
        let values = if transposed {
            values.to_vec()
        } else {
            (0..outs)
                .flat_map(|o| values.iter().skip(o).step_by(outs))
                .copied()
                .collect()
        };
        let init = Init::HeNormal {
            fan_in: ins,
            slope: 0.0,
        };
        let dims = vec![outs, ins, 1, 1, 1];
        let weight = self.param_of(
            node,
            matrix.name.as_deref(),
            "weight",
            dims,
            values,
            init,
            ParamKind::Learnt,
        )?;
        let bias = bias.map_or(Ok(None), |index| self.bias(node, index, outs))?;
        let op = Op::Conv(Conv {
            out_channels: outs,
            kernel: [1; 3],
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
            groups: 1,
            weight,
            bias,
        });
        let made = self.push_as(node, op, vec![view.node], to, axes)?;
        if bias.is_none() {
            self.linear.insert(made.node);
        }
        Ok(made)
    }

    /// Scale and bias at two inputs; `None` where they are folded ones and zeros, as exporters write for a norm without.
    fn affine_pair(
        &mut self,
        node: &NodeProto<'m>,
        [scale, bias]: [usize; 2],
        channels: usize,
    ) -> Result<Option<(ParamId, ParamId)>, String> {
        let folded = self.is_folded(node, scale) && self.is_folded(node, bias);
        let (scale, bias) = (self.constant(node, scale)?, self.constant(node, bias)?);
        if folded && is_identity(&scale, &bias)? {
            return Ok(None);
        }
        let weight = self.param(node, &scale, "weight", vec![channels], ONE)?;
        Ok(Some((weight, self.param(node, &bias, "bias", vec![channels], ZERO)?)))
    }

    pub(super) fn batch_norm(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let (channels, _) = self.net.shape(view.node);
        if node.int("training_mode") == Some(1) {
            return Err("is in training mode: export the network in evaluation mode".to_owned());
        }
        if view.axes.get(1) != Some(&layout::channels(channels)) {
            return Err("is not over the channels, which is not covered".to_owned());
        }
        let affine = self.affine_pair(node, [1, 2], channels)?;
        let mut statistic = |index, role, init| {
            let array = self.constant(node, index)?;
            let values = array.floats()?.to_vec();
            let name = array.name.as_deref();
            self.param_of(node, name, role, vec![channels], values, init, ParamKind::Statistic)
        };
        let (mean, variance) = (statistic(3, "running_mean", ZERO)?, statistic(4, "running_var", ONE)?);
        let eps = node.float("epsilon").unwrap_or(1e-5);
        self.pointwise(
            node,
            Op::BatchNorm {
                eps,
                mean,
                variance,
                affine,
            },
            &view,
        )
    }

    /// Instance norm; after a reshape to (batch, group, rest) it is group norm.
    pub(super) fn instance_norm(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let (channels, extent) = self.net.shape(view.node);
        let eps = node.float("epsilon").unwrap_or(1e-5);
        if self.is_plain(&view) {
            let affine = self.affine_pair(node, [1, 2], channels)?;
            return self.pointwise(node, Op::InstanceNorm { eps, affine }, &view);
        }
        let groups = match view.axes.get(1).map(Vec::as_slice) {
            Some([]) => 1,
            Some(&[Atom::Channels { size, .. }]) => size,
            _ => 0,
        };
        let rest = channels.checked_div(groups).unwrap_or(0);
        let mut expected = layout::channels(rest);
        expected.extend(layout::plain((channels, extent)).into_iter().skip(2).flatten());
        let behind: Vec<Atom> = view.axes.iter().skip(2).flatten().copied().collect();
        let outer = match view.axes.get(1).map(Vec::as_slice) {
            Some(&[Atom::Channels { stride, .. }]) => stride == rest,
            _ => true,
        };
        if view.axes.first().map(Vec::as_slice) != Some(&[Atom::Batch]) || behind != expected || !outer {
            return Err("is over a layout that is neither instance nor group norm".to_owned());
        }
        let (scale, bias) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let affine = if is_identity(&scale, &bias)? {
            None
        } else {
            Some(self.grouped_affine(node, &scale, &bias, groups, channels)?)
        };
        self.pointwise(node, Op::GroupNorm { groups, eps, affine }, &view)
    }

    /// Scale and bias per channel from such per group.
    fn grouped_affine(
        &mut self,
        node: &NodeProto<'m>,
        scale: &Array,
        bias: &Array,
        groups: usize,
        channels: usize,
    ) -> Result<(ParamId, ParamId), String> {
        let mut each = |array: &Array, role, init| {
            let values = array.floats()?;
            if values.len() != groups || groups == 0 {
                return Err(format!("has {} values for {groups} groups", values.len()));
            }
            let rest = channels / groups;
            self.store.charge(channels)?;
            let values = values.iter().flat_map(|&v| std::iter::repeat_n(v, rest)).collect();
            self.param_of(node, None, role, vec![channels], values, init, ParamKind::Learnt)
        };
        Ok((each(scale, "weight", ONE)?, each(bias, "bias", ZERO)?))
    }

    pub(super) fn group_norm(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.plain(node, 0)?;
        let (channels, _) = self.net.shape(view.node);
        let groups = usize::try_from(node.int("num_groups").unwrap_or(0)).unwrap_or(0);
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(format!("has {groups} groups for {channels} channels"));
        }
        let (scale, bias) = (self.constant(node, 1)?, self.constant(node, 2)?);
        // One scale per group until operator set 20, one per channel from 21 on; some exporters write the latter early.
        let affine = if scale.data.len() == channels {
            self.affine_pair(node, [1, 2], channels)?
        } else {
            Some(self.grouped_affine(node, &scale, &bias, groups, channels)?)
        };
        let eps = node.float("epsilon").unwrap_or(1e-5);
        self.pointwise(node, Op::GroupNorm { groups, eps, affine }, &view)
    }

    pub(super) fn layer_norm(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        let (channels, _) = self.net.shape(view.node);
        let along = super::fold::axis(node.int("axis").unwrap_or(-1), view.axes.len())?;
        if along + 1 != view.axes.len() || view.axes.last() != Some(&layout::channels(channels)) {
            return Err("is not over the channels alone, which is not covered".to_owned());
        }
        let scale = self.constant(node, 1)?;
        let folded = self.is_folded(node, 1) && (node.inputs.len() < 3 || self.is_folded(node, 2));
        let bias = match self.optional(node, 2)? {
            Some(bias) => bias,
            None => {
                self.store.charge(channels)?;
                let data = super::array::Data::Floats(vec![0.0; channels]);
                Rc::new(Array {
                    dims: vec![channels],
                    data,
                    name: None,
                })
            }
        };
        let affine = if folded && is_identity(&scale, &bias)? {
            None
        } else {
            let weight = self.param(node, &scale, "weight", vec![channels], ONE)?;
            Some((weight, self.param(node, &bias, "bias", vec![channels], ZERO)?))
        };
        let eps = node.float("epsilon").unwrap_or(1e-5);
        self.pointwise(node, Op::LayerNorm { eps, affine }, &view)
    }

    /// The attention that the export writes as a function of its own.
    pub(super) fn window_attention(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.plain(node, 0)?;
        let (channels, extent) = self.net.shape(view.node);
        let window = triple(node, "window", 1)?;
        let shift = node
            .ints("shift")
            .and_then(|s| s.iter().map(|&v| usize::try_from(v).ok()).collect::<Option<Vec<_>>>());
        let shift: [usize; 3] = shift
            .and_then(|s| s.try_into().ok())
            .ok_or("has no shift of three numbers")?;
        let heads = usize::try_from(node.int("heads").unwrap_or(0)).unwrap_or(0);
        if heads == 0
            || !channels.is_multiple_of(heads.saturating_mul(3))
            || shift.iter().zip(&window).any(|(s, w)| s >= w)
        {
            return Err(format!(
                "has {heads} heads for {channels} channels, or a shift beyond its window"
            ));
        }
        let table = self.constant(node, 1)?;
        let offsets = window.iter().fold(1usize, |n, &w| n.saturating_mul(2 * w - 1));
        let bias = self.param(node, &table, "bias", vec![offsets, heads], Init::Normal { std: 0.02 })?;
        let op = Op::WindowAttention(WindowAttention {
            heads,
            window,
            shift,
            bias,
        });
        self.push(node, op, vec![view.node], (channels / 3, extent))
    }

    /// Multiplies or shifts by one value, or one per channel. Goes into the norm, affine step or matrix product before it
    /// where nothing else reads that.
    pub(super) fn affine(
        &mut self,
        node: &NodeProto<'m>,
        view: &View,
        name: Option<&str>,
        vector: Vector,
        is_bias: bool,
    ) -> Result<View, String> {
        let (channels, _) = self.net.shape(view.node);
        let values = match vector {
            Vector::One(v) if v == f32::from(!is_bias) => return Ok(self.relaid(node, view, view.axes.clone())),
            Vector::One(v) => vec![v],
            Vector::Channels(values) => values,
        };
        let (role, init) = if is_bias { ("bias", ZERO) } else { ("weight", ONE) };
        let n = values.len();
        let op = self.net.node(view.node).map(|node| node.op.clone());
        let takes_bias = is_bias
            && view.sole
            && match &op {
                Some(Op::Affine { bias: None, .. }) => true,
                Some(Op::Conv(conv)) => n == channels && conv.bias.is_none() && self.linear.contains(&view.node),
                Some(_) => n == channels && self.open_bias.contains(&view.node),
                None => false,
            };
        let takes_weight = !is_bias
            && view.sole
            && n == channels
            && matches!(
                op,
                Some(
                    Op::InstanceNorm { affine: None, .. }
                        | Op::GroupNorm { affine: None, .. }
                        | Op::LayerNorm { affine: None, .. }
                )
            );
        let param = self.param_of(node, name, role, vec![n], values, init, ParamKind::Learnt)?;
        if takes_weight {
            self.store.charge(channels)?;
            let zeros = vec![0.0; channels];
            let zero = self.param_of(node, None, "bias", vec![channels], zeros, ZERO, ParamKind::Learnt)?;
            self.open_bias.insert(view.node);
            if let Some(Op::InstanceNorm { affine, .. } | Op::GroupNorm { affine, .. } | Op::LayerNorm { affine, .. }) =
                self.net.op_mut(view.node)
            {
                *affine = Some((param, zero));
            }
            return Ok(self.relaid(node, view, view.axes.clone()));
        }
        if takes_bias {
            self.open_bias.remove(&view.node);
            match self.net.op_mut(view.node) {
                Some(Op::Affine { bias, .. }) => *bias = Some(param),
                Some(Op::Conv(conv)) => conv.bias = Some(param),
                Some(
                    Op::InstanceNorm {
                        affine: Some((_, bias)),
                        ..
                    }
                    | Op::GroupNorm {
                        affine: Some((_, bias)),
                        ..
                    }
                    | Op::LayerNorm {
                        affine: Some((_, bias)),
                        ..
                    },
                ) => *bias = param,
                _ => {}
            }
            return Ok(self.relaid(node, view, view.axes.clone()));
        }
        let (weight, bias) = if is_bias {
            (None, Some(param))
        } else {
            (Some(param), None)
        };
        self.pointwise(node, Op::Affine { weight, bias }, view)
    }
}

fn is_identity(scale: &Array, bias: &Array) -> Result<bool, String> {
    Ok(scale.floats()?.iter().all(|&v| v == 1.0) && bias.floats()?.iter().all(|&v| v == 0.0))
}
