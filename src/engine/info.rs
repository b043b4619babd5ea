use super::Error;

/// What `getModelInfo` tells; names as in the public API.
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

#[derive(Debug, Clone)]
pub struct SystemInfo {
    pub version: &'static str,
    pub threads: usize,
    pub instruction_set: &'static str,
    /// Instruction sets this build could use on this machine, best first.
    pub available_instruction_sets: Vec<&'static str>,
    pub cache_bytes: u64,
    pub cache_used_bytes: u64,
}

/// Changes process-wide settings. `threads` takes effect with the next piece of work. Cheap.
pub fn configure(threads: Option<usize>, cache_bytes: Option<u64>) -> Result<(), Error> {
    todo!("{threads:?} {cache_bytes:?}")
}

/// Cheap.
pub fn system_info() -> SystemInfo {
    todo!()
}
