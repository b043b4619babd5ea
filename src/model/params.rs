//! Hyper-parameters, read from the metadata and checked.
use super::{
    Error,
    family::{FAMILIES, Family},
};
use crate::gguf::Metadata;

/// The numbers of a model, by their usual names.
#[derive(Debug, Clone)]
pub struct Params {
    pub architecture: String,
    pub layers: usize,
    pub embedding_length: usize,
    pub feed_forward_length: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Dimensions of a head that are rotated.
    pub rope_dim: usize,
    pub context_length: usize,
    pub rms_norm_eps: f32,
    /// 0 for a dense model.
    pub experts: usize,
    pub experts_used: usize,
}

/// Larger than any model's number and small enough that no product of two overflows.
const MOST: u32 = 1 << 24;

impl Params {
    pub fn read(metadata: &Metadata) -> Result<(&'static Family, Self), Error> {
        let architecture = metadata
            .str("general.architecture")?
            .ok_or_else(|| Error::Bad("metadata key 'general.architecture' is missing".into()))?
            .into_owned();
        let family = Family::of(&architecture).ok_or_else(|| {
            let known: Vec<_> = FAMILIES.iter().map(|family| family.architecture).collect();
            let shown: String = architecture.chars().take(60).collect();
            Error::Unsupported(format!("architecture '{shown}' is not supported; supported: {}", known.join(", ")))
        })?;
        let key = |name: &str| format!("{architecture}.{name}");
        let optional = |name: &str| -> Result<Option<usize>, Error> {
            let Some(value) = number(metadata, &key(name))? else { return Ok(None) };
            if value == 0 || value > MOST {
                return Err(Error::Bad(format!("{} is {value}, expected 1 to {MOST}", key(name))));
            }
            Ok(Some(value as usize))
        };
        let required = |name: &str| -> Result<usize, Error> {
            optional(name)?.ok_or_else(|| Error::Bad(format!("metadata key '{}' is missing", key(name))))
        };
        let embedding_length = required("embedding_length")?;
        let heads = required("attention.head_count")?;
        let kv_heads = optional("attention.head_count_kv")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::Bad(format!("{heads} heads cannot share {kv_heads} key/value heads")));
        }
        let head_dim = match optional("attention.key_length")? {
            Some(dim) => dim,
            None if embedding_length.is_multiple_of(heads) => embedding_length / heads,
            None => {
                return Err(Error::Bad(format!(
                    "embedding length {embedding_length} is not a multiple of {heads} heads"
                )));
            }
        };
        if let Some(value_length) = optional("attention.value_length")?
            && value_length != head_dim
        {
            return Err(Error::Unsupported(format!(
                "values of {value_length} dimensions beside keys of {head_dim} are not supported"
            )));
        }
        let rope_dim = match metadata.u32(&key("rope.dimension_count"))? {
            Some(n) if n as usize > head_dim || n % 2 == 1 => {
                return Err(Error::Bad(format!(
                    "{} is {n}, expected an even number up to the head dimension {head_dim}",
                    key("rope.dimension_count")
                )));
            }
            Some(n) => n as usize,
            None => head_dim,
        };
        let rms_norm_eps = metadata.f32(&key("attention.layer_norm_rms_epsilon"))?.ok_or_else(|| {
            Error::Bad(format!("metadata key '{}' is missing", key("attention.layer_norm_rms_epsilon")))
        })?;
        if !(rms_norm_eps >= 0.0 && rms_norm_eps.is_finite()) {
            return Err(Error::Bad(format!(
                "{} is {rms_norm_eps}, expected a number of at least 0",
                key("attention.layer_norm_rms_epsilon")
            )));
        }
        let experts = number(metadata, &key("expert_count"))?.unwrap_or(0) as usize;
        let experts_used = number(metadata, &key("expert_used_count"))?.unwrap_or(0) as usize;
        if experts > 1 << 16 || experts_used > experts || (experts > 0) != (experts_used > 0) {
            return Err(Error::Bad(format!("{experts_used} of {experts} experts cannot be used")));
        }
        let params = Self {
            layers: required("block_count")?,
            embedding_length,
            feed_forward_length: required("feed_forward_length")?,
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            context_length: required("context_length")?,
            rms_norm_eps,
            experts,
            experts_used,
            architecture,
        };
        Ok((family, params))
    }
}

/// An unsigned number. Some files give one per layer: those must be all the same here.
fn number(metadata: &Metadata, key: &str) -> Result<Option<u32>, Error> {
    if let Some(crate::gguf::Value::Array(array)) = metadata.get(key) {
        let mut numbers = array.ints().ok_or_else(|| Error::Bad(format!("'{key}' is an array of no numbers")))?;
        let first = numbers.next().ok_or_else(|| Error::Bad(format!("'{key}' is an empty array")))?;
        if numbers.any(|n| n != first) {
            return Err(Error::Unsupported(format!("'{key}' differs from layer to layer: that is not supported")));
        }
        return u32::try_from(first).map(Some).map_err(|_| Error::Bad(format!("'{key}' holds {first}")));
    }
    Ok(metadata.u32(key)?)
}
