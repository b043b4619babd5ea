//! The step loop of a model: takes requests in, computes a batch, hands tokens on, lets requests go.
//!
//! What a step computes and who has memory for it is decided in `plan.rs`.
use super::{Error, FinishReason, Loaded, generation::Generation, process::team, scheduler::RUNNING};
use crate::{
    cache::Budget,
    compute::Stopped,
    kernels::{KvFormat, attention::Span},
    model::{Batch, Scratch},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

pub struct Loop {
    pub(super) model: Arc<Loaded>,
    /// Higher priorities first, then first come, first served.
    pub(super) running: Vec<Generation>,
    /// In the last plan, a request found no memory.
    pub(super) short_of_memory: bool,
    /// This loop will be woken when memory is given back.
    awaits_memory: bool,
    scratch: Scratch,
}

impl Loop {
    pub fn new(model: Arc<Loaded>) -> Self {
        Self { model, running: Vec::new(), short_of_memory: false, awaits_memory: false, scratch: Scratch::default() }
    }

    pub fn run(mut self) {
        loop {
            self.dismiss();
            if !self.admit() {
                return;
            }
            let step = catch_unwind(AssertUnwindSafe(|| self.step()));
            if let Err(error) = step.unwrap_or_else(|_| Err(Error::Internal("a panic in the engine's step".into()))) {
                let text = error.to_string();
                for generation in &mut self.running {
                    let error = match &error {
                        Error::FileChanged(_) => Error::FileChanged(text.clone()),
                        Error::ModelRemoved(id) => Error::ModelRemoved(id.clone()),
                        _ => Error::Internal(text.clone()),
                    };
                    generation.fail(&self.model, error);
                }
            }
        }
    }

    /// Requests that ended or were cancelled leave.
    fn dismiss(&mut self) {
        let model = &self.model;
        self.running.retain_mut(|generation| {
            if !generation.is_over() && generation.is_cancelled() {
                generation.cancel(model);
            }
            !generation.is_over()
        });
        let mut stats = model.scheduler.stats.lock();
        stats.running = self.running.len();
        stats.paused = self.readers_behind();
        stats.own_pages = self.running.iter_mut().map(Generation::count_pages).sum();
    }

    /// Takes in waiting requests. A request whose reader is behind leaves its place to others. False when there is
    /// nothing left to do: then the loop is over.
    fn admit(&mut self) -> bool {
        let active = self.running.iter().filter(|generation| generation.has_room()).count();
        let Some(arrived) = self.model.scheduler.next(RUNNING.saturating_sub(active), self.running.is_empty()) else {
            return false;
        };
        for mut generation in arrived {
            if generation.is_empty() {
                generation.finish(&self.model, FinishReason::Length);
            }
            let behind = self.running.partition_point(|other| other.priority() >= generation.priority());
            self.running.insert(behind, generation);
        }
        true
    }

    fn step(&mut self) -> Result<(), Error> {
        if self.model.scheduler.is_closed() {
            return Err(Error::ModelRemoved(self.model.info.id.clone()));
        }
        self.model.gguf.check_unchanged()?;
        if Budget::global().is_awaited() && !self.awaits_memory {
            self.release(|generation| !generation.has_room());
        }
        let plan = self.plan();
        if plan.is_empty() {
            // A reader that already waits takes what there is, which may be all that its request waits for.
            let behind = self.readers_behind();
            self.running.iter().for_each(|generation| generation.deliver(false));
            if self.readers_behind() == behind {
                self.rest();
            }
            return Ok(());
        }
        self.awaits_memory = false;
        // A short step may bring another token for the same wake-up.
        let short = self.model.scheduler.pace().is_short(plan.iter().map(|&(_, rows)| rows).max());
        self.running.iter().for_each(|generation| generation.deliver(short));
        for format in [KvFormat::F16, KvFormat::F32, KvFormat::Q8_0] {
            let members: Vec<(usize, usize)> =
                plan.iter().copied().filter(|&(i, _)| self.running[i].layout().format == format).collect();
            if !members.is_empty() {
                self.compute(format, &members)?;
            }
        }
        Ok(())
    }

    /// Computes one batch: for each member its index and its rows.
    fn compute(&mut self, format: KvFormat, members: &[(usize, usize)]) -> Result<(), Error> {
        let model = self.model.clone();
        let network = model.network()?;
        let layout = network.layout(format);
        let begun = Instant::now();
        let (mut tokens, mut spans, mut pages, mut states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // The batch's rows whose logits are wanted.
        let mut wanted = Vec::new();
        for &(i, n) in members {
            let generation = &self.running[i];
            let (position, _) = generation.pending();
            let first_row = tokens.len();
            tokens.extend_from_slice(generation.rows(n));
            let origin = generation.sequence().origin();
            spans.push(Span { rows: first_row..tokens.len(), position, origin, first_page: pages.len() });
            generation.sequence().addresses(&mut pages);
            generation.sequence().state_address(&mut states);
            if generation.completes(n) {
                wanted.push(tokens.len() as u32 - 1);
            }
        }
        let running = &self.running;
        // Worth going on only while somebody wants the result.
        let stop = || model.scheduler.is_closed() || members.iter().all(|&(i, _)| running[i].is_cancelled());
        let team = team();
        let context = network.params.context_length;
        let batch = Batch { spans: &spans, pages: &pages, states: &states, layout, first_layer: 0, context };
        network.embed(&team, &tokens, &mut self.scratch)?;
        match network.layers(&team, &batch, 0..network.params.layers, &mut self.scratch, &stop) {
            Ok(()) => {}
            Err(Stopped::Cancelled) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let vocabulary = network.vocabulary_size();
        if !wanted.is_empty() {
            network.logits(&team, &wanted, tokens.len(), &mut self.scratch)?;
        }
        let mut logits = self.scratch.logits.get::<f32>(wanted.len() * vocabulary).chunks_mut(vocabulary);
        for &(i, n) in members {
            let generation = &mut self.running[i];
            let logits = if generation.completes(n) { logits.next() } else { None };
            generation.advance(&model, n, logits);
        }
        let time = begun.elapsed();
        model.scheduler.pace().record(members, time);
        model.scheduler.stats.lock().step(time);
        Ok(())
    }

    fn readers_behind(&self) -> usize {
        self.running.iter().filter(|generation| !generation.has_room()).count()
    }

    /// Nobody can go on: until memory is given back, or a reader reads, leaves, or comes.
    fn rest(&mut self) {
        let waker = self.model.scheduler.waker();
        if self.running.iter().any(|generation| generation.is_over()) {
            return;
        }
        if !self.short_of_memory {
            let holds = self.running.iter().any(|generation| generation.can_release());
            waker.idle(|| holds && Budget::global().is_awaited());
            return;
        }
        // What waits here gives back what it holds, so that two models never wait for each other.
        self.release(|_| true);
        if self.awaits_memory {
            waker.sleep();
            self.awaits_memory = false;
        } else {
            // One more attempt, now that no memory can be given back unnoticed.
            Budget::global().wait(waker);
            self.awaits_memory = true;
        }
    }

    /// Some requests give their memory up and will go on later.
    fn release(&mut self, which: impl Fn(&Generation) -> bool) {
        for generation in self.running.iter_mut().filter(|generation| which(generation)) {
            if generation.can_release() {
                self.model.scheduler.stats.lock().preempted += 1;
                generation.release();
            }
        }
    }
}
