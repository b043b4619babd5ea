//! Probabilities as integers.
//!
//! A softmax weight is `exp((logit - max) / temperature)` in fixed point. Integer sums are exact, so a sum over the
//! vocabulary is the same in id order, in rank order and in any number of pieces.

/// A weight of one (the likeliest token's). 2^32 tokens of this weight still fit a `u128` sum 34 bits wide of its end.
const ONE: f64 = (1u64 << 62) as f64;

pub(super) struct Softmax {
    /// The greatest logit: it gets the weight one, whatever it is.
    pub max: f32,
    pub temperature: f64,
}

impl Softmax {
    /// The weight of a logit, 0 to 2^62, rounded down. NaN and minus infinity have none.
    pub fn weight(&self, logit: f32) -> u64 {
        (self.relative_probability(logit) * ONE) as u64
    }

    /// How many times as likely the logit is as `max`, 0 to 1.
    pub fn relative_probability(&self, logit: f32) -> f64 {
        if logit.is_nan() || logit == f32::NEG_INFINITY {
            return 0.0;
        }
        // Asked first because infinity minus infinity is no number.
        if logit == self.max {
            return 1.0;
        }
        libm::exp((f64::from(logit) - f64::from(self.max)) / self.temperature)
    }
}

/// The natural logarithm of a logit's probability, where `total` is the sum of all weights at temperature one.
pub(super) fn log_probability(logit: f32, max: f32, total: u128) -> f32 {
    if logit.is_nan() || logit == f32::NEG_INFINITY {
        return f32::NEG_INFINITY;
    }
    let above = if logit == max { 0.0 } else { f64::from(logit) - f64::from(max) };
    (above - libm::log(total as f64 / ONE)) as f32
}
