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
        let mut metadata =
            Self { mapping: mapping.clone(), entries: Vec::with_capacity(count), index: HashMap::with_capacity(count) };
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
        ty.check_value(cursor).map_err(within_key)?;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{
        Gguf,
        testing::{Owned, Writer},
    };

    fn open(writer: &Writer) -> Result<Gguf, String> {
        Gguf::from_bytes(writer.write()).map_err(|e| e.to_string())
    }

    #[test]
    fn keys_are_found_and_listed_in_file_order() {
        let gguf = open(&Writer::default().pair("b", Owned::U8(1)).pair("a", Owned::str("x"))).unwrap();
        let metadata = gguf.metadata();
        assert_eq!(metadata.get("a"), Some(Value::String("x".into())));
        assert_eq!(metadata.get("c"), None);
        assert_eq!(metadata.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn integers_of_all_widths_are_u32_when_they_fit() {
        let gguf = open(
            &Writer::default()
                .pair("u8", Owned::U8(5))
                .pair("i64", Owned::I64(6))
                .pair("u64", Owned::U64(u64::MAX))
                .pair("i8", Owned::I8(-1))
                .pair("text", Owned::str("7")),
        )
        .unwrap();
        let metadata = gguf.metadata();
        assert_eq!(metadata.u32("u8").unwrap(), Some(5));
        assert_eq!(metadata.u32("i64").unwrap(), Some(6));
        assert_eq!(metadata.u32("absent").unwrap(), None);
        let message = |key| metadata.u32(key).unwrap_err().to_string();
        assert!(
            message("u64")
                .starts_with("metadata key 'u64' should be an unsigned 32-bit integer but is 18446744073709551615")
        );
        assert!(message("i8").starts_with("metadata key 'i8' should be an unsigned 32-bit integer but is -1"));
        assert!(message("text").starts_with("metadata key 'text' should be an unsigned integer but is a string"));
    }

    #[test]
    fn getters_name_expected_and_found_types_and_where() {
        let list = Owned::Array(5, vec![Owned::I32(1)]);
        let writer = Writer::default().pair("f", Owned::F64(0.5)).pair("b", Owned::Bool(true)).pair("l", list);
        let gguf = open(&writer).unwrap();
        let metadata = gguf.metadata();
        assert_eq!(metadata.f32("f").unwrap(), Some(0.5));
        assert_eq!(metadata.bool("b").unwrap(), Some(true));
        assert_eq!(metadata.array("l").unwrap().unwrap().ints().unwrap().collect::<Vec<_>>(), [1]);
        // Header 24; key 8 + 1; type 4: the first value is at byte 37, the second 8 + 9 + 4 later.
        let message = metadata.bool("f").unwrap_err().to_string();
        assert_eq!(message, "metadata key 'f' should be a bool but is an f64 (at byte 37)");
        let message = metadata.f32("b").unwrap_err().to_string();
        assert_eq!(message, "metadata key 'b' should be a floating-point number but is a bool (at byte 58)");
        assert!(metadata.str("l").unwrap_err().to_string().contains("should be a string but is an array of i32"));
        assert!(metadata.array("b").unwrap_err().to_string().contains("should be an array but is a bool"));
    }

    #[test]
    fn bad_keys_are_refused() {
        let key = |key: &[u8]| Writer { pairs: vec![(key.into(), Owned::U8(1))], ..Writer::default() };
        let error = open(&key(b"a\xff")).unwrap_err();
        assert_eq!(error, "metadata pair 0: the key 'a\u{fffd}' is not UTF-8 (at byte 33)");
        assert!(open(&key(&[b'k'; MAX_KEY_LEN])).is_ok());
        let error = open(&key(&[b'k'; MAX_KEY_LEN + 1])).unwrap_err();
        assert_eq!(error, "metadata pair 0: the key has 65536 bytes; at most 65535 are allowed (at byte 24)");
        let error = open(&Writer::default().pair("a", Owned::U8(1)).pair("a", Owned::U8(2))).unwrap_err();
        assert_eq!(error, "metadata key 'a' occurs twice (at byte 46)");
    }

    #[test]
    fn more_keys_than_any_model_has_are_refused() {
        let writer = (0..=MAX_PAIRS).fold(Writer::default(), |writer, i| writer.pair(&i.to_string(), Owned::U8(0)));
        assert!(open(&writer).unwrap_err().contains("at most 16384 are supported"));
        // 60,000 bytes each: 69 stay below 4 MiB, 70 do not.
        let long = |count| (0..count).fold(Writer::default(), |w, i| w.pair(&format!("{i:060000}"), Owned::U8(0)));
        assert!(open(&long(69)).is_ok());
        assert!(open(&long(70)).unwrap_err().contains("longer than 4194304 bytes together"));
    }

    #[test]
    fn errors_name_the_key() {
        let mut bytes = Writer::default().pair("a", Owned::str("text")).write();
        bytes[37..45].copy_from_slice(&u64::MAX.to_le_bytes());
        let error = Gguf::from_bytes(bytes).unwrap_err().to_string();
        assert!(error.starts_with("metadata key 'a': string claims 18446744073709551615 bytes but "), "{error}");
    }
}
