use std::sync::{
    Arc, LazyLock, Mutex, MutexGuard, Weak,
    atomic::{AtomicU64, AtomicUsize, Ordering, fence},
};

/// The bytes that caches may take, and those they have taken. When there is no room, prefixes that nobody uses are
/// forgotten, the oldest first; who still finds none can wait for it.
pub struct Budget {
    limit: AtomicU64,
    used: AtomicU64,
    /// Of the used bytes, those that a caller holds by hand: nothing that the engine does gives them back.
    pinned: AtomicU64,
    /// Counts uses of prefixes, so that their order is known across models.
    clock: AtomicU64,
    stores: Mutex<Vec<Weak<dyn Reclaim>>>,
    /// Length of `waiters`, so that giving back costs nothing while nobody waits.
    waiting: AtomicUsize,
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
}

/// Something that holds memory it could do without.
pub trait Reclaim: Send + Sync {
    /// When the memory that could go first was used last.
    fn oldest(&self) -> Option<u64>;
    /// Gives that memory up. False when there is none any more.
    fn give_up_oldest(&self) -> bool;
    /// Somebody waits for memory: what is held for a reader who does not read should go.
    fn pressed(&self);
}

/// Can be told that there may be room now.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// There is no room; nothing was allocated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the key/value cache needs {needed} more bytes, but {used} of the {limit} bytes that caches may use are taken: \
     raise `cacheBytes` with configure(), shorten the context, or wait for other requests"
)]
pub struct OutOfMemory {
    pub needed: u64,
    pub used: u64,
    pub limit: u64,
    /// The operating system refused what the budget allowed: waiting for others does not help.
    pub by_system: bool,
}

impl Budget {
    pub const fn new(limit: u64) -> Self {
        Self {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            stores: Mutex::new(Vec::new()),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::new(Vec::new()),
        }
    }

    /// The budget of the process: at first a quarter of the memory that is available to it (cgroup limits count).
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<Budget> = LazyLock::new(|| Budget::new(available_memory() / 4));
        &GLOBAL
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Cheap. What is in use beyond a lower limit stays until it is given back.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
        self.wake_waiters();
    }

    /// Forgets prefixes until what is used is within the limit, or nothing is left to forget.
    pub fn shrink(&self) {
        while self.used() > self.limit() && self.reclaim() {}
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The most that a request could ever get, whatever the engine gives up for it.
    pub fn attainable(&self) -> u64 {
        self.limit().saturating_sub(self.pinned.load(Ordering::Relaxed))
    }

    /// Later than every time that was told before.
    pub(super) fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// All of the bytes or none.
    pub fn take(&self, needed: u64) -> Result<(), OutOfMemory> {
        loop {
            let limit = self.limit();
            // SeqCst: see `wait`.
            let taken = self.used.try_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
                used.checked_add(needed).filter(|&total| total <= limit)
            });
            match taken {
                Ok(_) => return Ok(()),
                // What is larger than the whole budget is no reason to forget anything.
                Err(used) if needed > limit || !self.reclaim() => {
                    return Err(OutOfMemory { needed, used, limit, by_system: false });
                }
                Err(_) => {}
            }
        }
    }

    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.there_may_be_room();
    }

    /// Something was given back, or is now used by nobody but a tree of prefixes, which can be made to forget it.
    pub fn there_may_be_room(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake_waiters();
        }
    }

    pub(super) fn pin(&self, bytes: u64) {
        self.pinned.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn unpin(&self, bytes: u64) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_store(&self, store: Weak<dyn Reclaim>) {
        let mut stores = lock(&self.stores);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(store);
    }

    fn stores(&self) -> Vec<Arc<dyn Reclaim>> {
        // Cloned: a store that is asked locks itself, and must not meet this lock from the other side.
        lock(&self.stores).iter().filter_map(Weak::upgrade).collect()
    }

    /// Forgets what was used longest ago, if there is anything to forget.
    fn reclaim(&self) -> bool {
        loop {
            let oldest = self.stores().into_iter().filter_map(|store| Some((store.oldest()?, store)));
            let Some((_, store)) = oldest.min_by_key(|&(time, _)| time) else { return false };
            // Another thread may have been quicker: look again.
            if store.give_up_oldest() {
                return true;
            }
        }
    }

    /// Wakes `waiter` once, when there may be room. To be followed by another attempt to take, and only then by sleep:
    /// the waiter is counted before that attempt reads what is used, and who gives back changes what is used before it
    /// reads the count, with a fence between the two on both sides, so that one of the two sees the other.
    pub fn wait(&self, waiter: Arc<dyn Wake>) {
        let mut waiters = lock(&self.waiters);
        waiters.push(waiter);
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        drop(waiters);
        fence(Ordering::SeqCst);
        for store in self.stores() {
            store.pressed();
        }
    }

    pub fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn wake_waiters(&self) {
        let mut waiters = lock(&self.waiters);
        let woken = std::mem::take(&mut *waiters);
        self.waiting.store(0, Ordering::SeqCst);
        drop(waiters);
        for waiter in woken {
            waiter.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let total = system.available_memory();
    system.cgroup_limits().map_or(total, |limits| total.min(limits.free_memory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, time::Duration};

    struct Bell(mpsc::Sender<()>);
    impl Wake for Bell {
        fn wake(&self) {
            let _ = self.0.send(());
        }
    }

    /// Threads that take, wait and give back in turn: a lost wake-up would leave one asleep.
    #[test]
    fn who_waits_is_woken() {
        static BUDGET: Budget = Budget::new(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..if cfg!(miri) { 5 } else { 2000 } {
                        let (bell, rung) = mpsc::channel();
                        let bell = Arc::new(Bell(bell));
                        while BUDGET.take(6).is_err() {
                            BUDGET.wait(bell.clone());
                            if BUDGET.take(6).is_ok() {
                                break;
                            }
                            rung.recv_timeout(Duration::from_secs(20)).expect("a wake-up was lost");
                        }
                        assert!(BUDGET.used() <= 10);
                        BUDGET.give_back(6);
                    }
                });
            }
        });
        assert_eq!(BUDGET.used(), 0);
    }
}
