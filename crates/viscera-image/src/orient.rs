//! Reorientation of a grid by permuting and flipping its axes: no voxel is mixed, and every step has an exact inverse.
//!
//! Codes follow nibabel: one letter per array axis in the order x, y, z, each the side of the body *towards* which the
//! axis grows. "RAS" is the canonical grid of this project; nibabel's `as_closest_canonical` gives the same.

use crate::{Geometry, ImageError, Volume, Voxel};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Edge of the square tiles in which axes are exchanged; 64 × 64 values of 4 bytes fill half of a first-level cache.
const TILE: usize = 64;

/// A side of the body towards which an array axis grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Side {
    /// Component of a world point `[R, A, S]`.
    world: usize,
    /// Whether the axis grows against that component (L, P, I).
    negative: bool,
}

const LETTERS: [[char; 2]; 3] = [['R', 'L'], ['A', 'P'], ['S', 'I']];

/// Towards which sides of the body the array axes grow, as nibabel's axis codes: letters for x, y, z.
///
/// ```
/// use viscera_image::{Geometry, Orientation};
/// let code: Orientation = "LPS".parse()?;
/// assert_eq!(code.to_string(), "LPS");
/// assert_eq!(Orientation::of(&Geometry::ras([3, 4, 5], [1.0; 3])), Orientation::RAS);
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Orientation {
    /// In the order x, y, z; the world components are a permutation.
    sides: [Side; 3],
}

impl Orientation {
    /// x grows to the right, y to the front, z upwards.
    pub const RAS: Self = Self {
        sides: [
            Side {
                world: 0,
                negative: false,
            },
            Side {
                world: 1,
                negative: false,
            },
            Side {
                world: 2,
                negative: false,
            },
        ],
    };

    /// The code closest to a grid's directions, which may be oblique.
    ///
    /// As nibabel's `io_orientation`: array axes choose their world axis from the most to the least clearly aligned one,
    /// ties in the order x, y, z.
    #[must_use]
    pub fn of(geometry: &Geometry) -> Self {
        // Letter order x, y, z is the reverse of array order.
        let direction = [geometry.direction[2], geometry.direction[1], geometry.direction[0]];
        let strength = |axis: usize| direction[axis].iter().fold(0.0f64, |m, d| m.max(d.abs()));
        let mut axes = [0, 1, 2];
        axes.sort_by(|&a, &b| strength(b).total_cmp(&strength(a)));
        let mut sides = Self::RAS.sides;
        let mut free = [true; 3];
        for axis in axes {
            let mut best = None;
            for world in (0..3).filter(|&w| free[w]) {
                let size = direction[axis][world].abs();
                if best.is_none_or(|(_, most)| size > most) {
                    best = Some((world, size));
                }
            }
            if let Some((world, _)) = best {
                free[world] = false;
                sides[axis] = Side {
                    world,
                    negative: direction[axis][world] < 0.0,
                };
            }
        }
        Self { sides }
    }

    /// All 48 codes, in a fixed order that begins with RAS.
    pub fn all() -> impl Iterator<Item = Self> {
        AxisMap::all().map(|map| {
            Self {
                // An axis map read as "code of a grid": any one-to-one assignment serves.
                sides: std::array::from_fn(|letter| Side {
                    world: 2 - map.perm[2 - letter],
                    negative: map.flip[2 - letter],
                }),
            }
        })
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code: String = self
            .sides
            .iter()
            .map(|side| LETTERS[side.world][usize::from(side.negative)])
            .collect();
        f.pad(&code)
    }
}

impl FromStr for Orientation {
    type Err = ImageError;

