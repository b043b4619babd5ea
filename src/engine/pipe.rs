//! The hand-over of an answer from the step loop to its reader. Neither ever waits for the other.
use super::{Chunk, Error};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

type Item = Result<Chunk, Error>;

/// What waits in a pipe for a slow reader before its request pauses, in the units of [`Chunk::weight`]: 256 plain tokens.
const CAPACITY: usize = 256 * TOKEN_WEIGHT;
/// A token without log probabilities.
pub(super) const TOKEN_WEIGHT: usize = 16;

/// A reader is not woken more often than this while tokens come faster.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Pieces that nobody has taken yet are put together: a reader who is behind catches up with one read.
///
/// The producer asks [`Pipe::has_room`] before it makes more. When room appears, or the reader leaves, the pipe calls back.
pub struct Pipe {
    state: Mutex<State>,
    /// Also in here, so that the producer can ask often.
    cancelled: AtomicBool,
    /// The reader wants the answer as a whole: nothing is handed over before its end.
    whole: bool,
    on_change: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// Made and not taken yet.
    chunk: Option<Chunk>,
    /// Comes after the chunk.
    error: Option<Error>,
    waiters: VecDeque<oneshot::Sender<Item>>,
    /// No more will come.
    done: bool,
    /// The reader went away.
    cancelled: bool,
    /// When a waiting reader got something last.
    delivered: Option<Instant>,
}

/// What [`Pipe::take`] found.
pub enum Take {
    Now(Item),
    /// Resolves with the next item; an error means the end.
    Later(oneshot::Receiver<Item>),
    End,
}

impl Pipe {
    pub fn new(whole: bool, on_change: impl Fn() + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), cancelled: AtomicBool::new(false), whole, on_change: Box::new(on_change) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Producer: is the reader keeping up?
    pub fn has_room(&self) -> bool {
        self.whole || self.lock().has_room()
    }

    /// Producer: adds a piece, whether or not there is room. It reaches a waiting reader with the next [`Pipe::deliver`].
    pub fn push(&self, piece: Chunk) {
        let mut state = self.lock();
        if state.cancelled {
            return;
        }
        match &mut state.chunk {
            Some(chunk) => chunk.append(piece),
            None => state.chunk = Some(piece),
        }
    }

    /// Producer: hands what there is to readers that wait; if it `can_wait`, not too soon after the last time.
    pub fn deliver(&self, can_wait: bool) {
        if self.whole {
            return;
        }
        let mut state = self.lock();
        if can_wait && state.delivered.is_some_and(|last| last.elapsed() < SHORTEST_WAIT) {
            return;
        }
        state.hand_over();
    }

