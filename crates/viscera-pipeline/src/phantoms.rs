//! A folder of phantoms in nnU-Net's layout.

use crate::PipelineError;
use std::path::{Path, PathBuf};
use viscera_image::LabelTable;
use viscera_image::phantom::{PhantomConfig, PhantomDescription, generate};
use viscera_io::{
    Annotations, Dataset, DatasetJson, Image, SourceHeader, Split, write_image, write_json, write_label_map,
};

/// Seeds apart of two data sets with neighbouring seeds, so that they share no patient.
const SEED_STRIDE: u64 = 1_000_000;

/// Reads what phantoms vary from a TOML file with the keys of [`PhantomConfig`].
///
/// # Errors
/// [`PipelineError::File`] when it cannot be read; [`PipelineError::PhantomConfig`] for unknown keys or wrong values.
pub fn phantom_config(path: &Path) -> Result<PhantomConfig, PipelineError> {
    let text = std::fs::read_to_string(path).map_err(|source| PipelineError::File {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| PipelineError::PhantomConfig {
        path: path.to_owned(),
        source,
    })
}

/// A phantom data set in the making.
#[derive(Debug)]
pub struct PhantomSet {
    dataset: Dataset,
    root: PathBuf,
    config: PhantomConfig,
    seed: u64,
}

impl PhantomSet {
    /// Makes the folder with `dataset.json` (the 13 organs and the tumour) and `annotations.json` (all classes, always).
    ///
    /// # Errors
    /// [`PipelineError::OtherDataset`] when the folder holds a data set with other classes; [`PipelineError::Io`].
    pub fn create(root: &Path, cases: usize, seed: u64, config: PhantomConfig) -> Result<Self, PipelineError> {
        let table = LabelTable::flare14();
        if root.join("dataset.json").exists() && Dataset::open(root)?.labels().entries() != table.entries() {
            return Err(PipelineError::OtherDataset { path: root.to_owned() });
        }
        let dataset = Dataset::create(root, DatasetJson::new(&table, cases), Annotations::default())?;
        Ok(Self {
            dataset,
            root: root.to_owned(),
            config,
            seed,
        })
    }

    /// Name of a case: `phantom_SEED_NUMBER`.
    #[must_use]
    pub fn name(&self, number: usize) -> String {
        format!("phantom_{}_{number:04}", self.seed)
    }

    /// Path of a case's scan.
    #[must_use]
    pub fn image(&self, number: usize) -> PathBuf {
        self.dataset.image_path(Split::Train, &self.name(number))
    }

    /// Path of a case's label map.
    #[must_use]
    pub fn labels(&self, number: usize) -> PathBuf {
        self.dataset.labels_path(Split::Train, &self.name(number))
    }

    /// Makes a case unless all its files are there; says whether it did.
    ///
    /// Writes the scan, the label map, and `about/CASE.json` with what was drawn, in this order. The same seed, number
    /// and configuration give the same files.
    ///
    /// # Errors
    /// [`PipelineError::Image`] for an impossible configuration; [`PipelineError::Io`] when the system refuses.
    pub fn make(&self, number: usize) -> Result<bool, PipelineError> {
        let (image, labels) = (self.image(number), self.labels(number));
        let about = self.root.join("about").join(format!("{}.json", self.name(number)));
        if [&image, &labels, &about].iter().all(|path| path.is_file()) {
            return Ok(false);
        }
        let seed = self.seed.wrapping_mul(SEED_STRIDE).wrapping_add(number as u64);
        let phantom = generate(&self.config, seed)?;
        let header = SourceHeader::from_geometry(phantom.labels.geometry());
        write_image(&image, &Image::from(phantom.image))?;
        write_label_map(&labels, &phantom.labels, &header, self.dataset.labels().entries())?;
        let description: PhantomDescription = phantom.description;
        write_json(&about, &description)?;
        Ok(true)
    }
}
