//! MetaImage (<https://itk.org/Wiki/ITK/MetaIO/Documentation>): `.mha`, and `.mhd` with its data file. World points are
//! left-posterior-superior.

use crate::volume::source::{Packing, Source};
use crate::volume::text::{MAX_HEADER, bad_field, beside, extents, grid, numbers};
use crate::volume::voxels::DataType;
use crate::volume::{Layout, Opened};
use crate::{IoError, SourceHeader, VolumeFault, Warning};
use std::collections::BTreeMap;
use std::path::Path;
use viscera_image::Geometry;

/// Whether a file with these first bytes is a MetaImage: the format has no magic, but most begin with `ObjectType`.
pub(crate) fn begins(path: &Path, first: [u8; 4]) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    first == *b"Obje" || matches!(ending.as_deref(), Some("mha" | "mhd")) && first.iter().all(u8::is_ascii_graphic)
}

/// The header's fields by name.
struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Reads the lines up to the one that says where the data lie, which is the last.
    fn read(source: &mut Source, first: [u8; 4]) -> Result<Self, IoError> {
        let mut fields = BTreeMap::new();
        let mut left = MAX_HEADER;
        for line in 1.. {
            let bad = |source: &Source, reason| Err(source.fault(None, VolumeFault::BadHeader { line, reason }));
            let Some(mut text) = source.line(left)? else {
                return Err(source.truncated(source.position() + 1));
            };
            left = left.saturating_sub(text.len() + 1);
            if left == 0 {
                return bad(source, "is too long");
            }
            if line == 1 {
                text.insert_str(0, &String::from_utf8_lossy(&first));
            }
            if text.trim().is_empty() {
                continue;
            }
            let Some((name, value)) = text.split_once('=') else {
                return bad(source, "has no equals sign");
            };
            let name = name.trim().to_owned();
            let last = name == "ElementDataFile";
            if fields.insert(name, value.trim().to_owned()).is_some() {
                return bad(source, "repeats a field");
            }
            if last {
                break;
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    fn need(&self, field: &'static str) -> Result<&str, VolumeFault> {
        self.get(field).ok_or(VolumeFault::MissingField { field })
    }

    /// A field that is true or false; false where it is missing.
    fn flag(&self, field: &str) -> bool {
        self.get(field)
            .is_some_and(|v| v.starts_with(['T', 't', '1', 'Y', 'y']))
    }

    /// A number, or what stands for it where the field is missing.
    fn number(&self, field: &'static str, missing: f64) -> Result<f64, VolumeFault> {
        self.get(field)
            .map_or(Ok(missing), |text| numbers(field, text).map(|[n]: [f64; 1]| n))
    }
}

/// Reads the header of a file whose first four bytes were read. The source is then what holds the voxels.
pub(crate) fn open(mut source: Source, first: [u8; 4]) -> Result<Opened, IoError> {
    let fields = Fields::read(&mut source, first)?;
    let mut warnings = Vec::new();
    let understood = understand(&fields, &mut warnings).map_err(|e| source.fault(None, e))?;
    let (geometry, datatype, volumes, scaling) = understood;
    let file = fields.get("ElementDataFile").unwrap_or_default();
    if !["LOCAL", "Local", "local"].contains(&file) {
        beside("ElementDataFile", file).map_err(|e| source.fault(None, e))?;
        let path = source.path().with_file_name(file);
        if !path.is_file() {
            let expected = file.to_owned();
            return Err(source.fault(None, VolumeFault::MissingHalf { expected }));
        }
        source = Source::plain(&path)?;
    }
    let header_size = fields.number("HeaderSize", 0.0).map_err(|e| source.fault(None, e))?;
    let voxels = geometry.shape.iter().map(|&n| n as u64);
    let bytes = voxels
        .chain([volumes, datatype.bytes() as u64])
        .fold(1, u64::saturating_mul);
    let start = if fields.flag("CompressedData") {
        source = source.unpack(Packing::Zlib)?;
        0
    } else if header_size < 0.0 && source.is_plain() {
        source.file_len().saturating_sub(bytes)
    } else {
        source.position().saturating_add(header_size.max(0.0) as u64)
    };
    Ok(Opened {
        source,
        layout: Layout {
            datatype,
            big_endian: fields.flag("BinaryDataByteOrderMSB") || fields.flag("ElementByteOrderMSB"),
            scaling,
            volumes,
            start,
        },
        header: SourceHeader::from_geometry(&geometry),
        geometry,
        warnings,
    })
}

type Understood = (Geometry, DataType, u64, Option<(f64, f64)>);

fn understand(fields: &Fields, warnings: &mut Vec<Warning>) -> Result<Understood, VolumeFault> {
    if let Some(other) = fields.get("ObjectType").filter(|t| *t != "Image") {
        return Err(bad_field("ObjectType", other, "not \"Image\""));
    }
    if fields.get("BinaryData").is_some() && !fields.flag("BinaryData") {
        let name = "text".to_owned();
        return Err(VolumeFault::UnsupportedEncoding { name });
    }
    let channels = fields.number("ElementNumberOfChannels", 1.0)?;
    if channels != 1.0 {
        let count = channels.max(0.0) as u64;
        return Err(VolumeFault::SeveralValues { count });
    }
    let sizes = fields.need("DimSize")?;
    let (extent, volumes) = match extents("DimSize", sizes)?[..] {
        [x, y, z] => ([x, y, z], 1),
        [x, y, z, t] => ([x, y, z], t),
        _ => return Err(bad_field("DimSize", sizes, "not three or four numbers")),
    };
    let datatype = datatype(fields.need("ElementType")?)?;
    let spacing = match fields.get("ElementSpacing").or_else(|| fields.get("ElementSize")) {
        Some(text) => three("ElementSpacing", text, volumes > 1)?,
        None => {
            return Err(VolumeFault::MissingField {
                field: "ElementSpacing",
            });
        }
    };
    if spacing.iter().any(|s| *s == 0.0 || !s.is_finite()) {
        return Err(VolumeFault::BadSpacing { spacing });
    }
    if spacing.iter().any(|s| *s < 0.0) {
        warnings.push(Warning::NegativeSpacing);
    }
    let named = |names: [&str; 3]| names.into_iter().find_map(|name| fields.get(name));
    let origin = match named(["Offset", "Position", "Origin"]) {
        Some(text) => three("Offset", text, volumes > 1)?,
        None => [0.0; 3],
    };
    let [a, b, c] = match named(["TransformMatrix", "Rotation", "Orientation"]) {
        Some(text) if volumes > 1 => {
            let [ax, ay, az, _, bx, by, bz, _, cx, cy, cz, ..]: [f64; 16] = numbers("TransformMatrix", text)?;
            [[ax, ay, az], [bx, by, bz], [cx, cy, cz]]
        }
        Some(text) => {
            let [ax, ay, az, bx, by, bz, cx, cy, cz] = numbers("TransformMatrix", text)?;
            [[ax, ay, az], [bx, by, bz], [cx, cy, cz]]
        }
        None => {
            warnings.push(Warning::NoSpace);
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        }
    };
    // Each triple of the matrix is the direction of one axis.
    let [sa, sb, sc] = spacing.map(f64::abs);
    let [ax, ay, az] = a.map(|v| v * sa);
    let [bx, by, bz] = b.map(|v| v * sb);
    let [cx, cy, cz] = c.map(|v| v * sc);
    let axes = [[ax, bx, cx], [ay, by, cy], [az, bz, cz]];
    let geometry = grid(extent, axes, origin, [-1.0, -1.0, 1.0], warnings)?;
    let slope = fields.number("ElementToIntensityFunctionSlope", 1.0)?;
    let inter = fields.number("ElementToIntensityFunctionOffset", 0.0)?;
    if slope != 0.0 && slope.is_finite() && !inter.is_finite() {
        return Err(VolumeFault::BadScaling { slope, inter });
    }
    let scaling = (slope != 0.0 && slope.is_finite() && (slope, inter) != (1.0, 0.0)).then_some((slope, inter));
    Ok((geometry, datatype, volumes, scaling))
}

/// The first three numbers of a field with one per axis.
fn three(field: &'static str, text: &str, four: bool) -> Result<[f64; 3], VolumeFault> {
    if four {
        numbers(field, text).map(|[x, y, z, _]: [f64; 4]| [x, y, z])
    } else {
        numbers(field, text)
    }
}

/// The type of a header's voxels.
fn datatype(name: &str) -> Result<DataType, VolumeFault> {
    Ok(match name {
        "MET_CHAR" => DataType::I8,
        "MET_UCHAR" => DataType::U8,
        "MET_SHORT" => DataType::I16,
        "MET_USHORT" => DataType::U16,
        // "long" has four bytes in the format, whatever a compiler says.
        "MET_INT" | "MET_LONG" => DataType::I32,
        "MET_UINT" | "MET_ULONG" => DataType::U32,
        "MET_LONG_LONG" => DataType::I64,
        "MET_ULONG_LONG" => DataType::U64,
        "MET_FLOAT" => DataType::F32,
        "MET_DOUBLE" => DataType::F64,
        _ => {
            let name = name.chars().take(80).collect();
            return Err(VolumeFault::UnsupportedType { name });
        }
    })
}
