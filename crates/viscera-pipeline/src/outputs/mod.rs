//! The files that a case gets: label map, masks, segmentation, statistics, surfaces, picture.

mod form;
mod names;
mod statistics;
mod surface;

pub use form::{LabelFormat, MeshFormat, Outputs};
pub use statistics::write_statistics;
pub use surface::surface;

use crate::preview::preview;
use crate::{PipelineError, Segmentation, StepTime};
use names::file_names;
use rayon::prelude::*;
use statistics::{statistics_csv, statistics_json};
use std::path::{Path, PathBuf};
use std::time::Instant;
use viscera_image::{Box3, LabelEntry, LabelTable, label_boxes};
use viscera_io::{
    Image, Mesh, ReadImage, atomic_write, remove_stale, write_glb, write_label_map, write_obj, write_png, write_stl,
};

/// Where the files of one case go.
pub(crate) struct CaseFiles<'a> {
    folder: &'a Path,
    case: &'a str,
    outputs: &'a Outputs,
}

impl<'a> CaseFiles<'a> {
    /// The files of a case in a folder.
    pub(crate) fn new(folder: &'a Path, case: &'a str, outputs: &'a Outputs) -> Self {
        Self { folder, case, outputs }
    }

    /// The manifest's name, from the folder.
    pub(crate) fn manifest(&self) -> String {
        format!("{}.json", self.case)
    }

