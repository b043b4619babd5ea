use super::{
    Lane,
    bell::Bell,
    seat::{self, Seat},
    sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, lock, thread},
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// One parallel step: `chunks` independent pieces of work.
pub trait Phase: Sync {
    fn chunks(&self) -> usize;
    /// Called exactly once for every chunk, by any worker, in any order.
    fn run(&self, chunk: usize, lane: &mut Lane);
    /// Chunks beside each other read memory beside each other: then every worker has a run of them to begin with, and
    /// helps with those of others when it is through. Otherwise all take the next one.
    fn in_runs(&self) -> bool {
        false
    }
}

/// Why a job ended early. It was drained, and its results are not to be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("cancelled")]
    Cancelled,
    /// A chunk panicked.
    #[error("{0}")]
    Panic(String),
}

/// A group of threads that run jobs together with the thread that asks.
pub struct Team {
    shared: Arc<TeamState>,
    /// Held while a job runs: jobs of different callers take turns. The caller is a worker too; this is its lane.
    leader: Mutex<Lane>,
    threads: usize,
}

struct TeamState {
    /// The newest job; `None` tells the workers to leave.
    job: Mutex<Option<Arc<Job>>>,
    /// Counts jobs, so that a worker sees a new one without the lock.
    epoch: AtomicUsize,
    bell: Bell,
    /// One for each worker; the caller of [`Team::run`] has the first.
    seats: Vec<Seat>,
    closing: AtomicBool,
}

/// A list of phases on its way through the team. Workers may hold on to it after the job ended: they only follow a
/// phase's pointer while they own one of its chunks, and the job cannot end before that chunk is finished.
struct Job {
    slots: Vec<Slot>,
    panic: Mutex<Option<String>>,
    /// Somebody wants it ended, or a chunk panicked: chunks that have not begun are only counted.
    cancelled: AtomicBool,
}

/// Counters of different phases are kept on different cache lines.
#[repr(align(128))]
struct Slot {
    phase: *const dyn Phase,
    chunks: usize,
    runs: Vec<Run>,
    finished: AtomicUsize,
}

/// Chunks that are handed out one after the other.
#[repr(align(128))]
struct Run {
    next: AtomicUsize,
    end: usize,
}

// SAFETY: the pointer is only followed while the phase is borrowed by `Team::run`, and `Phase: Sync`.
unsafe impl Send for Slot {}
// SAFETY: as above; the rest are atomics.
unsafe impl Sync for Slot {}

impl Team {
    /// A team of `threads` workers; the thread that calls [`Team::run`] is one of them.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(TeamState {
            job: Mutex::new(None),
            epoch: AtomicUsize::new(0),
            bell: Bell::default(),
            seats: (0..threads.max(1)).map(|_| Seat::default()).collect(),
            closing: AtomicBool::new(false),
        });
        let mut running = 1;
        for i in 1..threads.max(1) {
            let state = shared.clone();
            let worker = thread::Builder::new().name(format!("realm-compute-{i}")).spawn(move || work(&state, i));
            // Fewer threads than wanted (a process limit) make it slower, not wrong.
            if worker.is_err() {
                break;
            }
            running += 1;
        }
        Self { shared, leader: Mutex::new(Lane::default()), threads: running }
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs the phases one after the other, each on all workers, and returns when the last is finished.
    pub fn run(&self, phases: &[&dyn Phase]) -> Result<(), Stopped> {
        self.run_unless(&|| false, phases)
    }

    /// As [`Team::run`]; `stop` is asked before each of the caller's chunks, and ends the job when it says so.
    pub fn run_unless(&self, stop: &dyn Fn() -> bool, phases: &[&dyn Phase]) -> Result<(), Stopped> {
        let mut lane = lock(&self.leader);
        let slots: Vec<Slot> = phases.iter().map(|phase| Slot::new(*phase, self.threads)).collect();
        let job = Arc::new(Job { slots, panic: Mutex::new(None), cancelled: AtomicBool::new(false) });
        if self.threads > 1 {
            *lock(&self.shared.job) = Some(job.clone());
            self.shared.epoch.fetch_add(1, Ordering::Release);
            self.shared.bell.ring();
        }
        job.take_part(&mut lane, &self.shared, 0, stop);
        match lock(&job.panic).take() {
            Some(text) => Err(Stopped::Panic(text)),
            None if job.cancelled.load(Ordering::Relaxed) => Err(Stopped::Cancelled),
            None => Ok(()),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.bell.ring();
    }
}

