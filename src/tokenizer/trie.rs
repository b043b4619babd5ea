//! Byte strings by their bytes, one after the other.
//!
//! The children of a node lie together and in order, so a node is three numbers and a step is a short binary search.

#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    /// By node: the byte that leads to it.
    labels: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    first_child: u32,
    children: u16,
    /// The string that ends here, or [`NONE`].
    value: u32,
}

const NONE: u32 = u32::MAX;

/// Strings in order, with their values.
type Strings<'s, 'a> = &'s [(&'a [u8], u32)];

/// A place in a [`Trie`]: the strings that begin with the bytes read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Trie {
    /// Of equal strings the first one counts. Values are below `u32::MAX`; empty strings are left out.
    pub fn new<'a>(strings: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut strings: Vec<_> = strings.filter(|(string, _)| !string.is_empty()).collect();
        // Stable, so that equal strings stay in order.
        strings.sort_by_key(|&(string, _)| string);
        let mut trie = Self { nodes: vec![Node { first_child: 0, children: 0, value: NONE }], labels: vec![0] };
        // Level by level: each entry is a node with the strings below it, which share its first `depth` bytes.
        let mut level = vec![(0, &strings[..])];
        let mut depth = 0;
        while !level.is_empty() {
            level = level.into_iter().flat_map(|(node, below)| trie.add_children(node, below, depth)).collect();
            depth += 1;
        }
        trie
    }

    fn add_children<'s, 'a>(
        &mut self,
        node: usize,
        strings: Strings<'s, 'a>,
        depth: usize,
    ) -> Vec<(usize, Strings<'s, 'a>)> {
        // Strings that end at this node come first.
        let ended = strings.partition_point(|(string, _)| string.len() <= depth);
        if let Some(&(_, value)) = strings[..ended].first() {
            self.nodes[node].value = value;
        }
        let first_child = self.nodes.len();
        let mut children = Vec::new();
        for group in strings[ended..].chunk_by(|(a, _), (b, _)| a[depth] == b[depth]) {
            children.push((self.nodes.len(), group));
            self.nodes.push(Node { first_child: 0, children: 0, value: NONE });
            self.labels.push(group[0].0[depth]);
        }
        self.nodes[node].first_child = first_child as u32;
        self.nodes[node].children = children.len() as u16;
        children
    }

    pub fn root(&self) -> Place {
        Place(0)
    }

    pub fn step(&self, place: Place, byte: u8) -> Option<Place> {
        let node = self.nodes[place.0 as usize];
        let first = node.first_child as usize;
        let index = self.labels[first..first + node.children as usize].binary_search(&byte).ok()?;
        Some(Place((first + index) as u32))
    }

    /// The value of the string that ends here.
    pub fn value(&self, place: Place) -> Option<u32> {
        Some(self.nodes[place.0 as usize].value).filter(|&value| value != NONE)
    }

    /// The strings that `text` begins with, shortest first: their lengths and values.
    pub fn prefixes<'t>(&'t self, text: &'t [u8]) -> impl Iterator<Item = (usize, u32)> + 't {
        let mut place = Some(self.root());
        text.iter()
            .enumerate()
            .map_while(move |(at, &byte)| {
                place = self.step(place?, byte);
                place.map(|place| (at + 1, place))
            })
            .filter_map(|(len, place)| Some((len, self.value(place)?)))
    }

    /// How many bytes of `text` some string begins with.
    pub fn common_prefix(&self, text: &[u8]) -> usize {
        let mut place = self.root();
        text.iter()
            .take_while(|&&byte| match self.step(place, byte) {
                Some(next) => {
                    place = next;
                    true
                }
                None => false,
            })
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_every_prefix_that_is_a_string(strings in prop::collection::vec("[abé]{0,4}", 0..20), text in "[abéx]{0,8}") {
            let trie = Trie::new((0..).zip(&strings).map(|(value, string)| (string.as_bytes(), value)));
            let found: Vec<_> = trie.prefixes(text.as_bytes()).collect();
            let expected: Vec<_> = (1..=text.len())
                .filter_map(|len| {
                    let at = strings.iter().position(|string| string.as_bytes() == &text.as_bytes()[..len])?;
                    Some((len, at as u32))
                })
                .collect();
            prop_assert_eq!(found, expected);
            let common = (0..=text.len())
                .rev()
                .find(|&len| len == 0 || strings.iter().any(|string| string.as_bytes().starts_with(&text.as_bytes()[..len])));
            prop_assert_eq!(Some(trie.common_prefix(text.as_bytes())), common);
        }
    }
}
