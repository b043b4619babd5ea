//! realm-node: language models inside a Node.js process.
//!
//! Data flows one way: bytes on disk → tensors → layers → tokens → JavaScript. A module may use the modules after it in
//! this list and none before it; CONTRIBUTING.md has the map.
#![cfg_attr(test, allow(dead_code))]

#[cfg(feature = "node")]
mod node;

pub mod engine;

pub mod chat;
pub mod sampling;
pub mod tokenizer;

pub mod model;

pub mod cache;
pub mod kernels;

pub mod compute;

pub mod quant;

pub mod registry;

pub mod gguf;
