//! A data set of synthetic blobs, and a recipe small enough for tests.

#![allow(dead_code)] // each test file uses its part

use std::path::Path;
use viscera_image::{Geometry, LabelTable, Volume};
use viscera_io::{Annotations, Dataset, DatasetJson, Image, write_image};
use viscera_pipeline::Recipe;

/// Writes `cases` cases of 40×36×44 voxels of 3×2.5×2.5 mm in LPS: a bright liver on the right, a darker spleen on the
/// left, noise, both somewhere else in each case.
pub(crate) fn write_data(folder: &Path, cases: usize) {
    let description = DatasetJson::new(&LabelTable::flare13(), cases);
    let annotations = Annotations::default();
    let dataset = Dataset::create(folder, description, annotations).unwrap();
    for case in 0..cases {
        let (image, labels) = blobs(case);
        let name = format!("case_{case:02}");
        let split = viscera_io::Split::Train;
        write_image(&dataset.image_path(split, &name), &Image::I16(image)).unwrap();
        write_image(&dataset.labels_path(split, &name), &Image::I16(labels)).unwrap();
    }
}

/// One case: HU and labels.
pub(crate) fn blobs(case: usize) -> (Volume<i16>, Volume<i16>) {
    let shape = [40, 36, 44];
    let mut geometry = Geometry::ras(shape, [3.0, 2.5, 2.5]);
    geometry.direction[1] = [0.0, -1.0, 0.0];
    geometry.direction[2] = [-1.0, 0.0, 0.0];
    let (mut hu, mut labels) = (Vec::new(), Vec::new());
    let move_by = (case * 7 % 5) as f64 - 2.0;
    for z in 0..shape[0] {
        for y in 0..shape[1] {
            for x in 0..shape[2] {
                // x grows to the left here.
                let distance = |cz: f64, cy: f64, cx: f64| {
                    ((z as f64 - cz).powi(2) + (y as f64 - cy).powi(2) + (x as f64 - cx).powi(2)).sqrt()
                };
                let (organ, value) = if distance(20.0 + move_by, 18.0, 13.0 - move_by) < 8.0 {
                    (1, 120)
                } else if distance(22.0 - move_by, 20.0 + move_by, 33.0) < 6.0 {
                    (3, -120)
                } else {
                    (0, 0)
                };
                hu.push(value + ((x * 31 + y * 17 + z * 13 + case * 5) % 41) as i16 - 20);
                labels.push(organ);
            }
        }
    }
    (
        Volume::new(geometry.clone(), hu).unwrap(),
        Volume::new(geometry, labels).unwrap(),
    )
}

/// The two stages of system D at the least width and size.
pub(crate) fn recipe(coarse: &str, fine: &str) -> Recipe {
    let text = format!(
        r#"
[recipe]
name = "tiny"
labels = "flare13"
modality = "ct"

[[stage]]
id = "coarse"
role = "localise"
resample = {{ size = [16, 16, 16], convention = "align_corners" }}
normalise = {{ window_hu = [-325, 325], zscore = "case" }}
network = {{ arch = "coarse_unet", base_features = 4, dropout = 0.1 }}
inference = {{ mode = "whole_volume", activation = "sigmoid", threshold = 0.5 }}

[[stage]]
id = "fine"
role = "segment"
roi = {{ from = "coarse", margin_mm = [20, 20, 20] }}
resample = {{ size = [64, 64, 64], convention = "align_corners" }}
normalise = {{ window_hu = [-325, 325], zscore = "case" }}
network = {{ arch = "efficientsegnet", base_features = 4, dropout = 0.0, plane = "paper" }}
inference = {{ mode = "whole_volume", activation = "sigmoid", threshold = 0.5 }}

[training.coarse]
loss = {{ dice = 1.0, focal = 0.1, smooth = 1.0 }}
optimizer = {{ adam = {{ lr = 1e-2, betas = [0.9, 0.99], weight_decay = 5e-5 }} }}
{coarse}

[training.fine]
loss = {{ dice = 1.0, focal = 1.0 }}
optimizer = {{ sgd = {{ lr = 1e-3, momentum = 0.9, nesterov = true }} }}
{fine}
"#
    );
    Recipe::parse(&text, "test").unwrap()
}
