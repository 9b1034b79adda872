//! Numbers, sizes and triples, as they are typed.

pub(super) fn whole(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("a whole number from 1 to 10000".to_owned()),
    }
}

/// Three numbers joined by commas.
pub(super) fn triple<T: std::str::FromStr>(text: &str) -> Result<[T; 3], String> {
    let parts: Vec<T> = text
        .split(',')
        .map(|part| part.trim().parse().map_err(|_| format!("\"{part}\" is no number")))
        .collect::<Result<_, _>>()?;
    parts
        .try_into()
        .map_err(|parts: Vec<T>| format!("{} numbers instead of three (Z,Y,X)", parts.len()))
}

/// A count of at least one.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("\"{text}\" is no whole number")),
    }
}

/// Bytes from a number with a unit; units are powers of 1024.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("\"{text}\" is no size such as 2G or 1500M"))?;
    let unit = unit.trim().to_ascii_uppercase();
    let factor = match unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit) {
        "K" => 1u64 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return Err(format!("\"{text}\" has no unit: K, M, G or T")),
    };
    Ok((number * factor as f64) as u64)
}

pub(super) fn spacing(text: &str) -> Result<[f64; 3], String> {
    let spacing = triple::<f64>(text)?;
    if spacing.iter().all(|s| (0.1..=50.0).contains(s)) {
        Ok(spacing)
    } else {
        Err("a spacing lies between 0.1 and 50 mm".to_owned())
    }
}

pub(super) fn shape(text: &str) -> Result<[usize; 3], String> {
    let shape = triple::<usize>(text)?;
    if shape.iter().all(|s| (8..=2048).contains(s)) {
        Ok(shape)
    } else {
        Err("an extent lies between 8 and 2048 voxels".to_owned())
    }
}

/// Voxels of a network's input.
pub(super) fn extent(text: &str) -> Result<[usize; 3], String> {
    let extent = triple::<usize>(text)?;
    if extent.iter().all(|s| (1..=2048).contains(s)) {
        Ok(extent)
    } else {
        Err("an extent lies between 1 and 2048 voxels".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("2G", 2 << 30),
            ("1.5 GiB", 3 << 29),
            ("800m", 800 << 20),
            ("64KB", 64 << 10),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for text in ["2", "G", "-1G", "1.2.3G", "2X", "", "1e3G"] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn triples() {
        assert_eq!(spacing("2.5, 1,1"), Ok([2.5, 1.0, 1.0]));
        assert!(spacing("1,1").is_err() && spacing("1,1,0").is_err() && spacing("1,1,NaN").is_err());
        assert!(shape("8,8,4000").is_err() && shape("8,8,x").is_err());
    }
}