/// A worker's life: wait for a job, take part in it.
fn work(state: &TeamState, me: usize) {
    let mut lane = Lane::default();
    let mut seen = 0;
    loop {
        state.bell.wait(|| state.epoch.load(Ordering::Acquire) != seen);
        seen = state.epoch.load(Ordering::Acquire);
        if state.closing.load(Ordering::Acquire) {
            return;
        }
        let job = lock(&state.job).clone();
        if let Some(job) = job {
            job.take_part(&mut lane, state, me, &|| false);
        }
    }
}

impl Job {
    fn take_part(&self, lane: &mut Lane, state: &TeamState, me: usize, stop: &dyn Fn() -> bool) {
        for slot in &self.slots {
            let sitting = state.seats[me].sit();
            while let Some(chunk) = slot.take(me) {
                sitting.begins_chunk();
                if stop() {
                    self.cancelled.store(true, Ordering::Relaxed);
                }
                if !self.cancelled.load(Ordering::Relaxed) {
                    // SAFETY: this chunk is unfinished, so `Team::run` has not returned and the phase is still borrowed.
                    let phase = unsafe { &*slot.phase };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| phase.run(chunk, lane))) {
                        lock(&self.panic).get_or_insert_with(|| panic_text(&*panic));
                        self.cancelled.store(true, Ordering::Relaxed);
                    }
                }
                // Release: what the chunk wrote is visible to whoever sees the count.
                if slot.finished.fetch_add(1, Ordering::Release) + 1 == slot.chunks {
                    state.bell.ring();
                }
                sitting.ends_chunk();
            }
            drop(sitting);
            let help = || seat::help(&state.seats, me);
            state.bell.wait_for_work(|| slot.finished.load(Ordering::Acquire) >= slot.chunks, help);
        }
    }
}

