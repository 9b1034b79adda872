//! Pooling, resizing, padding, slicing.

use super::extent::Dim;
use super::fold::{axis, resolve};
use super::import::{Import, View};
use super::layers::{pads, span, triple};
use super::layout::{self, Atom, with_shape};
use super::proto::NodeProto;
use viscera_net::{Interpolation, NodeId, Op, PoolKind};

impl<'m> Import<'m> {
    /// Extents after a window has moved over them.
    pub(super) fn windows(
        &mut self,
        extent: [Dim; 3],
        span: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> Result<[Dim; 3], String> {
        let mut left = extent;
        for (((dim, span), stride), padding) in left.iter_mut().zip(span).zip(stride).zip(padding) {
            *dim = self.extents.windows(*dim, span, stride, padding.saturating_mul(2))?;
        }
        Ok(left)
    }

    /// Adds zeros around a value, or removes voxels.
    pub(super) fn padded(
        &mut self,
        node: &NodeProto<'m>,
        view: &View,
        before: [isize; 3],
        after: [isize; 3],
    ) -> Result<View, String> {
        let shape = self.net.shape(view.node);
        if before == [0; 3] && after == [0; 3] {
            return Ok(self.relaid(node, view, view.axes.clone()));
        }
        let mut extent = shape.1;
        for ((dim, before), after) in extent.iter_mut().zip(before).zip(after) {
            let sum = before.checked_add(after).and_then(|n| i64::try_from(n).ok());
            *dim = self.extents.plus(*dim, sum.ok_or("has pads that overflow")?)?;
        }
        let to = (shape.0, extent);
        let axes = with_shape(&view.axes, shape, to).ok_or("is in a layout that is not covered")?;
        self.push_as(node, Op::Pad { before, after }, vec![view.node], to, axes)
    }

    pub(super) fn pool(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let mut view = self.plain(node, 0)?;
        let (kernel, stride) = (triple(node, "kernel_shape", 1)?, triple(node, "strides", 1)?);
        if triple(node, "dilations", 1)? != [1; 3] {
            return Err("has dilations, which are not covered".to_owned());
        }
        let (before, after) = pads(node, kernel, stride)?;
        let (_, extent) = self.net.shape(view.node);
        if node.int("ceil_mode") == Some(1) && !self.fits(extent, kernel, stride, before, after) {
            return Err("rounds its size up (ceil_mode), which is not covered for this size".to_owned());
        }
        let mut padding = before;
        let kind = if node.op == "MaxPool" {
            PoolKind::Max
        } else {
            PoolKind::Average
        };
        if before != [0; 3] || after != [0; 3] {
            match kind {
                PoolKind::Max if before == after => {}
                PoolKind::Max => return Err("pads unequally on both sides, which is not covered".to_owned()),
                PoolKind::Average if node.int("count_include_pad") == Some(1) => {
                    view = self.padded(node, &view, before.map(|n| n as isize), after.map(|n| n as isize))?;
                    padding = [0; 3];
                }
                PoolKind::Average => {
                    return Err("averages without counting its pads, which is not covered".to_owned());
                }
            }
        }
        let (channels, extent) = self.net.shape(view.node);
        let shape = (channels, self.windows(extent, span(kernel, [1; 3]), stride, padding)?);
        self.push(
            node,
            Op::Pool {
                kind,
                kernel,
                stride,
                padding,
            },
            vec![view.node],
            shape,
        )
    }

    /// Whether windows end where the volume does, at the size that the file fixes.
    fn fits(
        &self,
        extent: [Dim; 3],
        kernel: [usize; 3],
        stride: [usize; 3],
        before: [usize; 3],
        after: [usize; 3],
    ) -> bool {
        let mut each = extent.iter().zip(kernel).zip(stride).zip(before).zip(after);
        each.all(|((((&dim, kernel), stride), before), after)| {
            let room = self.extents.value(dim).and_then(|n| usize::try_from(n).ok());
            let room = room.and_then(|n| n.checked_add(before)?.checked_add(after)?.checked_sub(kernel));
            room.is_some_and(|room| room.is_multiple_of(stride))
        })
    }

    /// Resize (and Upsample) by whole factors, or to the size of another layer.
    pub(super) fn resize(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.plain(node, 0)?;
        let (channels, extent) = self.net.shape(view.node);
        let (scales_at, sizes_at) = if node.op == "Upsample" { (1, usize::MAX) } else { (2, 3) };
        let scales = self.optional(node, scales_at)?.filter(|a| a.data.len() > 0);
        let sizes = if sizes_at == usize::MAX {
            None
        } else {
            self.optional(node, sizes_at)?.filter(|a| a.data.len() > 0)
        };
        let axes = match node.ints("axes") {
            Some(axes) => resolve(axes, 5)?,
            None => (0..5).collect(),
        };
        if let Some(sizes) = sizes {
            let mut target = [self.batch, Dim::Known(channels as i64), extent[0], extent[1], extent[2]];
            let mut like = Vec::new();
            for (int, &axis) in sizes.integers()?.iter().zip(&axes) {
                if let Some(place) = target.get_mut(axis) {
                    *place = int.dim;
                }
                if axis >= 2 {
                    like.push(int.of);
                }
            }
            let [batch, own, z, y, x] = target;
            if node
                .text("keep_aspect_ratio_policy")
                .is_some_and(|policy| policy != "stretch")
                || !self.extents.same(batch, self.batch)
                || !self.extents.same(own, Dim::Known(channels as i64))
            {
                return Err("resizes batch or channels, or keeps proportions, which is not covered".to_owned());
            }
            let of = like
                .first()
                .copied()
                .flatten()
                .filter(|_| like.windows(2).all(|pair| pair.first() == pair.last()));
            return self.resize_to(node, &view, [z, y, x], of);
        }
        let scales = scales.ok_or("has neither scales nor sizes")?;
        let mut factor = [1usize; 3];
        for (&scale, &axis) in scales.floats()?.iter().zip(&axes) {
            let whole = scale >= 1.0 && scale.fract() == 0.0 && scale < 1e6;
            match (axis.checked_sub(2).and_then(|a| factor.get_mut(a)), whole) {
                (Some(place), true) => *place = scale as usize,
                (None, _) if scale == 1.0 => {}
                _ => {
                    return Err(format!(
                        "resizes by {:?}; whole factors of space are covered",
                        scales.floats()?
                    ));
                }
            }
        }
        self.resize_by(node, &view, factor)
    }

    fn resize_by(&mut self, node: &NodeProto<'m>, view: &View, factor: [usize; 3]) -> Result<View, String> {
        if factor == [1; 3] {
            return Ok(self.relaid(node, view, view.axes.clone()));
        }
        let mode = interpolation(node, factor)?;
        let (channels, mut extent) = self.net.shape(view.node);
        for (dim, factor) in extent.iter_mut().zip(factor) {
            *dim = self.extents.product([*dim, Dim::Known(factor as i64)])?;
        }
        self.push(node, Op::Resize { factor, mode }, vec![view.node], (channels, extent))
    }

    fn resize_to(
        &mut self,
        node: &NodeProto<'m>,
        view: &View,
        target: [Dim; 3],
        of: Option<NodeId>,
    ) -> Result<View, String> {
        let (channels, extent) = self.net.shape(view.node);
        let mut factor = [0usize; 3];
        for ((place, &own), &wanted) in factor.iter_mut().zip(&extent).zip(&target) {
            *place = self.factor(own, wanted)?;
        }
        let like = of.or_else(|| self.net.with_extent(target, &self.extents));
        let linear = node.text("mode") == Some("linear");
        match like {
            Some(like) if linear => {
                let Interpolation::Trilinear { align_corners } = interpolation(node, [1; 3])? else {
                    return Err("is not linear".to_owned());
                };
                let shape = (channels, self.net.shape(like).1);
                self.push(node, Op::ResizeLike { align_corners }, vec![view.node, like], shape)
            }
            _ if !factor.contains(&0) => self.resize_by(node, view, factor),
            _ if linear => {
                Err("resizes to a size that no layer has and that is no whole multiple of its input's".to_owned())
            }
            _ => Err("resizes by nearest neighbour to a size that is no whole multiple of its input's".to_owned()),
        }
    }

    /// The whole number of times that one size goes into another; 0 where there is none.
    fn factor(&mut self, own: Dim, wanted: Dim) -> Result<usize, String> {
        for factor in 1..=16 {
            if self.extents.product([own, Dim::Known(factor as i64)])? == wanted {
                return Ok(factor);
            }
        }
        let numbers = (self.extents.value(own), self.extents.value(wanted));
        Ok(match numbers {
            (Some(own), Some(wanted)) if own > 0 && wanted % own == 0 => usize::try_from(wanted / own).unwrap_or(0),
            _ => 0,
        })
    }

    pub(super) fn pad(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let view = self.view(node, 0)?;
        if let Some(mode) = node.text("mode").filter(|mode| *mode != "constant") {
            return Err(format!("pads by '{mode}'; zeros are covered"));
        }
        if let Some(value) = self.optional(node, 2)?
            && value.floats()?.iter().any(|&v| v != 0.0)
        {
            return Err("pads with another value than zero, which is not covered".to_owned());
        }
        let given = self.constant(node, 1)?.numbers()?;
        let rank = view.axes.len();
        let listed = match self.optional(node, 3)? {
            Some(axes) => resolve(&axes.numbers()?, rank)?,
            None => (0..rank).collect(),
        };
        let (starts, ends) = given.split_at_checked(listed.len()).ok_or("has too few pads")?;
        if ends.len() != listed.len() {
            return Err(format!("has {} pads for {} axes", given.len(), listed.len()));
        }
        let (mut before, mut after) = ([0isize; 3], [0isize; 3]);
        for ((&axis, &start), &end) in listed.iter().zip(starts).zip(ends) {
            if start == 0 && end == 0 {
                continue;
            }
            let space = self
                .space_axis(&view, axis)
                .ok_or("pads another axis than z, y and x, which is not covered")?;
            let number = |n: i64| isize::try_from(n).ok().filter(|n| n.unsigned_abs() < 1 << 31);
            if let (Some(b), Some(a)) = (before.get_mut(space), after.get_mut(space)) {
                *b = number(start).ok_or("has pads that overflow")?;
                *a = number(end).ok_or("has pads that overflow")?;
            }
        }
        self.padded(node, &view, before, after)
    }

    /// Which of z, y, x stands alone on an axis of a view.
    fn space_axis(&self, view: &View, axis: usize) -> Option<usize> {
        match view.axes.get(axis).map(Vec::as_slice) {
            Some(&[Atom::Space(space)]) => Some(space),
            // 1 long, so left out of the layout; its place tells.
            Some([]) if self.is_plain(view) => axis.checked_sub(2),
            _ => None,
        }
    }

    pub(super) fn slice(&mut self, node: &NodeProto<'m>) -> Result<View, String> {
        let mut view = self.view(node, 0)?;
        let rank = view.axes.len();
        let (starts, ends) = (self.constant(node, 1)?, self.constant(node, 2)?);
        let n = starts.data.len();
        let listed = match self.optional(node, 3)? {
            Some(axes) => axes.numbers()?,
            None => (0..n as i64).collect(),
        };
        if let Some(steps) = self.optional(node, 4)?
            && steps.numbers()?.iter().any(|&s| s != 1)
        {
            return Err("takes steps other than 1, which is not covered".to_owned());
        }
        let dims = self.dims(&view)?;
        let (mut before, mut after) = ([0isize; 3], [0isize; 3]);
        for ((start, end), along) in starts.integers()?.iter().zip(ends.integers()?).zip(listed) {
            let along = axis(along, rank)?;
            let size = dims.get(along).copied().ok_or("has an axis that is not there")?;
            // Both as voxels removed: from the front, and from the back.
            let removed_front = match start.dim {
                Dim::Known(v) if v >= 0 => self.extents.value(size).map_or(v, |n| v.min(n)),
                Dim::Known(v) => {
                    let n = self
                        .extents
                        .value(size)
                        .ok_or("begins at a place that depends on the size")?;
                    v.saturating_add(n).max(0)
                }
                open => self
                    .extents
                    .difference(open, Dim::Known(0))
                    .ok_or("begins at a place that depends on the size")?,
            };
            let removed_back = match end.dim {
                Dim::Known(v) if v < 0 => v.checked_neg().ok_or("ends at an impossible place")?,
                Dim::Known(v) if v >= i64::from(i32::MAX) => 0,
                other => {
                    let left = self
                        .extents
                        .difference(size, other)
                        .ok_or("ends at a place that depends on the size")?;
                    left.max(0)
                }
            };
            if removed_front == 0 && removed_back == 0 {
                continue;
            }
            let count = self.net.shape(view.node).0;
            if view.axes.get(along) == Some(&layout::channels(count)) && count > 1 {
                let start = usize::try_from(removed_front).map_err(|_| "begins at an impossible place")?;
                let back = usize::try_from(removed_back).map_err(|_| "ends at an impossible place")?;
                let len = count
                    .checked_sub(start)
                    .and_then(|n| n.checked_sub(back))
                    .ok_or("takes no channels")?;
                view = self.channels(node, &view, start, len)?;
                continue;
            }
            let space = self
                .space_axis(&view, along)
                .ok_or("cuts another axis than channel, z, y or x")?;
            let number = |n: i64| {
                isize::try_from(n)
                    .ok()
                    .filter(|n| *n < 1 << 31)
                    .ok_or("cuts at an impossible place")
            };
            if let (Some(b), Some(a)) = (before.get_mut(space), after.get_mut(space)) {
                *b = -number(removed_front)?;
                *a = -number(removed_back)?;
            }
        }
        self.padded(node, &view, before, after)
    }
}

/// How a Resize or Upsample finds values between voxels.
fn interpolation(node: &NodeProto<'_>, factor: [usize; 3]) -> Result<Interpolation, String> {
    let mode = node.text("mode").unwrap_or("nearest");
    let default = if node.op == "Upsample" {
        "asymmetric"
    } else {
        "half_pixel"
    };
    let transform = node.text("coordinate_transformation_mode").unwrap_or(default);
    let rounding = node.text("nearest_mode").unwrap_or("round_prefer_floor");
    let rounding = if node.op == "Upsample" { "floor" } else { rounding };
    if node.int("antialias") == Some(1) {
        return Err("smooths before it makes smaller (antialias), which is not covered".to_owned());
    }
    match (mode, transform, rounding) {
        ("linear", "align_corners", _) => Ok(Interpolation::Trilinear { align_corners: true }),
        // The two differ only where one voxel is made of several, which whole factors never do.
        ("linear", "half_pixel" | "pytorch_half_pixel", _) => Ok(Interpolation::Trilinear { align_corners: false }),
        ("nearest", "asymmetric", "floor") => Ok(Interpolation::Nearest),
        // The same voxels for whole factors: o / f, or the middle of o, never rounds to the next one.
        ("nearest", "half_pixel" | "pytorch_half_pixel", "round_prefer_floor" | "round_prefer_ceil") => {
            Ok(Interpolation::Nearest)
        }
        ("nearest", "asymmetric", "round_prefer_floor") if factor.iter().all(|&f| f <= 2) => Ok(Interpolation::Nearest),
        _ => Err(format!(
            "resizes by mode '{mode}', '{transform}', '{rounding}', which is not covered"
        )),
    }
}
