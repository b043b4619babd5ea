//! The pieces of an answer as JavaScript objects.
use crate::{engine, sampling};
use napi::{
    Env,
    bindgen_prelude::{Uint32Array, Uint32ArraySlice},
};
use napi_derive::napi;

/// A piece of an answer, as `generateStream` yields it.
#[napi(object, object_from_js = false)]
pub struct TokenChunk<'env> {
    /// Never ends inside a character and never holds part of a stop string. May be empty.
    pub text: String,
    #[napi(ts_type = "Tokens")]
    pub tokens: Uint32ArraySlice<'env>,
    /// One for each token, if asked for.
    pub logprobs: Option<Vec<TokenLogprob>>,
    /// On the last chunk: why the answer ended.
    #[napi(ts_type = "'stop' | 'length' | 'tool_calls'")]
    pub finish_reason: Option<&'static str>,
    /// On the last chunk.
    pub usage: Option<Usage>,
    /// On the last chunk.
    pub timings: Option<Timings>,
    /// On the last chunk: the seed that gives this answer again.
    pub seed: Option<f64>,
}

/// A whole answer, as `generate` resolves to it.
#[napi(object, object_from_js = false)]
pub struct Generation {
    pub text: String,
    #[napi(ts_type = "Tokens")]
    pub tokens: Uint32Array,
    /// One for each token, if asked for.
    pub logprobs: Option<Vec<TokenLogprob>>,
    #[napi(ts_type = "'stop' | 'length' | 'tool_calls'")]
    pub finish_reason: &'static str,
    pub usage: Usage,
    pub timings: Timings,
    /// The seed that gives this answer again.
    pub seed: f64,
}

/// A chosen token and what else was likely.
#[napi(object, object_from_js = false)]
pub struct TokenLogprob {
    pub token: u32,
    /// Natural logarithm of its probability, after bias and penalties, before temperature.
    pub logprob: f64,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<TopLogprob>,
}

#[napi(object, object_from_js = false)]
pub struct TopLogprob {
    pub token: u32,
    pub logprob: f64,
}

/// Tokens that a generation took.
#[napi(object, object_from_js = false)]
pub struct Usage {
    pub prompt_tokens: f64,
    /// Those of the prompt that were in the cache already.
    pub cached_tokens: f64,
    pub completion_tokens: f64,
}

/// Milliseconds that a generation took.
#[napi(object, object_from_js = false)]
pub struct Timings {
    /// Waiting for its turn.
    pub queue_ms: f64,
    /// Reading the prompt.
    pub prompt_ms: f64,
    /// Writing the answer.
    pub generate_ms: f64,
    /// From the call to the first token.
    pub first_token_ms: f64,
}

pub fn token_chunk<'env>(env: &'env Env, chunk: engine::Chunk) -> napi::Result<TokenChunk<'env>> {
    Ok(TokenChunk {
        text: chunk.text,
        tokens: Uint32ArraySlice::copy_from(env, chunk.tokens)?,
        logprobs: chunk.logprobs.map(convert),
        finish_reason: chunk.finish.map(|finish| word(finish.reason)),
        usage: chunk.finish.map(|finish| finish.usage.into()),
        timings: chunk.finish.map(|finish| finish.timings.into()),
        seed: chunk.finish.map(|finish| finish.seed as f64),
    })
}

/// An answer put together from all its chunks; `None` if its end is missing.
pub fn generation(answer: engine::Chunk) -> Option<Generation> {
    let finish = answer.finish?;
    Some(Generation {
        text: answer.text,
        tokens: Uint32Array::new(answer.tokens),
        logprobs: answer.logprobs.map(convert),
        finish_reason: word(finish.reason),
        usage: finish.usage.into(),
        timings: finish.timings.into(),
        seed: finish.seed as f64,
    })
}

impl From<sampling::TokenLogprob> for TokenLogprob {
    fn from(chosen: sampling::TokenLogprob) -> Self {
        let top = chosen.top.into_iter().map(|(token, logprob)| TopLogprob { token, logprob: logprob.into() });
        Self { token: chosen.token, logprob: chosen.logprob.into(), top: top.collect() }
    }
}

impl From<engine::Usage> for Usage {
    fn from(usage: engine::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens as f64,
            cached_tokens: usage.cached_tokens as f64,
            completion_tokens: usage.completion_tokens as f64,
        }
    }
}

impl From<engine::Timings> for Timings {
    fn from(timings: engine::Timings) -> Self {
        Self {
            queue_ms: timings.queue_ms,
            prompt_ms: timings.prompt_ms,
            generate_ms: timings.generate_ms,
            first_token_ms: timings.first_token_ms,
        }
    }
}

fn convert(logprobs: Vec<sampling::TokenLogprob>) -> Vec<TokenLogprob> {
    logprobs.into_iter().map(TokenLogprob::from).collect()
}

fn word(reason: engine::FinishReason) -> &'static str {
    match reason {
        engine::FinishReason::Stop => "stop",
        engine::FinishReason::Length => "length",
        engine::FinishReason::ToolCalls => "tool_calls",
    }
}
