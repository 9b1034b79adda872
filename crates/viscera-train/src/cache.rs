//! Cases as they are held in memory while training: RAS+, at a working spacing, HU as i16.
//!
//! Reorientation is exact; resampling keeps the first and last voxel centres (align-corners), so that the extent over
//! which inference spreads its grid is the same here. An axis is never made finer than it was. Read cases are kept on
//! disk, one safetensors file each, and read back while the files they came from, and the settings, are unchanged.

use crate::TrainError;
use crate::data::same_grid;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use viscera_image::{AnnotatedClasses, AxisMap, Convention, Geometry, Intensity, LabelMap, LabelTable, Volume};
use viscera_image::{resample_linear, resample_nearest};
use viscera_io::{Image, ReadOptions, atomic_write, read_image, read_label_map};
use viscera_pipeline::recipe::Stream;

/// A case ready for sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedCase {
    /// Its name.
    pub name: String,
    /// HU in RAS+.
    pub image: Volume<i16>,
    /// Label ids on the same grid; ids that the recipe does not have are gone.
    pub labels: LabelMap,
    /// The classes that it annotates, of those that the recipe has.
    pub annotated: AnnotatedClasses,
    /// Where its labels come from.
    pub stream: Stream,
    /// For each z the lowest and highest y and x of annotated labels: `[y, y, x, x]`.
    slices: Vec<Option<[usize; 4]>>,
}

impl CachedCase {
    /// Prepares a case: reorients, resamples, and settles labels of classes that the recipe does not have: each such
    /// region (a tumour) becomes part of the organ that it touches, else background.
    ///
    /// # Errors
    /// [`TrainError::Case`] when the grids of image and labels differ, or a label has an id that `known` (the data
    /// set's table) lacks; [`TrainError::Image`].
    pub fn new<T: Intensity>(
        name: &str,
        image: &Volume<T>,
        labels: &LabelMap,
        annotated: AnnotatedClasses,
        known: &LabelTable,
        wanted: &LabelTable,
        spacing_mm: f64,
    ) -> Result<Self, TrainError> {
        let bad = |reason: String| TrainError::Case {
            case: name.to_owned(),
            reason,
        };
        same_grid(name, image.geometry(), labels)?;
        let mut found = [false; 256];
        labels.data().iter().for_each(|&l| found[usize::from(l)] = true);
        if let Some(id) = (1..=u8::MAX).find(|&id| found[usize::from(id)] && known.by_id(id).is_none()) {
            return Err(bad(format!("label id {id} is not in dataset.json")));
        }
        let map = AxisMap::to_ras(image.geometry());
        let (image, mut labels) = (map.apply(image), map.apply(labels));
        if (1..=u8::MAX).any(|id| found[usize::from(id)] && wanted.by_id(id).is_none()) {
            settle(&mut labels, wanted);
        }
        let shape = working_shape(image.geometry(), spacing_mm);
        let image = resample_linear(&image, shape, Convention::AlignCorners)?;
        let image = image.map(|v| v.round().clamp(-32768.0, 32767.0) as i16);
        let (_, labels) = resample_nearest(&labels, shape, Convention::AlignCorners)?.into_parts();
        let labels = Volume::new(image.geometry().clone(), labels)?;
        let annotated: AnnotatedClasses = annotated.iter().filter(|&id| wanted.by_id(id).is_some()).collect();
        let complete = annotated.len() == wanted.entries().len();
        Ok(Self::joined(name, image, labels, annotated, complete))
    }

    /// The same case with labels of which part were made by a network.
    #[must_use]
    pub fn with_pseudo_labels(mut self) -> Self {
        if self.stream != Stream::Unlabelled {
            self.stream = Stream::Pseudo;
        }
        self
    }

