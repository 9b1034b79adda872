//! Uncertainty-rectified pyramid consistency (Luo et al. 2021, arXiv:2012.07042): heads should agree with their mean.
//!
//! All heads' logits are enlarged to the finest one's size (trilinear, align-corners) and become probabilities p_s; P is
//! their mean over the S heads. Per voxel `V_s = Σ_c P_c (ln P_c − ln(p_sc + 10⁻⁸))` and `w_s = exp(−V_s)`. The loss of a
//! head is `mean((P − p_s)² w_s) / (mean w_s + 10⁻⁸) + mean V_s`, the loss their mean. The gradient also runs through P
//! and w_s, as in the authors' code.

use super::enlarge::Enlarge;
use super::math::{exp_neg, ln, sum};
use super::pieces::{CHUNK, Piece, pieces, softmax};
use rayon::prelude::*;
use viscera_net::Tensor;

const EPSILON: f32 = 1e-8;

/// Sums of one head over voxels: V, w, and w Σ_c (P − p)².
type Sums = Vec<[f64; 3]>;

/// The loss of the samples `seen`; `weight` times its gradient is added to `gradients`. 0 when there are none.
pub(super) fn add(heads: &[Tensor], seen: &[usize], weight: f64, gradients: &mut [Tensor]) -> f64 {
    let Some(finest) = heads.first().filter(|_| !seen.is_empty()) else {
        return 0.0;
    };
    let [_, channels, ..] = finest.shape();
    let size = finest.spatial();
    let voxels: usize = size.iter().product();
    let ways: Vec<Enlarge> = heads.iter().map(|head| Enlarge::new(head.spatial(), size)).collect();

    // Probabilities [sample, head, channel, voxel], and their sums.
    let rows = heads.len() * channels;
    let mut data = vec![0.0f32; seen.len() * rows * voxels];
    data.par_chunks_mut(voxels).enumerate().for_each(|(at, row)| {
        let (sample, head, channel) = (seen[at / rows], at % rows / channels, at % channels);
        row.copy_from_slice(&ways[head].forward(heads[head].channel(sample, channel)));
    });
    let parts: Vec<Sums> = pieces(&mut data, rows, voxels)
        .into_par_iter()
        .map_init(
            || Work::new(channels, heads.len()),
            |work, mut piece| work.sums(&mut piece),
        )
        .collect();
    let mut sums = vec![[0.0; 3]; heads.len()];
    for part in &parts {
        for (sum, part) in sums.iter_mut().zip(part) {
            (0..3).for_each(|i| sum[i] += part[i]);
        }
    }
    let count = (seen.len() * voxels) as f64;
    let means: Vec<Means> = sums
        .iter()
        .map(|[v, w, rectified]| Means {
            v: v / count,
            w: w / count + f64::from(EPSILON),
            rectified: rectified / (count * channels as f64),
        })
        .collect();
    let value = means.iter().map(|m| m.rectified / m.w + m.v).sum::<f64>() / heads.len() as f64;

    // The gradient of the enlarged logits in their place, then that of the heads.
    let share = weight / heads.len() as f64;
    pieces(&mut data, rows, voxels).into_par_iter().for_each_init(
        || Work::new(channels, heads.len()),
        |work, mut piece| work.gradient(&mut piece, &means, count, share),
    );
    for (head, gradient) in gradients.iter_mut().enumerate() {
        let [batch, _, z, y, x] = gradient.shape();
        let data = &data;
        let way = &ways[head];
        gradient
            .data_mut()
            .par_chunks_mut(z * y * x)
            .enumerate()
            .take(batch * channels)
            .for_each(|(at, row)| {
                let (sample, channel) = (at / channels, at % channels);
                let Some(place) = seen.iter().position(|&s| s == sample) else {
                    return;
                };
                let start = (place * rows + head * channels + channel) * voxels;
                let found = way.backward(&data[start..start + voxels]);
                row.iter_mut().zip(found).for_each(|(row, v)| *row += v);
            });
    }
    value
}

/// Means over voxels of V, w (plus ε), and over voxels and channels of w (P − p)².
struct Means {
    v: f64,
    w: f64,
    rectified: f64,
}

/// Arrays of one piece.
struct Work {
    channels: usize,
    heads: usize,
    /// P, one row per channel, and its logarithm.
    mean: Vec<f32>,
    ln_mean: Vec<f32>,
    /// Gradient by P, and by the p of one head.
    by_mean: Vec<f32>,
    by_p: Vec<f32>,
    /// Of one head: V, w, Σ_c (P − p)².
    v: [f32; CHUNK],
    w: [f32; CHUNK],
    apart: [f32; CHUNK],
}

