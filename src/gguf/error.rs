use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

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

impl Error {
    pub(super) fn bad(offset: usize, what: impl Into<String>) -> Self {
        Self::Bad { offset: offset as u64, what: what.into(), file: None }
    }

    /// Says what was being read, in front of what was wrong with it.
    pub(super) fn within(self, context: impl Display) -> Self {
        match self {
            Self::Bad { offset, what, file } => Self::Bad { offset, what: format!("{context}: {what}"), file },
            other => other,
        }
    }

    /// Names the file in errors that were found in its bytes. The innermost name stays.
    pub(super) fn in_file(self, path: Option<&Path>) -> Self {
        match (self, path) {
            (Self::Bad { offset, what, file: None }, Some(path)) => Self::Bad { offset, what, file: Some(path.into()) },
            (Self::Unsupported(what), Some(path)) => Self::Unsupported(format!("{}: {what}", path.display())),
            (other, _) => other,
        }
    }
}

/// A name from a file as it appears in messages: in quotes, control characters escaped, at most 100 characters.
pub(super) fn quoted(name: &str) -> String {
    const SHOWN: usize = 100;
    let shown: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let rest = if name.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("'{shown}{rest}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_well() {
        let error = Error::bad(12, "type 99 does not exist").within("metadata key 'a'");
        assert_eq!(error.to_string(), "metadata key 'a': type 99 does not exist (at byte 12)");
        let error = error.in_file(Some(Path::new("x.gguf"))).in_file(Some(Path::new("outer.gguf")));
        assert_eq!(error.to_string(), "metadata key 'a': type 99 does not exist (at byte 12 of x.gguf)");
        let error = Error::Unsupported("GGUF version 9".into()).in_file(Some(Path::new("x.gguf")));
        assert_eq!(error.to_string(), "x.gguf: GGUF version 9");
    }

    #[test]
    fn quoting_tames_names() {
        assert_eq!(quoted("blk.0.attn_q.weight"), "'blk.0.attn_q.weight'");
        assert_eq!(quoted("a\n\0"), r"'a\n\0'");
        assert_eq!(quoted(&"é".repeat(101)), format!("'{}…'", "é".repeat(100)));
    }
}
