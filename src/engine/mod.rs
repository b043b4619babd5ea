//! Requests, the batch step loop, cancellation, streams of tokens. Knows nothing of JavaScript.
//!
//! `node/` is a thin layer over this module: everything here blocks the calling thread (call it from the blocking pool,
//! [`runtime`]) unless its comment says that it is cheap. A generation goes through `request.rs` (what was asked),
//! `scheduler.rs` (the step loop of a model) and `generation.rs` (one running request) into a `pipe.rs`.
mod error;
mod generation;
mod info;
mod inspect;
mod layers;
mod pipe;
mod process;
mod request;
mod scheduler;
mod store;

pub use crate::kernels::KvFormat as KvType;
pub use error::Error;
pub use info::{ModelInfo, TensorDescription};
pub use inspect::{FileReport, MemoryReport, NamedToken, TensorTypeReport, TokenizerDetails, TokenizerReport, inspect};
pub use layers::{KvCache, compute_logits, embed_tokens, forward_layer};
pub use pipe::{Pipe, Take};
pub use process::{SystemInfo, configure, runtime, system_info};
pub use request::{
    Chunk, Finish, FinishReason, GenerateOptions, Message, Overflow, Prompt, Stream, Timings, Usage, submit,
};
pub use store::{Loaded, Source, get, list, remove, store};
