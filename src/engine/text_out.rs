//! Text on its way out of the engine.
use super::{Chunk, FinishReason, Loaded};
use crate::{sampling::TokenLogprob, tokenizer::StreamDecoder};

/// Text on its way out: bytes of half a character and what may become a stop string are held back.
pub struct TextOut {
    decoder: StreamDecoder,
    held: String,
    stops: Vec<String>,
    chunk: Chunk,
}

impl TextOut {
    pub fn new(model: &Loaded, stops: Vec<String>) -> Self {
        let decoder = model.tokenizer.as_ref().map(|t| t.stream_decoder()).unwrap_or_default();
        Self { decoder, held: String::new(), stops, chunk: Chunk::default() }
    }

    /// Adds a token's text; true when a stop string is complete (what follows it is dropped).
    pub fn add(&mut self, model: &Loaded, token: u32, logprob: Option<TokenLogprob>) -> bool {
        self.chunk.tokens.push(token);
        if let Some(logprob) = logprob {
            self.chunk.logprobs.get_or_insert_default().push(logprob);
        }
        if let Some(tokenizer) = &model.tokenizer {
            self.held += &self.decoder.push(tokenizer, token);
        }
        self.cut_at_stop()
    }

    fn cut_at_stop(&mut self) -> bool {
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
        }
        found.is_some()
    }

    /// Length of the end of the held text that may be the beginning of a stop string.
    fn undecided(&self) -> usize {
        let is_begin = |at: usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let begin = self.held.char_indices().map(|(i, _)| i).find(|&i| i >= from && is_begin(i));
        begin.map_or(0, |at| self.held.len() - at)
    }

    /// The chunk to send now, if there is text for it.
    pub fn take(&mut self) -> Option<Chunk> {
        let ready = self.held.len() - self.undecided();
        if ready == 0 {
            return None;
        }
        let rest = self.held.split_off(ready);
        let text = std::mem::replace(&mut self.held, rest);
        Some(Chunk { text, ..std::mem::take(&mut self.chunk) })
    }

    /// The last chunk: everything that is left.
    pub fn finish(&mut self, reason: FinishReason) -> Chunk {
        // After a stop string there is nothing to complete.
        if reason != FinishReason::Stop || !self.cut_at_stop() {
            let rest = self.decoder.finish();
            self.held += &rest;
            self.cut_at_stop();
        }
        Chunk { text: std::mem::take(&mut self.held), ..std::mem::take(&mut self.chunk) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(stops: &[&str]) -> TextOut {
        TextOut {
            decoder: StreamDecoder::default(),
            held: String::new(),
            stops: stops.iter().map(|s| s.to_string()).collect(),
            chunk: Chunk::default(),
        }
    }

    #[test]
    fn text_that_may_become_a_stop_string_is_held_back() {
        let mut text = out(&["STOP", "\n\n"]);
        text.held += "one ST";
        assert!(!text.cut_at_stop());
        assert_eq!(text.take().unwrap().text, "one ");
        text.held += "ILL\n";
        assert!(!text.cut_at_stop());
        assert_eq!(text.take().unwrap().text, "STILL");
        text.held += "\nmore";
        assert!(text.cut_at_stop());
        assert_eq!(text.finish(FinishReason::Stop).text, "");
    }

    #[test]
    fn the_earliest_of_several_stop_strings_counts() {
        let mut text = out(&["c", "bc", "é"]);
        text.held += "abcé";
        assert!(text.cut_at_stop());
        assert_eq!(text.held, "a");
    }

    #[test]
    fn what_was_held_back_comes_at_the_end() {
        let mut text = out(&["abc"]);
        text.held += "ab";
        assert!(text.take().is_none());
        assert_eq!(text.finish(FinishReason::Length).text, "ab");
    }
}
