//! Tokens that end a generation.
use super::vocabulary::{TokenKind, Vocabulary};

/// Texts that mark the end of a turn, message or file in the vocabularies of known models. Files often give one end
/// token only, or call these ordinary tokens.
const MARKERS: &[&str] = &[
    "</s>",
    "<EOT>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<｜end▁of▁sentence｜>",
    "_<EOT>",
    // The next file of a repository, in code models.
    "<|file_sep|>",
    "<|fim_pad|>",
    "<|fim_repo|>",
    "<|repo_name|>",
];

/// In these dialects `<|end|>` ends a message only, not the turn: it is an end no more when all of a row are tokens.
const MESSAGE_END: &str = "<|end|>";
const TURN_ENDS: &[[&str; 2]] = &[["<|return|>", "<|call|>"], ["<|flush|>", "<|calls|>"]];

/// The ids of all end tokens: `named` by the file, and those with a well-known text. The latter are control tokens from
/// now on, so that they cannot be smuggled in as text and never show in text.
pub(super) fn find(vocabulary: &mut Vocabulary, named: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let mut ends: Vec<u32> = named.into_iter().collect();
    for marker in MARKERS {
        if let Some(id) = vocabulary.find(marker.as_bytes()) {
            vocabulary.set_kind(id, TokenKind::Control);
            ends.push(id);
        }
    }
    let has = |text: &&str| vocabulary.find(text.as_bytes()).is_some();
    if TURN_ENDS.iter().any(|texts| texts.iter().all(has)) {
        let message_end = vocabulary.find(MESSAGE_END.as_bytes());
        ends.retain(|&id| Some(id) != message_end);
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::vocabulary::ByteStrings;

    fn ends(tokens: &[&str], named: &[u32]) -> Vec<u32> {
        let mut strings = ByteStrings::default();
        tokens.iter().for_each(|token| strings.push(token.as_bytes()).unwrap());
        let mut vocabulary = Vocabulary::new(strings, vec![TokenKind::Normal; tokens.len()]);
        let ends = find(&mut vocabulary, named.iter().copied());
        assert!(ends.iter().all(|&id| named.contains(&id) || vocabulary.kind(id) == TokenKind::Control));
        ends
    }

    #[test]
    fn named_and_well_known() {
        assert_eq!(ends(&["a", "b", "<|im_end|>", "<|end|>"], &[1]), [1, 2, 3]);
    }

    #[test]
    fn a_message_end_is_no_end_beside_turn_ends() {
        assert_eq!(ends(&["<|end|>", "<|return|>", "<|call|>"], &[1]), [1, 2]);
        assert_eq!(ends(&["<|end|>", "<|return|>"], &[1]), [0, 1]);
    }
}
