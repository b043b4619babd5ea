//! Text ↔ token ids, and incremental decoding. Knows nothing of weights.
//!
//! `source` reads and checks what a file says, `special` splits text at special tokens, `spm` and `bpe` (both through
//! `merge`), `unigram` and `wordpiece` turn what is between them into ids, `stream` turns ids back into text as they come.
//! Start at [`Tokenizer`].
mod bpe;
mod byte_level;
mod charsmap;
mod end_markers;
mod keys;
mod merge;
mod pretokenizer;
mod source;
mod special;
mod spm;
mod stream;
mod styles;
#[cfg(test)]
mod tests;
mod trie;
mod unigram;
mod vocabulary;
mod wordpiece;

pub use stream::StreamDecoder;

use crate::gguf::Metadata;
use bpe::Bpe;
use source::{Model, Source};
use special::{Fragment, SpecialTokens};
use spm::Spm;
use unigram::{Normalizer, Unigram};
use vocabulary::{TokenKind, Vocabulary, parse_byte_token};
use wordpiece::WordPiece;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The vocabulary in the file is damaged or incomplete.
    #[error("{0}")]
    Bad(String),
    /// A tokenizer this version does not have, named in the message.
    #[error("{0}")]
    Unsupported(String),
    /// A token id that the vocabulary does not have.
    #[error("token id {id} is out of range: the vocabulary has {size} tokens")]
    TokenOutOfRange { id: u32, size: usize },
}

/// A model's vocabulary with the algorithm that goes with it.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Vocabulary,
    algorithm: Algorithm,
    special: SpecialTokens,
    bos: Option<u32>,
    eos: Option<u32>,
    /// What a text begins and ends with on request.
    first: Option<u32>,
    last: Option<u32>,
    /// SentencePiece reads a text as if a space came before it.
    add_space_prefix: bool,
    /// Sorted.
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Algorithm {
    Spm(Box<Spm>),
    Bpe(Box<Bpe>),
    Unigram(Box<Unigram>),
    WordPiece(Box<WordPiece>),
}

/// What holds where a file does not say.
struct Defaults {
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
}

