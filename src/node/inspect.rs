//! Reports on files that are not stored.
use super::{
    args::{Arg, Options},
    call::{background, promise},
    models::path,
};
use crate::engine::{self, KvType};
use napi::{
    Env,
    bindgen_prelude::{PromiseRaw, Unknown},
};
use napi_derive::napi;

/// The longest context that any model has is far below; a larger number is a mistake.
const MAX_CONTEXT: i64 = 1 << 32;

/// Options of `inspect`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `inspect`.
pub struct InspectOptions {
    /// Tokens of context to tell the memory for. Default: what the model was trained for.
    pub context_length: Option<f64>,
}

/// What `inspect` tells about a file. Numbers that a file does not have are 0.
#[napi(object, object_from_js = false)]
pub struct FileReport {
    pub path: String,
    /// `general.name`, or the file's name when it has none.
    pub name: String,
    /// `general.architecture`, such as `llama`.
    pub architecture: String,
    /// How most of the weights are stored, such as `Q4_K_M`.
    pub quantization: String,
    /// Whether `storeModel` takes the file and it can generate.
    pub runs: bool,
    /// Why it does not run here, by name: architecture, tensor type, tokenizer, shape. Empty when it runs.
    pub problems: Vec<String>,
    /// Bytes of the file, or of all shards.
    pub file_size: f64,
    /// Files that the model is made of.
    pub shard_count: f64,
    pub parameter_count: f64,
    pub tensor_count: f64,
    /// In the order in which they first occur.
    pub tensor_types: Vec<TensorTypeReport>,
    /// Tokens that the model was trained to look back at.
    pub context_length: f64,
    pub embedding_length: f64,
    pub layer_count: f64,
    pub head_count: f64,
    /// Heads for keys and values.
    pub kv_head_count: f64,
    pub vocabulary_size: f64,
    /// Absent for a file without a vocabulary.
    pub tokenizer: Option<TokenizerReport>,
    /// Jinja source of the chat template; absent when the file has none.
    pub chat_template: Option<String>,
    /// Why the chat template cannot be used, where it cannot.
    pub chat_template_error: Option<String>,
    /// Absent for a file that does not run.
    pub memory: Option<MemoryReport>,
    /// What this process would compute with, such as `avx2`.
    pub instruction_set: String,
}

/// The tensors of one type.
#[napi(object, object_from_js = false)]
pub struct TensorTypeReport {
    /// Number or block format, such as `F32` or `Q4_K`.
    #[napi(js_name = "type")]
    pub ty: String,
    pub count: f64,
    pub byte_length: f64,
    /// Whether this version computes with it.
    pub supported: bool,
}

/// What a file says about its tokenizer.
#[napi(object, object_from_js = false)]
pub struct TokenizerReport {
    /// `tokenizer.ggml.model`: `llama` (SentencePiece), `gpt2` (byte-level BPE), `t5` (unigram), `bert` (WordPiece), …
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the rules that split a text before BPE merges.
    pub pre: Option<String>,
    /// Whether this version has it. What follows is absent, or empty, if not.
    pub supported: bool,
    pub vocabulary_size: Option<f64>,
    pub bos: Option<TokenReport>,
    pub eos: Option<TokenReport>,
    /// What `addSpecial` puts before a text.
    pub added_before: Option<TokenReport>,
    /// What `addSpecial` puts after a text.
    pub added_after: Option<TokenReport>,
    /// Tokens that end an answer.
    pub end_of_generation: Vec<TokenReport>,
}

/// A token of a vocabulary.
#[napi(object, object_from_js = false)]
pub struct TokenReport {
    pub id: f64,
    pub text: String,
}

/// Bytes of memory that one request with a full context takes.
#[napi(object, object_from_js = false)]
pub struct MemoryReport {
    /// The context that this is for.
    pub context_length: f64,
    /// Of the mapped file. The operating system may drop and read them again, and shares them between processes.
    pub mapped: f64,
    /// Of keys and values, for each `kvType`; the state of recurrent layers included.
    pub kv_cache: KvCacheReport,
    /// About what a step computes in.
    pub scratch: f64,
}

/// Bytes of a key/value cache, for each `kvType`.
#[napi(object, object_from_js = false)]
pub struct KvCacheReport {
    pub f32: f64,
    pub f16: f64,
    #[napi(js_name = "q8_0")]
    pub q8_0: f64,
}

