//! The layer API: the engine's own forward pass, one layer at a time.
use super::{Error, Loaded};
use std::sync::Arc;

/// Number format of cached keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    F32,
    #[default]
    F16,
    Q8_0,
}

/// Keys and values of one sequence, owned by the caller. Cloning a handle shares it; [`KvCache::fork`] copies.
#[derive(Clone)]
pub struct KvCache {}

impl KvCache {
    /// Cheap: memory is taken as positions are added. `max_tokens` defaults to the model's context length.
    pub fn new(model: &Arc<Loaded>, max_tokens: Option<usize>, ty: KvType) -> Result<Self, Error> {
        let _ = model;
        todo!("{max_tokens:?} {ty:?}")
    }
    /// Positions held by every layer. Cheap.
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Forgets positions from `len` on. Cheap.
    pub fn truncate(&self, len: usize) -> Result<(), Error> {
        todo!("{len}")
    }
    /// An independent cache with the same content.
    pub fn fork(&self) -> Result<Self, Error> {
        todo!()
    }
    /// Gives the memory back (after running work ends); later use is an error. Cheap.
    pub fn dispose(&self) {
        todo!()
    }
    /// Bytes of memory held now.
    pub fn byte_len(&self) -> u64 {
        todo!()
    }
}

/// `[n, embedding_length]`: the embedding rows of `tokens`. Only those rows are dequantised.
pub fn embed_tokens(model: &Arc<Loaded>, tokens: &[u32]) -> Result<Vec<f32>, Error> {
    let _ = model;
    todo!("{tokens:?}")
}

/// One whole layer over `hidden` `[n, embedding_length]`, whose first row is at `position`.
pub fn forward_layer(
    model: &Arc<Loaded>,
    layer: usize,
    hidden: Vec<f32>,
    position: usize,
    cache: Option<&KvCache>,
) -> Result<Vec<f32>, Error> {
    let _ = (model, hidden, cache);
    todo!("{layer} {position}")
}

/// `[n, vocabulary_size]`: final norm and output matrix over `hidden` `[n, embedding_length]`.
pub fn compute_logits(model: &Arc<Loaded>, hidden: Vec<f32>) -> Result<Vec<f32>, Error> {
    let _ = (model, hidden);
    todo!()
}
