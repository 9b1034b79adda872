//! Which part of a case a sample shows, and how it is turned: the way from the network's grid to the cached volume.

use super::{Lattice, drawn, drawn_factor, evenly, factor};
use crate::StageCase;
use crate::view::Span;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use viscera_image::{Convention, Geometry};
use viscera_pipeline::recipe::{Augment, Method, Resample, Stage};

/// Least extent of a sample in mm.
const LEAST_MM: f64 = 16.0;

/// From network voxels to cached voxels: `origin + steps · index + deformation`.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    /// Cached index `[z, y, x]` of network voxel `[0, 0, 0]`.
    pub(crate) origin: [f64; 3],
    /// `steps[a]` is the way in cached voxels of one step along network axis `a`.
    pub(crate) steps: [[f64; 3]; 3],
    /// Deformation in cached voxels.
    pub(crate) lattice: Option<Lattice>,
    /// What lies outside is as if it was never scanned.
    pub(crate) visible: Span,
    /// Millimetres between network voxels, `[z, y, x]`.
    pub(crate) spacing: [f64; 3],
}

/// Draws the box of a sample and its spatial changes. A stage with a fixed size sees, without augmentation, what inference
/// sees: the whole volume, or the labels' box and the stage's margin. Of that, a stage with a sliding window sees a patch at
/// its spacing, on the grid that inference has: anywhere, or around a voxel of a class if `foreground`; inside, where it
/// fits (nnU-Net lets it stand out at the upper ends).
///
/// A stage with a ROI sees the box around the labels of the classes that the case annotates. Where these are not all
/// classes, the box would be smaller than the one that a localiser finds; while training, its sides then move outwards
/// evenly between where they are and the border (drawn for every second sample).
pub(crate) fn place(
    case: &StageCase,
    stage: &Stage,
    partial: bool,
    foreground: bool,
    augment: &Augment,
    rng: &mut ChaCha8Rng,
) -> Placement {
    let geometry = case.case.geometry();
    let whole = case.whole;
    let mut visible = cut(whole, augment, rng);
    let mut span = visible;
    if let Some(roi) = &stage.roi {
        let labels = case.extent(visible).or_else(|| {
            visible = whole;
            case.extent(whole)
        });
        span = match labels {
            Some(labels) => grow(labels, visible, geometry, roi.margin_mm, partial, augment, rng),
            None => visible,
        };
    } else if case.extent(visible).is_none() {
        (visible, span) = (whole, whole);
    }
    let size = stage.network_size();
    let extent = |a: usize| span[a][1] - span[a][0];
    let mm = geometry.spacing;
    let steps: [f64; 3] = match &stage.resample {
        Resample::Spacing(grid) => {
            let steps: [f64; 3] = std::array::from_fn(|a| grid.spacing_mm[a] / mm[a]);
            // The network sees nothing beyond its ROI.
            visible = span;
            let around = foreground.then(|| case.spot(span, rng)).flatten();
            span = std::array::from_fn(|a| {
                // The grid that inference would have over the span: its first voxel and how many there are.
                let (first, count) = match grid.image.method {
                    Method::AlignCorners => (span[a][0], (extent(a) / steps[a]).round() as usize + 1),
                    Method::Spline | Method::Torch => {
                        let count = ((extent(a) + 1.0) / steps[a]).round() as usize;
                        (span[a][0] - 0.5 + 0.5 * steps[a], count)
                    }
                };
                let start = match (count.checked_sub(size[a]), around) {
                    // Smaller than a patch: in its middle.
                    (None, _) => -(((size[a] - count) / 2) as f64),
                    (Some(room), Some(place)) => {
                        let middle = ((place[a] - first) / steps[a]).round() - (size[a] / 2) as f64;
                        middle.clamp(0.0, room as f64)
                    }
                    (Some(room), None) => rng.random_range(0..=room) as f64,
                };
                let low = first + start * steps[a];
                [low, low + (size[a] - 1) as f64 * steps[a]]
            });
            steps
        }
        Resample::Size(fixed) => std::array::from_fn(|a| match fixed.convention {
            Convention::AlignCorners => extent(a) / (size[a].max(2) - 1) as f64,
            Convention::HalfPixel => (extent(a) + 1.0) / size[a] as f64,
        }),
    };
    turn(span, steps, visible, geometry, size, augment, rng)
}

/// The field of view that is left.
fn cut(whole: Span, augment: &Augment, rng: &mut ChaCha8Rng) -> Span {
    let mut visible = whole;
    let mut keep = |axis: usize, share: f64, rng: &mut ChaCha8Rng| {
        let [low, high] = whole[axis];
        let length = (high - low) * share.clamp(0.0, 1.0);
        let start = evenly([low, high - length], rng);
        visible[axis] = [start, start + length];
    };
    if let Some(share) = drawn(augment.cut_height, rng) {
        keep(0, share, rng);
    }
    if let Some(chance) = augment.cut_width
        && rng.random::<f64>() < chance.probability
    {
        for axis in [1, 2] {
            let share = evenly(chance.range, rng);
            keep(axis, share, rng);
        }
    }
    visible
}

