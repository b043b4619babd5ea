//! Which tokens lead to which pages: a radix tree over token ids, one page to an edge.
//!
//! Keys and values of a position depend on the tokens up to it and on nothing else, to the bit, so whoever has the same
//! tokens can use the same pages. An edge of 64 tokens is a full page; one of fewer is the last page of a text that ended
//! there, and is a leaf. A page that is matched in part is shared like any other: its new owner copies it before writing
//! behind the part.
//!
//! A recurrent state is that after all tokens before it and cannot be cut. So a model that has one begins where a state was
//! left: at the end of an edge.
use super::{Budget, Sequence, State, budget::Reclaim, page::CountedPage};
use crate::kernels::{CHUNK, attention::Layout};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// The prefixes of one model.
pub struct Prefixes {
    tree: Mutex<Tree>,
    budget: &'static Budget,
    on_pressure: Box<dyn Fn() + Send + Sync>,
    /// Nothing is added any more.
    closed: AtomicBool,
}

/// What [`Prefixes::counts`] tells, in pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub held: usize,
    /// Of these, pages that sequences use as well.
    pub shared: usize,
    pub evicted: u64,
}

/// Place of a node in the tree's list.
type Id = usize;
type Children = BTreeMap<Arc<[u32]>, Id>;

#[derive(Default)]
struct Tree {
    /// One for each layout that was ever used.
    roots: Vec<(Layout, Id)>,
    nodes: Vec<Option<Node>>,
    free: Vec<Id>,
    /// Leaves by the time of their last use.
    leaves: BTreeSet<(u64, Id)>,
    evicted: u64,
}

struct Node {
    parent: Option<Id>,
    /// From the parent's end on. Empty for a root.
    tokens: Arc<[u32]>,
    /// `None` for a root.
    page: Option<Arc<CountedPage>>,
    /// The recurrent state after the tokens, where one was left.
    state: Option<State>,
    children: Children,
    used: u64,
    /// A request that ended of itself left it here; it outlives requests that are cancelled.
    kept: bool,
}

impl Prefixes {
    /// `on_pressure` is called, from any thread, when somebody waits for memory.
    pub fn new(budget: &'static Budget, on_pressure: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let tree = Mutex::default();
        let closed = AtomicBool::new(false);
        let prefixes = Arc::new(Self { tree, budget, on_pressure: Box::new(on_pressure), closed });
        let weak: Weak<Self> = Arc::downgrade(&prefixes);
        budget.add_store(weak);
        prefixes
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The longest known beginning of `tokens`, at most `most` of them, from where one can go on: its pages, and how many
    /// tokens they cover.
    pub fn find(&self, layout: Layout, tokens: &[u32], most: usize) -> (Sequence, usize) {
        let tree = &mut *self.lock();
        let mut found = Sequence::within(layout, self.budget);
        let Some(root) = tree.root(layout) else { return (found, 0) };
        let now = self.budget.now();
        let tokens = &tokens[..most];
        let (way, matched) = if layout.has_state() { tree.way_to_state(root, tokens) } else { tree.way(root, tokens) };
        for &id in &way {
            tree.touch(id, now);
            found.pages.extend(tree.node(id).page.clone());
        }
        found.state = way.last().and_then(|&id| tree.node(id).state.clone());
        (found, matched)
    }

    /// How many of the tokens are known, whether or not one can go on from there.
    pub fn known(&self, layout: Layout, tokens: &[u32]) -> usize {
        let tree = self.lock();
        tree.root(layout).map_or(0, |root| tree.way(root, tokens).1)
    }

    /// Remembers that `tokens` lead to the pages of `sequence`, and to `state` if there is one. Where others have come
    /// before, the sequence goes on with their pages, which hold the same, and its own are given back. Only full pages
    /// count unless the text is `ended`.
    pub fn add(&self, tokens: &[u32], sequence: &mut Sequence, state: Option<State>, ended: bool) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        let now = self.budget.now();
        let tree = &mut *self.lock();
        let mut at = tree.root_or_new(sequence.layout());
        let mut left = tokens.len();
        for (chunk, page) in tokens.chunks(CHUNK).zip(&mut sequence.pages) {
            let is_known = || state.is_none() && tree.nearest(at, chunk).is_some_and(|(_, n)| n == chunk.len());
            if chunk.len() < CHUNK && (!ended || is_known()) {
                break;
            }
            let known = tree.node(at).children.get(chunk).copied();
            let child = known.unwrap_or_else(|| tree.insert(at, chunk, page.clone(), now));
            if let Some(known) = &tree.node(child).page
                && !Arc::ptr_eq(known, page)
            {
                *page = known.clone();
            }
            tree.touch(child, now);
            tree.node_mut(child).kept |= ended;
            at = child;
            left -= chunk.len();
        }
        if left == 0 && !tokens.is_empty() {
            let known = &mut tree.node_mut(at).state;
            *known = known.take().or(state);
        }
    }

