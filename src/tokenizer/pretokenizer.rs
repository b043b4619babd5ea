//! Splitting text into the pieces inside which byte-level BPE merges.
use super::Error;
use super::styles::{Pass, Spaces, Style};
use regex::Regex;

/// The passes of a style, compiled.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    passes: Vec<Compiled>,
}

#[derive(Debug)]
enum Compiled {
    Matches(Regex, Spaces),
    /// The runs of numbers.
    NumbersFromTheRight(Regex),
    /// The runs of digits.
    DigitsFromTheRight(Regex),
}

impl Pretokenizer {
    pub fn new(style: &Style) -> Result<Self, Error> {
        let regex = |pattern| {
            Regex::new(pattern)
                .map_err(|e| Error::Unsupported(format!("the pre-tokenizer {:?} cannot be built: {e}", style.names[0])))
        };
        let compile = |pass: &Pass| -> Result<Compiled, Error> {
            Ok(match *pass {
                Pass::Matches { pattern, spaces } => Compiled::Matches(regex(pattern)?, spaces),
                Pass::NumbersFromTheRight => Compiled::NumbersFromTheRight(regex(r"\p{N}+")?),
                Pass::DigitsFromTheRight => Compiled::DigitsFromTheRight(regex("[0-9]+")?),
            })
        };
        Ok(Self { passes: style.passes.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// The pieces of `text` in order; together they are the text, and none is empty.
    pub fn split<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut ends = if text.is_empty() { vec![] } else { vec![text.len()] };
        for pass in &self.passes {
            ends = split_pieces(text, &ends, pass);
        }
        let mut start = 0;
        ends.into_iter().map(move |end| &text[std::mem::replace(&mut start, end)..end])
    }
}

/// Splits every piece of `text` (given by where it ends) further; returns where the new pieces end.
fn split_pieces(text: &str, ends: &[usize], pass: &Compiled) -> Vec<usize> {
    let mut new_ends = Vec::with_capacity(ends.len().max(text.len() / 4));
    let mut start = 0;
    for &end in ends {
        // Look-around stops at the ends of a piece, so the piece alone is searched.
        let piece = &text[start..end];
        let mut last = start;
        let mut cut = |at: usize| {
            if start + at > last {
                last = start + at;
                new_ends.push(last);
            }
        };
        match pass {
            Compiled::Matches(regex, spaces) => cut_at_matches(piece, regex, *spaces, &mut cut),
            Compiled::NumbersFromTheRight(numbers) => {
                for run in numbers.find_iter(piece) {
                    let count = run.as_str().chars().count();
                    cut_every_third(piece, run, (count + 2) % 3 + 1, &mut cut);
                }
            }
            Compiled::DigitsFromTheRight(digits) => {
                for run in digits.find_iter(piece).filter(|run| run.len() >= 3) {
                    // Nothing is cut after the run.
                    let from_the_right = (0..run.len()).filter(|at| (run.len() - at) % 3 == 0);
                    from_the_right.for_each(|at| cut(run.start() + at));
                }
            }
        }
        cut(piece.len());
        start = end;
    }
    new_ends
}

/// Cuts a run after its first `first` characters and then after every third one.
fn cut_every_third(piece: &str, run: regex::Match, first: usize, cut: &mut impl FnMut(usize)) {
    let mut left = first;
    for (at, character) in piece[run.range()].char_indices() {
        left -= 1;
        if left == 0 {
            cut(run.start() + at + character.len_utf8());
            left = 3;
        }
    }
}

fn cut_at_matches(piece: &str, regex: &Regex, spaces: Spaces, cut: &mut impl FnMut(usize)) {
    let mut at = 0;
    while let Some(found) = regex.find_at(piece, at) {
        if found.is_empty() {
            break;
        }
        cut(found.start());
        at = match spaces {
            Spaces::AsMatched => found.end(),
            Spaces::LeaveLast => leave_last(piece, found, true),
            Spaces::LeaveLastOfLine => leave_last(piece, found, false),
            Spaces::PowersOfTwo => cut_powers_of_two(piece, found, cut),
        };
        cut(at);
    }
}

/// The white space that a match ends with: no alternative but the last, `\s+`, ends with any (but line ends).
fn ends_with_spaces(found: &regex::Match, line_ends: bool) -> Option<char> {
    let last = found.as_str().chars().next_back()?;
    (last.is_whitespace() && (line_ends || !matches!(last, '\r' | '\n'))).then_some(last)
}

/// Where a match ends when it leaves its last space to what follows.
fn leave_last(piece: &str, found: regex::Match, line_ends: bool) -> usize {
    match ends_with_spaces(&found, line_ends) {
        Some(last) if found.end() < piece.len() && found.len() > last.len_utf8() => found.end() - last.len_utf8(),
        _ => found.end(),
    }
}

/// Cuts a match of white space into pieces; returns where the next match may begin.
fn cut_powers_of_two(piece: &str, found: regex::Match, cut: &mut impl FnMut(usize)) -> usize {
    if ends_with_spaces(&found, false).is_none() {
        return found.end();
    }
    let is_followed = found.end() < piece.len();
    let mut left = found.as_str().chars().count();
    let mut characters = found.as_str().char_indices().map(|(at, character)| found.start() + at + character.len_utf8());
    let mut end = found.start();
    // A single space that something follows may belong to that.
    while left > 1 {
        let usable = if is_followed { left - 1 } else { left };
        let size = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(|&size| size <= usable).unwrap_or(1);
        end = characters.nth(size - 1).unwrap_or(found.end());
        cut(end);
        left -= size;
    }
    if left == 1 && (!is_followed || end == found.start()) { found.end() } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::styles::{STYLES, style};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn pieces(name: &str, text: &str) -> Vec<String> {
        let pretokenizer = Pretokenizer::new(style(name).unwrap()).unwrap();
        pretokenizer.split(text).map(str::to_owned).collect()
    }

    #[test]
    fn gpt2() {
        assert_eq!(
            pieces("gpt-2", "I'm  12345\n\n\nhi !? "),
            ["I", "'m", " ", " 12345", "\n\n", "\n", "hi", " !?", " "]
        );
        assert_eq!(pieces("gpt-2", "a \t b"), ["a", " \t", " b"]);
        assert_eq!(pieces("gpt-2", "a\tb"), ["a", "\t", "b"]);
        assert_eq!(pieces("gpt-2", ""), [""; 0]);
    }

    #[test]
    fn llama3() {
        assert_eq!(
            pieces("llama3", "I'LL  12345 \n \n\thi!?\n\nx"),
            ["I", "'LL", " ", " ", "123", "45", " \n \n", "\thi", "!?\n\n", "x"]
        );
        assert_eq!(pieces("llama-v3", "   x   1   "), ["  ", " x", "  ", " ", "1", "   "]);
    }

    #[test]
    fn qwen2() {
        assert_eq!(pieces("qwen2", "a 12\u{a0}\u{a0}b"), ["a", " ", "1", "2", "\u{a0}", "\u{a0}b"]);
    }

    #[test]
    fn default_style_has_four_passes() {
        assert_eq!(pieces("default", "x=12345  (a)"), ["x", "=", "123", "45", "  ", "(", "a", ")"]);
        assert_eq!(pieces("", "x=1"), ["x", "=", "1"]);
    }

    #[test]
    fn other_names_are_refused_by_name() {
        let Err(Error::Unsupported(message)) = style("nosuch") else { panic!("accepted") };
        assert!(message.contains("\"nosuch\"") && message.contains("llama-bpe"), "{message}");
    }

    #[test]
    fn no_name_is_listed_twice() {
        let names: Vec<_> = STYLES.iter().flat_map(|style| style.names).collect();
        assert_eq!(names.len(), names.iter().collect::<std::collections::HashSet<_>>().len());
    }

    static ALL: LazyLock<Vec<Pretokenizer>> =
        LazyLock::new(|| STYLES.iter().map(|style| Pretokenizer::new(style).unwrap()).collect());

    proptest! {
        #[test]
        fn pieces_are_the_text(text in "\\PC*|[ \\t\\r\\na1!']*") {
            for pretokenizer in ALL.iter() {
                let joined: Vec<_> = pretokenizer.split(&text).collect();
                prop_assert!(joined.iter().all(|piece| !piece.is_empty()));
                prop_assert_eq!(joined.concat(), text.clone());
            }
        }
    }
}
