use crate::{cache, chat, compute, gguf, model, quant, registry, tokenizer};

/// Every failure a caller can see. [`Error::code`] is the stable `code` of the JavaScript error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    BadGguf(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("there is no model {0} in the registry: it was never stored, or it was removed")]
    ModelNotFound(String),
    #[error("{0}")]
    TensorNotFound(String),
    #[error("{0}")]
    InvalidArgument(String),
    #[error("{0}")]
    ContextOverflow(String),
    #[error("{0}")]
    OutOfMemory(String),
    #[error("{0}")]
    QueueFull(String),
    #[error("{0}")]
    BadSnapshot(String),
    #[error("model {0} was removed while it was in use")]
    ModelRemoved(String),
    #[error("{0}")]
    FileChanged(String),
    #[error("{0}")]
    Io(String),
    #[error("internal error, please report it: {0}")]
    Internal(String),
    /// The caller cancelled; never shown as such (the stream just ends, or rejects with `signal.reason`).
    #[error("the request was cancelled")]
    Cancelled,
}

impl Error {
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadGguf(_) => "ERR_REALM_BAD_GGUF",
            Self::Unsupported(_) => "ERR_REALM_UNSUPPORTED",
            Self::ModelNotFound(_) => "ERR_REALM_MODEL_NOT_FOUND",
            Self::TensorNotFound(_) => "ERR_REALM_TENSOR_NOT_FOUND",
            Self::InvalidArgument(_) => "ERR_REALM_INVALID_ARGUMENT",
            Self::ContextOverflow(_) => "ERR_REALM_CONTEXT_OVERFLOW",
            Self::OutOfMemory(_) => "ERR_REALM_OUT_OF_MEMORY",
            Self::QueueFull(_) => "ERR_REALM_QUEUE_FULL",
            Self::BadSnapshot(_) => "ERR_REALM_BAD_SNAPSHOT",
            Self::ModelRemoved(_) => "ERR_REALM_MODEL_REMOVED",
            Self::FileChanged(_) => "ERR_REALM_FILE_CHANGED",
            Self::Io(_) => "ERR_REALM_IO",
            Self::Internal(_) => "ERR_REALM_INTERNAL",
            Self::Cancelled => "ABORT_ERR",
        }
    }
}

impl From<gguf::Error> for Error {
    fn from(e: gguf::Error) -> Self {
        let text = e.to_string();
        match e {
            gguf::Error::Bad { .. } => Self::BadGguf(text),
            gguf::Error::Unsupported(_) => Self::Unsupported(text),
            gguf::Error::Io { .. } => Self::Io(text),
            gguf::Error::Changed { .. } => Self::FileChanged(text),
        }
    }
}

impl From<tokenizer::Error> for Error {
    fn from(e: tokenizer::Error) -> Self {
        let text = e.to_string();
        match e {
            tokenizer::Error::Bad(_) => Self::BadGguf(text),
            tokenizer::Error::Unsupported(_) => Self::Unsupported(text),
            tokenizer::Error::TokenOutOfRange { .. } => Self::InvalidArgument(text),
        }
    }
}

impl From<chat::Error> for Error {
    fn from(e: chat::Error) -> Self {
        Self::InvalidArgument(e.to_string())
    }
}

impl From<model::Error> for Error {
    fn from(e: model::Error) -> Self {
        match e {
            model::Error::File(e) => e.into(),
            model::Error::Bad(text) => Self::BadGguf(text),
            model::Error::Unsupported(text) => Self::Unsupported(text),
        }
    }
}

impl From<compute::Stopped> for Error {
    fn from(e: compute::Stopped) -> Self {
        match e {
            compute::Stopped::Cancelled => Self::Cancelled,
            compute::Stopped::Panic(text) => Self::Internal(text),
        }
    }
}

impl From<cache::OutOfMemory> for Error {
    fn from(e: cache::OutOfMemory) -> Self {
        Self::OutOfMemory(e.to_string())
    }
}

impl From<cache::snapshot::Error> for Error {
    fn from(e: cache::snapshot::Error) -> Self {
        match e {
            cache::snapshot::Error::Bad(text) => Self::BadSnapshot(text),
            cache::snapshot::Error::OutOfMemory(e) => e.into(),
        }
    }
}

impl From<quant::Error> for Error {
    fn from(e: quant::Error) -> Self {
        Self::Unsupported(e.to_string())
    }
}

impl From<registry::ParseIdError> for Error {
    fn from(e: registry::ParseIdError) -> Self {
        Self::InvalidArgument(e.to_string())
    }
}
