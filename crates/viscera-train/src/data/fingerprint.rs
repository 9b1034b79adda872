//! What a data set is like: spacings, sizes, intensities of the foreground. In the form of nnU-Net's
//! `dataset_fingerprint.json`, so that either program reads the other's.

use super::Read;
use crate::{CachedCase, TrainError};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use viscera_image::bounding_box;
use viscera_io::{Case, write_json};

/// Steps per HU to which intensities that are no whole numbers are rounded.
const STEPS: f64 = 8.0;

/// A data set's fingerprint; triples are `[z, y, x]` in RAS+.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Millimetres between voxels, per case.
    pub spacings: Vec<[f64; 3]>,
    /// Voxels inside the box around all that is not exactly 0, per case.
    pub shapes_after_crop: Vec<[usize; 3]>,
    /// Intensities of labelled voxels; the one channel is `"0"`.
    #[serde(default)]
    pub foreground_intensity_properties_per_channel: BTreeMap<String, Intensities>,
    /// Median share of a scan's voxels inside that box.
    #[serde(default)]
    pub median_relative_size_after_cropping: f64,
}

/// Intensities of labelled voxels. Every case counts the same, however large its organs are: nnU-Net draws equally many
/// voxels from each, and these are the values that such draws tend to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Intensities {
    /// Greatest value.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// 50th percentile.
    pub median: f64,
    /// Least value.
    pub min: f64,
    /// 0.5th percentile.
    pub percentile_00_5: f64,
    /// 99.5th percentile.
    pub percentile_99_5: f64,
    /// Standard deviation.
    pub std: f64,
}

impl Fingerprint {
    /// Reads all cases with labels.
    ///
    /// # Errors
    /// The first fault by case name: [`TrainError::Io`], [`TrainError::Case`] for an image and labels on different grids
    /// or an image of zeros; [`TrainError::DataSet`] when no case has labels or no voxel has one.
    pub fn of(cases: &[Case]) -> Result<Self, TrainError> {
        let labelled: Vec<&Case> = cases.iter().filter(|case| case.labels.is_some()).collect();
        let found: Vec<Result<OfCase, TrainError>> =
            labelled.into_par_iter().with_max_len(1).map(OfCase::new).collect();
        let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut shares: Vec<f64> = found.iter().map(|case| case.share).collect();
        shares.sort_by(f64::total_cmp);
        let middle = |i: usize| shares.get(i).copied().unwrap_or(f64::NAN);
        let counts: Vec<&BTreeMap<i64, u64>> = found.iter().map(|c| &c.counts).filter(|c| !c.is_empty()).collect();
        let result = Self {
            spacings: found.iter().map(|case| case.spacing).collect(),
            shapes_after_crop: found.iter().map(|case| case.size).collect(),
            foreground_intensity_properties_per_channel: pooled(&counts)
                .map(|i| ("0".to_owned(), i))
                .into_iter()
                .collect(),
            median_relative_size_after_cropping: 0.5
                * (middle(shares.len().saturating_sub(1) / 2) + middle(shares.len() / 2)),
        };
        result.check()?;
        result.ct()?;
        Ok(result)
    }

    /// Reads a file, nnU-Net's or one that [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`TrainError::File`], [`TrainError::Content`] for what is none, and those of a fingerprint that cannot be.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read(path).map_err(TrainError::file(path))?;
        let found: Self = serde_json::from_slice(&text).map_err(|e| TrainError::content(path, e))?;
        found.check()?;
        Ok(found)
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        Ok(write_json(path, self)?)
    }

    /// Intensities of the CT channel.
    ///
    /// # Errors
    /// [`TrainError::DataSet`] when there are none.
    pub fn ct(&self) -> Result<&Intensities, TrainError> {
        let found = self.foreground_intensity_properties_per_channel.get("0");
        found.ok_or_else(|| TrainError::DataSet {
            reason: "no voxel of the data set has a label: there are no intensities to normalise by".to_owned(),
        })
    }

    /// Spacing and size of each case.
    pub(crate) fn cases(&self) -> impl Iterator<Item = ([f64; 3], [f64; 3])> + Clone {
        let sizes = self.shapes_after_crop.iter().map(|size| size.map(|n| n as f64));
        self.spacings.iter().copied().zip(sizes)
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let fail = |reason: String| Err(TrainError::DataSet { reason });
        if self.spacings.is_empty() {
            return fail("there is no case with labels".to_owned());
        }
        if self.spacings.len() != self.shapes_after_crop.len() {
            let counts = (self.spacings.len(), self.shapes_after_crop.len());
            return fail(format!(
                "the fingerprint has {} spacings and {} sizes",
                counts.0, counts.1
            ));
        }
        let possible = |(spacing, size): ([f64; 3], [f64; 3])| {
            spacing.iter().all(|s| (1e-3..=1e3).contains(s)) && size.iter().all(|n| (1.0..=1e5).contains(n))
        };
        match self.cases().find(|case| !possible(*case)) {
            Some((spacing, size)) => fail(format!("a scan of {size:?} voxels of {spacing:?} mm cannot be")),
            None => Ok(()),
        }
    }
}

