//! Tokens that end a generation, and others that are known by their text.
//!
//! Files often give one end token only, or call the others ordinary tokens. So texts of known models count, the same ones
//! that llama.cpp goes by.
use super::vocabulary::{TokenKind, Vocabulary};

/// Texts that mark the end of a turn, message or file in the vocabularies of known models.
const MARKERS: &[&str] = &[
    "</s>",
    "<EOT>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|call|>",
    "<|calls|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|flush|>",
    "<|im_end|>",
    "<|return|>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "[EOS]",
    "[EOT]",
    "[e~[",
    "_<EOT>",
];

/// Tokens of code models that a file may name, and their texts where it does not.
pub(super) struct Role {
    pub key: &'static str,
    texts: &'static [&'static str],
    /// A model that writes the next file of a repository, or padding, has ended its answer.
    ends: bool,
}

pub(super) const ROLES: &[Role] = &[
    Role {
        key: "tokenizer.ggml.fim_pre_token_id",
        texts: &[
            "<|fim_prefix|>",
            "<fim-prefix>",
            "<fim_prefix>",
            "<\u{ff5c}fim\u{2581}begin\u{ff5c}>",
            "<PRE>",
            "\u{2581}<PRE>",
            "<|code_prefix|>",
            "<|prefix|>",
        ],
        ends: false,
    },
    Role {
        key: "tokenizer.ggml.fim_suf_token_id",
        texts: &[
            "<|fim_suffix|>",
            "<fim-suffix>",
            "<fim_suffix>",
            "<\u{ff5c}fim\u{2581}hole\u{ff5c}>",
            "<SUF>",
            "\u{2581}<SUF>",
            "<|code_suffix|>",
            "<|suffix|>",
        ],
        ends: false,
    },
    Role {
        key: "tokenizer.ggml.fim_mid_token_id",
        texts: &[
            "<|fim_middle|>",
            "<fim-middle>",
            "<fim_middle>",
            "<\u{ff5c}fim\u{2581}end\u{ff5c}>",
            "<MID>",
            "\u{2581}<MID>",
            "<|code_middle|>",
            "<|middle|>",
        ],
        ends: false,
    },
    Role {
        key: "tokenizer.ggml.fim_pad_token_id",
        texts: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"],
        ends: true,
    },
    Role {
        key: "tokenizer.ggml.fim_rep_token_id",
        texts: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"],
        ends: true,
    },
    Role { key: "tokenizer.ggml.fim_sep_token_id", texts: &["<|file_sep|>"], ends: true },
];

/// Marks of gpt-oss between the parts of an answer. Whoever reads the answer needs them.
const VISIBLE: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// In some dialects `<|end|>` ends a message only, not the turn: it is an end no more beside one token of each row.
const MESSAGE_END: &str = "<|end|>";
const TURN_ENDS: [[&str; 2]; 2] = [["<|return|>", "<|flush|>"], ["<|call|>", "<|calls|>"]];

/// Beside these `</s>` is an ordinary token.
const SENTENCE_END: &str = "</s>";
const OTHER_SENTENCE_ENDS: &[&str] = &["<|tool_response>", "<|plamo:eos|>"];

/// The ids of all end tokens, sorted: `named` by the file, and those with a well-known text; `roles` are what the file says
/// of [`ROLES`]. Tokens with a well-known text are control tokens from now on, so that they cannot be smuggled in as text
/// and never show in text.
pub(super) fn find(
    vocabulary: &mut Vocabulary,
    named: impl IntoIterator<Item = u32>,
    roles: &[Option<u32>],
) -> Vec<u32> {
    let mut ends: Vec<u32> = named.into_iter().collect();
    for (role, named) in ROLES.iter().zip(roles) {
        let found = named.or_else(|| {
            let id = role.texts.iter().find_map(|text| vocabulary.find(text.as_bytes()))?;
            vocabulary.set_kind(id, TokenKind::Control);
            Some(id)
        });
        ends.extend(found.filter(|_| role.ends));
    }
    for marker in MARKERS {
        if let Some(id) = vocabulary.find(marker.as_bytes()) {
            vocabulary.set_kind(id, TokenKind::Control);
            ends.push(id);
        }
    }
    for text in VISIBLE {
        if let Some(id) = vocabulary.find(text.as_bytes()) {
            vocabulary.set_kind(id, TokenKind::Marker);
        }
    }
    let is_end = |text: &&str| vocabulary.find(text.as_bytes()).is_some_and(|id| ends.contains(&id));
    let ends_message = TURN_ENDS.iter().all(|texts| texts.iter().any(is_end));
    let ends_sentence = OTHER_SENTENCE_ENDS.iter().any(is_end);
    let mut demote = |text: &str, kind| {
        if let Some(id) = vocabulary.find(text.as_bytes()) {
            ends.retain(|&end| end != id);
            vocabulary.set_kind(id, kind);
        }
    };
    if ends_message {
        demote(MESSAGE_END, TokenKind::Marker);
    }
    if ends_sentence {
        demote(SENTENCE_END, TokenKind::Normal);
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
        let ends = find(&mut vocabulary, named.iter().copied(), &[None; ROLES.len()]);
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
        assert_eq!(ends(&["<|end|>", "<|flush|>", "<|calls|>"], &[]), [1, 2]);
    }

    #[test]
    fn a_sentence_end_is_an_ordinary_token_beside_its_successor() {
        assert_eq!(ends(&["</s>", "<eos>"], &[]), [0, 1]);
        assert_eq!(ends(&["</s>", "<eos>", "<|tool_response>"], &[1]), [1, 2]);
    }

    #[test]
    fn roles_are_found_by_their_texts_unless_the_file_names_them() {
        assert_eq!(ends(&["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|fim_prefix|>", "<PAD>"], &[]), [0, 1, 2]);
        let mut strings = ByteStrings::default();
        ["<|fim_pad|>", "x"].iter().for_each(|token| strings.push(token.as_bytes()).unwrap());
        let mut vocabulary = Vocabulary::new(strings, vec![TokenKind::Normal; 2]);
        assert_eq!(find(&mut vocabulary, [], &[None, None, None, Some(1), None, None]), [1]);
        assert_eq!(vocabulary.kind(0), TokenKind::Normal);
    }

    #[test]
    fn the_marks_of_channels_are_neither_ends_nor_hidden() {
        let mut strings = ByteStrings::default();
        strings.push(b"<|channel|>").unwrap();
        let mut vocabulary = Vocabulary::new(strings, vec![TokenKind::Control]);
        assert!(find(&mut vocabulary, [], &[None; ROLES.len()]).is_empty());
        assert_eq!(vocabulary.kind(0), TokenKind::Marker);
    }
}
