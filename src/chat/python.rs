//! Values as Python writes them: `str`, `repr` and `json.dumps`. Templates were written against those.

use super::budget::{MAX_DEPTH, charge, refuse};
use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};
use std::fmt::Write;

/// A text that is charged for as it grows.
struct Text<'a> {
    state: &'a State<'a, 'a>,
    text: String,
    charged: usize,
}

/// The most that is charged ahead, so that a long text is not charged piece by piece.
const STEP: usize = 4096;

impl<'a> Text<'a> {
    fn new(state: &'a State<'a, 'a>) -> Self {
        Self { state, text: String::new(), charged: 0 }
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        if self.text.len() + text.len() > self.charged {
            let more = text.len().max(self.text.len().min(STEP));
            charge(self.state, more as u64)?;
            self.charged = self.text.len() + more;
        }
        self.text.push_str(text);
        Ok(())
    }
}

/// `str(value)`; undefined is nothing, as in Jinja.
pub(super) fn str(state: &State, value: &Value) -> Result<String, Error> {
    let mut out = Text::new(state);
    match value.as_str() {
        Some(text) => out.push(text)?,
        None if value.is_undefined() => {}
        None => write_repr(&mut out, value, MAX_DEPTH)?,
    }
    Ok(out.text)
}

fn write_repr(out: &mut Text, value: &Value, levels: usize) -> Result<(), Error> {
    let levels = levels.checked_sub(1).ok_or_else(too_deep)?;
    match value.kind() {
        ValueKind::None => out.push("None"),
        ValueKind::Undefined => out.push("Undefined"),
        ValueKind::Bool => out.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::String => write_repr_of_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.push("[")?;
            for (index, item) in value.try_iter()?.enumerate() {
                out.push(if index > 0 { ", " } else { "" })?;
                write_repr(out, &item, levels)?;
            }
            out.push("]")
        }
        ValueKind::Map => {
            out.push("{")?;
            for (index, (key, item)) in pairs(value).enumerate() {
                out.push(if index > 0 { ", " } else { "" })?;
                write_repr(out, &key, levels)?;
                out.push(": ")?;
                write_repr(out, &item, levels)?;
            }
            out.push("}")
        }
        // Macros, loops, bytes: their text is short or charged where they were made.
        _ => out.push(&value.to_string()),
    }
}

fn pairs(value: &Value) -> impl Iterator<Item = (Value, Value)> {
    let object = value.as_object();
    let pairs: Vec<_> = object.and_then(|object| object.try_iter_pairs()).into_iter().flatten().collect();
    pairs.into_iter()
}

/// Python quotes with ' unless the text has a ' and no ".
fn write_repr_of_text(out: &mut Text, text: &str) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { "\"" } else { "'" };
    out.push(quote)?;
    let mut buffer = [0; 4];
    for char in text.chars() {
        match char {
            '\n' => out.push("\\n")?,
            '\r' => out.push("\\r")?,
            '\t' => out.push("\\t")?,
            '\\' => out.push("\\\\")?,
            '\'' if quote == "'" => out.push("\\'")?,
            char if char.is_ascii_control() => out.push(&format!("\\x{:02x}", char as u32))?,
            char => out.push(char.encode_utf8(&mut buffer))?,
        }
    }
    out.push(quote)
}

fn number(value: &Value) -> String {
    // Whole numbers print alike in both languages.
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// `repr` of a float: the shortest digits that read back, an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        return format!("{value:?}");
    }
    // Rust writes 1.5e-7 where Python writes 1.5e-07.
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

fn too_deep() -> Error {
    refuse(format!("values nested over {MAX_DEPTH} deep"))
}

/// The arguments of `json.dumps` that templates use.
pub(super) struct JsonStyle {
    pub indent: Option<usize>,
    pub item_separator: String,
    pub key_separator: String,
    pub ensure_ascii: bool,
    pub sort_keys: bool,
}

/// `json.dumps(value, …)`.
pub(super) fn json(state: &State, value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut out = Text::new(state);
    write_json(&mut out, value, style, 0)?;
    Ok(out.text)
}

fn write_json(out: &mut Text, value: &Value, style: &JsonStyle, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => out.push("null"),
        ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => match number(value).as_str() {
            "nan" => out.push("NaN"),
            "inf" => out.push("Infinity"),
            "-inf" => out.push("-Infinity"),
            number => out.push(number),
        },
        ValueKind::String => write_json_text(out, value.as_str().unwrap_or_default(), style.ensure_ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            write_json_items(out, ["[", "]"], value.try_iter()?, style, depth, |out, item| {
                write_json(out, &item, style, depth + 1)
            })
        }
        ValueKind::Map => {
            let mut pairs: Vec<_> = pairs(value).collect();
            if style.sort_keys {
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
            }
            write_json_items(out, ["{", "}"], pairs.into_iter(), style, depth, |out, (key, item)| {
                write_json_key(out, &key, style)?;
                out.push(&style.key_separator)?;
                write_json(out, &item, style, depth + 1)
            })
        }
        kind => Err(refuse(format!("tojson: a {kind} has no JSON"))),
    }
}

/// Brackets, separators and line breaks around items, the way of Python: nothing at all inside empty brackets.
fn write_json_items<T>(
    out: &mut Text,
    [open, close]: [&str; 2],
    items: impl Iterator<Item = T>,
    style: &JsonStyle,
    depth: usize,
    mut write: impl FnMut(&mut Text, T) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(open)?;
    let mut is_empty = true;
    for item in items {
        out.push(if is_empty { "" } else { &style.item_separator })?;
        break_line(out, style, depth + 1)?;
        write(out, item)?;
        is_empty = false;
    }
    if !is_empty {
        break_line(out, style, depth)?;
    }
    out.push(close)
}

fn break_line(out: &mut Text, style: &JsonStyle, depth: usize) -> Result<(), Error> {
    let Some(indent) = style.indent else { return Ok(()) };
    out.push("\n")?;
    (0..indent * depth).try_for_each(|_| out.push(" "))
}

/// JSON has text keys only; Python writes the others as their JSON in quotes.
fn write_json_key(out: &mut Text, key: &Value, style: &JsonStyle) -> Result<(), Error> {
    match key.kind() {
        ValueKind::String => write_json(out, key, style, 0),
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            out.push("\"")?;
            write_json(out, key, style, 0)?;
            out.push("\"")
        }
        kind => Err(refuse(format!("tojson: a {kind} cannot be a key"))),
    }
}

fn write_json_text(out: &mut Text, text: &str, ensure_ascii: bool) -> Result<(), Error> {
    out.push("\"")?;
    let mut plain_from = 0;
    for (at, char) in text.char_indices() {
        let Some(escape) = json_escape(char, ensure_ascii) else { continue };
        out.push(&text[plain_from..at])?;
        out.push(&escape)?;
        plain_from = at + char.len_utf8();
    }
    out.push(&text[plain_from..])?;
    out.push("\"")
}

fn json_escape(char: char, ensure_ascii: bool) -> Option<String> {
    let short = match char {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\u{8}' => "\\b",
        '\u{c}' => "\\f",
        char if char < ' ' || (ensure_ascii && char > '\u{7e}') => {
            let mut escape = String::new();
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escape, "\\u{unit:04x}");
            }
            return Some(escape);
        }
        _ => return None,
    };
    Some(short.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_python_writes_them() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.5e-7, "1.5e-07"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(value), expected);
        }
    }
}
