//! Text ↔ token ids, and incremental decoding. Knows nothing of weights.
use crate::gguf::Metadata;

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
pub struct Tokenizer {}

impl Tokenizer {
    /// From the `tokenizer.*` keys of a file; `Ok(None)` when the file has no vocabulary.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>, Error> {
        let _ = metadata;
        todo!()
    }
    /// `add_special`: BOS/EOS as the vocabulary says. `parse_special`: control tokens written in the text become their ids.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<u32> {
        todo!("{text} {add_special} {parse_special}")
    }
    /// The bytes of `ids`; `special` renders control tokens as their text, otherwise they are left out.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String, Error> {
        todo!("{ids:?} {special}")
    }
    pub fn vocab_size(&self) -> usize {
        todo!()
    }
    pub fn bos(&self) -> Option<u32> {
        todo!()
    }
    pub fn eos(&self) -> Option<u32> {
        todo!()
    }
    /// Text of a token as stored in the file (control tokens included), for templates' `bos_token` and `eos_token`.
    pub fn token_text(&self, id: u32) -> Option<String> {
        todo!("{id}")
    }
    /// Does this token end a generation (EOS, EOT, EOM and what else the file or the token's text marks as such)?
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        todo!("{id}")
    }
    /// A decoder for a stream of tokens that continues `prompt`'s text.
    pub fn stream_decoder(&self) -> StreamDecoder {
        todo!()
    }
}

/// Turns a stream of ids into text and never emits half a character.
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {}

impl StreamDecoder {
    /// The text that is complete after this token (may be empty). Control tokens yield nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let _ = (tokenizer, id);
        todo!()
    }
    /// What is left at the end: incomplete bytes become U+FFFD.
    pub fn finish(&mut self) -> String {
        todo!()
    }
}
