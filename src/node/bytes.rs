//! Copying a caller's bytes without holding the event loop.
use super::{
    args::{Arg, bytes_now},
    errors::{Checked, Failure},
    runtime,
};
use crate::engine;
use napi::{
    Env, Status,
    bindgen_prelude::{Uint8ArraySlice, Unknown},
    threadsafe_function::ThreadsafeFunction,
};
use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread::sleep,
    time::Duration,
};

/// How much is copied before the event loop gets its turn: some milliseconds' worth.
const SLICE: usize = 16 << 20;

/// How long it has for that. Without a pause it might not turn at all: Node serves the next call to a thread-safe function
/// at once if it arrives before the last one has returned.
const TURN: Duration = Duration::from_millis(1);

/// A copy of a `Uint8Array` in the making. The first slice is copied at once, the rest slice by slice on the JavaScript
/// thread, because nowhere else may JavaScript's memory be read.
pub struct ByteCopy {
    copy: Arc<Mutex<Copied>>,
    /// Copies the next slice; `true` while there is more. `None` when the first slice was all.
    next: Option<ThreadsafeFunction<(), bool, (), Status, false>>,
}

struct Copied {
    bytes: Vec<u8>,
    total: usize,
    /// The array was detached or resized meanwhile.
    changed: bool,
}

impl Copied {
    fn new(total: usize) -> Checked<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(total).map_err(|_| {
            engine::Error::OutOfMemory(format!("there is no memory for a copy of source ({total} bytes)"))
        })?;
        Ok(Self { bytes, total, changed: false })
    }

    /// Copies the next slice; `true` while there is more.
    fn advance(&mut self, array: &Uint8ArraySlice) -> bool {
        self.changed |= array.len() != self.total;
        if self.changed {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&array[start..self.total.min(start + SLICE)]);
        self.bytes.len() < self.total
    }
}

impl ByteCopy {
    /// Begins to copy `arg`, which is known to be a `Uint8Array`.
    pub fn begin(env: &Env, arg: &Arg) -> Checked<Self> {
        let array = bytes_now(arg.value())?;
        let mut copied = Copied::new(array.len())?;
        let more = copied.advance(&array);
        let copy = Arc::new(Mutex::new(copied));
        let next = more.then(|| Self::stepper(env, arg.value(), copy.clone())).transpose()?;
        Ok(Self { copy, next })
    }

    /// The array is the `this` of the function, so that both go away together.
    fn stepper(
        env: &Env,
        array: Unknown,
        copy: Arc<Mutex<Copied>>,
    ) -> Checked<ThreadsafeFunction<(), bool, (), Status, false>> {
        let advance = env.create_function_from_closure::<(), bool, _>("copyNextSlice", move |context| {
            let array = bytes_now(context.this()?).map_err(|_| napi::Error::from_status(Status::InvalidArg))?;
            Ok(lock(&copy).advance(&array))
        })?;
        Ok(advance.bind(array)?.build_threadsafe_function::<()>().callee_handled::<false>().build()?)
    }

    /// Copies the rest.
    pub async fn complete(self, cancelled: impl Fn() -> bool) -> Checked<Vec<u8>> {
        if let Some(next) = &self.next {
            while next.call_async_catch(()).await? {
                if cancelled() {
                    return Err(engine::Error::Cancelled.into());
                }
                runtime::start(|| {
                    sleep(TURN);
                    Ok(())
                })
                .await?;
            }
        }
        let mut copied = lock(&self.copy);
        if copied.changed {
            return Err(Failure::Type("source was detached or resized while it was being copied".to_owned()));
        }
        Ok(std::mem::take(&mut copied.bytes))
    }
}

fn lock(copy: &Mutex<Copied>) -> MutexGuard<'_, Copied> {
    copy.lock().unwrap_or_else(|e| e.into_inner())
}
