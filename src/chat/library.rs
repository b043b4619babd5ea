//! What templates expect to find: Jinja's filters, Python's methods, and the functions that `transformers` adds.
//!
//! The filters whose names begin with `__` are for [`super::harden`]. Where one of `minijinja`'s own can make much out
//! of little, or differs from what templates were written against, there is another here.

use super::budget::{MAX_DEPTH, NODE, charge, has_namespace, refuse, settle, settle_top};
use super::{clock, python};
use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, FormatStyle, Output, State, Value, filters, format_filter};
use minijinja_contrib::pycompat;

/// The greatest number that may stand beside `*`, and what text and lists beside it are multiplied with when charged.
const MAX_FACTOR: f64 = 4096.0;
/// The greatest width or precision in a format, and the most slices, batches and spaces that one filter makes.
const MAX_WIDTH: usize = 4096;

/// The message of `raise_exception(message)`, as the source of an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

pub(super) fn install(environment: &mut Environment) {
    environment.set_formatter(write);
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", raise_exception);
    // It prints the whole state, with or without cycles.
    environment.remove_global("debug");
    environment.remove_filter("pprint");

    environment.add_filter("__settle", settle);
    environment.add_filter("__settle_top", settle_top);
    environment.add_filter("__settle_attribute", settle_attribute);
    environment.add_filter("__factor", factor);
    environment.add_filter("__str", |state: &State, value: Value| python::str(state, &value));
    environment.add_filter("__text", |state: &State, length: u64| charge(state, length).map(|()| ""));

    environment.add_filter("tojson", tojson);
    environment.add_filter("string", |state: &State, value: Value| python::str(state, &value));
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("format", |state: &State, format: &str, values: Rest<Value>| {
        format_text(state, FormatStyle::Printf, format, &values)
    });
    add_filters_of_elements(environment);
}

/// Filters that put every element, or every character of a text, into a list of their own.
fn add_filters_of_elements(environment: &mut Environment) {
    environment.add_filter("list", |state: &State, value: Value| {
        charge_elements(state, &value)?;
        filters::list(state, value)
    });
    environment.add_filter("sort", |state: &State, value: Value, options: Kwargs| {
        charge_elements(state, &value)?;
        filters::sort(state, value, options)
    });
    environment.add_filter("unique", |state: &State, value: Value, options: Kwargs| {
        charge_elements(state, &value)?;
        filters::unique(state, value, options)
    });
    environment.add_filter("map", |state: &State, value: Value, arguments: Rest<Value>| {
        charge_elements(state, &value)?;
        filters::map(state, value, arguments)
    });
    environment.add_filter("batch", |state: &State, value: Value, count: usize, filler: Option<Value>| {
        charge_elements(state, &value)?;
        charge(state, NODE * check_width(count)? as u64)?;
        filters::batch(state, value, count, filler)
    });
    environment.add_filter("slice", |state: &State, value: Value, count: usize, filler: Option<Value>| {
        charge_elements(state, &value)?;
        charge(state, NODE * check_width(count)? as u64)?;
        filters::slice(state, value, count, filler)
    });
}

/// `strftime_now(format)` at a fixed time.
pub(super) fn strftime_now(now: f64) -> Value {
    Value::from_function(move |state: &State, format: &str| {
        // No directive becomes more than a dozen times as long.
        charge(state, format.len() as u64 * 16)?;
        Ok::<_, Error>(clock::strftime(now, format))
    })
}

fn raise_exception(state: &State, message: Value) -> Result<Value, Error> {
    let message = python::str(state, &message)?;
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Raised(message)))
}

/// Prints what stands between `{{` and `}}`.
fn write(out: &mut Output, state: &State, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        charge(state, text.len() as u64)?;
        return Ok(out.write_str(text)?);
    }
    Ok(out.write_str(&python::str(state, value)?)?)
}

// --- filters of the rewritten template ------------------------------------------------------------------------------

fn settle_attribute(state: &State, value: Value) -> Result<Value, Error> {
    let value = settle(state, value)?;
    if has_namespace(&value, MAX_DEPTH) {
        return Err(refuse("a namespace cannot be kept in a namespace"));
    }
    Ok(value)
}

/// Beside `*`, where text and lists become many times as long.
fn factor(state: &State, value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Number if f64::try_from(value.clone()).is_ok_and(|number| number > MAX_FACTOR) => {
            Err(refuse(format!("cannot multiply by {value}, at most by {MAX_FACTOR}")))
        }
        ValueKind::String => {
            charge(state, value.len().unwrap_or_default() as u64 * 4 * MAX_FACTOR as u64)?;
            Ok(value)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            charge(state, value.len().unwrap_or_default() as u64 * NODE * MAX_FACTOR as u64)?;
            settle(state, value)
        }
        _ => Ok(value),
    }
}

// --- filters --------------------------------------------------------------------------------------------------------

fn charge_elements(state: &State, value: &Value) -> Result<(), Error> {
    charge(state, value.len().unwrap_or_default() as u64 * NODE)
}

fn check_width(width: usize) -> Result<usize, Error> {
    if width > MAX_WIDTH { Err(refuse(format!("{width} is too many, at most {MAX_WIDTH}"))) } else { Ok(width) }
}

