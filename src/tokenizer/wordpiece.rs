//! WordPiece as BERT has it: words are cut into the longest tokens, from the left (Devlin et al. 2018).
//!
//! In GGUF files the tokens of BERT are rewritten: U+2581 stands before those that begin a word, and the `##` before the
//! others is gone.
use super::Error;
use super::spm::SPACE;
use super::trie::Trie;
use super::vocabulary::Vocabulary;
use regex::Regex;
use std::borrow::Cow;
use unicode_normalization::char::decompose_canonical;

#[derive(Debug)]
pub(super) struct WordPiece {
    tokens: Trie,
    unknown: Option<u32>,
    lowercase: bool,
    strip_accents: bool,
    /// What texts are freed of: control characters, and accents if those are stripped.
    dropped: Regex,
    /// Words: punctuation and Chinese characters one by one.
    words: Regex,
}

/// The blocks of Chinese characters in BERT's tokenizer. (The one from U+2B920 begins at U+2B820 in Unicode; implementations
/// kept the slip.)
const CHINESE: &str = concat!(
    r"\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}",
    r"\u{F900}-\u{FAFF}\u{2F800}-\u{2FA1F}"
);

impl WordPiece {
    pub fn new(
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
        lowercase: bool,
        strip_accents: bool,
    ) -> Result<Self, Error> {
        let regex = |pattern: &str| {
            Regex::new(pattern).map_err(|e| Error::Unsupported(format!("BERT's pattern cannot be built: {e}")))
        };
        let accents = if strip_accents { r"\p{M}" } else { "" };
        // Symbols of ASCII count as punctuation.
        let alone = format!(r"\p{{P}}$+<=>^`|~{CHINESE}");
        Ok(Self {
            tokens: vocabulary.trie(|id| vocabulary.is_text(id)),
            unknown,
            lowercase,
            strip_accents,
            dropped: regex(&format!(r"[\p{{Cc}}\p{{Cf}}\p{{Co}}\u{{FFFD}}{accents}--\s]"))?,
            words: regex(&format!(r"[{alone}]|[^\s{alone}]+"))?,
        })
    }

    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text: Cow<str> = match self.strip_accents {
            true => text.chars().map(base_character).collect::<String>().into(),
            false => text.into(),
        };
        let text = self.dropped.replace_all(&text, "");
        // Cut before letters become small ones: a character is what it was.
        let mut word = String::new();
        for found in self.words.find_iter(&text) {
            word.clear();
            word.push_str(SPACE);
            match self.lowercase {
                true => word.extend(found.as_str().chars().map(small)),
                false => word.push_str(found.as_str()),
            }
            self.encode_word(word.as_bytes(), ids);
        }
    }

    /// Appends the tokens of a word, or the unknown token where some part of it is none.
    fn encode_word(&self, word: &[u8], ids: &mut Vec<u32>) {
        let before = ids.len();
        let mut rest = word;
        while !rest.is_empty() {
            let Some((len, id)) = self.tokens.prefixes(rest).last() else {
                ids.truncate(before);
                return ids.extend(self.unknown);
            };
            ids.push(id);
            rest = &rest[len..];
        }
    }
}

/// The first character of the canonical decomposition: the letter without its accents.
fn base_character(character: char) -> char {
    let mut base = None;
    decompose_canonical(character, |part| base = base.or(Some(part)));
    base.unwrap_or(character)
}

/// The small letter, one for one: of `İ` the `i` without its dot above.
pub(super) fn small(character: char) -> char {
    character.to_lowercase().next().unwrap_or(character)
}
