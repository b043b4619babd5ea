//! Requests, the batch step loop, cancellation, streams of tokens. Knows nothing of JavaScript.
//!
//! `node/` is a thin layer over this module: everything here blocks the calling thread (call it from the blocking pool,
//! [`runtime`]) unless its comment says that it is cheap. A generation goes through `request.rs` (what was asked),
//! `scheduler.rs` (who waits), `step_loop.rs` (the steps of a model), `plan.rs` (what a step
//! computes) and `generation.rs` (one running request) into a `pipe.rs`.
mod error;
mod generation;
mod info;
mod inspect;
mod kv_cache;
mod layers;
mod pipe;
mod plan;
mod process;
mod request;
mod scheduler;
mod shift;
mod stats;
mod step_loop;
mod store;
mod text_out;

pub use crate::kernels::KvFormat as KvType;
pub use error::Error;
pub use info::{ModelInfo, TensorDescription};
pub use inspect::{FileReport, MemoryReport, NamedToken, TensorTypeReport, TokenizerDetails, TokenizerReport, inspect};
pub use kv_cache::KvCache;
pub use layers::{compute_logits, embed_tokens, forward_layer};
pub use pipe::{Pipe, Take};
pub use process::{SystemInfo, configure, runtime, system_info};
pub use request::{
    Chunk, Finish, FinishReason, GenerateOptions, Message, Overflow, Prompt, Stream, Timings, Usage, submit,
};
pub use stats::ModelStats;
pub use store::{Loaded, Source, get, list, remove, store};
