use super::{Error, TensorType, cursor::Cursor, error::quoted};
use std::collections::{HashMap, hash_map};

/// Limits that keep what parsing allocates small whatever the file; the largest models have some thousands of tensors.
const MAX_TENSORS: usize = 1 << 16;
/// The specification allows 64; some converters write more.
const MAX_NAME_LEN: usize = 128;
const MAX_DIMENSIONS: u32 = 4;
/// Bytes of an entry at least: length of the name, number of dimensions, one dimension, type, offset.
const LEAST_ENTRY: usize = 8 + 4 + 8 + 4 + 8;

/// One entry of the tensor directory. The data lie inside the file: that was checked when it was read.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    pub name: String,
    pub ty: TensorType,
    /// Row-major, slowest dimension first: a weight matrix is `[rows, columns]` (the reverse of the file's order).
    pub shape: Vec<usize>,
    /// Which shard holds it (0 for a single file).
    pub shard: usize,
    /// Where its data begin, from the beginning of the shard.
    pub offset: usize,
    pub byte_len: usize,
}

/// The tensors of all shards read so far.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
}

/// An entry as it stands in the file, before it is known where the data section begins.
struct Entry<'a> {
    name: &'a str,
    /// Where the entry begins.
    at: usize,
    ty: TensorType,
    shape: Vec<usize>,
    byte_len: u64,
    /// From the beginning of the data section, and where that was said.
    offset: u64,
    offset_at: usize,
}

/// Where the tensor data of a shard lie.
struct DataSection {
    shard: usize,
    start: usize,
    len: usize,
    alignment: u64,
}

impl Directory {
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// Reads the `count` entries of a shard, the number stated at byte `count_at`, and finds their data behind them.
    pub fn read_shard(
        &mut self,
        cursor: &mut Cursor,
        count_at: usize,
        count: u64,
        alignment: u64,
        shard: usize,
    ) -> Result<(), Error> {
        let count = cursor.check_count(count_at, count, LEAST_ENTRY, "tensors")?;
        if count > MAX_TENSORS - self.tensors.len() {
            return Err(Error::Unsupported(format!("the model has more than {MAX_TENSORS} tensors")));
        }
        let mut entries = Vec::with_capacity(count);
        for number in 0..count {
            entries.push(Entry::read(cursor, number)?);
        }
        if entries.is_empty() {
            // A vocabulary, or the first of several shards: nothing says that the padding must be there.
            return Ok(());
        }
        let section = DataSection::behind(cursor, alignment, shard)?;
        self.tensors.reserve_exact(count);
        self.index.reserve(count);
        entries.into_iter().try_for_each(|entry| self.add(entry, &section))
    }

    fn add(&mut self, entry: Entry, section: &DataSection) -> Result<(), Error> {
        let at = entry.at;
        let tensor = section.place(entry)?;
        match self.index.entry(tensor.name.clone()) {
            hash_map::Entry::Occupied(_) => {
                Err(Error::bad(at, format!("tensor {} occurs twice", quoted(&tensor.name))))
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(self.tensors.len());
                self.tensors.push(tensor);
                Ok(())
            }
        }
    }
}

impl<'a> Entry<'a> {
    fn read(cursor: &mut Cursor<'a>, number: usize) -> Result<Self, Error> {
        let at = cursor.at();
        let name = read_name(cursor).map_err(|e| e.within(format!("tensor {number}")))?;
        Self::read_rest(cursor, at, name).map_err(|e| e.within(format!("tensor {}", quoted(name))))
    }

    fn read_rest(cursor: &mut Cursor<'a>, at: usize, name: &'a str) -> Result<Self, Error> {
        let shape_at = cursor.at();
        let mut shape = read_shape(cursor)?;
        let ty = read_type(cursor, name)?;
        let byte_len = byte_len(ty, &shape).map_err(|what| Error::bad(shape_at, what))?;
        shape.reverse();
        let offset_at = cursor.at();
        let offset = cursor.u64("its offset")?;
        Ok(Self { name, at, ty, shape, byte_len, offset, offset_at })
    }
}

fn read_name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Error> {
    let at = cursor.at();
    let name = cursor.string("the name")?;
    if name.is_empty() {
        return Err(Error::bad(at, "the name is empty"));
    }
    if name.len() > MAX_NAME_LEN {
        return Err(Error::bad(at, format!("the name has {} bytes; at most {MAX_NAME_LEN} are allowed", name.len())));
    }
    str::from_utf8(name)
        .map_err(|_| Error::bad(at, format!("the name {} is not UTF-8", quoted(&String::from_utf8_lossy(name)))))
}

