//! The values of one parameter, wherever they lie.

use half::bf16;
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, OnceLock};

/// Bytes that several may read: a mapped file, an array.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Four bytes, exact.
    F32,
    /// Two bytes, rounded to nearest even.
    Bf16,
}

/// An array of f32 that is cheap to clone: clones share the values until one of them is written to, which then gets a
/// copy of its own.
///
/// Values from a file are read when they are first looked at: f32 where they lie, if the place is aligned; else they are
/// decoded once.
#[derive(Clone, Default)]
pub struct Values {
    own: Arc<Vec<f32>>,
    /// Stands for `own` where it is given.
    stored: Option<Arc<Stored>>,
}

struct Stored {
    bytes: SharedBytes,
    range: Range<usize>,
    storage: Storage,
    decoded: OnceLock<Vec<f32>>,
}

impl Storage {
    /// Bytes of a value.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl Stored {
    fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref().get(self.range.clone()).unwrap_or_default()
    }

    fn len(&self) -> usize {
        self.bytes().len() / self.storage.bytes()
    }

    fn values(&self) -> &[f32] {
        let bytes = self.bytes();
        let in_place = self.storage == Storage::F32 && cfg!(target_endian = "little");
        if let (true, Ok(values)) = (in_place, bytemuck::try_cast_slice(bytes)) {
            return values;
        }
        self.decoded.get_or_init(|| match self.storage {
            Storage::F32 => decode(bytes, f32::from_le_bytes),
            Storage::Bf16 => decode(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        })
    }
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| value(*b)).collect()
}

impl Values {
    /// Little-endian values in a range of shared bytes. What lies outside of the bytes is not there.
    #[must_use]
    pub fn stored(bytes: SharedBytes, range: Range<usize>, storage: Storage) -> Self {
        let stored = Stored {
            bytes,
            range,
            storage,
            decoded: OnceLock::new(),
        };
        Self {
            own: Arc::default(),
            stored: Some(Arc::new(stored)),
        }
    }

    /// How many there are. Nothing is decoded for it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stored.as_ref().map_or(self.own.len(), |stored| stored.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.stored.as_ref().map_or(&self.own, |stored| stored.values())
    }
}

impl DerefMut for Values {
    fn deref_mut(&mut self) -> &mut [f32] {
        if let Some(stored) = self.stored.take() {
            self.own = Arc::new(stored.values().to_vec());
        }
        let own: &mut Vec<f32> = Arc::make_mut(&mut self.own);
        own
    }
}

impl AsRef<[f32]> for Values {
    fn as_ref(&self) -> &[f32] {
        self
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Self {
        Self {
            own: Arc::new(values),
            stored: None,
        }
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<T: IntoIterator<Item = f32>>(values: T) -> Self {
        values.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T: AsRef<[f32]>> PartialEq<T> for Values {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [f32; 3] = [1.5, -0.25, 3.0];

    #[test]
    fn stored_values_are_the_same_at_any_place_and_in_either_storage() {
        let wide: Vec<u8> = NUMBERS.iter().flat_map(|v| v.to_le_bytes()).collect();
        let half: Vec<u8> = NUMBERS.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
        for (bytes, storage) in [(wide, Storage::F32), (half, Storage::Bf16)] {
            // At least three of these places are not aligned.
            for before in 0..4 {
                let shared: SharedBytes = Arc::new([vec![7; before], bytes.clone(), vec![9; 4]].concat());
                let values = Values::stored(shared, before..before + bytes.len(), storage);
                assert_eq!(values.len(), 3);
                assert_eq!(values, NUMBERS);
            }
        }
    }

    #[test]
    fn aligned_values_are_read_where_they_lie() {
        let bytes: SharedBytes = Arc::new([0u8; 64]);
        let start = (*bytes).as_ref().as_ptr().align_offset(4);
        let values = Values::stored(Arc::clone(&bytes), start..start + 32, Storage::F32);
        let place = (*bytes).as_ref()[start..].as_ptr();
        assert_eq!((values.len(), values.as_ptr().cast()), (8, place));
        assert_eq!(values.clone().as_ptr(), values.as_ptr());
    }

    #[test]
    fn a_write_changes_one_clone_only() {
        let bytes: SharedBytes = Arc::new(NUMBERS.map(f32::to_le_bytes).concat());
        for mut values in [Values::stored(bytes, 0..12, Storage::F32), NUMBERS.to_vec().into()] {
            let other = values.clone();
            values[1] = 8.0;
            assert_eq!((&values[..], &other[..]), (&[1.5, 8.0, 3.0][..], &NUMBERS[..]));
        }
    }
}
