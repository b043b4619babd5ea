//! GGUF metadata as plain JavaScript values.
use super::{
    args::{Arg, MAX_SAFE_INTEGER, Options},
    call::sync,
    errors::Checked,
};
use crate::gguf::{Array, Value};
use napi::{
    Env,
    bindgen_prelude::{BigInt, Object, ToNapiValue, Unknown},
};
use napi_derive::napi;

/// Arrays with more elements than this are summarised unless the caller asks for them.
const LONG: usize = 64;

/// Options of `getMetadata`.
#[napi(object, object_from_js = false, object_to_js = false)]
#[allow(dead_code)] // Read by the generator of index.d.ts; the values are read in `get_metadata`.
pub struct MetadataOptions {
    /// Gives long arrays (the vocabulary, say) in full. Default: `false`.
    pub arrays: Option<bool>,
}

/// The key/value section of a model's file.
///
/// Integers beyond 2^53 become a `BigInt`, strings that are not UTF-8 show U+FFFD, and an array of more than 64 elements
/// becomes `{ type, length }` unless `options.arrays` asks for all of it. Throws `ERR_REALM_MODEL_NOT_FOUND`.
///
/// ```js
/// getMetadata(id)['general.architecture'] // 'llama'
/// ```
#[napi(
    catch_unwind,
    ts_args_type = "modelId: ModelId, options?: MetadataOptions | null",
    ts_return_type = "Record<string, unknown>"
)]
pub fn get_metadata<'env>(
    env: &'env Env,
    model_id: Unknown<'env>,
    options: Unknown<'env>,
) -> napi::Result<Object<'env>> {
    sync(env, || {
        let model = Arg::new("modelId", model_id).model()?;
        let arrays = Options::new("options", options, &["arrays"])?.bool("arrays", false)?;
        let longest = if arrays { usize::MAX } else { LONG };
        let mut object = Object::new(env)?;
        for (key, value) in model.gguf.metadata().iter() {
            object.set(key, to_js(env, value, longest)?)?;
        }
        Ok(object)
    })
}

fn to_js<'env>(env: &'env Env, value: Value, longest: usize) -> Checked<Unknown<'env>> {
    Ok(match value {
        Value::U8(n) => n.into_unknown(env)?,
        Value::I8(n) => n.into_unknown(env)?,
        Value::U16(n) => n.into_unknown(env)?,
        Value::I16(n) => n.into_unknown(env)?,
        Value::U32(n) => n.into_unknown(env)?,
        Value::I32(n) => n.into_unknown(env)?,
        Value::U64(n) if n <= MAX_SAFE_INTEGER as u64 => (n as f64).into_unknown(env)?,
        Value::U64(n) => BigInt::from(n).into_unknown(env)?,
        Value::I64(n) if n.unsigned_abs() <= MAX_SAFE_INTEGER as u64 => (n as f64).into_unknown(env)?,
        Value::I64(n) => BigInt::from(n).into_unknown(env)?,
        Value::F32(x) => f64::from(x).into_unknown(env)?,
        Value::F64(x) => x.into_unknown(env)?,
        Value::Bool(b) => b.into_unknown(env)?,
        Value::String(text) => text.as_ref().into_unknown(env)?,
        Value::Array(array) if array.len() > longest => summary(env, array)?.into_unknown(env)?,
        Value::Array(array) => elements(env, array, longest)?.into_unknown(env)?,
    })
}

fn elements<'env>(env: &'env Env, array: Array, longest: usize) -> Checked<Vec<Unknown<'env>>> {
    array.values().map(|value| to_js(env, value, longest)).collect()
}

fn summary<'env>(env: &'env Env, array: Array) -> Checked<Object<'env>> {
    let mut object = Object::new(env)?;
    object.set("type", array.element_type())?;
    object.set("length", array.len() as f64)?;
    Ok(object)
}
