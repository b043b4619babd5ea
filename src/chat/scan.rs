//! The outer structure of a template: text, tags and the tokens in them, as `minijinja`'s own lexer sees them.
//!
//! Whatever this lexer cannot make sense of is refused, so that nothing reaches `minijinja` unseen.

use super::Error;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Symbol,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'s> {
    pub kind: Kind,
    pub text: &'s str,
    /// Where it begins, in bytes from the beginning of the source.
    pub at: usize,
}

impl Token<'_> {
    pub fn end(&self) -> usize {
        self.at + self.text.len()
    }
}

#[derive(Debug)]
pub(super) enum Piece<'s> {
    Text { text: &'s str, at: usize },
    Raw { text: &'s str, at: usize },
    Tag { is_block: bool, tokens: Vec<Token<'s>> },
}

pub(super) fn syntax_error(source: &str, at: usize, reason: impl std::fmt::Display) -> Error {
    let line = 1 + source.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count();
    Error::Template(format!("chat template, line {line}: {reason}"))
}

/// Takes a template apart. Comments are left out.
pub(super) fn scan(source: &str) -> Result<Vec<Piece<'_>>, Error> {
    let mut scanner = Scanner { source, at: 0 };
    let mut pieces = Vec::new();
    while scanner.at < source.len() {
        let text_at = scanner.at;
        let text_end = scanner.find_tag().unwrap_or(source.len());
        if text_end > text_at {
            pieces.push(Piece::Text { text: &source[text_at..text_end], at: text_at });
        }
        scanner.at = text_end;
        if text_end < source.len() {
            pieces.extend(scanner.tag()?);
        }
    }
    Ok(pieces)
}

struct Scanner<'s> {
    source: &'s str,
    at: usize,
}

impl<'s> Scanner<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn error(&self, reason: impl std::fmt::Display) -> Error {
        syntax_error(self.source, self.at, reason)
    }

    fn find_tag(&self) -> Option<usize> {
        let bytes = self.source.as_bytes();
        (self.at..bytes.len()).find(|&at| bytes[at] == b'{' && matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')))
    }

    /// One tag, from its opening marker to behind its closing one.
    fn tag(&mut self) -> Result<Option<Piece<'s>>, Error> {
        let opened = self.at;
        let marker = &self.source[opened..opened + 2];
        self.at += 2;
        if self.rest().starts_with(['-', '+']) {
            self.at += 1;
        }
        match marker {
            "{#" => {
                let Some(length) = self.rest().find("#}") else {
                    return Err(syntax_error(self.source, opened, "the comment has no end"));
                };
                self.at += length + 2;
                Ok(None)
            }
            "{%" => match bare_tag(self.rest(), "raw") {
                Some(length) => {
                    self.at += length;
                    self.raw(opened).map(Some)
                }
                None => Ok(Some(Piece::Tag { is_block: true, tokens: self.tokens(opened, "%}")? })),
            },
            _ => Ok(Some(Piece::Tag { is_block: false, tokens: self.tokens(opened, "}}")? })),
        }
    }

    /// What is between `{% raw %}` and `{% endraw %}`.
    fn raw(&mut self, opened: usize) -> Result<Piece<'s>, Error> {
        let begin = self.at;
        while let Some(length) = self.rest().find("{%") {
            let end = self.at + length;
            self.at = end + 2;
            let inner = self.rest().strip_prefix(['-', '+']).unwrap_or(self.rest());
            if let Some(tag) = bare_tag(inner, "endraw") {
                self.at = self.source.len() - inner.len() + tag;
                return Ok(Piece::Raw { text: &self.source[begin..end], at: begin });
            }
        }
        Err(syntax_error(self.source, opened, "the raw block has no end"))
    }

    fn tokens(&mut self, opened: usize, end: &str) -> Result<Vec<Token<'s>>, Error> {
        let mut tokens = Vec::new();
        let mut open_brackets = 0u32;
        loop {
            self.at = self.source.len() - self.rest().trim_ascii_start().len();
            if open_brackets == 0 {
                let unsigned = self.rest().strip_prefix(['-', '+']).filter(|rest| rest.starts_with(end));
                if let Some(rest) = unsigned.unwrap_or(self.rest()).strip_prefix(end) {
                    self.at = self.source.len() - rest.len();
                    return Ok(tokens);
                }
            }
            let Some(first) = self.rest().chars().next() else {
                return Err(syntax_error(self.source, opened, format!("the tag has no end, expected `{end}`")));
            };
            match first {
                '(' | '[' | '{' => open_brackets += 1,
                ')' | ']' | '}' if open_brackets == 0 => return Err(self.error(format!("unexpected `{first}`"))),
                ')' | ']' | '}' => open_brackets -= 1,
                _ => {}
            }
            tokens.push(self.token(first)?);
        }
    }

    fn token(&mut self, first: char) -> Result<Token<'s>, Error> {
        let rest = self.rest();
        let (kind, length) = match first {
            '"' | '\'' => (Kind::Text, text_length(rest, first).ok_or_else(|| self.error("the string has no end"))?),
            '0'..='9' => (Kind::Number, number_length(rest)),
            'a'..='z' | 'A'..='Z' | '_' => (Kind::Name, name_length(rest)),
            _ if ["//", "**", "==", "!=", ">=", "<="].iter().any(|symbol| rest.starts_with(symbol)) => {
                (Kind::Symbol, 2)
            }
            _ if "+-*/%.,:~|=<>()[]{}".contains(first) => (Kind::Symbol, 1),
            _ => return Err(self.error(format!("unexpected character `{first}`"))),
        };
        let token = Token { kind, text: &rest[..length], at: self.at };
        self.at += length;
        Ok(token)
    }
}

