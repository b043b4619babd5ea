//! The process-wide registry of models: content id, de-duplication, reference counts, removal while in use.
//!
//! It knows nothing of what a model is. Start at [`Registry::store`]; ids come from [`content_id`].
mod content_id;

pub use content_id::content_id;

use dashmap::{DashMap, Entry};
use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Condvar, Mutex, PoisonError},
};

/// xxh3-128 of a model's content (see [`content_id`]), written as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub u128);

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The text is not a model id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a model id has 32 lower-case hex digits, not {0:?}")]
pub struct ParseIdError(String);

impl FromStr for ModelId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        const DIGITS: usize = 32;
        let well_formed = text.len() == DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(text, 16) {
            Ok(id) if well_formed => Ok(Self(id)),
            // A caller may pass a whole document: enough of it to recognise.
            _ => Err(ParseIdError(text.chars().take(2 * DIGITS).collect())),
        }
    }
}

/// Reference-counted models by content id. Generic, so that this module knows nothing of what a model is.
///
/// Every method may be called from any thread. No lock is held while a model loads: other ids stay available, and so
/// does this one's absence.
pub struct Registry<M> {
    models: DashMap<ModelId, Slot<M>>,
}

enum Slot<M> {
    /// One thread loads the model; others that want to store it wait for the end of that.
    Loading(Arc<Latch>),
    /// References are what [`Registry::store`] added and [`Registry::remove`] did not release yet.
    Ready { model: Arc<M>, references: usize },
}

/// What [`Registry::remove`] released.
#[derive(Debug)]
pub struct Removed<M> {
    /// The model, so that the caller can end what runs on it.
    pub model: Arc<M>,
    /// It was the last reference: the registry has no such model any more.
    pub last: bool,
}

impl<M> Default for Registry<M> {
    fn default() -> Self {
        Self { models: DashMap::new() }
    }
}

impl<M> Registry<M> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a reference to the model with this id, loading it first if there is none; the flag tells whether it was.
    ///
    /// Threads that store the same id at once load it once. When a load fails (or panics) nothing is left behind, and a
    /// thread that waited for it tries its own. `load` must not store the same id, as it would wait for itself.
    pub fn store<E>(&self, id: ModelId, load: impl FnOnce() -> Result<M, E>) -> Result<(Arc<M>, bool), E> {
        loop {
            let latch = match self.models.entry(id) {
                Entry::Occupied(mut occupied) => match occupied.get_mut() {
                    Slot::Ready { model, references } => {
                        *references += 1;
                        return Ok((model.clone(), false));
                    }
                    Slot::Loading(latch) => latch.clone(),
                },
                Entry::Vacant(vacant) => {
                    let latch = Arc::new(Latch::default());
                    // Dropping what `insert` returns unlocks the map before the load begins.
                    drop(vacant.insert(Slot::Loading(latch.clone())));
                    return Loading { registry: self, id, latch }.run(load).map(|model| (model, true));
                }
            };
            // The map is unlocked here: the entry above lived inside the match.
            latch.wait();
        }
    }

    /// `None` for a model that was never stored, was removed, or is still loading.
    pub fn get(&self, id: ModelId) -> Option<Arc<M>> {
        self.models.get(&id)?.model().cloned()
    }

    /// All loaded models, sorted by id.
    pub fn list(&self) -> Vec<(ModelId, Arc<M>)> {
        let ready =
            |entry: dashmap::mapref::multiple::RefMulti<ModelId, Slot<M>>| Some((*entry.key(), entry.model()?.clone()));
        let mut models: Vec<_> = self.models.iter().filter_map(ready).collect();
        models.sort_by_key(|(id, _)| *id);
        models
    }

    /// Releases one reference; the last one takes the model out of the registry. `None` when there is no such model.
    pub fn remove(&self, id: ModelId) -> Option<Removed<M>> {
        let Entry::Occupied(mut occupied) = self.models.entry(id) else { return None };
        let Slot::Ready { model, references } = occupied.get_mut() else { return None };
        *references -= 1;
        let removed = Removed { model: model.clone(), last: *references == 0 };
        if removed.last {
            occupied.remove();
        }
        Some(removed)
    }
}

