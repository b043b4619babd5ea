//! Finding tokens that are written out in text: user-defined ones always, control tokens on request.
use super::Error;
use super::vocabulary::{TokenKind, Vocabulary};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// `None` when there are no special tokens.
    automaton: Option<AhoCorasick>,
    /// By pattern of the automaton.
    ids: Vec<u32>,
    /// The different lengths of the tokens, longest first.
    lengths: Vec<usize>,
    strip: Strip,
}

/// Which special tokens swallow the white space beside them. Files do not say so; see `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strip {
    None,
    /// Right of all tokens but [`NEVER_STRIPPED`].
    RightOfMost,
    /// Left of the token with this text.
    LeftOf(&'static str),
}

/// A part of a text: still text, or a token that was written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// A token found in the text, with the white space that it swallows; the text goes on at `resume`.
#[derive(Debug)]
struct Found {
    start: usize,
    resume: usize,
    id: u32,
}

/// Phi-3 drops the white space after its special tokens, but not after these.
const NEVER_STRIPPED: [&[u8]; 3] = [b"<unk>", b"<s>", b"<|endoftext|>"];

impl SpecialTokens {
    pub fn new(vocabulary: &Vocabulary, strip: Strip) -> Result<Self, Error> {
        // Tokens that are not UTF-8 cannot occur in text.
        let is_special = |&id: &u32| {
            let token = vocabulary.bytes(id);
            is_kind_special(vocabulary.kind(id), true) && !token.is_empty() && std::str::from_utf8(token).is_ok()
        };
        let ids: Vec<u32> = (0..vocabulary.len() as u32).filter(is_special).collect();
        let mut lengths: Vec<usize> = ids.iter().map(|&id| vocabulary.bytes(id).len()).collect();
        lengths.sort_unstable_by_key(|&length| Reverse(length));
        lengths.dedup();
        let automaton = match ids.as_slice() {
            [] => None,
            // The NFA's size stays in proportion to the tokens, whatever they are; a DFA's would not.
            ids => Some(
                AhoCorasick::builder()
                    .kind(Some(AhoCorasickKind::ContiguousNFA))
                    .build(ids.iter().map(|&id| vocabulary.bytes(id)))
                    .map_err(|e| Error::Bad(format!("the special tokens of the vocabulary are too many: {e}")))?,
            ),
        };
        Ok(Self { automaton, ids, lengths, strip })
    }

    /// Splits `text` at the special tokens in it. Of overlapping ones the longest wins, of equally long ones the first.
    pub fn split<'t>(&self, vocabulary: &Vocabulary, text: &'t str, parse_control: bool) -> Vec<Fragment<'t>> {
        let found = self.find_all(vocabulary, text, parse_control);
        let mut fragments = Vec::with_capacity(2 * found.len() + 1);
        let mut done = 0;
        for Found { start, resume, id } in found {
            fragments.extend((start > done).then(|| Fragment::Text(&text[done..start])));
            fragments.push(Fragment::Token(id));
            done = resume;
        }
        fragments.extend((done < text.len()).then(|| Fragment::Text(&text[done..])));
        fragments
    }

    /// The tokens to split at, in the order of the text.
    fn find_all(&self, vocabulary: &Vocabulary, text: &str, parse_control: bool) -> Vec<Found> {
        let longest = self.longest_at_each_start(vocabulary, text, parse_control);
        let mut candidates: BinaryHeap<(usize, Reverse<usize>, u32)> = longest
            .iter()
            .enumerate()
            .filter_map(|(start, &pattern)| {
                let id = *self.ids.get((pattern as usize).checked_sub(1)?)?;
                Some((vocabulary.bytes(id).len(), Reverse(start), id))
            })
            .collect();
        let mut taken = vec![false; if candidates.is_empty() { 0 } else { text.len() }];
        let mut found = Vec::new();
        while let Some((length, Reverse(start), id)) = candidates.pop() {
            // What is taken so far is at least as long, so it cannot lie inside this candidate without touching its ends.
            if taken[start] {
                continue;
            }
            if taken[start + length - 1] {
                let free = taken[start..].iter().take_while(|&&taken| !taken).count();
                let shorter = self.longest_within(vocabulary, &text.as_bytes()[start..start + free], parse_control);
                candidates.extend(shorter.map(|id| (vocabulary.bytes(id).len(), Reverse(start), id)));
                continue;
            }
            let (mut from, mut resume) = (start, start + length);
            let is_free_space = |at: usize| !taken[at] && is_space(text.as_bytes()[at]);
            if self.strips_right(vocabulary.bytes(id)) {
                resume += (resume..text.len()).take_while(|&at| is_free_space(at)).count();
            }
            if self.strips_left(vocabulary.bytes(id)) {
                from -= (0..from).rev().take_while(|&at| is_free_space(at)).count();
            }
            taken[from..resume].fill(true);
            found.push(Found { start: from, resume, id });
        }
        found.sort_unstable_by_key(|found| found.start);
        found
    }

    /// For each byte of the text: 1 + the pattern of the longest token that starts there, or 0. Empty when there is none.
    fn longest_at_each_start(&self, vocabulary: &Vocabulary, text: &str, parse_control: bool) -> Vec<u32> {
        let mut longest = Vec::new();
        let Some(automaton) = &self.automaton else { return longest };
        // Matches come in the order of their ends: of those with one start, the longest comes last.
        for found in automaton.find_overlapping_iter(text) {
            let pattern = found.pattern().as_usize();
            if is_kind_special(vocabulary.kind(self.ids[pattern]), parse_control) {
                longest.resize(text.len(), 0);
                longest[found.start()] = pattern as u32 + 1;
            }
        }
        longest
    }

    /// The longest special token that `text` begins with.
    fn longest_within(&self, vocabulary: &Vocabulary, text: &[u8], parse_control: bool) -> Option<u32> {
        let fitting = self.lengths.partition_point(|&length| length > text.len());
        self.lengths[fitting..].iter().find_map(|&length| {
            vocabulary.find(&text[..length]).filter(|&id| is_kind_special(vocabulary.kind(id), parse_control))
        })
    }

    fn strips_right(&self, token: &[u8]) -> bool {
        self.strip == Strip::RightOfMost && !NEVER_STRIPPED.contains(&token)
    }

    fn strips_left(&self, token: &[u8]) -> bool {
        matches!(self.strip, Strip::LeftOf(text) if text.as_bytes() == token)
    }
}

