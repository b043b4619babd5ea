//! `onProgress`, called from a thread that is not JavaScript's.
use super::{
    errors::{Checked, Failure, call_js},
    lifetime::{Cancel, CancelFlag},
};
use napi::{
    Env, Status,
    bindgen_prelude::{Function, FunctionRef, Unknown},
    threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode},
};
use std::sync::{Arc, Mutex, MutexGuard};

/// The end that the working thread holds. Does not keep the process alive.
pub struct Reporter(ThreadsafeFunction<f64, (), f64, Status, false, true>);

impl Reporter {
    pub fn report(&self, fraction: f64) {
        // The last call is made by `Progress::finish`, so that it comes after all others and before the promise settles.
        if fraction < 1.0 {
            self.0.call(fraction, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// The end that the JavaScript thread holds.
pub struct Progress(Arc<Shared>);

struct Shared {
    callback: FunctionRef<f64, Unknown<'static>>,
    state: Mutex<State>,
    work: Arc<CancelFlag>,
}

#[derive(Default)]
struct State {
    /// No more calls: the promise is about to settle, or a call threw.
    over: bool,
    thrown: Option<napi::Error>,
}

impl Progress {
    /// An exception that `callback` throws cancels `work`; [`Progress::finish`] hands it on.
    pub fn new(
        env: &Env,
        callback: Function<f64, Unknown<'static>>,
        work: Arc<CancelFlag>,
    ) -> Checked<(Self, Reporter)> {
        let shared = Arc::new(Shared { callback: callback.create_ref()?, state: Mutex::default(), work });
        let target = shared.clone();
        let call = env.create_function_from_closure::<f64, (), _>("onProgress", move |context| {
            target.call(context.env, context.get(0)?);
            Ok(())
        })?;
        let reporter = call.build_threadsafe_function().callee_handled::<false>().weak::<true>().build()?;
        Ok((Self(shared), Reporter(reporter)))
    }

    /// Ends the calls, with one that says 1 if the work is `done`. Fails with what the callback threw, if it did.
    pub fn finish(&self, env: &Env, done: bool) -> Checked<()> {
        if done {
            self.0.call(env, 1.0);
        }
        let mut state = self.0.lock();
        state.over = true;
        state.thrown.take().map_or(Ok(()), |error| Err(Failure::Thrown(error)))
    }
}

impl Shared {
    fn call(&self, env: &Env, fraction: f64) {
        if self.lock().over {
            return;
        }
        // The lock is not held here: the callback may do what it likes.
        let outcome = self.callback.borrow_back(env).and_then(|callback| call_js(env, callback, (), fraction));
        if let Err(error) = outcome {
            let mut state = self.lock();
            state.over = true;
            state.thrown = Some(error);
            self.work.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}
