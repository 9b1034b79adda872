//! Solids as signed distances (mm, negative inside) in the body frame, joined with rounded edges.
//!
//! Distances are approximate: right at the surface, and of bounded slope away from it. Each solid also bounds its
//! distance over a ball, which is what lets the painter leave out the layers that cannot touch a block of voxels.

use super::texture;
use std::sync::Arc;

/// A point `[right, anterior, superior]` in mm of the body frame: the origin lies in the midline, before the spine, at
/// the height of the liver's dome.
pub(super) type Point = [f32; 3];

/// A point with its distances to the surfaces that most shapes refer to, worked out once for all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    pub(super) point: Point,
    /// Distance to the inner contour of the trunk, negative inside.
    pub(super) wall: f32,
    /// Distance to the outer contour of the trunk's muscles.
    pub(super) muscle: f32,
    /// Distance to the skin.
    pub(super) skin: f32,
    /// Distance to the diaphragm, negative below.
    pub(super) roof: f32,
}

impl Site {
    /// A point of the scanner's frame, where there is no trunk.
    pub(super) fn bare(point: Point) -> Self {
        Self {
            point,
            wall: 0.0,
            muscle: 0.0,
            skin: 0.0,
            roof: 0.0,
        }
    }
}

type Distance = Arc<dyn Fn(&Site) -> f32 + Send + Sync>;
/// Bounds of the distance over the ball of a radius around a site.
type Range = Arc<dyn Fn(&Site, f32) -> [f32; 2] + Send + Sync>;

pub(super) fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

