//! Whether intensities are Hounsfield units at all.
//!
//! A network that learnt on HU gives confident nonsense on anything else, so what is plainly something else is refused:
//! photographs, magnetic resonance, values that were scaled to 0…1, and CT whose slope and intercept got lost.

use viscera_image::{ImageError, Intensity, histogram, percentiles};

/// Voxels that are looked at, at most.
const SAMPLE: usize = 1 << 22;
/// Least range between the 0.5th and 99.5th percentile in HU; between fat and muscle alone lie 150.
const LEAST_RANGE: f64 = 60.0;
/// Highest 99.5th percentile in HU. Bone ends near 2000, and metal fills less than a two-hundredth of any scan.
const HIGHEST: f64 = 4100.0;
/// Least share of voxels between −200 and −30 HU (fat, and soft tissue in part of a voxel), even in a scan cut tightly
/// around a lean patient. Scans have 3 % and more; one whose intercept got lost has none, whatever its padding is.
const LEAST_FAT: f64 = 0.002;
/// Least share of voxels between −30 and 300 HU (soft tissue, with or without contrast).
const LEAST_SOFT: f64 = 0.002;

/// Why intensities cannot be Hounsfield units; `None` when they can.
///
/// # Errors
/// [`ImageError::NoVoxels`] when no voxel is finite.
pub fn not_hounsfield<T: Intensity>(voxels: &[T]) -> Result<Option<String>, ImageError> {
    let step = voxels.len().div_ceil(SAMPLE).max(1) | 1; // odd, so that it walks through rows of even length
    let sample: Vec<T> = voxels.iter().step_by(step).copied().collect();
    let [low, high] = match percentiles(&sample, &[0.5, 99.5])?[..] {
        [low, high] => [low, high],
        _ => return Ok(None),
    };
    if high - low < LEAST_RANGE {
        return Ok(Some(format!(
            "99 % of them lie between {low:.4} and {high:.4}; scaled or windowed values cannot be used"
        )));
    }
    if high > HIGHEST {
        return Ok(Some(format!("0.5 % of them exceed {high:.0}, far above bone")));
    }
    let between = |low, high| -> Result<u64, ImageError> { Ok(histogram(&sample, low, high, 1)?.counts.iter().sum()) };
    let share = |n: u64| n as f64 / sample.len() as f64;
    if share(between(-200.0, -30.0)?) < LEAST_FAT {
        return Ok(Some(format!(
            "hardly any lies between −200 and −30, where a CT has fat; 99 % lie between {low:.0} and {high:.0}. If it is a \
             CT, its slope and intercept were lost (often −1024)"
        )));
    }
    if share(between(-30.0, 300.0)?) < LEAST_SOFT {
        return Ok(Some(
            "hardly any lies between −30 and 300, where a CT has soft tissue".to_owned(),
        ));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values spread evenly over some ranges.
    fn spread(ranges: &[(f32, f32, usize)]) -> Vec<f32> {
        ranges
            .iter()
            .flat_map(|&(low, high, n)| (0..n).map(move |i| low + (high - low) * i as f32 / n as f32))
            .collect()
    }

    #[test]
    fn ct_passes() {
        let abdomen = spread(&[
            (-1010.0, -990.0, 400),
            (-120.0, -80.0, 200),
            (20.0, 120.0, 300),
            (200.0, 1200.0, 50),
        ]);
        assert_eq!(not_hounsfield(&abdomen).unwrap(), None);
        // Cut tightly around a lean patient, with padding.
        let tight = spread(&[(-3024.0, -3024.0, 10), (-110.0, -70.0, 30), (20.0, 120.0, 900)]);
        assert_eq!(not_hounsfield(&tight).unwrap(), None);
    }

    #[test]
    fn others_do_not() {
        for (what, values, part) in [
            ("normalised", spread(&[(-1.0, 1.0, 1000)]), "lie between"),
            ("constant", vec![7.0; 1000], "lie between"),
            ("photograph", spread(&[(0.0, 255.0, 1000)]), "slope and intercept"),
            (
                "lost intercept",
                spread(&[(0.0, 30.0, 400), (900.0, 1100.0, 600)]),
                "slope and intercept",
            ),
            (
                "lost intercept beside padding",
                spread(&[(-976.0, -976.0, 300), (0.0, 30.0, 400), (900.0, 1100.0, 600)]),
                "slope and intercept",
            ),
            ("noise", spread(&[(-32768.0, 32767.0, 1000)]), "far above bone"),
            ("air only", spread(&[(-1000.0, -100.0, 1000)]), "soft tissue"),
        ] {
            let found = not_hounsfield(&values).unwrap();
            assert!(
                found.as_deref().is_some_and(|reason| reason.contains(part)),
                "{what}: {found:?}"
            );
        }
    }
}
