//! The registry of loaded models.
use super::{Error, ModelInfo, TensorDescription};
use crate::{chat::ChatTemplate, gguf::Gguf, tokenizer::Tokenizer};
use std::{path::PathBuf, sync::Arc};

/// Where a model comes from.
pub enum Source {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

/// A model in the registry, with everything read from its file.
pub struct Loaded {
    pub info: ModelInfo,
    pub gguf: Arc<Gguf>,
    /// `None` for a file without a vocabulary.
    pub tokenizer: Option<Tokenizer>,
    /// `None` when the file has none; an error text when it has one that does not compile.
    pub template: Option<Result<ChatTemplate, String>>,
}

impl Loaded {
    /// Dequantised, row-major.
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        todo!("{name}")
    }
    /// The bytes as stored.
    pub fn tensor_bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        todo!("{name}")
    }
    /// Cheap.
    pub fn tensors(&self) -> Vec<TensorDescription> {
        todo!()
    }
    /// The tokenizer, or an error that says the file has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        todo!()
    }
    /// Renders chat messages with `template` (Jinja source) or the model's own.
    pub fn render_chat(
        &self,
        messages: &serde_json::Value,
        template: Option<&str>,
        options: crate::chat::RenderOptions,
    ) -> Result<String, Error> {
        let _ = (messages, template, options);
        todo!()
    }
}

/// Maps, hashes and checks a model and puts it into the registry. `progress` is called from this thread with fractions
/// 0..=1, at most 20 times a second. `cancelled` is polled. A failed store leaves nothing behind.
pub fn store(source: Source, progress: &mut dyn FnMut(f64), cancelled: &dyn Fn() -> bool) -> Result<String, Error> {
    let _ = (source, progress, cancelled);
    todo!()
}

/// Cheap.
pub fn get(id: &str) -> Result<Arc<Loaded>, Error> {
    todo!("{id}")
}

/// Cheap.
pub fn list() -> Vec<Arc<Loaded>> {
    todo!()
}

/// Releases one reference; true when the model is gone. Fails when there is no such model. Cheap.
pub fn remove(id: &str) -> Result<bool, Error> {
    todo!("{id}")
}