impl Work {
    fn new(channels: usize, heads: usize) -> Self {
        let rows = || vec![0.0; channels * CHUNK];
        Self {
            channels,
            heads,
            mean: rows(),
            ln_mean: rows(),
            by_mean: rows(),
            by_p: rows(),
            v: [0.0; CHUNK],
            w: [0.0; CHUNK],
            apart: [0.0; CHUNK],
        }
    }

    /// Turns the piece's logits into probabilities and sums.
    fn sums(&mut self, piece: &mut Piece<'_>) -> Sums {
        let n = piece.rows.first().map_or(0, |row| row.len());
        for rows in piece.rows.chunks_exact_mut(self.channels) {
            softmax(rows, &mut self.v[..n], &mut self.w[..n]);
        }
        self.means(piece, n);
        (0..self.heads)
            .map(|head| {
                self.head(piece, head, n);
                let rectified: Vec<f32> = self.apart[..n].iter().zip(&self.w).map(|(a, w)| a * w).collect();
                [sum(&self.v[..n]), sum(&self.w[..n]), sum(&rectified)]
            })
            .collect()
    }

    /// P and its logarithm.
    fn means(&mut self, piece: &Piece<'_>, n: usize) {
        let share = 1.0 / self.heads as f32;
        for c in 0..self.channels {
            let mean = &mut self.mean[c * CHUNK..][..n];
            mean.fill(0.0);
            for head in 0..self.heads {
                let p = &piece.rows[head * self.channels + c];
                mean.iter_mut().zip(p.iter()).for_each(|(m, p)| *m += share * p);
            }
            let logs = self.ln_mean[c * CHUNK..][..n].iter_mut();
            logs.zip(mean).for_each(|(l, m)| *l = ln(*m));
        }
    }

    /// V, w and Σ_c (P − p)² of a head.
    fn head(&mut self, piece: &Piece<'_>, head: usize, n: usize) {
        let (v, w, apart) = (&mut self.v[..n], &mut self.w[..n], &mut self.apart[..n]);
        v.fill(0.0);
        apart.fill(0.0);
        for c in 0..self.channels {
            let p = &piece.rows[head * self.channels + c];
            let (mean, ln_mean) = (&self.mean[c * CHUNK..][..n], &self.ln_mean[c * CHUNK..][..n]);
            for i in 0..n {
                v[i] += mean[i] * (ln_mean[i] - ln(p[i] + EPSILON));
                apart[i] += (mean[i] - p[i]) * (mean[i] - p[i]);
            }
        }
        for (w, v) in w.iter_mut().zip(&*v) {
            // Rounding can bring V below 0.
            *w = exp_neg(if *v < 0.0 { 0.0 } else { *v });
        }
    }

    /// Turns the piece's probabilities into the gradient by the enlarged logits, times `share`.
    fn gradient(&mut self, piece: &mut Piece<'_>, means: &[Means], count: f64, share: f64) {
        let n = piece.rows.first().map_or(0, |row| row.len());
        self.means(piece, n);
        self.by_mean.fill(0.0);
        // First what comes through P, of all heads; then each head.
        for through_mean in [true, false] {
            for (head, means) in means.iter().enumerate() {
                self.head(piece, head, n);
                let pairs = count * self.channels as f64;
                // By V itself and through w; by (P − p).
                let direct = (share / count) as f32;
                let apart_share = (share / (pairs * means.w)) as f32;
                let w_share = (share * means.rectified / (means.w * means.w * count)) as f32;
                let mut by_v = [0.0f32; CHUNK];
                for ((by_v, w), apart) in by_v.iter_mut().zip(&self.w).zip(&self.apart) {
                    *by_v = direct - w * (apart_share * apart - w_share);
                }
                let mut inner = [0.0f32; CHUNK];
                for c in 0..self.channels {
                    let p = &piece.rows[head * self.channels + c];
                    let (mean, ln_mean) = (&self.mean[c * CHUNK..][..n], &self.ln_mean[c * CHUNK..][..n]);
                    let by_mean = &mut self.by_mean[c * CHUNK..][..n];
                    let by_p = &mut self.by_p[c * CHUNK..][..n];
                    for i in 0..n {
                        let by_apart = 2.0 * apart_share * self.w[i] * (mean[i] - p[i]);
                        if through_mean {
                            by_mean[i] += by_apart + by_v[i] * (ln_mean[i] + 1.0 - ln(p[i] + EPSILON));
                        } else {
                            by_p[i] = by_mean[i] / self.heads as f32 - by_apart - by_v[i] * mean[i] / (p[i] + EPSILON);
                            inner[i] += p[i] * by_p[i];
                        }
                    }
                }
                if !through_mean {
                    for c in 0..self.channels {
                        let by_p = &self.by_p[c * CHUNK..][..n];
                        let p = &mut piece.rows[head * self.channels + c];
                        for i in 0..n {
                            p[i] *= by_p[i] - inner[i];
                        }
                    }
                }
            }
        }
    }
}
