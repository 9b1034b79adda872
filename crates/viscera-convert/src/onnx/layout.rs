//! How an ONNX value lies over a node of the graph: which of batch, channel, z, y, x stand on which of its axes.
//!
//! Exporters reshape and transpose around layers that the graph has whole. Those steps only change the layout; no node
//! is made for them.

use super::extent::{Dim, Extents};
use std::collections::VecDeque;

/// Part of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Atom {
    /// All samples.
    Batch,
    /// `size` steps of `stride` channels.
    Channels {
        /// Channels per step.
        stride: usize,
        /// Steps.
        size: usize,
    },
    /// All voxels along one of z, y, x.
    Space(usize),
}

/// The atoms of each axis, slowest first. What is 1 long is left out.
pub(super) type Axes = Vec<Vec<Atom>>;

/// Channels and extents of a node.
pub(super) type Shape = (usize, [Dim; 3]);

/// All channels.
pub(super) fn channels(count: usize) -> Vec<Atom> {
    if count == 1 {
        return Vec::new();
    }
    vec![Atom::Channels { stride: 1, size: count }]
}

/// The layout (batch, channel, z, y, x).
pub(super) fn plain((count, extent): Shape) -> Axes {
    let space = extent.iter().enumerate().map(|(axis, &dim)| match dim {
        Dim::Known(1) => Vec::new(),
        _ => vec![Atom::Space(axis)],
    });
    [vec![Atom::Batch], channels(count)].into_iter().chain(space).collect()
}

/// The same axes for a node with another number of channels and other extents.
pub(super) fn with_shape(axes: &Axes, from: Shape, to: Shape) -> Option<Axes> {
    let (old, new) = (plain(from), plain(to));
    if old == *axes {
        return Some(new);
    }
    if from.1 != to.1 {
        return None;
    }
    // Channels must be whole to be exchanged; where they were 1 or become 1, their axis is not to be told.
    if from.0 == to.0 {
        return Some(axes.clone());
    }
    let whole = channels(from.0);
    let place = axes.iter().position(|axis| !whole.is_empty() && *axis == whole)?;
    let mut changed = axes.clone();
    *changed.get_mut(place)? = channels(to.0);
    (to.0 > 1).then_some(changed)
}

/// Size of an atom.
pub(super) fn atom_dim(atom: Atom, (_, extent): Shape, batch: Dim) -> Dim {
    match atom {
        Atom::Batch => batch,
        Atom::Channels { size, .. } => Dim::Known(i64::try_from(size).unwrap_or(i64::MAX)),
        Atom::Space(axis) => extent.get(axis).copied().unwrap_or(Dim::Known(1)),
    }
}

/// Size of each axis.
pub(super) fn dims(axes: &Axes, shape: Shape, batch: Dim, extents: &mut Extents) -> Result<Vec<Dim>, String> {
    axes.iter()
        .map(|axis| extents.product(axis.iter().map(|&atom| atom_dim(atom, shape, batch))))
        .collect()
}

/// The layout after a reshape to `target`, where `None` stands for what is left over (−1).
pub(super) fn reshape(
    axes: &Axes,
    target: &[Option<Dim>],
    shape: Shape,
    batch: Dim,
    extents: &mut Extents,
) -> Result<Axes, String> {
    let mut atoms: VecDeque<Atom> = axes.iter().flatten().copied().collect();
    let open = target.iter().position(Option::is_none).unwrap_or(target.len());
    let mut front = Vec::new();
    for &dim in target.iter().take(open).flatten() {
        front.push(take(&mut atoms, dim, shape, batch, extents, End::Front)?);
    }
    let mut back = Vec::new();
    for dim in target.iter().skip(open + 1).rev() {
        let dim = dim.ok_or("a reshape leaves two axes open")?;
        back.push(take(&mut atoms, dim, shape, batch, extents, End::Back)?);
    }
    if open < target.len() {
        front.push(atoms.drain(..).collect());
    }
    if !atoms.is_empty() {
        return Err("a reshape does not keep the number of values".to_owned());
    }
    Ok(front.into_iter().chain(back.into_iter().rev()).map(merge).collect())
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Front,
    Back,
}