    /// A request that was cancelled leaves: what only it brought here goes with it.
    pub fn forget(&self, tokens: &[u32], sequence: &Sequence) {
        let tree = &mut *self.lock();
        let Some(mut at) = tree.root(sequence.layout()) else { return };
        for (chunk, page) in tokens.chunks(CHUNK).zip(&sequence.pages) {
            match tree.node(at).children.get(chunk) {
                Some(&child) if tree.node(child).page.as_ref().is_some_and(|known| Arc::ptr_eq(known, page)) => {
                    at = child;
                }
                _ => break,
            }
        }
        loop {
            let node = tree.node(at);
            // The tree and this request hold the page, nobody else.
            let only = node.page.as_ref().is_some_and(|page| Arc::strong_count(page) <= 2);
            if node.kept || !only || !node.children.is_empty() {
                return;
            }
            let Some(parent) = node.parent else { return };
            tree.remove(at);
            at = parent;
        }
    }

    /// Forgets everything, for good.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *self.lock() = Tree::default();
    }

    pub fn counts(&self) -> Counts {
        let tree = self.lock();
        let pages = || tree.nodes.iter().flatten().filter_map(|node| node.page.as_ref());
        let shared = pages().filter(|page| Arc::strong_count(page) > 1).count();
        Counts { held: pages().count(), shared, evicted: tree.evicted }
    }
}

impl Reclaim for Prefixes {
    fn oldest(&self) -> Option<u64> {
        self.lock().oldest_unused().map(|(time, _)| time)
    }

    fn give_up_oldest(&self) -> bool {
        let tree = &mut *self.lock();
        let Some((_, id)) = tree.oldest_unused() else { return false };
        tree.remove(id);
        tree.evicted += 1;
        true
    }

    fn pressed(&self) {
        (self.on_pressure)();
    }
}

impl Tree {
    fn node(&self, id: Id) -> &Node {
        self.nodes[id].as_ref().expect("ids in use name nodes")
    }

    fn node_mut(&mut self, id: Id) -> &mut Node {
        self.nodes[id].as_mut().expect("ids in use name nodes")
    }

    fn root(&self, layout: Layout) -> Option<Id> {
        self.roots.iter().find(|(other, _)| *other == layout).map(|&(_, id)| id)
    }

    fn root_or_new(&mut self, layout: Layout) -> Id {
        self.root(layout).unwrap_or_else(|| {
            let node = Node {
                parent: None,
                tokens: [].into(),
                page: None,
                state: None,
                children: Children::new(),
                used: 0,
                kept: true,
            };
            let id = self.place(node);
            self.roots.push((layout, id));
            id
        })
    }

    fn place(&mut self, node: Node) -> Id {
        match self.free.pop() {
            Some(id) => {
                self.nodes[id] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                self.nodes.len() - 1
            }
        }
    }

    /// The child that begins most like `wanted`, and how many tokens they have in common; `None` if not even one. In
    /// lexicographic order that child is a neighbour of `wanted`.
    fn nearest(&self, at: Id, wanted: &[u32]) -> Option<(Id, usize)> {
        let children = &self.node(at).children;
        let before = children.range::<[u32], _>((Unbounded, Included(wanted))).next_back();
        let after = children.range::<[u32], _>((Excluded(wanted), Unbounded)).next();
        let common = |tokens: &[u32]| tokens.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        before
            .into_iter()
            .chain(after)
            .map(|(tokens, &id)| (id, common(tokens)))
            .filter(|&(_, n)| n > 0)
            .max_by_key(|&(_, n)| n)
    }

    /// The nodes that lead along `tokens`, the last one perhaps beyond their end, and how many tokens they cover.
    fn way(&self, root: Id, tokens: &[u32]) -> (Vec<Id>, usize) {
        let (mut way, mut matched, mut at) = (Vec::new(), 0, root);
        while matched < tokens.len() {
            let wanted = &tokens[matched..tokens.len().min(matched + CHUNK)];
            let Some((child, common)) = self.nearest(at, wanted) else { break };
            way.push(child);
            matched += common;
            if common < CHUNK {
                break;
            }
            at = child;
        }
        (way, matched)
    }

