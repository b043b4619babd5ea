//! One running request: its tokens, its cache, its sampler, and the text that is not sent yet.
use super::{
    Chunk, Error, Finish, FinishReason, GenerateOptions, Loaded, Overflow, Stream, Timings, Usage, layers::check_tokens,
};
use crate::{
    cache::{OutOfMemory, Sequence},
    kernels::attention::Layout,
    sampling::{Sampler, SamplingParams, TokenLogprob},
    tokenizer::StreamDecoder,
};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Instant,
};

pub struct Generation {
    /// Prompt and answer so far; after a shift without the dropped middle.
    tokens: Vec<u32>,
    /// How many of them are in the cache.
    done: usize,
    sequence: Sequence,
    sampler: Sampler,
    pipe: Stream,
    text: TextOut,
    logprobs: Option<usize>,
    context: usize,
    overflow: Overflow,
    priority: i32,
    /// Tokens that may still be generated.
    left: usize,
    seed: u64,
    usage: Usage,
    times: Times,
}

/// When things happened.
struct Times {
    asked: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

/// Text on its way out: bytes of half a character and what may become a stop string are held back.
struct TextOut {
    decoder: StreamDecoder,
    held: String,
    stops: Vec<String>,
    chunk: Chunk,
}

impl Generation {
    pub fn new(
        model: &Loaded,
        mut tokens: Vec<u32>,
        options: GenerateOptions,
        pipe: Stream,
        asked: Instant,
    ) -> Result<Self, Error> {
        let network = model.network()?;
        if tokens.is_empty() {
            return Err(Error::InvalidArgument("the prompt has no tokens".into()));
        }
        check_tokens(network, &tokens)?;
        let (prompt_tokens, context) = (tokens.len(), network.params.context_length);
        if tokens.len() >= context {
            if options.overflow == Overflow::Error {
                return Err(Error::ContextOverflow(format!(
                    "the prompt has {prompt_tokens} tokens, which leaves no room for an answer in the context of \
                     {context}: shorten it or ask for overflow: 'shift'"
                )));
            }
            shift(&mut tokens, context);
        }
        let seed = options.seed.unwrap_or_else(fresh_seed);
        let mut sampler = Sampler::new(sampling(model, &options, seed));
        tokens.iter().for_each(|&token| sampler.accept(token));
        Ok(Self {
            done: 0,
            sequence: Sequence::new(network.layout(options.kv_type.unwrap_or_default()), 0),
            sampler,
            pipe,
            text: TextOut {
                decoder: model.tokenizer.as_ref().map(|t| t.stream_decoder()).unwrap_or_default(),
                held: String::new(),
                stops: options.stop,
                chunk: Chunk::default(),
            },
            logprobs: options.logprobs,
            context,
            overflow: options.overflow,
            priority: options.priority,
            left: options.max_tokens.unwrap_or(usize::MAX),
            seed,
            usage: Usage { prompt_tokens, ..Usage::default() },
            times: Times { asked, started: None, first_token: None },
            tokens,
        })
    }

    pub fn layout(&self) -> Layout {
        self.sequence.layout()
    }

    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    pub fn priority(&self) -> i32 {
        self.priority
    }

    pub fn is_cancelled(&self) -> bool {
        self.pipe.is_cancelled()
    }

    /// Can it go on, or does it wait for its reader?
    pub fn has_room(&self) -> bool {
        self.pipe.has_room()
    }

    /// Nothing is to be generated at all.
    pub fn is_finished(&self) -> bool {
        self.left == 0
    }

    /// Position of the first token that is not in the cache, and how many there are.
    pub fn pending(&self) -> (usize, usize) {
        (self.done, self.tokens.len() - self.done)
    }

    /// The next `n` tokens for the forward pass; makes room for them in the cache.
    pub fn take_rows(&mut self, n: usize) -> Result<&[u32], OutOfMemory> {
        self.times.started.get_or_insert_with(Instant::now);
        // The whole prompt's room at once: refused before work is done, not in the middle of it.
        self.sequence.prepare(self.done, self.tokens.len())?;
        Ok(&self.tokens[self.done..self.done + n])
    }

    /// After a step: `n` more tokens are in the cache; `logits` follow the last of them if it was the last there is.
    /// False when this was the end.
    pub fn advance(&mut self, model: &Loaded, n: usize, logits: Option<&mut [f32]>) -> bool {
        self.done += n;
        let Some(logits) = logits else { return true };
        let (token, logprob) = self.sampler.sample(logits, self.logprobs);
        self.times.first_token.get_or_insert_with(Instant::now);
        if model.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.is_end_of_generation(token)) {
            self.finish(FinishReason::Stop);
            return false;
        }
        self.sampler.accept(token);
        self.tokens.push(token);
        self.usage.completion_tokens += 1;
        self.left -= 1;
        if self.text.add(model, token, logprob) {
            self.finish(FinishReason::Stop);
            return false;
        }
        if self.tokens.len() >= self.context {
            match self.overflow {
                Overflow::Error => self.left = 0,
                Overflow::Shift => {
                    // The kept tokens' keys and values are computed anew: exact, whatever the position encoding.
                    shift(&mut self.tokens, self.context);
                    self.sequence = Sequence::new(self.sequence.layout(), 0);
                    self.done = 0;
                }
            }
        }
        if self.left == 0 {
            self.finish(FinishReason::Length);
            return false;
        }
        if let Some(chunk) = self.text.take() {
            self.pipe.push(Ok(chunk));
        }
        true
    }