impl Slot {
    fn new(phase: &dyn Phase, threads: usize) -> Self {
        // SAFETY: only forgets the lifetime; see `Job` for why the pointer is not followed later.
        let phase: *const dyn Phase = unsafe { std::mem::transmute::<&dyn Phase, &'static dyn Phase>(phase) };
        // SAFETY: it was made from a reference just now.
        let chunks = unsafe { &*phase }.chunks();
        // SAFETY: as above.
        let count = if unsafe { &*phase }.in_runs() { threads } else { 1 };
        let start = |i: usize| i * chunks / count;
        let runs = (0..count).map(|i| Run { next: AtomicUsize::new(start(i)), end: start(i + 1) }).collect();
        Self { phase, chunks, runs, finished: AtomicUsize::new(0) }
    }

    /// The next chunk for a worker: of its own run, or of another's.
    fn take(&self, me: usize) -> Option<usize> {
        let from = |run: &Run| {
            // Looked at first: others' counters are left alone once they are through.
            let left = run.next.load(Ordering::Relaxed) < run.end;
            left.then(|| run.next.fetch_add(1, Ordering::Relaxed)).filter(|&chunk| chunk < run.end)
        };
        let n = self.runs.len();
        (0..n).find_map(|i| from(&self.runs[(me + i) % n]))
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "panic".to_owned(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::thread;

    struct Count<'a>(&'a [AtomicUsize], &'a AtomicUsize, usize);
    impl Phase for Count<'_> {
        fn chunks(&self) -> usize {
            self.0.len()
        }
        fn run(&self, chunk: usize, _: &mut Lane) {
            // Everything of the phase before is done.
            assert_eq!(self.1.load(Ordering::Relaxed) / self.0.len(), self.2);
            self.0[chunk].fetch_add(1, Ordering::Relaxed);
        }
    }
    struct Tick<'a>(&'a AtomicUsize, usize);
    impl Phase for Tick<'_> {
        fn chunks(&self) -> usize {
            self.1
        }
        fn run(&self, _: usize, _: &mut Lane) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn every_chunk_once_and_phases_in_order() {
        let rounds = if cfg!(miri) { 3 } else { 300 };
        for threads in [1, 2, 5] {
            let team = Team::new(threads);
            for _ in 0..rounds {
                let (counts, ticks) = ([const { AtomicUsize::new(0) }; 17], AtomicUsize::new(0));
                let (a, b) = (Count(&counts, &ticks, 0), Tick(&ticks, 17));
                let (c, d) = (Count(&counts, &ticks, 1), Tick(&ticks, 0));
                team.run(&[&a, &b, &d, &c]).unwrap();
                assert!(counts.iter().all(|n| n.load(Ordering::Relaxed) == 2));
            }
        }
    }

    #[test]
    fn callers_take_turns() {
        let team = Team::new(2);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 2 } else { 200 } {
                        let ticks = AtomicUsize::new(0);
                        team.run(&[&Tick(&ticks, 9), &Tick(&ticks, 1)]).unwrap();
                        assert_eq!(ticks.load(Ordering::Relaxed), 10);
                    }
                });
            }
        });
    }

    #[test]
    fn a_job_ends_when_it_is_told_to() {
        for threads in [1, 2] {
            let (team, ticks) = (Team::new(threads), AtomicUsize::new(0));
            let stop = || ticks.load(Ordering::Relaxed) >= 3;
            let result = team.run_unless(&stop, &[&Tick(&ticks, 1000), &Tick(&ticks, 1000)]);
            match ticks.into_inner() {
                // The other worker was done before the caller had its turn.
                2000 => assert!(threads == 2),
                n => assert!(result == Err(Stopped::Cancelled) && (n == 3 || threads == 2)),
            }
            let ticks = AtomicUsize::new(0);
            team.run(&[&Tick(&ticks, 5)]).unwrap();
            assert_eq!(ticks.into_inner(), 5);
        }
    }

    #[test]
    fn a_panic_is_reported_and_the_team_goes_on() {
        struct Bad;
        impl Phase for Bad {
            fn chunks(&self) -> usize {
                4
            }
            fn run(&self, chunk: usize, _: &mut Lane) {
                assert!(chunk != 2, "chunk two");
            }
        }
        let team = Team::new(2);
        assert_eq!(team.run(&[&Bad]), Err(Stopped::Panic("chunk two".into())));
        let ticks = AtomicUsize::new(0);
        team.run(&[&Tick(&ticks, 3)]).unwrap();
        assert_eq!(ticks.load(Ordering::Relaxed), 3);
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test --lib compute`: every order in which two threads can meet.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;

    struct Add<'a>(&'a AtomicUsize, usize);
    impl Phase for Add<'_> {
        fn chunks(&self) -> usize {
            self.1
        }
        fn run(&self, _: usize, _: &mut Lane) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// The phase before is finished, and what it wrote is here.
    struct Check<'a>(&'a AtomicUsize, usize);
    impl Phase for Check<'_> {
        fn chunks(&self) -> usize {
            1
        }
        fn run(&self, _: usize, _: &mut Lane) {
            assert_eq!(self.0.load(Ordering::Relaxed), self.1);
        }
    }

    fn check(bound: usize, test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(bound);
        model.check(test);
    }

    #[test]
    fn a_phase_is_finished_before_the_next_begins() {
        check(3, || {
            let team = Team::new(2);
            let n = AtomicUsize::new(0);
            team.run(&[&Add(&n, 2), &Check(&n, 2)]).unwrap();
            assert_eq!(n.load(Ordering::Relaxed), 2);
        });
    }

    #[test]
    fn jobs_follow_each_other_and_a_team_can_go_at_any_time() {
        check(2, || {
            let team = Team::new(2);
            let n = AtomicUsize::new(0);
            team.run(&[&Add(&n, 1)]).unwrap();
            team.run(&[&Add(&n, 1)]).unwrap();
            assert_eq!(n.load(Ordering::Relaxed), 2);
        });
        check(3, || drop(Team::new(2)));
    }
}