    /// Producer: no more will come.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.done = true;
        state.hand_over();
    }

    /// Producer: ends with an error.
    pub fn fail(&self, error: Error) {
        let mut state = self.lock();
        if !state.cancelled {
            state.error = Some(error);
        }
        if self.whole {
            // Part of an answer is none.
            state.chunk = None;
        }
        state.done = true;
        state.hand_over();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Reader: what there is, a promise of it, or the end. Readers are served in the order of their calls.
    pub fn take(&self) -> Take {
        let mut state = self.lock();
        let was_full = !state.has_room();
        let ready = !self.whole || state.done;
        // What others wait for is theirs.
        if ready && !state.waiters.is_empty() {
            state.hand_over();
        }
        let taken = if ready { state.next() } else { None };
        let take = match taken {
            Some(item) => Take::Now(item),
            None if state.done || state.cancelled => Take::End,
            None => {
                let (sender, receiver) = oneshot::channel();
                state.waiters.push_back(sender);
                Take::Later(receiver)
            }
        };
        let made_room = was_full && state.has_room();
        drop(state);
        if made_room {
            (self.on_change)();
        }
        take
    }

    /// Reader: wants no more. What waits in the pipe is dropped, pending readers see the end.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        (state.chunk, state.error) = (None, None);
        state.waiters.clear();
        self.cancelled.store(true, Ordering::Release);
        drop(state);
        (self.on_change)();
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.chunk.as_ref().is_none_or(|chunk| chunk.weight() < CAPACITY)
    }

    fn next(&mut self) -> Option<Item> {
        self.chunk.take().map(Ok).or_else(|| self.error.take().map(Err))
    }

    fn hand_over(&mut self) {
        while let Some(waiter) = self.waiters.pop_front() {
            let Some(item) = self.next() else {
                if self.done {
                    // A waiter that is dropped sees the end.
                    continue;
                }
                self.waiters.push_front(waiter);
                return;
            };
            match waiter.send(item) {
                Ok(()) => self.delivered = Some(Instant::now()),
                // The reader's promise is gone: the next one gets it.
                Err(Ok(chunk)) => self.chunk = Some(chunk),
                Err(Err(error)) => self.error = Some(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn piece(token: u32) -> Chunk {
        Chunk { text: token.to_string(), tokens: vec![token], ..Chunk::default() }
    }

    fn tokens(item: Item) -> Vec<u32> {
        item.unwrap().tokens
    }

    fn later(pipe: &Pipe) -> oneshot::Receiver<Item> {
        let Take::Later(receiver) = pipe.take() else { panic!("nothing is there yet") };
        receiver
    }

    fn now(pipe: &Pipe) -> Item {
        let Take::Now(item) = pipe.take() else { panic!("something is there") };
        item
    }

    #[test]
    fn pieces_and_readers_keep_their_order() {
        let pipe = Pipe::new(false, || ());
        let (first, second) = (later(&pipe), later(&pipe));
        pipe.push(piece(0));
        pipe.deliver(false);
        pipe.push(piece(1));
        // A third reader does not get what the second waits for.
        let third = later(&pipe);
        pipe.push(piece(2));
        pipe.push(piece(3));
        pipe.deliver(false);
        assert_eq!(tokens(first.blocking_recv().unwrap()), [0]);
        assert_eq!(tokens(second.blocking_recv().unwrap()), [1]);
        assert_eq!(tokens(third.blocking_recv().unwrap()), [2, 3]);
        pipe.push(piece(4));
        pipe.finish();
        assert_eq!(tokens(now(&pipe)), [4]);
        assert!(matches!(pipe.take(), Take::End));
    }

    #[test]
    fn a_reader_who_is_behind_gets_all_at_once() {
        let pipe = Pipe::new(false, || ());
        for i in 0..5 {
            pipe.push(piece(i));
        }
        let chunk = now(&pipe).unwrap();
        assert_eq!((&chunk.text[..], &chunk.tokens[..]), ("01234", &[0, 1, 2, 3, 4][..]));
    }

    #[test]
    fn tokens_that_come_fast_wake_the_reader_together() {
        let pipe = Pipe::new(false, || ());
        let first = later(&pipe);
        pipe.push(piece(0));
        pipe.deliver(true);
        assert_eq!(tokens(first.blocking_recv().unwrap()), [0]);
        let mut second = later(&pipe);
        pipe.push(piece(1));
        pipe.lock().delivered = Some(Instant::now() + Duration::from_secs(1000));
        pipe.deliver(true);
        assert!(second.try_recv().is_err());
        pipe.push(piece(2));
        pipe.deliver(false);
        assert_eq!(tokens(second.blocking_recv().unwrap()), [1, 2]);
    }

    #[test]
    fn a_lost_reader_loses_nothing() {
        let pipe = Pipe::new(false, || ());
        drop(later(&pipe));
        let second = later(&pipe);
        pipe.push(piece(7));
        pipe.fail(Error::Cancelled);
        assert_eq!(tokens(second.blocking_recv().unwrap()), [7]);
        assert!(matches!(now(&pipe), Err(Error::Cancelled)));
        assert!(matches!(pipe.take(), Take::End));
    }

    #[test]
    fn readers_that_wait_see_the_end() {
        let pipe = Pipe::new(false, || ());
        let (first, second) = (later(&pipe), later(&pipe));
        pipe.push(piece(1));
        pipe.finish();
        assert_eq!(tokens(first.blocking_recv().unwrap()), [1]);
        assert!(second.blocking_recv().is_err());
    }

    #[test]
    fn a_whole_answer_comes_at_its_end() {
        let pipe = Pipe::new(true, || ());
        for i in 0..1000 {
            pipe.push(piece(i));
            pipe.deliver(false);
        }
        let mut waiting = later(&pipe);
        assert!(pipe.has_room() && waiting.try_recv().is_err());
        pipe.finish();
        assert_eq!(tokens(waiting.blocking_recv().unwrap()).len(), 1000);

        let pipe = Pipe::new(true, || ());
        pipe.push(piece(0));
        pipe.fail(Error::Cancelled);
        assert!(matches!(now(&pipe), Err(Error::Cancelled)));
    }

    #[test]
    fn room_and_cancelling_call_back() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let pipe = Pipe::new(false, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        for i in 0..256 {
            assert!(pipe.has_room());
            pipe.push(piece(i));
        }
        assert!(!pipe.has_room());
        assert_eq!(tokens(now(&pipe)).len(), 256);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let pending = later(&pipe);
        pipe.cancel();
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert!(pending.blocking_recv().is_err());
        pipe.push(piece(2));
        assert!(pipe.is_cancelled() && matches!(pipe.take(), Take::End));
    }
}