pub(super) fn sub(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(super) fn scale(a: Point, s: f32) -> Point {
    a.map(|c| c * s)
}

pub(super) fn dot(a: Point, b: Point) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn length(a: Point) -> f32 {
    dot(a, a).sqrt()
}

pub(super) fn lerp(a: Point, b: Point, t: f32) -> Point {
    std::array::from_fn(|i| a[i] + t * (b[i] - a[i]))
}

/// The larger of two distances with an edge rounded over about `k` mm (polynomial smooth maximum).
pub(super) fn smooth_max(a: f32, b: f32, k: f32) -> f32 {
    let h = (k - (a - b).abs()).max(0.0);
    a.max(b) + h * h / (4.0 * k)
}

/// The smaller of two distances with a fillet of about `k` mm.
pub(super) fn smooth_min(a: f32, b: f32, k: f32) -> f32 {
    -smooth_max(-a, -b, k)
}

/// Rises smoothly from 0 at `from` to 1 at `to`.
pub(super) fn smoothstep(from: f32, to: f32, value: f32) -> f32 {
    let t = ((value - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A box in the body frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) low: Point,
    pub(super) high: Point,
}

impl Bounds {
    pub(super) const EVERYWHERE: Self = Self {
        low: [-1e4; 3],
        high: [1e4; 3],
    };

    /// The box around points, grown by `margin` mm.
    pub(super) fn around(points: &[Point], margin: f32) -> Self {
        let mut bounds = Self {
            low: [f32::INFINITY; 3],
            high: [f32::NEG_INFINITY; 3],
        };
        for p in points {
            for a in 0..3 {
                bounds.low[a] = bounds.low[a].min(p[a]);
                bounds.high[a] = bounds.high[a].max(p[a]);
            }
        }
        bounds.grown(margin)
    }

    pub(super) fn grown(self, mm: f32) -> Self {
        Self {
            low: self.low.map(|c| c - mm),
            high: self.high.map(|c| c + mm),
        }
    }

    fn meet(self, other: Self) -> Self {
        Self {
            low: std::array::from_fn(|a| self.low[a].max(other.low[a])),
            high: std::array::from_fn(|a| self.high[a].min(other.high[a])),
        }
    }

    fn join(self, other: Self) -> Self {
        Self {
            low: std::array::from_fn(|a| self.low[a].min(other.low[a])),
            high: std::array::from_fn(|a| self.high[a].max(other.high[a])),
        }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        (0..3).all(|a| self.low[a] <= other.high[a] && other.low[a] <= self.high[a])
    }
}

/// A shape: its signed distance and a box that holds it.
#[derive(Clone)]
pub(super) struct Solid {
    pub(super) bounds: Bounds,
    distance: Distance,
    range: Range,
}

impl Solid {
    /// A shape from any distance function of a point; nothing of it may lie outside `bounds`.
    pub(super) fn field(bounds: Bounds, steepness: f32, f: impl Fn(Point) -> f32 + Send + Sync + 'static) -> Self {
        Self::sited(bounds, steepness, move |site| f(site.point))
    }

    /// A shape from a distance function that also reads the trunk's surfaces.
    pub(super) fn sited(bounds: Bounds, steepness: f32, f: impl Fn(&Site) -> f32 + Send + Sync + 'static) -> Self {
        let distance: Distance = Arc::new(f);
        let at = distance.clone();
        Self {
            bounds,
            distance,
            range: Arc::new(move |site, radius| {
                let d = at(site);
                [d - steepness * radius, d + steepness * radius]
            }),
        }
    }

    pub(super) fn distance(&self, site: &Site) -> f32 {
        (self.distance)(site)
    }

    /// Least and greatest distance that points within `radius` mm of a site may have.
    pub(super) fn range(&self, site: &Site, radius: f32) -> [f32; 2] {
        (self.range)(site, radius)
    }

    /// An ellipsoid with semi-axes `radii` along `axes`, three orthonormal vectors.
    pub(super) fn ellipsoid(centre: Point, radii: Point, axes: [Point; 3]) -> Self {
        let reach: Point = std::array::from_fn(|w| (0..3).map(|a| (axes[a][w] * radii[a]).powi(2)).sum::<f32>().sqrt());
        let bounds = Bounds {
            low: sub(centre, reach),
            high: add(centre, reach),
        };
        Self::field(bounds, 1.5, move |p| {
            let d = sub(p, centre);
            let unit: Point = std::array::from_fn(|a| dot(d, axes[a]) / radii[a]);
            let k0 = length(unit);
            let k1 = length(std::array::from_fn(|a| unit[a] / radii[a])).max(1e-6);
            k0 * (k0 - 1.0) / k1
        })
    }

    /// A tube along a polyline with a radius at each point; pass a [`spline`] for a smooth one.
    /// `flatten` divides the A–P distance: 0.7 makes the tube 0.7 times as deep as wide.
    pub(super) fn tube(path: Vec<(Point, f32)>, flatten: f32) -> Self {
        let points: Vec<Point> = path.iter().map(|&(p, _)| p).collect();
        let widest = path.iter().fold(0.0f32, |m, &(_, r)| m.max(r));
        let bounds = Bounds::around(&points, widest);
        let deep = 1.0 / flatten;
        // Pieces of the path with their own boxes: most can be passed over at any one point.
        let chunks: Vec<(Bounds, Vec<(Point, f32)>)> = (0..path.len().saturating_sub(1).max(1))
            .step_by(6)
            .map(|start| {
                let piece = path[start..(start + 7).min(path.len())].to_vec();
                let points: Vec<Point> = piece.iter().map(|&(p, _)| p).collect();
                let widest = piece.iter().fold(0.0f32, |m, &(_, r)| m.max(r));
                (Bounds::around(&points, widest), piece)
            })
            .collect();
        Self::field(bounds, deep.max(1.0) * 1.15, move |p| {
            let mut best = f32::INFINITY;
            for (bounds, piece) in &chunks {
                let gap: Point = std::array::from_fn(|a| (bounds.low[a] - p[a]).max(p[a] - bounds.high[a]).max(0.0));
                if dot(gap, gap) > 0.0 && length(gap) >= best {
                    continue;
                }
                if let [(only, radius)] = piece[..] {
                    best = best.min(length(sub(p, only)) - radius);
                }
                for pair in piece.windows(2) {
                    let ((a, ra), (b, rb)) = (pair[0], pair[1]);
                    let (axis, offset) = (sub(b, a), sub(p, a));
                    let t = (dot(offset, axis) / dot(axis, axis).max(1e-6)).clamp(0.0, 1.0);
                    let mut away = sub(offset, scale(axis, t));
                    away[1] *= deep;
                    best = best.min(length(away) - (ra + t * (rb - ra)));
                }
            }
            best
        })
    }

    /// The region on the side of a plane away from `normal` (a unit vector).
    pub(super) fn behind(point: Point, normal: Point) -> Self {
        Self::field(Bounds::EVERYWHERE, 1.0, move |p| dot(sub(p, point), normal))
    }

    /// What lies in both, edges rounded over `k` mm.
    pub(super) fn and(&self, other: &Self, k: f32) -> Self {
        let (a, b) = (self.distance.clone(), other.distance.clone());
        let (near, far) = (self.range.clone(), other.range.clone());
        Self {
            bounds: self.bounds.meet(other.bounds),
            distance: Arc::new(move |s| smooth_max(a(s), b(s), k)),
            range: Arc::new(move |s, r| {
                let (a, b) = (near(s, r), far(s, r));
                [a[0].max(b[0]), a[1].max(b[1]) + 0.25 * k]
            }),
        }
    }

    /// What lies in either, with a fillet of `k` mm.
    pub(super) fn or(&self, other: &Self, k: f32) -> Self {
        let (a, b) = (self.distance.clone(), other.distance.clone());
        let (near, far) = (self.range.clone(), other.range.clone());
        Self {
            bounds: self.bounds.join(other.bounds).grown(k * 0.25),
            distance: Arc::new(move |s| smooth_min(a(s), b(s), k)),
            range: Arc::new(move |s, r| {
                let (a, b) = (near(s, r), far(s, r));
                [a[0].min(b[0]) - 0.25 * k, a[1].min(b[1])]
            }),
        }
    }

    /// What lies in this and not in the other, edges rounded over `k` mm.
    pub(super) fn minus(&self, other: &Self, k: f32) -> Self {
        let (distance, range) = (other.distance.clone(), other.range.clone());
        self.and(
            &Self {
                bounds: Bounds::EVERYWHERE,
                distance: Arc::new(move |s| -distance(s)),
                range: Arc::new(move |s, r| {
                    let [low, high] = range(s, r);
                    [-high, -low]
                }),
            },
            k,
        )
    }

    /// Grown (or shrunk, where negative) by `mm`.
    pub(super) fn grow(&self, mm: f32) -> Self {
        let (distance, range) = (self.distance.clone(), self.range.clone());
        Self {
            bounds: self.bounds.grown(mm.max(0.0)),
            distance: Arc::new(move |s| distance(s) - mm),
            range: Arc::new(move |s, r| range(s, r).map(|d| d - mm)),
        }
    }

    /// With a bumpy surface: heights of about ±`amplitude` mm, `scale` mm apart.
    pub(super) fn bumpy(&self, seed: u32, amplitude: f32, scale: f32) -> Self {
        let (distance, range) = (self.distance.clone(), self.range.clone());
        let reach = 1.5 * amplitude.abs();
        Self {
            bounds: self.bounds.grown(reach),
            distance: Arc::new(move |s| {
                let d = distance(s);
                // The noise costs more than most shapes, and cannot matter far away.
                if d.abs() > reach + 8.0 {
                    d
                } else {
                    d + amplitude * texture::rough(seed, s.point, scale)
                }
            }),
            range: Arc::new(move |s, r| {
                let [low, high] = range(s, r);
                [low - reach, high + reach]
            }),
        }
    }
}

/// A smooth path through points with radii (Catmull–Rom), in `pieces` straight parts per given part.
pub(super) fn spline(knots: &[(Point, f32)], pieces: usize) -> Vec<(Point, f32)> {
    let Some(&last) = knots.last() else { return Vec::new() };
    let at = |i: isize| knots[i.clamp(0, knots.len() as isize - 1) as usize];
    let mut path = Vec::with_capacity(knots.len() * pieces);
    for i in 0..knots.len() as isize - 1 {
        let (a, b, c, d) = (at(i - 1), at(i), at(i + 1), at(i + 2));
        for step in 0..pieces {
            let t = step as f32 / pieces as f32;
            let mix = |a: f32, b: f32, c: f32, d: f32| {
                0.5 * (2.0 * b
                    + (c - a) * t
                    + (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t
                    + (3.0 * b - 3.0 * c + d - a) * t * t * t)
            };
            let point = std::array::from_fn(|w| mix(a.0[w], b.0[w], c.0[w], d.0[w]));
            path.push((point, mix(a.1, b.1, c.1, d.1).max(0.3)));
        }
    }
    path.push(last);
    path
}

/// Three orthonormal vectors: the body's axes turned by angles (radians) about R, then A, then S.
pub(super) fn turned(about_r: f32, about_a: f32, about_s: f32) -> [Point; 3] {
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].map(|v| {
        let (s, c) = about_r.sin_cos();
        let v = [v[0], c * v[1] - s * v[2], s * v[1] + c * v[2]];
        let (s, c) = about_a.sin_cos();
        let v = [c * v[0] + s * v[2], v[1], -s * v[0] + c * v[2]];
        let (s, c) = about_s.sin_cos();
        [c * v[0] - s * v[1], s * v[0] + c * v[1], v[2]]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tube_distance_is_exact_beside_a_straight_part() {
        let tube = Solid::tube(vec![([0.0; 3], 5.0), ([0.0, 0.0, 50.0], 5.0)], 1.0);
        assert!((tube.distance(&Site::bare([8.0, 0.0, 20.0])) - 3.0).abs() < 1e-4);
        assert!((tube.distance(&Site::bare([0.0, 0.0, 60.0])) - 5.0).abs() < 1e-4);
        assert!((tube.distance(&Site::bare([0.0, 0.0, 25.0])) + 5.0).abs() < 1e-4);
    }

    #[test]
    fn ellipsoid_surface_and_bounds() {
        let axes = turned(0.3, -0.4, 0.9);
        let solid = Solid::ellipsoid([1.0, 2.0, 3.0], [30.0, 20.0, 10.0], axes);
        for (a, r) in [30.0f32, 20.0, 10.0].into_iter().enumerate() {
            let p = add([1.0, 2.0, 3.0], scale(axes[a], r));
            assert!(solid.distance(&Site::bare(p)).abs() < 1e-3);
            assert!((0..3).all(|w| p[w] >= solid.bounds.low[w] - 1e-3 && p[w] <= solid.bounds.high[w] + 1e-3));
        }
    }

    #[test]
    fn spline_passes_through_its_knots() {
        let knots = [([0.0; 3], 2.0), ([10.0, 5.0, 0.0], 3.0), ([20.0, 0.0, 8.0], 1.0)];
        let path = spline(&knots, 5);
        assert_eq!(path.len(), 11);
        assert_eq!(path[5].0, knots[1].0);
        assert!((path[10].1 - 1.0).abs() < 1e-6);
    }
}
