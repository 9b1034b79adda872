//! The table of all measures: one row each, walked by the CSV columns, the JSON keys, the statistics and the report.

use crate::ClassScore;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A measure of one class in one case. Serialises as its [`Self::key`].
///
/// The order is that of the columns in tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Metric {
    /// Dice's coefficient.
    Dice,
    /// Jaccard index (intersection over union).
    Jaccard,
    /// Surface Dice at the class's tolerance, also called normalised surface distance.
    SurfaceDice,
    /// Hausdorff distance.
    Hausdorff,
    /// Robust Hausdorff distance: the 95th percentile, by area, of each direction; the larger of the two.
    Hausdorff95,
    /// Average symmetric surface distance.
    Assd,
    /// Average distance of the reference's surface from the prediction's.
    DistanceRefToPred,
    /// Average distance of the prediction's surface from the reference's.
    DistancePredToRef,
    /// Sensitivity (recall): the part of the reference that was found.
    Sensitivity,
    /// Precision: the part of the prediction that is right.
    Precision,
    /// Volume of the reference mask.
    VolumeRef,
    /// Volume of the predicted mask.
    VolumePred,
    /// Relative volume error `(prediction - reference) / reference`.
    VolumeError,
    /// Absolute value of [`Self::VolumeError`].
    AbsVolumeError,
    /// Dice's coefficient by a FLARE challenge's rules.
    FlareDsc,
    /// Surface Dice by a FLARE challenge's rules.
    FlareNsd,
    /// Voxels in both masks.
    TruePositives,
    /// Voxels in the prediction only.
    FalsePositives,
    /// Voxels in the reference only.
    FalseNegatives,
    /// Voxels in neither.
    TrueNegatives,
    /// Voxels in the prediction.
    PredictedVoxels,
    /// Voxels in the reference.
    ReferenceVoxels,
}

/// Which values of a measure are good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Better {
    /// Larger values.
    Higher,
    /// Smaller values.
    Lower,
    /// Values near zero, of either sign.
    NearZero,
}

struct Row {
    metric: Metric,
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Option<Better>,
}

const fn row(
    metric: Metric,
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Option<Better>,
) -> Row {
    Row {
        metric,
        key,
        title,
        unit,
        better,
    }
}

/// In the order of the enum, so that a metric's number is its row.
const TABLE: [Row; 22] = {
    use Better::{Higher, Lower, NearZero};
    use Metric::*;
    [
        row(Dice, "Dice", "Dice", "", Some(Higher)),
        row(Jaccard, "IoU", "Jaccard index", "", Some(Higher)),
        row(SurfaceDice, "NSD", "Surface Dice", "", Some(Higher)),
        row(Hausdorff, "HD", "Hausdorff distance", "mm", Some(Lower)),
        row(Hausdorff95, "HD95", "Hausdorff distance, 95 %", "mm", Some(Lower)),
        row(Assd, "ASSD", "Average symmetric surface distance", "mm", Some(Lower)),
        row(
            DistanceRefToPred,
            "ASD_ref_to_pred",
            "Average distance, reference to prediction",
            "mm",
            Some(Lower),
        ),
        row(
            DistancePredToRef,
            "ASD_pred_to_ref",
            "Average distance, prediction to reference",
            "mm",
            Some(Lower),
        ),
        row(Sensitivity, "sensitivity", "Sensitivity", "", Some(Higher)),
        row(Precision, "precision", "Precision", "", Some(Higher)),
        row(VolumeRef, "volume_ref_ml", "Reference volume", "ml", None),
        row(VolumePred, "volume_pred_ml", "Predicted volume", "ml", None),
        row(VolumeError, "RVE", "Relative volume error", "", Some(NearZero)),
        row(
            AbsVolumeError,
            "ARVE",
            "Absolute relative volume error",
            "",
            Some(Lower),
        ),
        row(FlareDsc, "FLARE_DSC", "Dice by FLARE's rules", "", Some(Higher)),
        row(FlareNsd, "FLARE_NSD", "Surface Dice by FLARE's rules", "", Some(Higher)),
        row(TruePositives, "TP", "True positives", "voxels", None),
        row(FalsePositives, "FP", "False positives", "voxels", None),
        row(FalseNegatives, "FN", "False negatives", "voxels", None),
        row(TrueNegatives, "TN", "True negatives", "voxels", None),
        row(PredictedVoxels, "n_pred", "Predicted voxels", "voxels", None),
        row(ReferenceVoxels, "n_ref", "Reference voxels", "voxels", None),
    ]
};

