use super::Error;
use std::fmt::Display;

/// Reads forward through bytes. Every length is compared with what remains before it is used.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// `at` may lie behind the end: nothing remains then.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes from `start` to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start.min(self.at)..self.at]
    }

    /// The next `count` bytes, which belong to `what`.
    pub fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Error> {
        let Some(bytes) = self.bytes[self.at..].get(..count) else {
            let rest = self.remaining();
            return Err(Error::bad(
                self.at,
                format!("the file ends inside {what}: it needs {count} bytes, {rest} remain"),
            ));
        };
        self.at += count;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length as u64, then its bytes, which need not be UTF-8.
    pub fn string(&mut self, what: &str) -> Result<&'a [u8], Error> {
        let at = self.at;
        let len = self.u64(what)?;
        match usize::try_from(len) {
            Ok(count) if count <= self.remaining() => self.take(count, what),
            _ => Err(Error::bad(at, format!("{what} claims {len} bytes but {} remain", self.remaining()))),
        }
    }

    /// Accepts the claim, read at `at`, that `count` things follow which take at least `least` bytes each.
    pub fn check_count(&self, at: usize, count: u64, least: usize, what: impl Display) -> Result<usize, Error> {
        let most = self.remaining() / least;
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(Error::bad(
                at,
                format!(
                    "{count} {what} are claimed but the {} bytes that follow hold at most {most}",
                    self.remaining()
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_little_endian_numbers_and_strings() {
        let bytes = [&[1, 2, 0, 0][..], &3u64.to_le_bytes(), b"abc", &[9]].concat();
        let mut cursor = Cursor::new(&bytes, 0);
        assert_eq!(cursor.u32("x").unwrap(), 0x0201);
        let start = cursor.at();
        assert_eq!(cursor.string("x").unwrap(), b"abc");
        assert_eq!(cursor.since(start).len(), 11);
        assert_eq!((cursor.at(), cursor.remaining()), (15, 1));
    }

    #[test]
    fn refuses_to_read_past_the_end() {
        let bytes = [&u64::MAX.to_le_bytes()[..], b"abc"].concat();
        let error = Cursor::new(&bytes, 0).string("the name").unwrap_err();
        assert_eq!(error.to_string(), "the name claims 18446744073709551615 bytes but 3 remain (at byte 0)");
        let error = Cursor::new(&bytes, 8).u32("the version").unwrap_err();
        assert_eq!(error.to_string(), "the file ends inside the version: it needs 4 bytes, 3 remain (at byte 8)");
        assert!(Cursor::new(&bytes, 99).take(1, "x").is_err());
        assert!(Cursor::new(&bytes, 99).take(0, "x").is_ok());
    }

    #[test]
    fn checks_counts_before_they_are_used() {
        let cursor = Cursor::new(&[0; 20], 0);
        assert_eq!(cursor.check_count(0, 2, 8, "strings").unwrap(), 2);
        let error = cursor.check_count(4, 3, 8, "strings").unwrap_err();
        assert_eq!(error.to_string(), "3 strings are claimed but the 20 bytes that follow hold at most 2 (at byte 4)");
    }
}
