//! From the lines of a header to the place of its voxels.

use super::header::Fields;
use crate::volume::source::{Packing, Source};
use crate::volume::text::{bad_field, beside, extents, grid};
use crate::volume::voxels::DataType;
use crate::volume::{Layout, Opened};
use crate::{IoError, SourceHeader, VolumeFault, Warning};
use viscera_image::Geometry;

/// Most axes that the format has.
const MAX_AXES: usize = 16;

/// Reads the header of a file whose first four bytes were read. The source is then what holds the voxels.
pub(crate) fn open(mut source: Source) -> Result<Opened, IoError> {
    let fields = Fields::read(&mut source)?;
    let mut warnings = Vec::new();
    let understood = understand(&fields, &mut warnings).map_err(|e| source.fault(None, e))?;
    let Understood {
        geometry,
        volumes,
        datatype,
        big_endian,
        packing,
        skip,
    } = understood;
    if let Some(name) = fields.get("data file") {
        beside("data file", name).map_err(|e| source.fault(None, e))?;
        let path = source.path().with_file_name(name);
        if !path.is_file() {
            let expected = name.to_owned();
            return Err(source.fault(None, VolumeFault::MissingHalf { expected }));
        }
        source = Source::plain(&path)?;
    }
    if let Some(packing) = packing {
        source = source.unpack(packing)?;
    }
    let start = match skip {
        Skip::Bytes(bytes) => source.position().saturating_add(bytes),
        Skip::ToTheLast if source.is_plain() => {
            let voxels = geometry.shape.iter().map(|&n| n as u64);
            let bytes = voxels
                .chain([volumes, datatype.bytes() as u64])
                .fold(1, u64::saturating_mul);
            source.file_len().saturating_sub(bytes)
        }
        Skip::ToTheLast => {
            let fault = bad_field("byte skip", "-1", "which only raw voxels can have");
            return Err(source.fault(None, fault));
        }
    };
    Ok(Opened {
        source,
        layout: Layout {
            datatype,
            big_endian,
            scaling: None,
            volumes,
            start,
        },
        header: SourceHeader::from_geometry(&geometry),
        geometry,
        warnings,
    })
}

/// What the fields say.
struct Understood {
    geometry: Geometry,
    volumes: u64,
    datatype: DataType,
    big_endian: bool,
    packing: Option<Packing>,
    skip: Skip,
}

/// What lies between the header and the voxels.
enum Skip {
    Bytes(u64),
    /// As much as there is: the voxels are the file's last bytes.
    ToTheLast,
}

fn understand(fields: &Fields, warnings: &mut Vec<Warning>) -> Result<Understood, VolumeFault> {
    let axes: usize = fields
        .need("dimension")?
        .parse()
        .ok()
        .filter(|n| (1..=MAX_AXES).contains(n))
        .ok_or_else(|| bad_field("dimension", fields.get("dimension").unwrap_or_default(), "not 1 to 16"))?;
    let sizes = fields.need("sizes")?;
    let extent = extents("sizes", sizes)?;
    if extent.len() != axes {
        return Err(bad_field("sizes", sizes, "not one number per axis"));
    }
    let datatype = datatype(fields.need("type")?)?;
    let big_endian = match fields.get("endian").map(str::to_ascii_lowercase).as_deref() {
        Some("little") => false,
        Some("big") => true,
        None if datatype.bytes() == 1 => false,
        None => return Err(VolumeFault::MissingField { field: "endian" }),
        Some(other) => return Err(bad_field("endian", other, "not \"little\" or \"big\"")),
    };
    let encoding = fields.need("encoding")?;
    let packing = match encoding.to_ascii_lowercase().as_str() {
        "raw" => None,
        "gzip" | "gz" => Some(Packing::Gzip),
        _ => {
            let name = encoding.chars().take(80).collect();
            return Err(VolumeFault::UnsupportedEncoding { name });
        }
    };
    if fields.get("line skip").is_some_and(|n| n != "0") {
        let value = fields.get("line skip").unwrap_or_default();
        return Err(bad_field("line skip", value, "and only 0 is read"));
    }
    let skip = match fields.get("byte skip").unwrap_or("0") {
        "-1" => Skip::ToTheLast,
        bytes => Skip::Bytes(
            bytes
                .parse()
                .map_err(|_| bad_field("byte skip", bytes, "not a whole number from −1"))?,
        ),
    };
    let places = places(fields, axes)?;
    let (geometry, volumes) = geometry(fields, &extent, &places, warnings)?;
    Ok(Understood {
        geometry,
        volumes,
        datatype,
        big_endian,
        packing,
        skip,
    })
}

/// The type of a header's voxels, by any of the names that the format allows.
fn datatype(name: &str) -> Result<DataType, VolumeFault> {
    let words: Vec<&str> = name.split_whitespace().collect();
    Ok(match words.join(" ").to_ascii_lowercase().as_str() {
        "uchar" | "unsigned char" | "uint8" | "uint8_t" => DataType::U8,
        "signed char" | "int8" | "int8_t" => DataType::I8,
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" | "uint16_t" => DataType::U16,
        "short" | "short int" | "signed short" | "signed short int" | "int16" | "int16_t" => DataType::I16,
        "uint" | "unsigned int" | "uint32" | "uint32_t" => DataType::U32,
        "int" | "signed int" | "int32" | "int32_t" => DataType::I32,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" | "uint64_t" => DataType::U64,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64"
        | "int64_t" => DataType::I64,
        "float" => DataType::F32,
        "double" => DataType::F64,
        _ => {
            let name = name.chars().take(80).collect();
            return Err(VolumeFault::UnsupportedType { name });
        }
    })
}

