//! Terms of a softmax over background and classes, with labels.
//!
//! Where a sample does not annotate a class and the recipe joins such classes with the background, the joined
//! probability takes the place of theirs in every formula; q below are probabilities after that. Voxels with the ignored
//! label, or without any label where the recipe leaves those out, have no loss and no gradient.
//!
//! Every term is one of two kinds. Losses of single voxels have the gradient `s (p_j − r_j)` (`voxel.rs`). All others have
//! a derivative D_k by q_k in each voxel, and with them the logit j that belongs to k has the gradient
//! `p_j (D_k − Σ_k q_k D_k)`: Dice with `D_k = a_k g_k + b_k + c_k q_k`, beta cross-entropy with `D_k = (β + 1) q_k^β`.

use super::math::{dot, power, sum};
use super::pieces::{CHUNK, Piece, pieces, softmax};
use super::voxel::VoxelLoss;
use super::{LossValue, Target};
use rayon::prelude::*;
use viscera_net::Tensor;
use viscera_pipeline::recipe::{Formula, Partial, SoftmaxLoss, Stream};

/// Stands for a channel where a voxel teaches nothing.
const NONE: u32 = u32::MAX;

/// Adds the loss of one head, with the weight of that head, and its gradient.
pub(super) fn add_head(
    loss: &SoftmaxLoss,
    logits: &Tensor,
    target: Target<'_>,
    head_weight: f64,
    done: f64,
    value: &mut LossValue,
    gradient: &mut Tensor,
) {
    let channels = target.classes.len() + 1;
    let voxels: usize = logits.spatial().iter().product();
    let samples: Vec<Sample> = (0..target.streams.len())
        .map(|s| Sample::new(loss.partial, &target, s, voxels))
        .collect();
    let terms: Vec<Term> = loss
        .terms
        .iter()
        .filter_map(|term| {
            Some(Term {
                kind: Kind::new(&term.formula)?,
                weight: term.weight_at(done) * head_weight,
                name: term.name(),
                seen: samples.iter().map(|s| term.sees(s.stream)).collect(),
            })
        })
        .collect();
    let is_seen: Vec<bool> = (0..samples.len()).map(|s| terms.iter().any(|t| t.seen[s])).collect();
    if !is_seen.contains(&true) {
        for term in terms {
            value.terms.entry(term.name).or_default();
        }
        return;
    }

    // First pass: p into the gradient's place, and sums.
    gradient.data_mut().copy_from_slice(logits.data());
    let parts: Vec<(usize, Sums)> = pieces(gradient.data_mut(), channels, voxels)
        .into_par_iter()
        .map_init(Work::default, |work, mut piece| {
            let sample = piece.sample;
            let empty = || Sums::new(terms.len(), channels);
            let sums = if is_seen[sample] {
                work.sums(&mut piece, &samples[sample], &terms)
            } else {
                empty()
            };
            (sample, sums)
        })
        .collect();
    let mut sums: Vec<Sums> = samples.iter().map(|_| Sums::new(terms.len(), channels)).collect();
    parts.iter().for_each(|(sample, part)| sums[*sample].add(part));

    // Values, and what each sample's gradient is made of.
    let mut shares: Vec<Shares> = samples.iter().map(|_| Shares::new(channels)).collect();
    for (at, term) in terms.iter().enumerate() {
        let found = match term.kind {
            Kind::Voxel(formula) => term.voxel(at, formula, &sums, &mut shares),
            Kind::Dice(dice) => dice.evaluate(term, &samples, &sums, &mut shares),
        };
        value.total += term.weight * found;
        *value.terms.entry(term.name.clone()).or_default() += head_weight * found;
    }

    // Second pass: the gradient.
    pieces(gradient.data_mut(), channels, voxels)
        .into_par_iter()
        .for_each_init(Work::default, |work, mut piece| {
            let sample = piece.sample;
            if is_seen[sample] {
                work.gradient(&mut piece, &samples[sample], &shares[sample]);
            } else {
                piece.rows.iter_mut().for_each(|row| row.fill(0.0));
            }
        });
}

/// What is known of a sample.
struct Sample<'a> {
    stream: Stream,
    labels: &'a [u8],
    /// Channel of each label id.
    channel: [u32; 256],
    /// For each channel, whether it is joined with the background's; the background's own is not.
    joined: Vec<bool>,
    /// For each channel, whether it counts as a class. The background does.
    counts: Vec<bool>,
}