    /// `complete`: it annotates every class of the recipe.
    fn joined(name: &str, image: Volume<i16>, labels: LabelMap, annotated: AnnotatedClasses, complete: bool) -> Self {
        let [_, ny, nx] = labels.shape();
        let inside = |id: u8| id > 0 && annotated.contains(id);
        let slices = labels
            .data()
            .par_chunks(ny * nx)
            .map(|slice| {
                let mut found: Option<[usize; 4]> = None;
                for (y, row) in slice.chunks_exact(nx).enumerate() {
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
        Self {
            name: name.to_owned(),
            image,
            labels,
            annotated,
            stream: match complete {
                true => Stream::Labelled,
                false if annotated.is_empty() => Stream::Unlabelled,
                false => Stream::Partial,
            },
            slices,
        }
    }

    /// The extent, in voxel indices along `[z, y, x]`, of annotated labels inside a range; `None` when there are none.
    ///
    /// In y and x the extent of whole slices is cut to the range.
    pub(crate) fn extent(&self, range: [[f64; 2]; 3]) -> Option<[[f64; 2]; 3]> {
        let mut extent: Option<[[f64; 2]; 3]> = None;
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
        let cut: [[f64; 2]; 3] = std::array::from_fn(|a| [cut[a][0].max(range[a][0]), cut[a][1].min(range[a][1])]);
        cut.iter().all(|[low, high]| low <= high).then_some(cut)
    }

    /// Whether any annotated class occurs.
    #[must_use]
    pub fn has_foreground(&self) -> bool {
        self.slices.iter().any(Option::is_some)
    }

    fn to_bytes(&self, source: &Source) -> Result<Vec<u8>, String> {
        let hu: Vec<u8> = self.image.data().iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = self.image.shape().to_vec();
        let view = |dtype, data| TensorView::new(dtype, shape.clone(), data).map_err(|e| e.to_string());
        let tensors = [
            ("hu", view(Dtype::I16, &hu)?),
            ("labels", view(Dtype::U8, self.labels.data())?),
        ];
        let header = Header {
            source: source.clone(),
            geometry: self.image.geometry().clone(),
            annotated: self.annotated.iter().collect(),
        };
        let header = serde_json::to_string(&header).map_err(|e| e.to_string())?;
        let metadata = HashMap::from([("viscera.case".to_owned(), header)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| e.to_string())
    }

    /// `None` for bytes that are not a case of that source.
    fn from_bytes(name: &str, bytes: &[u8], source: &Source) -> Option<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        let header: Header = serde_json::from_str(metadata.metadata().as_ref()?.get("viscera.case")?).ok()?;
        if header.source != *source {
            return None;
        }
        let file = SafeTensors::deserialize(bytes).ok()?;
        let (hu, labels) = (file.tensor("hu").ok()?, file.tensor("labels").ok()?);
        let hu = hu.data().as_chunks().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
        let image = Volume::new(header.geometry.clone(), hu).ok()?;
        let labels = Volume::new(header.geometry, labels.data().to_vec()).ok()?;
        let complete = header.annotated.len() == source.classes.len();
        let annotated = header.annotated.into_iter().collect();
        Some(Self::joined(name, image, labels, annotated, complete))
    }
}

/// Voxels at a spacing of at least `mm`, over the same extent between centres.
fn working_shape(geometry: &Geometry, mm: f64) -> [usize; 3] {
    std::array::from_fn(|a| {
        let n = geometry.shape[a];
        let coarser = ((n - 1) as f64 * geometry.spacing[a] / mm).round() as usize + 1;
        coarser.min(n).max(n.min(2))
    })
}

/// Gives voxels of unwanted classes the label of the wanted one that reaches them first, growing from neighbour to
/// neighbour (6); those that none reaches become background.
fn settle(labels: &mut LabelMap, wanted: &LabelTable) {
    let shape = labels.shape();
    let strides = [shape[1] * shape[2], shape[2], 1];
    let foreign = |id: u8| id > 0 && wanted.by_id(id).is_none();
    let data = labels.data_mut();
    let mut open: Vec<usize> = (0..data.len()).filter(|&i| foreign(data[i])).collect();
    while !open.is_empty() {
        // All of one round look at the same state: the result does not depend on the order.
        let mut settled = Vec::new();
        open.retain(|&i| {
            let index = [i / strides[0], i / strides[1] % shape[1], i % shape[2]];
            let neighbours = (0..3).flat_map(|a| {
                let lower = (index[a] > 0).then(|| i - strides[a]);
                let upper = (index[a] + 1 < shape[a]).then(|| i + strides[a]);
                [lower, upper]
            });
            let organ = neighbours.flatten().map(|n| data[n]).find(|&id| id > 0 && !foreign(id));
            settled.extend(organ.map(|id| (i, id)));
            organ.is_none()
        });
        if settled.is_empty() {
            open.drain(..).for_each(|i| data[i] = 0);
        }
        settled.into_iter().for_each(|(i, id)| data[i] = id);
    }
}

/// What a cached case was made of: when it differs, the case is made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Source {
    version: u32,
    spacing_mm: f64,
    annotated: Vec<u8>,
    classes: Vec<u8>,
    /// Length in bytes and time of last change in nanoseconds, of image and labels.
    files: [(u64, u128); 2],
}

#[derive(Serialize, Deserialize)]
struct Header {
    source: Source,
    geometry: Geometry,
    annotated: Vec<u8>,
}

/// Reads a case through the cache folder.
///
/// # Errors
/// Those of [`CachedCase::new`] and of the readers.
pub(crate) fn load(
    case: &viscera_io::Case,
    known: &LabelTable,
    wanted: &LabelTable,
    spacing_mm: f64,
    folder: &Path,
) -> Result<CachedCase, TrainError> {
    let marked = |cached: CachedCase| {
        if case.pseudo {
            cached.with_pseudo_labels()
        } else {
            cached
        }
    };
    let source = Source {
        version: 1,
        spacing_mm,
        annotated: case.annotated.iter().collect(),
        classes: wanted.entries().iter().map(|e| e.id).collect(),
        files: [stamp(&case.image)?, case.labels.as_deref().map_or(Ok((0, 0)), stamp)?],
    };
    let path = folder.join(format!("{}@{spacing_mm}mm.safetensors", case.name));
    if let Ok(bytes) = std::fs::read(&path)
        && let Some(cached) = CachedCase::from_bytes(&case.name, &bytes, &source)
    {
        return Ok(marked(cached));
    }
    let image = read_image(&case.image, &ReadOptions::default())?.image;
    let labels = match &case.labels {
        Some(path) => read_label_map(path)?,
        None => Volume::filled(image.geometry().clone(), 0u8)?,
    };
    let (name, annotated) = (&case.name, case.annotated);
    let cached = match &image {
        Image::I16(image) => CachedCase::new(name, image, &labels, annotated, known, wanted, spacing_mm),
        Image::F32(image) => CachedCase::new(name, image, &labels, annotated, known, wanted, spacing_mm),
    }?;
    let bytes = cached.to_bytes(&source).map_err(|e| TrainError::content(&path, e))?;
    atomic_write(&path, |file| file.write_all(&bytes))?;
    Ok(marked(cached))
}

fn stamp(path: &Path) -> Result<(u64, u128), TrainError> {
    let metadata = std::fs::metadata(path).map_err(TrainError::file(path))?;
    let changed = metadata.modified().map_err(TrainError::file(path))?;
    let since = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), since.as_nanos()))
}
