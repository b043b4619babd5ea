use super::Error;
use std::borrow::Cow;

/// The key/value section. Arrays stay in the file: they are checked once at parsing and decoded on use.
#[derive(Debug)]
pub struct Metadata {}

/// One value. Strings that are not UTF-8 are shown with U+FFFD; [`Array::byte_strings`] gives their true bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(Cow<'a, str>),
    Array(Array<'a>),
}

/// A checked array inside the file: every element is known to be complete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Array<'a> {
    pub fn len(&self) -> usize {
        self.len
    }
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Name of the element type, e.g. `string`, `f32`, `array`.
    pub fn element_type(&self) -> &'static str {
        todo!()
    }
    pub fn values(&self) -> impl Iterator<Item = Value<'a>> + 'a {
        todo!() as std::vec::IntoIter<Value<'a>>
    }
    /// The elements of an array of strings, as stored; `None` for other element types.
    pub fn byte_strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + 'a> {
        let _ = self.bytes;
        todo!() as Option<std::vec::IntoIter<&'a [u8]>>
    }
    /// Numbers of any numeric element type as `f32`; `None` for other element types.
    pub fn f32s(&self) -> Option<impl Iterator<Item = f32> + 'a> {
        todo!() as Option<std::vec::IntoIter<f32>>
    }
    /// Integers of any integer (or bool) element type as `i64` (u64 above i64::MAX saturates); `None` otherwise.
    pub fn ints(&self) -> Option<impl Iterator<Item = i64> + 'a> {
        todo!() as Option<std::vec::IntoIter<i64>>
    }
}

/// Typed look-ups: `Ok(None)` when the key is absent, an error naming key, expected and found type when it is something
/// else. Integers convert between widths when the value fits; floats accept F32 and F64.
impl Metadata {
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        todo!("{key}")
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        todo!() as std::vec::IntoIter<(&str, Value<'_>)>
    }
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        todo!("{key}")
    }
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        todo!("{key}")
    }
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        todo!("{key}")
    }
    pub fn str(&self, key: &str) -> Result<Option<Cow<'_, str>>, Error> {
        todo!("{key}")
    }
    pub fn array(&self, key: &str) -> Result<Option<Array<'_>>, Error> {
        todo!("{key}")
    }
}
