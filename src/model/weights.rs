//! Views of the weights: where each tensor lies, its shape checked once.
use super::{Error, Family, Params};
use crate::{
    gguf::{Gguf, TensorInfo},
    kernels::Weight,
    quant,
};

/// A matrix in the file.
#[derive(Debug, Clone)]
pub struct Matrix {
    tensor: TensorInfo,
    rows: usize,
    cols: usize,
}

impl Matrix {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn view<'a>(&self, gguf: &'a Gguf) -> Weight<'a> {
        Weight::new(self.tensor.ty, gguf.data(&self.tensor), self.rows, self.cols)
    }
}

/// Equal matrices of all experts, one after the other in one tensor.
#[derive(Debug, Clone)]
pub struct Experts {
    tensor: TensorInfo,
    rows: usize,
    cols: usize,
}

impl Experts {
    pub fn view<'a>(&self, gguf: &'a Gguf, expert: usize) -> Weight<'a> {
        let bytes = self.rows * (self.cols / self.tensor.ty.block_len()) * self.tensor.ty.block_bytes();
        let data = &gguf.data(&self.tensor)[expert * bytes..(expert + 1) * bytes];
        Weight::new(self.tensor.ty, data, self.rows, self.cols)
    }
}

pub struct Weights {
    pub token_embedding: Matrix,
    pub layers: Vec<Layer>,
    pub output_norm: Vec<f32>,
    /// The embedding again where the file has no output matrix of its own.
    pub output: Matrix,
}

/// The weights of one layer, by their names in the file.
pub struct Layer {
    pub attn_norm: Vec<f32>,
    pub attn_q: Linear,
    pub attn_k: Linear,
    pub attn_v: Linear,
    /// One weight for all heads of the queries, one for those of the keys.
    pub qk_norm: Option<[Vec<f32>; 2]>,
    pub attn_output: Linear,
    pub ffn_norm: Vec<f32>,
    pub ffn: FeedForward,
}

/// A matrix and, in some models, a bias.
pub struct Linear {
    pub weight: Matrix,
    pub bias: Option<Vec<f32>>,
}

pub enum FeedForward {
    Dense { gate: Matrix, up: Matrix, down: Matrix },
    Experts { router: Matrix, gate: Experts, up: Experts, down: Experts },
}

impl Weights {
    pub fn find(gguf: &Gguf, params: &Params, family: &Family) -> Result<Self, Error> {
        let find = Finder { gguf };
        let n = params.embedding_length;
        let embedding = find.tensor("token_embd.weight")?;
        let vocabulary = *embedding.shape.first().unwrap_or(&0);
        let token_embedding = find.matrix("token_embd.weight", vocabulary, n)?;
        let output = match gguf.tensor("output.weight") {
            Some(_) => find.matrix("output.weight", vocabulary, n)?,
            None => token_embedding.clone(),
        };
        // Not a capacity: the number of layers is not checked against the file yet.
        let mut layers = Vec::new();
        for i in 0..params.layers {
            layers.push(Layer::find(&find, params, family, i)?);
        }
        Ok(Self { token_embedding, layers, output_norm: find.vector("output_norm.weight", n)?, output })
    }
}

impl Layer {
    fn find(find: &Finder, params: &Params, family: &Family, i: usize) -> Result<Self, Error> {
        let name = |part: &str| format!("blk.{i}.{part}");
        let (n, ff) = (params.embedding_length, params.feed_forward_length);
        let (queries, keys) = (params.heads * params.head_dim, params.kv_heads * params.head_dim);
        let linear = |part: &str, rows, cols| -> Result<Linear, Error> {
            let bias = name(&format!("{part}.bias"));
            Ok(Linear {
                weight: find.matrix(&name(&format!("{part}.weight")), rows, cols)?,
                bias: find.gguf.tensor(&bias).map(|_| find.vector(&bias, rows)).transpose()?,
            })
        };
        let ffn = if params.experts > 0 {
            FeedForward::Experts {
                router: find.matrix(&name("ffn_gate_inp.weight"), params.experts, n)?,
                gate: find.experts(&name("ffn_gate_exps.weight"), params.experts, ff, n)?,
                up: find.experts(&name("ffn_up_exps.weight"), params.experts, ff, n)?,
                down: find.experts(&name("ffn_down_exps.weight"), params.experts, n, ff)?,
            }
        } else {
            FeedForward::Dense {
                gate: find.matrix(&name("ffn_gate.weight"), ff, n)?,
                up: find.matrix(&name("ffn_up.weight"), ff, n)?,
                down: find.matrix(&name("ffn_down.weight"), n, ff)?,
            }
        };
        Ok(Self {
            attn_norm: find.vector(&name("attn_norm.weight"), n)?,
            attn_q: linear("attn_q", queries, n)?,
            attn_k: linear("attn_k", keys, n)?,
            attn_v: linear("attn_v", keys, n)?,
            qk_norm: match family.qk_norm {
                true => Some([
                    find.vector(&name("attn_q_norm.weight"), params.head_dim)?,
                    find.vector(&name("attn_k_norm.weight"), params.head_dim)?,
                ]),
                false => None,
            },
            attn_output: linear("attn_output", n, queries)?,
            ffn_norm: find.vector(&name("ffn_norm.weight"), n)?,
            ffn,
        })
    }
}

/// Looks tensors up by name and checks them.
struct Finder<'a> {
    gguf: &'a Gguf,
}

impl Finder<'_> {
    fn tensor(&self, name: &str) -> Result<&TensorInfo, Error> {
        self.gguf.tensor(name).ok_or_else(|| Error::Bad(format!("tensor '{name}' is missing")))
    }

    fn shaped(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo, Error> {
        let tensor = self.tensor(name)?;
        if tensor.shape != shape {
            return Err(Error::Bad(format!("tensor '{name}' should be {shape:?} but is {:?}", tensor.shape)));
        }
        if !quant::is_supported(tensor.ty) {
            return Err(Error::Unsupported(format!(
                "tensor '{name}' is of type {}, which is not supported",
                tensor.ty.name()
            )));
        }
        Ok(tensor)
    }

    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        Ok(Matrix { tensor: self.shaped(name, &[rows, cols])?.clone(), rows, cols })
    }

    fn experts(&self, name: &str, experts: usize, rows: usize, cols: usize) -> Result<Experts, Error> {
        Ok(Experts { tensor: self.shaped(name, &[experts, rows, cols])?.clone(), rows, cols })
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        numbers(self.gguf, self.tensor(name)?, len)
    }
}

/// A small tensor of plain numbers, copied.
pub fn numbers(gguf: &Gguf, tensor: &TensorInfo, len: usize) -> Result<Vec<f32>, Error> {
    if tensor.shape != [len] {
        return Err(Error::Bad(format!("tensor '{}' should be [{len}] but is {:?}", tensor.name, tensor.shape)));
    }
    let mut out = vec![0.0; len];
    quant::dequantize_row(tensor.ty, gguf.data(tensor), &mut out)
        .map_err(|e| Error::Unsupported(format!("tensor '{}': {e}", tensor.name)))?;
    Ok(out)
}
