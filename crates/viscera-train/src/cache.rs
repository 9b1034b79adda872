//! Cases as training reads them: RAS+, at a working spacing, HU as i16, label ids of the recipe.
//!
//! Reorientation is exact; resampling keeps the first and last voxel centres (align-corners). An axis is never made finer
//! than it was. Prepared cases are safetensors files, one each, which are mapped into memory: only what a sample touches is
//! read, so a data set may be larger than memory. They stay as long as the files that they came from, and the settings, do
//! not change.

use crate::TrainError;
use crate::data::same_grid;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use viscera_image::{AnnotatedClasses, AxisMap, Convention, Geometry, Intensity, LabelMap, LabelTable, Volume};
use viscera_image::{resample_linear, resample_nearest, settle};
use viscera_io::{Image, MappedFile, ReadOptions, atomic_write, read_image, read_label_map};

/// A case ready for sampling.
#[derive(Debug)]
pub struct CachedCase {
    /// Its name.
    pub name: String,
    /// The classes that are annotated, of those that the recipe has.
    pub annotated: AnnotatedClasses,
    /// Those of them that a network annotated.
    pub pseudo: AnnotatedClasses,
    geometry: Geometry,
    voxels: Voxels,
}

/// The voxels of a case, all on one grid: HU; label ids, without those that the recipe does not have; and, where there are
/// lesions, the labels in which each belongs to the organ around it.
#[derive(Debug)]
enum Voxels {
    Owned {
        hu: Vec<i16>,
        labels: Vec<u8>,
        organs: Option<Vec<u8>>,
    },
    Mapped {
        file: MappedFile,
        hu: Range<usize>,
        labels: Range<usize>,
        organs: Option<Range<usize>>,
    },
}

/// How cases are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CaseGrid {
    /// Least spacing in mm.
    pub spacing_mm: f64,
    /// Order of axes: axis `a` of the case is axis `axes[a]` of `[z, y, x]` in RAS+.
    pub axes: [usize; 3],
}

impl CachedCase {
    /// Prepares a case: reorients and resamples it. Voxels of classes that the recipe does not have become background, or
    /// part of the organ around them where they are lesions ([`viscera_image::LabelEntry::is_lesion`]).
    ///
    /// # Errors
    /// [`TrainError::Case`] when the grids of image and labels differ, or a label has an id that `known` (the data
    /// set's table) lacks; [`TrainError::Image`].
    pub fn new<T: Intensity>(
        name: &str,
        image: &Volume<T>,
        labels: &LabelMap,
        [annotated, pseudo]: [AnnotatedClasses; 2],
        [known, wanted]: [&LabelTable; 2],
        grid: CaseGrid,
    ) -> Result<Self, TrainError> {
        same_grid(name, image.geometry(), labels)?;
        let mut found = [false; 256];
        labels.data().iter().for_each(|&l| found[usize::from(l)] = true);
        if let Some(id) = (1..=u8::MAX).find(|&id| found[usize::from(id)] && known.by_id(id).is_none()) {
            return Err(TrainError::Case {
                case: name.to_owned(),
                reason: format!("label id {id} is not in dataset.json"),
            });
        }
        let map = AxisMap::to_ras(image.geometry()).then(AxisMap::new(grid.axes, [false; 3])?);
        let (image, mut labels) = (map.apply(image), map.apply(labels));
        let lesion = |id: u8| known.by_id(id).is_some_and(viscera_image::LabelEntry::is_lesion);
        let (has, lesions): (Vec<bool>, Vec<bool>) = (0..=u8::MAX)
            .map(|id| (wanted.by_id(id).is_some(), found[usize::from(id)] && lesion(id)))
            .unzip();
        for label in labels.data_mut() {
            let at = usize::from(*label);
            if !(has[at] || lesions[at]) {
                *label = 0;
            }
        }
        let mut organs = None;
        if lesions.contains(&true) {
            let mut settled = labels.clone();
            settle(&mut settled, |id| lesions[usize::from(id)]);
            for (label, &organ) in labels.data_mut().iter_mut().zip(settled.data()) {
                if !has[usize::from(*label)] {
                    *label = organ;
                }
            }
            organs = (labels != settled).then_some(settled);
        }
        let shape = working_shape(image.geometry(), grid.spacing_mm);
        let image = resample_linear(&image, shape, Convention::AlignCorners)?;
        let image = image.map(|v| v.round().clamp(-32768.0, 32767.0) as i16);
        let smaller = |labels: &LabelMap| -> Result<Vec<u8>, TrainError> {
            Ok(resample_nearest(labels, shape, Convention::AlignCorners)?
                .into_parts()
                .1)
        };
        let of_recipe = |set: AnnotatedClasses| set.iter().filter(|&id| wanted.by_id(id).is_some()).collect();
        let (labels, organs) = (smaller(&labels)?, organs.as_ref().map(smaller).transpose()?);
        let (geometry, hu) = image.into_parts();
        Ok(Self {
            name: name.to_owned(),
            annotated: of_recipe(annotated),
            pseudo: of_recipe(pseudo),
            geometry,
            voxels: Voxels::Owned { hu, labels, organs },
        })
    }

