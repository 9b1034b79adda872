//! Sizes of axes that may be open until a network runs, as formulas over the sizes of its input.

use std::collections::HashMap;

/// A size, or another integer that follows from sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Dim {
    /// A number.
    Known(i64),
    /// A formula of [`Extents`]. Equal formulas have equal numbers.
    Open(usize),
}

/// A formula over smaller ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Term {
    /// Axis of the network's input.
    Input(usize),
    /// Rounded down.
    Quotient(Dim, i64),
    Sum(Dim, i64),
    /// Of at least two factors, in order.
    Product(Vec<Dim>),
    /// Nothing is known of it; never equal to another.
    Unknown(usize),
}

/// All formulas of a network, each once.
#[derive(Debug, Default)]
pub(super) struct Extents {
    /// With its number at the size that the file fixes, if it fixes one.
    terms: Vec<(Term, Option<i64>)>,
    index: HashMap<Term, usize>,
}

impl Extents {
    /// The size of an axis of the network's input.
    pub(super) fn input(&mut self, axis: usize, fixed: Option<i64>) -> Dim {
        self.open(Term::Input(axis), fixed)
    }

    /// Something unlike everything else.
    pub(super) fn unknown(&mut self) -> Dim {
        self.open(Term::Unknown(self.terms.len()), None)
    }

    /// The number, if it is known at least for the size that the file fixes.
    pub(super) fn value(&self, dim: Dim) -> Option<i64> {
        match dim {
            Dim::Known(value) => Some(value),
            Dim::Open(index) => self.terms.get(index)?.1,
        }
    }

    /// Whether two are equal as formulas, or at the size that the file fixes.
    pub(super) fn same(&self, a: Dim, b: Dim) -> bool {
        a == b || self.value(a).is_some_and(|value| Some(value) == self.value(b))
    }

    /// a − b, where that is a plain number.
    pub(super) fn difference(&self, a: Dim, b: Dim) -> Option<i64> {
        let ((base, more), (other, less)) = (self.split(a), self.split(b));
        if base == other {
            return more.checked_sub(less);
        }
        self.value(a)?.checked_sub(self.value(b)?)
    }

    /// dim + number.
    pub(super) fn plus(&mut self, dim: Dim, number: i64) -> Result<Dim, String> {
        let (base, more) = self.split(dim);
        let number = more.checked_add(number).ok_or_else(overflow)?;
        Ok(match base {
            _ if number == 0 => base,
            Dim::Known(value) => Dim::Known(value.checked_add(number).ok_or_else(overflow)?),
            Dim::Open(_) => {
                let value = self.value(base).and_then(|v| v.checked_add(number));
                self.open(Term::Sum(base, number), value)
            }
        })
    }

    /// The product of all.
    pub(super) fn product(&mut self, dims: impl IntoIterator<Item = Dim>) -> Result<Dim, String> {
        let (mut known, mut open) = (1i64, Vec::new());
        for dim in dims {
            match dim {
                Dim::Known(value) => known = known.checked_mul(value).ok_or_else(overflow)?,
                Dim::Open(index) => match self.terms.get(index) {
                    Some((Term::Product(factors), _)) => {
                        for &factor in factors {
                            match factor {
                                Dim::Known(value) => known = known.checked_mul(value).ok_or_else(overflow)?,
                                Dim::Open(_) => open.push(factor),
                            }
                        }
                    }
                    _ => open.push(dim),
                },
            }
        }
        if open.len() > 64 {
            return Err("a product of more than 64 open sizes".to_owned());
        }
        if known != 1 || open.is_empty() {
            open.push(Dim::Known(known));
        }
        open.sort_unstable();
        if let [one] = open.as_slice() {
            return Ok(*one);
        }
        let value = open.iter().try_fold(1i64, |n, &d| n.checked_mul(self.value(d)?));
        Ok(self.open(Term::Product(open), value))
    }

    /// dim / number, rounded down; the number must be positive.
    pub(super) fn over(&mut self, dim: Dim, number: i64) -> Result<Dim, String> {
        if number <= 0 {
            return Err(format!("a size is divided by {number}"));
        }
        if number == 1 {
            return Ok(dim);
        }
        if let Dim::Known(value) = dim {
            return Ok(Dim::Known(value.div_euclid(number)));
        }
        if let Dim::Open(index) = dim
            && let Some((Term::Product(factors), _)) = self.terms.get(index)
            && factors.contains(&Dim::Known(number))
        {
            let rest: Vec<Dim> = factors.iter().copied().filter(|&f| f != Dim::Known(number)).collect();
            return self.product(rest);
        }
        let value = self.value(dim).map(|v| v.div_euclid(number));
        Ok(self.open(Term::Quotient(dim, number), value))
    }

    /// Positions of a window of `span` voxels that moves by `stride` over `extent` voxels and `padding` more.
    pub(super) fn windows(&mut self, extent: Dim, span: usize, stride: usize, padding: usize) -> Result<Dim, String> {
        let number = |n: usize| i64::try_from(n).map_err(|_| overflow());
        let (span, stride, padding) = (number(span)?, number(stride)?, number(padding)?);
        let room = padding.checked_sub(span).and_then(|n| n.checked_add(stride));
        let sum = self.plus(extent, room.ok_or_else(overflow)?)?;
        self.over(sum, stride)
    }

    fn split(&self, dim: Dim) -> (Dim, i64) {
        match dim {
            Dim::Open(index) => match self.terms.get(index) {
                Some((Term::Sum(base, number), _)) => (*base, *number),
                _ => (dim, 0),
            },
            Dim::Known(_) => (dim, 0),
        }
    }

    fn open(&mut self, term: Term, value: Option<i64>) -> Dim {
        let next = self.terms.len();
        let index = *self.index.entry(term.clone()).or_insert(next);
        if index == next {
            self.terms.push((term, value));
        }
        Dim::Open(index)
    }
}

fn overflow() -> String {
    "sizes overflow 64 bits".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_formulas_are_one() {
        let mut extents = Extents::default();
        let n = extents.input(2, None);
        // A convolution that keeps the size, then two ways to halve it that differ for odd sizes.
        assert_eq!(extents.windows(n, 3, 1, 2).unwrap(), n);
        let conv = extents.windows(n, 3, 2, 2).unwrap();
        let pool = extents.windows(n, 2, 2, 0).unwrap();
        assert_ne!(conv, pool);
        assert_eq!(pool, extents.over(n, 2).unwrap());
        let twice = extents.product([pool, Dim::Known(2)]).unwrap();
        assert_eq!(extents.over(twice, 2).unwrap(), pool);
        let less = extents.plus(n, -3).unwrap();
        assert_eq!(extents.difference(less, n), Some(-3));
        assert_eq!(extents.difference(conv, n), None);
    }

    #[test]
    fn the_fixed_size_gives_numbers() {
        let mut extents = Extents::default();
        let n = extents.input(2, Some(9));
        let conv = extents.windows(n, 3, 2, 2).unwrap();
        assert_eq!(extents.value(conv), Some(5));
        let flat = extents.product([conv, n, Dim::Known(2)]).unwrap();
        assert_eq!(extents.value(flat), Some(90));
        assert!(extents.product([Dim::Known(i64::MAX), Dim::Known(2)]).is_err());
    }
}
