//! Protocol buffers' wire format: reading fields from a slice without copying, and writing them.

/// Wire type of a value with its length before it.
const BYTES: u8 = 2;

/// One field's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    /// An integer, bool or enum.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A string, bytes, message or packed array.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

impl<'a> Field<'a> {
    /// The integer of an int64, int32 or enum field.
    pub(super) fn int(self) -> Result<i64, String> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            _ => Err("an integer field has another wire type".to_owned()),
        }
    }

    /// The float of a float field.
    pub(super) fn float(self) -> Result<f32, String> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err("a float field has another wire type".to_owned()),
        }
    }

    /// The content of a bytes or message field.
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err("a message or bytes field has another wire type".to_owned()),
        }
    }

    /// The text of a string field.
    pub(super) fn text(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a name is not UTF-8".to_owned())
    }

    /// Appends the integers of a repeated field, packed or one by one.
    pub(super) fn ints(self, into: &mut Vec<i64>) -> Result<(), String> {
        match self {
            Self::Varint(value) => into.push(value.cast_signed()),
            Self::Bytes(bytes) => {
                let mut reader = Reader::new(bytes);
                while !reader.rest.is_empty() {
                    into.push(reader.varint()?.cast_signed());
                }
            }
            _ => return Err("a list of integers has another wire type".to_owned()),
        }
        Ok(())
    }

    /// Appends the floats of a repeated field, packed or one by one.
    pub(super) fn floats(self, into: &mut Vec<f32>) -> Result<(), String> {
        match self {
            Self::Fixed32(bytes) => into.push(f32::from_le_bytes(bytes)),
            Self::Bytes(bytes) if bytes.len().is_multiple_of(4) => {
                into.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)));
            }
            _ => return Err("a list of floats has another wire type or a broken length".to_owned()),
        }
        Ok(())
    }

    /// Appends the doubles of a repeated field, rounded to f32.
    pub(super) fn doubles(self, into: &mut Vec<f32>) -> Result<(), String> {
        match self {
            Self::Fixed64(bytes) => into.push(f64::from_le_bytes(bytes) as f32),
            Self::Bytes(bytes) if bytes.len().is_multiple_of(8) => {
                into.extend(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32));
            }
            _ => return Err("a list of doubles has another wire type or a broken length".to_owned()),
        }
        Ok(())
    }
}

/// Walks the fields of one message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field and its number; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(self.array()?),
            2 => {
                let length = self.varint()?;
                let here = self.rest.len();
                let (bytes, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|n| self.rest.split_at_checked(n))
                    .ok_or_else(|| format!("a field says it has {length} bytes where {here} are left"))?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(self.array()?),
            kind => return Err(format!("a field has wire type {kind}, which is not used in ONNX")),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or("the file ends inside a number")?;
            self.rest = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits".to_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or("the file ends inside a number")?;
        self.rest = rest;
        Ok(*bytes)
    }
}

/// A message under construction. Methods append a field and give the message back.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The message's bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// An integer, bool or enum field.
    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value.cast_unsigned());
        self
    }

    /// A float field.
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A string field.
    pub(super) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message field.
    pub(super) fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A bytes field.
    pub(super) fn bytes(self, field: u64, value: &[u8]) -> Self {
        self.two_parts(field, value, &[])
    }

    /// A message field whose content comes in two parts, so that a large second one is copied once.
    pub(super) fn two_parts(mut self, field: u64, first: &[u8], second: &[u8]) -> Self {
        self.varint(field << 3 | u64::from(BYTES));
        self.varint((first.len() + second.len()) as u64);
        self.0.extend(first);
        self.0.extend(second);
        self
    }

    /// The tag and length before a message field of `length` bytes, whose content the caller writes behind it.
    pub(super) fn head(mut self, field: u64, length: usize) -> Self {
        self.varint(field << 3 | u64::from(BYTES));
        self.varint(length as u64);
        self
    }

    /// A packed list of integers.
    pub(super) fn ints(self, field: u64, values: &[i64]) -> Self {
        let mut packed = Self::new();
        for &value in values {
            packed.varint(value.cast_unsigned());
        }
        self.message(field, &packed)
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7F {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        let values = [0, 1, 127, 128, -1, i64::MIN, i64::MAX];
        let message = Message::new().ints(1, &values).float(2, -0.5).text(3, "é").into_bytes();
        let mut reader = Reader::new(&message);
        let mut found = Vec::new();
        reader.next().unwrap().unwrap().1.ints(&mut found).unwrap();
        assert_eq!(found, values);
        assert_eq!(reader.next().unwrap().unwrap().1.float().unwrap(), -0.5);
        assert_eq!(reader.next().unwrap().unwrap().1.text().unwrap(), "é");
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn lies_are_errors() {
        for (bytes, word) in [
            (&[0x0A, 0x05, 1][..], "5 bytes"),
            (&[0x08], "ends inside"),
            (&[0xFF; 11], "64 bits"),
            (&[0x0B], "wire type 3"),
            (&[0x0D, 1, 2], "ends inside"),
        ] {
            let error = Reader::new(bytes).next().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
