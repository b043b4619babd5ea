use super::{
    Error, Mapping, Metadata, TensorInfo,
    cursor::Cursor,
    directory::Directory,
    shards::{ShardName, Split},
};
use std::{io, path::Path, sync::Arc};

const MAGIC: [u8; 4] = *b"GGUF";
/// Used when a file has no `general.alignment`.
const DEFAULT_ALIGNMENT: u32 = 32;

/// An opened model file (all shards): metadata, tensor directory and the mapped bytes.
#[derive(Debug)]
pub struct Gguf {
    shards: Vec<Arc<Mapping>>,
    /// The first shard's; the others have none of their own.
    metadata: Metadata,
    directory: Directory,
}

impl Gguf {
    /// Maps the file. A name that ends in `-00001-of-0000N.gguf` opens all shards.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut gguf = Self::read_first(Mapping::open(path)?)?;
        let split = Split::read(&gguf.metadata)?;
        let in_first = |e: Error| e.in_file(Some(path));
        if let Some(name) = split.check_first(ShardName::parse(path)).map_err(in_first)? {
            for number in 2..=split.count {
                gguf.read_later(&split, number, &name.path_of(number))?;
            }
        }
        split.check_tensors(gguf.directory.tensors.len()).map_err(in_first)?;
        Ok(gguf)
    }

    /// Reads from bytes that the caller hands over; tensor data is used in place.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let gguf = Self::read_first(Mapping::from_bytes(bytes))?;
        let split = Split::read(&gguf.metadata)?;
        split.check_first(None)?;
        split.check_tensors(gguf.directory.tensors.len())?;
        Ok(gguf)
    }

    fn read_first(mapping: Mapping) -> Result<Self, Error> {
        let mapping = Arc::new(mapping);
        let mut directory = Directory::default();
        let metadata = read_shard(&mapping, 0, &mut directory)?;
        Ok(Self { shards: vec![mapping], metadata, directory })
    }

    /// Adds the tensors of shard `number`, counted from 1.
    fn read_later(&mut self, first: &Split, number: u32, path: &Path) -> Result<(), Error> {
        let mapping = Arc::new(Mapping::open(path).map_err(|e| name_missing_shard(e, number, first.count))?);
        let metadata = read_shard(&mapping, self.shards.len(), &mut self.directory)?;
        first.check_later(&Split::read(&metadata)?, number).map_err(|e| e.in_file(Some(path)))?;
        self.shards.push(mapping);
        Ok(())
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// In file order, shard by shard.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.directory.tensors
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.directory.get(name)
    }

    /// The bytes of a tensor as stored. The tensor must be one of this file's.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        &self.shards[tensor.shard].bytes()[tensor.offset..][..tensor.byte_len]
    }

    /// The whole bytes of each shard, in order (for hashing).
    pub fn shard_bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.shards.iter().map(|shard| shard.bytes())
    }

    /// Path of the (first) file, if it was opened from one.
    pub fn path(&self) -> Option<&Path> {
        self.shards.first()?.path()
    }

    /// Of all shards together, in bytes.
    pub fn file_size(&self) -> u64 {
        self.shard_bytes().map(|bytes| bytes.len() as u64).sum()
    }

    /// See [`super::Mapping::check_unchanged`]; checks every shard.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.shards.iter().try_for_each(|shard| shard.check_unchanged())
    }
}

fn name_missing_shard(error: Error, number: u32, count: u32) -> Error {
    match error {
        Error::Io { path, source } if source.kind() == io::ErrorKind::NotFound => {
            let what = format!("shard {number} of {count} of this model is missing");
            Error::Io { path, source: io::Error::new(io::ErrorKind::NotFound, what) }
        }
        other => other,
    }
}

/// Reads one file: returns its metadata and adds its tensors to the directory.
fn read_shard(mapping: &Arc<Mapping>, shard: usize, directory: &mut Directory) -> Result<Metadata, Error> {
    let mut cursor = Cursor::new(mapping.bytes(), 0);
    let mut read = || {
        let header = Header::read(&mut cursor)?;
        let metadata = Metadata::read(mapping, &mut cursor, Header::PAIRS_AT, header.pairs)?;
        let alignment = alignment(&metadata)?;
        directory.read_shard(&mut cursor, Header::TENSORS_AT, header.tensors, alignment, shard)?;
        Ok(metadata)
    };
    read().map_err(|e: Error| e.in_file(mapping.path()))
}

struct Header {
    tensors: u64,
    pairs: u64,
}

impl Header {
    const VERSION_AT: usize = 4;
    const TENSORS_AT: usize = 8;
    const PAIRS_AT: usize = 16;

    /// Versions 2 and 3 differ only in that 3 allows big-endian files.
    fn read(cursor: &mut Cursor) -> Result<Self, Error> {
        let magic = cursor.take(MAGIC.len(), "the magic number")?;
        if magic != MAGIC {
            let found = magic.escape_ascii();
            return Err(Error::bad(0, format!("a GGUF file begins with 'GGUF' but this one with '{found}'")));
        }
        let version = cursor.u32("the version")?;
        check_version(version)?;
        Ok(Self { tensors: cursor.u64("the number of tensors")?, pairs: cursor.u64("the number of metadata pairs")? })
    }
}

