//! From a scan to what a network sees: orient, crop, resample, window, z-score.
//!
//! Orientation comes first, so that every later number is the same whatever way the voxels lie in the file (unless a
//! recipe asks for the file's own axes).

use crate::PipelineError;
use crate::crop::cropped;
use crate::grid::{Grid, part_geometry};
use crate::normalise::{VoxelRule, after_resampling};
use crate::recipe::{Orient, Stage};
use viscera_image::{AxisMap, Box3, Geometry, Intensity, Volume, Voxel};
use viscera_net::{NetError, Tensor};

impl Stage {
    /// How the axes of a file become those that this stage's network sees.
    ///
    /// # Errors
    /// [`PipelineError::Image`] for `axes` that are no order of 0, 1, 2.
    pub fn frame(&self, file: &Geometry) -> Result<AxisMap, PipelineError> {
        let turned = match self.orient {
            Orient::Ras => AxisMap::to_ras(file),
            Orient::File => AxisMap::IDENTITY,
        };
        Ok(turned.then(AxisMap::new(self.axes, [false; 3])?))
    }
}

/// The axes of a file, and how they become those that networks see.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    file: Geometry,
    map: AxisMap,
}

impl Frame {
    /// Brings a volume from the networks' axes back to the file's: its geometry is the file's, bit for bit.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when the volume has another number of voxels.
    pub fn back<T: Voxel>(&self, mut volume: Volume<T>) -> Result<Volume<T>, PipelineError> {
        let back = self.map.inverse();
        let turned = if back.apply_in_place(&mut volume) {
            volume
        } else {
            back.apply(&volume)
        };
        Ok(Volume::new(self.file.clone(), turned.into_parts().1)?)
    }
}

/// A scan whose axes are those that the networks see (RAS+, unless the recipe says otherwise), and how they came to be.
#[derive(Debug)]
pub struct Oriented<'a, T: Copy> {
    turned: Turned<'a, T>,
    frame: Frame,
}

