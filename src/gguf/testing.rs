//! What tests need: a writer of GGUF files and a directory that removes itself.
use super::{Array, TensorType, Value};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A metadata value that owns its content.
#[derive(Debug, Clone, PartialEq)]
pub enum Owned {
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
    String(String),
    /// Type id of the elements, which must all be of that type.
    Array(u32, Vec<Owned>),
}

impl Owned {
    pub fn str(text: &str) -> Self {
        Self::String(text.into())
    }

    pub fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(..) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(x) => out.extend(x.to_le_bytes()),
            Self::I8(x) => out.extend(x.to_le_bytes()),
            Self::U16(x) => out.extend(x.to_le_bytes()),
            Self::I16(x) => out.extend(x.to_le_bytes()),
            Self::U32(x) => out.extend(x.to_le_bytes()),
            Self::I32(x) => out.extend(x.to_le_bytes()),
            Self::U64(x) => out.extend(x.to_le_bytes()),
            Self::I64(x) => out.extend(x.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::String(x) => write_string(x.as_bytes(), out),
            Self::Array(ty, elements) => {
                out.extend(ty.to_le_bytes());
                out.extend((elements.len() as u64).to_le_bytes());
                elements.iter().for_each(|element| element.write(out));
            }
        }
    }
}

impl From<Value<'_>> for Owned {
    fn from(value: Value) -> Self {
        match value {
            Value::U8(x) => Self::U8(x),
            Value::I8(x) => Self::I8(x),
            Value::U16(x) => Self::U16(x),
            Value::I16(x) => Self::I16(x),
            Value::U32(x) => Self::U32(x),
            Value::I32(x) => Self::I32(x),
            Value::U64(x) => Self::U64(x),
            Value::I64(x) => Self::I64(x),
            Value::F32(x) => Self::F32(x),
            Value::F64(x) => Self::F64(x),
            Value::Bool(x) => Self::Bool(x),
            Value::String(x) => Self::String(x.into_owned()),
            Value::Array(x) => Self::Array(element_type_id(&x), x.values().map(Self::from).collect()),
        }
    }
}

fn element_type_id(array: &Array) -> u32 {
    let names = ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];
    names.iter().position(|name| *name == array.element_type()).unwrap() as u32
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// Writes what it is told, valid or not.
#[derive(Debug, Clone)]
pub struct Writer {
    pub version: u32,
    pub alignment: u64,
    pub pairs: Vec<(Vec<u8>, Owned)>,
    pub tensors: Vec<Tensor>,
    pub data: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    /// Row length first, as in the file.
    pub dimensions: Vec<u64>,
    pub type_id: u32,
    pub offset: u64,
}

impl Default for Writer {
    fn default() -> Self {
        Self { version: 3, alignment: 32, pairs: Vec::new(), tensors: Vec::new(), data: Vec::new() }
    }
}

impl Writer {
    pub fn pair(mut self, key: &str, value: Owned) -> Self {
        self.pairs.push((key.into(), value));
        self
    }

    /// Places the tensor behind the others, its bytes counting up from 0.
    pub fn tensor(mut self, name: &str, ty: TensorType, dimensions: &[u64]) -> Self {
        pad(&mut self.data, self.alignment);
        let offset = self.data.len() as u64;
        let byte_len = dimensions.iter().product::<u64>() as usize / ty.block_len() * ty.block_bytes();
        self.data.extend((0..byte_len).map(|i| i as u8));
        self.tensors.push(Tensor { name: name.into(), dimensions: dimensions.into(), type_id: ty as u32, offset });
        self
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            write_string(key, &mut out);
            out.extend(value.type_id().to_le_bytes());
            value.write(&mut out);
        }
        for tensor in &self.tensors {
            write_string(&tensor.name, &mut out);
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        pad(&mut out, self.alignment);
        out.extend(&self.data);
        out
    }
}

fn pad(bytes: &mut Vec<u8>, alignment: u64) {
    bytes.resize(bytes.len().next_multiple_of(alignment as usize), 0);
}

/// A fresh directory, removed at the end of the test.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("realm-node-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
