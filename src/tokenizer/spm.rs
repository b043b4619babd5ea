//! BPE as SentencePiece does it: single characters are merged into tokens, the token with the best score first.
use super::merge::{Merge, Merger};
use super::vocabulary::Vocabulary;

/// SentencePiece writes a space as U+2581 (LOWER ONE EIGHTH BLOCK).
pub(super) const SPACE: &str = "\u{2581}";

/// The id of a character that is no token.
const NO_TOKEN: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Spm {
    /// By id: how early a merge that makes this token is done; lower is earlier.
    ranks: Vec<u32>,
    /// The token for each byte of a character that is no token.
    byte_tokens: [Option<u32>; 256],
    unknown: Option<u32>,
    /// No token goes on with a space after another character, so no merge crosses the start of a word.
    words_are_apart: bool,
}

impl Spm {
    /// `scores`: one per token, none of them NaN.
    pub fn new(vocabulary: &Vocabulary, scores: &[f32], unknown: Option<u32>) -> Self {
        Self {
            ranks: scores.iter().copied().map(rank).collect(),
            byte_tokens: byte_tokens(vocabulary),
            unknown,
            words_are_apart: (0..vocabulary.len() as u32)
                .filter(|&id| vocabulary.is_text(id))
                .all(|id| first_word(vocabulary.bytes(id)) == vocabulary.bytes(id).len()),
        }
    }

    /// Appends the ids of `text`; `space_prefix` puts a space before it, as SentencePiece does at the start of a text.
    pub fn encode(&self, vocabulary: &Vocabulary, text: &str, space_prefix: bool, ids: &mut Vec<u32>) {
        let escaped = escape_spaces(text, space_prefix);
        let mut merger = Merger::default();
        let mut rest = escaped.as_str();
        while !rest.is_empty() {
            // Merging word by word gives the same and works in the processor's caches.
            let word = if self.words_are_apart { first_word(rest.as_bytes()) } else { rest.len() };
            let (word, after) = rest.split_at(word);
            self.encode_word(vocabulary, word, &mut merger, ids);
            rest = after;
        }
    }

    fn encode_word(&self, vocabulary: &Vocabulary, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        merger.clear();
        let mut buffer = [0; 4];
        for character in word.chars() {
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            merger.push(vocabulary.find_text(bytes).unwrap_or(NO_TOKEN), bytes.len());
        }
        let bytes = word.as_bytes();
        merger.run(|left, right| {
            let id = vocabulary.find_text(&bytes[left.start as usize..(right.start + right.len) as usize])?;
            Some(Merge { rank: self.ranks[id as usize], id })
        });
        for symbol in merger.symbols() {
            match symbol.id {
                NO_TOKEN => self.fall_back(&bytes[symbol.start as usize..][..symbol.len as usize], ids),
                id => ids.push(id),
            }
        }
    }

    /// A character that is no token becomes its bytes, or the unknown token where the vocabulary lacks those.
    fn fall_back(&self, character: &[u8], ids: &mut Vec<u32>) {
        let before = ids.len();
        for &byte in character {
            match self.byte_tokens[byte as usize] {
                Some(id) => ids.push(id),
                None => {
                    ids.truncate(before);
                    return ids.extend(self.unknown);
                }
            }
        }
    }
}

/// Bytes of `text` up to the first (escaped) space that follows something else than a space.
fn first_word(text: &[u8]) -> usize {
    let mut at = 0;
    let mut is_after_space = true;
    while at < text.len() {
        let is_space = text[at..].starts_with(SPACE.as_bytes());
        if is_space && !is_after_space {
            break;
        }
        at += if is_space { SPACE.len() } else { 1 };
        is_after_space = is_space;
    }
    at
}

pub(super) fn escape_spaces(text: &str, prefix: bool) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
    if prefix {
        escaped.push_str(SPACE);
    }
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            escaped.push_str(SPACE);
        }
        escaped.push_str(part);
    }
    escaped
}

/// Appends a token with its spaces as spaces.
pub(super) fn unescape_spaces(token: &[u8], out: &mut Vec<u8>) {
    let mut rest = token;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(SPACE.as_bytes()) {
            Some(after) => {
                out.push(b' ');
                rest = after;
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
}

/// Orders scores from best (highest) to worst as integers. Both zeros are equal, as they are for `<`.
fn rank(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    // IEEE 754: as integers, floats without the sign bit are in order and those with it in reverse order.
    if bits >> 31 == 0 { 0x7fff_ffff - bits } else { bits }
}

/// `<0xNN>`, or else the byte itself as a token of one byte.
fn byte_tokens(vocabulary: &Vocabulary) -> [Option<u32>; 256] {
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        vocabulary.byte_token(byte).or_else(|| vocabulary.find_text(&[byte]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::{ByteStrings, TokenKind};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spaces() {
        assert_eq!(escape_spaces(" a  b", true), "▁▁a▁▁b");
        assert_eq!(escape_spaces("", false), "");
        assert_eq!(escape_spaces(" ", false), "▁");
        let mut bytes = Vec::new();
        unescape_spaces(b"\xe2\x96\x81a\xe2\x96\xe2\x96\x81", &mut bytes);
        assert_eq!(bytes, b" a\xe2\x96 ");
    }

    /// A vocabulary with merges of spaces and letters, and no token that goes on into the next word.
    fn small() -> (Vocabulary, Spm) {
        let tokens = ["a", "b", "▁", "▁▁", "▁a", "ab", "▁ab", "aa", "▁▁▁▁"];
        let mut strings = ByteStrings::default();
        tokens.iter().for_each(|token| strings.push(token.as_bytes()).unwrap());
        let vocabulary = Vocabulary::new(strings, vec![TokenKind::Normal; tokens.len()]);
        let spm = Spm::new(&vocabulary, &[0.0, 0.0, 0.0, -3.0, -2.0, -1.0, -4.0, -1.0, -5.0], None);
        (vocabulary, spm)
    }

    proptest! {
        #[test]
        fn word_by_word_is_the_same_as_all_at_once(text in "[ab ]{0,60}") {
            let (vocabulary, mut spm) = small();
            prop_assert!(spm.words_are_apart);
            let (mut by_word, mut at_once) = (vec![], vec![]);
            spm.encode(&vocabulary, &text, true, &mut by_word);
            spm.words_are_apart = false;
            spm.encode(&vocabulary, &text, true, &mut at_once);
            prop_assert_eq!(by_word, at_once);
        }
    }

    #[test]
    fn words() {
        for (text, word) in [("", ""), ("▁▁a", "▁▁a"), ("▁a▁b", "▁a"), ("a▁▁b", "a"), ("▁", "▁"), ("日▁", "日")]
        {
            assert_eq!(&text[..first_word(text.as_bytes())], word);
        }
    }

    proptest! {
        #[test]
        fn ranks_order_scores(a: f32, b: f32) {
            prop_assume!(!a.is_nan() && !b.is_nan());
            prop_assert_eq!(rank(a).cmp(&rank(b)), b.partial_cmp(&a).unwrap());
        }
    }

    #[test]
    fn both_zeros_rank_alike() {
        assert_eq!(rank(0.0), rank(-0.0));
        assert!(rank(f32::INFINITY) < rank(f32::MAX) && rank(f32::MIN) < rank(f32::NEG_INFINITY));
    }
}
