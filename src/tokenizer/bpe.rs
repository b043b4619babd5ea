//! Byte-level BPE: the bytes of each piece of text are merged into tokens, the earliest merge of the list first. Some
//! models merge characters instead.
use super::byte_level;
use super::merge::{Merge, Merger, Symbol};
use super::pretokenizer::Pretokenizer;
use super::source::Words;
use super::spm;
use super::styles::{Spelling, Style};
use super::vocabulary::{ByteStrings, Vocabulary};
use super::{Error, keys, wordpiece};
use hashbrown::HashMap;

#[derive(Debug)]
pub(super) struct Bpe {
    pretokenizer: Pretokenizer,
    ignore_merges: bool,
    whole_line_ends: bool,
    words: Option<Words>,
    escapes_spaces: bool,
    alphabet: Alphabet,
    /// By the ids of two neighbours.
    merges: HashMap<(u32, u32), Merge>,
    symbols: ExtraSymbols,
    unknown: Option<u32>,
}

/// The symbols that a piece of text begins as.
#[derive(Debug)]
enum Alphabet {
    /// By byte.
    Bytes(Box<[u32; 256]>),
    /// Characters that are tokens stand for themselves. `others` are no tokens but occur in merges.
    Characters { others: HashMap<char, u32>, byte_tokens: Box<[Option<u32>; 256]> },
}

/// The symbol of a character that is no token and occurs in no merge.
const NO_SYMBOL: u32 = u32::MAX;

/// Symbols that occur in merges, or as bytes, but are no tokens. Their ids follow those of the vocabulary.
#[derive(Debug)]
struct ExtraSymbols {
    first_id: u32,
    /// What each is made of; `None` for a byte or character that the vocabulary lacks.
    parts: Vec<Option<(u32, u32)>>,
}

impl ExtraSymbols {
    fn parts(&self, id: u32) -> Option<(u32, u32)> {
        self.parts[(id - self.first_id) as usize]
    }

    fn push(&mut self, parts: Option<(u32, u32)>) -> u32 {
        self.parts.push(parts);
        self.first_id + (self.parts.len() - 1) as u32
    }
}

impl Bpe {
    /// `merges`: "left right" in the order they were learnt, spelled like the tokens.
    pub fn new(
        vocabulary: &Vocabulary,
        style: &Style,
        merges: &ByteStrings,
        words: Option<Words>,
        unknown: Option<u32>,
    ) -> Result<Self, Error> {
        let mut table = SymbolTable {
            vocabulary,
            symbols: ExtraSymbols { first_id: vocabulary.len() as u32, parts: Vec::new() },
            ids: HashMap::new(),
            others: HashMap::new(),
            has_characters: style.spelling != Spelling::Bytes,
        };
        let bytes = (style.spelling == Spelling::Bytes).then(|| {
            Box::new(std::array::from_fn(|byte| {
                let character = byte_level::character(byte as u8);
                table.byte_symbol(character.encode_utf8(&mut [0; 4]).as_bytes())
            }))
        });
        let merges = read_merges(merges, &mut table)?;
        let SymbolTable { symbols, others, .. } = table;
        Ok(Self {
            pretokenizer: Pretokenizer::new(style)?,
            ignore_merges: style.ignore_merges,
            whole_line_ends: style.whole_line_ends,
            words,
            escapes_spaces: style.spelling == Spelling::EscapedCharacters,
            alphabet: match bytes {
                Some(bytes) => Alphabet::Bytes(bytes),
                None => Alphabet::Characters {
                    others,
                    byte_tokens: Box::new(std::array::from_fn(|byte| vocabulary.byte_token(byte as u8))),
                },
            },
            merges,
            symbols,
            unknown,
        })
    }

    /// Are tokens written in the byte-level alphabet?
    pub fn is_byte_level(&self) -> bool {
        matches!(self.alphabet, Alphabet::Bytes(_))
    }

