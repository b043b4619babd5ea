//! Rewrites a template so that work which depends on data goes through the filters of [`super::library`] that charge.
//!
//! | in the template | becomes | because |
//! |---|---|---|
//! | `a ~ b` | `(a\|__str) ~ (b\|__str)` | text doubles with every step; also writes values as Python does |
//! | `a + b`, `a == b`, `a in b`, `a < b` … | `(a\|__settle) + (b\|__settle)` … | one instruction copies or compares it all |
//! | `a * b` | `(a\|__factor) * (b\|__factor)` | a short expression makes megabytes |
//! | `a\|filter` | `a\|__settle_top\|filter` | one instruction looks at every element |
//! | `a[b:c]`, `[a, b]`, `{a: b}` | `(a[b:c]\|__settle_top)`, `([a, b]\|__settle)` … | slices are lazy; literals nest |
//! | `{% set a = b %}` | `{% set a = ((b)\|__settle) %}` | what is kept must not nest without end |
//! | `{% set a.x = b %}` | `{% set a.x = ((b)\|__settle_attribute) %}` | a namespace must not contain itself |
//! | long text | `{{ 999\|__text }}text` | a loop in a captured block writes it without a charge |
//! | `{% generation %}` | `{% with %}` | marks assistant text for training; here a scope that renders its body |
//!
//! Lines stay where they were, so `minijinja`'s errors name the right one.

use super::Error;
use super::scan::{Kind, Piece, Token, scan, syntax_error};

/// The longest template. The longest of known models has some 30 KiB.
const MAX_SOURCE: usize = 512 << 10;
/// `{% elif %}` and blocks nest, and `minijinja` recurses into what nests.
const MAX_TAGS: usize = 10_000;
/// So does every operator in an expression.
const MAX_TOKENS_IN_TAG: usize = 4096;
const MAX_BRACKETS: usize = 100;
/// Text up to this length is written for the price of its instruction.
const FREE_TEXT: usize = 64;
/// White space cannot be split without changing what `-%}` strips, so it stays free and short.
const MAX_WHITE_SPACE: usize = 1024;
const MAX_RAW: usize = 4096;

pub(super) fn harden(source: &str) -> Result<String, Error> {
    if source.len() > MAX_SOURCE {
        return Err(Error::Template(format!("the chat template has {} bytes, at most {MAX_SOURCE}", source.len())));
    }
    let pieces = scan(source)?;
    if pieces.len() > MAX_TAGS {
        return Err(Error::Template(format!(
            "the chat template has {} tags and texts, at most {MAX_TAGS}",
            pieces.len()
        )));
    }

    let mut edits = Edits::default();
    for piece in &pieces {
        match piece {
            Piece::Text { text, at } => charge_text(source, text, *at, &mut edits)?,
            Piece::Raw { text, at } if text.len() > MAX_RAW => {
                let length = text.len();
                return Err(syntax_error(source, *at, format!("a raw block of {length} bytes, at most {MAX_RAW}")));
            }
            Piece::Raw { .. } => {}
            Piece::Tag { is_block, tokens } => rewrite_tag(source, *is_block, tokens, &mut edits)?,
        }
    }
    Ok(edits.apply(source))
}

/// Replacements of parts of the source. Parts do not overlap; several may begin at one place.
#[derive(Default)]
struct Edits(Vec<(usize, usize, String)>);

impl Edits {
    fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.0.push((at, at, text.into()));
    }

    fn replace(&mut self, token: &Token, text: &str) {
        self.0.push((token.at, token.end(), text.to_owned()));
    }

    fn wrap(&mut self, from: usize, to: usize, filter: &str) {
        self.insert(from, "(");
        self.insert(to, format!("|{filter})"));
    }

    fn apply(mut self, source: &str) -> String {
        // Stable: what was inserted first at a place, the inner pair, stays first.
        self.0.sort_by_key(|edit| edit.0);
        let mut output = String::with_capacity(source.len() * 2);
        let mut done = 0;
        for (from, to, text) in self.0 {
            output.push_str(&source[done..from]);
            output.push_str(&text);
            done = to;
        }
        output.push_str(&source[done..]);
        output
    }
}

