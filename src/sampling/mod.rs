//! Logits → token: penalties, the sampler chain, seeds. Knows nothing of weights.
//!
//! The order is: logit bias, penalties, (log probabilities are read here), top-k, top-p, min-p, temperature, one draw.
//! Begin at [`Sampler::sample`]. `penalties` keeps the window of past tokens, `ranking` sorts only as far as somebody
//! looks, `weight` turns logits into integer weights so that no sum depends on its order.
//!
//! The same logits, parameters and seed give the same token on every platform: floats are only added, multiplied,
//! divided and compared one by one, `exp` and `log` come from `libm` (plain Rust), sums are integers, and the random
//! numbers are ChaCha8's.

mod penalties;
mod ranking;
mod weight;

#[cfg(test)]
mod tests;

use penalties::Penalties;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use ranking::{Ranking, greatest};
use weight::{Softmax, log_probability};

/// How tokens are chosen. Field names and meaning are those of `GenerateOptions` in the public API.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; ties go to the lower id.
    pub temperature: f32,
    /// 0 keeps all tokens.
    pub top_k: u32,
    /// Keeps the fewest likeliest tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps the tokens that are at least this many times as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of the tokens in the window; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted from a token's logit once for every time it is in the window; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of every token in the window; 0 is off.
    pub presence_penalty: f32,
    /// How many of the last tokens (prompt included) the penalties look at; `None` is all of them, 0 none.
    pub penalty_last_n: Option<u32>,
    /// Added to the logits; a token named twice gets both. Ids that the vocabulary lacks are ignored.
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: u64,
}

/// A chosen token's log probability and, on request, the likeliest tokens (after bias and penalties, before temperature).
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub token: u32,
    pub logprob: f32,
    pub top: Vec<(u32, f32)>,
}

/// The state of one request's sampling: parameters, random generator, history for the penalties.
pub struct Sampler {
    params: SamplingParams,
    penalties: Penalties,
    random: ChaCha8Rng,
    /// Kept between calls for its buffer only.
    ranking: Ranking,
}

impl Sampler {
    pub fn new(params: SamplingParams) -> Self {
        Self { penalties: Penalties::new(&params), random: generator(params.seed), ranking: Ranking::default(), params }
    }

    /// Tells the penalties about a token that is part of the text (prompt or generated). `sample` does not do so itself.
    pub fn accept(&mut self, token: u32) {
        self.penalties.accept(token);
    }

    /// Chooses a token from `logits` (one per vocabulary entry, at least one; changed in place by bias and penalties).
    /// `logprobs`: `None` for none, `Some(n)` for the chosen token's and the `n` likeliest.
    /// NaN logits never win; if nothing is finite the lowest id is chosen.
    ///
    /// A temperature of 0 or less takes no random number, any other takes exactly one per call.
    pub fn sample(&mut self, logits: &mut [f32], logprobs: Option<usize>) -> (u32, Option<TokenLogprob>) {
        self.add_bias(logits);
        self.penalties.apply(logits);

        let token = if self.params.temperature > 0.0 { self.draw(logits) } else { argmax(logits) };
        let logprob = logprobs.map(|count| self.log_probabilities(logits, token, count));
        (token, logprob)
    }

    fn add_bias(&self, logits: &mut [f32]) {
        for &(token, bias) in &self.params.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
    }

    /// The chain from top-k on. Each of top-k, top-p and min-p keeps a prefix of the ranking, so the chain is a length.
    fn draw(&mut self, logits: &[f32]) -> u32 {
        let random = self.random.next_u64();
        let candidates = match self.params.top_k {
            0 => logits.len(),
            k => logits.len().min(k as usize),
        };
        self.ranking.fill(logits, candidates);
        let kept = self.count_kept(candidates);

        let softmax = Softmax { max: self.ranking.logit(0), temperature: f64::from(self.params.temperature) };
        let total = softmax.total(self.ranking.first(kept));
        let target = scale(random, total);

        // Weights that round to 0 are never drawn. When all do (no logit is finite) rank 0 is the lowest id.
        let mut passed = 0;
        let rank = (0..kept).find(|&rank| {
            passed += u128::from(softmax.weight(self.ranking.logit(rank)));
            passed > target
        });
        self.ranking.token(rank.unwrap_or(0))
    }

    /// How many of the first `candidates` ranks top-p and min-p leave, at least one.
    ///
    /// Both look at the probabilities without temperature, and weights never grow with the rank: what each keeps is a
    /// prefix, so what both keep is the shorter one and the walk ends at whichever stops first.
    fn count_kept(&mut self, candidates: usize) -> usize {
        let top_p = f64::from(self.params.top_p);
        let min_p = f64::from(self.params.min_p);
        let softmax = Softmax { max: self.ranking.logit(0), temperature: 1.0 };
        let limit_p = (top_p < 1.0).then(|| softmax.total(self.ranking.first(candidates)) as f64 * top_p);
        let has_min_p = min_p > 0.0;
        if limit_p.is_none() && !has_min_p {
            return candidates;
        }

        let mut passed = 0u128;
        for rank in 0..candidates {
            let logit = self.ranking.logit(rank);
            let too_unlikely = has_min_p && softmax.relative_probability(logit) < min_p;
            let enough = limit_p.is_some_and(|limit| passed as f64 >= limit);
            if rank > 0 && (too_unlikely || enough) {
                return rank;
            }
            passed += u128::from(softmax.weight(logit));
        }
        candidates
    }

    fn log_probabilities(&mut self, logits: &[f32], token: u32, count: usize) -> TokenLogprob {
        let max = greatest(logits);
        let softmax = Softmax { max, temperature: 1.0 };
        let total = softmax.total(logits.iter().copied());
        let logprob = |logit| log_probability(logit, max, total);

        let count = count.min(logits.len());
        if count > 0 {
            self.ranking.fill(logits, count);
        }
        let top = (0..count).map(|rank| (self.ranking.token(rank), logprob(self.ranking.logit(rank)))).collect();
        TokenLogprob { token, logprob: logprob(logits[token as usize]), top }
    }
}

/// The seed is the low end of the ChaCha key, the rest is zero: nothing here depends on how a library widens seeds.
fn generator(seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// The greatest logit's id; the lower id where several are greatest, and 0 where none is a number.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0u32..).zip(logits) {
        // False for NaN, and false for equal: the first stays.
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

/// `total · random / 2^64`, rounded down: an integer in `0..total`, where every one is as likely as 64 bits can make it.
fn scale(random: u64, total: u128) -> u128 {
    let (high, low) = (total >> 64, total & u128::from(u64::MAX));
    let random = u128::from(random);
    high * random + ((low * random) >> 64)
}