    pub fn encode(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) {
        if let Some(words) = self.words {
            for word in text.split_whitespace() {
                let small = words.lowercase.then(|| word.chars().map(wordpiece::small).collect::<String>());
                self.encode_pieces(vocabulary, small.as_deref().unwrap_or(word), ids);
            }
        } else if self.escapes_spaces {
            self.encode_pieces(vocabulary, &spm::escape_spaces(text, false), ids);
        } else {
            self.encode_pieces(vocabulary, text, ids);
        }
    }

    fn encode_pieces(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        let mut spelled = String::new();
        for piece in self.pretokenizer.split(text) {
            let is_taken_whole = self.ignore_merges || self.whole_line_ends && piece.bytes().all(|byte| byte == b'\n');
            if is_taken_whole && piece.len() <= vocabulary.longest() {
                spelled.clear();
                match self.alphabet {
                    Alphabet::Bytes(_) => byte_level::write(piece.as_bytes(), &mut spelled),
                    Alphabet::Characters { .. } => spelled.push_str(piece),
                }
                if let Some(id) = vocabulary.find_text(spelled.as_bytes()) {
                    ids.push(id);
                    continue;
                }
            }
            self.encode_piece(vocabulary, piece, &mut merger, ids);
        }
    }

    fn encode_piece(&self, vocabulary: &Vocabulary, piece: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        merger.clear();
        match &self.alphabet {
            Alphabet::Bytes(symbols) => piece.bytes().for_each(|byte| merger.push(symbols[byte as usize], 1)),
            Alphabet::Characters { others, .. } => {
                let mut buffer = [0; 4];
                for character in piece.chars() {
                    let bytes = character.encode_utf8(&mut buffer).as_bytes();
                    let token = vocabulary.find_text(bytes);
                    let symbol = token.or_else(|| others.get(&character).copied()).unwrap_or(NO_SYMBOL);
                    merger.push(symbol, bytes.len());
                }
            }
        }
        merger.run(|left, right| self.merges.get(&(left.id, right.id)).copied());
        merger.symbols().for_each(|symbol| self.push_tokens(symbol, piece, ids));
    }

    /// Appends a symbol, taken apart until it is made of tokens.
    fn push_tokens(&self, symbol: &Symbol, piece: &str, ids: &mut Vec<u32>) {
        if symbol.id < self.symbols.first_id {
            return ids.push(symbol.id);
        }
        if let Alphabet::Characters { byte_tokens, .. } = &self.alphabet {
            let bytes = &piece.as_bytes()[symbol.start as usize..][..symbol.len as usize];
            return ids.extend(bytes.iter().filter_map(|&byte| byte_tokens[byte as usize]));
        }
        let mut rest = vec![symbol.id];
        while let Some(symbol) = rest.pop() {
            if symbol < self.symbols.first_id {
                ids.push(symbol);
                continue;
            }
            match self.symbols.parts(symbol) {
                Some((left, right)) => rest.extend([right, left]),
                None => ids.extend(self.unknown),
            }
        }
    }
}

/// The symbols while the merges are read: tokens, and those that are none.
struct SymbolTable<'a> {
    vocabulary: &'a Vocabulary,
    symbols: ExtraSymbols,
    ids: HashMap<Vec<u8>, u32>,
    /// Those of the ids that are single characters, where texts begin as characters.
    others: HashMap<char, u32>,
    has_characters: bool,
}

impl SymbolTable<'_> {
    /// A part of a merge. `None` also for a token that ordinary text must not become.
    fn find(&mut self, text: &[u8]) -> Option<u32> {
        if let Some(id) = self.vocabulary.find(text) {
            return self.vocabulary.is_text(id).then_some(id);
        }
        if let Some(&id) = self.ids.get(text) {
            return Some(id);
        }
        let mut characters = std::str::from_utf8(text).ok().filter(|_| self.has_characters)?.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else { return None };
        let id = self.symbols.push(None);
        self.ids.insert(text.to_vec(), id);
        self.others.insert(character, id);
        Some(id)
    }

    /// The symbol of a byte, one that stands for nothing if the vocabulary lacks it.
    fn byte_symbol(&mut self, text: &[u8]) -> u32 {
        self.find_or_add(text, None).unwrap_or_else(|| self.symbols.push(None))
    }

    /// A new symbol unless the text is one, or is a token that ordinary text must not become (then `None`).
    fn find_or_add(&mut self, text: &[u8], parts: Option<(u32, u32)>) -> Option<u32> {
        match self.vocabulary.find(text) {
            Some(id) => self.vocabulary.is_text(id).then_some(id),
            None => Some(*self.ids.entry_ref(text).or_insert_with(|| self.symbols.push(parts))),
        }
    }
}

