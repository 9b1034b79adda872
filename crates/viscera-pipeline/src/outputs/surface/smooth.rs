//! Smoothing without shrinking, and the enclosed volume.

use super::Shape;

/// Taubin's two steps (λ | μ): one shrinks, the other grows again; together they pass what is longer than some cells.
const STEPS: [f64; 2] = [0.5, -0.53];

/// How often both are taken.
const ROUNDS: usize = 15;

/// Smooths the points of a closed surface.
pub(super) fn taubin(shape: &mut Shape) {
    let (starts, neighbours) = neighbours(shape);
    let mut moved = shape.points.clone();
    for step in std::iter::repeat_n(STEPS, ROUNDS).flatten() {
        for (i, (to, from)) in moved.iter_mut().zip(&shape.points).enumerate() {
            let around = &neighbours[starts[i]..starts[i + 1]];
            let mut mean = [0.0; 3];
            for &n in around {
                mean.iter_mut().zip(shape.points[n as usize]).for_each(|(m, p)| *m += p);
            }
            for ((to, from), mean) in to.iter_mut().zip(from).zip(mean) {
                *to = from + step * (mean / around.len().max(1) as f64 - from);
            }
        }
        std::mem::swap(&mut shape.points, &mut moved);
    }
}

/// The points that each point has an edge to: of point i those from `starts[i]` to `starts[i + 1]`. On a closed surface
/// each edge is walked once in either direction, so the heads of all edges are the neighbours of their tails.
fn neighbours(shape: &Shape) -> (Vec<usize>, Vec<u32>) {
    let edges = || shape.triangles.iter().flat_map(|&[a, b, c]| [(a, b), (b, c), (c, a)]);
    let mut starts = vec![0; shape.points.len() + 1];
    for (tail, _) in edges() {
        starts[tail as usize + 1] += 1;
    }
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut next = starts.clone();
    let mut heads = vec![0; 3 * shape.triangles.len()];
    for (tail, head) in edges() {
        heads[next[tail as usize]] = head;
        next[tail as usize] += 1;
    }
    (starts, heads)
}

/// The normal of a triangle; its length is twice the area.
fn normal(shape: &Shape, triangle: [u32; 3]) -> [f64; 3] {
    let [a, b, c] = triangle.map(|i| shape.points[i as usize]);
    let u: [f64; 3] = std::array::from_fn(|i| b[i] - a[i]);
    let v: [f64; 3] = std::array::from_fn(|i| c[i] - a[i]);
    [
        u[1] * v[2] - u[2] * v[1],
        u[2] * v[0] - u[0] * v[2],
        u[0] * v[1] - u[1] * v[0],
    ]
}

/// The enclosed volume in mm³, negative for a surface inside out.
pub(super) fn volume(shape: &Shape) -> f64 {
    let six: f64 = shape
        .triangles
        .iter()
        .map(|&t| {
            let corner = shape.points[t[0] as usize];
            normal(shape, t).iter().zip(corner).map(|(n, p)| n * p).sum::<f64>()
        })
        .sum();
    six / 6.0
}

/// Moves all points along their normals, by at most `reach` mm, until the enclosed volume is `wanted`. Gives whether it
/// came to that.
pub(super) fn match_volume(shape: &mut Shape, wanted: f64, reach: f64) -> bool {
    let mut total = 0.0f64;
    for _ in 0..10 {
        let missing = wanted - volume(shape);
        if missing.abs() <= 1e-4 * wanted {
            return true;
        }
        let mut normals = vec![[0.0; 3]; shape.points.len()];
        let mut area = 0.0;
        for &t in &shape.triangles {
            let n = normal(shape, t);
            area += 0.5 * n.iter().map(|v| v * v).sum::<f64>().sqrt();
            for i in t {
                normals[i as usize].iter_mut().zip(n).for_each(|(s, n)| *s += n);
            }
        }
        if area <= 0.0 {
            break;
        }
        let step = (missing / area).clamp(-reach - total, reach - total);
        total += step;
        for (point, n) in shape.points.iter_mut().zip(&normals) {
            let length = n.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length > 0.0 {
                point.iter_mut().zip(n).for_each(|(p, n)| *p += step * n / length);
            }
        }
    }
    (wanted - volume(shape)).abs() <= 1e-2 * wanted
}
