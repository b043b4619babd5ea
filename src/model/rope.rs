//! Rotary position embedding: the angle of each pair per position, with the scalings that files ask for.
use super::{
    Error, Params,
    family::{Family, LocalRope, Rotated},
    params::Keys,
    weights::numbers,
};
use crate::gguf::{Gguf, Metadata};
use std::f64::consts::PI;

/// Angles per position and a magnitude for cosine and sine.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Vec<f64>,
    /// Those of longer contexts than the first number, where they differ.
    long: Option<(usize, Vec<f64>)>,
    pub magnitude: f64,
}

/// The rotations of a model's layers.
pub struct Ropes {
    /// That of layers without a window, and the other one if it is another one.
    pub kinds: Vec<Rope>,
    rotated: Rotated,
    /// No layer is rotated.
    none: bool,
}

impl Rope {
    /// Angles for sequences of up to `context` positions.
    pub fn frequencies(&self, context: usize) -> &[f64] {
        match &self.long {
            Some((limit, long)) if context > *limit => long,
            _ => &self.frequencies,
        }
    }

    /// Su et al. 2021: pair i of n / 2 turns by base^(-2 i / n) per position.
    fn plain(base: f64, n: usize) -> Self {
        let frequencies = (0..n / 2).map(|i| libm::pow(base, -((2 * i) as f64) / n as f64)).collect();
        Self { frequencies, long: None, magnitude: 1.0 }
    }
}

impl Ropes {
    pub fn new(metadata: &Metadata, gguf: &Gguf, params: &Params, family: &Family) -> Result<Self, Error> {
        let keys = Keys { metadata, architecture: &params.architecture };
        let sections = metadata.array(&keys.name("rope.dimension_sections"))?.and_then(|array| array.ints());
        let sections: Vec<i64> = sections.into_iter().flatten().collect();
        let is_text = family.rope_sections && turn_alike(&sections, params.rope_dim / 2);
        if !is_text && sections.iter().any(|&n| n != 0) {
            return Err(Error::Unsupported("rope in sections (of images and text) is not supported".into()));
        }
        let base = positive(&keys, "rope.freq_base", 10000.0)?;
        let global = scaled(&keys, gguf, params, base)?;
        let n = params.rope_dim;
        let local = match family.local_rope {
            LocalRope::Same => match positive(&keys, "rope.freq_base_swa", base)? {
                same if same == base => None,
                own => Some(scaled(&keys, gguf, params, own)?),
            },
            LocalRope::Unscaled => Some(Rope::plain(base, n)),
            LocalRope::Own => Some(Rope::plain(positive(&keys, "rope.freq_base_swa", 10000.0)?, n)),
        };
        let local = local.filter(|_| params.window.is_some());
        // Granite's switch: keys that were never rotated.
        let none = family.multipliers && metadata.bool(&keys.name("rope.scaling.finetuned"))? == Some(false);
        Ok(Self { kinds: [global].into_iter().chain(local).collect(), rotated: family.rotated, none })
    }

    /// Which of the kinds a layer uses, if it is rotated.
    pub fn of(&self, layer: usize, params: &Params) -> Option<usize> {
        let windowed = params.window(layer).is_some();
        let rotated = match self.rotated {
            Rotated::All => true,
            Rotated::Windowed => windowed || params.window.is_none(),
            Rotated::AllBut(n) => !(layer + 1).is_multiple_of(n),
        };
        (rotated && !self.none).then_some(if windowed { self.kinds.len() - 1 } else { 0 })
    }
}

/// Does every pair turn with the position in the text? In interleaved sections pair i belongs to section i mod 3 where that
/// has so many; the others turn with a fourth number, which text does not have (`ggml_mrope_cache_init` of llama.cpp).
fn turn_alike(sections: &[i64], pairs: usize) -> bool {
    let all = sections.iter().fold(0i64, |sum, &n| sum.saturating_add(n.max(0)));
    let is_text = |i: usize| {
        let at = i as i64 % all;
        sections.get(at as usize % 3).is_some_and(|&n| at < n.saturating_mul(3))
    };
    all > 0 && (0..pairs).all(is_text)
}

