//! Rotary position embedding: the angle of each pair per position, with the scalings that files ask for.
use super::{Error, Params};
use crate::gguf::{Gguf, Metadata};

/// Angles per position and a magnitude for cosine and sine.
pub struct Rope {
    pub frequencies: Vec<f64>,
    pub magnitude: f64,
}

impl Rope {
    pub fn new(metadata: &Metadata, gguf: &Gguf, params: &Params) -> Result<Self, Error> {
        let key = |name: &str| format!("{}.rope.{name}", params.architecture);
        let positive = |name: &str, default: f64| -> Result<f64, Error> {
            let value = metadata.f32(&key(name))?.map_or(default, f64::from);
            if value > 0.0 && value.is_finite() {
                return Ok(value);
            }
            Err(Error::Bad(format!("{} is {value}, expected a positive number", key(name))))
        };
        let n = params.rope_dim;
        let base = positive("freq_base", 10000.0)?;
        // Su et al. 2021: pair i turns by base^(-2 i / n) per position.
        let mut frequencies: Vec<f64> = (0..n / 2).map(|i| libm::pow(base, -((2 * i) as f64) / n as f64)).collect();
        // Llama 3.1 divides the slow ones by factors that the file holds as a tensor.
        if let Some(tensor) = gguf.tensor("rope_freqs.weight") {
            let factors = super::weights::numbers(gguf, tensor, n / 2)?;
            for (frequency, factor) in frequencies.iter_mut().zip(factors) {
                *frequency /= f64::from(factor);
            }
        }
        let kind = metadata.str(&key("scaling.type"))?.unwrap_or("linear".into());
        // A factor of 0 means none, as does its absence.
        let factor = match metadata.f32(&key("scaling.factor"))?.or(metadata.f32(&key("scale_linear"))?) {
            None | Some(0.0) => 1.0,
            Some(factor) if factor > 0.0 && factor.is_finite() => f64::from(factor),
            Some(factor) => return Err(Error::Bad(format!("{} is {factor}", key("scaling.factor")))),
        };
        let mut magnitude = positive("scaling.attn_factor", 1.0)?;
        match &*kind {
            "none" => {}
            "linear" => frequencies.iter_mut().for_each(|frequency| *frequency /= factor),
            "yarn" => {
                let original = metadata.u32(&key("scaling.original_context_length"))?;
                let original = original.map_or(params.context_length as f64, f64::from);
                let fast = positive("scaling.yarn_beta_fast", 32.0)?;
                let slow = positive("scaling.yarn_beta_slow", 1.0)?;
                // Peng et al. 2023 (arXiv 2309.00071): pairs that turn often keep their angle, slow ones are scaled,
                // with a ramp between the pair that makes `fast` and the one that makes `slow` turns in the context.
                let pair_of = |turns: f64| {
                    let circle = turns * 2.0 * std::f64::consts::PI;
                    n as f64 * libm::log(original / circle) / (2.0 * libm::log(base))
                };
                let low = libm::floor(pair_of(fast)).max(0.0);
                let high = libm::ceil(pair_of(slow)).min(n as f64 - 1.0);
                for (i, frequency) in frequencies.iter_mut().enumerate() {
                    let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
                }
                magnitude *= 1.0 + 0.1 * libm::log(factor);
            }
            other => return Err(Error::Unsupported(format!("rope scaling '{other}' is not supported"))),
        }
        Ok(Self { frequencies, magnitude })
    }
}
