use super::Error;
use std::path::Path;

/// Read-only bytes of a model file: a memory map of a path, or bytes that the caller handed over.
#[derive(Debug)]
pub struct Mapping {}

impl Mapping {
    pub fn open(path: &Path) -> Result<Self, Error> {
        todo!("{path:?}")
    }
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        todo!("{}", bytes.len())
    }
    pub fn bytes(&self) -> &[u8] {
        todo!()
    }
    pub fn path(&self) -> Option<&Path> {
        todo!()
    }
    /// Fails with [`Error::Changed`] when the file was truncated or rewritten since it was mapped (one `fstat`).
    pub fn check_unchanged(&self) -> Result<(), Error> {
        todo!()
    }
}