/// Puts the charge for a long text before its first visible character: a place where nothing is stripped.
fn charge_text(source: &str, text: &str, at: usize, edits: &mut Edits) -> Result<(), Error> {
    if text.len() <= FREE_TEXT {
        return Ok(());
    }
    match text.char_indices().find(|(_, char)| !char.is_whitespace()) {
        Some((start, _)) if start <= MAX_WHITE_SPACE => {
            edits.insert(at + start, format!("{{{{ {}|__text }}}}", text.len()));
            Ok(())
        }
        None if text.len() <= MAX_WHITE_SPACE => Ok(()),
        _ => Err(syntax_error(source, at, format!("more than {MAX_WHITE_SPACE} bytes of white space"))),
    }
}

fn rewrite_tag(source: &str, is_block: bool, tokens: &[Token], edits: &mut Edits) -> Result<(), Error> {
    let Some(first) = tokens.first() else { return Ok(()) };
    if tokens.len() > MAX_TOKENS_IN_TAG {
        let reason = format!("a tag of {} tokens, at most {MAX_TOKENS_IN_TAG}", tokens.len());
        return Err(syntax_error(source, first.at, reason));
    }
    if !is_block {
        return Expressions::rewrite(source, tokens, edits);
    }
    // The part before the expression is syntax of the tag.
    let behind = |symbol: &str| tokens.iter().position(|token| token.text == symbol).map(|index| index + 1);
    match first.text {
        "generation" if tokens.len() == 1 => edits.replace(first, "with"),
        "endgeneration" if tokens.len() == 1 => edits.replace(first, "endwith"),
        "set" => match behind("=").filter(|&start| tokens[..start].iter().all(|token| token.text != "|")) {
            Some(start) => rewrite_assignment(source, &tokens[..start], &tokens[start..], edits)?,
            // `{% set a | filter %}` takes the text up to `{% endset %}`.
            None => Expressions::rewrite(source, &tokens[1..], edits)?,
        },
        "for" => Expressions::rewrite(source, &tokens[behind("in").unwrap_or(1)..], edits)?,
        // `{% call(a, b) macro() %}`: the first brackets hold names.
        "call" if tokens.get(1).is_some_and(|token| token.text == "(") => {
            Expressions::rewrite(source, &tokens[behind(")").unwrap_or(1)..], edits)?;
        }
        _ => Expressions::rewrite(source, &tokens[1..], edits)?,
    }
    Ok(())
}

fn rewrite_assignment(source: &str, target: &[Token], value: &[Token], edits: &mut Edits) -> Result<(), Error> {
    let (Some(from), Some(to)) = (value.first(), value.last()) else { return Ok(()) };
    Expressions::rewrite(source, value, edits)?;
    let is_attribute = target.iter().any(|token| token.text == ".");
    // Brackets of its own, because a filter binds tighter than `a, b` and `a if b else c`.
    edits.insert(from.at, "((");
    edits.insert(to.end(), if is_attribute { ")|__settle_attribute)" } else { ")|__settle)" });
    Ok(())
}

/// What stands beside an operand.
#[derive(Clone, Copy, PartialEq)]
enum Neighbour {
    Nothing,
    /// `+ == != < <= > >= in`
    Whole,
    /// `~`
    Concat,
    /// `*`
    Times,
    /// `/ // %`: numbers only, but they bind tighter than `~`.
    Number,
}

/// What stands between the expressions of a bracket, directly.
#[derive(Default)]
struct Separators {
    has_colon: bool,
    has_comma: bool,
}

/// A walk over the operands of a tag's expressions. It needs no precedence: every operand of a charged operator is
/// charged for itself.
struct Expressions<'a, 's> {
    source: &'s str,
    tokens: &'a [Token<'s>],
    next: usize,
    edits: &'a mut Edits,
}

