use super::Error;
use memmap2::Mmap;
use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Read-only bytes of a model file: a memory map of a path, or bytes that the caller handed over.
pub struct Mapping {
    source: Source,
}

enum Source {
    Bytes(Vec<u8>),
    File(MappedFile),
}

struct MappedFile {
    path: PathBuf,
    /// Kept open so that [`Mapping::check_unchanged`] asks about this file, not about what the path names by then.
    file: File,
    bytes: Mmap,
    modified: Option<SystemTime>,
}

impl Mapping {
    pub fn open(path: &Path) -> Result<Self, Error> {
        MappedFile::open(path)
            .map(|file| Self { source: Source::File(file) })
            .map_err(|source| Error::Io { path: path.into(), source })
    }

    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { source: Source::Bytes(bytes) }
    }

    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Bytes(bytes) => bytes,
            Source::File(file) => &file.bytes,
        }
    }

    pub fn path(&self) -> Option<&Path> {
        match &self.source {
            Source::Bytes(_) => None,
            Source::File(file) => Some(&file.path),
        }
    }

    /// Fails with [`Error::Changed`] when the file was truncated or rewritten since it was mapped (one `fstat`).
    ///
    /// A file that another one replaced by renaming is not changed: the mapping keeps the old one alive.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        match &self.source {
            Source::Bytes(_) => Ok(()),
            Source::File(file) => file.check_unchanged(),
        }
    }
}

impl MappedFile {
    fn open(path: &Path) -> io::Result<Self> {
        // Before opening: a pipe would block there, and Windows has no good error for a directory.
        check_kind(&fs::metadata(path)?)?;
        let file = File::open(path)?;
        let found = file.metadata()?;
        check_kind(&found)?;
        // SAFETY: the map is private to this value, read-only and never handed out as anything but `&[u8]`. That
        // another process could write to or truncate the file meanwhile cannot be excluded by any reader that maps; it
        // is detected by `check_unchanged`, and code that decodes these bytes again checks them again, so other bytes
        // than before lead to wrong numbers or errors, never to an access outside the map.
        let bytes = unsafe { Mmap::map(&file)? };
        if bytes.is_empty() {
            return Err(empty());
        }
        advise(&bytes);
        Ok(Self { path: path.into(), file, bytes, modified: found.modified().ok() })
    }

    fn check_unchanged(&self) -> Result<(), Error> {
        let changed = |what| Err(Error::Changed { path: self.path.clone(), what });
        let now = self.file.metadata().map_err(|source| Error::Io { path: self.path.clone(), source })?;
        if now.len() != self.bytes.len() as u64 {
            return changed(format!("it had {} bytes when it was opened and has {} now", self.bytes.len(), now.len()));
        }
        if now.modified().ok() != self.modified {
            return changed("it was written to after it was opened".into());
        }
        Ok(())
    }
}

fn check_kind(found: &fs::Metadata) -> io::Result<()> {
    if found.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory, not a GGUF file"));
    }
    if !found.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file, so it cannot be mapped"));
    }
    if found.len() == 0 {
        return Err(empty());
    }
    Ok(())
}

fn empty() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty")
}

/// Hints only: a kernel that does not take them reads pages as they are touched.
fn advise(bytes: &Mmap) {
    #[cfg(unix)]
    let _ = bytes.advise(memmap2::Advice::WillNeed);
    #[cfg(target_os = "linux")]
    let _ = bytes.advise(memmap2::Advice::HugePage);
    #[cfg(not(unix))]
    let _ = bytes;
}

/// Not the bytes themselves: there may be gigabytes of them.
impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("path", &self.path()).field("len", &self.bytes().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::testing::TempDir;
    use std::{io::Write, time::Duration};

    #[test]
    fn maps_a_file() {
        let dir = TempDir::new();
        let path = dir.file("model", b"abc");
        let mapping = Mapping::open(&path).unwrap();
        assert_eq!(mapping.bytes(), b"abc");
        assert_eq!(mapping.path(), Some(path.as_path()));
        mapping.check_unchanged().unwrap();
    }

    #[test]
    fn owns_bytes() {
        let bytes = vec![1, 2, 3];
        let at = bytes.as_ptr();
        let mapping = Mapping::from_bytes(bytes);
        assert_eq!(mapping.bytes().as_ptr(), at, "bytes handed over are used in place");
        assert_eq!(mapping.path(), None);
        mapping.check_unchanged().unwrap();
        assert_eq!(format!("{mapping:?}"), "Mapping { path: None, len: 3 }");
    }

    #[test]
    fn says_why_a_path_cannot_be_mapped() {
        let dir = TempDir::new();
        let message = |path: &Path| Mapping::open(path).unwrap_err().to_string();
        assert!(message(&dir.file("empty", b"")).ends_with("the file is empty"));
        assert!(message(dir.path()).ends_with("it is a directory, not a GGUF file"));
        let absent = dir.path().join("absent");
        assert!(message(&absent).starts_with(&format!("cannot read {}: ", absent.display())));
        #[cfg(unix)]
        assert!(message(Path::new("/dev/null")).contains("not a regular file"));
    }

    // Windows does not let anybody truncate a file that is mapped.
    #[test]
    #[cfg(unix)]
    fn notices_truncation_and_rewriting() {
        let dir = TempDir::new();
        let path = dir.file("model", b"abcdef");

        let mapping = Mapping::open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        let error = mapping.check_unchanged().unwrap_err();
        assert!(matches!(error, Error::Changed { .. }));
        assert!(error.to_string().ends_with("it had 6 bytes when it was opened and has 2 now"), "{error}");

        let mapping = Mapping::open(&path).unwrap();
        let mut file = File::options().write(true).open(&path).unwrap();
        file.write_all(b"xy").unwrap();
        // Set by hand, as the clock of a file system may not have ticked since.
        file.set_modified(SystemTime::now() + Duration::from_secs(9)).unwrap();
        let error = mapping.check_unchanged().unwrap_err();
        assert!(error.to_string().ends_with("it was written to after it was opened"), "{error}");
    }

    #[test]
    #[cfg(unix)]
    fn a_replaced_file_is_not_a_changed_one() {
        let dir = TempDir::new();
        let path = dir.file("model", b"abcdef");
        let mapping = Mapping::open(&path).unwrap();
        fs::rename(dir.file("other", b"something else"), &path).unwrap();
        mapping.check_unchanged().unwrap();
        assert_eq!(mapping.bytes(), b"abcdef");
    }
}
