//! Which part of the body a scan shows, on which grid, and how its axes lie in the end.

use super::PhantomConfig;
use super::draw::Draw;
use crate::{AxisMap, Geometry, ImageError, Orientation};
use serde::{Deserialize, Serialize};

/// The part of the body in view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldOfView {
    /// From above the liver's dome to below the kidneys; all 13 organs whole.
    Abdomen,
    /// The upper abdomen; kidneys may be cut.
    UpperAbdomen,
    /// Chest and abdomen.
    ChestAbdomen,
    /// Abdomen and pelvis.
    AbdomenPelvis,
    /// Neck to thighs.
    Trunk,
    /// A slab of 6 to 15 cm anywhere between heart and pelvis.
    Slab,
}

/// Heights above the dome (mm, body frame) of the top and the bottom of a view.
fn heights(view: FieldOfView, draw: &mut Draw) -> (f32, f32) {
    match view {
        FieldOfView::Abdomen => (draw.within(18.0, 50.0), draw.within(-235.0, -195.0)),
        FieldOfView::UpperAbdomen => (draw.within(5.0, 45.0), draw.within(-150.0, -95.0)),
        FieldOfView::ChestAbdomen => (draw.within(150.0, 260.0), draw.within(-240.0, -150.0)),
        FieldOfView::AbdomenPelvis => (draw.within(5.0, 50.0), draw.within(-400.0, -300.0)),
        FieldOfView::Trunk => (draw.within(180.0, 280.0), draw.within(-420.0, -320.0)),
        FieldOfView::Slab => {
            let bottom = draw.within(-260.0, -50.0);
            (bottom + draw.within(60.0, 150.0), bottom)
        }
    }
}

/// Where and how a scan is taken.
pub(super) struct View {
    /// The grid, RAS+.
    pub(super) geometry: Geometry,
    /// World point of the middle of the body at the height of the liver's dome.
    pub(super) origin: [f32; 3],
    pub(super) field_of_view: FieldOfView,
    /// How the finished volumes' axes lie.
    pub(super) orientation: Orientation,
}

/// Draws the grid.
pub(super) fn draw(config: &PhantomConfig, draw: &mut Draw) -> Result<View, ImageError> {
    let drawn = match draw.within(0.0, 1.0) {
        u if u < 0.40 => FieldOfView::Abdomen,
        u if u < 0.55 => FieldOfView::UpperAbdomen,
        u if u < 0.68 => FieldOfView::ChestAbdomen,
        u if u < 0.86 => FieldOfView::AbdomenPelvis,
        u if u < 0.93 => FieldOfView::Trunk,
        _ => FieldOfView::Slab,
    };
    let field_of_view = config.field_of_view.unwrap_or(drawn);
    let (top, bottom) = heights(field_of_view, draw);
    let plane = f64::from(draw.within(0.6, 1.0));
    let thick = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.0, 4.0, 5.0, 5.0][draw.count(0, 9)];
    let [narrowest, widest] = config.width_mm.unwrap_or([350.0, 480.0]);
    let wide = f64::from(draw.within(narrowest, widest));
    let spacing = config.spacing.unwrap_or([thick, plane, plane]);
    let deep = wide
        * if config.square {
            1.0
        } else {
            f64::from(draw.within(0.75, 0.95))
        };
    let extent = [f64::from(top - bottom), deep, wide];
    let shape = config.shape.unwrap_or_else(|| {
        std::array::from_fn(|a| ((extent[a] / spacing[a]).round().max(1.0) as usize).min(config.max_shape[a]))
    });

    let off = if config.random_position { 1.0 } else { 0.0 };
    let centre = [
        off * draw.normal(0.0, 7.0),
        -8.0 + off * draw.normal(0.0, 9.0),
        0.5 * (top + bottom),
    ];
    // The table may stand anywhere, as world origins do.
    let origin = [
        off * draw.normal(0.0, 20.0),
        off * draw.normal(0.0, 60.0),
        off * draw.within(-900.0, 400.0),
    ];
    let any = draw.count(0, 47);
    let drawn = match draw.within(0.0, 1.0) {
        u if u < 0.45 => "LPS".parse()?,
        u if u < 0.80 => Orientation::RAS,
        _ => Orientation::all().nth(any).unwrap_or(Orientation::RAS),
    };
    let orientation = match &config.orientation {
        Some(code) => code.parse()?,
        None => drawn,
    };

    let mut geometry = Geometry::ras(shape, spacing);
    for w in 0..3 {
        // World components run R, A, S; the grid's axes S, A, R.
        let half = 0.5 * (shape[2 - w] as f64 - 1.0) * spacing[2 - w];
        geometry.origin[w] = f64::from(centre[w] + origin[w]) - half;
    }
    geometry.validate()?;
    Ok(View {
        geometry,
        origin,
        field_of_view,
        orientation,
    })
}

impl View {
    /// The map from the painted RAS+ grid to the finished volumes.
    pub(super) fn axis_map(&self) -> AxisMap {
        AxisMap::between(Orientation::RAS, self.orientation)
    }
}
