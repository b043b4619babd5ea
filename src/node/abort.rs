//! `AbortSignal`, by `addEventListener`.
//!
//! napi's own wrapper takes over `signal.onabort` and overlooks a signal that has already fired.
use super::{
    args::Arg,
    errors::{Checked, Failure, call_js, take_pending_exception},
};
use napi::{
    Env, ValueType,
    bindgen_prelude::{FnArgs, Function, FunctionRef, JsObjectValue, Object, ObjectRef, Unknown},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// `addEventListener` and `removeEventListener`.
type Subscribe<'env> = Function<'env, FnArgs<(String, Function<'env, (), ()>)>, Unknown<'env>>;

/// A signal that a caller passed, checked.
pub struct Signal<'env>(Object<'env>);

impl<'env> Signal<'env> {
    pub fn new(arg: Arg<'env>) -> Checked<Self> {
        const EXPECTED: &str = "an AbortSignal";
        let object = arg.object().map_err(|_| arg.wrong_type(EXPECTED))?;
        let is = |key: &str, ty| match object.get::<Unknown>(key)? {
            Some(value) => Arg::new(key.to_owned(), value).is(ty),
            None => Ok(false),
        };
        let complete = is("aborted", ValueType::Boolean)?
            && is("addEventListener", ValueType::Function)?
            && is("removeEventListener", ValueType::Function)?;
        if complete { Ok(Self(object)) } else { Err(arg.wrong_type(EXPECTED)) }
    }

    pub fn aborted(&self) -> Checked<bool> {
        Ok(self.0.get_named_property("aborted")?)
    }

    pub fn reason(&self, env: &Env) -> Failure {
        reason(env, &self.0)
    }

    /// Calls `on_abort` when the signal fires. One that has fired already is remembered as such.
    pub fn listen(&self, env: &Env, on_abort: impl Fn() + 'static) -> Checked<Abort> {
        let fired = Arc::new(AtomicBool::new(self.aborted()?));
        let flag = fired.clone();
        let listener = env.create_function_from_closure::<(), (), _>("onAbort", move |_| {
            flag.store(true, Ordering::Release);
            on_abort();
            Ok(())
        })?;
        let abort = Abort { signal: self.0.create_ref()?, listener: listener.create_ref()?, fired };
        if !abort.fired() {
            if let Err(error) = allow_many(env, &self.0) {
                // Without it there may be a warning, nothing else.
                take_pending_exception(env, error);
            }
            let add: Subscribe = self.0.get_named_property("addEventListener")?;
            call_js(env, add, self.0, FnArgs::from(("abort".to_owned(), listener)))?;
        }
        Ok(abort)
    }
}

/// Node.js takes more than ten listeners of a signal for a leak and warns. One signal for many requests at once (of an HTTP
/// request, of a shutdown) is none, so a limit that nobody has set is lifted. Not on Node.js before 20.16, which does not
/// give its modules away.
fn allow_many(env: &Env, signal: &Object) -> napi::Result<()> {
    let process: Object = env.get_global()?.get_named_property("process")?;
    let module: Function<String, Object> = process.get_named_property("getBuiltinModule")?;
    let events = module.apply(process, "node:events".to_owned())?;
    let limit: Function<Object, f64> = events.get_named_property("getMaxListeners")?;
    if limit.apply(events, *signal)? == events.get_named_property::<f64>("defaultMaxListeners")? {
        let set: Function<FnArgs<(f64, Object)>, Unknown> = events.get_named_property("setMaxListeners")?;
        set.apply(events, FnArgs::from((0.0, *signal)))?;
    }
    Ok(())
}

/// A signal that is being listened to. To be [released](Abort::release) on the JavaScript thread.
pub struct Abort {
    signal: ObjectRef<false>,
    listener: FunctionRef<(), ()>,
    fired: Arc<AtomicBool>,
}

impl Abort {
    pub fn fired(&self) -> bool {
        self.fired.load(Ordering::Acquire)
    }

    /// `signal.reason`, as it is.
    pub fn reason(&self, env: &Env) -> Failure {
        match self.signal.get_value(env) {
            Ok(signal) => reason(env, &signal),
            Err(error) => error.into(),
        }
    }

    /// Removes the listener and lets go of the signal. That it may fail (the environment is going away, the method was
    /// replaced) changes nothing for the call that was given the signal.
    pub fn release(self, env: &Env) {
        if let Err(error) = self.remove_listener(env) {
            take_pending_exception(env, error);
        }
        let _ = self.signal.unref(env);
    }

    fn remove_listener(&self, env: &Env) -> napi::Result<()> {
        let signal = self.signal.get_value(env)?;
        let remove: Subscribe = signal.get_named_property("removeEventListener")?;
        let listener = self.listener.borrow_back(env)?;
        call_js(env, remove, signal, FnArgs::from(("abort".to_owned(), listener)))?;
        Ok(())
    }
}

fn reason(env: &Env, signal: &Object) -> Failure {
    Failure::Thrown(match signal.get_named_property_unchecked::<Unknown>("reason") {
        Ok(reason) => napi::Error::from_unknown_without_coercion(reason),
        Err(error) => take_pending_exception(env, error),
    })
}

/// What a call that was given a signal rejects with: the signal's reason if it ended because the signal fired.
pub fn blame<T>(env: &Env, outcome: Checked<T>, abort: Option<Abort>) -> Checked<T> {
    let Some(abort) = abort else { return outcome };
    let outcome = match outcome {
        Err(Failure::Engine(crate::engine::Error::Cancelled)) if abort.fired() => Err(abort.reason(env)),
        other => other,
    };
    abort.release(env);
    outcome
}
