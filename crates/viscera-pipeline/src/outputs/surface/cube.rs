//! How a surface runs through a cell with eight corners, each inside or outside.
//!
//! The table is computed, not copied. On each face of the cell, a line goes around every run of inside corners; where
//! two inside corners lie across from each other, they are kept apart. Both cells of a face see the same lines, so the
//! surface is closed, and as each edge of the grid is crossed once, no two sheets share an edge.

/// Corner `c` of a cell lies at x = bit 0, y = bit 1, z = bit 2 of `c`.
const FACES: [[u8; 4]; 6] = [
    // Counter-clockwise as seen from outside the cell.
    [0, 4, 6, 2],
    [1, 3, 7, 5],
    [0, 1, 5, 4],
    [2, 6, 7, 3],
    [0, 2, 3, 1],
    [4, 5, 7, 6],
];

/// An edge of a cell: its lower corner, and its axis (0 = x, 1 = y, 2 = z).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) corner: u8,
    pub(super) axis: u8,
}

impl Edge {
    fn between(a: u8, b: u8) -> Self {
        Self {
            corner: a.min(b),
            axis: (a ^ b).trailing_zeros() as u8,
        }
    }

    /// Whether both edges lie in one face.
    fn shares_face(self, other: Self) -> bool {
        let ends = |e: Self| [e.corner, e.corner | 1 << e.axis];
        FACES
            .iter()
            .any(|face| ends(self).iter().chain(&ends(other)).all(|c| face.contains(c)))
    }
}

/// A closed line over the faces of a cell, counter-clockwise as seen from outside the organ.
#[derive(Debug, Clone)]
pub(super) struct Loop {
    /// The edges of the cell that it crosses.
    pub(super) edges: Vec<Edge>,
    /// Whether triangles from the first edge would lie in a face, where a neighbour's could meet them; then they go out
    /// from a point in the middle.
    pub(super) from_middle: bool,
}

/// The loops for each of the 256 cells; bit `c` of the index says that corner `c` is inside.
pub(super) fn table() -> Vec<Vec<Loop>> {
    (0..=255).map(loops).collect()
}

fn loops(cell: u8) -> Vec<Loop> {
    let inside = |corner: u8| cell >> corner & 1 == 1;
    // A line on a face from the edge before a run of inside corners to the edge behind it.
    let mut lines: Vec<(Edge, Edge)> = Vec::new();
    for [a, b, c, d] in FACES {
        let ring = [a, b, c, d, a, b, c, d];
        for at in 0..4 {
            if inside(ring[at]) || !inside(ring[at + 1]) {
                continue;
            }
            let run = (at + 1..at + 4).take_while(|&i| inside(ring[i])).count();
            let end = at + run;
            lines.push((
                Edge::between(ring[at], ring[at + 1]),
                Edge::between(ring[end], ring[end + 1]),
            ));
        }
    }
    let mut loops = Vec::new();
    while let Some((first, mut next)) = lines.pop() {
        let mut edges = vec![first];
        while next != first {
            edges.push(next);
            // Each crossed edge begins one line and ends one.
            let Some(at) = lines.iter().position(|(from, _)| *from == next) else {
                break;
            };
            next = lines.swap_remove(at).1;
        }
        loops.push(fan(edges));
    }
    loops
}

/// Begins a loop at an edge from which all triangles run through the cell, if there is one.
fn fan(mut edges: Vec<Edge>) -> Loop {
    let n = edges.len();
    for _ in 0..n {
        let apart = |i: usize| !edges[0].shares_face(edges[i]);
        if (2..n.saturating_sub(1)).all(apart) {
            return Loop {
                edges,
                from_middle: false,
            };
        }
        edges.rotate_left(1);
    }
    Loop {
        edges,
        from_middle: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell: each edge between an inside and an outside corner is crossed once, no other is.
    #[test]
    fn all_cells_are_cut_where_they_must_be() {
        for (cell, loops) in table().iter().enumerate() {
            let mut crossed = Vec::new();
            for corner in 0u8..8 {
                for axis in 0..3 {
                    let other = corner ^ 1 << axis;
                    if corner < other && (cell >> corner ^ cell >> other) & 1 == 1 {
                        crossed.push((corner, axis));
                    }
                }
            }
            let mut found: Vec<(u8, u8)> = loops
                .iter()
                .flat_map(|l| l.edges.iter().map(|e| (e.corner, e.axis)))
                .collect();
            found.sort_unstable();
            crossed.sort_unstable();
            assert_eq!(found, crossed, "{cell:08b}");
            assert!(loops.iter().all(|l| l.edges.len() >= 3));
        }
    }

    #[test]
    fn the_surface_around_one_corner_looks_away_from_it() {
        let table = table();
        let axes: Vec<u8> = table[1][0].edges.iter().map(|e| e.axis).collect();
        // From x to y to z is counter-clockwise as seen from far along (1, 1, 1).
        let x = axes.iter().position(|a| *a == 0).unwrap();
        assert_eq!([axes[(x + 1) % 3], axes[(x + 2) % 3]], [1, 2]);
        // Two corners across a face are two surfaces.
        assert_eq!(table[0b1001].len(), 2);
    }
}
