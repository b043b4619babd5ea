//! Views of the weights: where each tensor lies, its shape checked once.
use super::{Error, Family, Params};
use crate::{
    gguf::{Gguf, TensorInfo},
    kernels::{Norm, NormKind, Weight},
    quant,
};
use std::{cell::RefCell, collections::HashSet};

/// A matrix in the file: some rows of a tensor, times a number.
#[derive(Debug, Clone)]
pub struct Matrix {
    tensor: TensorInfo,
    first_row: usize,
    rows: usize,
    cols: usize,
    scale: f32,
}

impl Matrix {
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn view<'a>(&self, gguf: &'a Gguf) -> Weight<'a> {
        self.at(gguf, self.first_row)
    }

    fn at<'a>(&self, gguf: &'a Gguf, first_row: usize) -> Weight<'a> {
        let row_bytes = self.cols / self.tensor.ty.block_len() * self.tensor.ty.block_bytes();
        let data = &gguf.data(&self.tensor)[first_row * row_bytes..(first_row + self.rows) * row_bytes];
        Weight::new(self.tensor.ty, data, self.rows, self.cols).scaled(self.scale)
    }
}

/// Equal matrices of all experts, in one tensor.
#[derive(Debug, Clone)]
pub struct Experts {
    first: Matrix,
    /// Rows of the tensor from one expert's matrix to the next one's.
    all: usize,
    /// One per expert.
    scales: Vec<f32>,
    /// `[experts, all]`.
    bias: Option<Vec<f32>>,
}

impl Experts {
    pub fn rows(&self) -> usize {
        self.first.rows
    }

    pub fn view<'a>(&self, gguf: &'a Gguf, expert: usize) -> Weight<'a> {
        self.first.at(gguf, self.first_row(expert)).scaled(self.scales[expert])
    }

    pub fn bias(&self, expert: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|bias| &bias[self.first_row(expert)..][..self.first.rows])
    }

    fn first_row(&self, expert: usize) -> usize {
        expert * self.all + self.first.first_row
    }
}

/// A matrix and, in some models, a bias.
#[derive(Debug, Clone)]
pub struct Linear {
    pub weight: Matrix,
    pub bias: Option<Vec<f32>>,
}

/// The weight of a norm and, in some models, its bias.
#[derive(Debug)]
pub struct NormWeight {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl NormWeight {
    pub fn norm(&self, kind: NormKind, eps: f32) -> Norm<'_> {
        Norm { kind, weight: &self.weight, bias: &self.bias, eps }
    }
}

pub struct Weights {
    pub token_embedding: Matrix,
    pub layers: Vec<super::layer::Layer>,
    pub output_norm: NormWeight,
    /// The embedding again where the file has no output matrix of its own.
    pub output: Linear,
}

impl Weights {
    pub fn find(gguf: &Gguf, params: &Params, family: &Family) -> Result<Self, Error> {
        let find = Finder { gguf, found: RefCell::default() };
        let n = params.embedding_length;
        let vocabulary = *find.tensor("token_embd.weight")?.shape.first().unwrap_or(&0);
        let token_embedding = find.matrix("token_embd.weight", vocabulary, n)?;
        let output = match find.has("output.weight") {
            true => find.matrix("output.weight", vocabulary, n)?,
            false => token_embedding.clone(),
        };
        let output = Linear { weight: output, bias: find.vector_if_present("output.bias", vocabulary)? };
        // Not a capacity: the number of layers is not checked against the file yet.
        let mut layers = Vec::new();
        for i in 0..params.layers {
            layers.push(super::layer::Layer::find(&find, params, family, i)?);
        }
        let output_norm = find.norm(family.output_norm, &[n])?;
        find.refuse_others(params)?;
        Ok(Self { token_embedding, layers, output_norm, output })
    }
}

/// Looks tensors up by name and checks them.
pub struct Finder<'a> {
    gguf: &'a Gguf,
    found: RefCell<HashSet<String>>,
}

