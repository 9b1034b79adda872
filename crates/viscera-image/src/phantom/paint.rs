//! Paints a scene of layers onto a grid: front to back, with partial volume from the distances to the surfaces.

use super::deform::Deformation;
use super::shape::{Bounds, Point, Solid, lerp};
use super::tissue::{Appearance, Tissue};
use crate::Geometry;
use rayon::prelude::*;

/// Which coordinates a layer's shape lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The deformed body.
    Body,
    /// The scanner: table and cloth do not deform with the patient.
    Scanner,
}

/// One shape of one tissue.
pub(super) struct Layer {
    solid: Solid,
    tissue: Tissue,
    /// Label of the voxels inside; `None` leaves the label of what lies below (a vessel within the liver).
    label: Option<u8>,
    /// Thickness in mm of thin sheets and tubes, for their partial volume; infinite for solid things.
    thickness: f32,
    frame: Frame,
}

/// Layers from back to front: a later one hides the earlier ones.
#[derive(Default)]
pub(super) struct Scene {
    layers: Vec<Layer>,
}

impl Scene {
    fn push(&mut self, solid: &Solid, tissue: Tissue, label: Option<u8>, thickness: f32, frame: Frame) {
        self.layers.push(Layer {
            solid: solid.clone(),
            tissue,
            label,
            thickness,
            frame,
        });
    }

    /// A solid thing with a label of its own (0: none).
    pub(super) fn organ(&mut self, solid: &Solid, tissue: Tissue, label: u8) {
        self.push(solid, tissue, Some(label), f32::INFINITY, Frame::Body);
    }

    /// A thing without a label.
    pub(super) fn body(&mut self, solid: &Solid, tissue: Tissue) {
        self.organ(solid, tissue, 0);
    }

    /// A sheet or tube of about `thickness` mm without a label.
    pub(super) fn thin(&mut self, solid: &Solid, tissue: Tissue, thickness: f32) {
        self.push(solid, tissue, Some(0), thickness, Frame::Body);
    }

    /// A sheet or tube within whatever lies below, whose label stays.
    pub(super) fn within(&mut self, solid: &Solid, tissue: Tissue, thickness: f32) {
        self.push(solid, tissue, None, thickness, Frame::Body);
    }

    /// A thing that stays with the scanner.
    pub(super) fn scanner(&mut self, solid: &Solid, tissue: Tissue, thickness: f32) {
        self.push(solid, tissue, Some(0), thickness, Frame::Scanner);
    }
}

/// Share of a cell of `width` mm that a thing of `thickness` mm covers whose surface lies `distance` mm away.
fn coverage(distance: f32, width: f32, thickness: f32) -> f32 {
    let half = 0.5 * width;
    let near = distance.max(-half);
    let far = (distance + thickness).min(half);
    ((far - near) / width).clamp(0.0, 1.0)
}

/// HU (before noise) and labels of a scene on a grid, in the grid's order.
///
/// Thick slices are averaged from three thin ones; labels are those at voxel centres.
pub(super) fn paint(
    scene: &Scene,
    geometry: &Geometry,
    deformation: &Deformation,
    appearance: &Appearance,
) -> (Vec<f32>, Vec<u8>) {
    let [nz, ny, nx] = geometry.shape;
    let thinnest = geometry.spacing.iter().fold(f64::INFINITY, |m, &s| m.min(s));
    let parts: [usize; 3] = geometry
        .spacing
        .map(|s| if s > 2.6 && s > 1.5 * thinnest { 3 } else { 1 });
    let width = (0..3).map(|a| geometry.spacing[a] / parts[a] as f64).sum::<f64>() as f32 / 3.0;
    // Blocks of about 10 mm: layers that cannot touch one are left out for all its voxels.
    let block: [usize; 3] = geometry.spacing.map(|s| ((10.0 / s).round() as usize).clamp(2, 16));

    let mut hu = vec![-1000.0f32; geometry.len()];
    let mut labels = vec![0u8; geometry.len()];
    let slab = block[0] * ny * nx;
    hu.par_chunks_mut(slab)
        .zip(labels.par_chunks_mut(slab))
        .enumerate()
        .for_each(|(index, (hu, labels))| {
            let mut brush = Brush {
                scene,
                geometry,
                deformation,
                appearance,
                parts,
                width,
                active: Vec::new(),
            };
            let z0 = index * block[0];
            let z1 = (z0 + block[0]).min(nz);
            for y0 in (0..ny).step_by(block[1]) {
                for x0 in (0..nx).step_by(block[2]) {
                    let end = [z1, (y0 + block[1]).min(ny), (x0 + block[2]).min(nx)];
                    brush.block([z0, y0, x0], end, hu, labels);
                }
            }
        });
    (hu, labels)
}

/// What painting one block needs.
struct Brush<'a> {
    scene: &'a Scene,
    geometry: &'a Geometry,
    deformation: &'a Deformation,
    appearance: &'a Appearance,
    parts: [usize; 3],
    width: f32,
    /// Layers that may touch the block, front first.
    active: Vec<usize>,
}

