//! Greedy merging of neighbouring symbols, the loop that SentencePiece BPE and byte-level BPE share.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A stretch of the text that is one symbol so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub id: u32,
    pub start: u32,
    /// Bytes of text; 0 once the symbol has been merged into the one before it.
    pub len: u32,
    previous: u32,
    next: u32,
}

/// No neighbour: beyond every index.
const NONE: u32 = u32::MAX;

/// Two neighbours that may become one symbol. The heap gives the lowest rank first and, of equal ranks, the leftmost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    /// The left one's index.
    left: u32,
    /// Bytes of both. Symbols only grow, so this differs from the neighbours' lengths once either has been merged.
    len: u32,
    merged: u32,
}

/// What a pair of neighbours becomes, and how soon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    pub rank: u32,
    pub id: u32,
}

/// The working memory of the loop, kept between pieces of text.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    pub fn clear(&mut self) {
        self.symbols.clear();
    }

    /// Appends a symbol that covers the next `len` bytes (at least one) of the text, which is shorter than 4 GiB.
    pub fn push(&mut self, id: u32, len: usize) {
        let index = self.symbols.len() as u32;
        let start = self.symbols.last().map_or(0, |last| last.start + last.len);
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        self.symbols.push(Symbol { id, start, len: len as u32, previous: index.wrapping_sub(1), next: NONE });
    }

    /// Merges until `rule` allows no more, in O(n log n) calls and steps for n symbols. `rule` must depend on nothing but
    /// its two symbols.
    pub fn run(&mut self, rule: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        // Collecting first lets the heap order itself in linear time.
        let mut candidates = std::mem::take(&mut self.heap).into_vec();
        candidates.extend((0..self.symbols.len() as u32).filter_map(|left| self.candidate(left, &rule)));
        self.heap = BinaryHeap::from(candidates);
        while let Some(Reverse(candidate)) = self.heap.pop() {
            self.apply(&candidate, &rule);
        }
    }

    /// The symbol at `left` with its right neighbour, if `rule` merges them.
    fn candidate(&self, left: u32, rule: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) -> Option<Reverse<Candidate>> {
        let l = &self.symbols[left as usize];
        let r = self.symbols.get(l.next as usize)?;
        let Merge { rank, id } = rule(l, r)?;
        Some(Reverse(Candidate { rank, left, len: l.len + r.len, merged: id }))
    }

    /// Merges the two of a candidate unless one of them has changed since.
    fn apply(&mut self, candidate: &Candidate, rule: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let left = self.symbols[candidate.left as usize];
        let Some(right) = self.symbols.get(left.next as usize).copied() else { return };
        if left.len == 0 || left.len + right.len != candidate.len {
            return;
        }
        self.symbols[left.next as usize].len = 0;
        self.symbols[candidate.left as usize] =
            Symbol { id: candidate.merged, len: candidate.len, next: right.next, ..left };
        if let Some(next) = self.symbols.get_mut(right.next as usize) {
            next.previous = candidate.left;
        }
        self.heap.extend(self.candidate(candidate.left, rule));
        if left.previous != NONE {
            self.heap.extend(self.candidate(left.previous, rule));
        }
    }

    /// What is left, in the order of the text.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }
}
