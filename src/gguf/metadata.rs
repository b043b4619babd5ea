use super::{Array, Error, Mapping, Value, cursor::Cursor, error::quoted, value::ValueType};
use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    sync::Arc,
};

/// Limits that keep what parsing allocates small whatever the file; real models have fewer than 100 keys.
const MAX_PAIRS: usize = 1 << 14;
const MAX_KEY_BYTES: usize = 4 << 20;
/// The specification's.
const MAX_KEY_LEN: usize = u16::MAX as usize;
/// Bytes of a pair at least: length of the key, type of the value, a one-byte value.
const LEAST_PAIR: usize = 8 + 4 + 1;

/// The key/value section. Values stay in the file: they are checked once at parsing and decoded on use.
#[derive(Debug)]
pub struct Metadata {
    mapping: Arc<Mapping>,
    /// In file order.
    entries: Vec<Entry>,
    index: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<str>,
    ty: ValueType,
    /// Where the value lies.
    at: usize,
}

impl Metadata {
    /// Reads `count` pairs, the number stated at byte `count_at`, from `cursor`, which reads `mapping`.
    pub(super) fn read(
        mapping: &Arc<Mapping>,
        cursor: &mut Cursor,
        count_at: usize,
        count: u64,
    ) -> Result<Self, Error> {
        let count = cursor.check_count(count_at, count, LEAST_PAIR, "metadata pairs")?;
        if count > MAX_PAIRS {
            return Err(Error::Unsupported(format!(
                "the file has {count} metadata pairs; at most {MAX_PAIRS} are supported"
            )));
        }
        let mut metadata = Self { mapping: mapping.clone(), entries: Vec::new(), index: HashMap::new() };
        let mut key_bytes = 0;
        for number in 0..count {
            let key = read_key(cursor).map_err(|e| e.within(format!("metadata pair {number}")))?;
            key_bytes += key.len();
            if key_bytes > MAX_KEY_BYTES {
                return Err(Error::Unsupported(format!(
                    "the metadata keys are longer than {MAX_KEY_BYTES} bytes together"
                )));
            }
            metadata.read_entry(cursor, key)?;
        }
        Ok(metadata)
    }

    fn read_entry(&mut self, cursor: &mut Cursor, key: &str) -> Result<(), Error> {
        let key_at = cursor.at() - key.len();
        let within_key = |e: Error| e.within(format!("metadata key {}", quoted(key)));
        let ty = ValueType::read(cursor).map_err(within_key)?;
        let at = cursor.at();
        ty.read_value(cursor).map_err(within_key)?;

        let key: Arc<str> = key.into();
        match self.index.entry(key.clone()) {
            hash_map::Entry::Occupied(_) => {
                Err(Error::bad(key_at, format!("metadata key {} occurs twice", quoted(&key))))
            }
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(self.entries.len());
                self.entries.push(Entry { key, ty, at });
                Ok(())
            }
        }
    }

    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        self.value(&self.entries[*self.index.get(key)?])
    }

    /// All pairs in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.entries.iter().filter_map(|entry| Some((&*entry.key, self.value(entry)?)))
    }

    /// `None` only when a mapped file was rewritten under the process: the value was checked before.
    fn value(&self, entry: &Entry) -> Option<Value<'_>> {
        entry.ty.read_value(&mut Cursor::new(self.mapping.bytes(), entry.at)).ok()
    }

    /// Where the value of a key lies; 0 for a key that is absent.
    pub(super) fn offset_of(&self, key: &str) -> usize {
        self.index.get(key).map_or(0, |&i| self.entries[i].at)
    }

    /// An error about the value of a key.
    pub(super) fn error(&self, key: &str, what: String) -> Error {
        Error::bad(self.offset_of(key), format!("metadata key {} {what}", quoted(key))).in_file(self.mapping.path())
    }

    /// `accept` gives the value as the wanted type, or gives it back when it is another.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        accept: impl FnOnce(Value<'a>) -> Result<T, Value<'a>>,
    ) -> Result<Option<T>, Error> {
        let accepted = self.get(key).map(accept).transpose();
        accepted.map_err(|found| self.error(key, format!("should be {expected} but is {}", found.describe())))
    }
}

/// Typed look-ups: `Ok(None)` when the key is absent, an error naming key, expected and found type when it is something
/// else. Integers convert between widths when the value fits; floats accept F32 and F64.
impl Metadata {
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        let integer = self.typed(key, "an unsigned integer", |value| value.integer().ok_or(value))?;
        let fitting = integer.map(u32::try_from).transpose();
        fitting.map_err(|_| {
            let found = integer.unwrap_or_default();
            self.error(key, format!("should be an unsigned 32-bit integer but is {found}"))
        })
    }

    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "a floating-point number", |value| match value {
            Value::F32(x) => Ok(x),
            Value::F64(x) => Ok(x as f32),
            other => Err(other),
        })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(x) => Ok(x),
            other => Err(other),
        })
    }

    pub fn str(&self, key: &str) -> Result<Option<Cow<'_, str>>, Error> {
        self.typed(key, "a string", |value| match value {
            Value::String(x) => Ok(x),
            other => Err(other),
        })
    }

    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, Error> {
        self.typed(key, "an array", |value| match value {
            Value::Array(x) => Ok(x),
            other => Err(other),
        })
    }
}

fn read_key<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Error> {
    let at = cursor.at();
    let key = cursor.string("the key")?;
    if key.len() > MAX_KEY_LEN {
        return Err(Error::bad(at, format!("the key has {} bytes; at most {MAX_KEY_LEN} are allowed", key.len())));
    }
    str::from_utf8(key).map_err(|e| {
        let shown = quoted(&String::from_utf8_lossy(key));
        Error::bad(cursor.at() - key.len() + e.valid_up_to(), format!("the key {shown} is not UTF-8"))
    })
}
