//! Models as safetensors files.

use super::networks::{StageWeights, fold_prefix, read_graph};
use super::{Model, verify};
use crate::{PipelineError, Recipe};
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use viscera_image::LabelTable;
use viscera_io::MappedFile;
use viscera_net::{NetError, Storage, WeightFile};

/// The format this version writes and reads.
const FORMAT: &str = "1";
/// Largest model file that is read: ten times nnU-Net's largest.
const MAX_BYTES: u64 = 4 << 30;
/// Longest header. Graphs have some 100 bytes per node and parameter.
const MAX_HEADER: u64 = 16 << 20;

const KEY_FORMAT: &str = "viscera.format";
const KEY_RECIPE: &str = "viscera.recipe";
const KEY_LABELS: &str = "viscera.labels";
const KEY_GRAPH: &str = "viscera.graph.";
const KEY_CARD: &str = "viscera.card";
const KEY_TRAINING: &str = "viscera.training";

/// The model that is part of the program.
const EMBEDDED: &[u8] = include_bytes!("../../../../weights/default.safetensors");

/// The bytes that a model was read from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Embedded,
    File(Arc<MappedFile>),
    #[cfg(test)]
    Bytes(Arc<[u8]>),
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Embedded => EMBEDDED,
            Self::File(file) => file,
            #[cfg(test)]
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Source {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Model {
    /// The model that is part of the program; its name is `default`.
    ///
    /// # Errors
    /// As [`Self::load`], if the program was built with a damaged one.
    pub fn embedded() -> Result<Self, PipelineError> {
        Self::from_source(Source::Embedded, "default")
    }

    /// Reads a model file; its name is the file's without extension.
    ///
    /// The file is mapped into memory and its values are read when they are first needed: it may be replaced while the
    /// model lives, but must not be changed in place.
    ///
    /// # Errors
    /// [`PipelineError::File`]; [`PipelineError::Model`] for a file that is no model of this format,
    /// [`PipelineError::Recipe`] for its recipe, [`PipelineError::Weights`] when a network does not hold together, or
    /// tensors are missing or do not fit.
    pub fn load(path: &Path) -> Result<Self, PipelineError> {
        let unreadable = |source| PipelineError::File {
            path: path.to_owned(),
            source,
        };
        let name = path
            .file_stem()
            .map_or_else(|| "model".to_owned(), |s| s.to_string_lossy().into_owned());
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_BYTES {
            return Err(PipelineError::Model {
                model: name,
                reason: format!("a file of {size} bytes is no model"),
            });
        }
        let file = MappedFile::open(path).map_err(unreadable)?;
        Self::from_source(Source::File(Arc::new(file)), &name)
    }

    pub(super) fn from_source(source: Source, name: &str) -> Result<Self, PipelineError> {
        let wrong = |reason: String| PipelineError::Model {
            model: name.to_owned(),
            reason,
        };
        let broken = |source: NetError| PipelineError::Weights {
            model: name.to_owned(),
            source,
        };
        let header = source.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
        if header > MAX_HEADER && header <= source.len() as u64 {
            return Err(wrong(format!("a header of {header} bytes; no model needs that")));
        }
        let file = WeightFile::new(Arc::new(source.clone())).map_err(broken)?;
        let entry = |key: &str| file.entry(key);
        match entry(KEY_FORMAT) {
            Some(FORMAT) => {}
            Some(other) => {
                return Err(wrong(format!(
                    "has format {other}, this version reads {FORMAT}; update viscera or train again"
                )));
            }
            None => {
                return Err(wrong(format!(
                    "is a safetensors file without \"{KEY_FORMAT}\": no model of viscera"
                )));
            }
        }
        let need = |key: &str| entry(key).ok_or_else(|| wrong(format!("lacks \"{key}\"")));
        let labels: LabelTable =
            toml::from_str(need(KEY_LABELS)?).map_err(|e| wrong(format!("its label table: {}", e.message())))?;
        let recipe = Recipe::parse_for(need(KEY_RECIPE)?, &format!("of model {name}"), &labels)?;
        let training = match entry(KEY_TRAINING) {
            Some(text) => serde_json::from_str(text).map_err(|e| wrong(format!("\"{KEY_TRAINING}\": {e}")))?,
            None => serde_json::Value::Null,
        };
        let mut weights = BTreeMap::new();
        for stage in &recipe.stages {
            let text = entry(&format!("{KEY_GRAPH}{}", stage.id));
            let stored =
                text.map(|text| read_graph(text).map_err(|e| wrong(format!("the graph of \"{}\": {e}", stage.id))));
            let stored = stored.transpose()?;
            let graph = super::networks::graph(name, stage, &labels, stored.as_ref())?;
            let mut folds = Vec::new();
            for prefix in fold_prefix(stage) {
                folds.push(file.weights(&graph, &prefix).map_err(broken)?);
            }
            weights.insert(stage.id.clone(), StageWeights { graph: stored, folds });
        }
        let card = entry(KEY_CARD).unwrap_or_default();
        let mut model = Self::new(name, recipe, labels, weights, card, training)?;
        model.source = Some(source);
        Ok(model)
    }

    /// The bytes of the model's file; the same model gives the same bytes.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when a part has no text form.
    pub fn to_bytes(&self, storage: Storage) -> Result<Vec<u8>, PipelineError> {
        let wrong = |reason: String| PipelineError::Model {
            model: self.name.clone(),
            reason,
        };
        let labels = toml::to_string(&self.labels).map_err(|e| wrong(e.to_string()))?;
        let mut metadata = HashMap::from(
            [
                (KEY_FORMAT, FORMAT.to_owned()),
                (KEY_RECIPE, self.recipe.canonical()?),
                (KEY_LABELS, labels),
                (KEY_CARD, self.card.clone()),
                (KEY_TRAINING, self.training.to_string()),
                (verify::KEY, verify::BLANK.to_owned()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        let mut tensors = Vec::new();
        for network in self.networks() {
            let stage = network.stage;
            if matches!(stage.network, crate::recipe::NetworkSpec::Graph {}) {
                let text = serde_json::to_string(network.graph).map_err(|e| wrong(e.to_string()))?;
                metadata.insert(format!("{KEY_GRAPH}{}", stage.id), text);
            }
            for (prefix, weights) in fold_prefix(stage).zip(network.folds) {
                tensors.extend(weights.to_tensors(network.graph, &prefix, storage));
            }
        }
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| wrong(e.to_string()))?;
        let bytes = in_fixed_order(bytes).and_then(verify::seal);
        bytes.ok_or_else(|| wrong("its header cannot be written".to_owned()))
    }

    /// Writes the model's file, whole or not at all.
    ///
    /// # Errors
    /// As [`Self::to_bytes`]; [`PipelineError::Io`] when the system refuses.
    pub fn save(&self, path: &Path, storage: Storage) -> Result<(), PipelineError> {
        let bytes = self.to_bytes(storage)?;
        viscera_io::atomic_write(path, |file| file.write_all(&bytes))?;
        Ok(())
    }
}

/// Rewrites a safetensors header with its metadata sorted by key: the library writes them in the random order of a hash
/// map, and the hash of a model should depend on the model alone.
fn in_fixed_order(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
    let end = length.checked_add(8)?;
    let mut header: serde_json::Value = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    header.get_mut("__metadata__")?.as_object_mut()?.sort_keys();
    let mut text = serde_json::to_vec(&header).ok()?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.append(&mut text);
    out.extend_from_slice(&bytes.split_off(end));
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_net::Weights;

    fn read(bytes: &[u8], name: &str) -> Result<Model, PipelineError> {
        Model::from_source(Source::Bytes(bytes.into()), name)
    }

    fn values(model: &Model) -> Vec<Vec<f32>> {
        model
            .networks()
            .flat_map(|n| n.folds)
            .flat_map(|w| w.values.iter().map(|v| v.to_vec()))
            .collect()
    }

    fn small() -> Model {
        let text = Recipe::builtin_text("efficientsegnet-small")
            .unwrap()
            .replace("base_features = 8", "base_features = 4");
        let recipe = Recipe::parse(&text, "small").unwrap();
        let labels = recipe.label_table().unwrap();
        let weights = recipe
            .stages
            .iter()
            .map(|stage| {
                let graph = stage.network.graph(1, labels.entries().len()).unwrap();
                (stage.id.clone(), Weights::init(&graph, 7))
            })
            .collect();
        Model::new(
            "small",
            recipe,
            labels,
            weights,
            "# Card",
            serde_json::json!({ "epochs": 3 }),
        )
        .unwrap()
    }

    #[test]
    fn a_model_comes_back_and_its_bytes_are_fixed() {
        let model = small();
        let bytes = model.to_bytes(Storage::F32).unwrap();
        // A hash map's order differs from one map to the next.
        for _ in 0..8 {
            assert!(model.to_bytes(Storage::F32).unwrap() == bytes);
        }
        let back = read(&bytes, "small").unwrap();
        assert_eq!((back.recipe(), back.labels()), (model.recipe(), model.labels()));
        assert_eq!(
            (back.card(), back.training()),
            ("# Card", &serde_json::json!({ "epochs": 3 }))
        );
        assert_eq!(values(&back), values(&model));
        assert_eq!(back.hash().map(str::len), Some(64));
        // As bf16 every weight is within 2⁻⁸ of itself.
        let half = read(&model.to_bytes(Storage::Bf16).unwrap(), "small").unwrap();
        for (a, b) in values(&model).iter().flatten().zip(values(&half).iter().flatten()) {
            assert!((a - b).abs() <= a.abs() / 256.0);
        }
    }

    #[test]
    fn hostile_files_are_refused() {
        let good = small().to_bytes(Storage::Bf16).unwrap();
        let error = |bytes: &[u8]| {
            let error = read(bytes, "m").unwrap_err();
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("{error} {cause}")
        };
        assert!(error(b"").contains("weights cannot be"));
        assert!(error(b"not safetensors at all").contains("weights cannot be"));
        assert!(error(&[0xff; 64]).contains("weights cannot be"));
        for cut in [9, good.len() / 2, good.len() - 1] {
            assert!(error(&good[..cut]).contains("weights cannot be"), "{cut}");
        }
        let plain = safetensors::serialize(Vec::<(String, viscera_net::StoredTensor)>::new(), None).unwrap();
        assert!(error(&plain).contains("no model of viscera"));

        // Replacements of equal length keep the header's length right.
        let swap = |from: &str, to: &str| {
            assert_eq!(from.len(), to.len());
            let at = good.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
            let mut bytes = good.clone();
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            error(&bytes)
        };
        assert!(swap("\"viscera.format\":\"1\"", "\"viscera.format\":\"7\"").contains("has format 7"));
        assert!(swap("viscera.recipe", "viscera.recipf").contains("lacks \"viscera.recipe\""));
        assert!(swap("\"coarse/head.weight\"", "\"coarse/hexd.weight\"").contains("coarse/head.weight"));
        assert!(swap("base_features = 4", "base_features = 9").contains("shape"));
        assert!(swap("size = [48, 48, 48]", "size = [48,48,48 0]").contains("recipe of model m"));
    }

    #[test]
    fn the_default_model_is_as_it_was() {
        let model = Model::embedded().unwrap();
        assert!(model.hash().unwrap().starts_with("41433610611aa347"));
        assert!(model.recipe().hash().unwrap().starts_with("19c2c034c77ad6bf"));
        let verified = model.verify().unwrap();
        assert!(verified.sealed && verified.values > 1_000_000);
    }

    #[test]
    fn graphs_and_folds_are_part_of_the_file() {
        let mut g = viscera_net::builders::GraphBuilder::new("one");
        let x = g.input(2);
        let y = g.conv("c", x, 3, [3; 3], [1; 3], true, 0.0);
        let graph = g.finish(vec![y]);
        let bare = Model::bare("bare", graph.clone(), Weights::init(&graph, 3), [8; 3]).unwrap();
        let bytes = bare.to_bytes(Storage::F32).unwrap();
        let back = read(&bytes, "bare").unwrap();
        assert_eq!(back.network(None).unwrap().graph, &graph);
        assert_eq!(values(&back), values(&bare));
        assert!(back.verify().unwrap().sealed);
        let error = back.recipe().check_supported().unwrap_err().to_string();
        assert!(error.contains("role = \"bare\""), "{error}");

        // The mean of an ensemble's logits, and its names in the file.
        let mut recipe = bare.recipe().clone();
        recipe.stages[0].inference.folds = vec!["0".to_owned(), "all".to_owned()];
        let folds = vec![Weights::init(&graph, 1), Weights::init(&graph, 2)];
        let parts = BTreeMap::from([(
            "network".to_owned(),
            StageWeights {
                graph: Some(graph.clone()),
                folds,
            },
        )]);
        let both = Model::new(
            "both",
            recipe,
            bare.labels().clone(),
            parts,
            "",
            serde_json::Value::Null,
        )
        .unwrap();
        let bytes = both.to_bytes(Storage::F32).unwrap();
        let file = WeightFile::new(Arc::new(bytes.clone())).unwrap();
        assert!(file.names().iter().any(|name| name == "network/fold_all/c.weight"));
        let both = read(&bytes, "both").unwrap();
        let input = viscera_net::Tensor::new([1, 2, 4, 4, 4], (0..128).map(|i| i as f32 / 64.0).collect()).unwrap();
        let mean = both.network(None).unwrap().run(&input).unwrap();
        let alone = |seed| {
            let model = Model::bare("m", graph.clone(), Weights::init(&graph, seed), [8; 3]).unwrap();
            model.network(None).unwrap().run(&input).unwrap()[0].data().to_vec()
        };
        let wanted = alone(1).into_iter().zip(alone(2)).map(|(a, b)| (a + b) / 2.0);
        for (found, wanted) in mean[0].data().iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }

    #[test]
    fn what_is_not_finite_or_not_used_is_seen_by_verify() {
        let mut model = small();
        model.networks[0].folds[0].values[0][3] = f32::NAN;
        let bytes = model.to_bytes(Storage::Bf16).unwrap();
        let error = read(&bytes, "m").unwrap().verify().unwrap_err().to_string();
        assert!(error.contains("coarse/") && error.contains("not finite"), "{error}");
        let good = small().to_bytes(Storage::Bf16).unwrap();
        let header = u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
        let mut json: serde_json::Value = serde_json::from_slice(&good[8..8 + header]).unwrap();
        let end = good.len() - 8 - header;
        json["more"] = serde_json::json!({ "dtype": "F32", "shape": [0], "data_offsets": [end, end] });
        let mut text = serde_json::to_vec(&json).unwrap();
        text.resize(text.len().next_multiple_of(8), b' ');
        let bytes = [&(text.len() as u64).to_le_bytes(), text.as_slice(), &good[8 + header..]].concat();
        let bytes = verify::seal(bytes).unwrap();
        let error = read(&bytes, "m").unwrap().verify().unwrap_err().to_string();
        assert!(error.contains("a tensor \"more\" that no network uses"), "{error}");
    }
}
