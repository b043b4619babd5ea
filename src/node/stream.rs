//! The async iterator that `generateStream` returns.
use super::{
    abort::{Abort, Signal},
    call::{promise, settle},
    chunk::token_chunk,
    errors::{Checked, Failure},
    lifetime::cancel_at_exit,
};
use crate::engine::{Chunk, Error, Pipe, Stream, Take};
use napi::{
    Env,
    bindgen_prelude::{Object, ObjectFinalize, PromiseRaw, This, Unknown},
};
use napi_derive::napi;
use std::sync::{Arc, Mutex};

type Item = Result<Chunk, Error>;

/// What `generateStream` returns: an `AsyncGenerator<TokenChunk, void, void>`, not to be constructed. Concurrent `next()`
/// calls are answered in their order. A stream that nobody waits for does not keep the process alive; one that is
/// forgotten ends its request when it is garbage-collected.
#[napi(custom_finalize)]
pub struct TokenStream {
    shared: Arc<Shared>,
}

struct Shared {
    stream: Stream,
    /// Taken when the stream ends, by whoever sees it first.
    abort: Mutex<Option<Abort>>,
}

impl TokenStream {
    /// With a signal that has fired already nothing is started.
    pub fn new(env: &Env, signal: Option<Signal>, submit: impl FnOnce() -> Result<Stream, Error>) -> Checked<Self> {
        let aborted = signal.as_ref().map(|signal| signal.aborted()).transpose()?.unwrap_or(false);
        let stream = if aborted { cancelled_stream() } else { submit()? };
        let shared = Arc::new(Shared { stream, abort: Mutex::new(None) });
        // From here on, dropping `shared` ends the request should something fail.
        let stream = Self { shared };
        cancel_at_exit(env, &stream.shared.stream)?;
        if let Some(signal) = signal {
            let weak = Arc::downgrade(&stream.shared.stream);
            let abort = signal.listen(env, move || {
                if let Some(stream) = weak.upgrade() {
                    stream.cancel();
                }
            })?;
            *stream.shared.abort() = Some(abort);
        }
        Ok(stream)
    }
}

#[napi]
impl TokenStream {
    /// The next piece of the answer, or the end.
    #[napi(catch_unwind, ts_return_type = "Promise<IteratorResult<TokenChunk, void>>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Object<'env>>> {
        promise(env, || {
            let shared = self.shared.clone();
            match shared.stream.take() {
                Take::Now(item) => resolved(env, shared.step(env, Some(item))?),
                Take::End => resolved(env, shared.step(env, None)?),
                Take::Later(receiver) => {
                    settle(env, async move { Ok(receiver.await.ok()) }, move |env, item| shared.step(env, item?))
                }
            }
        })
    }

    /// Ends the request. Leaving a `for await` early calls it.
    #[napi(
        js_name = "return",
        catch_unwind,
        ts_args_type = "value?: void | PromiseLike<void>",
        ts_return_type = "Promise<IteratorResult<TokenChunk, void>>"
    )]
    pub fn finish<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Object<'env>>> {
        promise(env, || {
            self.shared.end(env);
            resolved(env, done(env)?)
        })
    }

    /// Ends the request and rejects with `error`.
    #[napi(
        js_name = "throw",
        catch_unwind,
        ts_args_type = "error?: unknown",
        ts_return_type = "Promise<IteratorResult<TokenChunk, void>>"
    )]
    pub fn throw<'env>(&self, env: &'env Env, error: Unknown<'env>) -> napi::Result<PromiseRaw<'env, Object<'env>>> {
        promise(env, || {
            self.shared.end(env);
            Err(Failure::Thrown(napi::Error::from_unknown_without_coercion(error)))
        })
    }

    /// The stream itself.
    #[napi(
        catch_unwind,
        well_known_symbol = "asyncIterator",
        ts_return_type = "AsyncGenerator<TokenChunk, void, void>"
    )]
    pub fn iterator<'env>(&self, this: This<'env, Object<'env>>) -> Object<'env> {
        this.object
    }

    /// Ends the request, for `await using`.
    #[napi(catch_unwind, well_known_symbol = "asyncDispose", ts_return_type = "Promise<void>")]
    pub fn dispose<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        promise(env, || {
            self.shared.end(env);
            Ok(PromiseRaw::resolve(env, ())?)
        })
    }
}

impl ObjectFinalize for TokenStream {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.shared.end(&env);
        Ok(())
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        self.shared.stream.cancel();
    }
}

impl Shared {
    fn abort(&self) -> std::sync::MutexGuard<'_, Option<Abort>> {
        self.abort.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Ends the request and forgets the signal.
    fn end(&self, env: &Env) {
        self.stream.cancel();
        let abort = self.abort().take();
        if let Some(abort) = abort {
            abort.release(env);
        }
    }

    /// What `next()` settles with, given what came through the pipe (`None` is its end).
    fn step<'env>(&self, env: &'env Env, item: Option<Item>) -> Checked<Object<'env>> {
        match item {
            Some(Ok(chunk)) => {
                if chunk.finish.is_some() {
                    self.forget_signal(env);
                }
                let mut step = Object::new(env)?;
                step.set("value", token_chunk(env, chunk)?)?;
                step.set("done", false)?;
                Ok(step)
            }
            Some(Err(Error::Cancelled)) | None => match self.forget_signal(env) {
                Some(reason) => Err(reason),
                None => done(env),
            },
            Some(Err(error)) => {
                self.forget_signal(env);
                Err(error.into())
            }
        }
    }

    /// Stops listening. The reason, if the signal had fired: to be told once, and only the first caller gets it.
    fn forget_signal(&self, env: &Env) -> Option<Failure> {
        let abort = self.abort().take()?;
        let reason = abort.fired().then(|| abort.reason(env));
        abort.release(env);
        reason
    }
}

fn cancelled_stream() -> Stream {
    let pipe = Pipe::new(false, || ());
    pipe.cancel();
    Arc::new(pipe)
}

fn done<'env>(env: &'env Env) -> Checked<Object<'env>> {
    let mut step = Object::new(env)?;
    step.set("value", ())?;
    step.set("done", true)?;
    Ok(step)
}

fn resolved<'env>(env: &'env Env, step: Object<'env>) -> Checked<PromiseRaw<'env, Object<'env>>> {
    Ok(PromiseRaw::resolve(env, step)?)
}