/// The dimensions in the file's order: row length first.
fn read_shape(cursor: &mut Cursor) -> Result<Vec<usize>, Error> {
    let at = cursor.at();
    let dimensions = cursor.u32("the number of dimensions")?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(Error::bad(at, format!("it should have 1 to {MAX_DIMENSIONS} dimensions but claims {dimensions}")));
    }
    (0..dimensions).map(|i| read_dimension(cursor, i)).collect()
}

fn read_dimension(cursor: &mut Cursor, number: u32) -> Result<usize, Error> {
    let at = cursor.at();
    match cursor.u64("a dimension")? {
        0 => Err(Error::bad(at, format!("dimension {number} is 0"))),
        size => usize::try_from(size)
            .map_err(|_| Error::bad(at, format!("dimension {number} is {size}, more than this machine can address"))),
    }
}

fn read_type(cursor: &mut Cursor, name: &str) -> Result<TensorType, Error> {
    let at = cursor.at();
    let id = cursor.u32("its type")?;
    TensorType::from_id(id).ok_or_else(|| {
        let why = match id {
            4 | 5 | 31..=33 | 36..=38 => "was removed from the format",
            _ => "is not known to this version",
        };
        Error::Unsupported(format!("tensor {} has type {id}, which {why} (at byte {at})", quoted(name)))
    })
}

/// Bytes of a tensor whose dimensions are in the file's order.
fn byte_len(ty: TensorType, dimensions: &[usize]) -> Result<u64, String> {
    let row_len = dimensions[0];
    if !row_len.is_multiple_of(ty.block_len()) {
        let (name, block) = (ty.name(), ty.block_len());
        return Err(format!("its rows have {row_len} elements, not a multiple of the {block} in a block of {name}"));
    }
    let elements = dimensions.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    elements
        .and_then(|elements| ((elements / ty.block_len()) as u64).checked_mul(ty.block_bytes() as u64))
        .ok_or_else(|| format!("its dimensions {dimensions:?} have more elements than this machine can address"))
}

impl DataSection {
    /// The section that begins at the next multiple of the alignment.
    fn behind(cursor: &Cursor, alignment: u64, shard: usize) -> Result<Self, Error> {
        let (end, file_len) = (cursor.at(), cursor.at() + cursor.remaining());
        let start = (end as u64).next_multiple_of(alignment);
        match usize::try_from(start) {
            Ok(start) if start <= file_len => Ok(Self { shard, start, len: file_len - start, alignment }),
            _ => Err(Error::bad(
                end,
                format!("the data section should begin at byte {start} but the file has only {file_len} bytes"),
            )),
        }
    }

