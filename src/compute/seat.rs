use super::{
    os::{self, CpuSet, Thread},
    sync::{AtomicBool, AtomicUsize, Mutex, Ordering, lock, try_lock},
};

/// A worker's place in the team: what the others need to know to help it.
///
/// Where another process wants the same core, the system takes the core from a worker for some milliseconds at a time,
/// nearly always in the middle of a chunk. All others then wait for that chunk at the end of its phase, while their cores
/// are free: the team loses all cores for the sake of one. So a worker that waits in vain gives its own core to the
/// waited-for one ([`help`]). Which of the two is then beside the other process makes no difference: it has no chunk.
#[derive(Default)]
#[repr(align(128))]
pub struct Seat {
    taken: Mutex<Option<Taken>>,
    /// The core on which the worker took its chunk.
    core: AtomicUsize,
    /// Helped: the worker puts itself right after its chunk.
    moved: AtomicBool,
}

/// Present while the worker takes part in a phase. Others use the thread under the lock, so it does not end meanwhile.
struct Taken {
    thread: Thread,
    /// Set by who moved it.
    back: Option<Back>,
}

/// How a worker that was moved gets back.
struct Back {
    allowed: CpuSet,
    /// The core that it is on now was only lent; it came from this one.
    home: Option<usize>,
}

/// A worker's part in a phase.
pub struct Sitting<'a>(&'a Seat);

impl Seat {
    pub fn sit(&self) -> Sitting<'_> {
        *lock(&self.taken) = Some(Taken { thread: os::this_thread(), back: None });
        Sitting(self)
    }
}

impl Sitting<'_> {
    pub fn begins_chunk(&self) {
        self.0.core.store(os::this_core().unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub fn ends_chunk(&self) {
        if self.0.moved.load(Ordering::Relaxed) {
            let back = lock(&self.0.taken).as_mut().and_then(|taken| taken.back.take());
            self.0.go_back(back);
        }
    }
}

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        let taken = lock(&self.0.taken).take();
        self.0.go_back(taken.and_then(|taken| taken.back));
    }
}

impl Seat {
    fn go_back(&self, back: Option<Back>) {
        let Some(Back { allowed, home }) = back else { return };
        if let Some(home) = home {
            os::move_to(&os::this_thread(), home);
        }
        os::allow(&os::this_thread(), &allowed);
        self.moved.store(false, Ordering::Relaxed);
    }
}

/// Gives this thread's core to a worker that has a chunk and no core. True when it did.
///
/// The leader (seat 0) prepares the next job, so it lends its core for the rest of the chunk; others change places.
#[cold]
pub fn help(seats: &[Seat], me: usize) -> bool {
    let (Some(here), myself) = (os::this_core(), os::this_thread()) else { return false };
    let Some(mine) = os::allowed(&myself) else { return false };
    for (_, seat) in seats.iter().enumerate().filter(|&(i, _)| i != me) {
        let Some(mut taken) = try_lock(&seat.taken) else { continue };
        let Some(Taken { thread, back: back @ None }) = &mut *taken else { continue };
        let there = seat.core.load(Ordering::Relaxed);
        if seat.moved.load(Ordering::Relaxed) || there == here || !mine.contains(there) || os::has_core(thread) {
            continue;
        }
        let Some(allowed) = os::allowed(thread).filter(|allowed| allowed.contains(here)) else { continue };
        let lend = me == 0;
        *back = Some(Back { allowed, home: lend.then_some(there) });
        seat.moved.store(true, Ordering::Relaxed);
        os::move_to(thread, here);
        drop(taken);
        if !lend {
            os::move_to(&myself, there);
            os::allow(&myself, &mine);
        }
        return true;
    }
    false
}
