//! Requests, the batch step loop, cancellation, streams of tokens. Knows nothing of JavaScript.
//!
//! `node/` is a thin layer over this module: everything here blocks the calling thread (call it from the blocking pool)
//! unless its comment says that it is cheap.
mod error;
mod info;
mod layers;
mod pipe;
mod request;
mod store;

pub use error::Error;
pub use info::{ModelInfo, SystemInfo, TensorDescription, configure, system_info};
pub use layers::{KvCache, KvType, compute_logits, embed_tokens, forward_layer};
pub use pipe::{Pipe, Take};
pub use request::{
    Chunk, Finish, FinishReason, GenerateOptions, Message, Overflow, Prompt, Stream, Timings, Usage, submit,
};
pub use store::{Loaded, Source, get, list, remove, store};
