//! Consecutive slices of what a network says, on its grid: the form in which predictions reach whoever reads them.

use viscera_net::Tensor;

/// Some slices of all channels.
#[derive(Debug, Clone, Copy)]
pub struct Slab<'a> {
    /// Channel after channel, each of `stored` slices, of which the first `slices` count.
    values: &'a [f32],
    stored: usize,
    channels: usize,
    slices: usize,
    plane: [usize; 2],
    start: usize,
}

impl<'a> Slab<'a> {
    /// Slices `start .. start + slices` of a grid, stored as the first of `stored` slices per channel; `plane` is (y, x).
    /// `None` when there are fewer values.
    #[must_use]
    pub fn new(values: &'a [f32], stored: usize, slices: usize, plane: [usize; 2], start: usize) -> Option<Self> {
        let channel = stored * plane[0] * plane[1];
        (channel > 0 && slices <= stored && values.len().is_multiple_of(channel)).then_some(Self {
            values,
            stored,
            channels: values.len() / channel,
            slices,
            plane,
            start,
        })
    }

    /// All slices of a tensor's first sample.
    #[must_use]
    pub fn of(tensor: &'a Tensor) -> Self {
        let [_, channels, z, y, x] = tensor.shape();
        Self {
            values: &tensor.data()[..channels * z * y * x],
            stored: z,
            channels,
            slices: z,
            plane: [y, x],
            start: 0,
        }
    }

    /// Number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of slices.
    #[must_use]
    pub fn slices(&self) -> usize {
        self.slices
    }

    /// The grid's place of the first slice.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Voxels along y and x.
    #[must_use]
    pub fn plane_shape(&self) -> [usize; 2] {
        self.plane
    }

    /// Slice `z`, counted from this slab's first, of a channel, in (y, x) order.
    #[must_use]
    pub fn plane(&self, channel: usize, z: usize) -> &'a [f32] {
        let len = self.plane[0] * self.plane[1];
        &self.values[(channel * self.stored + z) * len..][..len]
    }
}