    /// Ends the stream with its last chunk.
    pub fn finish(&mut self, reason: FinishReason) {
        let mut chunk = self.text.finish(reason);
        let now = Instant::now();
        let ms = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1e3;
        let started = self.times.started.unwrap_or(now);
        let first = self.times.first_token.unwrap_or(now);
        let timings = Timings {
            queue_ms: ms(self.times.asked, started),
            prompt_ms: ms(started, first),
            generate_ms: ms(first, now),
            first_token_ms: ms(self.times.asked, first),
        };
        chunk.finish = Some(Finish { reason, usage: self.usage, timings, seed: self.seed });
        self.pipe.push(Ok(chunk));
        self.pipe.finish();
    }

    /// Ends the stream with an error.
    pub fn fail(&self, error: Error) {
        self.pipe.push(Err(error));
        self.pipe.finish();
    }
}

impl TextOut {
    /// Adds a token's text; true when a stop string is complete (what follows it is dropped).
    fn add(&mut self, model: &Loaded, token: u32, logprob: Option<TokenLogprob>) -> bool {
        self.chunk.tokens.push(token);
        if let Some(logprob) = logprob {
            self.chunk.logprobs.get_or_insert_default().push(logprob);
        }
        if let Some(tokenizer) = &model.tokenizer {
            self.held += &self.decoder.push(tokenizer, token);
        }
        self.cut_at_stop()
    }

    fn cut_at_stop(&mut self) -> bool {
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
        }
        found.is_some()
    }

    /// Length of the end of the held text that may be the beginning of a stop string.
    fn undecided(&self) -> usize {
        let is_begin = |at: usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let begin = self.held.char_indices().map(|(i, _)| i).find(|&i| i >= from && is_begin(i));
        begin.map_or(0, |at| self.held.len() - at)
    }

    /// The chunk to send now, if there is text for it.
    fn take(&mut self) -> Option<Chunk> {
        let ready = self.held.len() - self.undecided();
        if ready == 0 {
            return None;
        }
        let rest = self.held.split_off(ready);
        let text = std::mem::replace(&mut self.held, rest);
        Some(Chunk { text, ..std::mem::take(&mut self.chunk) })
    }

    /// The last chunk: everything that is left.
    fn finish(&mut self, reason: FinishReason) -> Chunk {
        // After a stop string there is nothing to complete.
        if reason != FinishReason::Stop || !self.cut_at_stop() {
            let rest = self.decoder.finish();
            self.held += &rest;
            self.cut_at_stop();
        }
        Chunk { text: std::mem::take(&mut self.held), ..std::mem::take(&mut self.chunk) }
    }
}

/// Keeps the first tokens (up to a sixteenth of the context) and the latest half of it, drops what is between.
fn shift(tokens: &mut Vec<u32>, context: usize) {
    let keep_first = (context / 16).clamp(1, 256).min(tokens.len());
    let keep_last = (context / 2).min(tokens.len() - keep_first);
    tokens.drain(keep_first..tokens.len() - keep_last);
}

/// What the caller asked for over what the model recommends.
fn sampling(model: &Loaded, options: &GenerateOptions, seed: u64) -> SamplingParams {
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
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 11
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(stops: &[&str]) -> TextOut {
        TextOut {
            decoder: StreamDecoder::default(),
            held: String::new(),
            stops: stops.iter().map(|s| s.to_string()).collect(),
            chunk: Chunk::default(),
        }
    }

    #[test]
    fn text_that_may_become_a_stop_string_is_held_back() {
        let mut text = out(&["STOP", "\n\n"]);
        text.held += "one ST";
        assert!(!text.cut_at_stop());
        assert_eq!(text.take().unwrap().text, "one ");
        text.held += "ILL\n";
        assert!(!text.cut_at_stop());
        assert_eq!(text.take().unwrap().text, "STILL");
        text.held += "\nmore";
        assert!(text.cut_at_stop());
        assert_eq!(text.finish(FinishReason::Stop).text, "");
    }

    #[test]
    fn the_earliest_of_several_stop_strings_counts() {
        let mut text = out(&["c", "bc", "é"]);
        text.held += "abcé";
        assert!(text.cut_at_stop());
        assert_eq!(text.held, "a");
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut text = out(&["abc"]);
        text.held += "ab";
        assert!(text.take().is_none());
        assert_eq!(text.finish(FinishReason::Length).text, "ab");
    }

    #[test]
    fn a_shift_keeps_the_beginning_and_the_latest_half() {
        let mut tokens: Vec<u32> = (0..100).collect();
        shift(&mut tokens, 64);
        assert_eq!(tokens[..5], [0, 1, 2, 3, 68]);
        assert_eq!((tokens.len(), tokens.last()), (36, Some(&99)));
        let mut short = vec![1, 2];
        shift(&mut short, 2);
        assert_eq!(short, [1, 2][..2]);
    }
}
