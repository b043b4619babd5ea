//! `generate` and `generateStream`.
use super::{
    abort::{Signal, blame},
    args::{Arg, Options},
    call::{promise, settle, sync},
    chunk::{Generation, generation},
    errors::{Checked, Failure},
    lifetime::cancel_at_exit,
    options::{generate_options, options},
    stream::TokenStream,
    text::chat_messages,
};
use crate::engine::{self, Chunk, Loaded, Prompt, Stream, Take};
use napi::{
    Env, ValueType,
    bindgen_prelude::{PromiseRaw, TypedArrayType, Unknown},
};
use napi_derive::napi;
use std::sync::Arc;

/// Continues `prompt` and resolves to the whole answer: the same as `generateStream`, collected.
///
/// `prompt` is text, token ids, or chat messages for the model's own template. Control tokens that are written in a text
/// stay text.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND`, `ERR_REALM_INVALID_ARGUMENT`, `ERR_REALM_CONTEXT_OVERFLOW`,
/// `ERR_REALM_OUT_OF_MEMORY`, `ERR_REALM_QUEUE_FULL`, `ERR_REALM_MODEL_REMOVED`, `ERR_REALM_FILE_CHANGED`, or
/// `signal.reason`.
///
/// ```js
/// const { text } = await generate(id, [{ role: 'user', content: 'What is the capital of France?' }], { temperature: 0 })
/// ```
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, prompt: string | Tokens | number[] | ChatMessage[], options?: GenerateOptions | null",
    ts_return_type = "Promise<Generation>"
)]
pub fn generate<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    prompt: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Generation>> {
    promise(env, || {
        let request = Request::read(env, model_id, prompt, options)?;
        if let Some(signal) = &request.signal
            && signal.aborted()?
        {
            return Err(signal.reason(env));
        }
        let options = engine::GenerateOptions { whole: true, ..request.options };
        let stream = engine::submit(request.model, request.prompt, options)?;
        cancel_at_exit(env, &stream)?;
        let cancel = Arc::downgrade(&stream);
        let on_abort = move || {
            if let Some(stream) = cancel.upgrade() {
                stream.cancel();
            }
        };
        let abort = request.signal.map(|signal| signal.listen(env, on_abort)).transpose()?;
        settle(env, collect(stream), move |env, outcome| blame(env, outcome, abort).and_then(finished))
    })
}

/// Continues `prompt` (see `generate`) and yields the answer in pieces, as they come.
///
/// Leaving a `for await` early, `return()` and `signal` end the request within one layer's work. A slow reader holds up
/// only its own request. Bad arguments and `ERR_REALM_MODEL_NOT_FOUND` are thrown at once; what goes wrong later, and
/// `signal.reason`, rejects one `next()`, and then the stream is done.
///
/// ```js
/// for await (const { text } of generateStream(id, 'Once upon a time')) process.stdout.write(text)
/// ```
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, prompt: string | Tokens | number[] | ChatMessage[], options?: GenerateOptions | null",
    ts_return_type = "AsyncGenerator<TokenChunk, void, void>"
)]
pub fn generate_stream<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    prompt: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<TokenStream> {
    sync(env, || {
        let Request { model, prompt, options, signal } = Request::read(env, model_id, prompt, options)?;
        TokenStream::new(env, signal, || engine::submit(model, prompt, options))
    })
}

/// The checked arguments of a generation.
struct Request<'env> {
    model: Arc<Loaded>,
    prompt: Prompt,
    options: engine::GenerateOptions,
    signal: Option<Signal<'env>>,
}

impl<'env> Request<'env> {
    fn read(
        env: &Env,
        model_id: Unknown<'env>,
        prompt_value: Unknown<'env>,
        option_values: Unknown<'env>,
    ) -> Checked<Self> {
        let model = Arg::new("modelId", model_id).model()?;
        let prompt = prompt(env, &Arg::new("prompt", prompt_value))?;
        let given: Options = options(option_values)?;
        let options = generate_options(&given)?;
        let signal = given.read("signal", Signal::new)?;
        Ok(Self { model, prompt, options, signal })
    }
}

/// Text, tokens or messages; an array is one or the other by its first element.
fn prompt(env: &Env, arg: &Arg) -> Checked<Prompt> {
    const EXPECTED: &str = "a string, a Uint32Array, or an array of chat messages or token ids";
    if arg.is(ValueType::String)? {
        return Ok(Prompt::Text(arg.string()?));
    }
    if arg.is_typed_array(TypedArrayType::Uint32)? {
        return Ok(Prompt::Tokens(arg.tokens()?));
    }
    match arg.elements(EXPECTED)?.next().transpose()? {
        Some(first) if first.is(ValueType::Number)? => Ok(Prompt::Tokens(arg.tokens()?)),
        Some(_) => Ok(Prompt::Messages(chat_messages(env, arg)?)),
        None => Err(Failure::Range(format!("prompt must be {EXPECTED}, got an empty array"))),
    }
}

/// The whole answer: the stream hands it over at its end.
async fn collect(stream: Stream) -> Checked<Chunk> {
    let next = match stream.take() {
        Take::Now(next) => Some(next),
        Take::Later(receiver) => receiver.await.ok(),
        Take::End => None,
    };
    // A stream that was cancelled just ends.
    Ok(next.unwrap_or(Err(engine::Error::Cancelled))?)
}

fn finished(answer: Chunk) -> Checked<Generation> {
    generation(answer).ok_or_else(|| engine::Error::Internal("a generation ended without saying why".to_owned()).into())
}
