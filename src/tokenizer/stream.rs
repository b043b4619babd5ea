//! Bytes to text as they come.
use super::Tokenizer;

/// Turns a stream of ids into text and never emits half a character.
///
/// The ids are taken to continue a text: a leading space of the first token stays, and all pushes and [`finish`] together
/// are the lossy decoding of the tokens' bytes (bytes that are not UTF-8 become U+FFFD as soon as nothing that follows
/// could complete them).
///
/// [`finish`]: Self::finish
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    /// The beginning of a character; at most three bytes between pushes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// The text that is complete after this token (may be empty). Control tokens and ids that the vocabulary does not
    /// have yield nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        tokenizer.append_bytes(id, false, &mut self.pending);
        let complete = self.pending.len() - incomplete_suffix(&self.pending);
        let text = String::from_utf8_lossy(&self.pending[..complete]).into_owned();
        self.pending.drain(..complete);
        text
    }

    /// What is left at the end: incomplete bytes become U+FFFD.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character that bytes to come may complete.
fn incomplete_suffix(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last().map(|chunk| chunk.invalid()) {
        Some(invalid) if std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) => invalid.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_beginning_of_a_character_is_held_back() {
        for (bytes, held) in [
            (&b""[..], 0),
            (b"abc", 0),
            ("你".as_bytes(), 0),
            (b"a\xe4", 1),
            (b"a\xe4\xbd", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xff", 0),
            (b"\x80", 0),
            (b"\xe4\xbd\xe4", 1),
            (b"\xed\xa0", 0),
            (b"\xf5", 0),
        ] {
            assert_eq!(incomplete_suffix(bytes), held, "{bytes:?}");
        }
    }
}
