use super::{Error, cursor::Cursor};
use std::{borrow::Cow, fmt};

/// Arrays of arrays may be this deep. Known models have no nested arrays at all.
const MAX_DEPTH: usize = 8;
/// Bytes of one string. The longest in known models is a whole `tokenizer.json` of some 30 MB. The limit bounds what
/// showing a string that is not UTF-8 may allocate.
const MAX_STRING_LEN: usize = 256 << 20;

/// The type ids of metadata values (`gguf_metadata_value_type` in the GGUF specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

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

/// A checked array inside the file: every element is known to be complete. It is decoded as it is iterated.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    ty: ValueType,
    len: usize,
    /// The elements, one after another.
    bytes: &'a [u8],
}

/// The elements of an [`Array`], in order.
#[derive(Clone)]
pub struct Values<'a> {
    cursor: Cursor<'a>,
    ty: ValueType,
    left: usize,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Reads a type id.
    pub fn read(cursor: &mut Cursor) -> Result<Self, Error> {
        let at = cursor.at();
        let id = cursor.u32("the value type")?;
        let known = Self::ALL.into_iter().find(|ty| *ty as u32 == id);
        known.ok_or_else(|| Error::bad(at, format!("value type {id} does not exist (types are 0 to 12)")))
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Bytes of a value, at least: a string has a length before it, an array a type and a length.
    fn least_size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }

    fn has_fixed_size(self) -> bool {
        !matches!(self, Self::String | Self::Array)
    }

    fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64 | Self::Bool) && self.has_fixed_size()
    }

    fn is_number(self) -> bool {
        self.is_integer() || matches!(self, Self::F32 | Self::F64)
    }

    /// Reads over a value of this type and checks it to its last byte; allocates nothing.
    pub fn check_value(self, cursor: &mut Cursor) -> Result<(), Error> {
        self.check_nested(cursor, 0)
    }

    fn check_nested(self, cursor: &mut Cursor, depth: usize) -> Result<(), Error> {
        match self {
            Self::Bool => read_bool(cursor).map(drop),
            Self::String => read_string(cursor).map(drop),
            Self::Array => Array::read(cursor, depth).map(drop),
            _ => cursor.take(self.least_size(), self.name()).map(drop),
        }
    }

    /// Reads a value of this type.
    pub fn read_value<'a>(self, cursor: &mut Cursor<'a>) -> Result<Value<'a>, Error> {
        let what = self.name();
        Ok(match self {
            Self::U8 => Value::U8(u8::from_le_bytes(cursor.array(what)?)),
            Self::I8 => Value::I8(i8::from_le_bytes(cursor.array(what)?)),
            Self::U16 => Value::U16(u16::from_le_bytes(cursor.array(what)?)),
            Self::I16 => Value::I16(i16::from_le_bytes(cursor.array(what)?)),
            Self::U32 => Value::U32(u32::from_le_bytes(cursor.array(what)?)),
            Self::I32 => Value::I32(i32::from_le_bytes(cursor.array(what)?)),
            Self::U64 => Value::U64(u64::from_le_bytes(cursor.array(what)?)),
            Self::I64 => Value::I64(i64::from_le_bytes(cursor.array(what)?)),
            Self::F32 => Value::F32(f32::from_le_bytes(cursor.array(what)?)),
            Self::F64 => Value::F64(f64::from_le_bytes(cursor.array(what)?)),
            Self::Bool => Value::Bool(read_bool(cursor)?),
            Self::String => Value::String(String::from_utf8_lossy(read_string(cursor)?)),
            Self::Array => Value::Array(Array::read(cursor, 0)?),
        })
    }
}

/// The specification: "anything else [than 0 and 1] is invalid".
fn read_bool(cursor: &mut Cursor) -> Result<bool, Error> {
    let at = cursor.at();
    match cursor.array("bool")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(Error::bad(at, format!("a bool should be 0 or 1 but is {other}"))),
    }
}

fn read_string<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
    let at = cursor.at();
    let string = cursor.string("string")?;
    if string.len() > MAX_STRING_LEN {
        let len = string.len();
        return Err(Error::bad(at, format!("string has {len} bytes; at most {MAX_STRING_LEN} are supported")));
    }
    Ok(string)
}

