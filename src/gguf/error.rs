use std::path::PathBuf;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not a valid GGUF file. `offset` is the byte at which the problem was found.
    #[error("{what} (at byte {offset}{})", .file.as_ref().map(|f| format!(" of {}", f.display())).unwrap_or_default())]
    Bad { offset: u64, what: String, file: Option<PathBuf> },
    /// A valid file that asks for something this version cannot do, named in the message.
    #[error("{0}")]
    Unsupported(String),
    #[error("cannot read {}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The file behind a mapping was truncated or rewritten after it was opened.
    #[error("{} changed while it was in use: {what}", .path.display())]
    Changed { path: PathBuf, what: String },
}
