//! Turning a panic, which is always a bug of ours, into an ordinary error.
use super::errors::{Checked, Failure};
use crate::engine;
use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
};

thread_local! {
    /// How many [`caught`] are on this thread's stack.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
    /// Where the panic that is being caught happened.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics that [`caught`] will report keep quiet on stderr, which belongs to the host; all others print as usual.
pub fn install_hook() {
    let print = take_hook();
    set_hook(Box::new(move |info| {
        if GUARDS.get() == 0 {
            return print(info);
        }
        PLACE.set(info.location().map(|l| format!("{}:{}", l.file(), l.line())));
    }));
}

/// Runs `body`; a panic becomes `ERR_REALM_INTERNAL` with its message and place.
pub fn caught<T>(body: impl FnOnce() -> Checked<T>) -> Checked<T> {
    GUARDS.set(GUARDS.get() + 1);
    // Unwind safety: on a panic everything that `body` owned is dropped, and what it shares is behind locks whose users
    // expect poisoning.
    let outcome = catch_unwind(AssertUnwindSafe(body));
    GUARDS.set(GUARDS.get() - 1);
    outcome.unwrap_or_else(|payload| Err(internal(payload, PLACE.take())))
}

/// A panic's payload as an error.
pub fn internal(payload: Box<dyn Any + Send>, place: Option<String>) -> Failure {
    let text = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap_or("panic without a message").to_owned(),
    };
    let text = match place {
        Some(place) => format!("{text} ({place})"),
        None => text,
    };
    Failure::Engine(engine::Error::Internal(text))
}
