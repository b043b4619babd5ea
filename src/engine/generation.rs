//! One running request: its tokens, its cache, its sampler, and the text that is not sent yet.
use super::{
    Error, FinishReason, GenerateOptions, Loaded, Overflow, Stream, Timings, Usage,
    layers::check_tokens,
    process::team,
    request::{Finish, fresh_seed, sampling},
    scheduler::Ticket,
    shift::{Gap, shift},
    text_out::TextOut,
};
use crate::{
    cache::{Budget, OutOfMemory, Prefixes, Sequence},
    kernels::{CHUNK, attention::Layout},
    sampling::Sampler,
};
use std::time::Instant;

/// Pages between the states that a long prompt leaves on its way, at least.
const CHECKPOINT_PAGES: usize = 16;

pub struct Generation {
    /// Prompt and answer so far; after a shift without the dropped middle.
    tokens: Vec<u32>,
    /// How many of them are in the cache.
    done: usize,
    sequence: Sequence,
    /// It has been given memory. Not so at first, and again after it had to give it up.
    started: bool,
    /// Full pages that others can find.
    published: usize,
    /// Positions of the prompt after which its recurrent state is left for others, ascending.
    checkpoints: Vec<usize>,
    /// It uses what others left, and leaves what others can use.
    shares: bool,
    sampler: Sampler,
    pipe: Stream,
    text: TextOut,
    logprobs: Option<usize>,
    context: usize,
    /// No row looks further back, itself included. `None`: in some layer it does.
    window: Option<usize>,
    overflow: Overflow,
    /// The context is full: some of it is dropped before it goes on.
    is_full: bool,
    /// Something was dropped: what is cached cannot be computed from the tokens that are left.
    has_shifted: bool,
    priority: i32,
    /// Tokens that may still be generated.
    left: usize,
    seed: u64,
    usage: Usage,
    times: Times,
    /// Pages of its own, when they were counted last.
    counted_pages: usize,
    /// Nothing will come any more: it leaves the loop.
    over: Option<Outcome>,
    /// Its place among the model's requests, given back at its end.
    ticket: Option<Ticket>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    Failed,
    Cancelled,
}

