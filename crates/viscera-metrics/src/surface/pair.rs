//! Two label maps on one grid, and where each class lies in them.

use super::bounds::{ClassBounds, union};
use crate::{MetricsError, SurfaceDistances};
use viscera_image::{Box3, LabelMap};

/// A reference and a prediction on the same grid, with the boxes of all classes.
pub(crate) struct Pair<'a> {
    pub(crate) reference: &'a LabelMap,
    pub(crate) prediction: &'a LabelMap,
    reference_bounds: ClassBounds,
    prediction_bounds: ClassBounds,
}

impl<'a> Pair<'a> {
    /// Finds the boxes. The grids must have been checked.
    pub(crate) fn of(reference: &'a LabelMap, prediction: &'a LabelMap) -> Self {
        Self {
            reference,
            prediction,
            reference_bounds: ClassBounds::of(reference),
            prediction_bounds: ClassBounds::of(prediction),
        }
    }

    /// The box of a class in the reference.
    pub(crate) fn in_reference(&self, class: u8) -> Option<Box3> {
        self.reference_bounds.of_class(class)
    }

    /// The smallest box that holds a class of both label maps.
    pub(crate) fn bounds(&self, class: u8) -> Option<Box3> {
        union(self.in_reference(class), self.prediction_bounds.of_class(class))
    }

    /// The distances between the surfaces of a class; `None` when it is empty in both.
    pub(crate) fn distances(&self, class: u8) -> Result<Option<SurfaceDistances>, MetricsError> {
        let spacing = self.reference.geometry().spacing;
        self.bounds(class)
            .map(|bounds| SurfaceDistances::within(self.reference, self.prediction, class, bounds, spacing))
            .transpose()
    }
}