impl<'s> Expressions<'_, 's> {
    fn rewrite(source: &'s str, tokens: &[Token<'s>], edits: &mut Edits) -> Result<(), Error> {
        Expressions { source, tokens, next: 0, edits }.sequence(0).map(|_| ())
    }

    fn text(&self, ahead: usize) -> &'s str {
        self.tokens.get(self.next + ahead).map_or("", |token| if token.kind == Kind::Text { "''" } else { token.text })
    }

    /// Expressions with anything between them, up to a closing bracket.
    fn sequence(&mut self, depth: usize) -> Result<Separators, Error> {
        if depth > MAX_BRACKETS {
            return Err(self.error(format!("brackets nested over {MAX_BRACKETS} deep")));
        }
        let mut separators = Separators::default();
        let mut before = Neighbour::Nothing;
        let mut is_negated = false;
        while let Some(&token) = self.tokens.get(self.next) {
            if is_operand_start(&token) {
                self.operand(before, is_negated, depth)?;
                before = self.operator(depth)?;
                is_negated = false;
                continue;
            }
            match token.text {
                ")" | "]" | "}" => break,
                // A sign, not an operator: operators were read behind their left operand.
                "-" | "+" => is_negated = true,
                "not" => {}
                text => {
                    separators.has_colon |= text == ":";
                    separators.has_comma |= text == ",";
                    before = Neighbour::Nothing;
                }
            }
            self.next += 1;
        }
        Ok(separators)
    }

    /// Reads what stands between an operand and the next: tests (`is defined`) and an operator.
    fn operator(&mut self, depth: usize) -> Result<Neighbour, Error> {
        while self.text(0) == "is" {
            self.next += if self.text(1) == "not" { 3 } else { 2 };
            while self.text(0) == "." {
                self.next += 2;
            }
            if self.text(0) == "(" {
                self.bracket(depth)?;
            }
        }
        if self.text(0) == "**" {
            return Err(self.error("the operator `**` is not supported in chat templates"));
        }
        let (neighbour, length) = self.peek_operator();
        self.next += length;
        Ok(neighbour)
    }

    fn peek_operator(&self) -> (Neighbour, usize) {
        match (self.text(0), self.text(1)) {
            ("not", "in") => (Neighbour::Whole, 2),
            ("+" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "in", _) => (Neighbour::Whole, 1),
            ("~", _) => (Neighbour::Concat, 1),
            ("*", _) => (Neighbour::Times, 1),
            ("/" | "//" | "%", _) => (Neighbour::Number, 1),
            _ => (Neighbour::Nothing, 0),
        }
    }

    /// A literal, a name or a bracket with all that is applied to it: attributes, subscripts, calls, filters.
    fn operand(&mut self, before: Neighbour, is_negated: bool, depth: usize) -> Result<(), Error> {
        let first = self.tokens[self.next];
        let mut is_literal = self.primary(&first, depth)?;
        let mut end = self.tokens[self.next - 1].end();
        loop {
            match self.text(0) {
                "." => self.next += 2,
                "(" => {
                    self.bracket(depth)?;
                }
                "[" => {
                    if self.bracket(depth)?.has_colon {
                        self.edits.wrap(first.at, self.tokens[self.next - 1].end(), "__settle_top");
                    }
                }
                "|" => {
                    if !is_literal {
                        self.edits.insert(end, "|__settle_top");
                    }
                    self.next += 2;
                    while self.text(0) == "." {
                        self.next += 2;
                    }
                    if self.text(0) == "(" {
                        self.bracket(depth)?;
                    }
                }
                _ => break,
            }
            is_literal = false;
            end = self.tokens[self.next.min(self.tokens.len()) - 1].end();
        }

        let after = self.peek_operator().0;
        let beside = |neighbour| before == neighbour || after == neighbour;
        let filter = if beside(Neighbour::Times) {
            "__factor"
        } else if is_literal {
            return Ok(());
        } else if beside(Neighbour::Concat) && !beside(Neighbour::Number) && !is_negated {
            "__str"
        } else if before == Neighbour::Nothing && after == Neighbour::Nothing {
            return Ok(());
        } else {
            "__settle"
        };
        self.edits.wrap(first.at, end, filter);
        Ok(())
    }

    /// Says whether it is a literal that costs nothing to look at.
    fn primary(&mut self, first: &Token, depth: usize) -> Result<bool, Error> {
        match first.text {
            "[" | "{" => {
                let is_empty = matches!(self.text(1), "]" | "}");
                self.bracket(depth)?;
                if !is_empty {
                    self.edits.wrap(first.at, self.tokens[self.next - 1].end(), "__settle");
                }
                Ok(is_empty)
            }
            "(" => {
                // `(a, b)` is a list, too.
                if self.bracket(depth)?.has_comma {
                    self.edits.wrap(first.at, self.tokens[self.next - 1].end(), "__settle");
                }
                Ok(false)
            }
            _ => {
                self.next += 1;
                // Texts beside each other are one.
                while first.kind == Kind::Text && self.tokens.get(self.next).is_some_and(|next| next.kind == Kind::Text)
                {
                    self.next += 1;
                }
                Ok(first.kind != Kind::Name || is_constant(first.text))
            }
        }
    }

    fn bracket(&mut self, depth: usize) -> Result<Separators, Error> {
        self.next += 1;
        let separators = self.sequence(depth + 1)?;
        if self.next >= self.tokens.len() {
            return Err(self.error("a bracket is not closed"));
        }
        self.next += 1;
        Ok(separators)
    }

    fn error(&self, reason: impl std::fmt::Display) -> Error {
        let at = self.tokens.get(self.next.min(self.tokens.len().saturating_sub(1))).map_or(0, |token| token.at);
        syntax_error(self.source, at, reason)
    }
}

