//! Reading GGUF files safely: header, metadata, tensor directory, shards, and the mapping itself.
//!
//! Nothing here knows what a model is. Start at [`Gguf::open`]; the format is the GGUF specification's (`docs/gguf.md` in
//! the ggml repository). Every count, length and offset is compared with the bytes that exist before it is used, and
//! whatever is decoded from the file after it was opened is checked again, as a mapped file may change.
mod cursor;
mod directory;
mod error;
mod map;
mod metadata;
mod read;
mod shards;
mod tensor_type;
mod value;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod testing;

pub use directory::TensorInfo;
pub use error::Error;
pub use map::Mapping;
pub use metadata::Metadata;
pub use read::Gguf;
pub use tensor_type::TensorType;
pub use value::{Array, Value, Values};
