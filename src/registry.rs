//! The process-wide registry of models: content id, de-duplication, reference counts, removal while in use.
use std::sync::Arc;

/// xxh3-128 of a model's content, written as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId(pub u128);

/// Reference-counted models by content id. Generic, so that this module knows nothing of what a model is.
pub struct Registry<M> {
    _m: std::marker::PhantomData<Arc<M>>,
}
