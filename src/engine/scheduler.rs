//! The door to a model's step loop: who waits, and how a loop is started, woken and closed.
//!
//! A model has at most one loop (`step_loop.rs`), on the blocking pool; it starts with the first request and ends when
//! there is none.
use super::{
    Error, Loaded,
    generation::Generation,
    plan::Pace,
    process::{max_queued, runtime},
    stats::Stats,
    step_loop::Loop,
};
use crate::cache::{Budget, Prefixes, Wake};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Requests that run at once; more wait.
pub const RUNNING: usize = 64;

pub struct Scheduler {
    state: Mutex<State>,
    waker: Arc<Waker>,
    /// The model was removed.
    closed: AtomicBool,
    /// Requests that were asked for and have not ended.
    live: Arc<AtomicUsize>,
    pub prefixes: Arc<Prefixes>,
    pub stats: Stats,
    /// Outlives the loops: a request to an idle model is no stranger to this machine.
    pace: Mutex<Pace>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Generation>,
    /// A loop runs, or is about to.
    looping: bool,
}

/// A request's place among those that a model takes at a time; given back when it is dropped.
pub struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a loop that sleeps that something changed.
#[derive(Default)]
pub struct Waker {
    changed: Mutex<bool>,
    bell: Condvar,
    /// The loop sleeps until a reader reads, and its requests hold memory meanwhile.
    idle: AtomicBool,
}

impl Wake for Waker {
    fn wake(&self) {
        *self.changed.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.bell.notify_all();
    }
}

impl Waker {
    pub fn sleep(&self) {
        let mut changed = self.changed.lock().unwrap_or_else(|e| e.into_inner());
        while !*changed {
            changed = self.bell.wait(changed).unwrap_or_else(|e| e.into_inner());
        }
        *changed = false;
    }

    /// Sleeps while all readers are behind. Who waits for memory wakes it; `is_awaited` is asked after that is possible,
    /// so that nobody who waits is overlooked.
    pub fn idle(&self, is_awaited: impl FnOnce() -> bool) {
        self.idle.store(true, Ordering::SeqCst);
        if !is_awaited() {
            self.sleep();
        }
        self.idle.store(false, Ordering::SeqCst);
    }
}

impl Scheduler {
    pub fn new(pace: Pace) -> Self {
        let waker = Arc::<Waker>::default();
        let pressed = waker.clone();
        // A loop that works looks by itself.
        let on_pressure = move || {
            if pressed.idle.load(Ordering::SeqCst) {
                pressed.wake();
            }
        };
        Self {
            state: Mutex::default(),
            waker,
            closed: AtomicBool::new(false),
            live: Arc::default(),
            prefixes: Prefixes::new(Budget::global(), on_pressure),
            stats: Stats::default(),
            pace: Mutex::new(pace),
        }
    }

    pub fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The model was removed: what runs ends within one layer, what comes is refused.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.prefixes.close();
        self.waker.wake();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Requests that were asked for and have not ended.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// A place for one more request, if not too many wait already.
    pub fn enter(&self) -> Result<Ticket, Error> {
        let most = RUNNING.saturating_add(max_queued());
        let entered =
            self.live.try_update(Ordering::Relaxed, Ordering::Relaxed, |live| (live < most).then_some(live + 1));
        match entered {
            Ok(_) => Ok(Ticket(self.live.clone())),
            Err(live) => {
                self.stats.refused();
                Err(Error::QueueFull(format!(
                    "{live} requests run or wait on this model, and no more than {most} may: ask again later, or raise \
                     `maxQueued` with configure()"
                )))
            }
        }
    }

    /// Adds a request, and starts the loop if none runs.
    pub fn queue(&self, model: &Arc<Loaded>, generation: Generation) {
        let mut state = self.lock();
        let behind = state.waiting.partition_point(|other| other.priority() >= generation.priority());
        state.waiting.insert(behind, generation);
        if state.looping {
            self.waker.wake();
        } else {
            state.looping = true;
            let model = model.clone();
            runtime().spawn_blocking(move || Loop::new(model).run());
        }
    }

    /// For the loop: requests that waited longest, up to `most`, the higher priorities first; cancelled ones leave. With
    /// `nothing_runs` and nobody waiting the loop is over: `None`, and the next request starts another.
    pub fn next(&self, most: usize, nothing_runs: bool) -> Option<Vec<Generation>> {
        let mut state = self.lock();
        let before = state.waiting.len();
        state.waiting.retain(|generation| !generation.is_cancelled());
        self.stats.cancelled(before - state.waiting.len());
        if nothing_runs && state.waiting.is_empty() {
            state.looping = false;
            return None;
        }
        let n = most.min(state.waiting.len());
        Some(state.waiting.drain(..n).collect())
    }
}
