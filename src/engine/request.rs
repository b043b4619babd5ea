//! A generation: what was asked, and the stream of its answer.
use super::{Error, KvType, Loaded, Pipe};
use crate::sampling::TokenLogprob;
use std::sync::Arc;

/// A chat message as JSON object (`role`, `content`, …), kept as given for the template.
pub type Message = serde_json::Value;

pub enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Messages(Vec<Message>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    #[default]
    Error,
    Shift,
}

/// `None` means the model's own default (`general.sampling.*`) or the one in the API documentation.
#[derive(Debug, Clone, Default)]
pub struct GenerateOptions {
    pub max_tokens: Option<usize>,
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub seed: Option<u64>,
    pub repeat_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    /// `Some(None)`: the whole text.
    pub penalty_last_n: Option<Option<u32>>,
    pub stop: Vec<String>,
    pub logit_bias: Vec<(u32, f32)>,
    pub ignore_eos: bool,
    pub logprobs: Option<usize>,
    pub overflow: Overflow,
    pub kv_type: Option<KvType>,
    pub priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub completion_tokens: usize,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    pub queue_ms: f64,
    pub prompt_ms: f64,
    pub generate_ms: f64,
    /// From the call to the first token.
    pub first_token_ms: f64,
}

/// The end of a generation, on its last chunk.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    pub reason: FinishReason,
    pub usage: Usage,
    pub timings: Timings,
    pub seed: u64,
}

/// A piece of the answer. Text never ends inside a character and never holds part of a stop string.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    pub text: String,
    pub tokens: Vec<u32>,
    pub logprobs: Option<Vec<TokenLogprob>>,
    pub finish: Option<Finish>,
}

/// The stream of a running request: chunks, or the error that ended it. `Pipe::cancel` ends the request within one layer.
pub type Stream = Arc<Pipe<Result<Chunk, Error>>>;

/// Queues a generation and returns at once; tokenising and templating happen on the engine's side. Cheap.
/// Wrong options are an error here, everything later comes through the stream.
pub fn submit(model: Arc<Loaded>, prompt: Prompt, options: GenerateOptions) -> Result<Stream, Error> {
    let _ = (model, prompt, options);
    todo!()
}