fn check_version(version: u32) -> Result<(), Error> {
    let unsupported = |what| Err(Error::Unsupported(format!("{what} (at byte {})", Header::VERSION_AT)));
    match version {
        2 | 3 => Ok(()),
        // The specification has no mark for it, but no version number uses the high bytes.
        _ if matches!(version.swap_bytes(), 1..=0xffff) => {
            let swapped = version.swap_bytes();
            unsupported(format!(
                "this is a big-endian file (GGUF version {swapped}); only little-endian files can be read"
            ))
        }
        _ => unsupported(format!("this file has GGUF version {version}; versions 2 and 3 can be read")),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    let alignment = metadata.u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || !alignment.is_multiple_of(8) {
        return Err(
            metadata.error("general.alignment", format!("should be a power of two from 8 on but is {alignment}"))
        );
    }
    Ok(alignment.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{
        TensorType,
        testing::{Owned, TempDir, Writer},
    };

    fn message(bytes: Vec<u8>) -> String {
        Gguf::from_bytes(bytes).unwrap_err().to_string()
    }

    #[test]
    fn versions_2_and_3_are_read() {
        for version in [2, 3] {
            let writer = Writer { version, ..Writer::default() }.tensor("t", TensorType::I8, &[2]);
            assert_eq!(Gguf::from_bytes(writer.write()).unwrap().tensors().len(), 1);
        }
    }

    #[test]
    fn other_versions_and_byte_orders_are_unsupported() {
        let error = |version| Gguf::from_bytes(Writer { version, ..Writer::default() }.write()).unwrap_err();
        for version in [0, 1, 4, u32::MAX] {
            assert!(matches!(error(version), Error::Unsupported(_)));
        }
        assert_eq!(error(1).to_string(), "this file has GGUF version 1; versions 2 and 3 can be read (at byte 4)");
        let message = error(3u32.swap_bytes()).to_string();
        assert!(message.starts_with("this is a big-endian file (GGUF version 3)"), "{message}");
    }

    #[test]
    fn other_files_are_recognised() {
        assert_eq!(message(b"GGML 1".into()), "a GGUF file begins with 'GGUF' but this one with 'GGML' (at byte 0)");
        assert_eq!(
            message(vec![0, 159, 1, 2]),
            r"a GGUF file begins with 'GGUF' but this one with '\x00\x9f\x01\x02' (at byte 0)"
        );
        assert!(message(vec![]).starts_with("the file ends inside the magic number"));
    }

    #[test]
    fn counts_beyond_the_file_are_refused() {
        let mut bytes = Writer::default().tensor("t", TensorType::I8, &[2]).write();
        bytes[16..24].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(message(bytes.clone()).starts_with("1099511627776 metadata pairs are claimed but the "));
        bytes[16..24].fill(0);
        bytes[8..16].copy_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(message(bytes).starts_with("1099511627776 tensors are claimed but the "));
    }

    #[test]
    fn alignment_must_make_sense() {
        for alignment in [0, 1, 4, 24, u32::MAX] {
            let writer = Writer::default().pair("general.alignment", Owned::U32(alignment));
            let expected =
                format!("metadata key 'general.alignment' should be a power of two from 8 on but is {alignment}");
            assert!(message(writer.write()).starts_with(&expected), "{}", message(writer.write()));
        }
        let writer = Writer::default().pair("general.alignment", Owned::str("32"));
        assert!(message(writer.write()).contains("should be an unsigned integer but is a string"));
        let writer = Writer::default().pair("general.alignment", Owned::U32(1 << 31));
        assert!(message(writer.tensor("t", TensorType::I8, &[1]).write()).contains("should begin at byte 2147483648"));
    }

    #[test]
    fn files_without_tensors_are_read() {
        let bytes = Writer::default().pair("general.architecture", Owned::str("llama")).write();
        assert!(Gguf::from_bytes(bytes.clone()).unwrap().tensors().is_empty());
        // The padding of a vocabulary file is optional: header, length of the key, key, type, length of the text, text.
        let unpadded = bytes[..24 + 8 + 20 + 4 + 8 + 5].to_vec();
        assert!(unpadded.len() < bytes.len());
        assert!(Gguf::from_bytes(unpadded).unwrap().tensors().is_empty());
    }

    #[test]
    fn a_path_and_its_bytes_read_the_same() {
        let dir = TempDir::new();
        let bytes = Writer::default().pair("k", Owned::U8(1)).tensor("t", TensorType::I8, &[2]).write();
        let path = dir.file("m.gguf", &bytes);
        let mapped = Gguf::open(&path).unwrap();
        assert_eq!((mapped.path(), mapped.file_size()), (Some(&*path), bytes.len() as u64));
        assert_eq!(mapped.shard_bytes().collect::<Vec<_>>(), [&bytes[..]]);
        let owned = Gguf::from_bytes(bytes).unwrap();
        assert_eq!(owned.path(), None);
        assert_eq!(mapped.data(&mapped.tensors()[0]), owned.data(&owned.tensors()[0]));
        assert!(mapped.metadata().iter().eq(owned.metadata().iter()));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = TempDir::new();
        let path = dir.file("m.gguf", b"GGML");
        let error = Gguf::open(&path).unwrap_err().to_string();
        assert!(error.ends_with(&format!("(at byte 0 of {})", path.display())), "{error}");
        let path = dir.file("k.gguf", &Writer::default().pair("k", Owned::U8(1)).write());
        let error = Gguf::open(&path).unwrap().metadata().str("k").unwrap_err().to_string();
        assert!(error.ends_with(&format!("(at byte 37 of {})", path.display())), "{error}");
    }
}
