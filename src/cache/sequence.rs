use super::{
    Budget, OutOfMemory,
    page::{CountedPage, Reserved},
};
use crate::kernels::{CHUNK, Page, attention::Layout};
use std::sync::Arc;

/// What the recurrent layers know of a sequence after some position.
pub type State = Arc<CountedPage>;

/// Keys and values of one sequence, from position `origin` on, and its recurrent state if its layout has one. Knows how
/// many positions have room, not which are filled.
#[derive(Clone)]
pub struct Sequence {
    layout: Layout,
    origin: usize,
    pub(super) pages: Vec<Arc<CountedPage>>,
    /// `None`: that before the first position, zeros.
    pub(super) state: Option<State>,
    budget: &'static Budget,
    pinned: bool,
}

impl Sequence {
    /// An empty sequence; the first position that will be stored is at least `origin`.
    pub fn new(layout: Layout, origin: usize) -> Self {
        Self { origin, ..Self::within(layout, Budget::global()) }
    }

    /// A sequence that a caller holds by hand, for as long as they like.
    pub fn pinned(layout: Layout) -> Self {
        Self { pinned: true, ..Self::new(layout, 0) }
    }

    pub(super) fn within(layout: Layout, budget: &'static Budget) -> Self {
        Self { layout, origin: 0, pages: Vec::new(), state: None, budget, pinned: false }
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn origin(&self) -> usize {
        self.origin
    }

    fn page_of(&self, position: usize) -> usize {
        position / CHUNK - self.origin / CHUNK
    }

    /// Makes positions `from..to` writable: pages that do not exist yet are allocated, pages that are shared with other
    /// sequences are copied, as is the state. On failure the sequence holds what it held before.
    pub fn prepare(&mut self, from: usize, to: usize) -> Result<(), OutOfMemory> {
        let writable = self.state.as_mut().is_some_and(|state| Arc::get_mut(state).is_some());
        let state = if writable || !self.layout.has_state() { None } else { Some(self.copy_state()?) };
        self.prepare_pages(from, to)?;
        if state.is_some() {
            self.state = state;
        }
        Ok(())
    }

    /// A state like this one, or a first one.
    fn copy_state(&self) -> Result<State, OutOfMemory> {
        let state = self.state.as_ref().map(|state| &state.memory);
        Reserved::new(self.budget, self.layout.state_bytes, 1, self.pinned)?.page(state)
    }

    /// A copy of the state, for others to begin with; `None` where there is none, or no room for it.
    pub fn checkpoint(&self) -> Option<State> {
        self.state.as_ref()?;
        self.copy_state().ok()
    }

    /// The state itself, of a sequence that ends here.
    pub fn end_state(&self) -> Option<State> {
        self.state.clone()
    }

    fn prepare_pages(&mut self, from: usize, to: usize) -> Result<(), OutOfMemory> {
        if self.layout.layers == 0 {
            return Ok(());
        }
        let (first, last) = (self.page_of(from), self.page_of(to - 1));
        let shared = (first..self.pages.len().min(last + 1)).filter(|&i| Arc::strong_count(&self.pages[i]) > 1).count();
        let needed = shared + (last + 1).saturating_sub(self.pages.len());
        if needed == 0 {
            return Ok(());
        }
        let mut reserved = Reserved::new(self.budget, self.layout.page_bytes(), needed, self.pinned)?;
        let before = self.pages.len();
        for index in first..=last {
            let made = match self.pages.get_mut(index) {
                None => reserved.page(None).map(|page| self.pages.push(page)),
                // Only owners make owners, so a page that is not shared now stays so; one that has ceased to be shared
                // since the count is copied in vain.
                Some(page) => match Arc::get_mut(page) {
                    Some(_) => Ok(()),
                    None => reserved.page(Some(&page.memory)).map(|copy| *page = copy),
                },
            };
            if let Err(error) = made {
                self.pages.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Fills an empty sequence with the content of whole pages and the state after them.
    pub(super) fn fill(&mut self, pages: &[u8], state: &[u8]) -> Result<(), OutOfMemory> {
        let size = self.layout.page_bytes();
        self.prepare(self.origin, self.origin + pages.len() / size * CHUNK)?;
        let content = pages.chunks_exact(size).chain([state]);
        for (page, content) in self.pages.iter_mut().chain(&mut self.state).zip(content) {
            Arc::get_mut(page).expect("a fresh page has one owner").memory.bytes_mut().copy_from_slice(content);
        }
        Ok(())
    }

    /// Drops `drop` pages after the first `keep` and closes the gap; what comes after it, and room up to position `to`, is
    /// writable then. On failure nothing has changed, unless it is the system that refused.
    pub fn close_gap(&mut self, keep: usize, drop: usize, to: usize) -> Result<(), OutOfMemory> {
        let is_shared = |page: &Arc<CountedPage>| Arc::strong_count(page) > 1;
        let spare = (self.page_of(to - 1) + 1).saturating_sub(self.pages.len() - drop);
        let own = self.pages[keep..keep + drop].iter().filter(|page| !is_shared(page)).count();
        let copies = self.pages[keep + drop..].iter().filter(|page| is_shared(page)).count();
        let needed = copies + spare.saturating_sub(own);
        let mut reserved = Reserved::new(self.budget, self.layout.page_bytes(), needed, self.pinned)?;
        // What is dropped can hold something else, where nobody else uses it.
        let dropped: Vec<_> = self.pages.drain(keep..keep + drop).filter(|page| !is_shared(page)).take(spare).collect();
        for page in &mut self.pages[keep..] {
            if Arc::get_mut(page).is_none() {
                *page = reserved.page(Some(&page.memory))?;
            }
        }
        let fresh = spare - dropped.len();
        self.pages.extend(dropped);
        for _ in 0..fresh {
            self.pages.push(reserved.page(None)?);
        }
        Ok(())
    }

    /// Do positions before `len` have room?
    pub fn has_room(&self, len: usize) -> bool {
        self.pages.len() > self.page_of(len - 1)
    }

    /// The first `len` positions, shared.
    pub fn share(&self, len: usize) -> Self {
        let mut shared = self.clone();
        shared.truncate(len);
        shared
    }

    /// Drops the pages that hold no position before `len`; the state stays what it is, unless nothing stays.
    pub fn truncate(&mut self, len: usize) {
        if len <= self.origin {
            self.state = None;
        }
        let keep = if len > self.origin { self.page_of(len - 1) + 1 } else { 0 };
        self.pages.truncate(keep);
    }

    /// Adds the addresses of the pages to `list`.
    pub fn addresses(&self, list: &mut Vec<Page>) {
        list.extend(self.pages.iter().map(|page| page.memory.address()));
    }

    /// Adds the address of the state, where there is one, to `list`.
    pub fn state_address(&self, list: &mut Vec<Page>) {
        list.extend(self.state.iter().map(|state| state.memory.address()));
    }

    /// Pages, shared ones included.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Pages that nothing else holds.
    pub fn own_pages(&self) -> usize {
        self.pages.iter().filter(|page| Arc::strong_count(page) == 1).count()
    }

    /// Bytes of the pages and the state, shared ones included.
    pub fn byte_len(&self) -> u64 {
        self.pages.iter().chain(&self.state).map(|page| page.memory.byte_len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::KvFormat;

    fn empty(budget: &'static Budget) -> Sequence {
        Sequence::within(Layout { format: KvFormat::F16, head_dim: 32, kv_heads: 2, layers: 2, state_bytes: 0 }, budget)
    }

    fn addresses(sequence: &Sequence) -> Vec<usize> {
        let mut list = Vec::new();
        sequence.addresses(&mut list);
        list.into_iter().map(|page| page.0 as usize).collect()
    }

    #[test]
    fn pages_are_shared_until_written_and_counted_once() {
        static BUDGET: Budget = Budget::new(1 << 20);
        let mut a = empty(&BUDGET);
        let page = a.layout().page_bytes() as u64;
        a.prepare(0, 130).unwrap();
        assert_eq!((a.pages.len(), BUDGET.used()), (3, 3 * page));
        let mut b = a.clone();
        assert_eq!(BUDGET.used(), 3 * page);
        b.prepare(130, 131).unwrap();
        assert_eq!(BUDGET.used(), 4 * page);
        assert_eq!(addresses(&a)[..2], addresses(&b)[..2]);
        assert_ne!(addresses(&a)[2], addresses(&b)[2]);
        a.truncate(64);
        assert_eq!((a.pages.len(), BUDGET.used()), (1, 3 * page));
        drop((a, b));
        assert_eq!(BUDGET.used(), 0);
    }

    #[test]
    fn a_gap_is_closed_with_the_pages_that_are_there() {
        static BUDGET: Budget = Budget::new(1 << 20);
        let mut a = empty(&BUDGET);
        let page = a.layout().page_bytes() as u64;
        a.prepare(0, 6 * 64).unwrap();
        let before = addresses(&a);
        // The second page and the last are somebody else's too.
        let shared = [a.pages[1].clone(), a.pages[5].clone()];
        a.close_gap(1, 3, 6 * 64 - 10).unwrap();
        let after = addresses(&a);
        assert_eq!((after.len(), after[0], after[1]), (6, before[0], before[4]));
        assert_ne!(after[2], before[5]);
        assert_eq!(after[3..5], before[2..4]);
        assert!(!before.contains(&after[5]));
        assert_eq!(BUDGET.used(), 8 * page);
        drop((a, shared));
        assert_eq!(BUDGET.used(), 0);
    }

    #[test]
    fn refuses_before_it_allocates() {
        static BUDGET: Budget = Budget::new(90_000);
        let mut a = empty(&BUDGET);
        let page = a.layout().page_bytes() as u64;
        assert_eq!(page, 2 * 2 * 2 * 64 * 32 * 2);
        a.prepare(0, 64).unwrap();
        // Two more do not fit, so not even one is taken.
        let error = a.prepare(64, 65 + 64).unwrap_err();
        assert_eq!(error, OutOfMemory { needed: 2 * page, used: page, limit: 90_000, by_system: false });
        assert_eq!((a.pages.len(), BUDGET.used()), (1, page));
        a.prepare(64, 65).unwrap();
        assert_eq!(BUDGET.used(), 2 * page);
    }

    #[test]
    fn a_state_is_copied_before_it_is_written_and_counted() {
        static BUDGET: Budget = Budget::new(60_000);
        let layout = Layout { state_bytes: 8_000, ..empty(&BUDGET).layout() };
        let page = layout.page_bytes() as u64;
        let mut a = Sequence::within(layout, &BUDGET);
        assert!(a.checkpoint().is_none());
        a.prepare(0, 64).unwrap();
        assert_eq!((a.byte_len(), BUDGET.used()), (page + 8_000, page + 8_000));
        let state = |sequence: &Sequence| {
            let mut list = Vec::new();
            sequence.state_address(&mut list);
            list[0].0 as usize
        };
        let before = state(&a);
        let kept = a.checkpoint().unwrap();
        assert_eq!(BUDGET.used(), page + 16_000);
        // A copy is no reason to copy again, a fork is.
        a.prepare(10, 20).unwrap();
        assert_eq!(state(&a), before);
        let fork = a.clone();
        drop(kept);
        // The page and the state do not both fit, so neither is taken.
        assert!(a.prepare(64, 65).is_err());
        assert_eq!((state(&a), BUDGET.used()), (before, page + 8_000));
        drop(fork);
        a.truncate(0);
        assert_eq!(BUDGET.used(), 0);
    }

    #[test]
    fn what_a_caller_holds_by_hand_is_not_attainable() {
        static BUDGET: Budget = Budget::new(100_000);
        let mut held = Sequence { pinned: true, ..empty(&BUDGET) };
        held.prepare(0, 64).unwrap();
        assert_eq!(BUDGET.attainable(), 100_000 - held.byte_len());
        drop(held);
        assert_eq!((BUDGET.attainable(), BUDGET.used()), (100_000, 0));
    }
}