impl Intensities {
    /// Those of prepared cases; `None` when no voxel is labelled.
    pub(crate) fn of_prepared(cases: &[Arc<CachedCase>]) -> Option<Self> {
        let of = |case: &Arc<CachedCase>| counts(case.hu().iter().map(|&v| f32::from(v)), case.labels(false));
        let all: Vec<BTreeMap<i64, u64>> = cases.par_iter().map(of).filter(|c| !c.is_empty()).collect();
        pooled(&all.iter().collect::<Vec<_>>())
    }
}

struct OfCase {
    spacing: [f64; 3],
    size: [usize; 3],
    share: f64,
    /// How many labelled voxels have each intensity, in steps.
    counts: BTreeMap<i64, u64>,
}

impl OfCase {
    fn new(case: &Case) -> Result<Self, TrainError> {
        let Read { image, labels } = Read::new(case)?;
        let labels = labels.ok_or_else(|| TrainError::Case {
            case: case.name.clone(),
            reason: "has no label map".to_owned(),
        })?;
        let crop = bounding_box(&image, |v: f32| v != 0.0).ok_or_else(|| TrainError::Case {
            case: case.name.clone(),
            reason: "its image is 0 everywhere".to_owned(),
        })?;
        let size = crop.shape();
        Ok(Self {
            spacing: image.geometry().spacing,
            size,
            share: size.iter().product::<usize>() as f64 / image.data().len() as f64,
            counts: counts(image.data().iter().copied(), labels.data()),
        })
    }
}

fn counts(values: impl Iterator<Item = f32>, labels: &[u8]) -> BTreeMap<i64, u64> {
    let mut steps: Vec<i64> = values
        .zip(labels)
        .filter(|(v, label)| **label > 0 && v.is_finite())
        .map(|(v, _)| (f64::from(v) * STEPS).round() as i64)
        .collect();
    steps.sort_unstable();
    let groups = steps.chunk_by(|a, b| a == b);
    groups
        .filter_map(|group| Some((*group.first()?, group.len() as u64)))
        .collect()
}

/// The distribution in which each case has the same weight; `None` without any.
fn pooled(cases: &[&BTreeMap<i64, u64>]) -> Option<Intensities> {
    let mut weights: BTreeMap<i64, f64> = BTreeMap::new();
    for counts in cases {
        let all: u64 = counts.values().sum();
        for (&step, &count) in *counts {
            *weights.entry(step).or_default() += count as f64 / all as f64 / cases.len() as f64;
        }
    }
    let value = |step: i64| step as f64 / STEPS;
    let percentile = |share: f64| {
        let mut sum = 0.0;
        let found = weights.iter().find(|(_, weight)| {
            sum += **weight;
            sum >= share
        });
        found.or(weights.last_key_value()).map(|(step, _)| value(*step))
    };
    let mean: f64 = weights.iter().map(|(step, weight)| value(*step) * weight).sum();
    let variance: f64 = weights
        .iter()
        .map(|(step, weight)| (value(*step) - mean).powi(2) * weight)
        .sum();
    Some(Intensities {
        max: value(*weights.last_key_value()?.0),
        mean,
        median: percentile(0.5)?,
        min: value(*weights.first_key_value()?.0),
        percentile_00_5: percentile(0.005)?,
        percentile_99_5: percentile(0.995)?,
        std: variance.sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small case counts as much as a large one.
    #[test]
    fn cases_count_alike() {
        let large: BTreeMap<i64, u64> = (0..1000).map(|hu| (hu * 8, 5)).collect();
        let small = BTreeMap::from([(8 * 2000, 3)]);
        let found = pooled(&[&large, &small]).unwrap();
        assert!((found.mean - (499.5 + 2000.0) / 2.0).abs() < 1e-9);
        assert_eq!((found.min, found.max, found.percentile_99_5), (0.0, 2000.0, 2000.0));
        assert!((8.0..=10.0).contains(&found.percentile_00_5), "{found:?}");
        assert!(pooled(&[]).is_none());
    }
}
