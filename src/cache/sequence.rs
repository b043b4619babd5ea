use super::{Budget, OutOfMemory};
use crate::kernels::{CHUNK, Page, attention::Layout, page::PageMemory};
use std::sync::Arc;

/// Keys and values of one sequence, from position `origin` on. Knows how many positions have room, not which are filled.
#[derive(Clone)]
pub struct Sequence {
    layout: Layout,
    origin: usize,
    pages: Vec<Arc<CountedPage>>,
    budget: &'static Budget,
}

/// A page that gives its bytes back to the budget when the last owner drops it.
struct CountedPage {
    memory: PageMemory,
    budget: &'static Budget,
}

impl CountedPage {
    fn new(
        bytes: usize,
        budget: &'static Budget,
        make: impl FnOnce() -> std::io::Result<PageMemory>,
    ) -> Result<Arc<Self>, OutOfMemory> {
        budget.take(bytes as u64)?;
        match make() {
            Ok(memory) => Ok(Arc::new(Self { memory, budget })),
            // The operating system has no more, whatever the budget says.
            Err(_) => {
                budget.give_back(bytes as u64);
                Err(OutOfMemory { needed: bytes as u64, used: budget.used(), limit: budget.used() })
            }
        }
    }
}

impl Drop for CountedPage {
    fn drop(&mut self) {
        self.budget.give_back(self.memory.byte_len() as u64);
    }
}

impl Sequence {
    /// An empty sequence; the first position that will be stored is at least `origin`.
    pub fn new(layout: Layout, origin: usize) -> Self {
        Self { layout, origin, pages: Vec::new(), budget: Budget::global() }
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
    /// sequences are copied. On failure the sequence holds what it held before (maybe with pages to spare).
    pub fn prepare(&mut self, from: usize, to: usize) -> Result<(), OutOfMemory> {
        let bytes = self.layout.page_bytes();
        for index in self.page_of(from)..=self.page_of(to - 1) {
            let Some(page) = self.pages.get_mut(index) else {
                self.pages.push(CountedPage::new(bytes, self.budget, || PageMemory::new(bytes))?);
                continue;
            };
            if Arc::get_mut(page).is_none() {
                *page = CountedPage::new(bytes, self.budget, || page.memory.duplicate())?;
            }
        }
        Ok(())
    }

    /// Drops the pages that hold no position before `len`.
    pub fn truncate(&mut self, len: usize) {
        let keep = if len > self.origin { self.page_of(len - 1) + 1 } else { 0 };
        self.pages.truncate(keep);
    }

    /// Adds the addresses of the pages to `list`.
    pub fn addresses(&self, list: &mut Vec<Page>) {
        list.extend(self.pages.iter().map(|page| page.memory.address()));
    }

    /// Bytes of the pages, shared ones included.
    pub fn byte_len(&self) -> u64 {
        self.pages.iter().map(|page| page.memory.byte_len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::KvFormat;

    fn empty(budget: &'static Budget) -> Sequence {
        let layout = Layout { format: KvFormat::F16, head_dim: 32, kv_heads: 2, layers: 2 };
        Sequence { budget, ..Sequence::new(layout, 0) }
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
    fn refuses_before_it_allocates() {
        static BUDGET: Budget = Budget::new(40_000);
        let mut a = empty(&BUDGET);
        let page = a.layout().page_bytes() as u64;
        assert_eq!(page, 2 * 2 * 2 * 64 * 32 * 2);
        a.prepare(0, 64).unwrap();
        let error = a.prepare(64, 65).unwrap_err();
        assert_eq!(error, OutOfMemory { needed: page, used: page, limit: 40_000 });
        assert_eq!((a.pages.len(), BUDGET.used()), (1, page));
    }
}