impl From<engine::NamedToken> for TokenReport {
    fn from(token: engine::NamedToken) -> Self {
        Self { id: token.id.into(), text: token.text }
    }
}

impl From<engine::TokenizerReport> for TokenizerReport {
    fn from(report: engine::TokenizerReport) -> Self {
        let (model, pre) = (report.model, report.pre);
        let Some(details) = report.details else {
            return Self {
                model,
                pre,
                supported: false,
                vocabulary_size: None,
                bos: None,
                eos: None,
                added_before: None,
                added_after: None,
                end_of_generation: Vec::new(),
            };
        };
        Self {
            model,
            pre,
            supported: true,
            vocabulary_size: Some(details.vocabulary_size as f64),
            bos: details.bos.map(TokenReport::from),
            eos: details.eos.map(TokenReport::from),
            added_before: details.first.map(TokenReport::from),
            added_after: details.last.map(TokenReport::from),
            end_of_generation: details.ends.into_iter().map(TokenReport::from).collect(),
        }
    }
}

impl From<engine::MemoryReport> for MemoryReport {
    fn from(report: engine::MemoryReport) -> Self {
        let bytes = |wanted: KvType| {
            report.kv_cache.iter().find(|(ty, _)| *ty == wanted).map_or(0.0, |&(_, bytes)| bytes as f64)
        };
        Self {
            context_length: report.context_length as f64,
            mapped: report.mapped as f64,
            kv_cache: KvCacheReport { f32: bytes(KvType::F32), f16: bytes(KvType::F16), q8_0: bytes(KvType::Q8_0) },
            scratch: report.scratch as f64,
        }
    }
}

impl From<engine::FileReport> for FileReport {
    fn from(report: engine::FileReport) -> Self {
        let info = report.info;
        let describe = |ty: engine::TensorTypeReport| TensorTypeReport {
            ty: ty.ty.to_owned(),
            count: ty.count as f64,
            byte_length: ty.byte_length as f64,
            supported: ty.supported,
        };
        Self {
            path: info.path.unwrap_or_default(),
            name: info.name,
            architecture: info.architecture,
            quantization: info.quantization,
            runs: report.problems.is_empty(),
            problems: report.problems,
            file_size: info.file_size as f64,
            shard_count: report.shard_count as f64,
            parameter_count: info.parameter_count as f64,
            tensor_count: info.tensor_count as f64,
            tensor_types: report.tensor_types.into_iter().map(describe).collect(),
            context_length: info.context_length as f64,
            embedding_length: info.embedding_length as f64,
            layer_count: info.layer_count as f64,
            head_count: info.head_count as f64,
            kv_head_count: info.kv_head_count as f64,
            vocabulary_size: info.vocabulary_size as f64,
            tokenizer: report.tokenizer.map(TokenizerReport::from),
            chat_template: report.template,
            chat_template_error: report.template_error,
            memory: report.memory.map(MemoryReport::from),
            instruction_set: report.instruction_set.to_owned(),
        }
    }
}

/// What a GGUF file is, whether it runs here and why not, and the memory it needs, without storing it: no weights are
/// read, so that a file of any size takes the same moment. `npx realm-node inspect FILE` prints this.
///
/// A file that does not run here is no error. Rejects with `ERR_REALM_BAD_GGUF` (damaged, or no GGUF file),
/// `ERR_REALM_UNSUPPORTED` (a version or tensor type of GGUF that is not known), `ERR_REALM_IO` or
/// `ERR_REALM_INVALID_ARGUMENT`.
///
/// ```js
/// const { runs, problems, memory } = await inspect('model.gguf', { contextLength: 8192 })
/// ```
#[napi(
    catch_unwind,
    ts_args_type = "path: string | URL, options?: InspectOptions | null",
    ts_return_type = "Promise<FileReport>"
)]
pub fn inspect<'env>(
    env: &'env Env,
    file: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, FileReport>> {
    promise(env, || {
        let file = path(&Arg::new("path", file), "a path or a file: URL")?;
        let options = Options::new("options", options, &["contextLength"])?;
        let context_length = options.read("contextLength", |arg| arg.integer(1..=MAX_CONTEXT))?;
        background(env, move || engine::inspect(&file, context_length), FileReport::from)
    })
}