    /// The same to the last node that ends within `tokens` and has a state.
    fn way_to_state(&self, root: Id, tokens: &[u32]) -> (Vec<Id>, usize) {
        let has_state = |id: &Id| self.node(*id).state.is_some();
        let (mut way, mut at) = (Vec::new(), root);
        for page in tokens.as_chunks::<CHUNK>().0 {
            let Some(&child) = self.node(at).children.get(&page[..]) else { break };
            way.push(child);
            at = child;
        }
        loop {
            let matched = way.len() * CHUNK;
            let last = way.last().copied();
            // A text that ended within the next page.
            let rest = &tokens[matched..tokens.len().min(matched + CHUNK - 1)];
            let children = &self.node(last.unwrap_or(root)).children;
            let ended =
                (1..=rest.len()).rev().find_map(|n| Some((*children.get(&rest[..n]).filter(|id| has_state(id))?, n)));
            if let Some((id, n)) = ended {
                way.push(id);
                return (way, matched + n);
            }
            if last.is_none_or(|id| has_state(&id)) {
                return (way, matched);
            }
            way.pop();
        }
    }

    fn insert(&mut self, parent: Id, tokens: &[u32], page: Arc<CountedPage>, now: u64) -> Id {
        // A shorter text that this one continues is of no more use, unless one can go on only from its end.
        while let Some((shorter, &id)) =
            self.node(parent).children.range::<[u32], _>((Unbounded, Excluded(tokens))).next_back()
            && tokens.starts_with(shorter)
            && self.node(id).state.is_none()
        {
            self.remove(id);
        }
        let tokens: Arc<[u32]> = tokens.into();
        let node = Node {
            parent: Some(parent),
            tokens: tokens.clone(),
            page: Some(page),
            state: None,
            children: Children::new(),
            used: now,
            kept: false,
        };
        let id = self.place(node);
        let up = self.node(parent).used;
        self.leaves.remove(&(up, parent));
        self.leaves.insert((now, id));
        self.node_mut(parent).children.insert(tokens, id);
        id
    }

    fn touch(&mut self, id: Id, now: u64) {
        let before = std::mem::replace(&mut self.node_mut(id).used, now);
        if self.leaves.remove(&(before, id)) {
            self.leaves.insert((now, id));
        }
    }

    /// Removes a leaf.
    fn remove(&mut self, id: Id) {
        let Some(node) = self.nodes[id].take() else { return };
        self.free.push(id);
        self.leaves.remove(&(node.used, id));
        let Some(parent) = node.parent else { return };
        let up = self.node_mut(parent);
        up.children.remove(&node.tokens);
        if up.children.is_empty() && up.page.is_some() {
            let used = up.used;
            self.leaves.insert((used, parent));
        }
    }

