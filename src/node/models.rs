//! The registry: storing, describing and removing models, and reading their tensors.
use super::{
    abort::{Abort, Signal, blame},
    args::{Arg, Options},
    bytes::ByteCopy,
    cache::KV_TYPES,
    call::{background, promise, settle, sync},
    errors::{Checked, Failure},
    lifetime::{CancelFlag, cancel_at_exit},
    progress::{Progress, Reporter},
    runtime,
};
use crate::engine::{self, KvType, Source};
use napi::{
    Env, ValueType,
    bindgen_prelude::{Float32Array, Object, PromiseRaw, TypedArrayType, Uint8Array, Unknown},
};
use napi_derive::napi;
use std::{path::PathBuf, sync::Arc};

/// Names a stored model: 32 lower-case hexadecimal digits, the xxh3-128 of its bytes. The same bytes have the same id in
/// every process and on every machine.
#[napi]
#[allow(dead_code)] // Read by the generator of index.d.ts.
pub type ModelId = String;

/// Options of `storeModel`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `store_model`.
pub struct StoreOptions {
    /// Called with the fraction done, 0 to 1, at most 20 times a second; the last call says 1 and comes before the promise
    /// resolves. An exception that it throws cancels the work and rejects the promise.
    #[napi(ts_type = "(fraction: number) => void")]
    pub on_progress: Option<()>,
    /// How keys and values are stored where a request does not say it. Default: `'f16'`. For a model that is stored
    /// already it counts from now on.
    #[napi(ts_type = "'f32' | 'f16' | 'q8_0'")]
    pub kv_type: Option<()>,
    /// Ends the work; the promise rejects with `signal.reason`.
    #[napi(ts_type = "AbortSignal")]
    pub signal: Option<()>,
}

/// What `getModelInfo` tells about a model.
#[napi(object, object_from_js = false)]
pub struct ModelInfo {
    #[napi(ts_type = "ModelId")]
    pub id: String,
    /// `general.name`, or the file's name when it has none.
    pub name: String,
    /// `general.architecture`, such as `llama`.
    pub architecture: String,
    /// How most of the weights are stored, such as `Q4_K_M`.
    pub quantization: String,
    pub tensor_count: f64,
    /// Bytes of tensor data.
    pub total_size: f64,
    /// Bytes of the file, or of all shards.
    pub file_size: f64,
    pub parameter_count: f64,
    /// Tokens that the model was trained to look back at.
    pub context_length: f64,
    /// Numbers in one row of hidden state.
    pub embedding_length: f64,
    pub layer_count: f64,
    pub head_count: f64,
    /// Heads for keys and values; less than `headCount` where several heads share one.
    pub kv_head_count: f64,
    pub vocabulary_size: f64,
    /// Whether `applyChatTemplate` and messages as a prompt work without a template of your own.
    pub has_chat_template: bool,
    /// The file that was stored; absent for bytes.
    pub path: Option<String>,
}

impl From<&engine::ModelInfo> for ModelInfo {
    fn from(info: &engine::ModelInfo) -> Self {
        Self {
            id: info.id.clone(),
            name: info.name.clone(),
            architecture: info.architecture.clone(),
            quantization: info.quantization.clone(),
            tensor_count: info.tensor_count as f64,
            total_size: info.total_size as f64,
            file_size: info.file_size as f64,
            parameter_count: info.parameter_count as f64,
            context_length: info.context_length as f64,
            embedding_length: info.embedding_length as f64,
            layer_count: info.layer_count as f64,
            head_count: info.head_count as f64,
            kv_head_count: info.kv_head_count as f64,
            vocabulary_size: info.vocabulary_size as f64,
            has_chat_template: info.has_chat_template,
            path: info.path.clone(),
        }
    }
}

/// One tensor of a model.
#[napi(object, object_from_js = false)]
pub struct TensorInfo {
    pub name: String,
    /// Number or block format, such as `F32` or `Q4_K`.
    #[napi(js_name = "type")]
    pub ty: String,
    /// Row-major, slowest dimension first: a weight matrix is `[rows, columns]`.
    pub shape: Vec<f64>,
    /// Bytes as stored.
    pub byte_length: f64,
}

impl From<engine::TensorDescription> for TensorInfo {
    fn from(tensor: engine::TensorDescription) -> Self {
        Self {
            name: tensor.name,
            ty: tensor.ty.to_owned(),
            shape: tensor.shape.into_iter().map(|n| n as f64).collect(),
            byte_length: tensor.byte_length as f64,
        }
    }
}

