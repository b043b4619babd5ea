//! Ending what still runs when its JavaScript environment (a worker, say) goes away.
//!
//! Finalizers cannot do this: not every runtime runs them when a worker is terminated.
use super::errors::Checked;
use crate::engine::Pipe;
use napi::Env;
use std::{
    cell::RefCell,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// Running work that can be told to stop, from any thread.
pub trait Cancel: Send + Sync {
    fn cancel(&self);
}

impl Cancel for Pipe {
    fn cancel(&self) {
        Pipe::cancel(self);
    }
}

/// For work that asks now and then whether it should stop.
#[derive(Default)]
pub struct CancelFlag(AtomicBool);

impl CancelFlag {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cancel for CancelFlag {
    fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

thread_local! {
    /// What runs for this thread's environment; `None` until its cleanup hook is set.
    static RUNNING: RefCell<Option<Vec<Weak<dyn Cancel>>>> = const { RefCell::new(None) };
}

/// Cancels `work`, if it still exists, when the environment goes away.
pub fn cancel_at_exit<T: Cancel + 'static>(env: &Env, work: &Arc<T>) -> Checked<()> {
    let work: Weak<T> = Arc::downgrade(work);
    RUNNING.with_borrow_mut(|running| {
        if running.is_none() {
            env.add_env_cleanup_hook((), |()| cancel_all())?;
        }
        let running = running.get_or_insert_default();
        running.retain(|work| work.strong_count() > 0);
        running.push(work);
        Ok(())
    })
}

fn cancel_all() {
    for work in RUNNING.take().into_iter().flatten() {
        if let Some(work) = work.upgrade() {
            work.cancel();
        }
    }
}
