//! A case as one stage sees it: its classes, the part that it looks at, its intensities.

use crate::{CachedCase, TrainError};
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::sync::Arc;
use viscera_image::{AnnotatedClasses, Box3, LabelTable, moments};
use viscera_pipeline::recipe::{ChannelRule, Normalise, Stage, StageClasses, Stream};
use viscera_pipeline::{Recipe, cropped};

/// Most voxels per class that patches are centred on (nnU-Net).
const MOST_SPOTS: usize = 10_000;

/// A range of (fractional) voxel indices, both ends inside, along `[z, y, x]`.
pub(crate) type Span = [[f64; 2]; 3];

/// What a stage makes of cases.
#[derive(Debug, Clone)]
pub struct StageView {
    pub(crate) stage: Stage,
    /// The classes that its network tells apart, with the ids that they have in its label map.
    pub(crate) classes: LabelTable,
    /// The label in this stage's map of each label of the recipe's.
    ids: [u8; 256],
    /// Whether lesions count as the organs around them.
    organs: bool,
    /// The classes, of the recipe, that the ROI is around.
    around: AnnotatedClasses,
    /// Classes of the recipe that must be annotated for each of its classes to be.
    parts: Vec<(u8, AnnotatedClasses)>,
}

/// A case as a stage sees it.
#[derive(Debug, Clone)]
pub struct StageCase {
    pub(crate) case: Arc<CachedCase>,
    pub(crate) ids: [u8; 256],
    pub(crate) organs: bool,
    /// Classes of the stage that it annotates.
    pub annotated: AnnotatedClasses,
    /// Where its labels come from.
    pub stream: Stream,
    /// What the stage's `crop` leaves.
    pub(crate) whole: Span,
    /// For each z the lowest and highest y and x of labels that the ROI is around: `[y, y, x, x]`.
    slices: Vec<Option<[usize; 4]>>,
    /// For each class that occurs some of its voxels, in rising order.
    pub(crate) spots: Vec<Vec<u32>>,
    /// Mean and standard deviation that its patches are normalised with.
    pub(crate) moments: [f64; 2],
}

impl StageView {
    /// How `stage` of a recipe sees cases.
    ///
    /// # Errors
    /// [`TrainError::Pipeline`] for classes that the table does not have.
    pub fn new(recipe: &Recipe, stage: &Stage, table: &LabelTable) -> Result<Self, TrainError> {
        let classes = stage.table(table)?;
        let all = AnnotatedClasses::all(table);
        let lesion = |id: u8| table.by_id(id).is_some_and(viscera_image::LabelEntry::is_lesion);
        let mut ids = [0; 256];
        let mut parts = Vec::new();
        for entry in classes.entries() {
            let of: AnnotatedClasses = match stage.classes {
                StageClasses::Union => all,
                _ => [entry.id].into_iter().collect(),
            };
            of.iter().for_each(|id| ids[usize::from(id)] = entry.id);
            // Lesions lie in organs: where all organs are annotated, their union is.
            let organs: AnnotatedClasses = of.iter().filter(|&id| !lesion(id)).collect();
            parts.push((entry.id, if organs.is_empty() { of } else { organs }));
        }
        let organs = !(1..=u8::MAX).any(|id| ids[usize::from(id)] > 0 && lesion(id));
        let from = stage.roi.as_ref().and_then(|roi| recipe.stage(&roi.from));
        let around = match from {
            Some(from) if from.classes != StageClasses::Union => AnnotatedClasses::all(&from.table(table)?),
            _ => all,
        };
        Ok(Self {
            stage: stage.clone(),
            classes,
            ids,
            organs,
            around,
            parts,
        })
    }

    /// The classes that its network tells apart.
    #[must_use]
    pub fn classes(&self) -> &LabelTable {
        &self.classes
    }

    /// A case as this stage sees it.
    ///
    /// # Errors
    /// [`TrainError::Image`] when memory is short.
    pub fn case(&self, case: &Arc<CachedCase>) -> Result<StageCase, TrainError> {
        // A class is annotated where all that it needs is; a person did where a person did all of it.
        let of_stage = |set: &dyn Fn(u8) -> bool| -> AnnotatedClasses {
            let has = |(_, of): &&(u8, AnnotatedClasses)| of.iter().all(set);
            self.parts.iter().filter(has).map(|(id, _)| *id).collect()
        };
        let annotated = of_stage(&|id| case.annotated.contains(id));
        let person = |id: u8| case.annotated.contains(id) && !case.pseudo.contains(id);
        let by_person = self.parts.iter().any(|(_, of)| of.iter().any(person));
        let person = of_stage(&person);
        let stream = if annotated.is_empty() {
            Stream::Unlabelled
        } else if person.len() == self.parts.len() {
            Stream::Labelled
        } else if by_person {
            Stream::Partial
        } else {
            Stream::Pseudo
        };
        let labels = case.labels(self.organs);
        let [_, ny, nx] = case.geometry().shape;
        let inside = |id: u8| id > 0 && self.around.contains(id) && case.annotated.contains(id);
        let slices = labels
            .par_chunks((ny * nx).max(1))
            .map(|slice| {
                let mut found: Option<[usize; 4]> = None;
                for (y, row) in slice.chunks_exact(nx.max(1)).enumerate() {
                    let Some(first) = row.iter().position(|&id| inside(id)) else {
                        continue;
                    };
                    let last = row.iter().rposition(|&id| inside(id)).unwrap_or(first);
                    let [y0, _, x0, x1] = found.unwrap_or([y, y, first, last]);
                    found = Some([y0, y, x0.min(first), x1.max(last)]);
                }
                found
            })
            .collect();
        let patches = self.stage.inference.window.is_some();
        let (mut whole, mut found) = (Box3::whole(case.geometry().shape), [0.0, 1.0]);
        let zscore = patches && !matches!(&self.stage.normalise, Normalise::Channels(c) if fixed(c).is_some());
        if self.stage.crop.is_some() || zscore {
            let image = case.image()?;
            whole = cropped(&image, &whole, self.stage.crop);
            if zscore {
                found = self.moments(&viscera_image::crop(&image, &whole)?.into_parts().1)?;
            }
        }
        if let Normalise::Channels(channels) = &self.stage.normalise
            && let Some((_, mean, std)) = fixed(channels)
        {
            found = [mean, std];
        }
        Ok(StageCase {
            case: Arc::clone(case),
            ids: self.ids,
            organs: self.organs,
            annotated,
            stream,
            whole: std::array::from_fn(|a| [whole.start[a] as f64, (whole.end[a] - 1) as f64]),
            slices,
            spots: if patches {
                self.spots(labels, annotated)
            } else {
                Vec::new()
            },
            moments: found,
        })
    }

