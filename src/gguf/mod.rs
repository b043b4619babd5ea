//! Reading GGUF files safely: header, metadata, tensor directory, shards, and the mapping itself.
//!
//! Nothing here knows what a model is. Start at [`Gguf::open`].
mod error;
mod map;
mod metadata;
mod read;
mod tensor_type;

pub use error::Error;
pub use map::Mapping;
pub use metadata::{Array, Metadata, Value};
pub use read::{Gguf, TensorInfo};
pub use tensor_type::TensorType;
