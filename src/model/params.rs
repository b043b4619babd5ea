//! Hyper-parameters, read from the metadata and checked.
use super::{
    Error,
    family::{FAMILIES, Family, LogitScale, Recurrent, Window},
};
use crate::{
    gguf::{Metadata, Value},
    kernels::{DeltaShape, NormKind, attention::Temperature},
};
use std::ops::Range;

/// The numbers of a model, by their usual names.
#[derive(Debug, Clone)]
pub struct Params {
    pub architecture: String,
    /// That compute the next token. Layers that predict later ones (`nextn_predict_layers`) follow them in the file.
    pub layers: usize,
    pub extra_layers: usize,
    pub embedding_length: usize,
    /// Of layers without experts; 0 if the file gives none.
    pub feed_forward_length: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Dimensions of a head that are rotated.
    pub rope_dim: usize,
    pub context_length: usize,
    pub norm_eps: f32,
    /// 0 for a dense model.
    pub experts: usize,
    pub experts_used: usize,
    /// The first layers of a model with experts that have none.
    pub dense_layers: usize,
    pub window: Option<SlidingWindow>,
    pub scales: Scales,
    pub attention_cap: f32,
    pub logit_cap: f32,
    pub temperature: Option<Temperature>,
    pub recurrent: Option<RecurrentLayers>,
}

/// Layers that keep a state of fixed size instead of keys and values.
#[derive(Debug, Clone)]
pub struct RecurrentLayers {
    layers: Vec<bool>,
    /// Inputs that an output of the convolution comes from.
    pub conv_kernel: usize,
    pub conv_channels: usize,
    /// Those of a delta net have heads behind the convolution.
    pub delta_net: Option<DeltaShape>,
}

/// Factors that some families multiply with; mostly 1.
#[derive(Debug, Clone)]
pub struct Scales {
    pub embedding: f32,
    pub residual: f32,
    /// Of the scores.
    pub attention: f32,
    pub logits: f32,
}

