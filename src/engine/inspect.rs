//! What a file is and whether it runs here, without storing it: no weights are read and nothing is hashed.
use super::{Error, KvType, ModelInfo, plan};
use crate::{
    chat::ChatTemplate,
    gguf::{Gguf, TensorInfo, Value},
    kernels::{self, CHUNK},
    model::Network,
    quant,
    tokenizer::Tokenizer,
};
use std::{path::Path, sync::Arc};

/// Names as in the public API.
pub struct FileReport {
    /// `id` is empty: nothing was hashed.
    pub info: ModelInfo,
    pub shard_count: usize,
    pub tensor_types: Vec<TensorTypeReport>,
    pub tokenizer: Option<TokenizerReport>,
    pub template: Option<String>,
    /// Why the chat template cannot be used.
    pub template_error: Option<String>,
    /// Why the file cannot be run; empty when it can.
    pub problems: Vec<String>,
    /// `None` for a file that cannot be run.
    pub memory: Option<MemoryReport>,
    pub instruction_set: &'static str,
}

pub struct TensorTypeReport {
    pub ty: &'static str,
    pub count: usize,
    pub byte_length: u64,
    pub supported: bool,
}

pub struct TokenizerReport {
    /// `tokenizer.ggml.model` and `tokenizer.ggml.pre`.
    pub model: String,
    pub pre: Option<String>,
    /// `None` when this version does not have the tokenizer, or its vocabulary is damaged.
    pub details: Option<TokenizerDetails>,
}

pub struct TokenizerDetails {
    pub vocabulary_size: usize,
    pub bos: Option<NamedToken>,
    pub eos: Option<NamedToken>,
    /// What a text begins and ends with.
    pub first: Option<NamedToken>,
    pub last: Option<NamedToken>,
    pub ends: Vec<NamedToken>,
}

pub struct NamedToken {
    pub id: u32,
    pub text: String,
}

/// Bytes that a context of this length takes.
pub struct MemoryReport {
    pub context_length: usize,
    /// Of the file, which other processes that map it share.
    pub mapped: u64,
    /// Of keys and values, by their type, and of recurrent states.
    pub kv_cache: [(KvType, u64); 3],
    /// About what a step computes in, without what the threads hold.
    pub scratch: u64,
}

/// `context_length`: what to tell the memory for, instead of the model's own.
pub fn inspect(path: &Path, context_length: Option<usize>) -> Result<FileReport, Error> {
    let gguf = Arc::new(Gguf::open(path)?);
    let metadata = gguf.metadata();
    let mut problems = Vec::new();
    let tokenizer = note(Tokenizer::from_metadata(metadata), &mut problems).flatten();
    let network = match gguf.tensors() {
        [] => {
            problems.push("the file has no weights".to_owned());
            None
        }
        _ => note(Network::new(gguf.clone()), &mut problems),
    };
    let tensor_types = tensor_types(gguf.tensors());
    for report in tensor_types.iter().filter(|report| !report.supported) {
        // The network names the first one that it meets.
        let is_named = problems.iter().any(|problem| problem.contains(&format!("type {},", report.ty)));
        if !is_named {
            problems.push(format!("{} tensors are of type {}, which is not supported", report.count, report.ty));
        }
    }
    let (template, template_error) = match metadata.get("tokenizer.chat_template") {
        Some(Value::String(source)) => {
            let error = ChatTemplate::new(&source).err().map(|e| e.to_string());
            (Some(source.into_owned()), error)
        }
        _ => (None, None),
    };
    Ok(FileReport {
        info: ModelInfo::new(String::new(), &gguf, tokenizer.as_ref(), network.as_ref())?,
        shard_count: gguf.shard_bytes().count(),
        memory: network.as_ref().filter(|_| problems.is_empty()).map(|network| memory(&gguf, network, context_length)),
        tokenizer: describe(&gguf, tokenizer.as_ref())?,
        tensor_types,
        template,
        template_error,
        problems,
        instruction_set: kernels::tier().name,
    })
}

/// What there is, or why there is none among the problems.
fn note<T, E: std::fmt::Display>(result: Result<T, E>, problems: &mut Vec<String>) -> Option<T> {
    result.map_err(|e| problems.push(e.to_string())).ok()
}

/// In the order in which they first occur.
fn tensor_types(tensors: &[TensorInfo]) -> Vec<TensorTypeReport> {
    let mut reports: Vec<TensorTypeReport> = Vec::new();
    for tensor in tensors {
        let bytes = tensor.byte_len as u64;
        match reports.iter_mut().find(|report| report.ty == tensor.ty.name()) {
            Some(report) => {
                report.count += 1;
                report.byte_length += bytes;
            }
            None => reports.push(TensorTypeReport {
                ty: tensor.ty.name(),
                count: 1,
                byte_length: bytes,
                supported: quant::is_supported(tensor.ty),
            }),
        }
    }
    reports
}

fn describe(gguf: &Gguf, tokenizer: Option<&Tokenizer>) -> Result<Option<TokenizerReport>, Error> {
    let text = |key| -> Result<Option<String>, Error> { Ok(gguf.metadata().str(key)?.map(|text| text.into_owned())) };
    let Some(model) = text("tokenizer.ggml.model")? else { return Ok(None) };
    let details = tokenizer.map(|tokenizer| {
        let named = |id: u32| NamedToken { id, text: tokenizer.token_text(id).unwrap_or_default() };
        let (first, last) = tokenizer.added();
        TokenizerDetails {
            vocabulary_size: tokenizer.vocab_size(),
            bos: tokenizer.bos().map(named),
            eos: tokenizer.eos().map(named),
            first: first.map(named),
            last: last.map(named),
            ends: tokenizer.ends().iter().copied().map(named).collect(),
        }
    });
    Ok(Some(TokenizerReport { model, pre: text("tokenizer.ggml.pre")?, details }))
}

fn memory(gguf: &Gguf, network: &Network, context_length: Option<usize>) -> MemoryReport {
    let context_length = context_length.unwrap_or(network.params.context_length);
    let pages = context_length.div_ceil(CHUNK);
    MemoryReport {
        context_length,
        mapped: gguf.file_size(),
        kv_cache: [KvType::F32, KvType::F16, KvType::Q8_0].map(|ty| (ty, network.layout(ty).sequence_bytes(pages))),
        scratch: scratch(network, context_length),
    }
}

/// The buffers of one step: per row the residual stream, its quantised inputs, queries and attention, keys and values, and
/// the feed-forward's inner rows; and one row of logits.
fn scratch(network: &Network, context_length: usize) -> u64 {
    let params = &network.params;
    let rows = plan::most_rows(params).min(context_length) as u64;
    let attention = 2 * params.heads * params.head_dim + 2 * params.kv_heads * params.head_dim;
    let mixer = params.recurrent.as_ref().map_or(0, |recurrent| recurrent.row_len()).max(attention);
    let row = 3 * params.embedding_length + mixer + 2 * params.feed_forward_length * params.experts_used.max(1);
    4 * (rows * row as u64 + network.vocabulary_size() as u64)
}