    /// Its grid.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// HU in (z, y, x) order.
    #[must_use]
    pub fn hu(&self) -> &[i16] {
        match &self.voxels {
            Voxels::Owned { hu, .. } => hu,
            // Reading made sure that it can be cast.
            Voxels::Mapped { file, hu, .. } => bytemuck::try_cast_slice(&file[hu.clone()]).unwrap_or_default(),
        }
    }

    /// Label ids in (z, y, x) order; with `organs`, lesions belong to the organs around them.
    #[must_use]
    pub fn labels(&self, organs: bool) -> &[u8] {
        match &self.voxels {
            Voxels::Owned {
                organs: Some(settled), ..
            } if organs => settled,
            Voxels::Owned { labels, .. } => labels,
            Voxels::Mapped {
                file,
                organs: Some(settled),
                ..
            } if organs => &file[settled.clone()],
            Voxels::Mapped { file, labels, .. } => &file[labels.clone()],
        }
    }

    /// The image, copied.
    ///
    /// # Errors
    /// [`TrainError::Image`] when memory is short.
    pub fn image(&self) -> Result<Volume<i16>, TrainError> {
        Ok(Volume::new(self.geometry.clone(), self.hu().to_vec())?)
    }

    fn to_bytes(&self, source: &Source) -> Result<Vec<u8>, String> {
        let hu: Vec<u8> = self.hu().iter().flat_map(|v| v.to_le_bytes()).collect();
        let shape = self.geometry.shape.to_vec();
        let view = |dtype, data| TensorView::new(dtype, shape.clone(), data).map_err(|e| e.to_string());
        let mut tensors = vec![
            ("hu", view(Dtype::I16, &hu)?),
            ("labels", view(Dtype::U8, self.labels(false))?),
        ];
        if let Voxels::Owned {
            organs: Some(organs), ..
        } = &self.voxels
        {
            tensors.push(("organs", view(Dtype::U8, organs)?));
        }
        let header = Header {
            source: source.clone(),
            geometry: self.geometry.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|e| e.to_string())?;
        let metadata = HashMap::from([("viscera.case".to_owned(), header)]);
        safetensors::serialize(tensors, Some(metadata)).map_err(|e| e.to_string())
    }

