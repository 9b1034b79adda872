//! Real anatomies as training data: label maps of the whole body become many scans in nnU-Net's layout.

use crate::PipelineError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use viscera_image::phantom::{Anatomy, RenderConfig, RenderDescription, Tissue, reshape};
use viscera_image::{Convention, LabelMap, LabelTable, Volume, resample_linear, resample_nearest, shape_for_spacing};
use viscera_io::{
    Annotations, Classes, Dataset, DatasetJson, Image, ReadOptions, SourceHeader, Split, read_image, read_label_map,
    write_image, write_json, write_label_map,
};

/// What a file of anatomies says; `docs/phantoms.md` has the keys.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anatomies {
    /// Where the scans come from.
    #[serde(rename = "anatomy")]
    pub anatomies: Vec<AnatomySource>,
}

/// One patient's label map, and what to make of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnatomySource {
    /// Letters, digits, `-` and `_`: the beginning of its cases' names.
    pub name: String,
    /// Label map of the structures.
    pub labels: PathBuf,
    /// JSON object with each structure's name and id; without it the ids are those of FLARE's classes.
    pub structures: Option<PathBuf>,
    /// The scan on the same grid; without it everything is made up.
    pub image: Option<PathBuf>,
    /// Number of rendered scans.
    #[serde(default)]
    pub cases: usize,
    /// Number of copies of the scan as it is; needs `image`.
    #[serde(default)]
    pub copies: usize,
    /// Pairs of a structure's name and its tissue; `*` stands for any letters, and the first pair that fits counts.
    pub tissues: Vec<(String, Tissue)>,
    /// Class of a structure by its name. Structures named as classes need no mention.
    #[serde(default)]
    pub classes: BTreeMap<String, String>,
    /// Structures above which, without a scan, there is lung.
    #[serde(default)]
    pub under_lung: Vec<String>,
    /// How the scans vary.
    #[serde(default)]
    pub render: RenderConfig,
    /// Spacing in mm `[z, y, x]`, axes as in the files, that both are brought to first; that of the files where absent.
    pub spacing: Option<[f64; 3]>,
}

/// `about/CASE.json` of a rendered case.
#[derive(Serialize)]
struct About<'a> {
    anatomy: &'a str,
    #[serde(flatten)]
    description: RenderDescription,
}

