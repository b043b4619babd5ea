use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

/// The bytes that caches may take, and those they have taken.
pub struct Budget {
    limit: AtomicU64,
    used: AtomicU64,
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
}

impl Budget {
    pub const fn new(limit: u64) -> Self {
        Self { limit: AtomicU64::new(limit), used: AtomicU64::new(0) }
    }

    /// The budget of the process: at first a quarter of the memory that is available to it (cgroup limits count).
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<Budget> = LazyLock::new(|| Budget::new(available_memory() / 4));
        &GLOBAL
    }

    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub fn take(&self, needed: u64) -> Result<(), OutOfMemory> {
        let limit = self.limit();
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(needed).filter(|&total| total <= limit)
            })
            .map(|_| ())
            .map_err(|used| OutOfMemory { needed, used, limit })
    }

    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn available_memory() -> u64 {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let total = system.available_memory();
    system.cgroup_limits().map_or(total, |limits| total.min(limits.free_memory))
}
