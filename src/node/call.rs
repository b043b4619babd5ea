//! The frame around every entry: panics caught, failures turned into errors, work put on the pool.
use super::{
    errors::{Checked, Failure},
    panics::caught,
    runtime,
};
use crate::engine;
use napi::{
    Env,
    bindgen_prelude::{PromiseRaw, ToNapiValue},
};

/// A synchronous entry: failures are thrown.
pub fn sync<T>(env: &Env, body: impl FnOnce() -> Checked<T>) -> napi::Result<T> {
    caught(body).map_err(|failure| failure.into_error(env))
}

/// An entry that returns a promise: failures, those of the arguments too, reject it.
pub fn promise<'env, J: ToNapiValue>(
    env: &'env Env,
    start: impl FnOnce() -> Checked<PromiseRaw<'env, J>>,
) -> napi::Result<PromiseRaw<'env, J>> {
    caught(start).or_else(|failure| reject(env, failure))
}

/// A rejected promise.
pub fn reject<'env, J: ToNapiValue>(env: &'env Env, failure: Failure) -> napi::Result<PromiseRaw<'env, J>> {
    PromiseRaw::reject(env, failure.into_error(env))
}

/// Runs `work` on the blocking pool; `convert` makes the JavaScript value of its result.
pub fn background<'env, T: Send + 'static, J: ToNapiValue>(
    env: &'env Env,
    work: impl FnOnce() -> Result<T, engine::Error> + Send + 'static,
    convert: impl FnOnce(T) -> J + 'static,
) -> Checked<PromiseRaw<'env, J>> {
    settle(env, runtime::start(move || Ok(work()?)), |_, outcome| outcome.map(convert))
}

/// A promise of what `finish` makes of `future`'s outcome, on the JavaScript thread. `finish` runs once, whatever the
/// outcome, unless the environment goes away first.
pub fn settle<'env, T: Send + 'static, J: ToNapiValue>(
    env: &'env Env,
    future: impl Future<Output = Checked<T>> + Send + 'static,
    finish: impl FnOnce(&'env Env, Checked<T>) -> Checked<J> + 'static,
) -> Checked<PromiseRaw<'env, J>> {
    Ok(env.spawn_future_with_callback(async move { Ok(future.await) }, move |env, outcome| {
        sync(env, || finish(env, outcome))
    })?)
}
