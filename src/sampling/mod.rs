//! Logits → token: penalties, the sampler chain, seeds. Knows nothing of weights.

/// How tokens are chosen. Field names and meaning are those of `GenerateOptions` in the public API.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; ties go to the lower id.
    pub temperature: f32,
    /// 0 keeps all tokens.
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    pub frequency_penalty: f32,
    pub presence_penalty: f32,
    /// How many of the last tokens (prompt included) the penalties look at; `None` is all of them, 0 none.
    pub penalty_last_n: Option<u32>,
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
pub struct Sampler {}

impl Sampler {
    /// `vocab_size` bounds ids in `logit_bias`; ids outside were refused by the caller.
    pub fn new(params: SamplingParams) -> Self {
        todo!("{params:?}")
    }
    /// Tells the penalties about a token that is part of the text (prompt or generated).
    pub fn accept(&mut self, token: u32) {
        todo!("{token}")
    }
    /// Chooses a token from `logits` (one per vocabulary entry; changed in place by bias and penalties).
    /// `logprobs`: `None` for none, `Some(n)` for the chosen token's and the `n` likeliest.
    /// NaN logits never win; if nothing is finite the lowest id is chosen.
    pub fn sample(&mut self, logits: &mut [f32], logprobs: Option<usize>) -> (u32, Option<TokenLogprob>) {
        todo!("{} {logprobs:?}", logits.len())
    }
}