impl Metric {
    /// Every measure, in the order of columns.
    pub const ALL: &[Self] = &{
        let mut all = [Self::Dice; TABLE.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = TABLE[at].metric;
            at += 1;
        }
        all
    };

    fn row(self) -> &'static Row {
        const { &TABLE }.get(self as usize).unwrap_or(const { &TABLE[0] })
    }

    /// Name in files: nnU-Net's where it has one (`Dice`, `IoU`, `TP`, ...), the field's short name else.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.row().key
    }

    /// Name for people, without the unit.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().title
    }

    /// `mm`, `ml`, `voxels`, or nothing for a ratio.
    #[must_use]
    pub fn unit(self) -> &'static str {
        self.row().unit
    }

    /// Which values are good; `None` for a measure that says nothing about quality, such as a volume.
    #[must_use]
    pub fn better(self) -> Option<Better> {
        self.row().better
    }

    /// The measure with this [`Self::key`]; case matters.
    #[must_use]
    pub fn by_key(key: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.key == key).map(|row| row.metric)
    }

    /// The value in a score; `None` when it was not measured or is undefined there.
    #[must_use]
    pub fn of(self, score: &ClassScore) -> Option<f64> {
        let surface = score.surface.as_ref();
        let flare = score.flare.as_ref();
        let overlap = &score.overlap;
        match self {
            Self::Dice => score.dice,
            Self::Jaccard => score.jaccard,
            Self::SurfaceDice => surface.and_then(|s| s.nsd),
            Self::Hausdorff => surface.and_then(|s| s.hausdorff_mm),
            Self::Hausdorff95 => surface.and_then(|s| s.hausdorff95_mm),
            Self::Assd => surface.and_then(|s| s.assd_mm),
            Self::DistanceRefToPred => surface.and_then(|s| s.ref_to_pred_mm),
            Self::DistancePredToRef => surface.and_then(|s| s.pred_to_ref_mm),
            Self::Sensitivity => score.sensitivity,
            Self::Precision => score.precision,
            Self::VolumeRef => Some(score.volume_ref_ml),
            Self::VolumePred => Some(score.volume_pred_ml),
            Self::VolumeError => score.relative_volume_error,
            Self::AbsVolumeError => score.relative_volume_error.map(f64::abs),
            Self::FlareDsc => flare.map(|f| f.dsc),
            Self::FlareNsd => flare.map(|f| f.nsd),
            Self::TruePositives => Some(overlap.tp as f64),
            Self::FalsePositives => Some(overlap.fp as f64),
            Self::FalseNegatives => Some(overlap.fn_ as f64),
            Self::TrueNegatives => Some(overlap.tn as f64),
            Self::PredictedVoxels => Some(overlap.n_pred as f64),
            Self::ReferenceVoxels => Some(overlap.n_ref as f64),
        }
    }

    /// Whether the score was asked for this measure at all, be the value defined or not.
    #[must_use]
    pub fn measured(self, score: &ClassScore) -> bool {
        match self {
            Self::SurfaceDice
            | Self::Hausdorff
            | Self::Hausdorff95
            | Self::Assd
            | Self::DistanceRefToPred
            | Self::DistancePredToRef => score.surface.is_some(),
            Self::FlareDsc | Self::FlareNsd => score.flare.is_some(),
            _ => true,
        }
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = String::deserialize(deserializer)?;
        Self::by_key(&key).ok_or_else(|| de::Error::custom(format!("unknown measure \"{key}\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_enum_and_keys_differ() {
        for (at, &metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(metric as usize, at, "{metric:?}");
            assert_eq!(Metric::by_key(metric.key()), Some(metric));
        }
        assert_eq!(Metric::ReferenceVoxels as usize + 1, Metric::ALL.len());
        assert_eq!(Metric::by_key("dice"), None);
    }
}
