//! An order-preserving, bounded hand-off between one producer and one consumer that must not block.
use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard},
};
use tokio::sync::oneshot;

/// Items wait in the pipe, or readers wait for items, never both. The producer blocks (or is told) when it is full.
pub struct Pipe<T> {
    state: Mutex<State<T>>,
    space: Condvar,
    capacity: usize,
}

struct State<T> {
    ready: VecDeque<T>,
    waiters: VecDeque<oneshot::Sender<T>>,
    /// No more items will come.
    done: bool,
    /// The consumer went away.
    cancelled: bool,
}

pub enum Take<T> {
    Now(T),
    /// Resolves with the next item; an error means the end.
    Later(oneshot::Receiver<T>),
    End,
}

impl<T> Pipe<T> {
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                waiters: VecDeque::new(),
                done: false,
                cancelled: false,
            }),
            space: Condvar::new(),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Producer: hands over an item. `false`: the consumer went away, stop.
    pub fn push(&self, item: T) -> bool {
        let mut item = item;
        let mut state = self.lock();
        loop {
            if state.cancelled {
                return false;
            }
            while let Some(waiter) = state.waiters.pop_front() {
                match waiter.send(item) {
                    Ok(()) => return true,
                    Err(back) => item = back,
                }
            }
            if state.ready.len() < self.capacity {
                state.ready.push_back(item);
                return true;
            }
            state = self.space.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// Producer: no more items; readers that wait see the end.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.done = true;
        state.waiters.clear();
    }

    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Consumer: the next item, a promise of it, or the end. Readers are served in the order of their calls.
    pub fn take(&self) -> Take<T> {
        let mut state = self.lock();
        if let Some(item) = state.ready.pop_front() {
            self.space.notify_one();
            return Take::Now(item);
        }
        if state.done || state.cancelled {
            return Take::End;
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.push_back(sender);
        Take::Later(receiver)
    }

    /// Consumer: wants no more. What waits in the pipe is dropped, pending readers see the end.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        state.ready.clear();
        state.waiters.clear();
        self.space.notify_all();
    }
}
