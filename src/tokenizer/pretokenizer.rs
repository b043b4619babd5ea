//! Splitting text into the pieces inside which byte-level BPE merges.
use super::Error;
use regex::Regex;

/// One splitting of every piece: at the matches of `pattern`, and of what it leaves unmatched by `rest`.
///
/// The published patterns end in `\s+(?!\S)` or `\s+(?!\S)|\s+`, their only look-around. Here that part is
/// [`Rest::SpacesButLast`] instead, and the other alternatives are an ordinary regular expression, which matches in
/// linear time whatever the text.
struct Pass {
    pattern: &'static str,
    rest: Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// A piece of its own.
    Whole,
    /// White space (the pattern matches everything else) is a piece without its last character when something other
    /// than white space follows: that character is a piece of its own.
    SpacesButLast,
}

/// A way to prepare text for BPE, under the names that files call it by (`tokenizer.ggml.pre`).
pub(super) struct Style {
    names: &'static [&'static str],
    passes: &'static [Pass],
    /// A piece that is a token is taken whole, even where the merges do not lead to it.
    pub ignore_merges: bool,
    /// Does a text begin with BOS when the file does not say?
    pub add_bos: bool,
}

/// Letters, digits and the rest apart, each with the space before it (Radford et al. 2019).
const GPT2: Pass =
    Pass { pattern: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+", rest: Rest::SpacesButLast };

/// Llama 3: line ends stay together, digits come in threes.
const LLAMA3: Pass = Pass {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    rest: Rest::SpacesButLast,
};

/// Qwen 2: as Llama 3, every digit alone.
const QWEN2: Pass = Pass {
    pattern: concat!(
        r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    ),
    rest: Rest::SpacesButLast,
};

const STYLES: &[Style] = &[
    Style {
        names: &["default", ""],
        passes: &[
            Pass { pattern: r"[\p{P}$+<=>^~|]+", rest: Rest::Whole },
            GPT2,
            Pass { pattern: r"\p{N}+", rest: Rest::Whole },
            Pass { pattern: "[0-9][0-9][0-9]", rest: Rest::Whole },
        ],
        ignore_merges: false,
        add_bos: false,
    },
    Style {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        passes: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    Style { names: &["dbrx", "smaug-bpe"], passes: &[LLAMA3], ignore_merges: false, add_bos: false },
    Style {
        names: &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "trillion",
            "granite-docling",
        ],
        passes: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Style {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"],
        passes: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
];

/// The style that a file names.
pub(super) fn style(name: &str) -> Result<&'static Style, Error> {
    STYLES.iter().find(|style| style.names.contains(&name)).ok_or_else(|| {
        let known: Vec<_> = STYLES.iter().map(|style| style.names[0]).collect();
        Error::Unsupported(format!(
            "tokenizer.ggml.pre is {name:?}, a pre-tokenizer this version does not have (it has {})",
            known.join(", ")
        ))
    })
}

/// The passes of a style, compiled.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    passes: Vec<(Regex, Rest)>,
}

impl Pretokenizer {
    pub fn new(style: &Style) -> Result<Self, Error> {
        let compile = |pass: &Pass| match Regex::new(pass.pattern) {
            Ok(regex) => Ok((regex, pass.rest)),
            Err(e) => Err(Error::Unsupported(format!("the pre-tokenizer {:?} cannot be built: {e}", style.names[0]))),
        };
        Ok(Self { passes: style.passes.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// The pieces of `text` in order; together they are the text, and none is empty.
    pub fn split<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut ends = if text.is_empty() { vec![] } else { vec![text.len()] };
        for (regex, rest) in &self.passes {
            ends = split_pieces(text, &ends, regex, *rest);
        }
        let mut start = 0;
        ends.into_iter().map(move |end| &text[std::mem::replace(&mut start, end)..end])
    }
}

/// Splits every piece of `text` (given by where it ends) further; returns where the new pieces end.
fn split_pieces(text: &str, ends: &[usize], regex: &Regex, rest: Rest) -> Vec<usize> {
    let mut new_ends = Vec::with_capacity(ends.len().max(text.len() / 4));
    let mut start = 0;
    for &end in ends {
        // Look-around stops at the ends of a piece, so the piece alone is searched.
        let piece = &text[start..end];
        let mut done = 0;
        for found in regex.find_iter(piece).filter(|found| !found.is_empty()) {
            split_rest(piece, done, found.start(), rest, |end| new_ends.push(start + end));
            new_ends.push(start + found.end());
            done = found.end();
        }
        split_rest(piece, done, piece.len(), rest, |end| new_ends.push(start + end));
        start = end;
    }
    new_ends
}

/// Splits `piece[start..end]`, which the pattern left over.
fn split_rest(piece: &str, start: usize, end: usize, rest: Rest, mut push_end: impl FnMut(usize)) {
    if start == end {
        return;
    }
    let is_followed = piece[end..].chars().next().is_some_and(|next| !next.is_whitespace());
    if rest == Rest::SpacesButLast && is_followed {
        let last = piece[start..end].chars().next_back().map_or(0, char::len_utf8);
        if end - last > start {
            push_end(end - last);
        }
    }
    push_end(end);
}

#[cfg(test)]
mod tests {
    use super::*;
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
