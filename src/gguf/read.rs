use super::{Error, Metadata, TensorType};
use std::path::Path;

/// An opened model file (all shards): metadata, tensor directory and the mapped bytes.
#[derive(Debug)]
pub struct Gguf {}

/// One entry of the tensor directory. The data lie inside the file: that was checked when it was read.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    pub name: String,
    pub ty: TensorType,
    /// Row-major, slowest dimension first: a weight matrix is `[rows, columns]` (the reverse of the file's order).
    pub shape: Vec<usize>,
    /// Which shard holds it (0 for a single file), and where.
    pub shard: usize,
    pub offset: usize,
    pub byte_len: usize,
}

impl Gguf {
    /// Maps the file. A name that ends in `-00001-of-0000N.gguf` opens all shards.
    pub fn open(path: &Path) -> Result<Self, Error> {
        todo!("{path:?}")
    }
    /// Reads from bytes that the caller hands over; tensor data is used in place.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        todo!("{}", bytes.len())
    }
    pub fn metadata(&self) -> &Metadata {
        todo!()
    }
    /// In file order, shard by shard.
    pub fn tensors(&self) -> &[TensorInfo] {
        todo!()
    }
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        todo!("{name}")
    }
    /// The bytes of a tensor as stored.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        todo!("{tensor:?}")
    }
    /// The whole bytes of each shard, in order (for hashing).
    pub fn shard_bytes(&self) -> impl Iterator<Item = &[u8]> {
        todo!() as std::vec::IntoIter<&[u8]>
    }
    /// Path of the (first) file, if it was opened from one.
    pub fn path(&self) -> Option<&Path> {
        todo!()
    }
    pub fn file_size(&self) -> u64 {
        todo!()
    }
    /// See [`super::Mapping::check_unchanged`]; checks every shard.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        todo!()
    }
}