/// A noncharacter of Unicode, which no text holds: it stands inside the control tokens that a caller wrote.
const GUARD: char = '\u{FDD0}';

impl SpecialTokens {
    /// The text with a guard inside every control token that is written in it, and after a beginning of one at its end, so
    /// that none of them is found when it has become part of a longer text. [`unguarded`] takes the guards out again.
    /// (A control token of a single character cannot be guarded; no vocabulary has one.)
    pub fn guard(&self, vocabulary: &Vocabulary, text: &str) -> String {
        let text = unguarded(text);
        let starts = self.longest_at_each_start(vocabulary, &text, true);
        let is_control = |start: usize| match starts.get(start) {
            None | Some(0) => false,
            Some(_) => true,
        };
        let mut out = String::with_capacity(text.len() + 3);
        for (start, c) in text.char_indices() {
            out.push(c);
            if is_control(start) {
                out.push(GUARD);
            }
        }
        let begins_one = |end: &[u8]| self.ids.iter().any(|&id| vocabulary.bytes(id).starts_with(end));
        let longest = self.lengths.first().copied().unwrap_or(0);
        let from = text.len().saturating_sub(longest);
        if (from..text.len()).any(|at| text.is_char_boundary(at) && begins_one(&text.as_bytes()[at..])) {
            out.push(GUARD);
        }
        out
    }
}

/// The text without guards.
pub(super) fn unguarded(text: &str) -> Cow<'_, str> {
    if text.contains(GUARD) { text.replace(GUARD, "").into() } else { text.into() }
}

fn is_kind_special(kind: TokenKind, parse_control: bool) -> bool {
    match kind {
        TokenKind::UserDefined => true,
        TokenKind::Control | TokenKind::Marker | TokenKind::Unknown => parse_control,
        TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => false,
    }
}

