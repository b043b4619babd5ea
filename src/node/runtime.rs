//! The threads on which the engine's work runs.
//!
//! napi stops its own runtime when the last JavaScript environment goes away and starts a default one for the next, so it
//! only carries the small futures that settle promises; work runs on a runtime of ours that lives as long as the process.
use super::{
    errors::{Checked, Failure},
    panics,
};
use crate::engine;
use std::{sync::LazyLock, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// Calls that may run at once; more wait in line. Each is mostly idle while the compute team works.
const MAX_BLOCKING_THREADS: usize = 64;

static WORK: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(10))
        .thread_name("realm-work")
        .build()
        .expect("the operating system refused to start a thread")
});

#[napi_derive::module_init]
fn init() {
    panics::install_hook();
    // Futures that settle promises need one thread, not napi's default of one per core. Should even that fail, napi
    // makes its own.
    if let Ok(futures) = Builder::new_multi_thread().worker_threads(1).thread_name("realm-promise").build() {
        napi::bindgen_prelude::create_custom_tokio_runtime(futures);
    }
}

/// Starts `work` on the blocking pool at once; the future is its outcome.
pub fn start<T: Send + 'static>(
    work: impl FnOnce() -> Checked<T> + Send + 'static,
) -> impl Future<Output = Checked<T>> + Send + 'static {
    let job = WORK.spawn_blocking(move || panics::caught(work));
    async move {
        job.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(payload) => Err(panics::internal(payload, None)),
            Err(_) => Err(Failure::Engine(engine::Error::Cancelled)),
        })
    }
}
