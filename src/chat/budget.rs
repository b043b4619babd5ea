//! What one rendering may spend.
//!
//! `minijinja`'s fuel counts instructions, but one instruction can copy megabytes or walk a tree. Whatever costs more
//! than a few words is charged here before it is done: bytes for text, `NODE` bytes for every element of a collection.

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use std::sync::atomic::{AtomicU64, Ordering};

/// What one rendering may spend in all, in bytes. Text of a million tokens, copied a dozen times, is a fifth of it.
const BUDGET: u64 = 256 << 20;
/// What an element of a collection costs: about its size in memory.
pub(super) const NODE: u64 = 32;
/// The deepest that a template may nest values. Dropping, comparing and printing recurse that deep.
pub(super) const MAX_DEPTH: usize = 200;

/// Lives in the state of one rendering.
#[derive(Debug)]
struct Account {
    spent: AtomicU64,
}

impl Object for Account {}

pub(super) fn refuse(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

pub(super) fn charge(state: &State, bytes: u64) -> Result<(), Error> {
    // The name cannot clash: templates have no access to temporaries.
    let account = state.get_or_set_temp_object("account", || Account { spent: AtomicU64::new(0) });
    let bytes = bytes.min(BUDGET + 1);
    // One rendering runs on one thread: the order of its charges is the program's.
    if account.spent.fetch_add(bytes, Ordering::Relaxed) + bytes > BUDGET {
        return Err(refuse(format!("the template does too much work: more than {BUDGET} bytes copied")));
    }
    Ok(())
}

/// Charges for a look at the whole value, and makes lists of lazy sequences.
///
/// A sequence that reads from another, which reads from another, would recurse as deep as a loop has built it.
pub(super) fn settle(state: &State, value: Value) -> Result<Value, Error> {
    let value = settle_top(state, value)?;
    if value.as_str().is_none() {
        charge_tree(state, &value, MAX_DEPTH)?;
    }
    Ok(value)
}

/// As [`settle`], without looking into the elements.
pub(super) fn settle_top(state: &State, value: Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        charge(state, text.len() as u64)?;
        return Ok(value);
    }
    if !is_lazy(&value) {
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        charge(state, NODE)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

fn is_lazy(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    matches!(object.repr(), ObjectRepr::Seq | ObjectRepr::Iterable) && object.downcast_ref::<Vec<Value>>().is_none()
}

fn charge_tree(state: &State, value: &Value, levels: usize) -> Result<(), Error> {
    let Some(object) = value.as_object() else { return Ok(()) };
    let inside = |item: &Value| {
        charge(state, NODE)?;
        let levels = levels.checked_sub(1).ok_or_else(|| refuse(format!("values nested over {MAX_DEPTH} deep")))?;
        charge_tree(state, item, levels)
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            object.try_iter().into_iter().flatten().try_for_each(|item| inside(&item))
        }
        ValueKind::Map => object
            .try_iter_pairs()
            .into_iter()
            .flatten()
            .try_for_each(|(key, item)| inside(&key).and_then(|()| inside(&item))),
        _ => Ok(()),
    }
}

/// Whether a namespace is somewhere in the value. A namespace that could reach itself would print without end.
pub(super) fn has_namespace(value: &Value, levels: usize) -> bool {
    let Some(object) = value.as_object() else { return false };
    if object.type_name().ends_with("::Namespace") || levels == 0 {
        return true;
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            object.try_iter().into_iter().flatten().any(|item| has_namespace(&item, levels - 1))
        }
        ValueKind::Map => {
            object.try_iter_pairs().into_iter().flatten().any(|(_, item)| has_namespace(&item, levels - 1))
        }
        _ => false,
    }
}