/// Puts a model into the process-wide registry and resolves to its id, which works in every worker thread.
///
/// `source` is the path (or `file:` URL) of a GGUF file, which is memory-mapped and never copied, or the bytes of one,
/// which are copied. A path that ends in `-00001-of-0000N.gguf` loads all shards. Storing the same bytes again gives the
/// same id and adds a reference; `removeModel` releases one. A failed store leaves nothing behind.
///
/// Rejects with `ERR_REALM_BAD_GGUF` (damaged file; the message has the byte offset), `ERR_REALM_UNSUPPORTED`,
/// `ERR_REALM_IO`, `ERR_REALM_FILE_CHANGED`, `ERR_REALM_OUT_OF_MEMORY`, `ERR_REALM_INVALID_ARGUMENT`, or
/// `signal.reason`. Bytes must not change until the promise settles.
///
/// ```js
/// const id = await storeModel('model.gguf', { onProgress: (f) => console.log(`${Math.round(100 * f)} %`) })
/// ```
#[napi(
    catch_unwind,
    ts_args_type = "source: string | URL | Uint8Array, options?: StoreOptions | null",
    ts_return_type = "Promise<ModelId>"
)]
pub fn store_model<'env>(
    env: &'env Env,
    source: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, String>> {
    promise(env, || {
        let source = Arg::new("source", source);
        let path =
            if source.is_typed_array(TypedArrayType::Uint8)? { None } else { Some(path(&source, PATH_OR_BYTES)?) };
        let options = Options::new("options", options, &["onProgress", "kvType", "signal"])?;
        let kv_type = options.read("kvType", |arg| arg.one_of(&KV_TYPES))?;
        let callback = options.read("onProgress", |arg| arg.function())?;
        let signal = options.read("signal", Signal::new)?;
        if let Some(signal) = &signal
            && signal.aborted()?
        {
            return Err(signal.reason(env));
        }

        let cancel = Arc::new(CancelFlag::default());
        cancel_at_exit(env, &cancel)?;
        let bytes = if path.is_none() { Some(ByteCopy::begin(env, &source)?) } else { None };
        let (progress, reporter) = match callback {
            Some(callback) => Progress::new(env, callback, cancel.clone()).map(|(p, r)| (Some(p), Some(r)))?,
            None => (None, None),
        };
        let abort = signal.map(|signal| listen(env, &signal, cancel.clone())).transpose()?;
        let stored = store(path, bytes, kv_type, reporter, cancel);
        settle(env, stored, move |env, outcome| {
            let outcome = report_end(env, outcome, progress);
            blame(env, outcome, abort)
        })
    })
}

fn listen(env: &Env, signal: &Signal, cancel: Arc<CancelFlag>) -> Checked<Abort> {
    use super::lifetime::Cancel;
    signal.listen(env, move || cancel.cancel())
}

async fn store(
    path: Option<PathBuf>,
    bytes: Option<ByteCopy>,
    kv_type: Option<KvType>,
    reporter: Option<Reporter>,
    cancel: Arc<CancelFlag>,
) -> Checked<String> {
    let source = match (path, bytes) {
        (_, Some(bytes)) => Source::Bytes(bytes.complete(|| cancel.is_set()).await?),
        (path, None) => Source::Path(path.unwrap_or_default()),
    };
    let work = move || {
        let mut report = |fraction| {
            if let Some(reporter) = &reporter {
                reporter.report(fraction);
            }
        };
        Ok(engine::store(source, kv_type, &mut report, &|| cancel.is_set())?)
    };
    runtime::start(work).await
}

/// Makes the last call of `onProgress`. What that or an earlier call threw becomes the outcome, and a model that was
/// stored already is released again.
fn report_end(env: &Env, outcome: Checked<String>, progress: Option<Progress>) -> Checked<String> {
    let Some(progress) = progress else { return outcome };
    if let Err(thrown) = progress.finish(env, outcome.is_ok()) {
        if let Ok(id) = outcome {
            engine::remove(&id)?;
        }
        return Err(thrown);
    }
    outcome
}

const PATH_OR_BYTES: &str = "a path, a file: URL or a Uint8Array";

/// A path from a string or a `file:` URL.
pub fn path(source: &Arg, expected: &str) -> Checked<PathBuf> {
    let path = if source.is(ValueType::String)? { source.string()? } else { url_path(source, expected)? };
    if path.is_empty() || path.contains('\0') {
        return Err(source.out_of_range("a path that is not empty and has no zero bytes"));
    }
    Ok(path.into())
}