impl Anatomies {
    /// Reads and checks a file; the paths in it are relative to its folder.
    ///
    /// # Errors
    /// [`PipelineError::File`], [`PipelineError::PhantomConfig`] for text that is not TOML, unknown keys and tissues,
    /// [`PipelineError::Anatomy`] for names that cannot begin a file's or come twice, classes that there are not, and
    /// numbers that cannot be.
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        let text = std::fs::read_to_string(path).map_err(|source| PipelineError::File {
            path: path.to_owned(),
            source,
        })?;
        let mut all: Self = toml::from_str(&text).map_err(|source| PipelineError::PhantomConfig {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut names = BTreeSet::new();
        for anatomy in &mut all.anatomies {
            anatomy.validate()?;
            if !names.insert(anatomy.name.to_ascii_lowercase()) {
                return Err(anatomy.fault("two anatomies have this name".to_owned()));
            }
            anatomy.labels = folder.join(&anatomy.labels);
            anatomy.structures = anatomy.structures.take().map(|p| folder.join(p));
            anatomy.image = anatomy.image.take().map(|p| folder.join(p));
        }
        Ok(all)
    }

    /// Writes the scans of all anatomies, their label maps and annotations into a data set in nnU-Net's layout, a new one
    /// or one of the same classes (such as phantoms), and says how many were made. What is there is not made again. `seen`
    /// hears each case's name.
    ///
    /// The same seed and file give the same files. `annotations.json` comes first, so a folder that is not finished is
    /// refused as a data set.
    ///
    /// # Errors
    /// [`PipelineError::OtherDataset`]; [`PipelineError::Anatomy`] when label map, structures and scan do not fit together;
    /// [`PipelineError::Io`].
    pub fn write(&self, root: &Path, seed: u64, mut seen: impl FnMut(&str)) -> Result<usize, PipelineError> {
        let table = LabelTable::flare14();
        let loaded: Vec<Loaded> = self
            .anatomies
            .iter()
            .map(|a| a.load(&table))
            .collect::<Result<_, _>>()?;
        let (mut annotations, mut count) = (Annotations::default(), 0);
        if let Some(there) = Dataset::open_unfinished(root)? {
            if there.labels().entries() != table.entries() {
                return Err(PipelineError::OtherDataset { path: root.to_owned() });
            }
            annotations = there.annotations().clone();
            count = there.description().num_training;
            // What a longer list asked for and never made would be a case without a scan.
            let wanted: BTreeSet<String> = loaded
                .iter()
                .flat_map(|l| l.source.cases())
                .map(|(case, _)| case)
                .collect();
            let Annotations { cases, centres, .. } = &mut annotations;
            centres.retain(|case, centre| {
                let ours = self.anatomies.iter().any(|a| a.name == *centre);
                let stays = !ours || wanted.contains(case) || there.image_path(Split::Train, case).is_file();
                if !stays && cases.remove(case).is_some() {
                    count = count.saturating_sub(1);
                }
                stays
            });
        }
        for loaded in &loaded {
            for (case, _) in loaded.source.cases() {
                count += usize::from(!annotations.cases.contains_key(&case));
                annotations.centres.insert(case.clone(), loaded.source.name.clone());
                annotations.cases.insert(case, Classes::Named(loaded.classes.clone()));
            }
        }
        let dataset = Dataset::create(root, DatasetJson::new(&table, count), annotations)?;
        let mut made = 0;
        for loaded in &loaded {
            for (number, (case, rendered)) in loaded.source.cases().enumerate() {
                seen(&case);
                let paths = [
                    dataset.image_path(Split::Train, &case),
                    dataset.labels_path(Split::Train, &case),
                ];
                if paths.iter().all(|path| path.is_file()) {
                    continue;
                }
                let seed = seed.wrapping_mul(1_000_000).wrapping_add(number as u64);
                let (image, structures) = if let (false, Some(scan)) = (rendered, &loaded.image) {
                    (scan.clone(), loaded.structures.clone())
                } else {
                    let (image, structures, description) = loaded.render(seed)?;
                    let anatomy = loaded.source.name.as_str();
                    let about = root.join("about").join(format!("{case}.json"));
                    write_json(&about, &About { anatomy, description })?;
                    (Image::from(image), structures)
                };
                write_image(&paths[0], &image)?;
                let labels = structures.map(|id| loaded.ids[usize::from(id)]);
                let header = SourceHeader::from_geometry(labels.geometry());
                write_label_map(&paths[1], &labels, &header, table.entries())?;
                made += 1;
            }
        }
        Ok(made)
    }

    /// Number of all cases.
    #[must_use]
    pub fn count(&self) -> usize {
        self.anatomies.iter().map(|a| a.cases + a.copies).sum()
    }
}

/// An anatomy in memory.
struct Loaded<'a> {
    source: &'a AnatomySource,
    structures: LabelMap,
    /// Tissue of each structure.
    tissues: Vec<Option<Tissue>>,
    image: Option<Image>,
    scan: Option<Volume<f32>>,
    /// Structures above which there is lung.
    under_lung: Vec<u8>,
    /// Id of the data set's class of each structure.
    ids: [u8; 256],
    /// The classes that the label map annotates.
    classes: Vec<String>,
}

impl Loaded<'_> {
    /// A scan of a seed, the structures that it shows, and how it came about.
    fn render(&self, seed: u64) -> Result<(Volume<i16>, LabelMap, RenderDescription), PipelineError> {
        let config = &self.source.render;
        let (structures, scan) = reshape(
            &self.structures,
            &self.tissues,
            self.scan.as_ref(),
            config.reshape,
            seed,
        )?;
        let anatomy = Anatomy::new(&structures, &self.tissues, scan.as_ref(), &self.under_lung)?;
        let (image, description) = anatomy.render(config, seed)?;
        Ok((image, structures, description))
    }
}

impl AnatomySource {
    fn fault(&self, reason: String) -> PipelineError {
        PipelineError::Anatomy {
            anatomy: self.name.clone(),
            reason,
        }
    }