    /// The leaf that was used longest ago among those whose page no sequence uses.
    fn oldest_unused(&self) -> Option<(u64, Id)> {
        let unused = |id: Id| self.node(id).page.as_ref().is_some_and(|page| Arc::strong_count(page) == 1);
        self.leaves.iter().copied().find(|&(_, id)| unused(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::KvFormat;
    use proptest::prelude::*;

    const LAYOUT: Layout = Layout { format: KvFormat::F16, head_dim: 32, kv_heads: 1, layers: 1, state_bytes: 0 };

    fn budget(pages: usize) -> &'static Budget {
        Box::leak(Box::new(Budget::new((pages * LAYOUT.page_bytes()) as u64)))
    }

    fn filled(budget: &'static Budget, len: usize) -> Sequence {
        let mut sequence = Sequence::within(LAYOUT, budget);
        sequence.prepare(0, len).unwrap();
        sequence
    }

    fn tokens(seed: u32, len: usize) -> Vec<u32> {
        (0..len as u32).map(|i| seed * 1000 + i).collect()
    }

    #[test]
    fn the_longest_beginning_is_found_to_the_token() {
        let budget = budget(100);
        let prefixes = Prefixes::new(budget, || ());
        let text = tokens(1, 200);
        let mut sequence = filled(budget, 200);
        prefixes.add(&text, &mut sequence, None, false);
        // A running text's last page is not full.
        assert_eq!(prefixes.find(LAYOUT, &text, 200).1, 192);
        prefixes.add(&text, &mut sequence, None, true);
        assert_eq!(prefixes.find(LAYOUT, &text, 200).1, 200);
        assert_eq!(prefixes.find(LAYOUT, &text, 199).1, 199);
        let mut other = text.clone();
        other[150] = 9;
        let (pages, matched) = prefixes.find(LAYOUT, &other, 200);
        assert_eq!((pages.page_count(), matched), (3, 150));
        assert!(Arc::ptr_eq(&pages.pages[2], &sequence.pages[2]));
        other[0] = 9;
        assert_eq!(prefixes.find(LAYOUT, &other, 200).1, 0);
        let q8 = Layout { format: KvFormat::Q8_0, ..LAYOUT };
        assert_eq!(prefixes.find(q8, &text, 200).1, 0);
    }

    #[test]
    fn equal_texts_end_up_with_the_same_pages() {
        let budget = budget(100);
        let prefixes = Prefixes::new(budget, || ());
        let text = tokens(1, 130);
        let (mut a, mut b) = (filled(budget, 130), filled(budget, 130));
        prefixes.add(&text, &mut a, None, false);
        prefixes.add(&text, &mut b, None, true);
        assert!(Arc::ptr_eq(&a.pages[1], &b.pages[1]));
        assert_eq!(budget.used(), 4 * LAYOUT.page_bytes() as u64);
        assert_eq!(prefixes.counts(), Counts { held: 3, shared: 3, evicted: 0 });
    }

    #[test]
    fn memory_that_is_needed_is_taken_from_the_least_recently_used() {
        let budget = budget(4);
        let prefixes = Prefixes::new(budget, || ());
        for seed in [1, 2] {
            prefixes.add(&tokens(seed, 128), &mut filled(budget, 128), None, true);
        }
        assert_eq!(prefixes.find(LAYOUT, &tokens(1, 128), 128).1, 128);
        let held = filled(budget, 64);
        // The end of the text that was not looked up goes first.
        assert_eq!(prefixes.find(LAYOUT, &tokens(2, 128), 128).1, 64);
        let (_used, matched) = prefixes.find(LAYOUT, &tokens(1, 128), 128);
        assert_eq!(matched, 128);
        // What is in use stays.
        let more = filled(budget, 64);
        assert_eq!(prefixes.find(LAYOUT, &tokens(2, 128), 128).1, 0);
        assert!(Sequence::within(LAYOUT, budget).prepare(0, 64).is_err());
        assert_eq!(prefixes.counts(), Counts { held: 2, shared: 2, evicted: 2 });
        drop((held, more));
        prefixes.close();
        drop(_used);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_waits_is_woken_for_pages_that_only_the_tree_holds() {
        struct Bell(std::sync::mpsc::Sender<()>);
        impl crate::cache::Wake for Bell {
            fn wake(&self) {
                let _ = self.0.send(());
            }
        }
        let budget = budget(2);
        let prefixes = Prefixes::new(budget, || ());
        let mut running = filled(budget, 128);
        prefixes.add(&tokens(1, 128), &mut running, None, true);
        let (bell, rung) = std::sync::mpsc::channel();
        assert!(budget.take(1).is_err());
        budget.wait(Arc::new(Bell(bell)));
        assert!(budget.take(1).is_err() && rung.try_recv().is_err());
        drop(running);
        budget.there_may_be_room();
        rung.try_recv().unwrap();
        budget.take(1).unwrap();
    }

    #[test]
    fn what_a_cancelled_request_brought_goes_with_it() {
        let budget = budget(100);
        let prefixes = Prefixes::new(budget, || ());
        let finished = tokens(1, 128);
        prefixes.add(&finished, &mut filled(budget, 128), None, true);
        let mut longer = finished.clone();
        longer.extend(tokens(2, 128));
        let (mut sequence, matched) = prefixes.find(LAYOUT, &longer, 255);
        sequence.prepare(matched, 256).unwrap();
        prefixes.add(&longer, &mut sequence, None, false);
        assert_eq!(prefixes.counts().held, 4);
        prefixes.forget(&longer, &sequence);
        drop(sequence);
        assert_eq!(prefixes.counts().held, 2);
        assert_eq!(budget.used(), 2 * LAYOUT.page_bytes() as u64);
    }

    const HYBRID: Layout = Layout { state_bytes: 256, ..LAYOUT };

    /// A sequence whose state says what it is after.
    fn with_state(budget: &'static Budget, tokens: &[u32]) -> Sequence {
        let mut sequence = Sequence::within(HYBRID, budget);
        sequence.prepare(0, tokens.len()).unwrap();
        let state = sequence.state.as_mut().and_then(Arc::get_mut).unwrap();
        state.memory.bytes_mut()[..16].copy_from_slice(&name(tokens));
        sequence
    }

    fn name(tokens: &[u32]) -> [u8; 16] {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        xxhash_rust::xxh3::xxh3_128(&bytes).to_le_bytes()
    }

    fn add_with_state(prefixes: &Prefixes, budget: &'static Budget, tokens: &[u32], ended: bool) {
        let mut sequence = with_state(budget, tokens);
        let state = if ended { sequence.end_state() } else { sequence.checkpoint() };
        prefixes.add(tokens, &mut sequence, state, ended);
    }

    #[test]
    fn with_a_state_one_goes_on_only_from_where_it_was_left() {
        let budget = budget(100);
        let prefixes = Prefixes::new(budget, || ());
        let text = tokens(1, 300);
        add_with_state(&prefixes, budget, &text[..128], false);
        add_with_state(&prefixes, budget, &text[..200], true);
        prefixes.add(&text[..256], &mut with_state(budget, &text[..256]), None, false);
        // The end of the text of 200 stays, though a longer one goes over it.
        for (most, expected) in [(300, 200), (200, 200), (199, 128), (128, 128), (127, 0)] {
            let (found, matched) = prefixes.find(HYBRID, &text, most);
            assert_eq!((matched, found.page_count()), (expected, usize::div_ceil(expected, CHUNK)), "{most}");
            let state = found.state.as_ref().map(|state| state.memory.bytes()[..16].to_vec());
            assert_eq!(state, (expected > 0).then(|| name(&text[..expected]).to_vec()));
        }
        assert_eq!(prefixes.known(HYBRID, &text), 256);
        assert_eq!(prefixes.find(LAYOUT, &text, 300).1, 0);
        while prefixes.give_up_oldest() {}
        assert_eq!(budget.used(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }) })]

        /// Whatever comes and goes, a match is a beginning of the text, as long as the longest that is there, and in the
        /// end everything is given back.
        #[test]
        fn it_finds_what_a_list_of_texts_finds(
            steps in prop::collection::vec((0u8..4, prop::collection::vec(0u32..3, 1..150)), 1..40)
        ) {
            let budget = budget(1000);
            let prefixes = Prefixes::new(budget, || ());
            let mut known: Vec<Vec<u32>> = Vec::new();
            for (kind, text) in steps {
                // Long runs of few tokens, so that beginnings are shared across pages.
                let text: Vec<u32> = text.iter().flat_map(|&t| [t; 5]).collect();
                if kind == 0 {
                    let longest = known.iter().map(|other| other.iter().zip(&text).take_while(|(a, b)| a == b).count());
                    let (pages, matched) = prefixes.find(LAYOUT, &text, text.len());
                    prop_assert_eq!(matched, longest.max().unwrap_or(0));
                    prop_assert_eq!(pages.page_count(), matched.div_ceil(CHUNK));
                } else {
                    let ended = kind == 1;
                    prefixes.add(&text, &mut filled(budget, text.len()), None, ended);
                    known.push(text[..if ended { text.len() } else { text.len() / CHUNK * CHUNK }].to_vec());
                }
            }
            while prefixes.give_up_oldest() {}
            prop_assert_eq!(budget.used(), 0);
            prop_assert_eq!(prefixes.counts().held, 0);
        }

        /// The same with states: the longest beginning that one was left for, and it is the one for just these tokens.
        #[test]
        fn it_finds_the_state_of_the_tokens(
            steps in prop::collection::vec((0u8..4, prop::collection::vec(0u32..3, 1..100)), 1..40)
        ) {
            let budget = budget(1000);
            let prefixes = Prefixes::new(budget, || ());
            let mut known: Vec<Vec<u32>> = Vec::new();
            for (kind, text) in steps {
                let mut text: Vec<u32> = text.iter().flat_map(|&t| [t; 5]).collect();
                if kind == 0 {
                    let longest = known.iter().filter(|other| text.starts_with(other)).map(Vec::len).max().unwrap_or(0);
                    let (found, matched) = prefixes.find(HYBRID, &text, text.len());
                    prop_assert_eq!(matched, longest);
                    prop_assert_eq!(found.page_count(), matched.div_ceil(CHUNK));
                    if let Some(state) = &found.state {
                        prop_assert_eq!(&state.memory.bytes()[..16], &name(&text[..matched])[..]);
                    }
                } else {
                    let ended = kind == 1;
                    if !ended {
                        text.truncate(text.len() / CHUNK * CHUNK);
                    }
                    if !text.is_empty() {
                        add_with_state(&prefixes, budget, &text, ended);
                        known.push(text);
                    }
                }
            }
            while prefixes.give_up_oldest() {}
            prop_assert_eq!(budget.used(), 0);
            prop_assert_eq!(prefixes.counts().held, 0);
        }
    }
}
