//! Hyper-parameters, weight views, and one forward pass driven by a description of the family.
//!
//! Knows nothing of requests. Begin with `forward.rs`, which reads like the paper; `family.rs` says what differs between
//! families, `params.rs` reads the numbers, `layer.rs` and `weights.rs` find and check the tensors.
mod family;
mod feed_forward;
mod forward;
mod layer;
mod params;
mod reposition;
mod rope;
#[cfg(test)]
mod tests;
mod weights;

pub use forward::{Batch, Scratch};
pub use params::Params;

use crate::{
    gguf::{self, Gguf},
    kernels,
};
use family::Family;
use rope::Ropes;
use std::sync::Arc;
use weights::Weights;

/// Why a file cannot be run as a model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] gguf::Error),
    /// Tensors and hyper-parameters do not fit together.
    #[error("{0}")]
    Bad(String),
    /// Something this version does not have, by name.
    #[error("{0}")]
    Unsupported(String),
}

/// A model that can be run: numbers and views of weights that stay in the file.
pub struct Network {
    gguf: Arc<Gguf>,
    pub params: Params,
    family: &'static Family,
    ropes: Ropes,
    weights: Weights,
}

impl Network {
    pub fn new(gguf: Arc<Gguf>) -> Result<Self, Error> {
        kernels::requested().map_err(Error::Unsupported)?;
        let (family, params) = Params::read(gguf.metadata())?;
        let weights = Weights::find(&gguf, &params, family)?;
        let ropes = Ropes::new(gguf.metadata(), &gguf, &params, family)?;
        Ok(Self { gguf, params, family, ropes, weights })
    }

    /// Rows of the embedding, which is also the number of logits.
    pub fn vocabulary_size(&self) -> usize {
        self.weights.token_embedding.rows()
    }
}
