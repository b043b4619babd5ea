use crate::{
    gguf::{self, Gguf},
    model::Network,
    tokenizer::Tokenizer,
};

/// What `getModelInfo` tells; names as in the public API. Numbers that a file without weights does not have are 0.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    pub id: String,
    pub name: String,
    pub architecture: String,
    pub quantization: String,
    pub tensor_count: usize,
    /// Bytes of tensor data.
    pub total_size: u64,
    pub file_size: u64,
    pub parameter_count: u64,
    pub context_length: usize,
    pub embedding_length: usize,
    pub layer_count: usize,
    pub head_count: usize,
    pub kv_head_count: usize,
    pub vocabulary_size: usize,
    pub has_chat_template: bool,
    pub path: Option<String>,
}

#[derive(Debug, Clone)]
pub struct TensorDescription {
    pub name: String,
    pub ty: &'static str,
    /// Row-major, slowest dimension first.
    pub shape: Vec<usize>,
    pub byte_length: u64,
}

impl ModelInfo {
    pub(super) fn new(
        id: String,
        gguf: &Gguf,
        tokenizer: Option<&Tokenizer>,
        network: Option<&Network>,
    ) -> Result<Self, gguf::Error> {
        let metadata = gguf.metadata();
        let architecture = metadata.str("general.architecture")?.unwrap_or_default().into_owned();
        let number = |key: &str| match metadata.u32(&format!("{architecture}.{key}")) {
            Ok(Some(n)) => n as usize,
            // Absent, or one per layer.
            _ => 0,
        };
        let path = gguf.path().map(|path| path.to_string_lossy().into_owned());
        let stem = gguf.path().and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
        let name = metadata.str("general.name")?.map(|name| name.into_owned());
        let params = network.map(|network| &network.params);
        let tensors = gguf.tensors();
        let vocabulary = tokenizer.map_or(0, |tokenizer| tokenizer.vocab_size());
        Ok(Self {
            id,
            name: name.or(stem).unwrap_or_else(|| "unnamed".into()),
            quantization: quantization(gguf),
            tensor_count: tensors.len(),
            total_size: tensors.iter().map(|tensor| tensor.byte_len as u64).sum(),
            file_size: gguf.file_size(),
            parameter_count: tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum(),
            context_length: params.map_or_else(|| number("context_length"), |params| params.context_length),
            embedding_length: params.map_or_else(|| number("embedding_length"), |params| params.embedding_length),
            layer_count: params.map_or_else(|| number("block_count"), |params| params.layers),
            head_count: params.map_or_else(|| number("attention.head_count"), |params| params.heads),
            kv_head_count: params.map_or_else(|| number("attention.head_count_kv"), |params| params.kv_heads),
            vocabulary_size: network.map_or(vocabulary, |network| network.vocabulary_size()),
            has_chat_template: metadata.get("tokenizer.chat_template").is_some(),
            path,
            architecture,
        })
    }
}

/// The file's own statement (`general.file_type`, numbers as in llama.cpp's `llama_ftype`), or else the type that most of
/// the parameters have.
fn quantization(gguf: &Gguf) -> String {
    let stated = match gguf.metadata().u32("general.file_type") {
        Ok(Some(0)) => "F32",
        Ok(Some(1)) => "F16",
        Ok(Some(2)) => "Q4_0",
        Ok(Some(3)) => "Q4_1",
        Ok(Some(7)) => "Q8_0",
        Ok(Some(8)) => "Q5_0",
        Ok(Some(9)) => "Q5_1",
        Ok(Some(10)) => "Q2_K",
        Ok(Some(11)) => "Q3_K_S",
        Ok(Some(12)) => "Q3_K_M",
        Ok(Some(13)) => "Q3_K_L",
        Ok(Some(14)) => "Q4_K_S",
        Ok(Some(15)) => "Q4_K_M",
        Ok(Some(16)) => "Q5_K_S",
        Ok(Some(17)) => "Q5_K_M",
        Ok(Some(18)) => "Q6_K",
        Ok(Some(19)) => "IQ2_XXS",
        Ok(Some(20)) => "IQ2_XS",
        Ok(Some(21)) => "Q2_K_S",
        Ok(Some(22)) => "IQ3_XS",
        Ok(Some(23)) => "IQ3_XXS",
        Ok(Some(24)) => "IQ1_S",
        Ok(Some(25)) => "IQ4_NL",
        Ok(Some(26)) => "IQ3_S",
        Ok(Some(27)) => "IQ3_M",
        Ok(Some(28)) => "IQ2_S",
        Ok(Some(29)) => "IQ2_M",
        Ok(Some(30)) => "IQ4_XS",
        Ok(Some(31)) => "IQ1_M",
        Ok(Some(32)) => "BF16",
        Ok(Some(36)) => "TQ1_0",
        Ok(Some(37)) => "TQ2_0",
        Ok(Some(38)) => "MXFP4",
        Ok(Some(39)) => "NVFP4",
        Ok(Some(40)) => "Q1_0",
        _ => "",
    };
    if !stated.is_empty() {
        return stated.to_owned();
    }
    let mut sizes: Vec<(&'static str, usize)> = Vec::new();
    for tensor in gguf.tensors() {
        let elements = tensor.shape.iter().product::<usize>();
        match sizes.iter_mut().find(|(name, _)| *name == tensor.ty.name()) {
            Some((_, sum)) => *sum += elements,
            None => sizes.push((tensor.ty.name(), elements)),
        }
    }
    sizes.into_iter().max_by_key(|&(_, sum)| sum).map_or_else(|| "none".into(), |(name, _)| name.into())
}
