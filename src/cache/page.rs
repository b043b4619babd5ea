use super::{Budget, OutOfMemory};
use crate::kernels::page::PageMemory;
use std::sync::Arc;

/// A page that gives its bytes back to the budget when the last owner drops it.
pub struct CountedPage {
    pub memory: PageMemory,
    budget: &'static Budget,
    pinned: bool,
}

/// Bytes of the budget for pages that do not exist yet. What is not used goes back.
pub struct Reserved {
    budget: &'static Budget,
    page_bytes: usize,
    pages: usize,
    pinned: bool,
}

impl Reserved {
    /// Room for all of the pages, or none. Pinned pages are a caller's, whom nobody can ask to give them back.
    pub fn new(budget: &'static Budget, page_bytes: usize, pages: usize, pinned: bool) -> Result<Self, OutOfMemory> {
        budget.take((pages * page_bytes) as u64)?;
        Ok(Self { budget, page_bytes, pages, pinned })
    }

    /// One of the pages: fresh, or a copy.
    pub fn page(&mut self, of: Option<&PageMemory>) -> Result<Arc<CountedPage>, OutOfMemory> {
        assert!(self.pages > 0, "a page for each that was reserved");
        let memory = match of {
            None => PageMemory::new(self.page_bytes),
            Some(page) => page.duplicate(),
        };
        let refused = |_| OutOfMemory {
            needed: self.page_bytes as u64,
            used: self.budget.used(),
            limit: self.budget.limit(),
            by_system: true,
        };
        let memory = memory.map_err(refused)?;
        self.pages -= 1;
        if self.pinned {
            self.budget.pin(self.page_bytes as u64);
        }
        Ok(Arc::new(CountedPage { memory, budget: self.budget, pinned: self.pinned }))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.pages > 0 {
            self.budget.give_back((self.pages * self.page_bytes) as u64);
        }
    }
}

impl Drop for CountedPage {
    fn drop(&mut self) {
        let bytes = self.memory.byte_len() as u64;
        if self.pinned {
            self.budget.unpin(bytes);
        }
        self.budget.give_back(bytes);
    }
}
