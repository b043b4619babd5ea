//! Process-wide settings and facts.
use super::{
    args::{MAX_SAFE_INTEGER, Options},
    call::sync,
    errors::Failure,
};
use crate::engine;
use napi::{Env, ValueType, bindgen_prelude::Unknown};
use napi_derive::napi;

/// More threads than this are a mistake.
const MAX_THREADS: i64 = 1024;

/// Options of `configure`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `configure`.
pub struct ConfigureOptions {
    /// Threads that compute, from the next piece of work on. The result of a computation does not depend on it.
    pub threads: Option<f64>,
    /// Bytes that all key/value caches may take together, remembered prefixes included. Default: a quarter of the memory
    /// that was available at the start.
    pub cache_bytes: Option<f64>,
    /// Requests that may wait on a model, beyond the 64 that run at once. More are refused with `ERR_REALM_QUEUE_FULL`.
    /// Default: 1024.
    pub max_queued: Option<f64>,
}

/// Facts about this process, for diagnosis.
#[napi(object, object_from_js = false)]
pub struct SystemInfo {
    /// Of this package.
    pub version: String,
    /// Threads that compute.
    pub threads: f64,
    /// The instruction set in use, such as `avx2`.
    pub instruction_set: String,
    /// Those that this build could use on this machine, best first.
    pub available_instruction_sets: Vec<String>,
    /// Bytes that all key/value caches may take together.
    pub cache_bytes: f64,
    /// Bytes that they take now, remembered prefixes included.
    pub cache_used_bytes: f64,
    /// Requests that may wait on a model.
    pub max_queued: f64,
}

/// Changes settings of the whole process, all workers included. Throws `ERR_REALM_INVALID_ARGUMENT`.
#[napi(catch_unwind, ts_args_type = "options: ConfigureOptions")]
pub fn configure<'env>(env: &'env Env, options: Unknown<'env>) -> napi::Result<()> {
    sync(env, || {
        if options.get_type()? == ValueType::Undefined {
            return Err(Failure::Type("options must be an object, got undefined".to_owned()));
        }
        let options = Options::new("options", options, &["threads", "cacheBytes", "maxQueued"])?;
        let threads = options.read("threads", |arg| arg.integer(1..=MAX_THREADS))?;
        let cache_bytes = options.read("cacheBytes", |arg| arg.integer(0..=MAX_SAFE_INTEGER))?;
        let max_queued = options.read("maxQueued", |arg| arg.integer(0..=MAX_SAFE_INTEGER))?;
        Ok(engine::configure(threads, cache_bytes, max_queued)?)
    })
}

/// What this process computes with.
#[napi(catch_unwind)]
pub fn system_info(env: &Env) -> napi::Result<SystemInfo> {
    sync(env, || {
        let info = engine::system_info();
        Ok(SystemInfo {
            version: info.version.to_owned(),
            threads: info.threads as f64,
            instruction_set: info.instruction_set.to_owned(),
            available_instruction_sets: info.available_instruction_sets.into_iter().map(str::to_owned).collect(),
            cache_bytes: info.cache_bytes as f64,
            cache_used_bytes: info.cache_used_bytes as f64,
            max_queued: info.max_queued as f64,
        })
    })
}
