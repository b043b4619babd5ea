//! Reading what JavaScript passed. Every value is checked here, with messages that name it.
use super::errors::{Checked, Failure};
use crate::engine::{self, Loaded};
use napi::{
    JsDate, JsValue, ValueType,
    bindgen_prelude::{
        Array, Float32ArraySlice, FromNapiValue, Function, JsObjectValue, JsValuesTupleIntoVec, Object, TypedArray,
        TypedArrayType, Uint8ArraySlice, Uint32ArraySlice, Unknown,
    },
};
use std::{borrow::Cow, ops::RangeInclusive, sync::Arc};

/// The largest integer up to which every integer is a JavaScript number: 2^53 - 1.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// Characters of a string that an error message shows.
const SHOWN: usize = 40;

/// A value together with the name that error messages call it by.
pub struct Arg<'env> {
    name: Cow<'static, str>,
    value: Unknown<'env>,
}

impl<'env> Arg<'env> {
    pub fn new(name: impl Into<Cow<'static, str>>, value: Unknown<'env>) -> Self {
        Self { name: name.into(), value }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn value(&self) -> Unknown<'env> {
        self.value
    }

    /// `None` for `undefined` and `null`.
    pub fn present(self) -> Checked<Option<Self>> {
        Ok(match self.value.get_type()? {
            ValueType::Undefined | ValueType::Null => None,
            _ => Some(self),
        })
    }

    pub fn is(&self, ty: ValueType) -> Checked<bool> {
        Ok(self.value.get_type()? == ty)
    }

    pub fn is_array(&self) -> Checked<bool> {
        Ok(self.value.is_array()?)
    }

    pub fn is_typed_array(&self, ty: TypedArrayType) -> Checked<bool> {
        Ok(typed_array(self.value)?.is_some_and(|found| found as i32 == ty as i32))
    }

    pub fn string(&self) -> Checked<String> {
        self.typed(ValueType::String, "a string")
    }

    pub fn bool(&self) -> Checked<bool> {
        self.typed(ValueType::Boolean, "a boolean")
    }