fn positive(keys: &Keys, name: &str, default: f64) -> Result<f64, Error> {
    let value = keys.metadata.f32(&keys.name(name))?.map_or(default, f64::from);
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(Error::Bad(format!("{} is {value}, expected a positive number", keys.name(name))))
}

/// The rotation with the scaling that the file asks for.
fn scaled(keys: &Keys, gguf: &Gguf, params: &Params, base: f64) -> Result<Rope, Error> {
    let metadata = keys.metadata;
    let n = params.rope_dim;
    let mut rope = Rope::plain(base, n);
    let original = keys.optional("rope.scaling.original_context_length")?.unwrap_or(params.context_length);
    divide_by_factors(gguf, n, original, &mut rope)?;
    let kind = metadata.str(&keys.name("rope.scaling.type"))?.unwrap_or("linear".into());
    // A factor of 0 means none, as does its absence.
    let factor =
        match metadata.f32(&keys.name("rope.scaling.factor"))?.or(metadata.f32(&keys.name("rope.scale_linear"))?) {
            None | Some(0.0) => 1.0,
            Some(factor) if factor > 0.0 && factor.is_finite() => f64::from(factor),
            Some(factor) => return Err(Error::Bad(format!("{} is {factor}", keys.name("rope.scaling.factor")))),
        };
    rope.magnitude = positive(keys, "rope.scaling.attn_factor", 1.0)?;
    let all = rope.frequencies.iter_mut().chain(rope.long.iter_mut().flat_map(|(_, long)| long));
    match &*kind {
        "none" => {}
        "linear" | "longrope" => all.for_each(|frequency| *frequency /= factor),
        "yarn" => {
            let fast = positive(keys, "rope.scaling.yarn_beta_fast", 32.0)?;
            let slow = positive(keys, "rope.scaling.yarn_beta_slow", 1.0)?;
            // Peng et al. 2023 (arXiv 2309.00071): pairs that turn often keep their angle, slow ones are scaled, with a
            // ramp between the pair that makes `fast` and the one that makes `slow` turns in the original context.
            let pair_of = |turns: f64| {
                let circle = turns * 2.0 * PI;
                n as f64 * libm::log(original as f64 / circle) / (2.0 * libm::log(base))
            };
            let low = libm::floor(pair_of(fast)).max(0.0);
            let high = libm::ceil(pair_of(slow)).min(n as f64 - 1.0);
            for (i, frequency) in rope.frequencies.iter_mut().enumerate() {
                let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                *frequency = *frequency / factor * ramp + *frequency * (1.0 - ramp);
            }
            // The paper's factor, over that of models trained with another one (DeepSeek-V2's `mscale_all_dim`).
            let magnitude = |slope: f64| if factor > 1.0 { 1.0 + 0.1 * slope * libm::log(factor) } else { 1.0 };
            let other = f64::from(keys.factor("rope.scaling.yarn_log_multiplier", 0.0)?);
            rope.magnitude *= magnitude(1.0) / magnitude(other);
        }
        other => return Err(Error::Unsupported(format!("rope scaling '{other}' is not supported"))),
    }
    Ok(rope)
}

/// Divides the angles by factors that the file holds as tensors: Llama 3.1 slows the slow ones; LongRoPE (Ding et al. 2024,
/// arXiv 2402.13753) has factors for sequences within the original context and for longer ones.
fn divide_by_factors(gguf: &Gguf, n: usize, original: usize, rope: &mut Rope) -> Result<(), Error> {
    let divided = |name: &str| -> Result<Option<Vec<f64>>, Error> {
        let Some(tensor) = gguf.tensor(name) else { return Ok(None) };
        let factors = numbers(gguf, tensor, &[n / 2])?;
        Ok(Some(rope.frequencies.iter().zip(factors).map(|(angle, factor)| angle / f64::from(factor)).collect()))
    };
    let (freqs, short, long) =
        (divided("rope_freqs.weight")?, divided("rope_factors_short.weight")?, divided("rope_factors_long.weight")?);
    if let Some(long) = long {
        rope.long = Some((original, long));
    }
    if let Some(frequencies) = freqs.or(short) {
        rope.frequencies = frequencies;
    }
    Ok(())
}