    /// `None` for a file that is not a case of that source.
    fn map(name: &str, path: &Path, source: &Source) -> Option<Self> {
        let file = MappedFile::open(path).ok()?;
        let (_, metadata) = SafeTensors::read_metadata(&file).ok()?;
        let header: Header = serde_json::from_str(metadata.metadata().as_ref()?.get("viscera.case")?).ok()?;
        if header.source != *source {
            return None;
        }
        let tensors = SafeTensors::deserialize(&file).ok()?;
        let count = header.geometry.len();
        let start = file.as_ref().as_ptr() as usize;
        let place = |name: &str, bytes: usize| {
            let data = tensors.tensor(name).ok()?.data();
            let from = (data.as_ptr() as usize).checked_sub(start)?;
            (data.len() == count * bytes).then_some(from..from + data.len())
        };
        let (hu, labels, organs) = (place("hu", 2)?, place("labels", 1)?, place("organs", 1));
        let voxels = if cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, i16>(&file[hu.clone()]).is_ok()
        {
            Voxels::Mapped {
                hu,
                labels,
                organs,
                file,
            }
        } else {
            let read = |b: &[u8; 2]| i16::from_le_bytes(*b);
            Voxels::Owned {
                hu: file[hu].as_chunks().0.iter().map(read).collect(),
                labels: file[labels].to_vec(),
                organs: organs.map(|at| file[at].to_vec()),
            }
        };
        Some(Self {
            name: name.to_owned(),
            annotated: source.annotated.iter().copied().collect(),
            pseudo: source.pseudo.iter().copied().collect(),
            geometry: header.geometry,
            voxels,
        })
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

/// What a cached case was made of: when it differs, the case is made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Source {
    version: u32,
    grid: CaseGrid,
    annotated: Vec<u8>,
    pseudo: Vec<u8>,
    classes: Vec<u8>,
    /// Length in bytes and time of last change in nanoseconds, of image and labels.
    files: [(u64, u128); 2],
}

#[derive(Serialize, Deserialize)]
struct Header {
    source: Source,
    geometry: Geometry,
}

/// Reads a case through the cache folder; with it what was odd in its files, when they are first read.
///
/// # Errors
/// Those of [`CachedCase::new`] and of the readers.
pub(crate) fn load(
    case: &viscera_io::Case,
    known: &LabelTable,
    wanted: &LabelTable,
    grid: CaseGrid,
    folder: &Path,
) -> Result<(CachedCase, Vec<String>), TrainError> {
    let ids = |set: &AnnotatedClasses| set.iter().filter(|&id| wanted.by_id(id).is_some()).collect();
    let source = Source {
        version: 2,
        grid,
        annotated: ids(&case.annotated),
        pseudo: ids(&case.pseudo),
        classes: wanted.entries().iter().map(|e| e.id).collect(),
        files: [stamp(&case.image)?, case.labels.as_deref().map_or(Ok((0, 0)), stamp)?],
    };
    let axes: String = grid.axes.iter().map(usize::to_string).collect();
    let path = folder.join(format!("{}@{}mm-{axes}.safetensors", case.name, grid.spacing_mm));
    if let Some(cached) = CachedCase::map(&case.name, &path, &source) {
        return Ok((cached, Vec::new()));
    }
    let scan = read_image(&case.image, &ReadOptions::default())?;
    let odd = scan
        .warnings
        .iter()
        .map(|w| format!("case {}: {w}", case.name))
        .collect();
    let image = scan.image;
    let labels = match &case.labels {
        Some(path) => read_label_map(path)?,
        None => Volume::filled(image.geometry().clone(), 0u8)?,
    };
    let (sets, tables) = ([case.annotated, case.pseudo], [known, wanted]);
    let cached = match &image {
        Image::I16(image) => CachedCase::new(&case.name, image, &labels, sets, tables, grid),
        Image::F32(image) => CachedCase::new(&case.name, image, &labels, sets, tables, grid),
    }?;
    let bytes = cached.to_bytes(&source).map_err(|e| TrainError::content(&path, e))?;
    atomic_write(&path, |file| file.write_all(&bytes))?;
    Ok((CachedCase::map(&case.name, &path, &source).unwrap_or(cached), odd))
}

fn stamp(path: &Path) -> Result<(u64, u128), TrainError> {
    let metadata = std::fs::metadata(path).map_err(TrainError::file(path))?;
    let changed = metadata.modified().map_err(TrainError::file(path))?;
    let since = changed.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok((metadata.len(), since.as_nanos()))
}