impl<'a> Array<'a> {
    /// Reads element type and length and checks every element, without keeping any.
    fn read(cursor: &mut Cursor<'a>, depth: usize) -> Result<Self, Error> {
        if depth == MAX_DEPTH {
            return Err(Error::bad(cursor.at(), format!("arrays are nested deeper than {MAX_DEPTH}")));
        }
        let ty = ValueType::read(cursor)?;
        let at = cursor.at();
        let count = cursor.u64("the length of an array")?;
        let what = format_args!("array elements of type {}", ty.name());
        let len = cursor.check_count(at, count, ty.least_size(), what)?;
        let start = cursor.at();
        if ty.is_number() {
            // Cannot overflow: the count was compared with the bytes that remain.
            cursor.take(len * ty.least_size(), "an array")?;
        } else {
            (0..len).try_for_each(|_| ty.check_nested(cursor, depth + 1))?;
        }
        Ok(Self { ty, len, bytes: cursor.since(start) })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Name of the element type, e.g. `string`, `f32`, `array`.
    pub fn element_type(&self) -> &'static str {
        self.ty.name()
    }

    pub fn values(&self) -> Values<'a> {
        Values { cursor: Cursor::new(self.bytes, 0), ty: self.ty, left: self.len }
    }

    /// The elements of an array of strings, as stored; `None` for other element types.
    pub fn byte_strings(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        let mut cursor = Cursor::new(self.bytes, 0);
        let strings = (0..self.len).map_while(move |_| read_string(&mut cursor).ok());
        (self.ty == ValueType::String).then_some(strings)
    }

    /// Numbers of any numeric element type as `f32`; `None` for other element types.
    pub fn f32s(&self) -> Option<impl Iterator<Item = f32> + use<'a>> {
        self.ty.is_number().then(|| self.values().filter_map(|value| value.number()).map(|number| number as f32))
    }

    /// Integers of any integer (or bool) element type as `i64` (u64 above i64::MAX saturates); `None` otherwise.
    pub fn ints(&self) -> Option<impl Iterator<Item = i64> + use<'a>> {
        let known = self.ty.is_integer() || self.ty == ValueType::Bool;
        known.then(|| self.values().filter_map(|value| value.integer_or_bool()).map(saturate))
    }
}

fn saturate(integer: i128) -> i64 {
    i64::try_from(integer).unwrap_or(i64::MAX)
}

/// Ends early only when a mapped file was rewritten under the process: the elements were checked before.
impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let value = self.ty.read_value(&mut self.cursor).ok();
        if value.is_none() {
            self.left = 0;
        }
        value
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

/// Without the elements: there may be hundreds of thousands of them.
impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.element_type(), self.len)
    }
}