/// Layers in which a row sees only the last positions.
#[derive(Debug, Clone)]
pub struct SlidingWindow {
    /// Positions that a row sees, its own included.
    pub size: usize,
    layers: Pattern,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// All layers but every n-th; 0: all.
    AllBut(usize),
    /// One for each layer.
    Listed(Vec<bool>),
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
        let keys = Keys { metadata, architecture: &architecture };
        let embedding_length = keys.required("embedding_length")?;
        let heads = keys.required("attention.head_count")?;
        let all_layers = keys.required("block_count")?;
        let extra_layers = keys.number("nextn_predict_layers")?.unwrap_or(0) as usize;
        let layers = all_layers.checked_sub(extra_layers).filter(|&layers| layers > 0).ok_or_else(|| {
            Error::Bad(format!("{extra_layers} of {all_layers} layers predict later tokens, which leaves none"))
        })?;
        let recurrent = RecurrentLayers::read(&keys, family.recurrent, embedding_length, layers)?;
        let kv_heads = match family.recurrent {
            Recurrent::ShortConv => kv_heads_of_some(&keys)?,
            Recurrent::None | Recurrent::DeltaNet => keys.optional("attention.head_count_kv")?,
        };
        let kv_heads = kv_heads.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::Bad(format!("{heads} heads cannot share {kv_heads} key/value heads")));
        }
        let head_dim = head_dim(&keys, embedding_length, heads)?;
        let rope_dim = match metadata.u32(&keys.name("rope.dimension_count"))? {
            Some(n) if n as usize > head_dim || n % 2 == 1 => {
                return Err(Error::Bad(format!(
                    "{} is {n}, expected an even number up to the head dimension {head_dim}",
                    keys.name("rope.dimension_count")
                )));
            }
            Some(n) => n as usize,
            None if head_dim % 2 == 1 => {
                return Err(Error::Unsupported(format!(
                    "heads of an odd number of dimensions ({head_dim}) cannot be rotated"
                )));
            }
            None => head_dim,
        };
        let experts = keys.number("expert_count")?.unwrap_or(0) as usize;
        let experts_used = keys.number("expert_used_count")?.unwrap_or(0) as usize;
        if experts > 1 << 16 || experts_used > experts || (experts > 0) != (experts_used > 0) {
            return Err(Error::Bad(format!("{experts_used} of {experts} experts cannot be used")));
        }
        keys.refuse_unless("expert_group_count", &[0, 1])?;
        if family.choice_bias {
            // The sigmoid's number.
            keys.refuse_unless("expert_gating_func", &[2])?;
        }
        if metadata.bool(&keys.name("attention.causal"))? == Some(false) {
            let name = keys.name("attention.causal");
            return Err(Error::Unsupported(format!("{name} is false: attention to later positions is not supported")));
        }
        let [attention_cap, logit_cap] = soft_caps(&keys, family)?;
        let context_length = keys.required("context_length")?;
        let params = Self {
            layers,
            extra_layers,
            embedding_length,
            feed_forward_length: keys.optional("feed_forward_length")?.unwrap_or(0),
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            context_length,
            norm_eps: norm_eps(&keys, family.norm)?,
            experts,
            experts_used,
            dense_layers: keys.number("leading_dense_block_count")?.unwrap_or(0) as usize,
            window: SlidingWindow::read(&keys, family.window, layers)?,
            scales: Scales::read(&keys, family, embedding_length, heads, head_dim, layers)?,
            attention_cap,
            logit_cap,
            temperature: temperature(&keys, family, context_length)?,
            recurrent,
            architecture,
        };
        Ok((family, params))
    }

    /// Has the layer a state instead of keys and values?
    pub fn is_recurrent(&self, layer: usize) -> bool {
        self.recurrent.as_ref().is_some_and(|recurrent| recurrent.layers[layer])
    }

    /// How many of some layers have keys and values.
    pub fn attention_layers(&self, layers: Range<usize>) -> usize {
        layers.len() - self.recurrent_layers(layers)
    }

    /// Numbers in the state of some layers.
    pub fn state_len(&self, layers: Range<usize>) -> usize {
        self.recurrent.as_ref().map_or(0, |recurrent| self.recurrent_layers(layers) * recurrent.state_len())
    }

    fn recurrent_layers(&self, layers: Range<usize>) -> usize {
        let listed = self.recurrent.as_ref().map_or(&[][..], |recurrent| &recurrent.layers[layers]);
        listed.iter().filter(|&&is_recurrent| is_recurrent).count()
    }

    /// How many positions a row sees at most, its own included, if no layer sees all.
    pub fn widest_window(&self) -> Option<usize> {
        let mut attention = (0..self.layers).filter(|&layer| !self.is_recurrent(layer));
        attention.try_fold(0, |widest, layer| Some(self.window(layer)?.max(widest)))
    }

    /// The window of a layer, if it has one.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.window.as_ref().filter(|window| window.has(layer)).map(|window| window.size)
    }
}

impl RecurrentLayers {
    fn read(keys: &Keys, kind: Recurrent, embedding_length: usize, layers: usize) -> Result<Option<Self>, Error> {
        let found = match kind {
            Recurrent::None => return Ok(None),
            Recurrent::ShortConv => {
                let Some(kv_heads) = keys.per_layer(KV_HEADS)? else { return Ok(None) };
                let listed: Vec<bool> = kv_heads.iter().take(layers).map(|&heads| heads == 0).collect();
                if listed.len() < layers {
                    return Err(keys.too_short(KV_HEADS, listed.len(), layers));
                }
                let conv_kernel = keys.required("shortconv.l_cache")?;
                Self { layers: listed, conv_kernel, conv_channels: embedding_length, delta_net: None }
            }
            Recurrent::DeltaNet => {
                let shape = delta_shape(keys)?;
                let layers = match keys.truths("attention.recurrent_layers", layers)? {
                    Some(listed) => listed,
                    None => {
                        let interval = keys.optional("full_attention_interval")?.unwrap_or(4);
                        (1..=layers).map(|n| !n.is_multiple_of(interval)).collect()
                    }
                };
                let conv_kernel = keys.required("ssm.conv_kernel")?;
                Self { layers, conv_kernel, conv_channels: shape.qkv_len(), delta_net: Some(shape) }
            }
        };
        if found.conv_kernel < 2 {
            return Err(Error::Bad(format!("a convolution of {} input, expected at least 2", found.conv_kernel)));
        }
        if found.layers.iter().all(|&is_recurrent| is_recurrent) {
            return Err(Error::Unsupported("a model without a layer that attends is not supported".into()));
        }
        Ok(Some(found))
    }

