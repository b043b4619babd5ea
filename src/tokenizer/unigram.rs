//! SentencePiece's unigram model: of all ways to cut a text into tokens, the likeliest (Kudo 2018, "Subword
//! Regularization"), found by Viterbi's algorithm.
use super::charsmap::Charsmap;
use super::spm::SPACE;
use super::trie::Trie;
use super::vocabulary::{TokenKind, Vocabulary};

#[derive(Debug)]
pub(super) struct Unigram {
    /// The tokens that text may become.
    tokens: Trie,
    /// By id: logarithms of probabilities.
    scores: Vec<f32>,
    unknown: Option<u32>,
    /// Worse than any token.
    unknown_score: f32,
    normalizer: Normalizer,
}

/// What is done to a text before it is cut.
#[derive(Debug)]
pub(super) struct Normalizer {
    charsmap: Charsmap,
    /// A space before the first word.
    adds_space: bool,
    /// One space before every word and no others.
    merges_spaces: bool,
    /// What one of these tokens begins with is taken as it is. (As in llama.cpp: it need not be the whole token.)
    user_defined: Trie,
}

/// A token that ends somewhere in the text, on the best way there.
#[derive(Clone, Copy)]
struct Step {
    /// `None`: a character that no token covers.
    id: Option<u32>,
    start: usize,
    score: f64,
}

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

impl Unigram {
    /// `scores`: one per token, none of them NaN.
    pub fn new(vocabulary: &Vocabulary, mut scores: Vec<f32>, unknown: Option<u32>, normalizer: Normalizer) -> Self {
        let ids_of = |kind| (0..vocabulary.len() as u32).filter(move |&id| vocabulary.kind(id) == kind);
        let worst = ids_of(TokenKind::Normal).map(|id| scores[id as usize]).fold(f32::MAX, f32::min);
        // What a user defines wins over what was learnt.
        ids_of(TokenKind::UserDefined).for_each(|id| scores[id as usize] = 0.0);
        Self {
            tokens: vocabulary.trie(|id| vocabulary.is_text(id)),
            scores,
            unknown,
            unknown_score: worst - UNKNOWN_PENALTY,
            normalizer,
        }
    }

    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalizer.apply(text);
        if text.is_empty() {
            return;
        }
        let mut best = vec![Step { id: None, start: 0, score: f64::NEG_INFINITY }; text.len() + 1];
        best[0].score = 0.0;
        let mut start = 0;
        while start < text.len() {
            let character = character_len(text[start]).min(text.len() - start);
            let so_far = best[start].score;
            let mut offer = |len: usize, id: Option<u32>, score: f32| {
                let score = so_far + f64::from(score);
                let end = &mut best[start + len];
                if score > end.score {
                    *end = Step { id, start, score };
                }
            };
            let mut is_covered = false;
            for (len, id) in self.tokens.prefixes(&text[start..]) {
                is_covered |= len == character;
                offer(len, Some(id), self.scores[id as usize]);
            }
            if !is_covered {
                offer(character, None, self.unknown_score);
            }
            start += character;
        }
        self.collect(&best, ids);
    }

    /// Appends the tokens of the best way to the end. Neighbouring unknown characters are one unknown token.
    fn collect(&self, best: &[Step], ids: &mut Vec<u32>) {
        let first = ids.len();
        let mut end = best.len() - 1;
        let mut is_unknown = false;
        while end > 0 {
            let Step { id, start, .. } = best[end];
            let was_unknown = std::mem::replace(&mut is_unknown, id.is_none() || id == self.unknown);
            if !(was_unknown && is_unknown) {
                ids.extend(id.or(self.unknown));
            }
            end = start;
        }
        ids[first..].reverse();
    }
}

impl Normalizer {
    pub fn new(vocabulary: &Vocabulary, charsmap: Charsmap, adds_space: bool, merges_spaces: bool) -> Self {
        let user_defined = vocabulary.trie(|id| vocabulary.kind(id) == TokenKind::UserDefined);
        Self { charsmap, adds_space, merges_spaces, user_defined }
    }

    fn apply(&self, text: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        let mut adds_space = self.adds_space;
        let mut is_in_word = false;
        let mut rest = text.as_bytes();
        while let Some(&first) = rest.first() {
            let taken_as_it_is = self.user_defined.common_prefix(rest);
            let (len, replacement) = match taken_as_it_is {
                0 => self.charsmap.longest_prefix(rest).unwrap_or_else(|| {
                    let len = character_len(first);
                    (len, &rest[..len])
                }),
                len => (len, &rest[..len]),
            };
            for &byte in replacement {
                let begins_word = byte != b' ' && !is_in_word;
                is_in_word = byte != b' ';
                if begins_word && (adds_space || self.merges_spaces) || !is_in_word && !self.merges_spaces {
                    out.extend_from_slice(SPACE.as_bytes());
                }
                adds_space &= !begins_word;
                if is_in_word {
                    out.push(byte);
                }
            }
            rest = &rest[len..];
        }
        out
    }
}

/// Bytes of the character that begins with this byte; 1 for a byte that begins none.
fn character_len(first: u8) -> usize {
    match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0.. => 4,
        _ => 1,
    }
}
