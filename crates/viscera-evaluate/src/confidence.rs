//! Maps of how sure a prediction is, for its calibration.

use crate::EvaluateError;
use crate::place::onto_grid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_image::{AnnotatedClasses, LabelMap, Volume};
use viscera_io::{Image, InputCase, ReadOptions, expand_inputs, read_image};
use viscera_metrics::{Calibration, CalibrationRegion, DEFAULT_BINS, Reliability};

/// Calibration over all cases with a map, over the voxels where the reference or the prediction has an annotated class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationBlock {
    /// Cases with a map.
    pub cases: usize,
    /// Over all predicted classes, background in place of missed organs included.
    pub overall: Reliability,
    /// Per predicted class id; 0 is background where an organ should be.
    pub classes: BTreeMap<u8, Reliability>,
}

impl CalibrationBlock {
    /// `None` without voxels.
    pub(crate) fn of(calibration: &Calibration, cases: usize) -> Option<Self> {
        let classes = calibration.classes.iter();
        Some(Self {
            cases,
            overall: calibration.overall().reliability(DEFAULT_BINS)?,
            classes: classes
                .filter_map(|(&id, counts)| Some((id, counts.reliability(DEFAULT_BINS)?)))
                .collect(),
        })
    }
}

/// The maps of a folder, or the one map of one case.
pub(crate) struct ConfidenceMaps {
    path: PathBuf,
    files: Vec<InputCase>,
    calibration: Calibration,
    cases: usize,
}

impl ConfidenceMaps {
    /// Lists the maps.
    ///
    /// # Errors
    /// [`EvaluateError::Io`].
    pub(crate) fn open(path: &Path) -> Result<Self, EvaluateError> {
        Ok(Self {
            path: path.to_owned(),
            files: expand_inputs(&[path.to_owned()])?,
            calibration: Calibration::default(),
            cases: 0,
        })
    }

    /// Counts the voxels of a case that has a map; a map that is named itself belongs to the only case. `place` brings
    /// a map on another grid to the reference's.
    ///
    /// # Errors
    /// [`EvaluateError::Io`], [`EvaluateError::Confidence`], [`EvaluateError::Measure`] when grids differ.
    pub(crate) fn count(
        &mut self,
        case: &str,
        truth: &LabelMap,
        found: &LabelMap,
        annotated: &AnnotatedClasses,
        place: bool,
    ) -> Result<(), EvaluateError> {
        let whole = self.path.is_file();
        let Some(file) = self.files.iter().find(|f| whole || f.name == case) else {
            return Ok(());
        };
        let mut map = read_confidence(&file.path)?;
        if place {
            map = onto_grid(&map, truth.geometry())?;
        }
        let region = CalibrationRegion::default();
        let counted =
            Calibration::measure(truth, found, &map, annotated, region).map_err(|source| EvaluateError::Measure {
                case: case.to_owned(),
                source,
            })?;
        self.calibration.merge(&counted);
        self.cases += 1;
        Ok(())
    }

    /// The result.
    ///
    /// # Errors
    /// [`EvaluateError::Confidence`] when no case has a map.
    pub(crate) fn finish(self) -> Result<Option<CalibrationBlock>, EvaluateError> {
        if self.cases == 0 {
            return Err(EvaluateError::Confidence {
                path: self.path,
                reason: "none of the maps has the name of a case",
            });
        }
        Ok(CalibrationBlock::of(&self.calibration, self.cases))
    }
}

/// Reads a map: whole numbers 0 to 255, which stand for 0 to 1, or fractions 0 to 1.
fn read_confidence(path: &Path) -> Result<Volume<u8>, EvaluateError> {
    let wrong = |reason| EvaluateError::Confidence {
        path: path.to_owned(),
        reason,
    };
    match read_image(path, &ReadOptions::default())?.image {
        Image::I16(map) if map.data().iter().all(|v| (0..=255).contains(v)) => Ok(map.map(|v| v as u8)),
        Image::I16(_) => Err(wrong("whole numbers must lie between 0 and 255")),
        Image::F32(map) if map.data().iter().all(|v| (0.0..=1.0).contains(v)) => {
            Ok(map.map(|v| (v * 255.0).round() as u8))
        }
        Image::F32(_) => Err(wrong("probabilities must lie between 0 and 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::Geometry;
    use viscera_io::write_image;

    #[test]
    fn maps_of_bytes_and_of_fractions_count_alike() {
        let dir = tempfile::tempdir().unwrap();
        let grid = Geometry::ras([1, 1, 4], [1.0; 3]);
        let labels = |l: [u8; 4]| Volume::new(grid.clone(), l.to_vec()).unwrap();
        let (truth, found) = (labels([1, 1, 0, 0]), labels([1, 0, 1, 0]));
        let annotated: AnnotatedClasses = [1].into_iter().collect();
        let bytes = Volume::new(grid.clone(), vec![255i16, 51, 102, 255]).unwrap();
        let fractions = Volume::new(grid.clone(), vec![1.0f32, 0.2, 0.4, 1.0]).unwrap();
        write_image(&dir.path().join("a.nii.gz"), &Image::I16(bytes)).unwrap();
        write_image(&dir.path().join("b.nii.gz"), &Image::F32(fractions)).unwrap();
        let block = |cases: &[&str]| {
            let mut maps = ConfidenceMaps::open(dir.path()).unwrap();
            for case in cases {
                maps.count(case, &truth, &found, &annotated, false).unwrap();
            }
            maps.finish()
        };
        let (a, b) = (block(&["a"]).unwrap().unwrap(), block(&["b"]).unwrap().unwrap());
        assert_eq!(a, b);
        // Three voxels count: right at 1, missed at 0.2, false at 0.4.
        assert_eq!((a.overall.voxels, a.cases), (3, 1));
        assert!((a.overall.accuracy - 1.0 / 3.0).abs() < 1e-12);
        assert!((a.overall.brier - (0.04 + 0.16) / 3.0).abs() < 1e-12);
        assert!((a.overall.ece - 0.2).abs() < 1e-12);
        assert_eq!(a.classes.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(block(&["a", "b", "none"]).unwrap().unwrap().overall.voxels, 6);
        assert!(matches!(block(&["none"]), Err(EvaluateError::Confidence { .. })));
    }

    #[test]
    fn other_numbers_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.nii.gz");
        for bad in [1.5f32, -0.1] {
            let map = Volume::new(Geometry::ras([1, 1, 2], [1.0; 3]), vec![0.5, bad]).unwrap();
            write_image(&path, &Image::F32(map)).unwrap();
            assert!(
                matches!(read_confidence(&path), Err(EvaluateError::Confidence { .. })),
                "{bad}"
            );
        }
    }
}