    /// Of what is left after the window.
    fn moments(&self, hu: &[i16]) -> Result<[f64; 2], TrainError> {
        let windowed: Vec<f32> = match &self.stage.normalise {
            Normalise::Window(w) => {
                let [low, high] = w.window_hu.map(|v| v as f32);
                hu.iter().map(|&v| f32::from(v).clamp(low, high)).collect()
            }
            Normalise::Channels(_) => hu.iter().map(|&v| f32::from(v)).collect(),
        };
        let found = moments(&windowed).ok_or(viscera_image::ImageError::NoVoxels { what: "z-score" })?;
        Ok([found.mean, found.std])
    }

    /// Evenly spread voxels of each class.
    fn spots(&self, labels: &[u8], annotated: AnnotatedClasses) -> Vec<Vec<u32>> {
        let mut counts = [0usize; 256];
        labels
            .iter()
            .for_each(|&l| counts[usize::from(self.ids[usize::from(l)])] += 1);
        let every = counts.map(|n| n.div_ceil(MOST_SPOTS).max(1));
        let (mut seen, mut found) = ([0usize; 256], vec![Vec::new(); 256]);
        for (place, &label) in labels.iter().enumerate() {
            let id = usize::from(self.ids[usize::from(label)]);
            if id > 0 && annotated.contains(id as u8) {
                if seen[id].is_multiple_of(every[id])
                    && let Ok(place) = u32::try_from(place)
                {
                    found[id].push(place);
                }
                seen[id] += 1;
            }
        }
        found.retain(|places| !places.is_empty());
        found
    }
}

/// The constants of nnU-Net's CT normalisation.
pub(crate) fn fixed(channels: &[ChannelRule]) -> Option<([f64; 2], f64, f64)> {
    match channels {
        [ChannelRule::Fixed { window, mean, std }] => Some((*window, *mean, *std)),
        _ => None,
    }
}

impl StageCase {
    /// The extent, in voxel indices along `[z, y, x]`, of the labels that the ROI is around, inside a range; `None` when
    /// there are none.
    ///
    /// In y and x the extent of whole slices is cut to the range.
    pub(crate) fn extent(&self, range: Span) -> Option<Span> {
        let mut extent: Option<Span> = None;
        for (z, slice) in self.slices.iter().enumerate() {
            let z = z as f64;
            let Some([y0, y1, x0, x1]) = slice.filter(|_| z >= range[0][0] && z <= range[0][1]) else {
                continue;
            };
            let here = [[z, z], [y0 as f64, y1 as f64], [x0 as f64, x1 as f64]];
            let joined = extent.unwrap_or(here);
            extent = Some(std::array::from_fn(|a| {
                [joined[a][0].min(here[a][0]), joined[a][1].max(here[a][1])]
            }));
        }
        let cut = extent?;
        let cut: Span = std::array::from_fn(|a| [cut[a][0].max(range[a][0]), cut[a][1].min(range[a][1])]);
        cut.iter().all(|[low, high]| low <= high).then_some(cut)
    }

    /// Whether a label occurs that the stage or its ROI is about.
    #[must_use]
    pub fn has_foreground(&self) -> bool {
        self.slices.iter().any(Option::is_some)
    }

    /// A voxel of a class inside a range: drawn evenly over the classes that have one there, then over its voxels.
    pub(crate) fn spot(&self, range: Span, rng: &mut ChaCha8Rng) -> Option<[f64; 3]> {
        let [_, ny, nx] = self.case.geometry().shape;
        let place = |&at: &u32| {
            let at = at as usize;
            [at / (ny * nx), at / nx % ny, at % nx].map(|i| i as f64)
        };
        let inside = |at: &&u32| (0..3).all(|a| place(at)[a] >= range[a][0] && place(at)[a] <= range[a][1]);
        let of_range = |places: &Vec<u32>| places.iter().filter(inside).copied().collect::<Vec<u32>>();
        let found: Vec<Vec<u32>> = self.spots.iter().map(of_range).filter(|p| !p.is_empty()).collect();
        found.choose(rng)?.choose(rng).map(place)
    }

    /// Labels of the stage's classes, (z, y, x).
    pub(crate) fn stage_labels(&self) -> Vec<u8> {
        let labels = self.case.labels(self.organs);
        labels.iter().map(|&l| self.ids[usize::from(l)]).collect()
    }
}