fn is_constant(name: &str) -> bool {
    matches!(name, "true" | "True" | "false" | "False" | "none" | "None")
}

fn is_operand_start(token: &Token) -> bool {
    match token.kind {
        Kind::Text | Kind::Number => true,
        Kind::Name => !matches!(token.text, "and" | "or" | "not" | "in" | "is" | "if" | "else"),
        Kind::Symbol => matches!(token.text, "(" | "[" | "{"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_what_the_table_says() {
        for (source, expected) in [
            ("{{ a ~ 'b' ~ c.d }}", "{{ (a|__str) ~ 'b' ~ (c.d|__str) }}"),
            ("{{ a + 1 == b }}", "{{ (a|__settle) + 1 == (b|__settle) }}"),
            ("{{ -a ~ b / c }}", "{{ -(a|__settle) ~ (b|__settle) / (c|__settle) }}"),
            ("{{ a not in b and c }}", "{{ (a|__settle) not in (b|__settle) and c }}"),
            ("{{ a * 3 ~ b }}", "{{ (a|__factor) * (3|__factor) ~ (b|__str) }}"),
            ("{{ a|f(b)|g is h(c) == d }}", "{{ a|__settle_top|f(b)|__settle_top|g is h(c) == (d|__settle) }}"),
            ("{{ a[1:].b[c] }}", "{{ (a[1:]|__settle_top).b[c] }}"),
            (
                "{{ f([], [a], (b, c), (d), k={'e': {}}) }}",
                "{{ f([], ([a]|__settle), ((b, c)|__settle), (d), k=({'e': {}}|__settle)) }}",
            ),
            (
                "{% set a = b, c %}{%- set a.b = c -%}",
                "{% set a = ((b, c)|__settle) %}{%- set a.b = ((c)|__settle_attribute) -%}",
            ),
            (
                "{% set a | f(b=1) %}{% for a in b in c %}",
                "{% set a|__settle_top | f(b=1) %}{% for a in (b|__settle) in (c|__settle) %}",
            ),
            ("{% call(a, b) c() %}{% macro a(b='c') %}", "{% call(a, b) c() %}{% macro a(b='c') %}"),
            ("{%- generation +%}{% endgeneration -%}", "{%- with +%}{% endwith -%}"),
            ("{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}", "{# a ~ b #}{% raw %}{{ a ~ b }}{% endraw %}"),
        ] {
            assert_eq!(harden(source).unwrap(), expected);
        }
    }

    #[test]
    fn charges_long_text_where_nothing_is_stripped() {
        let text = "x".repeat(70);
        assert_eq!(harden(&format!(" \n {text}")).unwrap(), format!(" \n {{{{ 73|__text }}}}{text}"));
    }

    #[test]
    fn refuses_what_is_too_long() {
        for (source, expected) in [
            ("x".repeat(MAX_SOURCE + 1), "at most 524288"),
            ("{{x}}".repeat(MAX_TAGS + 1), "at most 10000"),
            (format!("\n{{{{ {} }}}}", "x ".repeat(MAX_TOKENS_IN_TAG + 1)), "line 2: a tag of 4097 tokens"),
            (" ".repeat(MAX_WHITE_SPACE + 1), "line 1: more than 1024 bytes of white space"),
            (format!("{{% raw %}}{}{{% endraw %}}", "x".repeat(MAX_RAW + 1)), "a raw block of 4097 bytes"),
        ] {
            let error = harden(&source).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