/// The length of ` name -%}`, if that is what stands here.
fn bare_tag(text: &str, name: &str) -> Option<usize> {
    let rest = text.trim_ascii_start().strip_prefix(name)?.trim_ascii_start();
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(text.len() - rest.len())
}

fn text_length(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if char == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    text.bytes().take_while(|&byte| byte.is_ascii_alphanumeric() || byte == b'_').count()
}

/// Digits with what may stand in a number: `0xff`, `1_000`, `1.5`, `1e-5`.
fn number_length(text: &str) -> usize {
    let whole = name_length(text);
    let is_radix = text.len() > 1 && matches!(text.as_bytes()[1] | 0x20, b'x' | b'o' | b'b') && text.starts_with('0');
    if is_radix {
        return whole;
    }
    let fraction = match text[whole..].strip_prefix('.') {
        Some(rest) if rest.starts_with(|char: char| char.is_ascii_digit()) => 1 + name_length(rest),
        _ => 0,
    };
    let length = whole + fraction;
    let mut exponent = text[length..].chars();
    let has_sign =
        matches!(exponent.next(), Some('+' | '-')) && exponent.next().is_some_and(|char| char.is_ascii_digit());
    if text[..length].ends_with(['e', 'E']) && has_sign {
        return length + 1 + name_length(&text[length + 1..]);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(source: &str) -> String {
        let pieces = scan(source).unwrap().into_iter().map(|piece| match piece {
            Piece::Text { text, .. } => format!("{text:?}"),
            Piece::Raw { text, .. } => format!("raw {text:?}"),
            Piece::Tag { is_block, tokens } => {
                let tokens: Vec<&str> = tokens.iter().map(|token| token.text).collect();
                format!("{}({})", if is_block { "block" } else { "print" }, tokens.join(" "))
            }
        });
        pieces.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn finds_tags_and_their_tokens() {
        assert_eq!(
            outline("a{%- if x.y|f != '%}' -%}b{# {{ #}{{-1.5e-3}}"),
            r#""a" block(if x . y | f != '%}') "b" print(1.5e-3)"#
        );
        assert_eq!(
            outline("{{ {'a': {}}}}{ {% raw %}{{ x }}{%- endraw %}"),
            r#"print({ 'a' : { } }) "{ " raw "{{ x }}""#
        );
        assert_eq!(outline(r#"{{ "\"}}" ~ 0xfe+1 // 2**x[1:] }}"#), r#"print("\"}}" ~ 0xfe + 1 // 2 ** x [ 1 : ])"#);
    }

    #[test]
    fn says_where_it_lost_its_way() {
        for (source, expected) in [
            ("\n\n{{ 'a }}", "line 3: the string has no end"),
            ("\n{% if x ", "line 2: the tag has no end, expected `%}`"),
            ("{# ", "line 1: the comment has no end"),
            ("{% raw %} {% end %}", "line 1: the raw block has no end"),
            ("{{ a ? b }}", "line 1: unexpected character `?`"),
            ("{{ a) }}", "line 1: unexpected `)`"),
        ] {
            assert_eq!(scan(source).unwrap_err().to_string(), format!("chat template, {expected}"));
        }
    }
}