fn read_merges(merges: &ByteStrings, table: &mut SymbolTable) -> Result<HashMap<(u32, u32), Merge>, Error> {
    let mut by_pair = HashMap::with_capacity(merges.len());
    let mut merged = Vec::new();
    for (rank, line) in (0u32..).zip(merges.iter()) {
        let (left, right) = split_merge(line).ok_or_else(|| {
            let line = String::from_utf8_lossy(line);
            Error::Bad(format!("{}[{rank}] is {line:?}, expected two symbols with a space between", keys::MERGES))
        })?;
        // Merges are listed as they were learnt: a part that is neither a token nor made by an earlier one never occurs.
        let (Some(left_id), Some(right_id)) = (table.find(left), table.find(right)) else { continue };
        merged.clear();
        merged.extend_from_slice(left);
        merged.extend_from_slice(right);
        if let Some(id) = table.find_or_add(&merged, Some((left_id, right_id))) {
            by_pair.entry((left_id, right_id)).or_insert(Merge { rank, id });
        }
    }
    Ok(by_pair)
}

/// Splits "left right"; the space that separates is not the first character.
fn split_merge(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = 1 + line.iter().skip(1).position(|&byte| byte == b' ')?;
    let (left, right) = (&line[..space], &line[space + 1..]);
    (!right.is_empty()).then_some((left, right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::styles::style;
    use crate::tokenizer::vocabulary::TokenKind;

    fn strings(list: &[&str]) -> ByteStrings {
        let mut strings = ByteStrings::default();
        list.iter().for_each(|string| strings.push(string.as_bytes()).unwrap());
        strings
    }

    fn encode(tokens: &[&str], merges: &[&str], text: &str) -> Vec<String> {
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        kinds[0] = TokenKind::Unknown;
        let vocabulary = Vocabulary::new(strings(tokens), kinds);
        let bpe = Bpe::new(&vocabulary, style("gpt-2").unwrap(), &strings(merges), None, Some(0)).unwrap();
        let mut ids = vec![];
        bpe.encode(&vocabulary, text, &mut ids);
        ids.iter().map(|&id| tokens[id as usize].to_owned()).collect()
    }

    #[test]
    fn merges_in_order_of_rank_and_then_from_the_left() {
        let tokens = ["?", "a", "b", "c", "ab", "bc", "aa"];
        assert_eq!(encode(&tokens, &["b c", "a b"], "abc"), ["a", "bc"]);
        assert_eq!(encode(&tokens, &["a b", "b c"], "abc"), ["ab", "c"]);
        assert_eq!(encode(&tokens, &["a a"], "aaa"), ["aa", "a"]);
    }

    #[test]
    fn a_symbol_that_is_no_token_may_lead_to_one_and_is_taken_apart_if_not() {
        let tokens = ["?", "a", "b", "c", "abc"];
        assert_eq!(encode(&tokens, &["a b", "ab c"], "abcab"), ["abc", "a", "b"]);
    }

    #[test]
    fn a_byte_that_is_no_token_is_unknown() {
        assert_eq!(encode(&["?", "a"], &[], "axa"), ["a", "?", "a"]);
    }

    #[test]
    fn merges_never_make_the_unknown_token() {
        assert_eq!(encode(&["aa", "a"], &["a a"], "aa"), ["a", "a"]);
    }

    #[test]
    fn merge_lines() {
        assert_eq!(split_merge(b"a b"), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(split_merge(b"  b"), Some((&b" "[..], &b"b"[..])));
        for bad in [&b""[..], b" ", b"ab", b"a ", b" b"] {
            assert_eq!(split_merge(bad), None, "{bad:?}");
        }
    }
}