    pub fn function<Args: JsValuesTupleIntoVec, Return>(&self) -> Checked<Function<'env, Args, Return>> {
        self.typed(ValueType::Function, "a function")
    }

    /// An object that is neither an array nor a function.
    pub fn object(&self) -> Checked<Object<'env>> {
        if self.value.is_array()? || self.value.is_typedarray()? {
            return Err(self.wrong_type("an object"));
        }
        self.typed(ValueType::Object, "an object")
    }

    /// The elements of an array, each with its own name.
    pub fn elements(&self, expected: &str) -> Checked<impl Iterator<Item = Checked<Arg<'env>>> + use<'env>> {
        if !self.value.is_array()? {
            return Err(self.wrong_type(expected));
        }
        let array: Array<'env> = cast(self.value)?;
        let name = self.name.clone();
        Ok((0..array.len()).map(move |i| {
            let value = array.get_element::<Unknown<'env>>(i)?;
            Ok(Arg::new(format!("{name}[{i}]"), value))
        }))
    }

    /// A number for which `accept` holds; `expected` says which those are.
    pub fn number(&self, expected: &str, accept: impl FnOnce(f64) -> bool) -> Checked<f64> {
        let number: f64 = self.typed(ValueType::Number, expected)?;
        if accept(number) { Ok(number) } else { Err(self.out_of_range(expected)) }
    }

    /// An integer in `range`.
    pub fn integer<T: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Checked<T> {
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let number: f64 = self.typed(ValueType::Number, &expected())?;
        // Bounds are at most 2^53, so both casts are exact; NaN fails the comparisons.
        let within = number.fract() == 0.0 && *range.start() as f64 <= number && number <= *range.end() as f64;
        within.then_some(number as i64).and_then(|n| T::try_from(n).ok()).ok_or_else(|| self.out_of_range(&expected()))
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Checked<T> {
        let expected = choices.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        let word: String = self.typed(ValueType::String, &expected)?;
        choices
            .iter()
            .find(|(choice, _)| *choice == word)
            .map(|(_, value)| *value)
            .ok_or_else(|| self.out_of_range(&expected))
    }

    /// Milliseconds since the epoch, from a `Date` or a number.
    pub fn milliseconds(&self) -> Checked<f64> {
        const EXPECTED: &str = "a valid Date or milliseconds since the epoch";
        let time = if self.value.is_date()? {
            cast::<JsDate>(self.value)?.value_of()?
        } else {
            self.typed(ValueType::Number, EXPECTED)?
        };
        if time.is_finite() { Ok(time) } else { Err(self.out_of_range(EXPECTED)) }
    }

    /// Token ids, copied.
    pub fn tokens(&self) -> Checked<Vec<u32>> {
        const EXPECTED: &str = "a Uint32Array or an array of token ids";
        if self.is_typed_array(TypedArrayType::Uint32)? {
            return Ok(cast::<Uint32ArraySlice>(self.value)?.to_vec());
        }
        self.elements(EXPECTED)?.map(|element| element?.integer(0..=u32::MAX.into())).collect()
    }

    /// Rows of hidden states, copied.
    pub fn floats(&self) -> Checked<Vec<f32>> {
        if !self.is_typed_array(TypedArrayType::Float32)? {
            return Err(self.wrong_type("a Float32Array"));
        }
        Ok(cast::<Float32ArraySlice>(self.value)?.to_vec())
    }

    /// An instance of one of our classes, `expected` being its name.
    pub fn instance<T: FromNapiValue>(&self, expected: &str) -> Checked<T> {
        if !self.is(ValueType::Object)? {
            return Err(self.wrong_type(expected));
        }
        cast(self.value).map_err(|_| self.wrong_type(expected))
    }

    /// The model with this id.
    pub fn model(&self) -> Checked<Arc<Loaded>> {
        Ok(engine::get(&self.model_id()?)?)
    }

    /// 32 lower-case hexadecimal digits.
    pub fn model_id(&self) -> Checked<String> {
        const EXPECTED: &str = "a model id (32 lower-case hexadecimal digits)";
        let id: String = self.typed(ValueType::String, EXPECTED)?;
        let digits = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if id.len() == 32 && digits { Ok(id) } else { Err(self.out_of_range(EXPECTED)) }
    }

    pub fn wrong_type(&self, expected: &str) -> Failure {
        Failure::Type(self.complaint(expected))
    }

    pub fn out_of_range(&self, expected: &str) -> Failure {
        Failure::Range(self.complaint(expected))
    }

    fn complaint(&self, expected: &str) -> String {
        format!("{} must be {expected}, got {}", self.name, describe(self.value))
    }

    fn typed<T: FromNapiValue>(&self, ty: ValueType, expected: &str) -> Checked<T> {
        if !self.is(ty)? {
            return Err(self.wrong_type(expected));
        }
        cast(self.value)
    }
}

/// The bytes of a `Uint8Array` as they are at this moment.
pub fn bytes_now<'env>(value: Unknown<'env>) -> Checked<Uint8ArraySlice<'env>> {
    cast(value)
}

/// An options object: absent, or an object of which every key is known.
pub struct Options<'env> {
    name: &'static str,
    object: Option<Object<'env>>,
}

impl<'env> Options<'env> {
    /// Refuses unknown keys: a misspelt option that is silently ignored is a bug that nobody finds.
    pub fn new(name: &'static str, value: Unknown<'env>, known: &[&str]) -> Checked<Self> {
        let Some(arg) = Arg::new(name, value).present()? else {
            return Ok(Self { name, object: None });
        };
        let object = arg.object()?;
        for key in Object::keys(&object)? {
            if !known.contains(&key.as_str()) {
                return Err(Failure::Type(unknown_key(name, &key, known)));
            }
        }
        Ok(Self { name, object: Some(object) })
    }