    /// Numbers in the state of one layer: what the convolution saw last, then the matrices of a delta net.
    fn state_len(&self) -> usize {
        self.conv_len() + self.delta_net.map_or(0, |shape| shape.state_len())
    }

    fn conv_len(&self) -> usize {
        (self.conv_kernel - 1) * self.conv_channels
    }

    /// Numbers that a row takes in such a layer.
    pub fn row_len(&self) -> usize {
        match self.delta_net {
            Some(shape) => 2 * (shape.qkv_len() + shape.value_len() + shape.value_heads),
            None => 4 * self.conv_channels,
        }
    }
}

/// The keys are those of Mamba, with other meanings (`qwen35.cpp` of llama.cpp).
fn delta_shape(keys: &Keys) -> Result<DeltaShape, Error> {
    let [head_dim, key_heads, value_heads, inner] =
        ["ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "ssm.inner_size"].map(|name| keys.required(name));
    let (shape, inner) = (DeltaShape { head_dim: head_dim?, key_heads: key_heads?, value_heads: value_heads? }, inner?);
    // So that no product of them overflows.
    const MOST_HEADS: usize = 1 << 16;
    let DeltaShape { head_dim, key_heads, value_heads } = shape;
    if head_dim.max(key_heads).max(value_heads) > MOST_HEADS || !value_heads.is_multiple_of(key_heads) {
        return Err(Error::Bad(format!(
            "{value_heads} value heads of {head_dim} numbers cannot share {key_heads} key heads"
        )));
    }
    if inner != shape.value_len() {
        return Err(Error::Unsupported(format!(
            "{} is {inner} where {value_heads} heads of {head_dim} numbers are expected: that is not supported",
            keys.name("ssm.inner_size")
        )));
    }
    Ok(shape)
}

const KV_HEADS: &str = "attention.head_count_kv";

/// Key/value heads of the layers that have any.
fn kv_heads_of_some(keys: &Keys) -> Result<Option<usize>, Error> {
    let Some(listed) = keys.per_layer(KV_HEADS)? else { return keys.optional(KV_HEADS) };
    let mut some = listed.into_iter().filter(|&heads| heads != 0);
    let name = keys.name(KV_HEADS);
    let first = some.next().ok_or_else(|| Error::Unsupported(format!("'{name}' has no layer with attention")))?;
    if some.any(|heads| heads != first) {
        return Err(Error::Unsupported(format!("'{name}' differs among layers with attention: that is not supported")));
    }
    keys.size(KV_HEADS, first).map(Some)
}

fn head_dim(keys: &Keys, embedding_length: usize, heads: usize) -> Result<usize, Error> {
    let head_dim = match keys.optional("attention.key_length")? {
        Some(dim) => dim,
        None if embedding_length.is_multiple_of(heads) => embedding_length / heads,
        None => {
            return Err(Error::Bad(format!("embedding length {embedding_length} is not a multiple of {heads} heads")));
        }
    };
    for other in ["attention.value_length", "attention.key_length_swa", "attention.value_length_swa"] {
        if let Some(found) = keys.optional(other)?
            && found != head_dim
        {
            return Err(Error::Unsupported(format!(
                "{} is {found} where keys are of {head_dim} dimensions: that is not supported",
                keys.name(other)
            )));
        }
    }
    Ok(head_dim)
}

fn norm_eps(keys: &Keys, kind: NormKind) -> Result<f32, Error> {
    let key = match kind {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer => "attention.layer_norm_epsilon",
    };
    let eps = keys
        .metadata
        .f32(&keys.name(key))?
        .ok_or_else(|| Error::Bad(format!("metadata key '{}' is missing", keys.name(key))))?;
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(Error::Bad(format!("{} is {eps}, expected a number of at least 0", keys.name(key))));
    }
    Ok(eps)
}