    /// Reads three letters, one of each of R/L, A/P and S/I, in either case.
    fn from_str(code: &str) -> Result<Self, ImageError> {
        let bad = || ImageError::BadOrientation { code: code.to_owned() };
        let mut sides = Self::RAS.sides;
        let mut seen = [false; 3];
        let mut letters = code.chars();
        for side in &mut sides {
            let letter = letters.next().ok_or_else(bad)?.to_ascii_uppercase();
            let world = LETTERS.iter().position(|pair| pair.contains(&letter)).ok_or_else(bad)?;
            if std::mem::replace(&mut seen[world], true) {
                return Err(bad());
            }
            *side = Side {
                world,
                negative: LETTERS[world][1] == letter,
            };
        }
        if letters.next().is_some() {
            return Err(bad());
        }
        Ok(Self { sides })
    }
}

/// A permutation of the array axes followed by flips: one of 48.
///
/// Output axis `a` is input axis `perm[a]`, run backwards where `flip[a]`.
///
/// ```
/// use viscera_image::{AxisMap, Geometry, Orientation, Volume};
/// // A grid whose x grows to the left.
/// let mut geometry = Geometry::ras([1, 1, 3], [1.0; 3]);
/// geometry.direction[2] = [-1.0, 0.0, 0.0];
/// let volume = Volume::new(geometry, vec![1i16, 2, 3])?;
/// let map = AxisMap::to_ras(volume.geometry());
/// let canonical = map.apply(&volume);
/// assert_eq!(canonical.data(), [3, 2, 1]);
/// assert_eq!(Orientation::of(canonical.geometry()), Orientation::RAS);
/// assert_eq!(map.inverse().apply(&canonical).data(), volume.data());
/// # Ok::<(), viscera_image::ImageError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawAxisMap")]
pub struct AxisMap {
    perm: [usize; 3],
    flip: [bool; 3],
}

#[derive(Deserialize)]
#[serde(rename = "AxisMap", deny_unknown_fields)]
struct RawAxisMap {
    perm: [usize; 3],
    flip: [bool; 3],
}

impl TryFrom<RawAxisMap> for AxisMap {
    type Error = ImageError;

    fn try_from(raw: RawAxisMap) -> Result<Self, ImageError> {
        Self::new(raw.perm, raw.flip)
    }
}

impl AxisMap {
    /// Changes nothing.
    pub const IDENTITY: Self = Self {
        perm: [0, 1, 2],
        flip: [false; 3],
    };

    /// The map whose output axis `a` is input axis `perm[a]`, run backwards where `flip[a]`.
    ///
    /// # Errors
    /// [`ImageError::BadPermutation`] when `perm` does not hold each of 0, 1, 2 once.
    pub fn new(perm: [usize; 3], flip: [bool; 3]) -> Result<Self, ImageError> {
        if (0..3).all(|axis| perm.contains(&axis)) {
            Ok(Self { perm, flip })
        } else {
            Err(ImageError::BadPermutation { perm })
        }
    }

    /// The map that takes a grid of orientation `from` to orientation `to`.
    #[must_use]
    pub fn between(from: Orientation, to: Orientation) -> Self {
        let mut map = Self::IDENTITY;
        for (letter, target) in to.sides.iter().enumerate() {
            for (source, side) in from.sides.iter().enumerate() {
                if side.world == target.world {
                    map.perm[2 - letter] = 2 - source;
                    map.flip[2 - letter] = side.negative != target.negative;
                }
            }
        }
        map
    }

    /// The map that takes a grid to the closest RAS+ one: array x to the right, y to the front, z upwards.
    /// Oblique directions stay oblique; see [`Orientation::of`] for the choice of axes.
    #[must_use]
    pub fn to_ras(geometry: &Geometry) -> Self {
        Self::between(Orientation::of(geometry), Orientation::RAS)
    }

    /// All 48 maps, in a fixed order that begins with the identity.
    pub fn all() -> impl Iterator<Item = Self> {
        const PERMS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        PERMS.into_iter().flat_map(|perm| {
            (0..8).map(move |bits: u8| Self {
                perm,
                flip: std::array::from_fn(|a| bits >> a & 1 == 1),
            })
        })
    }

    /// For each output axis its input axis.
    #[must_use]
    pub fn perm(&self) -> [usize; 3] {
        self.perm
    }

    /// For each output axis whether it runs against its input axis.
    #[must_use]
    pub fn flip(&self) -> [bool; 3] {
        self.flip
    }