impl<'a> Sample<'a> {
    fn new(partial: Partial, target: &Target<'a>, at: usize, voxels: usize) -> Self {
        let annotated = target.annotated[at];
        let complete = target.classes.iter().all(|&id| annotated.contains(id));
        let unlabelled = if !complete && partial == Partial::Ignore {
            NONE
        } else {
            0
        };
        let mut channel = [unlabelled; 256];
        let (mut joined, mut counts) = (vec![false], vec![true]);
        for (c, &id) in (1..).zip(target.classes) {
            if annotated.contains(id) {
                channel[usize::from(id)] = c;
            }
            joined.push(partial == Partial::Merge && !annotated.contains(id));
            counts.push(partial == Partial::Background || annotated.contains(id));
        }
        if let Some(id) = target.ignore {
            channel[usize::from(id)] = NONE;
        }
        Self {
            stream: target.streams[at],
            labels: &target.labels[at * voxels..(at + 1) * voxels],
            channel,
            joined,
            counts,
        }
    }
}

/// One term.
struct Term {
    kind: Kind,
    /// Its weight now, on this head.
    weight: f64,
    name: String,
    /// For each sample, whether it is part of it.
    seen: Vec<bool>,
}

enum Kind {
    Voxel(VoxelLoss),
    Dice(Dice),
}

impl Kind {
    fn new(formula: &Formula) -> Option<Self> {
        match *formula {
            Formula::Dice {
                smooth,
                batch,
                background,
                squared,
            } => Some(Self::Dice(Dice {
                smooth,
                batch,
                background,
                squared,
            })),
            _ => VoxelLoss::new(formula).map(Self::Voxel),
        }
    }
}

impl Term {
    /// The mean of a loss of single voxels.
    fn voxel(&self, at: usize, formula: VoxelLoss, sums: &[Sums], shares: &mut [Shares]) -> f64 {
        let seen = |s: &usize| self.seen[*s];
        let count: f64 = (0..sums.len()).filter(seen).map(|s| sums[s].counted).sum();
        let share = 1.0 / count.max(1.0);
        for s in (0..sums.len()).filter(seen) {
            shares[s].voxel.push((formula, (self.weight * share) as f32));
        }
        (0..sums.len()).filter(seen).map(|s| sums[s].voxel[at]).sum::<f64>() * share
    }
}

#[derive(Clone, Copy)]
struct Dice {
    smooth: f64,
    batch: bool,
    background: bool,
    squared: bool,
}

impl Dice {
    /// 1 − the mean fraction over (sample, class) pairs, or over classes where the batch is pooled.
    fn evaluate(self, term: &Term, samples: &[Sample<'_>], sums: &[Sums], shares: &mut [Shares]) -> f64 {
        let counts = |s: usize, c: usize| term.seen[s] && samples[s].counts[c] && (c > 0 || self.background);
        let channels = samples.first().map_or(0, |s| s.counts.len());
        // Which samples share a fraction, and of which class.
        let mut groups: Vec<(Vec<usize>, usize)> = Vec::new();
        for c in 0..channels {
            let members: Vec<usize> = (0..samples.len()).filter(|&s| counts(s, c)).collect();
            if self.batch && !members.is_empty() {
                groups.push((members, c));
            } else {
                groups.extend(members.into_iter().map(|s| (vec![s], c)));
            }
        }
        let share = 1.0 / groups.len().max(1) as f64;
        let mut value = 0.0;
        for (members, c) in groups {
            let total = |part: fn(&Overlap) -> f64| members.iter().map(|&s| part(&sums[s].classes[c])).sum::<f64>();
            let above = 2.0 * total(|o| o.pg) + self.smooth;
            let p = if self.squared { total(|o| o.pp) } else { total(|o| o.p) };
            let below = p + total(|o| o.g) + self.smooth;
            value += share * (1.0 - above / below);
            let by_g = -2.0 / below * share * term.weight;
            let by_p = above / (below * below) * share * term.weight;
            for s in members {
                let d = &mut shares[s].classes[c];
                d[0] += by_g as f32;
                d[if self.squared { 2 } else { 1 }] += (if self.squared { 2.0 * by_p } else { by_p }) as f32;
            }
        }
        value
    }
}

/// What the gradient of a sample is made of.
struct Shares {
    /// Losses of single voxels, and what one voxel counts.
    voxel: Vec<(VoxelLoss, f32)>,
    /// For each class a, b, c of `D = a g + b + c q`.
    classes: Vec<[f32; 3]>,
}

impl Shares {
    fn new(channels: usize) -> Self {
        Self {
            voxel: Vec::new(),
            classes: vec![[0.0; 3]; channels],
        }
    }
}

/// Σqg, Σq, Σq² and Σg of a class.
#[derive(Clone, Copy, Default)]
struct Overlap {
    pg: f64,
    p: f64,
    pp: f64,
    g: f64,
}

/// Sums over voxels of one sample.
struct Sums {
    /// Voxels that count.
    counted: f64,
    /// For each term its sum, if it is one of single voxels.
    voxel: Vec<f64>,
    /// For each channel.
    classes: Vec<Overlap>,
}

impl Sums {
    fn new(terms: usize, channels: usize) -> Self {
        Self {
            counted: 0.0,
            voxel: vec![0.0; terms],
            classes: vec![Overlap::default(); channels],
        }
    }