impl Finder<'_> {
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, Error> {
        let tensor = self.gguf.tensor(name).ok_or_else(|| Error::Bad(format!("tensor '{name}' is missing")))?;
        self.found.borrow_mut().insert(name.to_owned());
        Ok(tensor)
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

    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix, Error> {
        self.scaled(name, &[rows, cols], rows, cols)
    }

    fn scaled(&self, name: &str, shape: &[usize], rows: usize, cols: usize) -> Result<Matrix, Error> {
        let tensor = self.shaped(name, shape)?.clone();
        let [scale] = self.scales(name, 1)?[..] else { unreachable!("as many scales as asked for") };
        Ok(Matrix { tensor, first_row: 0, rows, cols, scale })
    }

    /// What the weight `name` is multiplied by: the numbers of the tensor `scale` beside it, or ones.
    ///
    /// llama.cpp writes them with weights in NVFP4, whose own scales are too short for the whole range. An `input_scale`
    /// beside it is for activations of four bits, which we do not have: it is no factor of the product, there neither.
    fn scales(&self, name: &str, count: usize) -> Result<Vec<f32>, Error> {
        let beside = |part: &str| name.strip_suffix("weight").map(|stem| format!("{stem}{part}"));
        self.found.borrow_mut().extend(beside("input_scale"));
        let scale = beside("scale").filter(|name| self.has(name));
        scale.map_or_else(|| Ok(vec![1.0; count]), |name| self.numbers(&name, &[count]))
    }

    /// A matrix that others may follow in the same tensor, which has `all` rows.
    pub fn rows_of(&self, name: &str, all: usize, first_row: usize, rows: usize, cols: usize) -> Result<Matrix, Error> {
        Ok(Matrix { first_row, rows, ..self.matrix(name, all, cols)? })
    }

    /// A vector as a matrix of one row.
    pub fn row(&self, name: &str, cols: usize) -> Result<Matrix, Error> {
        self.scaled(name, &[cols], 1, cols)
    }

    /// `name.weight` and, if it is there, `name.bias`.
    pub fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear, Error> {
        Ok(Linear {
            weight: self.matrix(&format!("{name}.weight"), rows, cols)?,
            bias: self.vector_if_present(&format!("{name}.bias"), rows)?,
        })
    }

    /// Matrices of `experts` experts and, if they are there, their biases.
    pub fn experts(&self, name: &str, experts: usize, rows: usize, cols: usize) -> Result<Experts, Error> {
        self.rows_of_experts(name, experts, rows, 0, rows, cols)
    }

    /// As [`Finder::experts`], of some of the `all` rows that each expert has in the tensor.
    pub fn rows_of_experts(
        &self,
        name: &str,
        experts: usize,
        all: usize,
        first_row: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Experts, Error> {
        let weight = format!("{name}.weight");
        let tensor = self.shaped(&weight, &[experts, all, cols])?.clone();
        let bias = format!("{name}.bias");
        let bias = self.has(&bias).then(|| self.numbers(&bias, &[experts, all])).transpose()?;
        let first = Matrix { tensor, first_row, rows, cols, scale: 1.0 };
        Ok(Experts { first, all, scales: self.scales(&weight, experts)?, bias })
    }

    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        numbers(self.gguf, self.tensor(name)?, shape)
    }

    pub fn vector_if_present(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, Error> {
        self.has(name).then(|| self.numbers(name, &[len])).transpose()
    }

    /// `name.weight` and, if it is there, `name.bias`.
    pub fn norm(&self, name: &str, shape: &[usize]) -> Result<NormWeight, Error> {
        let bias = format!("{name}.bias");
        Ok(NormWeight {
            weight: self.numbers(&format!("{name}.weight"), shape)?,
            bias: if self.has(&bias) { self.numbers(&bias, shape)? } else { Vec::new() },
        })
    }

    /// A tensor that nobody looked for is a part that this version does not compute: the answer would be wrong.
    fn refuse_others(&self, params: &Params) -> Result<(), Error> {
        let found = self.found.borrow();
        let known = |name: &str| {
            let later = |layer: &str| layer.parse().is_ok_and(|i: usize| i >= params.layers);
            let mut parts = name.split('.');
            found.contains(name)
                || ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"].contains(&name)
                || params.extra_layers > 0 && parts.next() == Some("blk") && parts.next().is_some_and(later)
        };
        match self.gguf.tensors().iter().find(|tensor| !known(&tensor.name)) {
            Some(tensor) => {
                let shown: String = tensor.name.chars().take(60).collect();
                let architecture = &params.architecture;
                Err(Error::Unsupported(format!(
                    "tensor '{shown}' has no place in architecture '{architecture}' as this version knows it"
                )))
            }
            None => Ok(()),
        }
    }
}

/// A small tensor of plain numbers, copied.
pub fn numbers(gguf: &Gguf, tensor: &TensorInfo, shape: &[usize]) -> Result<Vec<f32>, Error> {
    if tensor.shape != shape {
        return Err(Error::Bad(format!("tensor '{}' should be {shape:?} but is {:?}", tensor.name, tensor.shape)));
    }
    if tensor.ty.block_len() != 1 {
        let (name, ty) = (&tensor.name, tensor.ty.name());
        return Err(Error::Unsupported(format!("tensor '{name}' is of type {ty}, expected plain numbers")));
    }
    let mut out = vec![0.0; shape.iter().product()];
    quant::dequantize_row(tensor.ty, gguf.data(tensor), &mut out)
        .map_err(|e| Error::Unsupported(format!("tensor '{}': {e}", tensor.name)))?;
    Ok(out)
}
