//! A SentencePiece normaliser as it is stored in models (`precompiled_charsmap`): strings and what replaces them.
//!
//! The format: the byte length of a double array (little-endian), the double array, and the replacements, each ended by a
//! NUL. The double array is that of Darts-clone (S. Yata), 32 bits a unit: bits 0 to 7 and 31 hold the label, bit 8 says
//! that a string ends here, bits 10 to 30 the offset of the children, times 256 if bit 9 is set; the unit of a string's
//! end holds, beside bit 31, the place of its replacement.
use super::Error;

#[derive(Debug, Clone, Default)]
pub(super) struct Charsmap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl Charsmap {
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |what: String| Error::Bad(format!("{} {what}", super::keys::CHARSMAP));
        let Some((&len, rest)) = bytes.split_first_chunk() else {
            return Err(bad(format!("has {} bytes, fewer than its header", bytes.len())));
        };
        let len = u32::from_le_bytes(len) as usize;
        if len >= rest.len() {
            return Err(bad(format!("has {} bytes, but its double array alone should have {len}", bytes.len())));
        }
        let (units, replacements) = rest.split_at(len);
        if replacements.last() != Some(&0) {
            return Err(bad("does not end with a NUL byte".into()));
        }
        let units =
            units.chunks_exact(4).map(|unit| u32::from_le_bytes([unit[0], unit[1], unit[2], unit[3]])).collect();
        Ok(Self { units, replacements: replacements.to_vec() })
    }

    /// The longest string that `text` begins with: its length and what replaces it.
    pub fn longest_prefix(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let mut longest = None;
        let mut node = offset(*self.units.first()?);
        for (at, &byte) in text.iter().enumerate() {
            node ^= u32::from(byte);
            // No string has a NUL: that is the label of a string's end.
            let is_child = |&unit: &u32| byte != 0 && label(unit) == u32::from(byte);
            let Some(unit) = self.unit(node).filter(is_child) else { break };
            node ^= offset(unit);
            if has_value(unit) {
                let Some(unit) = self.unit(node) else { break };
                longest = Some((at + 1, (unit & !(1 << 31)) as usize));
            }
        }
        let (len, at) = longest?;
        let replacement = self.replacements.get(at..)?;
        Some((len, replacement.split(|&byte| byte == 0).next().unwrap_or_default()))
    }

    fn unit(&self, node: u32) -> Option<u32> {
        self.units.get(node as usize).copied()
    }
}

fn label(unit: u32) -> u32 {
    unit & (1 << 31 | 0xff)
}

fn has_value(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

fn offset(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

/// Builds the format, as the tests need it.
#[cfg(test)]
pub(super) fn build(rules: &[(&str, &str)]) -> Vec<u8> {
    let mut rules = rules.to_vec();
    rules.sort();
    let (mut units, mut used) = (vec![0u32; 1 << 13], vec![false; 1 << 13]);
    let mut replacements = Vec::new();
    used[0] = true;
    // Nodes with the bytes that lead to them.
    let mut nodes = vec![(0usize, Vec::new())];
    while let Some((node, prefix)) = nodes.pop() {
        let below: Vec<_> = rules.iter().filter(|(from, _)| from.as_bytes().starts_with(&prefix)).collect();
        // NUL for the end of a string.
        let mut labels: Vec<u8> =
            below.iter().map(|(from, _)| from.as_bytes().get(prefix.len()).copied().unwrap_or(0)).collect();
        labels.dedup();
        let is_free = |base: &usize| labels.iter().all(|&label| !used[base ^ usize::from(label)]);
        let base = (1..1 << 12).find(is_free).expect("the array is large enough");
        units[node] |= ((node ^ base) as u32) << 10 | u32::from(labels[0] == 0) << 8;
        for label in labels {
            let child = base ^ usize::from(label);
            used[child] = true;
            if label == 0 {
                units[child] = 1 << 31 | replacements.len() as u32;
                replacements.extend_from_slice(below[0].1.as_bytes());
                replacements.push(0);
            } else {
                units[child] = u32::from(label);
                nodes.push((child, [&prefix[..], &[label]].concat()));
            }
        }
    }
    let units: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    [&(units.len() as u32).to_le_bytes()[..], &units, &replacements].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_string_counts() {
        let map = Charsmap::read(&build(&[("a", "x"), ("ab", ""), ("\u{fb01}", "fi"), ("abcd", "y")])).unwrap();
        let find = |text: &str| map.longest_prefix(text.as_bytes()).map(|(len, to)| (len, to.to_vec()));
        assert_eq!(find("a"), Some((1, b"x".to_vec())));
        assert_eq!(find("abc"), Some((2, vec![])));
        assert_eq!(find("abcde"), Some((4, b"y".to_vec())));
        assert_eq!(find("\u{fb01}n"), Some((3, b"fi".to_vec())));
        assert_eq!(find("a\0"), Some((1, b"x".to_vec())));
        assert_eq!(find("b"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn incomplete_maps_are_errors() {
        let whole = build(&[("a", "x")]);
        for len in 0..whole.len() {
            assert!(Charsmap::read(&whole[..len]).is_err(), "{len} of {}", whole.len());
        }
        assert_eq!(Charsmap::default().longest_prefix(b"a"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_prefix_of_the_text(units in prop::collection::vec(any::<u32>(), 1..300), text: Vec<u8>) {
            let units: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let map = Charsmap::read(&[&(units.len() as u32).to_le_bytes()[..], &units, b"abc\0\0"].concat()).unwrap();
            if let Some((len, to)) = map.longest_prefix(&text) {
                prop_assert!((1..=text.len()).contains(&len) && !to.contains(&0));
            }
        }
    }
}
