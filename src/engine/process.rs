//! What is the same for the whole process: the compute team, the blocking pool, settings.
use super::Error;
use crate::{
    cache::Budget,
    compute::{Team, available_cores},
    kernels,
};
use std::{
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[derive(Debug, Clone)]
pub struct SystemInfo {
    pub version: &'static str,
    pub threads: usize,
    pub instruction_set: &'static str,
    /// Instruction sets this build could use on this machine, best first.
    pub available_instruction_sets: Vec<&'static str>,
    pub cache_bytes: u64,
    pub cache_used_bytes: u64,
    pub max_queued: usize,
}

/// Requests that may wait on a model.
static MAX_QUEUED: AtomicUsize = AtomicUsize::new(1024);

pub(super) fn max_queued() -> usize {
    MAX_QUEUED.load(Ordering::Relaxed)
}

/// The team of the process, made when it is first needed.
static TEAM: Mutex<Option<Arc<Team>>> = Mutex::new(None);

/// More threads than any machine of today has cores; a larger number is a mistake.
const MOST_THREADS: usize = 1024;

pub(super) fn team() -> Arc<Team> {
    let mut team = TEAM.lock().unwrap_or_else(|e| e.into_inner());
    team.get_or_insert_with(|| Arc::new(Team::new(available_cores()))).clone()
}

/// The pool on which all work runs that would hold up JavaScript. It is ours, so that it outlives the JavaScript
/// environments that come and go.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(512)
            .thread_keep_alive(Duration::from_secs(2))
            .thread_name("realm")
            .build()
            .expect("the operating system can start a thread")
    });
    &RUNTIME
}

/// Changes process-wide settings. `threads` takes effect with the next piece of work. Cheap.
pub fn configure(threads: Option<usize>, cache_bytes: Option<u64>, max_queued: Option<usize>) -> Result<(), Error> {
    if let Some(threads) = threads {
        if threads == 0 || threads > MOST_THREADS {
            return Err(Error::InvalidArgument(format!("threads is {threads}, expected 1 to {MOST_THREADS}")));
        }
        *TEAM.lock().unwrap_or_else(|e| e.into_inner()) = Some(Arc::new(Team::new(threads)));
    }
    if let Some(requests) = max_queued {
        MAX_QUEUED.store(requests, Ordering::Relaxed);
    }
    if let Some(bytes) = cache_bytes {
        Budget::global().set_limit(bytes);
        // Giving many pages back to the operating system takes a while.
        runtime().spawn_blocking(|| Budget::global().shrink());
    }
    Ok(())
}

/// Cheap.
pub fn system_info() -> SystemInfo {
    let budget = Budget::global();
    SystemInfo {
        version: env!("CARGO_PKG_VERSION"),
        threads: team().threads(),
        instruction_set: kernels::tier().name,
        available_instruction_sets: kernels::available().iter().map(|tier| tier.name).collect(),
        cache_bytes: budget.limit(),
        cache_used_bytes: budget.used(),
        max_queued: max_queued(),
    }
}
