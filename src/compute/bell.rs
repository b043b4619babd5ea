use super::sync::{AtomicUsize, Condvar, Mutex, Ordering, fence, lock};
use std::time::{Duration, Instant};

/// How long a thread spins before it lets others have the core: long enough for the pauses inside a generation
/// (sampling takes tens of microseconds), short enough that a core which somebody else could use is soon free.
const SPIN: Duration = Duration::from_micros(60);
/// How long it then yields before it sleeps. Yielding costs nothing where nothing else runs, and a thread that sleeps
/// needs long to come back on a virtual machine, whose idle core must first be woken.
const YIELD: Duration = Duration::from_micros(300);
/// Between two looks after those that are waited for, while asleep.
const LOOK: Duration = Duration::from_millis(1);

/// loom tries all orders of events; it knows no time, so nothing ends by it.
const CHECKED: bool = cfg!(all(test, loom));

/// Lets threads wait until a condition on atomics holds, without a lock when nobody sleeps.
///
/// No wake-up is lost: a sleeper counts itself, then checks; a ringer changes the atomics, then looks at the count. The
/// two fences put these four steps into one order, so at least one of the two sees the other.
#[derive(Default)]
pub struct Bell {
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            drop(lock(&self.lock));
            self.rung.notify_all();
        }
    }

    /// Waits for something that may be long in coming.
    pub fn wait(&self, ready: impl Fn() -> bool) {
        if !spin(&ready, SPIN, std::hint::spin_loop) && !spin(&ready, YIELD, std::thread::yield_now) {
            self.sleep(&ready, None);
        }
    }

    /// Waits for threads that are at work. `help` is called from time to time when they take long; true means that it
    /// gave this thread's core away.
    pub fn wait_for_work(&self, ready: impl Fn() -> bool, help: impl Fn() -> bool) {
        let mut yielded = Duration::ZERO;
        while !spin(&ready, SPIN, if yielded.is_zero() { std::hint::spin_loop } else { std::thread::yield_now }) {
            if help() {
                std::thread::yield_now();
            } else if yielded >= YIELD || CHECKED {
                self.sleep(&ready, Some(LOOK));
            }
            yielded += SPIN;
        }
    }

    /// Sleeps until it is ready, or for about so long.
    fn sleep(&self, ready: &impl Fn() -> bool, limit: Option<Duration>) {
        let limit = limit.filter(|_| !CHECKED);
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !ready() {
            match limit {
                None => guard = self.rung.wait(guard).unwrap_or_else(|e| e.into_inner()),
                Some(limit) => {
                    guard = self.rung.wait_timeout(guard, limit).unwrap_or_else(|e| e.into_inner()).0;
                    break;
                }
            }
        }
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
        drop(guard);
    }
}

/// Looks until it is ready (true) or the time is over.
fn spin(ready: &impl Fn() -> bool, limit: Duration, pause: fn()) -> bool {
    // Once at least, and under loom only once: to look at some time is to have looked at any time.
    if ready() {
        return true;
    }
    let start = Instant::now();
    while !CHECKED && start.elapsed() < limit {
        for _ in 0..16 {
            pause();
            if ready() {
                return true;
            }
        }
    }
    false
}