impl<M> Slot<M> {
    fn model(&self) -> Option<&Arc<M>> {
        match self {
            Self::Loading(_) => None,
            Self::Ready { model, .. } => Some(model),
        }
    }
}

/// The duty to end a load: whichever way it ends, the slot is settled before those who wait are let go.
struct Loading<'a, M> {
    registry: &'a Registry<M>,
    id: ModelId,
    latch: Arc<Latch>,
}

impl<M> Loading<'_, M> {
    fn run<E>(self, load: impl FnOnce() -> Result<M, E>) -> Result<Arc<M>, E> {
        let model = Arc::new(load()?);
        self.registry.models.insert(self.id, Slot::Ready { model: model.clone(), references: 1 });
        Ok(model)
    }
}

/// Also runs when `load` panics.
impl<M> Drop for Loading<'_, M> {
    fn drop(&mut self) {
        // Not somebody else's slot: after a success the model may already be removed and loading anew.
        let own = |slot: &Slot<M>| matches!(slot, Slot::Loading(latch) if Arc::ptr_eq(latch, &self.latch));
        self.registry.models.remove_if(&self.id, |_, slot| own(slot));
        self.latch.open();
    }
}

/// Opens once and stays open.
#[derive(Default)]
struct Latch {
    opened: Mutex<bool>,
    changed: Condvar,
}

impl Latch {
    fn open(&self) {
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.changed.wait_while(opened, |opened| !*opened);
        drop(opened.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        convert::Infallible,
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{
            Barrier,
            atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        },
        thread,
        time::Duration,
    };

    fn fine<M>(model: M) -> Result<M, Infallible> {
        Ok(model)
    }

    #[test]
    fn ids_are_written_and_read_as_32_hex_digits() {
        let id = ModelId(0xab);
        assert_eq!(id.to_string(), "000000000000000000000000000000ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(ModelId(u128::MAX).to_string().parse(), Ok(ModelId(u128::MAX)));
        for bad in ["", "ab", "000000000000000000000000000000AB", "+00000000000000000000000000000ab", &"0".repeat(33)] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad}");
        }
        let error = "xyz".parse::<ModelId>().unwrap_err();
        assert_eq!(error.to_string(), "a model id has 32 lower-case hex digits, not \"xyz\"");
    }

    #[test]
    fn counts_references() {
        let registry = Registry::new();
        let id = ModelId(1);
        let (first, new) = registry.store(id, || fine("a")).unwrap();
        assert!(new);
        let (second, new) = registry.store(id, || -> Result<_, Infallible> { panic!("loaded twice") }).unwrap();
        assert!(!new && Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &registry.get(id).unwrap()));

