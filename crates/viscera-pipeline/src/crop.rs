//! What a stage does not look at: the box that its recipe's `crop` leaves of a scan.

use crate::recipe::Crop;
use viscera_image::{Box3, Intensity, Volume, bounding_box_in};

/// The box within `region` that a stage's crop rule leaves; `region` itself where the rule finds nothing, or there is none.
#[must_use]
pub fn cropped<T: Intensity>(scan: &Volume<T>, region: &Box3, rule: Option<Crop>) -> Box3 {
    let middle = |count: f64| {
        let [start, end] = [region.start[0], region.end[0]];
        let count = (count.round().max(1.0) as usize).min(end - start);
        let mut kept = *region;
        kept.start[0] = start + (end - start - count) / 2;
        kept.end[0] = kept.start[0] + count;
        Some(kept)
    };
    let found = match rule {
        None => None,
        Some(Crop::NonZero) => bounding_box_in(scan, region, |v| v.to_f32() != 0.0),
        Some(Crop::AboveHu(hu)) => bounding_box_in(scan, region, |v| f64::from(v.to_f32()) >= hu),
        Some(Crop::MiddleSlices(count)) => middle(count as f64),
        Some(Crop::MiddleMm(length)) => middle(length / scan.geometry().spacing[0]),
    };
    found.unwrap_or(*region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::Geometry;

    #[test]
    fn the_body_and_the_middle_are_found() {
        let grid = Geometry::ras([10, 4, 4], [2.0, 1.0, 1.0]);
        let mut scan = Volume::filled(grid, -1000i16).unwrap();
        for z in 2..9 {
            scan.data_mut()[z * 16 + 5] = 40;
        }
        let whole = Box3::whole(scan.shape());
        let of = |rule| cropped(&scan, &whole, Some(rule));
        let body = of(Crop::AboveHu(-325.0));
        assert_eq!((body.start, body.end), ([2, 1, 1], [9, 2, 2]));
        assert_eq!(of(Crop::AboveHu(500.0)), whole);
        assert_eq!(of(Crop::NonZero), whole);
        for (rule, slices) in [
            (Crop::MiddleSlices(4), 3..7),
            (Crop::MiddleMm(8.0), 3..7),
            (Crop::MiddleSlices(5), 2..7),
            (Crop::MiddleMm(0.1), 4..5),
            (Crop::MiddleSlices(99), 0..10),
        ] {
            let kept = of(rule);
            assert_eq!((kept.start[0]..kept.end[0], kept.end[1]), (slices, 4), "{rule:?}");
        }
    }
}