#[derive(Debug)]
enum Turned<'a, T: Copy> {
    /// As it is in the file.
    Same(&'a Volume<T>),
    /// Beside the one of the file.
    Copied(&'a Volume<T>, Volume<T>),
    InPlace(&'a mut Volume<T>),
}

impl<'a, T: Intensity> Oriented<'a, T> {
    /// Turns a scan. One that lies so already is not copied.
    #[must_use]
    pub fn new(scan: &'a Volume<T>, map: AxisMap) -> Self {
        let turned = if map == AxisMap::IDENTITY {
            Turned::Same(scan)
        } else {
            Turned::Copied(scan, map.apply(scan))
        };
        let file = scan.geometry().clone();
        Self {
            turned,
            frame: Frame { file, map },
        }
    }

    /// Turns a scan where it lies, if no axes are exchanged. It stays turned unless [`Self::back`] is called.
    #[must_use]
    pub fn in_place(scan: &'a mut Volume<T>, map: AxisMap) -> Self {
        let file = scan.geometry().clone();
        if map == AxisMap::IDENTITY || !map.apply_in_place(scan) {
            return Self::new(scan, map);
        }
        Self {
            turned: Turned::InPlace(scan),
            frame: Frame { file, map },
        }
    }

    /// The turned scan.
    #[must_use]
    pub fn volume(&self) -> &Volume<T> {
        match &self.turned {
            Turned::Same(scan) => scan,
            Turned::Copied(_, turned) => turned,
            Turned::InPlace(scan) => scan,
        }
    }

    /// The scan as it is in the file.
    ///
    /// # Errors
    /// None that can be: those of [`Volume::set_geometry`].
    pub fn back(self) -> Result<&'a Volume<T>, PipelineError> {
        match self.turned {
            Turned::Same(scan) | Turned::Copied(scan, _) => Ok(scan),
            Turned::InPlace(scan) => {
                // The inverse of flips alone are flips alone. The geometry is the file's, bit for bit.
                if self.frame.map.inverse().apply_in_place(scan) {
                    scan.set_geometry(self.frame.file)?;
                }
                Ok(scan)
            }
        }
    }

    /// The way back.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }
}

/// What a network sees, and where it lies in the scan.
#[derive(Debug, Clone)]
pub struct NetworkInput {
    /// One sample of one channel.
    pub tensor: Tensor,
    /// The part of the scan that it shows.
    pub part: Box3,
    /// That part's geometry.
    pub(crate) geometry: Geometry,
    /// The tensor's grid over the part.
    pub(crate) grid: Grid,
}

impl NetworkInput {
    /// Prepares a region of a scan for a stage; the stage's crop may leave less of it.
    ///
    /// # Errors
    /// [`PipelineError::Image`] when the region does not fit the scan, or memory is short.
    pub fn new<T: Intensity>(scan: &Volume<T>, region: &Box3, stage: &Stage) -> Result<Self, PipelineError> {
        let part = cropped(scan, region, stage.crop);
        let geometry = part_geometry(scan.geometry(), &part)?;
        let grid = Grid::new(stage, &geometry)?;
        let rule = VoxelRule::new(stage, scan, &part)?;
        let mut input = grid.image(stage, scan, &part, |v| rule.apply(v))?;
        after_resampling(&mut input, stage)?;
        let [z, y, x] = input.shape();
        let tensor =
            Tensor::new([1, 1, z, y, x], input.into_parts().1).map_err(|source| network_error(stage, source))?;
        Ok(Self {
            tensor,
            part,
            geometry,
            grid,
        })
    }
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
    use crate::recipe::{FixedSize, Resample};
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
        let input = NetworkInput::new(&scan, &Box3::whole([1, 1, 2]), &stage()).unwrap();
        let std = (4.0f32 * 325.0 * 325.0 / 5.0).sqrt();
        let want = [325.0, 325.0, 0.0, -325.0, -325.0].map(|v| v / std);
        for (found, want) in input.tensor.data().iter().zip(want) {
            assert!((found - want).abs() < 1e-5, "{found} {want}");
        }
    }

    #[test]
    fn a_constant_scan_becomes_zero() {
        let scan = Volume::filled(Geometry::ras([1, 2, 2], [1.0; 3]), 40i16).unwrap();
        let input = NetworkInput::new(&scan, &Box3::whole([1, 2, 2]), &stage()).unwrap();
        assert!(input.tensor.data().iter().all(|v| *v == 0.0));
    }

    #[test]
    fn the_part_is_the_turned_scans() {
        let mut geometry = Geometry::ras([4, 6, 8], [2.0, 1.0, 1.0]);
        geometry.direction[2] = [-1.0, 0.0, 0.0];
        let scan = Volume::new(geometry.clone(), (0..192).collect::<Vec<i16>>()).unwrap();
        let oriented = Oriented::new(&scan, stage().frame(&geometry).unwrap());
        assert_eq!(oriented.volume().get([0, 0, 0]), Some(7));
        let region = Box3 {
            start: [1, 2, 3],
            end: [4, 6, 8],
        };
        let input = NetworkInput::new(oriented.volume(), &region, &stage()).unwrap();
        assert_eq!((input.part, input.geometry.shape), (region, [3, 4, 5]));
        assert_eq!(input.tensor.spatial(), [1, 1, 5]);
    }

    #[test]
    fn axes_are_put_in_the_stages_order() {
        let scan = Volume::new(Geometry::ras([2, 3, 4], [2.0, 1.0, 0.5]), (0..24).collect::<Vec<i16>>()).unwrap();
        let mut stage = stage();
        stage.axes = [2, 0, 1];
        let oriented = Oriented::new(&scan, stage.frame(scan.geometry()).unwrap());
        assert_eq!(oriented.volume().shape(), [4, 2, 3]);
        assert_eq!(oriented.volume().get([3, 1, 2]), scan.get([1, 2, 3]));
        assert_eq!(oriented.frame().back(oriented.volume().clone()).unwrap(), scan);
    }
}