/// `json.dumps` with the arguments that `transformers` passes on: no escapes for HTML, non-ASCII as it is.
fn tojson(state: &State, value: Value, options: Kwargs) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none()) {
        Some(indent) => Some(check_width(usize::try_from(indent)?)?),
        None => None,
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(refuse("tojson: `separators` must be two texts")),
        // Python's defaults: no space at the end of a line.
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let style = python::JsonStyle {
        indent,
        item_separator,
        key_separator,
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    python::json(state, &value, &style)
}

fn join(state: &State, value: Value, separator: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let separator = match separator {
        Some(separator) => Some(separator),
        None => options.get::<Option<Value>>("d")?,
    };
    let separator = separator.map_or(Ok(String::new()), |separator| python::str(state, &separator))?;
    let attribute = options.get::<Option<Value>>("attribute")?;
    options.assert_all_used()?;
    if !matches!(value.kind(), ValueKind::Undefined | ValueKind::String) && value.try_iter().is_err() {
        return Err(refuse(format!("cannot join a {}", value.kind())));
    }
    let items = value.try_iter()?.map(|item| match &attribute {
        Some(attribute) => item.get_item(attribute),
        None => Ok(item),
    });
    join_items(state, items, &separator)
}

fn join_items(
    state: &State,
    items: impl Iterator<Item = Result<Value, Error>>,
    separator: &str,
) -> Result<String, Error> {
    let mut output = String::new();
    for (index, item) in items.enumerate() {
        if index > 0 {
            charge(state, separator.len() as u64)?;
            output.push_str(separator);
        }
        output.push_str(&python::str(state, &item?)?);
    }
    Ok(output)
}

fn replace(state: &State, text: Value, old: Value, new: Value, count: Option<i64>) -> Result<String, Error> {
    let [text, old, new] = [text, old, new].map(|value| python::str(state, &value));
    replace_text(state, &text?, &old?, &new?, count)
}

/// `str.replace`: a negative count is all.
fn replace_text(state: &State, text: &str, old: &str, new: &str, count: Option<i64>) -> Result<String, Error> {
    let count = count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let found = text.matches(old).take(count).count();
    charge(state, text.len() as u64)?;
    charge(state, (found as u64).saturating_mul(new.len() as u64))?;
    Ok(text.replacen(old, new, count))
}

/// Jinja's `indent(width=4, first=false, blank=false)`; the width may also be the text to put in front.
fn indent(state: &State, text: Value, arguments: Rest<Value>) -> Result<String, Error> {
    let (width, first, blank, options): (Option<Value>, Option<bool>, Option<bool>, Kwargs) = from_args(&arguments)?;
    let width = match width {
        Some(width) => width,
        None => options.get::<Option<Value>>("width")?.unwrap_or(Value::from(4)),
    };
    let option = |given: Option<bool>, name| match given {
        Some(given) => Ok::<_, Error>(given),
        None => Ok(options.get::<Option<bool>>(name)?.unwrap_or(false)),
    };
    let (first, blank) = (option(first, "first")?, option(blank, "blank")?);
    options.assert_all_used()?;
    let front = match width.as_str() {
        Some(front) => front.to_owned(),
        None => " ".repeat(check_width(usize::try_from(width)?)?),
    };

    let text = python::str(state, &text)?;
    let mut output = String::new();
    for (index, line) in text.split('\n').enumerate() {
        charge(state, (line.len() + front.len() + 1) as u64)?;
        if index > 0 {
            output.push('\n');
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        if if index == 0 { first } else { blank || !line.is_empty() } {
            output.push_str(&front);
        }
        output.push_str(line);
    }
    Ok(output)
}

/// `%` and `str.format` formatting, where a few characters can ask for any number of them.
fn format_text(state: &State, style: FormatStyle, format: &str, values: &[Value]) -> Result<String, Error> {
    let numbers = format.split(|char: char| !char.is_ascii_digit()).filter(|digits| !digits.is_empty());
    for digits in numbers {
        check_width(digits.parse().unwrap_or(usize::MAX))?;
    }
    if has_width_among_values(style, format) {
        return Err(refuse("a format's width must be written in the format"));
    }
    let mut longest = MAX_WIDTH as u64;
    for value in values {
        longest = longest.max(python::str(state, value)?.len() as u64 * 4);
    }
    let fields = format.matches(['%', '{']).count() as u64;
    charge(state, format.len() as u64)?;
    charge(state, fields.saturating_mul(longest))?;
    format_filter(style, format, values)
}

/// `%*d` and `{:{}}`.
fn has_width_among_values(style: FormatStyle, format: &str) -> bool {
    match style {
        FormatStyle::Printf => {
            let is_flag = |char: char| char.is_ascii_digit() || "-+ #.".contains(char);
            format.split('%').skip(1).any(|field| field.trim_start_matches(is_flag).starts_with('*'))
        }
        _ => {
            let fields: Vec<&str> = format.split('{').skip(1).collect();
            let opened = fields.split_last().map_or(&[][..], |(_, opened)| opened);
            opened.iter().any(|field| field.contains(':') && !field.contains('}'))
        }
    }
}

// --- methods --------------------------------------------------------------------------------------------------------

/// Methods of texts, dictionaries and lists. Called when the value has no such method of its own.
fn method(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return pycompat::unknown_method_callback(state, value, name, arguments) };
    for text in arguments.iter().filter_map(Value::as_str).chain([text]) {
        charge(state, text.len() as u64)?;
    }
    match name {
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(arguments)?;
            replace_text(state, text, old, new, count).map(Value::from)
        }
        "join" => {
            let (items,): (&Value,) = from_args(arguments)?;
            join_items(state, items.try_iter()?.map(Ok), text).map(Value::from)
        }
        "format" => format_text(state, FormatStyle::StrFormat, text, arguments).map(Value::from),
        "count" => {
            let (part,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.matches(part).count()))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "split" | "splitlines" => {
            let separator = arguments.first().and_then(Value::as_str);
            let parts = match (name, separator) {
                ("split", Some(separator)) => text.matches(separator).count(),
                _ => text.chars().filter(|char| char.is_whitespace()).count(),
            };
            charge(state, parts as u64 * NODE)?;
            pycompat::unknown_method_callback(state, value, name, arguments)
        }
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}
