//! Plain data from JavaScript (messages, tools, template variables) as `serde_json` values.
//!
//! `JSON.stringify` does the walking: it knows `toJSON`, refuses cycles and does not overflow the stack.
use super::{
    args::Arg,
    errors::{Checked, Failure, call_js},
};
use napi::{
    Env, ValueType,
    bindgen_prelude::{Function, JsObjectValue, Object, Unknown},
};
use serde_json::Value;

/// The value as JSON. What JSON cannot hold (a cycle, a BigInt, a function) is an argument error.
pub fn to_json(env: &Env, arg: &Arg) -> Checked<Value> {
    let json: Object = env.get_global()?.get_named_property("JSON")?;
    let stringify: Function<Unknown, Unknown> = json.get_named_property("stringify")?;
    let text = call_js(env, stringify, json, arg.value()).map_err(|error| not_json(arg, &error.reason))?;
    let text = Arg::new("JSON", text);
    if !text.is(ValueType::String)? {
        return Err(arg.wrong_type("a value that JSON can hold"));
    }
    serde_json::from_str(&repair_surrogates(text.string()?)).map_err(|error| not_json(arg, &error.to_string()))
}

fn not_json(arg: &Arg, why: &str) -> Failure {
    Failure::Type(format!("{} cannot be written as JSON: {why}", arg.name()))
}

/// Half a surrogate pair, as left by cutting a string inside a character, is legal in JavaScript and written by
/// `JSON.stringify` as `\udXXX`; such escapes become U+FFFD, as everywhere where JavaScript text turns into UTF-8.
fn repair_surrogates(json: String) -> String {
    if !json.contains("\\ud") {
        return json;
    }
    let mut bytes = json.into_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'\\' {
            i += 1;
        } else {
            if bytes[i..].starts_with(b"\\ud") && matches!(bytes.get(i + 3), Some(b'8'..=b'9' | b'a'..=b'f')) {
                bytes[i + 2..i + 6].copy_from_slice(b"fffd");
            }
            i += 2;
        }
    }
    String::from_utf8(bytes).expect("only ASCII was replaced, by ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_pairs_become_the_replacement_character() {
        for (json, expected) in [
            (r#""a\ud83db""#, r#""a\ufffdb""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\udc00\n\ud7ff""#, r#""\\\ufffd\n\ud7ff""#),
        ] {
            assert_eq!(repair_surrogates(json.to_owned()), expected);
        }
    }
}