    fn add(&mut self, part: &Self) {
        self.counted += part.counted;
        self.voxel.iter_mut().zip(&part.voxel).for_each(|(a, b)| *a += b);
        for (a, b) in self.classes.iter_mut().zip(&part.classes) {
            a.pg += b.pg;
            a.p += b.p;
            a.pp += b.pp;
            a.g += b.g;
        }
    }
}

/// Arrays of one piece, one value per voxel.
struct Work {
    /// The label's channel.
    label: [u32; CHUNK],
    /// 1 where the voxel counts, else 0.
    mask: [f32; CHUNK],
    /// Probability of the background and all that is joined with it; of the label.
    background: [f32; CHUNK],
    q: [f32; CHUNK],
    ln_q: [f32; CHUNK],
    a: [f32; CHUNK],
    b: [f32; CHUNK],
    c: [f32; CHUNK],
}

impl Default for Work {
    fn default() -> Self {
        let zeros = [0.0; CHUNK];
        Self {
            label: [0; CHUNK],
            mask: zeros,
            background: zeros,
            q: zeros,
            ln_q: zeros,
            a: zeros,
            b: zeros,
            c: zeros,
        }
    }
}

impl Work {
    /// Labels and mask. Gives the number of voxels.
    fn labels(&mut self, piece: &Piece<'_>, sample: &Sample<'_>) -> usize {
        let n = piece.rows.first().map_or(0, |row| row.len());
        let labels = &sample.labels[piece.start..piece.start + n];
        for ((to, mask), &id) in self.label.iter_mut().zip(&mut self.mask).zip(labels) {
            *to = sample.channel[usize::from(id)];
            *mask = if *to == NONE { 0.0 } else { 1.0 };
        }
        n
    }

    /// The probabilities of the background and of the label, of rows of probabilities.
    fn shares(&mut self, piece: &Piece<'_>, sample: &Sample<'_>) {
        self.background.fill(0.0);
        for (c, row) in piece.rows.iter().enumerate() {
            if c == 0 || sample.joined[c] {
                self.background.iter_mut().zip(row.iter()).for_each(|(b, p)| *b += p);
            }
        }
        self.q = self.background;
        for (c, row) in (0..).zip(&piece.rows).skip(1) {
            if !sample.joined[c as usize] {
                for ((q, p), label) in self.q.iter_mut().zip(row.iter()).zip(&self.label) {
                    *q = if *label == c { *p } else { *q };
                }
            }
        }
    }