    /// `None` when the option is absent, `undefined` or `null`.
    pub fn get(&self, key: &str) -> Checked<Option<Arg<'env>>> {
        let Some(object) = &self.object else { return Ok(None) };
        match object.get::<Unknown<'env>>(key)? {
            Some(value) => Arg::new(format!("{}.{key}", self.name), value).present(),
            None => Ok(None),
        }
    }

    /// The option as read by `read`, if it is there.
    pub fn read<T>(&self, key: &str, read: impl FnOnce(Arg<'env>) -> Checked<T>) -> Checked<Option<T>> {
        self.get(key)?.map(read).transpose()
    }

    pub fn bool(&self, key: &str, default: bool) -> Checked<bool> {
        Ok(self.read(key, |arg| arg.bool())?.unwrap_or(default))
    }
}

fn unknown_key(name: &str, key: &str, known: &[&str]) -> String {
    let plain = |s: &str| s.replace(['_', '-'], "").to_lowercase();
    match known.iter().find(|k| plain(k) == plain(key)) {
        Some(meant) => format!("{name}.{key} is not an option: write {meant}"),
        None => format!("{name}.{key} is not an option: the options are {}", known.join(", ")),
    }
}

/// A value in words, for error messages. Runs no JavaScript.
fn describe(value: Unknown) -> String {
    describe_typed(value).unwrap_or_else(|_| "an unreadable value".to_owned())
}

fn describe_typed(value: Unknown) -> Checked<String> {
    Ok(match value.get_type()? {
        ValueType::Undefined => "undefined".to_owned(),
        ValueType::Null => "null".to_owned(),
        ValueType::Boolean => cast::<bool>(value)?.to_string(),
        ValueType::Number => describe_number(cast(value)?),
        ValueType::String => describe_string(&cast::<String>(value)?),
        ValueType::Function => "a function".to_owned(),
        ValueType::Symbol => "a symbol".to_owned(),
        ValueType::BigInt => "a BigInt".to_owned(),
        _ if value.is_array()? => "an array".to_owned(),
        _ if value.is_arraybuffer()? => "an ArrayBuffer".to_owned(),
        _ if value.is_date()? => "a Date".to_owned(),
        _ => match typed_array(value)? {
            Some(ty) => format!("a {}Array", ty.as_ref()),
            None => "an object".to_owned(),
        },
    })
}

fn describe_number(number: f64) -> String {
    match number {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => number.to_string(),
    }
}

fn describe_string(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn typed_array(value: Unknown) -> Checked<Option<TypedArrayType>> {
    if !value.is_typedarray()? {
        return Ok(None);
    }
    Ok(Some(cast::<TypedArray>(value)?.typed_array_type))
}

/// Only called with a `T` that fits the type of `value`, which was looked at before, or that checks it itself (the typed
/// array slices and our classes do).
fn cast<'env, T: FromNapiValue>(value: Unknown<'env>) -> Checked<T> {
    // SAFETY: `value` is a live handle of the running call. A `T` that does not fit would be an error, not undefined
    // behaviour: every `FromNapiValue` used here goes through a Node-API call that checks the type again.
    Ok(unsafe { value.cast() }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_named() {
        let known = ["maxTokens", "topK"];
        assert_eq!(
            unknown_key("options", "max_tokens", &known),
            "options.max_tokens is not an option: write maxTokens"
        );
        assert_eq!(unknown_key("options", "topk", &known), "options.topk is not an option: write topK");
        assert_eq!(unknown_key("options", "x", &known), "options.x is not an option: the options are maxTokens, topK");
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        assert_eq!(describe_string("é"), "\"é\"");
        assert_eq!(describe_string(&"é".repeat(41)), format!("\"{}\"…", "é".repeat(40)));
    }
}
