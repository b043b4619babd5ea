//! Probabilities as integers.
//!
//! A softmax weight is `exp((logit - max) / temperature)` in fixed point. Integer sums are exact, so a sum over the
//! vocabulary is the same in id order, in rank order and in any number of pieces.

use std::f64::consts::{LN_2, LOG2_E};

/// A weight of one (the likeliest token's). 2^32 tokens of this weight still fit a `u128` sum 34 bits wide of its end.
const ONE: f64 = (1u64 << 62) as f64;

pub(super) struct Softmax {
    /// The greatest logit: it gets the weight one, whatever it is.
    pub max: f32,
    pub temperature: f64,
}

/// How many weights are computed beside each other, as instructions have them.
const LANES: usize = 16;

impl Softmax {
    /// The weight of a logit, 0 to 2^62, rounded down. NaN and minus infinity have none.
    pub fn weight(&self, logit: f32) -> u64 {
        (self.relative_probability(logit) * ONE) as u64
    }

    /// The sum of the weights of some logits.
    pub fn total(&self, mut logits: impl Iterator<Item = f32>) -> u128 {
        let mut total = 0;
        loop {
            let mut block = [f32::NEG_INFINITY; LANES];
            let filled = block.iter_mut().zip(&mut logits).map(|(place, logit)| *place = logit).count();
            let mut probabilities = [0.0; LANES];
            for (probability, &logit) in probabilities.iter_mut().zip(&block) {
                *probability = self.relative_probability(logit);
            }
            total += probabilities.iter().map(|p| u128::from((p * ONE) as u64)).sum::<u128>();
            if filled < LANES {
                return total;
            }
        }
    }

    /// How many times as likely the logit is as `max`, 0 to 1.
    #[inline]
    pub fn relative_probability(&self, logit: f32) -> f64 {
        // Infinity minus infinity is no number; as `max` it has the weight one, as every other that equals it.
        let equal = logit == self.max && logit > f32::NEG_INFINITY;
        exp(if equal { 0.0 } else { (f64::from(logit) - f64::from(self.max)) / self.temperature })
    }
}

/// e^x of an `x` that is not positive, within 2^-51 of itself down to -700, and about 1e-304 below and for NaN.
///
/// x = k ln 2 + r with a whole k and |r| <= ln 2 / 2, so it is 2^k times the series of e^r. Without a branch and a table, to
/// be computed for several at once.
#[inline]
fn exp(x: f64) -> f64 {
    /// Adding it rounds to a whole number, which the lowest bits then hold.
    const ROUND: f64 = 3.0 * (1u64 << 51) as f64;
    /// ln 2 in two parts: a product of the first, of 32 bits, with a k is exact.
    const HIGH: f64 = f64::from_bits(LN_2.to_bits() & (u64::MAX << 21));
    const LOW: f64 = 1.9082149292705877e-10;

    // NaN fails the comparison.
    let x = if x > -700.0 { x } else { -700.0 };
    let shifted = x * LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * HIGH) - k * LOW;
    // The terms of even and of odd powers, which do not wait for each other.
    let pairs = INVERSE_FACTORIALS.as_chunks::<2>().0;
    let (even, odd) =
        pairs.iter().rev().fold((0.0, 0.0), |(even, odd), [a, b]| (even * (r * r) + a, odd * (r * r) + b));
    let series = even + odd * r;
    let exponent = (shifted.to_bits() << 52).wrapping_add(1023 << 52);
    series * f64::from_bits(exponent)
}

/// 1 / n!: the first that is left out, r^14 / 14!, is below 2^-57.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut terms = [1.0; 14];
    let mut n = 2;
    while n < terms.len() {
        terms[n] = terms[n - 1] / n as f64;
        n += 1;
    }
    terms
};

/// The natural logarithm of a logit's probability, where `total` is the sum of all weights at temperature one.
pub(super) fn log_probability(logit: f32, max: f32, total: u128) -> f32 {
    if logit.is_nan() || logit == f32::NEG_INFINITY {
        return f32::NEG_INFINITY;
    }
    let above = if logit == max { 0.0 } else { f64::from(logit) - f64::from(max) };
    (above - libm::log(total as f64 / ONE)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_of_exp() {
        assert_eq!(exp(0.0), 1.0);
        for x in [f64::NAN, f64::NEG_INFINITY, -1e300, -700.0] {
            assert!((0.0..1e-303).contains(&exp(x)), "{x}");
        }
    }

    proptest! {
        #[test]
        fn exp_is_that_of_libm(x in prop_oneof![-700.0..0.0, -45.0..0.0, -1e-3..0.0]) {
            let expected = libm::exp(x);
            prop_assert!((exp(x) - expected).abs() <= expected * f64::EPSILON * 2.0, "{} {}", exp(x), expected);
        }

        #[test]
        fn total_is_the_sum(
            logits in prop::collection::vec(prop_oneof![Just(f32::NAN), Just(f32::NEG_INFINITY), -90.0f32..20.0], 0..50),
            temperature in 0.1..3.0,
        ) {
            let softmax = Softmax { max: 20.0, temperature };
            let sum: u128 = logits.iter().map(|&logit| u128::from(softmax.weight(logit))).sum();
            prop_assert_eq!(softmax.total(logits.into_iter()), sum);
        }
    }
}