    /// Tensors may overlap: they are only read.
    fn place(&self, entry: Entry) -> Result<TensorInfo, Error> {
        let Entry { name, byte_len, offset, .. } = entry;
        let problem = |what| Err(Error::bad(entry.offset_at, format!("tensor {} {what}", quoted(name))));
        if !offset.is_multiple_of(self.alignment) {
            return problem(format!("begins at offset {offset}, which is not a multiple of {}", self.alignment));
        }
        if offset.checked_add(byte_len).is_none_or(|end| end > self.len as u64) {
            let len = self.len;
            return problem(format!("claims {byte_len} bytes at offset {offset} but the data section has {len} bytes"));
        }
        Ok(TensorInfo {
            name: name.into(),
            ty: entry.ty,
            shape: entry.shape,
            shard: self.shard,
            // Both fit: they were compared with the length of a section in memory.
            offset: self.start + offset as usize,
            byte_len: byte_len as usize,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{
        Gguf,
        testing::{Owned, Writer},
    };

    fn valid() -> Writer {
        Writer::default().tensor("a", TensorType::F32, &[4, 3]).tensor("b", TensorType::Q8_0, &[64, 2, 2])
    }

    /// The error for a file whose second tensor was changed.
    fn error(change: impl FnOnce(&mut crate::gguf::testing::Tensor)) -> String {
        let mut writer = valid();
        change(&mut writer.tensors[1]);
        Gguf::from_bytes(writer.write()).unwrap_err().to_string()
    }

    #[test]
    fn tensors_are_found_with_shape_and_data() {
        let gguf = Gguf::from_bytes(valid().write()).unwrap();
        assert_eq!(gguf.tensors().iter().map(|tensor| &*tensor.name).collect::<Vec<_>>(), ["a", "b"]);
        let b = gguf.tensor("b").unwrap();
        assert_eq!((b.ty, &b.shape[..], b.shard, b.byte_len), (TensorType::Q8_0, &[2, 2, 64][..], 0, 8 * 34));
        assert_eq!(gguf.data(b), (0..8 * 34).map(|i| i as u8).collect::<Vec<_>>());
        assert!(gguf.tensor("c").is_none());
    }

    #[test]
    fn other_alignments_are_followed() {
        let writer = Writer { alignment: 64, ..Writer::default() };
        let writer = writer.pair("general.alignment", Owned::U32(64));
        let gguf = Gguf::from_bytes(writer.tensor("a", TensorType::I8, &[3]).tensor("b", TensorType::I8, &[5]).write())
            .unwrap();
        let b = gguf.tensor("b").unwrap();
        assert_eq!(b.offset % 64, 0);
        assert_eq!(gguf.data(b), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn dimensions_are_checked() {
        assert!(
            error(|t| t.dimensions = vec![]).starts_with("tensor 'b': it should have 1 to 4 dimensions but claims 0")
        );
        assert!(error(|t| t.dimensions = vec![32; 5]).contains("1 to 4 dimensions but claims 5"));
        assert!(error(|t| t.dimensions = vec![0, 1]).starts_with("tensor 'b': dimension 0 is 0"));
        let message = error(|t| t.dimensions = vec![33]);
        assert!(
            message.contains("its rows have 33 elements, not a multiple of the 32 in a block of Q8_0"),
            "{message}"
        );
        assert!(error(|t| t.dimensions = vec![1 << 63, 2]).contains("more elements than this machine can address"));
        assert!(error(|t| t.dimensions = vec![u64::MAX - 31]).contains("more elements than this machine can address"));
        assert!(error(|t| t.dimensions = vec![1 << 40]).contains("but the data section has"));
    }

    #[test]
    fn offsets_are_checked() {
        let message = error(|t| t.offset = 4096);
        assert!(
            message
                .starts_with("tensor 'b' claims 272 bytes at offset 4096 but the data section has 336 bytes (at byte "),
            "{message}"
        );
        assert!(error(|t| t.offset = 1).contains("begins at offset 1, which is not a multiple of 32"));
        assert!(error(|t| t.offset = 0u64.wrapping_sub(32)).contains("at offset 18446744073709551584"));
        let mut overlapping = valid();
        overlapping.tensors[1].offset = 0;
        Gguf::from_bytes(overlapping.write()).unwrap();
    }

    #[test]
    fn every_byte_of_the_data_is_needed() {
        let bytes = valid().write();
        for len in 0..bytes.len() {
            assert!(Gguf::from_bytes(bytes[..len].into()).is_err(), "{len} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(error(|t| t.name = b"b\xff".into()).starts_with("tensor 1: the name 'b\u{fffd}' is not UTF-8"));
        assert!(error(|t| t.name = vec![]).starts_with("tensor 1: the name is empty"));
        assert!(error(|t| t.name = vec![b'x'; 129]).contains("the name has 129 bytes; at most 128 are allowed"));
        assert!(error(|t| t.name = b"a".into()).starts_with("tensor 'a' occurs twice"));
    }

    #[test]
    fn unknown_types_are_unsupported() {
        let mut writer = valid();
        writer.tensors[0].type_id = 77;
        let error = Gguf::from_bytes(writer.write()).unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)));
        assert!(error.to_string().starts_with("tensor 'a' has type 77, which is not known"), "{error}");
        writer.tensors[0].type_id = 31;
        let error = Gguf::from_bytes(writer.write()).unwrap_err().to_string();
        assert!(error.starts_with("tensor 'a' has type 31, which was removed from the format"), "{error}");
    }

    #[test]
    fn more_tensors_than_any_model_has_are_refused() {
        let mut writer = Writer::default().tensor("0", TensorType::I8, &[1]);
        let first = writer.tensors[0].clone();
        writer.tensors = (0..=MAX_TENSORS)
            .map(|i| {
                let mut t = first.clone();
                t.name = i.to_string().into();
                t
            })
            .collect();
        let error = Gguf::from_bytes(writer.write()).unwrap_err().to_string();
        assert_eq!(error, "the model has more than 65536 tensors");
        writer.tensors.pop();
        assert_eq!(Gguf::from_bytes(writer.write()).unwrap().tensors().len(), MAX_TENSORS);
    }

    #[test]
    fn the_padding_must_be_there() {
        let mut bytes = valid().write();
        bytes.truncate(bytes.len() - valid().data.len() - 1);
        let error = Gguf::from_bytes(bytes).unwrap_err().to_string();
        assert!(error.starts_with("the data section should begin at byte "), "{error}");
    }
}