impl Value<'_> {
    /// The value of any integer type.
    pub(super) fn integer(&self) -> Option<i128> {
        match *self {
            Self::U8(x) => Some(x.into()),
            Self::I8(x) => Some(x.into()),
            Self::U16(x) => Some(x.into()),
            Self::I16(x) => Some(x.into()),
            Self::U32(x) => Some(x.into()),
            Self::I32(x) => Some(x.into()),
            Self::U64(x) => Some(x.into()),
            Self::I64(x) => Some(x.into()),
            _ => None,
        }
    }

    fn integer_or_bool(&self) -> Option<i128> {
        match *self {
            Self::Bool(x) => Some(x.into()),
            _ => self.integer(),
        }
    }

    fn number(&self) -> Option<f64> {
        match *self {
            Self::F32(x) => Some(x.into()),
            Self::F64(x) => Some(x),
            _ => self.integer().map(|integer| integer as f64),
        }
    }

    /// The type with its article, for messages: "a string", "an array of f32".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::U8(_) => "a u8".into(),
            Self::I8(_) => "an i8".into(),
            Self::U16(_) => "a u16".into(),
            Self::I16(_) => "an i16".into(),
            Self::U32(_) => "a u32".into(),
            Self::I32(_) => "an i32".into(),
            Self::U64(_) => "a u64".into(),
            Self::I64(_) => "an i64".into(),
            Self::F32(_) => "an f32".into(),
            Self::F64(_) => "an f64".into(),
            Self::Bool(_) => "a bool".into(),
            Self::String(_) => "a string".into(),
            Self::Array(array) => format!("an array of {}", array.element_type()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type and length of an array, without its elements.
    fn array_head(ty: ValueType, len: u64) -> Vec<u8> {
        [&(ty as u32).to_le_bytes()[..], &len.to_le_bytes()].concat()
    }

    fn read(ty: ValueType, bytes: &[u8]) -> Result<Value<'_>, String> {
        ty.read_value(&mut Cursor::new(bytes, 0)).map_err(|e| e.to_string())
    }

    fn read_array(bytes: &[u8]) -> Array<'_> {
        match read(ValueType::Array, bytes).unwrap() {
            Value::Array(array) => array,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn type_ids_are_those_of_the_specification() {
        for (id, ty) in [(0, "u8"), (6, "f32"), (8, "string"), (9, "array"), (10, "u64"), (12, "f64")] {
            assert_eq!(ValueType::read(&mut Cursor::new(&u32::to_le_bytes(id), 0)).unwrap().name(), ty);
        }
        let error = ValueType::read(&mut Cursor::new(&u32::to_le_bytes(13), 0)).unwrap_err();
        assert_eq!(error.to_string(), "value type 13 does not exist (types are 0 to 12) (at byte 0)");
    }

    #[test]
    fn bools_are_0_or_1() {
        assert_eq!(read(ValueType::Bool, &[1]), Ok(Value::Bool(true)));
        assert_eq!(read(ValueType::Bool, &[2]).unwrap_err(), "a bool should be 0 or 1 but is 2 (at byte 0)");
        let bools = [array_head(ValueType::Bool, 3), vec![0, 1, 7]].concat();
        assert_eq!(read(ValueType::Array, &bools).unwrap_err(), "a bool should be 0 or 1 but is 7 (at byte 14)");
    }

    #[test]
    fn array_lengths_are_checked() {
        let lengths = [(ValueType::U8, 1 << 62), (ValueType::U64, 1 << 61), (ValueType::F32, u64::MAX)];
        for (ty, len) in lengths.into_iter().chain([(ValueType::String, 2), (ValueType::Array, 1)]) {
            let bytes = [array_head(ty, len), vec![0; 10]].concat();
            let error = read(ValueType::Array, &bytes).unwrap_err();
            assert!(error.starts_with(&format!("{len} array elements of type {}", ty.name())), "{error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| [array_head(ValueType::Array, 1).repeat(depth - 1), array_head(ValueType::U8, 0)].concat();
        read(ValueType::Array, &nested(MAX_DEPTH)).unwrap();
        let error = read(ValueType::Array, &nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!(error, format!("arrays are nested deeper than {MAX_DEPTH} (at byte {})", 12 * MAX_DEPTH));
    }

    #[test]
    fn views_convert_or_refuse() {
        let bytes = [array_head(ValueType::U64, 2), u64::MAX.to_le_bytes().into(), 5u64.to_le_bytes().into()].concat();
        let array = read_array(&bytes);
        assert_eq!((array.len(), array.is_empty(), array.element_type()), (2, false, "u64"));
        assert_eq!(array.ints().unwrap().collect::<Vec<_>>(), [i64::MAX, 5]);
        assert_eq!(array.f32s().unwrap().collect::<Vec<_>>(), [u64::MAX as f32, 5.0]);
        assert!(array.byte_strings().is_none());
        assert_eq!(format!("{array:?}"), "[u64; 2]");

        let bytes = [array_head(ValueType::Bool, 2), vec![0, 1]].concat();
        assert_eq!(read_array(&bytes).ints().unwrap().collect::<Vec<_>>(), [0, 1]);
        assert!(read_array(&bytes).f32s().is_none());

        let bytes = [array_head(ValueType::F32, 1), 0.5f32.to_le_bytes().into()].concat();
        assert_eq!(read_array(&bytes).f32s().unwrap().collect::<Vec<_>>(), [0.5]);
        assert!(read_array(&bytes).ints().is_none());
    }

    #[test]
    fn strings_keep_their_bytes() {
        let strings = [&1u64.to_le_bytes()[..], b"a", &2u64.to_le_bytes(), b"\xffb"].concat();
        let bytes = [array_head(ValueType::String, 2), strings].concat();
        let array = read_array(&bytes);
        assert_eq!(array.byte_strings().unwrap().collect::<Vec<_>>(), [&b"a"[..], b"\xffb"]);
        let shown: Vec<_> = array.values().collect();
        assert_eq!(shown, [Value::String("a".into()), Value::String("\u{fffd}b".into())]);
        assert!(array.f32s().is_none() && array.ints().is_none());
    }

    /// What a rewritten mapping would look like to an array that was checked before.
    #[test]
    fn iteration_ends_where_bytes_stopped_making_sense() {
        let broken = Array { ty: ValueType::String, len: 1000, bytes: &[0xff; 64] };
        assert_eq!((broken.values().count(), broken.byte_strings().unwrap().count()), (0, 0));
        let short = Array { ty: ValueType::U32, len: 1000, bytes: &[0; 10] };
        assert_eq!((short.values().count(), short.ints().unwrap().count()), (2, 2));
    }
}