fn url_path(source: &Arg, expected: &str) -> Checked<String> {
    let object: Object = source.object().map_err(|_| source.wrong_type(expected))?;
    let part = |key| match object.get::<Unknown>(key)? {
        Some(value) => Arg::new(key, value).string().map_err(|_| source.wrong_type(expected)),
        None => Err(source.wrong_type(expected)),
    };
    let (protocol, host, pathname) = (part("protocol")?, part("host")?, part("pathname")?);
    if protocol != "file:" || !host.is_empty() {
        let name = source.name();
        return Err(Failure::Range(format!("{name} must be {expected}, got a {protocol}//{host} URL")));
    }
    decode_pathname(&pathname).ok_or_else(|| source.out_of_range("a file: URL that names a path in UTF-8"))
}

/// Undoes percent-encoding; `None` for an encoded slash or bytes that are not UTF-8. On Windows, `/C:/x` is `C:/x`.
fn decode_pathname(pathname: &str) -> Option<String> {
    let pathname = if cfg!(windows) { pathname.trim_start_matches('/') } else { pathname };
    let mut bytes = Vec::with_capacity(pathname.len());
    let mut rest = pathname.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digit = |i: usize| after.get(i).and_then(|&b| char::from(b).to_digit(16));
            let decoded = (16 * digit(0)? + digit(1)?) as u8;
            if decoded == b'/' {
                return None;
            }
            bytes.push(decoded);
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// What is known about a model. Throws `ERR_REALM_MODEL_NOT_FOUND`.
#[napi(catch_unwind, ts_args_type = "modelId: ModelId")]
pub fn get_model_info<'env>(env: &'env Env, model_id: Unknown<'env>) -> napi::Result<ModelInfo> {
    sync(env, || Ok(ModelInfo::from(&Arg::new("modelId", model_id).model()?.info)))
}

/// All models in the registry.
#[napi(catch_unwind)]
pub fn list_models(env: &Env) -> napi::Result<Vec<ModelInfo>> {
    sync(env, || Ok(engine::list().iter().map(|model| ModelInfo::from(&model.info)).collect()))
}

/// The tensors of a model, in file order. Throws `ERR_REALM_MODEL_NOT_FOUND`.
#[napi(catch_unwind, ts_args_type = "modelId: ModelId")]
pub fn list_tensors<'env>(env: &'env Env, model_id: Unknown<'env>) -> napi::Result<Vec<TensorInfo>> {
    sync(env, || Ok(Arg::new("modelId", model_id).model()?.tensors().into_iter().map(TensorInfo::from).collect()))
}

/// A tensor as 32-bit floats, dequantised, row-major (`listTensors` tells its shape).
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND`, `ERR_REALM_TENSOR_NOT_FOUND` or `ERR_REALM_OUT_OF_MEMORY`.
#[napi(catch_unwind, ts_args_type = "modelId: ModelId, name: string", ts_return_type = "Promise<Float32Array>")]
pub fn get_tensor<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    name: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Float32Array>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let name = Arg::new("name", name).string()?;
        background(env, move || model.tensor_f32(&name), Float32Array::new)
    })
}

/// A copy of a tensor's bytes as stored.
///
/// Rejects with `ERR_REALM_MODEL_NOT_FOUND`, `ERR_REALM_TENSOR_NOT_FOUND` or `ERR_REALM_OUT_OF_MEMORY`.
#[napi(catch_unwind, ts_args_type = "modelId: ModelId, name: string", ts_return_type = "Promise<Uint8Array>")]
pub fn get_tensor_data<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    name: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Uint8Array>> {
    promise(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let name = Arg::new("name", name).string()?;
        background(env, move || model.tensor_bytes(&name), Uint8Array::new)
    })
}

/// Releases one reference to a model; `true` when it was the last and the model is gone. Work that still runs on it then
/// ends with `ERR_REALM_MODEL_REMOVED`. Throws `ERR_REALM_MODEL_NOT_FOUND`.
#[napi(catch_unwind, ts_args_type = "modelId: ModelId")]
pub fn remove_model<'env>(env: &'env Env, model_id: Unknown<'env>) -> napi::Result<bool> {
    sync(env, || Ok(engine::remove(&Arg::new("modelId", model_id).model_id()?)?))
}

#[cfg(test)]
mod tests {
    use super::decode_pathname;

    #[test]
    #[cfg(not(windows))]
    fn pathnames_of_urls() {
        for (pathname, path) in [
            ("/a/b.gguf", Some("/a/b.gguf")),
            ("/a%20b/%C3%A9", Some("/a b/é")),
            ("/a%2Fb", None),
            ("/a%ff", None),
            ("/a%4", None),
            ("/a%zz", None),
        ] {
            assert_eq!(decode_pathname(pathname).as_deref(), path, "{pathname}");
        }
    }
}