    /// A file from its name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn label_map(&self) -> String {
        format!("{}.{}", self.case, self.outputs.labels.ending())
    }

    /// A file in the case's own folder.
    fn inner(&self, stem: &str, ending: &str) -> String {
        format!("{}/{stem}.{ending}", self.case)
    }

    /// Refuses to write over the scan: no file that the classes of `table` could make may be it.
    pub(crate) fn spare(&self, scan: &Path, table: &LabelTable) -> Result<(), PipelineError> {
        let mut names = vec![self.manifest(), self.label_map(), self.winner()];
        if self.outputs.split {
            let masks = file_names(table.entries());
            names.extend(masks.iter().map(|stem| self.inner(stem, self.outputs.labels.ending())));
        }
        let clash = names
            .iter()
            .map(|name| self.path(name))
            .find(|path| same_file(path, scan));
        clash.map_or(Ok(()), |path| Err(PipelineError::WouldOverwrite { path }))
    }

    /// Writes all files but the manifest. Gives their names and how long each step took; `title` heads the picture.
    pub(crate) fn write(
        &self,
        scan: &ReadImage,
        result: &Segmentation,
        title: &str,
    ) -> Result<(Vec<String>, Vec<StepTime>), PipelineError> {
        // What a killed run left in the case's own folder.
        remove_stale(&self.path(self.case))?;
        let mut written = Vec::new();
        let mut times = Vec::new();
        let mut last = Instant::now();
        let mut step = |step: &str| {
            times.push(StepTime {
                step: step.to_owned(),
                seconds: last.elapsed().as_secs_f64(),
            });
            last = Instant::now();
        };
        let classes = result.table.entries();
        written.push(self.label_map());
        write_label_map(&self.path(&self.label_map()), &result.labels, &scan.header, classes)?;
        if self.outputs.split {
            written.extend(self.masks(scan, result)?);
        }
        if self.outputs.statistics {
            written.extend(self.statistics(result)?);
        }
        written.extend(self.probabilities(scan, result)?);
        step("write");
        if !self.outputs.meshes.is_empty() {
            written.extend(self.meshes(result)?);
            step("mesh");
        }
        if self.outputs.preview {
            let name = format!("{}.png", self.case);
            let (organs, warnings) = (&result.report.organs, &result.report.warnings);
            let picture = match &scan.image {
                Image::I16(v) => preview(v, &result.labels, &result.table, organs, warnings, title),
                Image::F32(v) => preview(v, &result.labels, &result.table, organs, warnings, title),
            }?;
            write_png(&self.path(&name), picture.width, picture.height, &picture.rgb)?;
            written.push(name);
            step("preview");
        }
        Ok((written, times))
    }

    /// One mask per class, of classes that were not found an empty one, as TotalSegmentator does.
    fn masks(&self, scan: &ReadImage, result: &Segmentation) -> Result<Vec<String>, PipelineError> {
        let mut written = Vec::new();
        let classes = result.table.entries();
        for (class, stem) in classes.iter().zip(file_names(classes)) {
            let name = self.inner(&stem, self.outputs.labels.ending());
            let mask = result.labels.map(|v| u8::from(v == class.id));
            let one = LabelEntry { id: 1, ..class.clone() };
            write_label_map(&self.path(&name), &mask, &scan.header, &[one])?;
            written.push(name);
        }
        Ok(written)
    }

    /// The winner's probabilities in a folder of their own, named as the label map, which `viscera evaluate --confidence`
    /// takes; those of classes in the case's folder.
    fn probabilities(&self, scan: &ReadImage, result: &Segmentation) -> Result<Vec<String>, PipelineError> {
        let mut written = Vec::new();
        let classes = self.probability_names(&result.table);
        for map in &result.probabilities {
            let name = match &map.class {
                None => self.winner(),
                Some(class) => match classes.iter().find(|(name, _)| name == class) {
                    Some((_, file)) => file.clone(),
                    // A class that was not asked for.
                    None => continue,
                },
            };
            write_label_map(&self.path(&name), &map.values, &scan.header, &[])?;
            written.push(name);
        }
        Ok(written)
    }

    fn winner(&self) -> String {
        format!("probabilities/{}.nii.gz", self.case)
    }

    /// Class and file of each map of probabilities.
    fn probability_names(&self, table: &LabelTable) -> Vec<(String, String)> {
        let file = |stem: &String| self.inner(&format!("{stem}_probability"), "nii.gz");
        let files = file_names(table.entries());
        let names = table.entries().iter().map(|class| class.name.clone());
        names.zip(files.iter().map(file)).collect()
    }

    fn statistics(&self, result: &Segmentation) -> Result<Vec<String>, PipelineError> {
        let organs = &result.report.organs;
        let texts = [("json", statistics_json(organs)), ("csv", statistics_csv(organs))];
        let mut written = Vec::new();
        for (ending, text) in texts {
            let name = self.inner("statistics", ending);
            atomic_write(&self.path(&name), |file| file.write_all(text.as_bytes()))?;
            written.push(name);
        }
        Ok(written)
    }

    /// Surfaces of the classes that were found.
    fn meshes(&self, result: &Segmentation) -> Result<Vec<String>, PipelineError> {
        let boxes = label_boxes(&result.labels);
        let classes = result.table.entries();
        let found: Vec<(&LabelEntry, Box3, String)> = classes
            .iter()
            .zip(file_names(classes))
            .filter_map(|(class, stem)| Some((class, boxes.get(usize::from(class.id)).copied()??, stem)))
            .collect();
        let meshes: Vec<Mesh> = found
            .par_iter()
            .map(|(class, region, _)| surface(&result.labels, region, class))
            .collect();
        let mut written = Vec::new();
        for format in &self.outputs.meshes {
            match format {
                MeshFormat::Stl => {
                    for (mesh, (.., stem)) in meshes.iter().zip(&found) {
                        let name = self.inner(stem, "stl");
                        write_stl(&self.path(&name), mesh)?;
                        written.push(name);
                    }
                }
                MeshFormat::Obj => {
                    let name = format!("{}.obj", self.case);
                    write_obj(&self.path(&name), &meshes)?;
                    written.extend([name, format!("{}.mtl", self.case)]);
                }
                MeshFormat::Glb => {
                    let name = format!("{}.glb", self.case);
                    write_glb(&self.path(&name), &meshes)?;
                    written.push(name);
                }
            }
        }
        Ok(written)
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