/// White space as C's `isspace` has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::vocabulary::ByteStrings;
    use proptest::prelude::*;

    fn vocabulary(tokens: &[(&str, TokenKind)]) -> Vocabulary {
        let mut strings = ByteStrings::default();
        tokens.iter().for_each(|(token, _)| strings.push(token.as_bytes()).unwrap());
        Vocabulary::new(strings, tokens.iter().map(|(_, kind)| *kind).collect())
    }

    fn user_defined(tokens: &[&'static str]) -> Vocabulary {
        vocabulary(&tokens.iter().map(|&token| (token, TokenKind::UserDefined)).collect::<Vec<_>>())
    }

    /// The fragments with `[…]` around tokens.
    fn show(vocabulary: &Vocabulary, text: &str, parse_control: bool, strip: Strip) -> String {
        let special = SpecialTokens::new(vocabulary, strip).unwrap();
        let parts = special.split(vocabulary, text, parse_control).into_iter().map(|fragment| match fragment {
            Fragment::Text(text) => text.to_owned(),
            Fragment::Token(id) => format!("[{}]", String::from_utf8_lossy(vocabulary.bytes(id))),
        });
        parts.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn control_tokens_only_on_request() {
        let v = vocabulary(&[("<u>", TokenKind::UserDefined), ("<c>", TokenKind::Control), ("", TokenKind::Control)]);
        assert_eq!(show(&v, "a<u>b<c>", false, Strip::None), "a|[<u>]|b<c>");
        assert_eq!(show(&v, "a<u>b<c>", true, Strip::None), "a|[<u>]|b|[<c>]");
        assert_eq!(show(&v, "", true, Strip::None), "");
    }

    #[test]
    fn guarded_control_tokens_stay_text_wherever_they_end_up() {
        let v = vocabulary(&[("<c>", TokenKind::Control), ("<c>x", TokenKind::Control), ("c><", TokenKind::Control)]);
        let special = SpecialTokens::new(&v, Strip::None).unwrap();
        for parts in [&["a<c>x<c>b"][..], &["<", "c>"], &["<c", "><", "c>"], &["a\u{FDD0}<", "\u{FDD0}c>"]] {
            let text: String = parts.iter().map(|part| special.guard(&v, part)).collect();
            assert!(special.split(&v, &text, true).iter().all(|part| matches!(part, Fragment::Text(_))), "{parts:?}");
            assert_eq!(unguarded(&text), parts.concat().replace(GUARD, ""));
        }
        assert_eq!(special.guard(&v, "nothing special"), "nothing special");
    }

    #[test]
    fn the_longest_goes_first_wherever_it_is() {
        assert_eq!(show(&user_defined(&["ab", "bcd"]), "abcd", true, Strip::None), "a|[bcd]");
        assert_eq!(show(&user_defined(&["ab", "a", "bcd"]), "abcd", true, Strip::None), "[a]|[bcd]");
        assert_eq!(show(&user_defined(&["aa", "aaa"]), "aaaaaaaa", true, Strip::None), "[aaa]|[aaa]|[aa]");
    }

    #[test]
    fn phi3_strips_white_space_after_most() {
        let v = vocabulary(&[("<|user|>", TokenKind::Control), ("<s>", TokenKind::Control)]);
        assert_eq!(show(&v, "<|user|> \n hi <|user|>\n", true, Strip::RightOfMost), "[<|user|>]|hi |[<|user|>]");
        assert_eq!(show(&v, "<s> \n hi", true, Strip::RightOfMost), "[<s>]| \n hi");
    }

    #[test]
    fn a_mask_strips_white_space_before_it() {
        let v = vocabulary(&[("<mask>", TokenKind::Control), ("<s>", TokenKind::Control)]);
        let show = |text| show(&v, text, true, Strip::LeftOf("<mask>"));
        assert_eq!(show("a \n<mask> b <s>  <mask><mask>"), "a|[<mask>]| b |[<s>]|[<mask>]|[<mask>]");
        assert_eq!(show("  <mask>"), "[<mask>]");
    }

    /// What it is meant to do, step by step: every token in turn, longest first, splits what is still text.
    fn naive(vocabulary: &Vocabulary, text: &str) -> String {
        let mut ids: Vec<u32> = (0..vocabulary.len() as u32).collect();
        ids.sort_by_key(|&id| Reverse(vocabulary.bytes(id).len()));
        let mut parts = vec![text.to_owned()];
        for id in ids {
            let token = String::from_utf8_lossy(vocabulary.bytes(id)).into_owned();
            let split = |part: String| -> Vec<String> {
                if part.starts_with('[') {
                    return vec![part];
                }
                let texts: Vec<_> = part.split(&token).map(str::to_owned).collect();
                let joined = texts.join("\0");
                joined
                    .split_inclusive('\0')
                    .flat_map(|piece| match piece.strip_suffix('\0') {
                        Some(text) => vec![text.to_owned(), format!("[{token}]")],
                        None => vec![piece.to_owned()],
                    })
                    .filter(|piece| !piece.is_empty())
                    .collect()
            };
            parts = parts.into_iter().flat_map(split).collect();
        }
        parts.retain(|part| !part.is_empty());
        parts.join("|")
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(text in "[abcdé]{0,40}") {
            // No two of one length can overlap: their order is not defined.
            let v = user_defined(&["abcd", "bcd", "cé", "d"]);
            prop_assert_eq!(show(&v, &text, true, Strip::None), naive(&v, &text));
        }
    }
}