impl Brush<'_> {
    /// Paints voxels `start..end`; `hu` and `labels` begin at slice `start[0]`.
    fn block(&mut self, start: [usize; 3], end: [usize; 3], hu: &mut [f32], labels: &mut [u8]) {
        let [_, ny, nx] = self.geometry.shape;
        // Corners half a voxel out, so that all sub-samples lie between them.
        let mut world = [[0f32; 3]; 8];
        let mut body = [[0f32; 3]; 8];
        for corner in 0..8 {
            let index: [f64; 3] =
                std::array::from_fn(|a| (if corner >> a & 1 == 1 { end[a] } else { start[a] }) as f64 - 0.5);
            world[corner] = self.geometry.world_of(index).map(|c| c as f32);
            body[corner] = self.deformation.body_point(world[corner]);
        }
        self.choose(&world, &body);
        if self.active.is_empty() {
            return;
        }
        let samples = self.parts.iter().product::<usize>();
        let extent: [f32; 3] = std::array::from_fn(|a| (end[a] - start[a]) as f32);
        for z in start[0]..end[0] {
            for y in start[1]..end[1] {
                for x in start[2]..end[2] {
                    let offset = ((z - start[0]) * ny + y) * nx + x;
                    let voxel = [z, y, x];
                    let mut sum = 0.0;
                    for sample in 0..samples {
                        let mut rest = sample;
                        let mut centre = true;
                        let t: [f32; 3] = std::array::from_fn(|a| {
                            let part = rest % self.parts[a];
                            rest /= self.parts[a];
                            centre &= part == self.parts[a] / 2;
                            ((voxel[a] - start[a]) as f32 + (part as f32 + 0.5) / self.parts[a] as f32) / extent[a]
                        });
                        let (value, label) = self.sample(trilinear(&world, t), trilinear(&body, t));
                        sum += value;
                        if centre {
                            labels[offset] = label;
                        }
                    }
                    hu[offset] = sum / samples as f32;
                }
            }
        }
    }

    /// Fills [`Self::active`] with the layers that a block with these corners may meet.
    fn choose(&mut self, world: &[Point; 8], body: &[Point; 8]) {
        self.active.clear();
        let measure = |corners: &[Point; 8]| {
            let centre = trilinear(corners, [0.5; 3]);
            let radius = corners
                .iter()
                .map(|&c| super::shape::length(super::shape::sub(c, centre)))
                .fold(0.0, f32::max);
            (Bounds::around(corners, self.width), centre, radius)
        };
        let (in_world, in_body) = (measure(world), measure(body));
        for (i, layer) in self.scene.layers.iter().enumerate().rev() {
            let (bounds, centre, radius) = match layer.frame {
                Frame::Body => &in_body,
                Frame::Scanner => &in_world,
            };
            if !layer.solid.bounds.overlaps(bounds) {
                continue;
            }
            let distance = layer.solid.distance(*centre);
            let reach = layer.solid.steepness * radius + self.width;
            if distance > reach {
                continue;
            }
            self.active.push(i);
            if distance < -reach && layer.label.is_some() && layer.thickness.is_infinite() {
                break; // it hides all that lies behind, throughout the block
            }
        }
    }

    /// HU and label at one point.
    fn sample(&self, world: Point, body: Point) -> (f32, u8) {
        let mut light = 1.0f32;
        let mut value = 0.0;
        let mut label = None;
        for &i in &self.active {
            let layer = &self.scene.layers[i];
            let p = match layer.frame {
                Frame::Body => body,
                Frame::Scanner => world,
            };
            let distance = layer.solid.distance(p);
            if distance < 0.0 && label.is_none() {
                label = layer.label;
            }
            let share = light * coverage(distance, self.width, layer.thickness);
            if share > 0.004 {
                value += share * self.appearance.hu(layer.tissue, p);
                light -= share;
                if light < 0.01 && label.is_some() {
                    break;
                }
            }
        }
        (value + light * -1000.0, label.unwrap_or(0))
    }
}

/// Between eight corners; corner bit `a` is axis `a`.
fn trilinear(corners: &[Point; 8], t: [f32; 3]) -> Point {
    let x = |i: usize| lerp(corners[i], corners[i | 1], t[0]);
    let y = |i: usize| lerp(x(i), x(i | 2), t[1]);
    lerp(y(0), y(4), t[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_of_solid_and_thin_things() {
        assert_eq!(coverage(-5.0, 1.0, f32::INFINITY), 1.0);
        assert_eq!(coverage(0.0, 1.0, f32::INFINITY), 0.5);
        assert_eq!(coverage(0.6, 1.0, f32::INFINITY), 0.0);
        // A sheet of 2 mm in a cell of 8 mm, right in its middle, fills a quarter.
        assert_eq!(coverage(-1.0, 8.0, 2.0), 0.25);
        assert_eq!(coverage(-1.0, 1.0, 2.0), 1.0);
    }
}
