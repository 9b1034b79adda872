//! A plain five-dimensional array, the currency between executors and the rest.

use crate::NetError;

/// Values in (batch, channel, z, y, x) order, x fastest.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: [usize; 5],
    data: Vec<f32>,
}

impl Tensor {
    /// Joins values and shape `[batch, channel, z, y, x]`.
    ///
    /// # Errors
    /// [`NetError::LengthMismatch`] when there is not one value per element.
    pub fn new(shape: [usize; 5], data: Vec<f32>) -> Result<Self, NetError> {
        let expected = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        if expected != Some(data.len()) {
            return Err(NetError::LengthMismatch {
                expected: expected.unwrap_or(usize::MAX),
                found: data.len(),
            });
        }
        Ok(Self { shape, data })
    }

    /// All zeros.
    #[must_use]
    pub fn zeros(shape: [usize; 5]) -> Self {
        Self {
            shape,
            data: vec![0.0; shape.iter().product()],
        }
    }

    /// `[batch, channel, z, y, x]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 5] {
        self.shape
    }

    /// Voxels along `[z, y, x]`.
    #[must_use]
    pub fn spatial(&self) -> [usize; 3] {
        [self.shape[2], self.shape[3], self.shape[4]]
    }

    /// All values.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// All values.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The values, taken out.
    #[must_use]
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// One channel of one sample, a (z, y, x) array.
    #[must_use]
    pub fn channel(&self, batch: usize, channel: usize) -> &[f32] {
        let n = self.shape[2] * self.shape[3] * self.shape[4];
        let start = (batch * self.shape[1] + channel) * n;
        &self.data[start..start + n]
    }
}
