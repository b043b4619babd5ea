//! The weights of one layer.
use super::{
    Error, Family, Params,
    family::{Activation, Block, QkNorm},
    params::RecurrentLayers,
    weights::{Experts, Finder, Linear, Matrix, NormWeight},
};
use crate::kernels::DeltaShape;

/// The weights of one layer, by their names in the file.
pub struct Layer {
    pub attn_norm: Option<NormWeight>,
    pub mixer: Mixer,
    pub attn_post_norm: Option<NormWeight>,
    /// Attention and feed-forward network run side by side on the same input.
    pub parallel: bool,
    pub ffn_norm: Option<NormWeight>,
    pub ffn: FeedForward,
    pub ffn_post_norm: Option<NormWeight>,
}

/// The half of a layer in which positions meet.
pub enum Mixer {
    Attention(Box<Attention>),
    ShortConv(Box<ShortConv>),
    DeltaNet(Box<DeltaNet>),
}

pub struct Attention {
    /// One matrix; or one for each head, where the file has its gate beside it.
    pub attn_q: Vec<Linear>,
    /// One for each head, or none.
    pub gate: Vec<Linear>,
    pub attn_k: Linear,
    pub attn_v: Linear,
    /// Norms of queries and keys.
    pub qk_norm: Option<[NormWeight; 2]>,
    /// One per head.
    pub attn_sinks: Option<Vec<f32>>,
    pub attn_output: Linear,
}

pub struct ShortConv {
    /// Rows of b, then c, then x (see [`crate::kernels::ShortConv`]).
    pub in_proj: Linear,
    /// `[kernel, channels]`.
    pub conv: Vec<f32>,
    pub out_proj: Linear,
}

/// See [`crate::kernels::DeltaNet`].
pub struct DeltaNet {
    pub shape: DeltaShape,
    /// Rows of queries, then keys, then values.
    pub attn_qkv: Linear,
    pub attn_gate: Linear,
    /// `[kernel, channels]`.
    pub ssm_conv1d: Vec<f32>,
    pub ssm_alpha: Linear,
    pub ssm_beta: Linear,
    pub ssm_dt: Vec<f32>,
    pub ssm_a: Vec<f32>,
    pub ssm_norm: NormWeight,
    pub ssm_out: Linear,
}

pub enum FeedForward {
    Dense(Box<Dense>),
    Experts(Box<Mixture>),
}

pub struct Dense {
    /// None where the activation has none.
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
}

pub struct Mixture {
    pub router: Linear,
    /// Of each expert, where experts are chosen by sigmoid and bias.
    pub choice_bias: Option<Vec<f32>>,
    pub gate: Experts,
    pub up: Experts,
    pub down: Experts,
    /// An expert that sees every row.
    pub shared: Option<Dense>,
    /// How much of it there is: one row.
    pub shared_gate: Option<Matrix>,
}

impl Layer {
    pub fn find(find: &Finder, params: &Params, family: &Family, i: usize) -> Result<Self, Error> {
        let name = |part: &str| format!("blk.{i}.{part}");
        let n = params.embedding_length;
        let norm = |wanted: bool, part: &str| wanted.then(|| find.norm(&name(part), &[n])).transpose();
        let parallel = match family.block {
            Block::Parallel => true,
            Block::BeforeOrParallel => !find.has(&name("ffn_norm.weight")),
            _ => false,
        };
        let (before, after) = (family.block != Block::After, [Block::After, Block::Both].contains(&family.block));
        let mixer = match &params.recurrent {
            Some(recurrent) if params.is_recurrent(i) => match recurrent.delta_net {
                Some(shape) => Mixer::DeltaNet(Box::new(DeltaNet::find(find, &name, n, recurrent, shape)?)),
                None => Mixer::ShortConv(Box::new(ShortConv::find(find, &name, recurrent)?)),
            },
            _ => Mixer::Attention(Box::new(Attention::find(find, &name, params, family)?)),
        };
        Ok(Self {
            attn_norm: norm(before, "attn_norm")?,
            mixer,
            attn_post_norm: norm(after, "post_attention_norm")?,
            parallel,
            ffn_norm: norm(before && !parallel, family.ffn_norm)?,
            ffn: match params.experts > 0 && i >= params.dense_layers {
                true if parallel => {
                    return Err(Error::Unsupported("experts beside attention are not supported".into()));
                }
                true => FeedForward::Experts(Box::new(Mixture::find(find, &name, params, family)?)),
                false => {
                    let ff = params.feed_forward_length;
                    if ff == 0 {
                        let key = format!("{}.feed_forward_length", params.architecture);
                        return Err(Error::Bad(format!("metadata key '{key}' is missing")));
                    }
                    FeedForward::Dense(Box::new(Dense::find(find, &name, "", n, ff, family.activation)?))
                }
            },
            ffn_post_norm: norm(after, "post_ffw_norm")?,
        })
    }
}

