//! From a scan to what a network sees: orient, crop, resample, window, z-score.
//!
//! Intensities are windowed *after* resampling, and mean and standard deviation are those of the resampled, windowed
//! values, as EfficientSegNet's authors do it. Orientation comes first, so that every later number is the same whatever
//! way the voxels lie in the file.

use crate::PipelineError;
use crate::recipe::{FixedSize, Stage, WindowZScore, ZScore};
use std::borrow::Cow;
use viscera_image::{
    AxisMap, Box3, Geometry, ImageError, Intensity, Step, Trace, Volume, crop, moments, resample_linear, window,
    z_score,
};
use viscera_net::{NetError, Tensor};

/// Added to the standard deviation, so that a constant input becomes zero.
const EPSILON: f64 = 1e-5;

/// A scan whose axes are RAS+, and how they came to be.
#[derive(Debug, Clone)]
pub struct Oriented<'a, T: Copy> {
    volume: Cow<'a, Volume<T>>,
    trace: Trace,
}

impl<'a, T: Intensity> Oriented<'a, T> {
    /// Turns a scan to RAS+. A scan that lies so already is not copied.
    ///
    /// # Errors
    /// [`PipelineError::Image`] for a grid that cannot be.
    pub fn new(scan: &'a Volume<T>) -> Result<Self, PipelineError> {
        let mut trace = Trace::new(scan.geometry().clone());
        let map = AxisMap::to_ras(scan.geometry());
        trace.push(Step::Orient(map))?;
        let volume = if map == AxisMap::IDENTITY {
            Cow::Borrowed(scan)
        } else {
            Cow::Owned(map.apply(scan))
        };
        Ok(Self { volume, trace })
    }

    /// The scan in RAS+.
    #[must_use]
    pub fn volume(&self) -> &Volume<T> {
        &self.volume
    }

    /// Its grid, as it is recorded in every trace that begins here.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        self.trace.current()
    }
}

/// What a network sees, and where it lies in the scan.
#[derive(Debug, Clone)]
pub struct NetworkInput {
    /// One sample of one channel.
    pub tensor: Tensor,
    /// From the scan's grid to the tensor's.
    pub trace: Trace,
}

impl NetworkInput {
    /// Prepares a box of a scan for a stage.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when the box does not fit the scan, or memory is short; [`PipelineError::Unsupported`].
    pub fn new<T: Intensity>(scan: &Oriented<'_, T>, region: &Box3, stage: &Stage) -> Result<Self, PipelineError> {
        let mut trace = scan.trace.clone();
        let FixedSize { size, convention } = stage.fixed_size()?;
        let input = network_volume(scan.volume(), region, stage)?;
        trace.push(Step::Crop(*region))?;
        trace.push(Step::Resample {
            from: region.shape(),
            to: size,
            convention,
        })?;
        let [z, y, x] = input.shape();
        let tensor =
            Tensor::new([1, 1, z, y, x], input.into_parts().1).map_err(|source| network_error(stage, source))?;
        Ok(Self { tensor, trace })
    }
}

/// What a stage's network sees of a box of a scan in RAS+: cropped, resampled, windowed, z-scored.
///
/// # Errors
/// [`PipelineError::Image`] when the box does not fit the scan, or memory is short; [`PipelineError::Unsupported`] for a
/// stage without fixed size or window.
pub fn network_volume<T: Intensity>(
    scan: &Volume<T>,
    region: &Box3,
    stage: &Stage,
) -> Result<Volume<f32>, PipelineError> {
    let FixedSize { size, convention } = stage.fixed_size()?;
    let mut input = if *region == Box3::whole(scan.shape()) {
        resample_linear(scan, size, convention)?
    } else {
        resample_linear(&crop(scan, region)?, size, convention)?
    };
    normalise(&mut input, stage.window_zscore()?)?;
    Ok(input)
}

/// Windows and z-scores a resampled volume in place.
///
/// # Errors
/// [`ImageError::NoVoxels`] when no voxel is finite.
pub fn normalise(volume: &mut Volume<f32>, settings: WindowZScore) -> Result<(), ImageError> {
    let [low, high] = settings.window_hu;
    window(volume, low as f32, high as f32)?;
    let ZScore::Case = settings.zscore;
    let found = moments(volume.data()).ok_or(ImageError::NoVoxels { what: "z-score" })?;
    z_score(volume, found.mean, found.std, EPSILON)
}

pub(crate) fn network_error(stage: &Stage, source: NetError) -> PipelineError {
    PipelineError::Network {
        stage: stage.id.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use crate::recipe::Resample;
    use viscera_image::Convention;

    fn stage() -> Stage {
        let mut stage = Recipe::builtin("efficientsegnet-small").unwrap().stages.remove(0);
        stage.resample = Resample::Size(FixedSize {
            size: [1, 1, 5],
            convention: Convention::AlignCorners,
        });
        stage
    }

    #[test]
    fn resampling_comes_before_windowing_and_the_z_score_after() {
        // Between 1000 and −1000 the middle is 0 when resampled first; windowed first it would be 0 too, but the
        // quarters would be ±162.5 instead of ±325.
        let scan = Volume::new(Geometry::ras([1, 1, 2], [1.0; 3]), vec![1000i16, -1000]).unwrap();
        let input = network_volume(&scan, &Box3::whole([1, 1, 2]), &stage()).unwrap();
        let std = (4.0f32 * 325.0 * 325.0 / 5.0).sqrt();
        let want = [325.0, 325.0, 0.0, -325.0, -325.0].map(|v| v / std);
        for (found, want) in input.data().iter().zip(want) {
            assert!((found - want).abs() < 1e-5, "{found} {want}");
        }
    }

    #[test]
    fn a_constant_scan_becomes_zero() {
        let scan = Volume::filled(Geometry::ras([1, 2, 2], [1.0; 3]), 40i16).unwrap();
        let input = network_volume(&scan, &Box3::whole([1, 2, 2]), &stage()).unwrap();
        assert!(input.data().iter().all(|v| *v == 0.0));
    }

    #[test]
    fn the_trace_leads_from_the_file_to_the_tensor() {
        let mut geometry = Geometry::ras([4, 6, 8], [2.0, 1.0, 1.0]);
        geometry.direction[2] = [-1.0, 0.0, 0.0];
        let scan = Volume::new(geometry.clone(), (0..192).collect::<Vec<i16>>()).unwrap();
        let oriented = Oriented::new(&scan).unwrap();
        assert_eq!(oriented.volume().get([0, 0, 0]), Some(7));
        let region = Box3 {
            start: [1, 2, 3],
            end: [4, 6, 8],
        };
        let input = NetworkInput::new(&oriented, &region, &stage()).unwrap();
        assert_eq!(input.trace.source(), &geometry);
        assert_eq!(input.trace.current().shape, [1, 1, 5]);
        assert_eq!(input.tensor.spatial(), [1, 1, 5]);
    }
}
