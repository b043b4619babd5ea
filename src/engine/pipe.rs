//! An order-preserving hand-off between one producer and one consumer, of which neither blocks.
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::oneshot;

/// Items wait in the pipe, or readers wait for items, never both. The producer looks for room before it makes an item;
/// when room appears (or the consumer leaves) the pipe calls back.
pub struct Pipe<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    on_change: Box<dyn Fn() + Send + Sync>,
}

struct State<T> {
    ready: VecDeque<T>,
    waiters: VecDeque<oneshot::Sender<T>>,
    /// No more items will come.
    done: bool,
    /// The consumer went away.
    cancelled: bool,
}

/// What [`Pipe::take`] found.
pub enum Take<T> {
    Now(T),
    /// Resolves with the next item; an error means the end.
    Later(oneshot::Receiver<T>),
    End,
}

impl<T> Pipe<T> {
    pub fn new(capacity: usize, on_change: impl Fn() + Send + Sync + 'static) -> Self {
        let state = State { ready: VecDeque::new(), waiters: VecDeque::new(), done: false, cancelled: false };
        Self { state: Mutex::new(state), capacity, on_change: Box::new(on_change) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Producer: is the consumer keeping up?
    pub fn has_room(&self) -> bool {
        self.lock().ready.len() < self.capacity
    }

    /// Producer: hands over an item, whether or not there is room.
    pub fn push(&self, mut item: T) {
        let mut state = self.lock();
        if state.cancelled {
            return;
        }
        // A waiter whose promise is gone passes the item on.
        while let Some(waiter) = state.waiters.pop_front() {
            match waiter.send(item) {
                Ok(()) => return,
                Err(back) => item = back,
            }
        }
        state.ready.push_back(item);
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
            let made_room = state.ready.len() + 1 == self.capacity;
            drop(state);
            if made_room {
                (self.on_change)();
            }
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
        drop(state);
        (self.on_change)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[test]
    fn items_and_readers_keep_their_order() {
        let pipe = Pipe::new(2, || ());
        let Take::Later(first) = pipe.take() else { panic!("nothing is there yet") };
        let Take::Later(second) = pipe.take() else { panic!("nothing is there yet") };
        for i in 0..4 {
            pipe.push(i);
        }
        assert_eq!((first.blocking_recv(), second.blocking_recv()), (Ok(0), Ok(1)));
        assert!(!pipe.has_room());
        assert!(matches!(pipe.take(), Take::Now(2)));
        pipe.finish();
        assert!(matches!(pipe.take(), Take::Now(3)));
        assert!(matches!(pipe.take(), Take::End));
    }

    #[test]
    fn a_lost_reader_loses_no_item() {
        let pipe = Pipe::new(2, || ());
        drop(pipe.take());
        pipe.push(7);
        assert!(matches!(pipe.take(), Take::Now(7)));
    }

    #[test]
    fn room_and_cancelling_call_back() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let pipe = Pipe::new(1, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        pipe.push(1);
        assert!(matches!(pipe.take(), Take::Now(1)));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let Take::Later(pending) = pipe.take() else { panic!("nothing is there") };
        pipe.cancel();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert!(pending.blocking_recv().is_err());
        pipe.push(2);
        assert!(pipe.is_cancelled() && matches!(pipe.take(), Take::End));
    }
}