/// The box around the labels, with its margin, inside what is visible.
fn grow(
    labels: Span,
    visible: Span,
    geometry: &Geometry,
    margin_mm: [f64; 3],
    partial: bool,
    augment: &Augment,
    rng: &mut ChaCha8Rng,
) -> Span {
    let random_margin = augment.roi_margin_mm.filter(|c| rng.random::<f64>() < c.probability);
    let growth = augment.roi_growth.filter(|c| rng.random::<f64>() < c.probability);
    let loose = partial && augment.roi_margin_mm.is_some() && rng.random::<bool>();
    std::array::from_fn(|axis| {
        let mut side = |place: f64, border: f64, out: f64| {
            let mm = random_margin.map_or(margin_mm[axis], |c| evenly(c.range, rng));
            let mut place = place + out * mm / geometry.spacing[axis];
            if let Some(growth) = growth {
                place += (border - place) * evenly(growth.range, rng).clamp(0.0, 1.0);
            }
            if loose {
                place += (border - place) * rng.random::<f64>();
            }
            place
        };
        let [least, most] = visible[axis];
        let (mut low, mut high) = (
            side(labels[axis][0], least, -1.0).clamp(least, most),
            side(labels[axis][1], most, 1.0).clamp(least, most),
        );
        // A margin drawn inwards must leave something.
        let short = LEAST_MM / geometry.spacing[axis] - (high - low);
        if short > 0.0 {
            low = (low - 0.5 * short).max(least);
            high = (high + 0.5 * short).min(most);
        }
        [low, high]
    })
}

/// Rotation, scale, stretch, shift, mirroring and deformation about the middle of the box; `step` in cached voxels between
/// two of the network's.
fn turn(
    span: Span,
    step: [f64; 3],
    visible: Span,
    geometry: &Geometry,
    size: [usize; 3],
    augment: &Augment,
    rng: &mut ChaCha8Rng,
) -> Placement {
    let mm = geometry.spacing;
    let step: [f64; 3] = std::array::from_fn(|a| step[a] * mm[a]);
    let extent: [f64; 3] = std::array::from_fn(|a| step[a] * (size[a].max(2) - 1) as f64);
    let mut zoom = [1.0; 3];
    let mut rotation = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let mut shift = [0.0; 3];
    if let Some(chance) = augment.rotate_deg
        && rng.random::<f64>() < chance.probability
    {
        for axis in 0..3 {
            rotation = product(rotation, about(axis, evenly(chance.range, rng).to_radians()));
        }
    }
    if let Some(scale) = drawn_factor(augment.scale, rng) {
        zoom = [scale; 3];
    }
    if let Some(chance) = augment.stretch
        && rng.random::<f64>() < chance.probability
    {
        zoom = zoom.map(|z| z * factor(chance.range, rng));
    }
    if let Some(chance) = augment.shift_mm
        && rng.random::<f64>() < chance.probability
    {
        shift = std::array::from_fn(|_| evenly(chance.range, rng));
    }
    if let Some(mirror) = &augment.mirror {
        for axis in &mirror.axes {
            if rng.random::<f64>() < mirror.probability {
                zoom[*axis as usize] *= -1.0;
            }
        }
    }
    let per_mm = mm.map(|mm| 1.0 / mm);
    let lattice = drawn(augment.elastic_mm, rng).map(|std| Lattice::random(size, extent, std, per_mm, rng));

    // Content that is to look twice as large is sampled in steps half as long, and moves against the shift.
    let steps: [[f64; 3]; 3] = std::array::from_fn(|a| {
        let step = step[a] / zoom[a];
        std::array::from_fn(|b| rotation[b][a] * step * per_mm[b])
    });
    let origin = std::array::from_fn(|b| {
        let centre = 0.5 * (span[b][0] + span[b][1]) - shift[b] * per_mm[b];
        centre - (0..3).map(|a| steps[a][b] * 0.5 * (size[a] - 1) as f64).sum::<f64>()
    });
    Placement {
        origin,
        steps,
        lattice,
        visible,
        spacing: step.map(|mm| mm.max(1e-3)),
    }
}

/// Rotation of (z, y, x) vectors about one axis.
fn about(axis: usize, angle: f64) -> [[f64; 3]; 3] {
    let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
    let mut matrix = [[0.0; 3]; 3];
    matrix[axis][axis] = 1.0;
    matrix[a][a] = angle.cos();
    matrix[b][b] = angle.cos();
    matrix[a][b] = -angle.sin();
    matrix[b][a] = angle.sin();
    matrix
}

fn product(a: [[f64; 3]; 3], b: [[f64; 3]; 3]) -> [[f64; 3]; 3] {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}