/// How each axis runs through space: a vector, only a spacing, or not at all.
enum Place {
    Along([f64; 3]),
    Spacing(f64),
    No,
}

fn places(fields: &Fields, axes: usize) -> Result<Vec<Place>, VolumeFault> {
    if let Some(text) = fields.get("space directions") {
        let bad = || bad_field("space directions", text, "not \"none\" or a vector (a,b,c) per axis");
        let places: Option<Vec<Place>> = vectors(text)
            .into_iter()
            .map(|item| match item {
                "none" => Some(Place::No),
                vector => Some(Place::Along(vector_of(vector)?)),
            })
            .collect();
        return places.filter(|p| p.len() == axes).ok_or_else(bad);
    }
    let spacings = fields.get("spacings").ok_or(VolumeFault::MissingField {
        field: "space directions",
    })?;
    let spacing: Option<Vec<f64>> = spacings
        .split_whitespace()
        .map(|n| n.to_ascii_lowercase().parse().ok())
        .collect();
    let spacing = spacing
        .filter(|s| s.len() == axes)
        .ok_or_else(|| bad_field("spacings", spacings, "not one number per axis"))?;
    let kinds: Vec<&str> = fields.get("kinds").unwrap_or_default().split_whitespace().collect();
    Ok(spacing
        .into_iter()
        .enumerate()
        .map(|(axis, spacing)| match kinds.get(axis) {
            Some(&("domain" | "space" | "???")) => Place::Spacing(spacing),
            None if axis < 3 => Place::Spacing(spacing),
            _ => Place::No,
        })
        .collect())
}

/// The items of a list of vectors, in which spaces may stand inside brackets.
fn vectors(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with('(') {
            rest.find(')').map_or(rest.len(), |at| at + 1)
        } else {
            rest.find(|c: char| c.is_whitespace() || c == '(').unwrap_or(rest.len())
        };
        let (item, behind) = rest.split_at(end);
        items.push(item);
        rest = behind.trim_start();
    }
    items
}

/// The numbers of `(a,b,c)`.
fn vector_of(text: &str) -> Option<[f64; 3]> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let numbers: Option<Vec<f64>> = inner.split(',').map(|n| n.trim().parse().ok()).collect();
    numbers?.try_into().ok()
}

/// The grid of the three axes that have a place, and how many volumes the other axes make.
fn geometry(
    fields: &Fields,
    extent: &[u64],
    places: &[Place],
    warnings: &mut Vec<Warning>,
) -> Result<(Geometry, u64), VolumeFault> {
    let signs = match fields.get("space").map(str::to_ascii_lowercase).as_deref() {
        Some("left-posterior-superior" | "lps") => [-1.0, -1.0, 1.0],
        Some("right-anterior-superior" | "ras") => [1.0; 3],
        Some("left-anterior-superior" | "las") => [-1.0, 1.0, 1.0],
        Some(space) if space.ends_with("time") || ["lpst", "rast", "last"].contains(&space) => {
            return Err(bad_field("space", space, "and only spaces without time are read"));
        }
        // What does not name the body's axes is taken as ITK takes it.
        _ => {
            warnings.push(Warning::NoSpace);
            [-1.0, -1.0, 1.0]
        }
    };
    let mm = unit(fields, warnings);
    let mut columns = Vec::new();
    let (mut inner, mut volumes) = (1u64, 1u64);
    for (place, &n) in places.iter().zip(extent) {
        match *place {
            Place::Along(vector) => columns.push((vector, n)),
            Place::Spacing(spacing) => {
                let mut vector = [0.0; 3];
                if let Some(v) = vector.get_mut(columns.len()) {
                    *v = spacing;
                }
                columns.push((vector, n));
            }
            Place::No if columns.len() < 3 => inner = inner.saturating_mul(n),
            Place::No => volumes = volumes.saturating_mul(n),
        }
    }
    let Ok([i, j, k]) = <[_; 3]>::try_from(columns) else {
        let dim = extent.iter().map(|&n| n as i64).collect();
        return Err(VolumeFault::BadDimensions { dim });
    };
    if inner > 1 {
        return Err(VolumeFault::SeveralValues { count: inner });
    }
    let origin = match fields.get("space origin") {
        Some(text) => vector_of(text).ok_or_else(|| bad_field("space origin", text, "not a vector (a,b,c)"))?,
        None => [0.0; 3],
    };
    let [[ix, iy, iz], [jx, jy, jz], [kx, ky, kz]] = [i.0, j.0, k.0].map(|v| v.map(|v| v * mm));
    let axes = [[ix, jx, kx], [iy, jy, ky], [iz, jz, kz]];
    let geometry = grid([i.1, j.1, k.1], axes, origin.map(|o| o * mm), signs, warnings)?;
    Ok((geometry, volumes))
}

/// Millimetres in the header's unit of length; mm where it names none.
fn unit(fields: &Fields, warnings: &mut Vec<Warning>) -> f64 {
    let units = fields.get("space units").unwrap_or_default();
    let (unit, mm) = match units.split('"').nth(1) {
        Some("m") => ("metres", 1000.0),
        Some("cm") => ("centimetres", 10.0),
        Some("um" | "µm" | "micron") => ("micrometres", 0.001),
        _ => return 1.0,
    };
    warnings.push(Warning::UnitsConverted { unit });
    mm
}