    fn validate(&self) -> Result<(), PipelineError> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(good) {
            return Err(self.fault("a name has letters, digits, - and _ alone".to_owned()));
        }
        if self.copies > 0 && self.image.is_none() {
            return Err(self.fault("copies need an image".to_owned()));
        }
        if let Some(spacing) = self.spacing
            && !spacing.iter().all(|mm| (0.1..=50.0).contains(mm))
        {
            return Err(self.fault(format!("spacing {spacing:?} is not between 0.1 and 50 mm")));
        }
        let table = LabelTable::flare14();
        if let Some(class) = self.classes.values().find(|class| table.by_name(class).is_none()) {
            let known: Vec<&str> = table.entries().iter().map(|e| e.name.as_str()).collect();
            return Err(self.fault(format!("there is no class \"{class}\"; there are {}", known.join(", "))));
        }
        self.render.validate().map_err(|error| self.fault(error.to_string()))
    }

    /// Names of its cases, and whether each is rendered.
    fn cases(&self) -> impl Iterator<Item = (String, bool)> + '_ {
        let rendered = (0..self.cases).map(|n| (format!("{}_{n:04}", self.name), true));
        rendered.chain((0..self.copies).map(|n| (format!("{}_copy_{n:04}", self.name), false)))
    }

    /// Reads its files.
    fn load(&self, table: &LabelTable) -> Result<Loaded<'_>, PipelineError> {
        let structures = read_label_map(&self.labels)?;
        let names: BTreeMap<String, u8> = match &self.structures {
            Some(path) => {
                let text = std::fs::read(path).map_err(|source| PipelineError::File {
                    path: path.clone(),
                    source,
                })?;
                serde_json::from_slice(&text)
                    .map_err(|error| self.fault(format!("{} gives no ids by name: {error}", path.display())))?
            }
            None => table.entries().iter().map(|e| (e.name.clone(), e.id)).collect(),
        };
        if let Some(name) = self
            .classes
            .keys()
            .chain(&self.under_lung)
            .find(|n| !names.contains_key(*n))
        {
            return Err(self.fault(format!("there is no structure \"{name}\"")));
        }
        let mut found = [false; 256];
        structures.data().iter().for_each(|&id| found[usize::from(id)] = true);
        let (mut tissues, mut ids) = (vec![None; 256], [0u8; 256]);
        let mut classes = BTreeSet::new();
        for (name, &id) in &names {
            let at = usize::from(id);
            let pair = self.tissues.iter().find(|(pattern, _)| fits(pattern, name));
            tissues[at] = pair.map(|(_, tissue)| *tissue);
            let class = self.classes.get(name).unwrap_or(name);
            if let Some(entry) = table.by_name(class).filter(|_| found[at]) {
                ids[at] = entry.id;
                classes.insert(entry.id);
            }
        }
        tissues[0] = None;
        if classes.is_empty() {
            let reason = format!("{} shows none of the data set's classes", self.labels.display());
            return Err(self.fault(reason));
        }
        let image = self
            .image
            .as_deref()
            .map(|path| read_image(path, &ReadOptions::default()));
        let mut image = image.transpose()?.map(|read| read.image);
        let mut scan: Option<Volume<f32>> = image.clone().map(Image::into_f32);
        if let Some(scan) = &scan {
            let same = scan.geometry().require_same_grid(structures.geometry());
            same.map_err(|error| self.fault(error.to_string()))?;
        }
        let mut structures = structures;
        if let Some(spacing) = self.spacing {
            let shape = shape_for_spacing(structures.geometry(), spacing)?;
            structures = resample_nearest(&structures, shape, Convention::HalfPixel)?;
            if let Some(fine) = &scan {
                let coarse = resample_linear(fine, shape, Convention::HalfPixel)?;
                image = Some(Image::from(coarse.map(|v| v.round() as i16)));
                scan = Some(coarse);
            }
        }
        let under_lung = self
            .under_lung
            .iter()
            .filter_map(|name| names.get(name).copied())
            .collect();
        let named = table.entries().iter().filter(|e| classes.contains(&e.id));
        Ok(Loaded {
            source: self,
            structures,
            tissues,
            image,
            scan,
            under_lung,
            ids,
            classes: named.map(|e| e.name.clone()).collect(),
        })
    }
}

/// Whether a name fits a pattern, in which `*` stands for any letters.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name
            .strip_prefix(head)
            .is_some_and(|left| (0..=left.len()).any(|at| left.get(at..).is_some_and(|tail| fits(rest, tail)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, yes) in [
            ("rib_*", "rib_left_7", true),
            ("*_vein", "splenic_vein", true),
            ("*_vein", "veins", false),
            ("*hepatic*vein", "right_hepatic_vein", true),
            ("liver", "liver_", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, name), yes, "{pattern} {name}");
        }
    }
}