impl Attention {
    fn find(find: &Finder, name: &impl Fn(&str) -> String, params: &Params, family: &Family) -> Result<Self, Error> {
        let (n, d) = (params.embedding_length, params.head_dim);
        let (queries, keys) = (params.heads * d, params.kv_heads * d);
        let (attn_q, gate, attn_k, attn_v) = if family.gated_attention {
            // The rows of each head's query are followed by those of its gate.
            let part = |i: usize| -> Result<Linear, Error> {
                let weight = find.rows_of(&name("attn_q.weight"), 2 * queries, i * d, d, n)?;
                Ok(Linear { weight, bias: None })
            };
            let every_other = |first: usize| (first..2 * params.heads).step_by(2).map(part).collect::<Result<_, _>>();
            let keys = |part: &str| find.linear(&name(part), keys, n);
            (every_other(0)?, every_other(1)?, keys("attn_k")?, keys("attn_v")?)
        } else {
            let [attn_q, attn_k, attn_v] = qkv(find, name, n, queries, keys)?;
            (vec![attn_q], Vec::new(), attn_k, attn_v)
        };
        Ok(Self {
            attn_q,
            gate,
            attn_k,
            attn_v,
            qk_norm: qk_norm(find, name, params, family.qk_norm)?,
            attn_sinks: family.sinks.then(|| find.numbers(&name("attn_sinks.weight"), &[params.heads])).transpose()?,
            attn_output: find.linear(&name("attn_output"), n, queries)?,
        })
    }
}

impl ShortConv {
    fn find(find: &Finder, name: &impl Fn(&str) -> String, recurrent: &RecurrentLayers) -> Result<Self, Error> {
        let n = recurrent.conv_channels;
        Ok(Self {
            in_proj: find.linear(&name("shortconv.in_proj"), 3 * n, n)?,
            conv: conv(find, &name("shortconv.conv.weight"), recurrent)?,
            out_proj: find.linear(&name("shortconv.out_proj"), n, n)?,
        })
    }
}

impl DeltaNet {
    fn find(
        find: &Finder,
        name: &impl Fn(&str) -> String,
        n: usize,
        recurrent: &RecurrentLayers,
        shape: DeltaShape,
    ) -> Result<Self, Error> {
        let (values, heads) = (shape.value_len(), shape.value_heads);
        Ok(Self {
            shape,
            attn_qkv: find.linear(&name("attn_qkv"), shape.qkv_len(), n)?,
            attn_gate: find.linear(&name("attn_gate"), values, n)?,
            ssm_conv1d: conv(find, &name("ssm_conv1d.weight"), recurrent)?,
            ssm_alpha: find.linear(&name("ssm_alpha"), heads, n)?,
            ssm_beta: find.linear(&name("ssm_beta"), heads, n)?,
            ssm_dt: find.numbers(&name("ssm_dt.bias"), &[heads])?,
            ssm_a: find.numbers(&name("ssm_a"), &[heads])?,
            ssm_norm: find.norm(&name("ssm_norm"), &[shape.head_dim])?,
            ssm_out: find.linear(&name("ssm_out"), n, values)?,
        })
    }
}

/// The weights of a convolution, which the file keeps as `[channels, kernel]`.
fn conv(find: &Finder, name: &str, recurrent: &RecurrentLayers) -> Result<Vec<f32>, Error> {
    let (n, kernel) = (recurrent.conv_channels, recurrent.conv_kernel);
    let rows = find.numbers(name, &[n, kernel])?;
    Ok((0..kernel * n).map(|i| rows[i % n * kernel + i / n]).collect())
}

