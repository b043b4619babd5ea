//! A generation: what was asked, and the stream of its answer.
use super::{Error, KvType, Loaded, Pipe, generation::Generation, pipe::TOKEN_WEIGHT, process::runtime};
use crate::{
    cache::Wake,
    chat::RenderOptions,
    sampling::{SamplingParams, TokenLogprob},
    tokenizer::Tokenizer,
};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

/// A chat message as JSON object (`role`, `content`, …), kept as given for the template.
pub type Message = serde_json::Value;

pub enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Messages(Vec<Message>),
}

/// What to do when the context is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// A prompt that does not fit is refused; an answer that fills the context ends there.
    #[default]
    Error,
    /// Drop the middle of the text, keep its beginning and the latest half, and go on.
    Shift,
}

/// `None` means the model's own default (`general.sampling.*`) or the one in the API documentation.
#[derive(Debug, Clone)]
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
    /// Use what other requests computed for the same tokens, and leave them what this one computes.
    pub cache_prompt: bool,
    /// Hand the answer over as a whole, at its end.
    pub whole: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: None,
            temperature: None,
            top_k: None,
            top_p: None,
            min_p: None,
            seed: None,
            repeat_penalty: None,
            frequency_penalty: None,
            presence_penalty: None,
            penalty_last_n: None,
            stop: Vec::new(),
            logit_bias: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            overflow: Overflow::default(),
            kv_type: None,
            priority: 0,
            cache_prompt: true,
            whole: false,
        }
    }
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
    /// From the call to the first step, templating and tokenising included.
    pub queue_ms: f64,
    /// From the first step to the first token.
    pub prompt_ms: f64,
    /// From the first token to the last.
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

impl Chunk {
    /// Adds what comes after.
    pub fn append(&mut self, later: Self) {
        self.text.push_str(&later.text);
        self.tokens.extend(later.tokens);
        if let Some(logprobs) = later.logprobs {
            self.logprobs.get_or_insert_default().extend(logprobs);
        }
        self.finish = later.finish.or(self.finish);
    }

    /// A measure of its memory.
    pub(super) fn weight(&self) -> usize {
        let top = self.logprobs.as_ref().and_then(|all| all.first()).map_or(0, |first| first.top.len());
        self.tokens.len() * (TOKEN_WEIGHT + top)
    }
}

/// The stream of a running request: chunks, or the error that ended it. `Pipe::cancel` ends the request within one layer.
pub type Stream = Arc<Pipe>;

/// Queues a generation and returns at once; tokenising and templating happen on the engine's side. Cheap.
/// Wrong options are an error here, everything later comes through the stream.
pub fn submit(model: Arc<Loaded>, prompt: Prompt, options: GenerateOptions) -> Result<Stream, Error> {
    check(&model, &options)?;
    let asked = Instant::now();
    let wake = model.scheduler.waker();
    let pipe: Stream = Arc::new(Pipe::new(options.whole, move || wake.wake()));
    let ticket = match model.scheduler.enter() {
        Ok(ticket) => ticket,
        Err(error) => {
            pipe.fail(error);
            return Ok(pipe);
        }
    };
    let stream = pipe.clone();
    runtime().spawn_blocking(move || {
        let make = || -> Result<Generation, Error> {
            let tokens = tokenize(&model, prompt)?;
            Generation::new(&model, tokens, options, pipe.clone(), asked, ticket)
        };
        let made = catch_unwind(AssertUnwindSafe(make))
            .unwrap_or_else(|_| Err(Error::Internal("a panic while the prompt was prepared".into())));
        match made {
            Ok(generation) => model.scheduler.queue(&model, generation),
            Err(error) => {
                model.scheduler.stats.refused();
                pipe.fail(error);
            }
        }
    });
    Ok(stream)
}

fn check(model: &Loaded, options: &GenerateOptions) -> Result<(), Error> {
    let network = model.network()?;
    let size = network.vocabulary_size();
    if let Some((token, _)) = options.logit_bias.iter().find(|(token, _)| *token as usize >= size) {
        return Err(Error::InvalidArgument(format!("logitBias names token {token}, but the model has {size} tokens")));
    }
    if options.overflow == Overflow::Shift && network.has_state() {
        return Err(Error::Unsupported(format!(
            "overflow: 'shift' is not supported for architecture '{}': the state of its recurrent layers cannot be moved to \
             other positions",
            network.params.architecture
        )));
    }
    if options.stop.iter().any(String::is_empty) {
        return Err(Error::InvalidArgument("stop holds an empty string, expected text".into()));
    }
    Ok(())
}

/// Guards all text in a JSON value.
fn guard(tokenizer: &Tokenizer, value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = tokenizer.guard(text),
        Value::Array(values) => values.iter_mut().for_each(|value| guard(tokenizer, value)),
        Value::Object(fields) => fields.values_mut().for_each(|value| guard(tokenizer, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The tokens of a prompt. Control tokens written in plain text or in a message stay text; those that a template writes
/// are control tokens.
fn tokenize(model: &Loaded, prompt: Prompt) -> Result<Vec<u32>, Error> {
    match prompt {
        Prompt::Tokens(tokens) => Ok(tokens),
        Prompt::Text(text) => Ok(model.tokenizer()?.encode(&text, true, false)),
        Prompt::Messages(messages) => {
            let tokenizer = model.tokenizer()?;
            let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
            // What the messages say stays text; only what the template writes can be a control token.
            let mut messages = serde_json::Value::Array(messages);
            guard(tokenizer, &mut messages);
            let text = model.render_chat(&messages, None, options)?;
            // A template that writes BOS itself must not get a second one.
            let bos = tokenizer.bos().and_then(|bos| tokenizer.token_text(bos)).filter(|bos| !bos.is_empty());
            let add_special = !bos.is_some_and(|bos| text.starts_with(&bos));
            Ok(tokenizer.encode(&text, add_special, true))
        }
    }
}

/// What the caller asked for over what the model recommends.
pub(super) fn sampling(model: &Loaded, options: &GenerateOptions, seed: u64) -> SamplingParams {
    let default = model.sampling.clone();
    let mut logit_bias = options.logit_bias.clone();
    if options.ignore_eos
        && let Some(tokenizer) = &model.tokenizer
    {
        let ends = (0..tokenizer.vocab_size() as u32).filter(|&id| tokenizer.is_end_of_generation(id));
        logit_bias.extend(ends.map(|id| (id, f32::NEG_INFINITY)));
    }
    SamplingParams {
        temperature: options.temperature.unwrap_or(default.temperature),
        top_k: options.top_k.unwrap_or(default.top_k),
        top_p: options.top_p.unwrap_or(default.top_p),
        min_p: options.min_p.unwrap_or(default.min_p),
        repeat_penalty: options.repeat_penalty.unwrap_or(default.repeat_penalty),
        frequency_penalty: options.frequency_penalty.unwrap_or(default.frequency_penalty),
        presence_penalty: options.presence_penalty.unwrap_or(default.presence_penalty),
        penalty_last_n: options.penalty_last_n.unwrap_or(default.penalty_last_n),
        logit_bias,
        seed,
    }
}

/// A seed nobody can foresee, small enough to be exact as a JavaScript number.
pub(super) fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 11
}