    /// The map that undoes this one.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let mut inverse = Self::IDENTITY;
        for axis in 0..3 {
            inverse.perm[self.perm[axis]] = axis;
            inverse.flip[self.perm[axis]] = self.flip[axis];
        }
        inverse
    }

    /// This map, then `next`, as one.
    #[must_use]
    pub fn then(&self, next: Self) -> Self {
        Self {
            perm: std::array::from_fn(|a| self.perm[next.perm[a]]),
            flip: std::array::from_fn(|a| next.flip[a] != self.flip[next.perm[a]]),
        }
    }

    /// The mapped grid: the voxels keep their places in the world.
    #[must_use]
    pub fn geometry(&self, source: &Geometry) -> Geometry {
        let mut corner = [0.0; 3];
        for axis in 0..3 {
            if self.flip[axis] {
                corner[self.perm[axis]] = (source.shape[self.perm[axis]] - 1) as f64;
            }
        }
        Geometry {
            shape: self.perm.map(|a| source.shape[a]),
            spacing: self.perm.map(|a| source.spacing[a]),
            origin: source.world_of(corner),
            direction: std::array::from_fn(|a| {
                let direction = source.direction[self.perm[a]];
                if self.flip[a] {
                    direction.map(|d| 0.0 - d) // no negative zeros
                } else {
                    direction
                }
            }),
        }
    }

    /// The mapped volume. Every voxel keeps its value and its place in the world.
    #[must_use]
    pub fn apply<T: Voxel>(&self, volume: &Volume<T>) -> Volume<T> {
        let geometry = self.geometry(volume.geometry());
        let data = if *self == Self::IDENTITY {
            volume.data().to_vec()
        } else {
            self.apply_data(volume.data(), volume.shape())
        };
        Volume::from_valid(geometry, data)
    }

    /// The same without a second volume, for a map that exchanges no axes; `false`, and nothing done, for others.
    #[must_use]
    pub fn apply_in_place<T: Voxel>(&self, volume: &mut Volume<T>) -> bool {
        if self.perm != Self::IDENTITY.perm {
            return false;
        }
        let [depth, _, width] = volume.shape();
        let geometry = self.geometry(volume.geometry());
        let [z, y, x] = self.flip;
        let plane = volume.data().len() / depth.max(1);
        let data = volume.data_mut();
        if y || x {
            data.par_chunks_mut(plane.max(1)).for_each(|plane| {
                // All backwards turns both axes; rows backwards turn x, so both turn y.
                if y {
                    plane.reverse();
                }
                if x != y {
                    plane.chunks_exact_mut(width.max(1)).for_each(<[T]>::reverse);
                }
            });
        }
        if z {
            let (front, back) = data.split_at_mut(depth / 2 * plane);
            let back = back.par_rchunks_exact_mut(plane.max(1));
            let pairs = front.par_chunks_exact_mut(plane.max(1)).zip(back);
            pairs.for_each(|(a, b)| a.swap_with_slice(b));
        }
        // Made of a valid one, of the same shape.
        volume.set_geometry(geometry).is_ok()
    }

    fn apply_data<T: Voxel>(&self, data: &[T], shape: [usize; 3]) -> Vec<T> {
        let strides = [shape[1] * shape[2], shape[2], 1];
        let [_, ny, nx] = self.perm.map(|a| shape[a]);
        // Where in the input one step along each output axis leads, and where its voxel [0, 0, 0] lies.
        let steps: [isize; 3] = std::array::from_fn(|a| {
            let stride = strides[self.perm[a]] as isize;
            if self.flip[a] { -stride } else { stride }
        });
        let first: isize = (0..3)
            .filter(|&a| self.flip[a])
            .map(|a| ((shape[self.perm[a]] - 1) * strides[self.perm[a]]) as isize)
            .sum();

        let mut out = vec![T::default(); data.len()];
        if self.perm[2] == 2 {
            // Rows stay rows.
            out.par_chunks_mut(nx)
                .enumerate()
                .with_min_len(64)
                .for_each(|(row, out)| {
                    let start = first + (row / ny) as isize * steps[0] + (row % ny) as isize * steps[1];
                    copy_run(data, start, self.flip[2], out);
                });
            return out;
        }
        // Input rows run along output axis z or y. Tiles of that axis and of output x are read by input rows into a
        // small buffer and written by output rows, so that each cache line is fetched once.
        let along_z = self.perm[0] == 2;
        let depth = if along_z { TILE } else { 1 };
        let row_stride = if along_z { ny * nx } else { nx };
        let along = usize::from(!along_z);
        out.par_chunks_mut(depth * ny * nx).enumerate().for_each(|(slab, out)| {
            let mut tile = [T::default(); TILE * TILE];
            let z0 = slab * depth;
            let (rows_total, others) = if along_z { (out.len() / (ny * nx), ny) } else { (ny, 1) };
            for other in 0..others {
                for row0 in (0..rows_total).step_by(TILE) {
                    let rows = TILE.min(rows_total - row0);
                    let [y0, offset] = if along_z {
                        [other, other * nx]
                    } else {
                        [row0, row0 * nx]
                    };
                    for x0 in (0..nx).step_by(TILE) {
                        let cols = TILE.min(nx - x0);
                        let corner = first + z0 as isize * steps[0] + y0 as isize * steps[1] + x0 as isize * steps[2];
                        for (c, column) in tile.chunks_exact_mut(TILE).take(cols).enumerate() {
                            let start = corner + c as isize * steps[2];
                            copy_run(data, start, self.flip[along], &mut column[..rows]);
                        }
                        for r in 0..rows {
                            let at = offset + r * row_stride + x0;
                            for (c, value) in out[at..at + cols].iter_mut().enumerate() {
                                *value = tile[c * TILE + r];
                            }
                        }
                    }
                }
            }
        });
        out
    }
}

