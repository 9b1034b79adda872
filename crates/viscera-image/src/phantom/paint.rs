//! Paints a scene of layers onto a grid: front to back, with partial volume from the distances to the surfaces.

use super::body::Trunk;
use super::deform::Deformation;
use super::shape::{Bounds, Point, Site, Solid, lerp};
use super::tissue::{Appearance, Tissue};
use crate::Geometry;
use rayon::prelude::*;
use std::ops::Range;

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
    trunk: &Trunk,
    geometry: &Geometry,
    deformation: &Deformation,
    appearance: &Appearance,
) -> (Vec<f32>, Vec<u8>) {
    let [nz, ny, nx] = geometry.shape;
    let thinnest = geometry.spacing.iter().fold(f64::INFINITY, |m, &s| m.min(s));
    let parts: [usize; 3] = geometry
        .spacing
        .map(|s| if s > 3.4 && s > 1.5 * thinnest { 3 } else { 1 });
    let width = (0..3).map(|a| geometry.spacing[a] / parts[a] as f64).sum::<f64>() as f32 / 3.0;
    // Blocks of about 10 mm: layers that cannot touch one are left out for all its voxels.
    let block: [usize; 3] = geometry.spacing.map(|s| ((10.0 / s).round() as usize).clamp(2, 16));

    let nodes = Nodes::new(trunk, geometry, deformation, block);
    let mut hu = vec![-1000.0f32; geometry.len()];
    let mut labels = vec![0u8; geometry.len()];
    let slab = block[0] * ny * nx;
    hu.par_chunks_mut(slab)
        .zip(labels.par_chunks_mut(slab))
        .enumerate()
        .for_each(|(bz, (hu, labels))| {
            let [by, bx] = [1, 2].map(|a| nodes.counts[a] - 1);
            let everything: Vec<usize> = (0..scene.layers.len()).rev().collect();
            let in_slab = nodes.overlapping(scene, &everything, [bz..bz + 2, 0..by + 1], width);
            let mut brush = Brush {
                scene,
                trunk,
                appearance,
                parts,
                width,
                active: Vec::new(),
            };
            for by in 0..by {
                let in_row = nodes.overlapping(scene, &in_slab, [bz..bz + 2, by..by + 2], width);
                for bx in 0..bx {
                    let at = [bz, by, bx];
                    let start: [usize; 3] = std::array::from_fn(|a| at[a] * block[a]);
                    let end = std::array::from_fn(|a| (start[a] + block[a]).min([nz, ny, nx][a]));
                    let corners = nodes.corners(at);
                    if brush.choose(&in_row, &corners) {
                        brush.block(start, end, [ny, nx], &corners, hu, labels);
                    }
                }
            }
        });
    (hu, labels)
}

/// A point in the scanner's frame and its site in the body; what is interpolated between a block's corners.
#[derive(Clone, Copy)]
struct Node {
    world: Point,
    body: Point,
    /// Distances to wall, muscle and skin.
    contours: [f32; 3],
}

impl Node {
    fn between(a: &Self, b: &Self, t: f32) -> Self {
        Self {
            world: lerp(a.world, b.world, t),
            body: lerp(a.body, b.body, t),
            contours: lerp(a.contours, b.contours, t),
        }
    }

    fn site(&self, trunk: &Trunk) -> Site {
        let [wall, muscle, skin] = self.contours;
        Site {
            point: self.body,
            wall,
            muscle,
            skin,
            roof: trunk.roof(self.body, wall),
        }
    }
}

/// The corners of all blocks, half a voxel outside their voxels' centres.
struct Nodes {
    counts: [usize; 3],
    nodes: Vec<Node>,
}

impl Nodes {
    fn new(trunk: &Trunk, geometry: &Geometry, deformation: &Deformation, block: [usize; 3]) -> Self {
        let counts: [usize; 3] = std::array::from_fn(|a| geometry.shape[a].div_ceil(block[a]) + 1);
        let nodes = (0..counts.iter().product::<usize>())
            .into_par_iter()
            .map(|i| {
                let at = [i / counts[2] / counts[1], i / counts[2] % counts[1], i % counts[2]];
                let index = std::array::from_fn(|a| (at[a] * block[a]).min(geometry.shape[a]) as f64 - 0.5);
                let world = geometry.world_of(index).map(|c| c as f32);
                let site = trunk.site(deformation.body_point(world));
                Node {
                    world,
                    body: site.point,
                    contours: [site.wall, site.muscle, site.skin],
                }
            })
            .collect();
        Self { counts, nodes }
    }

    /// Those of some layers whose boxes touch the box of whole rows of nodes, ranges along z and y.
    fn overlapping(&self, scene: &Scene, layers: &[usize], [zs, ys]: [Range<usize>; 2], margin: f32) -> Vec<usize> {
        let rows = zs.flat_map(|z| ys.clone().map(move |y| (z * self.counts[1] + y) * self.counts[2]));
        let nodes: Vec<&Node> = rows
            .flat_map(|start| &self.nodes[start..start + self.counts[2]])
            .collect();
        let around = |f: fn(&Node) -> Point| Bounds::around(&nodes.iter().map(|n| f(n)).collect::<Vec<_>>(), margin);
        let (world, body) = (around(|n| n.world), around(|n| n.body));
        let touches = |i: &usize| {
            let layer = &scene.layers[*i];
            layer
                .solid
                .bounds
                .overlaps(if layer.frame == Frame::Body { &body } else { &world })
        };
        layers.iter().copied().filter(touches).collect()
    }