    /// Turns the piece's logits into probabilities, and sums.
    fn sums(&mut self, piece: &mut Piece<'_>, sample: &Sample<'_>, terms: &[Term]) -> Sums {
        let mut sums = Sums::new(terms.len(), piece.rows.len());
        let n = self.labels(piece, sample);
        // The label's logit is needed before it is overwritten: a logarithm of p would end at −87.
        let mut own = [0.0f32; CHUNK];
        for (c, row) in (0..).zip(&piece.rows) {
            for ((own, x), label) in own.iter_mut().zip(row.iter()).zip(&self.label) {
                *own = if *label == c { *x } else { *own };
            }
        }
        softmax(&mut piece.rows, &mut self.a[..n], &mut self.b[..n]);
        self.shares(piece, sample);
        let several = sample.joined.contains(&true);
        for i in 0..n {
            self.ln_q[i] = if several && self.label[i] == 0 {
                super::math::ln(self.q[i])
            } else {
                own[i] - self.a[i] - self.b[i]
            };
        }
        sums.counted = sum(&self.mask[..n]);
        for (at, term) in terms.iter().enumerate().filter(|(_, term)| term.seen[piece.sample]) {
            let Kind::Voxel(formula) = term.kind else { continue };
            formula.values(&self.q[..n], &self.ln_q[..n], &mut self.c[..n]);
            sums.voxel[at] = dot(&self.c[..n], &self.mask[..n]);
            if let Some(beta) = formula.beta() {
                self.c[..n].fill(0.0);
                for c in (0..piece.rows.len()).filter(|&c| !sample.joined[c]) {
                    let q = if c == 0 { &self.background[..n] } else { &*piece.rows[c] };
                    for (sum, q) in self.c.iter_mut().zip(q) {
                        *sum += q * power(*q, beta);
                    }
                }
                sums.voxel[at] += dot(&self.c[..n], &self.mask[..n]);
            }
        }
        if terms.iter().any(|term| matches!(term.kind, Kind::Dice(_))) {
            for (c, overlap) in (0..).zip(&mut sums.classes) {
                if !sample.counts[c as usize] {
                    continue;
                }
                let q = if c == 0 {
                    &self.background[..n]
                } else {
                    &*piece.rows[c as usize]
                };
                for i in 0..n {
                    self.a[i] = if self.label[i] == c { 1.0 } else { 0.0 };
                    self.b[i] = q[i] * self.mask[i];
                }
                let (g, q) = (&self.a[..n], &self.b[..n]);
                *overlap = Overlap {
                    pg: dot(q, g),
                    p: sum(q),
                    pp: dot(q, q),
                    g: sum(g),
                };
            }
        }
        sums
    }

    /// D of a class into `c`.
    fn by_class(&mut self, class: u32, row: &[f32], shares: &Shares) {
        let n = row.len();
        let q = if class == 0 { &self.background[..n] } else { row };
        let [by_g, constant, by_q] = shares.classes[class as usize];
        for i in 0..n {
            let g = if self.label[i] == class { by_g } else { 0.0 };
            self.c[i] = g + constant + by_q * q[i];
        }
        for (formula, share) in &shares.voxel {
            if let Some(beta) = formula.beta() {
                for (d, q) in self.c.iter_mut().zip(q) {
                    *d += share * (beta + 1.0) * power(*q, beta);
                }
            }
        }
    }

    /// Turns the piece's probabilities into the gradient by the logits.
    fn gradient(&mut self, piece: &mut Piece<'_>, sample: &Sample<'_>, shares: &Shares) {
        let n = self.labels(piece, sample);
        self.shares(piece, sample);
        // Slopes into `a`, Σ q D into `b`.
        self.a.fill(0.0);
        for (formula, share) in &shares.voxel {
            formula.add_slopes(&self.q[..n], *share, &mut self.a[..n]);
        }
        self.b.fill(0.0);
        for (c, row) in (0..).zip(&piece.rows) {
            if !sample.joined[c as usize] {
                self.by_class(c, row, shares);
                let q = if c == 0 { &self.background[..n] } else { &**row };
                for i in 0..n {
                    self.b[i] += q[i] * self.c[i];
                }
            }
        }
        // The background and what is joined with it have one D.
        let mut together = [0.0f32; CHUNK];
        if let Some(row) = piece.rows.first() {
            self.by_class(0, row, shares);
            together = self.c;
        }
        for (c, row) in (0..).zip(&mut piece.rows) {
            let joined = c == 0 || sample.joined[c as usize];
            if joined {
                self.c = together;
            } else {
                self.by_class(c, row, shares);
            }
            let label = if joined { 0 } else { c };
            for i in 0..n {
                let p = row[i];
                let own = if joined { p / self.background[i] } else { 1.0 };
                let r = if self.label[i] == label { own } else { 0.0 };
                row[i] = self.mask[i] * (self.a[i] * (p - r) + p * (self.c[i] - self.b[i]));
            }
        }
    }
}
