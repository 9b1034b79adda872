//! Intensities of a scan as network input: what happens to each voxel before resampling, and to the whole after it.

use crate::PipelineError;
use crate::recipe::{ChannelRule, Normalise, Stage, WindowZScore, ZScore};
use viscera_image::{Box3, ImageError, Intensity, Volume, crop, moments, window, z_score};

/// Added to the standard deviation, so that a constant input becomes zero.
const EPSILON: f64 = 1e-5;
/// Least standard deviation that nnU-Net divides by.
const LEAST_STD: f64 = 1e-8;

/// What happens to one voxel before it is interpolated: clip, then (v − shift) / scale; zeros may stay as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct VoxelRule {
    low: f32,
    high: f32,
    shift: f32,
    scale: f32,
    keep_zero: bool,
}

impl VoxelRule {
    const NOTHING: Self = Self {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
        shift: 0.0,
        scale: 1.0,
        keep_zero: false,
    };

    /// The rule of a stage's first channel for a part of a scan.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when the rule needs statistics and no voxel is finite.
    pub(crate) fn new<T: Intensity>(stage: &Stage, scan: &Volume<T>, part: &Box3) -> Result<Self, PipelineError> {
        let rule = match &stage.normalise {
            Normalise::Window(w) if w.window_first => Self {
                low: w.window_hu[0] as f32,
                high: w.window_hu[1] as f32,
                ..Self::NOTHING
            },
            Normalise::Window(_) => Self::NOTHING,
            Normalise::Channels(channels) => match channels.first() {
                None | Some(ChannelRule::None) => Self::NOTHING,
                Some(ChannelRule::Fixed { window, mean, std }) => Self {
                    low: window[0] as f32,
                    high: window[1] as f32,
                    shift: *mean as f32,
                    scale: std.max(LEAST_STD) as f32,
                    keep_zero: false,
                },
                Some(ChannelRule::Byte) => Self {
                    scale: 255.0,
                    ..Self::NOTHING
                },
                Some(ChannelRule::UnitRange) => {
                    let part = crop(scan, part)?;
                    let range = part.data().iter().map(|v| v.to_f32()).filter(|v| v.is_finite());
                    let (low, high) = range.fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
                    if low > high {
                        return Err(ImageError::NoVoxels { what: "range" }.into());
                    }
                    Self {
                        shift: low,
                        scale: (high - low).max(LEAST_STD as f32),
                        ..Self::NOTHING
                    }
                }
                Some(ChannelRule::Zscore { nonzero }) => {
                    let part = crop(scan, part)?;
                    let found = if *nonzero {
                        let inside: Vec<T> = part.data().iter().copied().filter(|v| v.to_f32() != 0.0).collect();
                        moments(&inside)
                    } else {
                        moments(part.data())
                    };
                    let found = found.ok_or(ImageError::NoVoxels { what: "z-score" })?;
                    Self {
                        shift: found.mean as f32,
                        scale: found.std.max(LEAST_STD) as f32,
                        keep_zero: *nonzero,
                        ..Self::NOTHING
                    }
                }
            },
        };
        Ok(rule)
    }

    /// The changed voxel; NaN stays NaN.
    pub(crate) fn apply(&self, v: f32) -> f32 {
        if self.keep_zero && v == 0.0 {
            return v;
        }
        (v.clamp(self.low, self.high) - self.shift) / self.scale
    }
}

/// What happens to a resampled part: window and z-score, where the stage's rule has them after resampling.
///
/// # Errors
/// [`ImageError::NoVoxels`] when no voxel is finite.
pub(crate) fn after_resampling(volume: &mut Volume<f32>, stage: &Stage) -> Result<(), ImageError> {
    match &stage.normalise {
        Normalise::Window(settings) => normalise(volume, *settings),
        Normalise::Channels(_) => Ok(()),
    }
}

/// Windows (unless that came before resampling) and z-scores a resampled volume in place.
///
/// # Errors
/// [`ImageError::NoVoxels`] when no voxel is finite.
pub fn normalise(volume: &mut Volume<f32>, settings: WindowZScore) -> Result<(), ImageError> {
    if !settings.window_first {
        let [low, high] = settings.window_hu;
        window(volume, low as f32, high as f32)?;
    }
    let ZScore::Case = settings.zscore;
    let found = moments(volume.data()).ok_or(ImageError::NoVoxels { what: "z-score" })?;
    z_score(volume, found.mean, found.std, EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;
    use viscera_image::Geometry;

    fn changed(rule: ChannelRule, values: &[i16]) -> Vec<f32> {
        let mut stage = Recipe::builtin("efficientsegnet-small").unwrap().stages.remove(0);
        stage.normalise = Normalise::Channels(vec![rule]);
        let scan = Volume::new(Geometry::ras([1, 1, values.len()], [1.0; 3]), values.to_vec()).unwrap();
        let rule = VoxelRule::new(&stage, &scan, &Box3::whole(scan.shape())).unwrap();
        values.iter().map(|&v| rule.apply(f32::from(v))).collect()
    }

    #[test]
    fn every_rule_does_what_nnunet_does() {
        let fixed = ChannelRule::Fixed {
            window: [-100.0, 200.5],
            mean: 50.0,
            std: 50.0,
        };
        assert_eq!(changed(fixed, &[-1000, 0, 100, 3000]), [-3.0, -1.0, 1.0, 3.01]);
        assert_eq!(changed(ChannelRule::Byte, &[255, 51]), [1.0, 0.2]);
        assert_eq!(changed(ChannelRule::UnitRange, &[-50, 0, 150]), [0.0, 0.25, 1.0]);
        assert_eq!(changed(ChannelRule::None, &[7]), [7.0]);
        let all = ChannelRule::Zscore { nonzero: false };
        assert_eq!(changed(all.clone(), &[1, 3, 1, 3]), [-1.0, 1.0, -1.0, 1.0]);
        assert_eq!(changed(all, &[5, 5]), [0.0, 0.0]);
        let inside = ChannelRule::Zscore { nonzero: true };
        assert_eq!(changed(inside, &[0, 1, 3, 0]), [0.0, -1.0, 1.0, 0.0]);
    }
}
