//! Pieces of a tensor that are worked on at once: all channels of some hundred voxels, which stay in the fastest cache.

/// Voxels per piece.
pub(super) const CHUNK: usize = 512;

/// All channels of neighbouring voxels of one sample.
pub(super) struct Piece<'a> {
    /// The sample.
    pub(super) sample: usize,
    /// The first voxel.
    pub(super) start: usize,
    /// One row per channel, all of one length.
    pub(super) rows: Vec<&'a mut [f32]>,
}

/// Cuts `[batch, channels, voxels]` into pieces.
pub(super) fn pieces(data: &mut [f32], channels: usize, voxels: usize) -> Vec<Piece<'_>> {
    let mut result = Vec::with_capacity(data.len() / (channels * voxels) * voxels.div_ceil(CHUNK));
    for (sample, data) in data.chunks_exact_mut(channels * voxels).enumerate() {
        let mut planes: Vec<_> = data
            .chunks_exact_mut(voxels)
            .map(|plane| plane.chunks_mut(CHUNK))
            .collect();
        for start in (0..voxels).step_by(CHUNK) {
            let rows = planes.iter_mut().filter_map(Iterator::next).collect();
            result.push(Piece { sample, start, rows });
        }
    }
    result
}

/// Turns logits, one row per channel, into their softmax. Gives the largest logit and the logarithm's sum of
/// exponentials, `ln Σ exp(x − largest)`, of each voxel.
pub(super) fn softmax(rows: &mut [&mut [f32]], largest: &mut [f32], ln_sum: &mut [f32]) {
    largest.fill(f32::NEG_INFINITY);
    for row in &*rows {
        for (m, x) in largest.iter_mut().zip(row.iter()) {
            *m = if *x > *m { *x } else { *m };
        }
    }
    ln_sum.fill(0.0);
    for row in &mut *rows {
        for ((x, m), sum) in row.iter_mut().zip(&*largest).zip(&mut *ln_sum) {
            *x = super::math::exp_neg(*m - *x);
            *sum += *x;
        }
    }
    for row in rows {
        for (x, sum) in row.iter_mut().zip(&*ln_sum) {
            *x /= sum;
        }
    }
    for sum in ln_sum {
        *sum = super::math::ln(*sum);
    }
}
