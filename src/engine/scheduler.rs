//! The step loop of a model: which requests run, what each step computes.
//!
//! A model has at most one loop, on the blocking pool; it starts with the first request and ends when there is none.
use super::{
    Error, FinishReason, Loaded,
    generation::Generation,
    process::{runtime, team},
};
use crate::{
    kernels::{KvFormat, attention::Span},
    model::{Batch, Scratch},
};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

/// Rows of a step: decoding requests have one each, prompts fill up the rest. Many enough that unpacking the weights
/// costs little, few enough that nobody waits long for a step to end.
pub(super) const ROWS: usize = 252;
/// Requests that run at once; more wait.
const RUNNING: usize = 64;

#[derive(Default)]
pub struct Scheduler {
    state: Mutex<State>,
    waker: Arc<Waker>,
    /// The model was removed.
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Generation>,
    /// A loop runs, or is about to.
    looping: bool,
}

/// Tells a loop that sleeps that something changed.
#[derive(Default)]
pub struct Waker {
    changed: Mutex<bool>,
    bell: Condvar,
}

impl Waker {
    pub fn wake(&self) {
        *self.changed.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.bell.notify_all();
    }

    fn sleep(&self) {
        let mut changed = self.changed.lock().unwrap_or_else(|e| e.into_inner());
        while !*changed {
            changed = self.bell.wait(changed).unwrap_or_else(|e| e.into_inner());
        }
        *changed = false;
    }
}

impl Scheduler {
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The model was removed: what runs ends within one layer, what comes is refused.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Adds a request, and starts the loop if none runs.
    pub fn queue(&self, model: &Arc<Loaded>, generation: Generation) -> Result<(), Error> {
        let mut state = self.lock();
        // Higher priorities first, then first come, first served.
        let behind = state.waiting.partition_point(|other| other.priority() >= generation.priority());
        state.waiting.insert(behind, generation);
        if state.looping {
            self.waker.wake();
        } else {
            state.looping = true;
            let model = model.clone();
            runtime().spawn_blocking(move || Loop::new(model).run());
        }
        Ok(())
    }
}

struct Loop {
    model: Arc<Loaded>,
    running: Vec<Generation>,
    scratch: Scratch,
}

impl Loop {
    fn new(model: Arc<Loaded>) -> Self {
        Self { model, running: Vec::new(), scratch: Scratch::default() }
    }

    fn run(mut self) {
        while self.admit() {
            let step = catch_unwind(AssertUnwindSafe(|| self.step_all()));
            if let Err(error) = step.unwrap_or_else(|_| Err(Error::Internal("a panic in the engine's step".into()))) {
                let text = error.to_string();
                for generation in self.running.drain(..) {
                    generation.fail(match &error {
                        Error::FileChanged(_) => Error::FileChanged(text.clone()),
                        Error::ModelRemoved(id) => Error::ModelRemoved(id.clone()),
                        _ => Error::Internal(text.clone()),
                    });
                }
            }
        }
    }

    /// Takes in waiting requests and drops cancelled ones. False when there is nothing left to do: then the loop is over.
    fn admit(&mut self) -> bool {
        let scheduler = &self.model.scheduler;
        let mut state = scheduler.lock();
        self.running.retain(|generation| !generation.is_cancelled());
        while self.running.len() < RUNNING
            && let Some(mut generation) = state.waiting.pop_front()
        {
            if generation.is_cancelled() {
                continue;
            }
            if generation.is_finished() {
                generation.finish(FinishReason::Length);
                continue;
            }
            let behind = self.running.partition_point(|other| other.priority() >= generation.priority());
            self.running.insert(behind, generation);
        }
        state.looping = !self.running.is_empty();
        state.looping
    }

    /// One step for each kind of cache in use.
    fn step_all(&mut self) -> Result<(), Error> {
        if self.model.scheduler.is_closed() {
            return Err(Error::ModelRemoved(self.model.info.id.clone()));
        }
        self.model.gguf.check_unchanged()?;
        let mut worked = false;
        for format in [KvFormat::F16, KvFormat::F32, KvFormat::Q8_0] {
            worked |= self.step(format)?;
        }
        if !worked {
            // Every reader is behind: wait until one reads, leaves, or a request comes.
            self.model.scheduler.waker.sleep();
        }
        Ok(())
    }

    /// How many rows each request gets: one if it decodes, then prompts in order until the step is full.
    fn plan(&self, format: KvFormat) -> Vec<(usize, usize)> {
        let mut plan: Vec<(usize, usize)> = Vec::new();
        let mut left = ROWS;
        let able = |generation: &Generation| generation.layout().format == format && generation.has_room();
        let candidates = || self.running.iter().enumerate().filter(|(_, generation)| able(generation));
        for (i, generation) in candidates() {
            if generation.pending().1 == 1 && left > 0 {
                plan.push((i, 1));
                left -= 1;
            }
        }
        for (i, generation) in candidates() {
            let (_, pending) = generation.pending();
            if pending > 1 && left > 0 {
                let n = pending.min(left);
                plan.push((i, n));
                left -= n;
            }
        }
        plan
    }

    /// Computes one batch. False when no request could take part.
    fn step(&mut self, format: KvFormat) -> Result<bool, Error> {
        let model = self.model.clone();
        let network = model.network()?;
        let layout = network.layout(format);
        let (mut tokens, mut spans, mut pages) = (Vec::new(), Vec::new(), Vec::new());
        // Indices of the requests that take part, and the batch's rows whose logits are wanted.
        let (mut members, mut failed, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for (i, n) in self.plan(format) {
            let generation = &mut self.running[i];
            let (position, pending) = generation.pending();
            let first_row = tokens.len();
            match generation.take_rows(n) {
                Ok(rows) => tokens.extend_from_slice(rows),
                Err(error) => {
                    generation.fail(error.into());
                    failed.push(i);
                    continue;
                }
            }
            spans.push(Span { rows: first_row..tokens.len(), position, origin: 0, first_page: pages.len() });
            generation.sequence().addresses(&mut pages);
            if n == pending {
                wanted.push(tokens.len() as u32 - 1);
            }
            members.push((i, n, n == pending));
        }
        let mut ended = failed;
        if !members.is_empty() {
            let running = &self.running;
            // Worth going on only while somebody wants the result.
            let stop = || model.scheduler.is_closed() || members.iter().all(|&(i, ..)| running[i].is_cancelled());
            let team = team();
            let context = network.params.context_length;
            let batch = Batch { spans: &spans, pages: &pages, layout, first_layer: 0, context };
            network.embed(&team, &tokens, &mut self.scratch)?;
            match network.layers(&team, &batch, 0..network.params.layers, &mut self.scratch, &stop) {
                Ok(()) => {}
                Err(crate::model::Stopped::Cancelled) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
            let vocabulary = network.vocabulary_size();
            if !wanted.is_empty() {
                network.logits(&team, &wanted, tokens.len(), &mut self.scratch)?;
            }
            let mut logits = self.scratch.logits.get::<f32>(wanted.len() * vocabulary).chunks_mut(vocabulary);
            for &(i, n, last) in &members {
                let logits = if last { logits.next() } else { None };
                if !self.running[i].advance(&model, n, logits) {
                    ended.push(i);
                }
            }
        }
        let worked = !members.is_empty() || !ended.is_empty();
        ended.sort_unstable();
        for i in ended.into_iter().rev() {
            self.running.remove(i);
        }
        Ok(worked)
    }
}