/// Queries, keys and values: three matrices, or one with their rows one after the other.
fn qkv(
    find: &Finder,
    name: &impl Fn(&str) -> String,
    n: usize,
    queries: usize,
    keys: usize,
) -> Result<[Linear; 3], Error> {
    let rows = [queries, keys, keys];
    let parts = ["attn_q", "attn_k", "attn_v"];
    if !find.has(&name("attn_qkv.weight")) {
        let [q, k, v] = std::array::from_fn(|i| find.linear(&name(parts[i]), rows[i], n));
        return Ok([q?, k?, v?]);
    }
    let all = queries + 2 * keys;
    let bias = find.vector_if_present(&name("attn_qkv.bias"), all)?;
    let part = |i: usize| -> Result<Linear, Error> {
        let first = rows[..i].iter().sum();
        Ok(Linear {
            weight: find.rows_of(&name("attn_qkv.weight"), all, first, rows[i], n)?,
            bias: match &bias {
                Some(bias) => Some(bias[first..first + rows[i]].to_vec()),
                None => find.vector_if_present(&name(&format!("{}.bias", parts[i])), rows[i])?,
            },
        })
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

fn qk_norm(
    find: &Finder,
    name: &impl Fn(&str) -> String,
    params: &Params,
    kind: QkNorm,
) -> Result<Option<[NormWeight; 2]>, Error> {
    let (heads, kv_heads, d) = (params.heads, params.kv_heads, params.head_dim);
    let shapes = match kind {
        QkNorm::None => return Ok(None),
        QkNorm::EachHeadIfPresent if !find.has(&name("attn_q_norm.weight")) => return Ok(None),
        QkNorm::Heads => [vec![d], vec![d]],
        QkNorm::Rows => [vec![heads * d], vec![kv_heads * d]],
        QkNorm::EachHeadIfPresent => [vec![heads, d], vec![kv_heads, d]],
    };
    Ok(Some([find.norm(&name("attn_q_norm"), &shapes[0])?, find.norm(&name("attn_k_norm"), &shapes[1])?]))
}

impl Dense {
    /// `suffix` tells the shared expert's tensors from others.
    fn find(
        find: &Finder,
        name: &impl Fn(&str) -> String,
        suffix: &str,
        n: usize,
        ff: usize,
        activation: Activation,
    ) -> Result<Self, Error> {
        let [gate, up, down] = ["gate", "up", "down"].map(|part| name(&format!("ffn_{part}{suffix}")));
        let (gate, up) = match activation {
            Activation::Gelu => (None, find.linear(&up, ff, n)?),
            Activation::Gated(_) if find.has(&format!("{gate}.weight")) => {
                (Some(find.linear(&gate, ff, n)?), find.linear(&up, ff, n)?)
            }
            // One matrix with the rows of the gate before those of up.
            Activation::Gated(_) => {
                let weight = format!("{up}.weight");
                let half = |first| -> Result<Linear, Error> {
                    Ok(Linear { weight: find.rows_of(&weight, 2 * ff, first, ff, n)?, bias: None })
                };
                (Some(half(0)?), half(ff)?)
            }
        };
        Ok(Self { gate, up, down: find.linear(&down, n, ff)? })
    }
}

impl Mixture {
    /// The sizes of the experts are those of their tensors.
    fn find(find: &Finder, name: &impl Fn(&str) -> String, params: &Params, family: &Family) -> Result<Self, Error> {
        let (experts, n) = (params.experts, params.embedding_length);
        let second = |tensor: &str, dimensions: usize| -> Result<usize, Error> {
            let shape = &find.tensor(tensor)?.shape;
            shape.get(dimensions - 2).copied().filter(|_| shape.len() == dimensions).ok_or_else(|| {
                Error::Bad(format!("tensor '{tensor}' should have {dimensions} dimensions but is {shape:?}"))
            })
        };
        let both = name("ffn_gate_up_exps");
        let (ff, gate, up) = if find.has(&format!("{both}.weight")) {
            // Of each expert, the rows of the gate before those of up.
            let ff = second(&format!("{both}.weight"), 3)? / 2;
            let half = |first| find.rows_of_experts(&both, experts, 2 * ff, first, ff, n);
            (ff, half(0)?, half(ff)?)
        } else {
            let ff = second(&name("ffn_up_exps.weight"), 3)?;
            let part = |part: &str| find.experts(&name(part), experts, ff, n);
            (ff, part("ffn_gate_exps")?, part("ffn_up_exps")?)
        };
        let shared_up = name("ffn_up_shexp.weight");
        let shared = match find.has(&shared_up) {
            true => {
                let ff = second(&shared_up, 2)?;
                Some(Dense::find(find, name, "_shexp", n, ff, Activation::Gated(crate::kernels::Glu::Silu))?)
            }
            false => None,
        };
        let shared_gate = name("ffn_gate_inp_shexp.weight");
        Ok(Self {
            router: find.linear(&name("ffn_gate_inp"), experts, n)?,
            choice_bias: family.choice_bias.then(|| find.numbers(&name("exp_probs_b.bias"), &[experts])).transpose()?,
            gate,
            up,
            down: find.experts(&name("ffn_down_exps"), experts, n, ff)?,
            shared_gate: (shared.is_some() && find.has(&shared_gate)).then(|| find.row(&shared_gate, n)).transpose()?,
            shared,
        })
    }
}