fn soft_caps(keys: &Keys, family: &Family) -> Result<[f32; 2], Error> {
    let mut caps = [0.0; 2];
    let names = ["attn_logit_softcapping", "final_logit_softcapping"];
    for ((cap, name), default) in caps.iter_mut().zip(names).zip(family.soft_caps) {
        if let Some(default) = default {
            *cap = keys.factor(name, default)?;
        }
    }
    Ok(caps)
}

fn temperature(keys: &Keys, family: &Family, context_length: usize) -> Result<Option<Temperature>, Error> {
    let slope = if family.temperature { keys.factor("attention.temperature_scale", 0.0)? } else { 0.0 };
    let step = keys.optional("rope.scaling.original_context_length")?.unwrap_or(context_length);
    Ok((slope != 0.0).then_some(Temperature { slope, step }))
}

impl Scales {
    fn read(
        keys: &Keys,
        family: &Family,
        embedding_length: usize,
        heads: usize,
        head_dim: usize,
        layers: usize,
    ) -> Result<Self, Error> {
        // Vaswani et al. 2017: 1 / sqrt of the dimension of a head.
        let width = if family.scaled_by_width == Some(layers) { embedding_length / heads } else { head_dim };
        let attention = 1.0 / (width as f32).sqrt();
        let embedding = if family.root_embedding { (embedding_length as f32).sqrt() } else { 1.0 };
        // 0 means none, as does absence.
        let multiplier = |name: &str, default: f32| -> Result<f32, Error> {
            let value = if family.multipliers { keys.factor(name, default)? } else { default };
            Ok(if value == 0.0 { default } else { value })
        };
        let logits = match (family.logit_scale, keys.factor("logit_scale", 0.0)?) {
            (LogitScale::None, _) | (LogitScale::Multiply, 0.0) => 1.0,
            (LogitScale::Multiply, scale) => scale,
            (LogitScale::Divide, 0.0) => {
                return Err(Error::Bad(format!("'{}' is missing or 0", keys.name("logit_scale"))));
            }
            (LogitScale::Divide, scale) => 1.0 / scale,
        };
        Ok(Self {
            embedding: multiplier("embedding_scale", embedding)?,
            residual: multiplier("residual_scale", 1.0)?,
            attention: multiplier("attention.scale", attention)?,
            logits,
        })
    }
}

impl SlidingWindow {
    fn read(keys: &Keys, rule: Window, layers: usize) -> Result<Option<Self>, Error> {
        let (all_but, default) = match rule {
            Window::None => return Ok(None),
            Window::AllBut(n) => (n, 0),
            Window::AllButDefault4096(n) => (n, 4096),
            Window::OfLayers { layers: of, all_but } if of == layers => (all_but, 4096),
            Window::OfLayers { .. } => return Ok(None),
        };
        let size = keys.number("attention.sliding_window")?.unwrap_or(default) as usize;
        let pattern = keys.name("attention.sliding_window_pattern");
        let layers = match keys.truths("attention.sliding_window_pattern", layers)? {
            Some(listed) => Pattern::Listed(listed),
            None => Pattern::AllBut(keys.metadata.u32(&pattern)?.map_or(all_but, |n| n as usize)),
        };
        // 0 means none, as does its absence.
        Ok((size > 0).then_some(Self { size, layers }))
    }