/// Fills `out` with the input values that begin at `start` and run forwards or backwards.
fn copy_run<T: Copy>(data: &[T], start: isize, backwards: bool, out: &mut [T]) {
    let n = out.len();
    let start = start as usize; // a corner of the grid: never negative
    if backwards {
        for (o, i) in out.iter_mut().zip(data[start + 1 - n..=start].iter().rev()) {
            *o = *i;
        }
    } else {
        out.copy_from_slice(&data[start..start + n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A turned, shifted grid.
    fn oblique(shape: [usize; 3]) -> Geometry {
        let (s, c) = 0.3f64.sin_cos();
        Geometry {
            shape,
            spacing: [2.5, 0.8, 0.7],
            origin: [-100.0, 50.0, 7.0],
            direction: [[0.0, -s, c], [0.0, c, s], [1.0, 0.0, 0.0]],
        }
    }

    fn numbered(geometry: Geometry) -> Volume<u32> {
        let n = geometry.len() as u32;
        Volume::new(geometry, (0..n).collect()).unwrap()
    }

    /// Checks every voxel by its place in the world, and the way back.
    fn check(map: AxisMap, volume: &Volume<u32>) {
        let out = map.apply(volume);
        let [nz, ny, nx] = out.shape();
        for z in 0..nz {
            for y in 0..ny {
                for x in 0..nx {
                    let world = out.geometry().world_of([z as f64, y as f64, x as f64]);
                    let index = volume.geometry().index_of(world);
                    assert!(index.iter().all(|i| (i - i.round()).abs() < 1e-6), "{map:?}");
                    let index = index.map(|i| i.round() as usize);
                    assert_eq!(out.get([z, y, x]), volume.get(index), "{map:?} at {:?}", [z, y, x]);
                }
            }
        }
        let mut in_place = volume.clone();
        let flips = map.perm() == AxisMap::IDENTITY.perm();
        assert_eq!(map.apply_in_place(&mut in_place), flips);
        let expected = if flips { &out } else { volume };
        assert_eq!(in_place.data(), expected.data(), "{map:?}");
        assert_eq!(in_place.geometry(), expected.geometry(), "{map:?}");
        let back = map.inverse().apply(&out);
        assert_eq!(back.data(), volume.data(), "{map:?}");
        assert!(back.geometry().same_grid(volume.geometry(), 1e-9), "{map:?}");
    }

    #[test]
    fn all_48_maps_keep_every_voxel_in_its_place() {
        // Longer than a tile along every axis in turn.
        for shape in [[3, 4, 5], [TILE + 3, 2, TILE + 1], [2, TILE + 1, TILE + 9], [1, 1, 7]] {
            let volume = numbered(oblique(shape));
            AxisMap::all().for_each(|map| check(map, &volume));
        }
    }

    #[test]
    fn all_48_maps_lead_to_one_canonical_volume() {
        let volume = numbered(oblique([3, 4, 5]));
        let canonical = AxisMap::to_ras(volume.geometry()).apply(&volume);
        assert_eq!(Orientation::of(canonical.geometry()), Orientation::RAS);
        for map in AxisMap::all() {
            let turned = map.apply(&volume);
            let again = AxisMap::to_ras(turned.geometry()).apply(&turned);
            assert_eq!(again.data(), canonical.data(), "{map:?}");
            assert!(again.geometry().same_grid(canonical.geometry(), 1e-9), "{map:?}");
        }
    }

    #[test]
    fn maps_form_a_group() {
        let maps: Vec<AxisMap> = AxisMap::all().collect();
        let distinct: std::collections::HashSet<_> = maps.iter().collect();
        assert_eq!(distinct.len(), 48);
        assert_eq!(maps[0], AxisMap::IDENTITY);
        let volume = numbered(oblique([2, 3, 4]));
        for &a in &maps {
            assert_eq!(a.then(a.inverse()), AxisMap::IDENTITY);
            for &b in &maps {
                assert_eq!(a.then(b).apply(&volume).data(), b.apply(&a.apply(&volume)).data());
            }
        }
    }

    #[test]
    fn codes_print_parse_and_map() {
        let codes: Vec<Orientation> = Orientation::all().collect();
        assert_eq!(codes[0], Orientation::RAS);
        let distinct: std::collections::HashSet<String> = codes.iter().map(ToString::to_string).collect();
        assert_eq!(distinct.len(), 48);
        let ras = Geometry::ras([2, 3, 4], [1.0; 3]);
        for code in codes {
            assert_eq!(code.to_string().parse::<Orientation>().unwrap(), code);
            let mapped = AxisMap::between(Orientation::RAS, code).geometry(&ras);
            assert_eq!(Orientation::of(&mapped), code);
        }
        // Letters are x, y, z: "PIR" has x growing backwards, z to the right.
        let pir = AxisMap::between(Orientation::RAS, "PIR".parse().unwrap()).geometry(&ras);
        assert_eq!(pir.direction[2], [0.0, -1.0, 0.0]);
        assert_eq!(pir.direction[0], [1.0, 0.0, 0.0]);
    }

    #[test]
    fn wrong_codes_and_permutations_are_errors() {
        for code in ["", "RA", "RASS", "RLS", "RAX", "RÀS"] {
            assert!(
                matches!(code.parse::<Orientation>(), Err(ImageError::BadOrientation { .. })),
                "{code}"
            );
        }
        assert!(AxisMap::new([0, 1, 1], [false; 3]).is_err());
        assert!(AxisMap::new([0, 1, 3], [false; 3]).is_err());
        assert!(serde_json::from_str::<AxisMap>(r#"{"perm":[2,2,0],"flip":[true,false,false]}"#).is_err());
        let map = AxisMap::new([2, 0, 1], [true, false, true]).unwrap();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<AxisMap>(&text).unwrap(), map);
    }

    proptest! {
        #[test]
        fn any_shape_and_map(shape in [1usize..9, 1usize..9, 1usize..80], which in 0usize..48) {
            let map = AxisMap::all().nth(which).unwrap();
            check(map, &numbered(oblique(shape)));
        }
    }
}
