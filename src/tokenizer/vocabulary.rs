//! The tokens of a model: their bytes and kinds, and the way back from bytes to an id.
use super::{Error, trie::Trie};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Many byte strings in one allocation: a vocabulary has up to 256k of them, most a few bytes long.
#[derive(Debug, Clone, Default)]
pub(super) struct ByteStrings {
    bytes: Vec<u8>,
    /// Where string i ends; it begins where the one before it ends.
    ends: Vec<u32>,
}

impl ByteStrings {
    pub fn with_capacity(strings: usize) -> Self {
        Self { bytes: Vec::new(), ends: Vec::with_capacity(strings) }
    }

    /// Fails when all strings together would exceed 4 GiB.
    pub fn push(&mut self, string: &[u8]) -> Result<(), Error> {
        let end = u32::try_from(self.bytes.len() + string.len())
            .map_err(|_| Error::Bad("the strings of a tokenizer exceed 4 GiB".into()))?;
        self.bytes.extend_from_slice(string);
        self.ends.push(end);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start as usize..self.ends[index] as usize]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// What a token is for (the values of `tokenizer.ggml.token_type`, GGUF specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    /// Like a control token in what is read, like a text in what is written: the dialect's marks of channels and turns.
    Marker,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// Values that the specification does not name are ordinary tokens.
    pub fn from_gguf(value: i64) -> Self {
        match value {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }

    /// May ordinary text become this token? The others stand for something that text must not be able to say.
    fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::UserDefined | Self::Unused)
    }
}

/// Tokens by id and ids by bytes.
#[derive(Debug)]
pub(super) struct Vocabulary {
    tokens: ByteStrings,
    kinds: Vec<TokenKind>,
    /// Ids hashed by the bytes of their token, so that no token is stored twice. Empty tokens are not in it.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    longest: usize,
}

impl Vocabulary {
    /// `kinds` has one element per token.
    pub fn new(tokens: ByteStrings, kinds: Vec<TokenKind>) -> Self {
        debug_assert_eq!(tokens.len(), kinds.len());
        let hasher = DefaultHashBuilder::default();
        let mut index = HashTable::with_capacity(tokens.len());
        let hash_of = |id: &u32| hasher.hash_one(tokens.get(*id as usize));
        for (id, token) in (0u32..).zip(tokens.iter()).filter(|(_, token)| !token.is_empty()) {
            // Of equal tokens the first one counts.
            let same = |other: &u32| tokens.get(*other as usize) == token;
            index.entry(hasher.hash_one(token), same, hash_of).or_insert(id);
        }
        let longest = tokens.iter().map(<[u8]>::len).max().unwrap_or(0);
        Self { tokens, kinds, index, hasher, longest }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Bytes of the longest token.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The token as stored in the file.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.tokens.get(id as usize)
    }

    pub fn kind(&self, id: u32) -> TokenKind {
        self.kinds[id as usize]
    }

    pub fn set_kind(&mut self, id: u32, kind: TokenKind) {
        self.kinds[id as usize] = kind;
    }

    pub fn contains(&self, id: u32) -> bool {
        (id as usize) < self.len()
    }

    /// The token with exactly these bytes, of whatever kind.
    pub fn find(&self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > self.longest {
            return None;
        }
        self.index.find(self.hasher.hash_one(bytes), |id| self.bytes(*id) == bytes).copied()
    }

    /// The token with exactly these bytes, if ordinary text may become it.
    pub fn find_text(&self, bytes: &[u8]) -> Option<u32> {
        self.find(bytes).filter(|&id| self.is_text(id))
    }

    /// Some of the tokens, to find those that a text begins with.
    pub fn trie(&self, is_wanted: impl Fn(u32) -> bool) -> Trie {
        Trie::new((0..self.len() as u32).filter(|&id| is_wanted(id)).map(|id| (self.bytes(id), id)))
    }

    /// The token `<0xNN>` of a byte.
    pub fn byte_token(&self, byte: u8) -> Option<u32> {
        self.find(format!("<0x{byte:02X}>").as_bytes())
    }

    /// May ordinary text become this token?
    pub fn is_text(&self, id: u32) -> bool {
        self.kind(id).is_text()
    }
}

/// The byte that a token `<0xNN>` of a SentencePiece vocabulary stands for.
pub(super) fn parse_byte_token(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    match digits {
        [high, low] => Some((hex_digit(*high)? << 4) | hex_digit(*low)?),
        _ => None,
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[(&[u8], TokenKind)]) -> Vocabulary {
        let mut strings = ByteStrings::default();
        tokens.iter().for_each(|(token, _)| strings.push(token).unwrap());
        Vocabulary::new(strings, tokens.iter().map(|(_, kind)| *kind).collect())
    }

    #[test]
    fn finds_tokens_by_their_bytes_and_never_an_empty_one() {
        let v = vocabulary(&[
            (b"", TokenKind::Normal),
            (b"a", TokenKind::Normal),
            (b"\xff\xfe", TokenKind::Normal),
            (b"<s>", TokenKind::Control),
            (b"a", TokenKind::UserDefined),
        ]);
        assert_eq!(v.find(b""), None);
        assert_eq!(v.find(b"a"), Some(1));
        assert_eq!(v.find(b"\xff\xfe"), Some(2));
        assert_eq!(v.find(b"<s>"), Some(3));
        assert_eq!(v.find_text(b"<s>"), None);
        assert_eq!(v.find(b"longer than any"), None);
        assert_eq!(v.bytes(4), b"a");
    }

    #[test]
    fn byte_tokens() {
        assert_eq!(parse_byte_token(b"<0x0A>"), Some(10));
        assert_eq!(parse_byte_token(b"<0xff>"), Some(255));
        for bad in [&b"<0x>"[..], b"<0x1>", b"<0x123>", b"<0xG0>", b"0x0A", b"<0x+1>", b""] {
            assert_eq!(parse_byte_token(bad), None, "{bad:?}");
        }
    }
}