impl Tokenizer {
    /// From the `tokenizer.*` keys of a file; `Ok(None)` when the file has no vocabulary.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>, Error> {
        Source::read(metadata)?.map(Self::new).transpose()
    }

    fn new(source: Source) -> Result<Self, Error> {
        let mut vocabulary = Vocabulary::new(source.tokens, source.kinds);
        // Before the rest: it makes control tokens of the markers it knows.
        let ends = end_markers::find(&mut vocabulary, source.eos.into_iter().chain(source.other_ends), &source.roles);
        let unknown = source.unknown;
        let mut add_bos = source.add_bos;
        let (algorithm, defaults) = match source.model {
            Model::Spm { scores } => (
                Algorithm::Spm(Box::new(Spm::new(&vocabulary, &scores, unknown))),
                Defaults { add_bos: true, add_eos: false, add_space_prefix: true },
            ),
            Model::Bpe { pre, merges, words } => {
                let style = styles::style(&pre)?;
                if style.always_bos {
                    add_bos = Some(true);
                }
                (
                    Algorithm::Bpe(Box::new(Bpe::new(&vocabulary, style, &merges, words, unknown)?)),
                    Defaults { add_bos: style.add_bos, add_eos: false, add_space_prefix: false },
                )
            }
            Model::Unigram { scores, charsmap, merges_spaces } => {
                let adds_space = source.add_space_prefix.unwrap_or(false);
                let normalizer = Normalizer::new(&vocabulary, charsmap, adds_space, merges_spaces);
                (
                    Algorithm::Unigram(Box::new(Unigram::new(&vocabulary, scores, unknown, normalizer))),
                    Defaults { add_bos: false, add_eos: true, add_space_prefix: false },
                )
            }
            Model::WordPiece { lowercase, strip_accents } => (
                Algorithm::WordPiece(Box::new(WordPiece::new(&vocabulary, unknown, lowercase, strip_accents)?)),
                Defaults { add_bos: true, add_eos: false, add_space_prefix: false },
            ),
        };
        let (first, last) = match algorithm {
            // Always `[CLS] … [SEP]`.
            Algorithm::WordPiece(_) => (source.bos, source.separator),
            _ => (
                source.bos.filter(|_| add_bos.unwrap_or(defaults.add_bos)),
                source.eos.filter(|_| source.add_eos.unwrap_or(defaults.add_eos)),
            ),
        };
        Ok(Self {
            special: SpecialTokens::new(&vocabulary, source.strip)?,
            vocabulary,
            algorithm,
            bos: source.bos,
            eos: source.eos,
            first,
            last,
            add_space_prefix: source.add_space_prefix.unwrap_or(defaults.add_space_prefix),
            ends,
        })
    }

    /// `add_special`: BOS/EOS as the vocabulary says. `parse_special`: control tokens written in the text become their ids.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        ids.extend(self.first.filter(|_| add_special));
        // A text that follows a special token begins anew.
        let mut at_start = true;
        for fragment in self.special.split(&self.vocabulary, text, parse_special) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(text) => self.encode_text(&special::unguarded(text), at_start, &mut ids),
            }
            at_start = matches!(fragment, Fragment::Token(_));
        }
        ids.extend(self.last.filter(|_| add_special));
        ids
    }

    /// The text in a form that stays text when it is written into a longer one and that is encoded with `parse_special`:
    /// control tokens in it are not recognised. (Invisible marks inside them, which [`encode`](Self::encode) drops.)
    pub fn guard(&self, text: &str) -> String {
        self.special.guard(&self.vocabulary, text)
    }

    fn encode_text(&self, text: &str, at_start: bool, ids: &mut Vec<u32>) {
        match &self.algorithm {
            Algorithm::Spm(spm) => spm.encode(&self.vocabulary, text, at_start && self.add_space_prefix, ids),
            Algorithm::Bpe(bpe) => bpe.encode(&self.vocabulary, text, ids),
            Algorithm::Unigram(unigram) => unigram.encode(text, ids),
            Algorithm::WordPiece(word_piece) => word_piece.encode(text, ids),
        }
    }

    /// The bytes of `ids`; `special` renders control tokens as their text, otherwise they are left out.
    ///
    /// Bytes that are not UTF-8 become U+FFFD. Where [`encode`](Self::encode) puts a space before a text, the space that
    /// the decoded text begins with is dropped, so that the text comes back as it was.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String, Error> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for &id in ids {
            if !self.vocabulary.contains(id) {
                return Err(Error::TokenOutOfRange { id, size: self.vocab_size() });
            }
            self.append_bytes(id, special, &mut bytes);
        }
        let text = match bytes.strip_prefix(b" ") {
            Some(rest) if self.add_space_prefix => rest,
            _ => &bytes,
        };
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Appends the bytes a token stands for; nothing for an id that the vocabulary does not have.
    fn append_bytes(&self, id: u32, special: bool, out: &mut Vec<u8>) {
        if !self.vocabulary.contains(id) {
            return;
        }
        let token = self.vocabulary.bytes(id);
        match self.vocabulary.kind(id) {
            TokenKind::Unused => {}
            TokenKind::Control | TokenKind::Unknown if !special => {}
            TokenKind::Control | TokenKind::Marker | TokenKind::Unknown | TokenKind::UserDefined => {
                out.extend_from_slice(token);
            }
            TokenKind::Byte => out.extend(parse_byte_token(token)),
            TokenKind::Normal => match &self.algorithm {
                Algorithm::Bpe(bpe) if bpe.is_byte_level() => byte_level::read(token, out),
                _ => spm::unescape_spaces(token, out),
            },
        }
    }

    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Text of a token as stored in the file (control tokens included), for templates' `bos_token` and `eos_token`.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.vocabulary.contains(id).then(|| String::from_utf8_lossy(self.vocabulary.bytes(id)).into_owned())
    }

    /// Does this token end a generation (EOS, EOT, EOM and what else the file or the token's text marks as such)?
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// The tokens that end a generation, sorted.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// The tokens that [`encode`](Self::encode) puts before and after a text on request.
    pub fn added(&self) -> (Option<u32>, Option<u32>) {
        (self.first, self.last)
    }

    /// A decoder for a stream of tokens that continues a prompt's text.
    pub fn stream_decoder(&self) -> StreamDecoder {
        StreamDecoder::default()
    }
}
