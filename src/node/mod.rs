//! The JavaScript surface: argument checking, conversion, error codes, streams. Thin: no arithmetic.
//!
//! One file per topic of the public API: [`models`], [`inspect`], [`metadata`], [`layers`], [`cache`], [`text`], [`generate`],
//! [`stream`], [`stats`], [`process`]. The rest are their tools; begin at [`call`], through which every entry goes.
//!
//! What holds for every entry:
//! - It is synchronous on the Rust side and marked `catch_unwind`. No future borrows from JavaScript: input is copied or
//!   its `Arc` cloned before the promise is made, because memory that JavaScript owns can move, change or go away.
//! - A function that returns a promise never throws, it rejects. The others (`generateStream` among them) throw.
//! - Arguments arrive as `Unknown` and are checked in [`args`], so that a wrong one is always
//!   `ERR_REALM_INVALID_ARGUMENT` with a message that names it.
//! - Work runs on the blocking pool of the engine ([`runtime`]); results become JavaScript values on the JavaScript thread.
mod abort;
mod args;
mod bytes;
mod cache;
mod call;
mod chunk;
mod errors;
mod generate;
mod inspect;
mod json;
mod layers;
mod lifetime;
mod metadata;
mod models;
mod options;
mod panics;
mod process;
mod progress;
mod runtime;
mod stats;
mod stream;
mod text;