/// When things happened.
struct Times {
    asked: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

impl Generation {
    pub fn new(
        model: &Loaded,
        mut tokens: Vec<u32>,
        options: GenerateOptions,
        pipe: Stream,
        asked: Instant,
        ticket: Ticket,
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
        let layout = network.layout(options.kv_type.unwrap_or_else(|| model.kv_type()));
        let sequence = Sequence::new(layout, 0);
        Ok(Self {
            done: 0,
            started: false,
            published: 0,
            checkpoints: Vec::new(),
            shares: options.cache_prompt,
            sequence,
            sampler,
            pipe,
            text: TextOut::new(model, options.stop),
            logprobs: options.logprobs,
            context,
            // A shift moves the pages behind it, which must all be there.
            window: network.params.widest_window().filter(|_| options.overflow == Overflow::Error),
            overflow: options.overflow,
            is_full: false,
            has_shifted: false,
            priority: options.priority,
            left: options.max_tokens.unwrap_or(usize::MAX),
            seed,
            usage: Usage { prompt_tokens, ..Usage::default() },
            times: Times { asked, started: None, first_token: None },
            counted_pages: 0,
            over: None,
            tokens,
            ticket: Some(ticket),
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

    /// Pages that it alone holds.
    pub fn count_pages(&mut self) -> usize {
        self.counted_pages = self.sequence.own_pages();
        self.counted_pages
    }

    /// It ended: it leaves the loop.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Can it go on, or does it wait for its reader?
    pub fn has_room(&self) -> bool {
        self.pipe.has_room()
    }

    /// Hands what was written to a reader that waits for it.
    pub fn deliver(&self, can_wait: bool) {
        self.pipe.deliver(can_wait);
    }

    /// Nothing is to be generated at all.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub fn is_started(&self) -> bool {
        self.started
    }

    /// One more row gives the next token.
    pub fn is_decoding(&self) -> bool {
        self.started && self.completes(1)
    }

    /// Are these rows all that the next token needs?
    pub fn completes(&self, rows: usize) -> bool {
        self.done + rows == self.tokens.len()
    }

    /// Position of the first token that is not in the cache, and how many can be computed next.
    pub fn pending(&self) -> (usize, usize) {
        let before_shift = self.is_full && !self.completes(1);
        let end = self.tokens.len() - usize::from(before_shift);
        let end = self.next_checkpoint().unwrap_or(end);
        (self.done, end - self.done)
    }

    fn next_checkpoint(&self) -> Option<usize> {
        self.checkpoints.iter().copied().find(|&position| position > self.done)
    }

    /// Everything but the last token is computed, and there is no room after that.
    pub fn must_shift(&self) -> bool {
        self.is_full && self.is_decoding()
    }

    /// Takes the memory that a shift needs, and drops the middle of what is cached.
    pub fn close_gap(&mut self, prefixes: &Prefixes, gap: Gap) -> Result<(), OutOfMemory> {
        if self.shares {
            // Pages that nobody else uses need no copy.
            prefixes.forget(&self.tokens[..self.done], &self.sequence);
        }
        self.sequence.close_gap(gap.keep, gap.drop, self.context)?;
        Budget::global().there_may_be_room();
        Ok(())
    }

    /// What follows the gap is now where the gap was: its keys are rotated to their new positions, nothing is computed
    /// again.
    pub fn move_back(&mut self, model: &Loaded, gap: Gap) -> Result<(), Error> {
        let mut pages = Vec::new();
        self.sequence.addresses(&mut pages);
        let (from, by) = (gap.keep * CHUNK, gap.drop * CHUNK);
        self.tokens.drain(from..from + by);
        self.done -= by;
        let moved = &pages[gap.keep..self.done.div_ceil(CHUNK)];
        model.network()?.move_back(&team(), moved, self.layout(), by)?;
        (self.is_full, self.has_shifted, self.shares) = (false, true, false);
        Ok(())
    }

    /// The gap that a shift makes, where it can be made of whole pages.
    pub fn gap(&self) -> Option<Gap> {
        Gap::of(self.context)
    }

    /// Would it be the same after it had given its memory up?
    pub fn can_release(&self) -> bool {
        self.sequence.page_count() > 0 && !self.has_shifted
    }

    /// The next `n` tokens for the forward pass.
    pub fn rows(&self, n: usize) -> &[u32] {
        &self.tokens[self.done..self.done + n]
    }

    /// Is there memory for all its tokens?
    pub fn is_prepared(&self) -> bool {
        self.started && self.sequence.has_room(self.tokens.len())
    }

    /// Bytes that it needs to go on, those that it has included.
    pub fn needs(&self) -> u64 {
        self.layout().sequence_bytes(self.room_for().div_ceil(CHUNK) - self.sequence.origin() / CHUNK)
    }

    /// Its tokens and the next.
    fn room_for(&self) -> usize {
        (self.tokens.len() + 1).min(self.context)
    }

    /// Takes memory for all its tokens at once, so that the wait for it comes before the work and not in the middle.
    pub fn prepare(&mut self) -> Result<(), OutOfMemory> {
        let to = if self.started { self.tokens.len() } else { self.room_for() };
        self.sequence.prepare(self.done, to)?;
        if !self.started {
            self.started = true;
            if self.times.started.is_none() {
                self.times.started = Some(Instant::now());
                self.usage.cached_tokens = self.done;
            }
        }
        Ok(())
    }

    /// Gives its memory up. It can go on later: the same tokens give the same keys and values again.
    pub fn release(&mut self) {
        self.sequence = Sequence::new(self.layout(), 0);
        // Pages that others can find have not gone back, but can.
        Budget::global().there_may_be_room();
        (self.started, self.done, self.published) = (false, 0, 0);
    }

    /// From now on it neither uses what others have nor leaves them what it has.
    pub fn keep_to_itself(&mut self) {
        self.shares = false;
    }

    /// Tokens that it could find computed: all but the last, whose logits it needs.
    fn findable(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// How far `other` has, or will soon have, the same tokens in the same form, and one can go on from there.
    pub fn common(&self, other: &Self) -> usize {
        if !(self.shares && other.shares && self.layout() == other.layout()) {
            return 0;
        }
        let common = self.findable().iter().zip(&other.tokens).take_while(|(a, b)| a == b).count();
        if !self.layout().has_state() {
            return common;
        }
        other.checkpoints.iter().copied().filter(|&position| position <= common).max().unwrap_or(0)
    }

    /// What is known of its tokens, and how many: from the tree, or from a request that is running.
    pub fn known<'a>(&self, prefixes: &Prefixes, others: impl Iterator<Item = &'a Self>) -> (Sequence, usize) {
        if !self.shares {
            return (Sequence::new(self.layout(), 0), 0);
        }
        let found = prefixes.find(self.layout(), &self.tokens, self.findable().len());
        let best = others
            // A running request's state is not that of an earlier position; what it leaves on its way is in the tree.
            .filter(|other| other.started && !self.layout().has_state() && other.sequence.origin() == 0)
            .map(|other| (self.common(other).min(other.done), other))
            .max_by_key(|&(common, _)| common);
        match best {
            Some((common, other)) if common > found.1 => (other.sequence.share(common), common),
            _ => found,
        }
    }

    /// Begins with what is known of its tokens.
    pub fn adopt<'a>(&mut self, prefixes: &Prefixes, others: impl Iterator<Item = &'a Self>) {
        (self.sequence, self.done) = self.known(prefixes, others);
        if self.shares && self.layout().has_state() {
            self.checkpoints = self.plan_checkpoints(prefixes.known(self.layout(), self.findable()));
        }
    }

    /// Where others may want to begin: where this request parts from the `known` tokens of others, near the end of the prompt
    /// (both as in Marconi, Pan et al. 2024, arXiv 2411.19379), and on the way there as often as a state takes no more memory
    /// than the pages since the last.
    fn plan_checkpoints(&self, known: usize) -> Vec<usize> {
        let layout = self.layout();
        let step = CHUNK * layout.state_bytes.div_ceil(layout.page_bytes()).max(CHECKPOINT_PAGES);
        let last = self.findable().len() / CHUNK * CHUNK;
        let mut planned: Vec<usize> = (self.done..last).step_by(step).skip(1).map(|at| at / CHUNK * CHUNK).collect();
        planned.extend([known / CHUNK * CHUNK, last].into_iter().filter(|&at| at > self.done));
        planned.sort_unstable();
        planned.dedup();
        planned
    }

    /// Lets others find what is computed.
    fn publish(&mut self, prefixes: &Prefixes, ended: bool) {
        if self.shares && (ended || self.done / CHUNK > self.published) {
            self.published = self.done / CHUNK;
            let state = match ended {
                true => self.sequence.end_state(),
                false if self.checkpoints.contains(&self.done) => self.sequence.checkpoint(),
                false => None,
            };
            prefixes.add(&self.tokens[..self.done], &mut self.sequence, state, ended);
        }
    }

    /// After a step: `n` more tokens are in the cache; `logits` follow the last of them if it was the last there is.
    pub fn advance(&mut self, model: &Loaded, n: usize, logits: Option<&mut [f32]>) {
        self.done += n;
        self.publish(&model.scheduler.prefixes, false);
        if let Some(window) = self.window {
            self.sequence.forget_before((self.done + 1).saturating_sub(window));
        }
        let Some(logits) = logits else { return };
        let (token, logprob) = self.sampler.sample(logits, self.logprobs);
        self.times.first_token.get_or_insert_with(Instant::now);
        if model.tokenizer.as_ref().is_some_and(|tokenizer| tokenizer.is_end_of_generation(token)) {
            return self.finish(model, FinishReason::Stop);
        }
        self.sampler.accept(token);
        self.tokens.push(token);
        self.usage.completion_tokens += 1;
        self.left -= 1;
        if self.text.add(model, token, logprob) {
            return self.finish(model, FinishReason::Stop);
        }
        if self.tokens.len() >= self.context {
            match self.overflow {
                Overflow::Error => self.left = 0,
                Overflow::Shift if self.gap().is_some() => self.is_full = true,
                Overflow::Shift => {
                    // Too short for pages: what is kept is computed anew.
                    shift(&mut self.tokens, self.context);
                    self.release();
                }
            }
        }
        if self.left == 0 {
            return self.finish(model, FinishReason::Length);
        }
        if let Some(chunk) = self.text.take() {
            self.pipe.push(chunk);
        }
    }

    /// Ends the stream with its last chunk.
    pub fn finish(&mut self, model: &Loaded, reason: FinishReason) {
        self.publish(&model.scheduler.prefixes, true);
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
        self.release();
        self.end(model, Outcome::Finished);
        self.pipe.push(chunk);
        self.pipe.finish();
    }

    /// Ends the stream with an error.
    pub fn fail(&mut self, model: &Loaded, error: Error) {
        self.withdraw(model);
        self.end(model, Outcome::Failed);
        self.pipe.fail(error);
    }

    /// The reader has gone.
    pub fn cancel(&mut self, model: &Loaded) {
        self.withdraw(model);
        self.end(model, Outcome::Cancelled);
    }

    /// Gives back its memory, and what only it brought to the tree.
    fn withdraw(&mut self, model: &Loaded) {
        if self.shares {
            model.scheduler.prefixes.forget(&self.tokens[..self.done], &self.sequence);
        }
        self.release();
    }

    /// Before the reader hears of it: who then looks finds the memory free and the request counted.
    fn end(&mut self, model: &Loaded, outcome: Outcome) {
        self.over = Some(outcome);
        self.ticket = None;
        model.scheduler.stats.lock().ended(outcome, self.usage, self.counted_pages);
    }
}
