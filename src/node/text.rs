//! Tokens, and the model's chat template.
use super::{
    args::{Arg, Options},
    call::{background, promise},
    errors::Checked,
    json::to_json,
};
use crate::chat::RenderOptions;
use napi::{
    Env,
    bindgen_prelude::{PromiseRaw, Uint32Array, Unknown},
};
use napi_derive::napi;
use serde_json::Value;

/// Token ids.
#[napi]
#[allow(dead_code)] // Read by the generator of index.d.ts.
pub type Tokens = Uint32Array;

/// A message as in the OpenAI chat API. It reaches the model's template as it is, further fields too.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; messages are read as JSON.
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, `tool`, or what else the model's template knows.
    pub role: String,
    #[napi(ts_type = "string | null | unknown[]")]
    pub content: Option<String>,
    pub name: Option<String>,
    #[napi(js_name = "tool_calls", ts_type = "unknown[] | null")]
    pub tool_calls: Option<()>,
    #[napi(js_name = "tool_call_id")]
    pub tool_call_id: Option<String>,
    #[napi(js_name = "reasoning_content", ts_type = "string | null")]
    pub reasoning_content: Option<String>,
}

/// Options of `tokenize`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `tokenize`.
pub struct TokenizeOptions {
    /// Adds the tokens that begin and end a text, as the vocabulary says. Default: `true`.
    pub add_special: Option<bool>,
    /// Turns control tokens that are written in the text into their ids. Default: `false`, they stay text.
    pub parse_special: Option<bool>,
}

/// Options of `detokenize`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `detokenize`.
pub struct DetokenizeOptions {
    /// Writes control tokens as their text instead of leaving them out. Default: `false`.
    pub special: Option<bool>,
}

/// Options of `applyChatTemplate`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `apply_chat_template`.
pub struct ChatTemplateOptions {
    /// Ends with what makes the model answer. Default: `true`.
    pub add_generation_prompt: Option<bool>,
    /// Functions that the model may call, as in the OpenAI chat API.
    #[napi(ts_type = "unknown[]")]
    pub tools: Option<()>,
    /// Documents to answer from, for templates that know them.
    #[napi(ts_type = "unknown[]")]
    pub documents: Option<()>,
    /// Jinja source to use instead of the model's own template.
    pub template: Option<String>,
    /// Further variables for the template; they win over its usual ones.
    #[napi(ts_type = "Record<string, unknown>")]
    pub variables: Option<()>,
    /// What the template sees as the present time, a `Date` or milliseconds since the epoch. Default: the clock.
    #[napi(ts_type = "Date | number")]
    pub now: Option<()>,
}

/// The token ids of `text`. Works on a vocabulary-only file too.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND` or `ERR_REALM_UNSUPPORTED` (no tokenizer, or one that is not known).
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, text: string, options?: TokenizeOptions | null",
    ts_return_type = "Promise<Tokens>"
)]
pub fn tokenize<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    text: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Uint32Array>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let text = Arg::new("text", text).string()?;
        let options = Options::new("options", options, &["addSpecial", "parseSpecial"])?;
        let add_special = options.bool("addSpecial", true)?;
        let parse_special = options.bool("parseSpecial", false)?;
        let work = move || Ok(model.tokenizer()?.encode(&text, add_special, parse_special));
        background(env, work, Uint32Array::new)
    })
}

/// The text of `tokens`. Bytes that are not UTF-8 become U+FFFD. Works on a vocabulary-only file too.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND`, `ERR_REALM_UNSUPPORTED`, or `ERR_REALM_INVALID_ARGUMENT` (a token that the
/// vocabulary does not have).
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, tokens: Tokens | number[], options?: DetokenizeOptions | null",
    ts_return_type = "Promise<string>"
)]
pub fn detokenize<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    tokens: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, String>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let tokens = Arg::new("tokens", tokens).tokens()?;
        let special = Options::new("options", options, &["special"])?.bool("special", false)?;
        background(env, move || Ok(model.tokenizer()?.decode(&tokens, special)?), |text| text)
    })
}

/// The prompt that the model's own template makes of `messages`.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND`, or `ERR_REALM_INVALID_ARGUMENT` when there is no template, it is not valid
/// Jinja, or it refuses the messages.
///
/// ```js
/// await applyChatTemplate(id, [{ role: 'user', content: 'Hello!' }])
/// ```
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, messages: ChatMessage[], options?: ChatTemplateOptions | null",
    ts_return_type = "Promise<string>"
)]
pub fn apply_chat_template<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    messages: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, String>> {
    const KNOWN: [&str; 6] = ["addGenerationPrompt", "tools", "documents", "template", "variables", "now"];
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let messages = Value::Array(chat_messages(env, &Arg::new("messages", messages))?);
        let options = Options::new("options", options, &KNOWN)?;
        let template = options.read("template", |arg| arg.string())?;
        let render = RenderOptions {
            add_generation_prompt: options.bool("addGenerationPrompt", true)?,
            tools: options.read("tools", |arg| json_array(env, &arg))?,
            documents: options.read("documents", |arg| json_array(env, &arg))?,
            variables: options.read("variables", |arg| json_object(env, &arg))?.unwrap_or_default(),
            now: options.read("now", |arg| Ok(arg.milliseconds()? / 1000.0))?,
            ..RenderOptions::default()
        };
        background(env, move || model.render_chat(&messages, template.as_deref(), render), |text| text)
    })
}

/// Messages as JSON, each an object with a `role`.
pub fn chat_messages(env: &Env, arg: &Arg) -> Checked<Vec<Value>> {
    for message in arg.elements("an array of chat messages")? {
        let message = message?;
        let role = message.object()?.get::<Unknown>("role")?;
        let name = format!("{}.role", message.name());
        match role {
            Some(role) => Arg::new(name, role).string()?,
            None => return Err(super::errors::Failure::Type(format!("{name} must be a string, got undefined"))),
        };
    }
    match to_json(env, arg)? {
        Value::Array(messages) => Ok(messages),
        _ => Err(arg.wrong_type("an array of chat messages")),
    }
}

fn json_array(env: &Env, arg: &Arg) -> Checked<Value> {
    match to_json(env, arg)? {
        Value::Array(array) => Ok(Value::Array(array)),
        _ => Err(arg.wrong_type("an array")),
    }
}

fn json_object(env: &Env, arg: &Arg) -> Checked<serde_json::Map<String, Value>> {
    match to_json(env, arg)? {
        Value::Object(object) => Ok(object),
        _ => Err(arg.wrong_type("an object")),
    }
}
