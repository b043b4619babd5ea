//! Starting work on the engine's threads.
//!
//! napi stops its own runtime when the last JavaScript environment goes away and starts a default one for the next, so it
//! only carries the small futures that settle promises; work runs on the engine's, which lives as long as the process.
use super::{
    errors::{Checked, Failure},
    panics,
};
use crate::engine;
use tokio::runtime::Builder;

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
    let job = engine::runtime().spawn_blocking(move || panics::caught(work));
    async move {
        job.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(payload) => Err(panics::internal(payload, None)),
            Err(_) => Err(Failure::Engine(engine::Error::Cancelled)),
        })
    }
}