    /// The eight corners of a block; bit `a` of the index is axis `a`.
    fn corners(&self, block: [usize; 3]) -> [Node; 8] {
        std::array::from_fn(|corner| {
            let at: [usize; 3] = std::array::from_fn(|a| block[a] + (corner >> a & 1));
            self.nodes[(at[0] * self.counts[1] + at[1]) * self.counts[2] + at[2]]
        })
    }
}

/// What painting one block needs.
struct Brush<'a> {
    scene: &'a Scene,
    trunk: &'a Trunk,
    appearance: &'a Appearance,
    parts: [usize; 3],
    width: f32,
    /// Layers that may touch the block, front first.
    active: Vec<usize>,
}

impl Brush<'_> {
    /// Paints voxels `start..end`; `hu` and `labels` begin at slice `start[0]`.
    fn block(
        &self,
        start: [usize; 3],
        end: [usize; 3],
        [ny, nx]: [usize; 2],
        corners: &[Node; 8],
        hu: &mut [f32],
        labels: &mut [u8],
    ) {
        let samples = self.parts.map(|p| p as f32);
        // Sub-samples per axis: voxel, part, and where that lies between the corners.
        let steps = |a: usize| {
            let extent = (end[a] - start[a]) as f32;
            (start[a]..end[a]).flat_map(move |voxel| {
                (0..self.parts[a]).map(move |part| {
                    let t = ((voxel - start[a]) as f32 + (part as f32 + 0.5) / samples[a]) / extent;
                    (voxel, part == self.parts[a] / 2, t)
                })
            })
        };
        let share = 1.0 / samples.iter().product::<f32>();
        for (z, z_centre, tz) in steps(0) {
            for (y, y_centre, ty) in steps(1) {
                let side = |bit: usize| {
                    let low = Node::between(&corners[bit], &corners[bit | 1], tz);
                    let high = Node::between(&corners[bit | 2], &corners[bit | 3], tz);
                    Node::between(&low, &high, ty)
                };
                let (left, right) = (side(0), side(4));
                let row = ((z - start[0]) * ny + y) * nx;
                for (x, x_centre, tx) in steps(2) {
                    let node = Node::between(&left, &right, tx);
                    let (value, label) = self.sample(node.world, &node.site(self.trunk));
                    // The volume starts as air.
                    hu[row + x] += share * (value + 1000.0);
                    if z_centre && y_centre && x_centre {
                        labels[row + x] = label;
                    }
                }
            }
        }
    }

    /// Fills [`Self::active`] with those of some layers, front first, that a block with these corners may meet, and says
    /// whether there are any.
    fn choose(&mut self, layers: &[usize], corners: &[Node; 8]) -> bool {
        self.active.clear();
        let middle = |bit: usize| {
            let low = Node::between(&corners[bit], &corners[bit | 1], 0.5);
            let high = Node::between(&corners[bit | 2], &corners[bit | 3], 0.5);
            Node::between(&low, &high, 0.5)
        };
        let centre = Node::between(&middle(0), &middle(4), 0.5);
        let measure = |points: [Point; 8], site: Site| {
            let away = points.map(|p| super::shape::length(super::shape::sub(p, site.point)));
            (
                Bounds::around(&points, self.width),
                site,
                away.into_iter().fold(0.0, f32::max),
            )
        };
        let in_world = measure(corners.map(|c| c.world), Site::bare(centre.world));
        let in_body = measure(corners.map(|c| c.body), centre.site(self.trunk));
        for &i in layers {
            let layer = &self.scene.layers[i];
            let (bounds, centre, radius) = match layer.frame {
                Frame::Body => &in_body,
                Frame::Scanner => &in_world,
            };
            if !layer.solid.bounds.overlaps(bounds) {
                continue;
            }
            let [nearest, farthest] = layer.solid.range(centre, *radius);
            if nearest > self.width {
                continue;
            }
            self.active.push(i);
            if farthest < -self.width && layer.label.is_some() && layer.thickness.is_infinite() {
                break; // it hides all that lies behind, throughout the block
            }
        }
        !self.active.is_empty()
    }

    /// HU and label at one point.
    fn sample(&self, world: Point, body: &Site) -> (f32, u8) {
        let scanner = Site::bare(world);
        let mut light = 1.0f32;
        let mut value = 0.0;
        let mut label = None;
        for &i in &self.active {
            let layer = &self.scene.layers[i];
            let site = match layer.frame {
                Frame::Body => body,
                Frame::Scanner => &scanner,
            };
            let distance = layer.solid.distance(site);
            if distance < 0.0 && label.is_none() {
                label = layer.label;
            }
            let share = light * coverage(distance, self.width, layer.thickness);
            if share > 0.004 {
                value += share * self.appearance.hu(layer.tissue, site.point);
                light -= share;
                if light < 0.01 && label.is_some() {
                    break;
                }
            }
        }
        (value + light * -1000.0, label.unwrap_or(0))
    }
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