        let removed = registry.remove(id).unwrap();
        assert!(!removed.last && registry.get(id).is_some());
        let removed = registry.remove(id).unwrap();
        assert!(removed.last && Arc::ptr_eq(&first, &removed.model));
        assert!(registry.get(id).is_none() && registry.remove(id).is_none());
    }

    #[test]
    fn lists_by_id() {
        let registry = Registry::new();
        for id in [3, 1, 2] {
            registry.store(ModelId(id), || fine(id)).unwrap();
        }
        let listed: Vec<_> = registry.list().into_iter().map(|(id, model)| (id.0, *model)).collect();
        assert_eq!(listed, [(1, 1), (2, 2), (3, 3)]);
    }

    #[test]
    fn a_failed_load_leaves_nothing_behind() {
        let registry = Registry::new();
        let id = ModelId(1);
        assert_eq!(registry.store(id, || Err::<(), _>("broken")).unwrap_err(), "broken");
        assert!(registry.get(id).is_none() && registry.list().is_empty());

        let panicked =
            catch_unwind(AssertUnwindSafe(|| registry.store(id, || -> Result<(), ()> { panic!("in load") })));
        assert!(panicked.is_err() && registry.models.is_empty());
        assert!(registry.store(id, || fine(())).unwrap().1);
    }

    #[test]
    fn other_models_are_available_while_one_loads() {
        let registry = Registry::new();
        let loading = ModelId(1);
        registry
            .store(loading, || {
                for id in 2..100 {
                    registry.store(ModelId(id), || fine(id)).unwrap();
                }
                assert!(registry.get(loading).is_none() && registry.remove(loading).is_none());
                assert_eq!(registry.list().len(), 98);
                fine(1)
            })
            .unwrap();
        assert_eq!(registry.list().len(), 99);
    }

    #[test]
    fn threads_that_store_at_once_load_once() {
        let (registry, loads, start) = (Registry::new(), AtomicUsize::new(0), Barrier::new(8));
        let store = || {
            start.wait();
            let slow = || {
                loads.fetch_add(1, SeqCst);
                thread::sleep(Duration::from_millis(20));
                fine(())
            };
            registry.store(ModelId(1), slow).unwrap().1
        };
        let new: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(store)).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!((new, loads.load(SeqCst)), (1, 1));
        let releases = (0..8).map(|_| registry.remove(ModelId(1)).unwrap().last);
        assert_eq!(releases.filter(|last| *last).count(), 1);
    }

    #[test]
    fn those_who_waited_for_a_failed_load_try_their_own() {
        let (registry, loading) = (Registry::new(), AtomicBool::new(false));
        thread::scope(|scope| {
            let failing = scope.spawn(|| {
                registry.store(ModelId(1), || {
                    loading.store(true, SeqCst);
                    thread::sleep(Duration::from_millis(20));
                    Err("broken")
                })
            });
            while !loading.load(SeqCst) {
                thread::yield_now();
            }
            assert!(registry.store(ModelId(1), || fine(7)).unwrap().1);
            assert_eq!(failing.join().unwrap().unwrap_err(), "broken");
        });
        assert_eq!(*registry.get(ModelId(1)).unwrap(), 7);
    }

    /// What one thread of the stress test did: the models whose references it holds, by id, and two counts.
    #[derive(Default)]
    struct Done {
        held: [Vec<Arc<()>>; IDS],
        loaded: usize,
        unloaded: usize,
    }

    const IDS: usize = 3;

    #[test]
    fn stays_consistent_under_stress() {
        let registry = Registry::new();
        let loading: [AtomicUsize; IDS] = Default::default();
        let work = |seed: u64| {
            let mut done = Done::default();
            let mut random = seed;
            for _ in 0..20_000 {
                // Knuth's linear congruential generator (MMIX); its high bits are good enough here.
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (which, action, fails) = ((random >> 33) as usize % IDS, (random >> 48) % 4, random >> 63 == 1);
                let id = ModelId(which as u128);
                let load = || {
                    assert_eq!(loading[which].fetch_add(1, SeqCst), 0, "two loads at once");
                    assert!(registry.get(id).is_none(), "loaded although it exists");
                    loading[which].fetch_sub(1, SeqCst);
                    if fails { Err(()) } else { Ok(()) }
                };
                match action {
                    0 => {
                        if let Ok((model, new)) = registry.store(id, load) {
                            done.loaded += usize::from(new);
                            done.held[which].push(model);
                        }
                    }
                    1 => {
                        if let Some(held) = done.held[which].pop() {
                            let removed = registry.remove(id).expect("a reference was held");
                            assert!(Arc::ptr_eq(&held, &removed.model));
                            done.unloaded += usize::from(removed.last);
                        }
                    }
                    2 => assert!(registry.list().is_sorted_by_key(|(id, _)| *id)),
                    _ => {
                        let found = registry.get(id);
                        for held in &done.held[which] {
                            assert!(Arc::ptr_eq(held, found.as_ref().expect("a reference is held")));
                        }
                    }
                }
            }
            done
        };
        let work = &work;
        let done: Vec<Done> = thread::scope(|scope| {
            let threads: Vec<_> = (1..=8).map(|seed| scope.spawn(move || work(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let left: usize = (0..IDS).map(|which| usize::from(registry.get(ModelId(which as u128)).is_some())).sum();
        let count = |of: fn(&Done) -> usize| done.iter().map(of).sum::<usize>();
        assert_eq!(count(|done| done.loaded), count(|done| done.unloaded) + left);
        for which in 0..IDS {
            let references = done.iter().map(|done| done.held[which].len()).sum::<usize>();
            let last = (0..references).map(|_| registry.remove(ModelId(which as u128)).unwrap().last);
            assert_eq!(last.filter(|last| *last).count(), usize::from(references > 0));
        }
        assert!(registry.models.is_empty());
    }
}