    fn has(&self, layer: usize) -> bool {
        match &self.layers {
            Pattern::AllBut(0) => true,
            Pattern::AllBut(n) => layer % n != n - 1,
            Pattern::Listed(listed) => listed[layer],
        }
    }
}

/// The keys of a model's architecture.
pub struct Keys<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'a str,
}

impl Keys<'_> {
    pub fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A size: 1 or more.
    pub fn optional(&self, name: &str) -> Result<Option<usize>, Error> {
        self.number(name)?.map(|value| self.size(name, value)).transpose()
    }

    fn size(&self, name: &str, value: u32) -> Result<usize, Error> {
        if value == 0 || value > MOST {
            return Err(Error::Bad(format!("{} is {value}, expected 1 to {MOST}", self.name(name))));
        }
        Ok(value as usize)
    }

    fn required(&self, name: &str) -> Result<usize, Error> {
        self.optional(name)?.ok_or_else(|| Error::Bad(format!("metadata key '{}' is missing", self.name(name))))
    }

    /// A finite number.
    pub fn factor(&self, name: &str, default: f32) -> Result<f32, Error> {
        let value = self.metadata.f32(&self.name(name))?.unwrap_or(default);
        if !value.is_finite() {
            return Err(Error::Bad(format!("{} is {value}, expected a finite number", self.name(name))));
        }
        Ok(value)
    }

    /// Something else would have to be computed if this key had another value.
    fn refuse_unless(&self, name: &str, known: &[u32]) -> Result<(), Error> {
        match self.number(name)? {
            Some(value) if !known.contains(&value) => {
                Err(Error::Unsupported(format!("{} is {value}: that is not supported", self.name(name))))
            }
            _ => Ok(()),
        }
    }

    /// An unsigned number. Some files give one per layer: those must be all the same here.
    fn number(&self, name: &str) -> Result<Option<u32>, Error> {
        let key = self.name(name);
        let Some(numbers) = self.per_layer(name)? else { return Ok(self.metadata.u32(&key)?) };
        let first = *numbers.first().ok_or_else(|| Error::Bad(format!("'{key}' is an empty array")))?;
        if numbers.iter().any(|&n| n != first) {
            return Err(Error::Unsupported(format!("'{key}' differs from layer to layer: that is not supported")));
        }
        Ok(Some(first))
    }

    fn too_short(&self, name: &str, len: usize, layers: usize) -> Error {
        Error::Bad(format!("'{}' has {len} entries for {layers} layers", self.name(name)))
    }

    /// Truth values, where the file gives one per layer.
    fn truths(&self, name: &str, layers: usize) -> Result<Option<Vec<bool>>, Error> {
        let Some(Value::Array(array)) = self.metadata.get(&self.name(name)) else { return Ok(None) };
        let listed: Vec<bool> = array
            .values()
            .map(|value| match value {
                Value::Bool(is_true) => Ok(is_true),
                Value::U32(n) => Ok(n != 0),
                Value::I32(n) => Ok(n != 0),
                _ => {
                    let name = self.name(name);
                    Err(Error::Bad(format!("'{name}' is an array of neither truth values nor numbers")))
                }
            })
            .collect::<Result<_, _>>()?;
        match listed.len() < layers {
            true => Err(self.too_short(name, listed.len(), layers)),
            false => Ok(Some(listed)),
        }
    }

    /// Unsigned numbers, where the file gives one per layer.
    fn per_layer(&self, name: &str) -> Result<Option<Vec<u32>>, Error> {
        let key = self.name(name);
        let Some(Value::Array(array)) = self.metadata.get(&key) else { return Ok(None) };
        let numbers = array.ints().ok_or_else(|| Error::Bad(format!("'{key}' is an array of no numbers")))?;
        numbers
            .map(|n| u32::try_from(n).map_err(|_| Error::Bad(format!("'{key}' holds {n}"))))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}