/// Takes atoms that together are `dim` long from one end, splitting channels where that is needed.
fn take(
    atoms: &mut VecDeque<Atom>,
    dim: Dim,
    shape: Shape,
    batch: Dim,
    extents: &mut Extents,
    end: End,
) -> Result<Vec<Atom>, String> {
    let cannot = || "a reshape that regroups voxels or channels; windows and shuffles are not covered".to_owned();
    let mut taken = Vec::new();
    let mut size = Dim::Known(1);
    if extents.value(dim) == Some(1) {
        let next = if end == End::Front { atoms.front() } else { atoms.back() };
        let is_one = next.is_some_and(|&atom| extents.value(atom_dim(atom, shape, batch)) == Some(1));
        if !is_one {
            return Ok(taken);
        }
    }
    loop {
        let next = if end == End::Front {
            atoms.pop_front()
        } else {
            atoms.pop_back()
        };
        let mut atom = next.ok_or_else(cannot)?;
        if let (Atom::Channels { stride, size: all }, Some(whole), Some(so_far)) =
            (atom, extents.value(dim), extents.value(size))
            && so_far > 0
            && whole % so_far == 0
            && let Ok(part) = usize::try_from(whole / so_far)
            && (1..all).contains(&part)
            && all.is_multiple_of(part)
        {
            let rest = all / part;
            if end == End::Front {
                atom = Atom::Channels {
                    stride: stride.saturating_mul(rest),
                    size: part,
                };
                atoms.push_front(Atom::Channels { stride, size: rest });
            } else {
                atom = Atom::Channels { stride, size: part };
                atoms.push_back(Atom::Channels {
                    stride: stride.saturating_mul(part),
                    size: rest,
                });
            }
        }
        taken.push(atom);
        size = extents.product([size, atom_dim(atom, shape, batch)])?;
        if extents.same(size, dim) {
            if end == End::Back {
                taken.reverse();
            }
            return Ok(taken);
        }
    }
}

/// Joins neighbouring parts of the channels.
fn merge(axis: Vec<Atom>) -> Vec<Atom> {
    let mut merged: Vec<Atom> = Vec::new();
    for atom in axis {
        match (merged.last_mut(), atom) {
            (_, Atom::Channels { size: 1, .. }) => {}
            (Some(Atom::Channels { stride: s, size: n }), Atom::Channels { stride, size })
                if *s == stride.saturating_mul(size) =>
            {
                (*s, *n) = (stride, n.saturating_mul(size));
            }
            _ => merged.push(atom),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_split_and_join_again() {
        let mut extents = Extents::default();
        let [batch, z, y, x] = [0, 2, 3, 4].map(|axis| extents.input(axis, None));
        let shape = (8, [z, y, x]);
        let axes = plain(shape);
        let grouped = reshape(
            &axes,
            &[Some(batch), Some(Dim::Known(2)), None],
            shape,
            batch,
            &mut extents,
        )
        .unwrap();
        assert_eq!(grouped[1], [Atom::Channels { stride: 4, size: 2 }]);
        assert_eq!(grouped[2].len(), 4);
        let target: Vec<_> = dims(&axes, shape, batch, &mut extents)
            .unwrap()
            .into_iter()
            .map(Some)
            .collect();
        assert_eq!(reshape(&grouped, &target, shape, batch, &mut extents).unwrap(), axes);
        // Tokens: channels last, voxels on one axis.
        let last: Axes = [0, 2, 3, 4, 1].map(|a: usize| axes[a].clone()).to_vec();
        let tokens = reshape(
            &last,
            &[Some(batch), None, Some(Dim::Known(8))],
            shape,
            batch,
            &mut extents,
        )
        .unwrap();
        assert_eq!(tokens[1], [Atom::Space(0), Atom::Space(1), Atom::Space(2)]);
    }

    #[test]
    fn a_shuffle_of_channels_is_not_taken_for_the_same() {
        let mut extents = Extents::default();
        let [batch, z, y, x] = [0, 2, 3, 4].map(|axis| extents.input(axis, None));
        let shape = (8, [z, y, x]);
        let known = |n| Some(Dim::Known(n));
        let target = [Some(batch), known(2), known(4), Some(z), Some(y), Some(x)];
        let split = reshape(&plain(shape), &target, shape, batch, &mut extents).unwrap();
        let turned: Axes = [0, 2, 1, 3, 4, 5].map(|a: usize| split[a].clone()).to_vec();
        let back = [Some(batch), known(8), Some(z), Some(y), Some(x)];
        let joined = reshape(&turned, &back, shape, batch, &mut extents).unwrap();
        assert_ne!(joined, plain(shape));
    }
}
