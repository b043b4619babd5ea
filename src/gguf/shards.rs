use super::{Error, Metadata};
use std::path::{Path, PathBuf};

/// What a file's name says of its place among the shards of a model: `<prefix>-00001-of-00003.gguf`.
#[derive(Debug, PartialEq)]
pub(super) struct ShardName {
    directory: PathBuf,
    prefix: String,
    /// Counted from 1.
    number: u32,
    count: u32,
}

/// What a file says of its place among the shards of a model.
#[derive(Debug)]
pub(super) struct Split {
    /// Counted from 0 in the file, from 1 here.
    number: u64,
    pub count: u32,
    /// Of all shards together.
    tensors: Option<u32>,
    /// Where the file says so.
    count_at: usize,
    tensors_at: usize,
}

impl ShardName {
    /// `None` when the name does not follow the pattern.
    pub fn parse(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let directory = path.parent()?.into();
        Some(Self { directory, prefix: prefix.into(), number: five_digits(number)?, count: five_digits(count)? })
    }

    /// Path of the shard with this number, counted from 1.
    pub fn path_of(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}

fn five_digits(text: &str) -> Option<u32> {
    let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl Split {
    /// A file that says nothing is the only one of its model.
    pub fn read(metadata: &Metadata) -> Result<Self, Error> {
        Ok(Self {
            number: u64::from(metadata.u32("split.no")?.unwrap_or(0)) + 1,
            count: metadata.u32("split.count")?.unwrap_or(1).max(1),
            tensors: metadata.u32("split.tensors.count")?,
            count_at: metadata.offset_of("split.count"),
            tensors_at: metadata.offset_of("split.tensors.count"),
        })
    }

    /// Checks that the file that was opened is the first of its model and named so that the others can be found.
    /// Returns the name if there are others.
    pub fn check_first(&self, name: Option<ShardName>) -> Result<Option<ShardName>, Error> {
        let (number, count) = (self.number, self.count);
        match name {
            None if (number, count) == (1, 1) => Ok(None),
            None => Err(self.error(format!(
                "this is shard {number} of {count}; open the model through the path of its first shard, which must end \
                 in '-00001-of-{count:05}.gguf' so that the others can be found"
            ))),
            Some(name) if name.count != count => Err(self.error(format!(
                "the file's name says that the model has {} shards but its split.count is {count}",
                name.count
            ))),
            Some(name) if u64::from(name.number) != number => Err(self.error(format!(
                "the file's name says that it is shard {} of {count} but its split.no says {number}",
                name.number
            ))),
            Some(name) if number != 1 => {
                Err(self
                    .error(format!("this is shard {number} of {count}; open the first, {}", name.path_of(1).display())))
            }
            Some(name) => Ok((count > 1).then_some(name)),
        }
    }

    /// Checks a later shard, counted from 1, against this first one.
    pub fn check_later(&self, later: &Self, number: u32) -> Result<(), Error> {
        if (later.number, later.count) == (number.into(), self.count) {
            return Ok(());
        }
        Err(later.error(format!(
            "this should be shard {number} of {} but its split.no and split.count say {} of {}",
            self.count, later.number, later.count
        )))
    }

    /// Checks the number of tensors in all shards.
    pub fn check_tensors(&self, found: usize) -> Result<(), Error> {
        match self.tensors {
            Some(stated) if stated as usize != found => Err(Error::bad(
                self.tensors_at,
                format!("split.tensors.count is {stated} but there are {found} tensors in all shards"),
            )),
            _ => Ok(()),
        }
    }

    fn error(&self, what: String) -> Error {
        Error::bad(self.count_at, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::{
        Gguf, TensorType,
        testing::{Owned, TempDir, Writer},
    };

    /// Shard `number` (from 1) of `count`; it holds one tensor named after its number.
    fn shard(number: u16, count: u16, tensors: i32) -> Writer {
        Writer::default()
            .pair("split.no", Owned::U16(number - 1))
            .pair("split.count", Owned::U16(count))
            .pair("split.tensors.count", Owned::I32(tensors))
            .tensor(&number.to_string(), TensorType::I8, &[number.into()])
    }

    fn error(path: &Path) -> String {
        Gguf::open(path).unwrap_err().to_string()
    }

    #[test]
    fn names_are_parsed() {
        let name = ShardName::parse(Path::new("models/a-b-00002-of-00010.gguf")).unwrap();
        assert_eq!((&*name.prefix, name.number, name.count), ("a-b", 2, 10));
        assert_eq!(name.path_of(10), Path::new("models/a-b-00010-of-00010.gguf"));
        for other in
            ["a.gguf", "a-1-of-2.gguf", "a-00001-of-00002.bin", "a-0000x-of-00002.gguf", "00001-of-00002.gguf", ".."]
        {
            assert_eq!(ShardName::parse(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn all_shards_open_through_the_first() {
        let dir = TempDir::new();
        let first = dir.file("m-00001-of-00003.gguf", &shard(1, 3, 3).pair("only.here", Owned::U8(1)).write());
        dir.file("m-00002-of-00003.gguf", &shard(2, 3, 3).write());
        dir.file("m-00003-of-00003.gguf", &shard(3, 3, 3).write());
        let gguf = Gguf::open(&first).unwrap();
        let places: Vec<_> = gguf.tensors().iter().map(|t| (&*t.name, t.shard, gguf.data(t).len())).collect();
        assert_eq!(places, [("1", 0, 1), ("2", 1, 2), ("3", 2, 3)]);
        assert_eq!(gguf.metadata().u32("only.here").unwrap(), Some(1));
        assert_eq!(gguf.path(), Some(&*first));
        assert_eq!(gguf.shard_bytes().count(), 3);
        assert_eq!(gguf.file_size(), gguf.shard_bytes().map(|bytes| bytes.len() as u64).sum::<u64>());
        gguf.check_unchanged().unwrap();
    }

    // Windows does not let anybody truncate a file that is mapped.
    #[test]
    #[cfg(unix)]
    fn every_shard_is_watched_for_changes() {
        let dir = TempDir::new();
        let first = dir.file("m-00001-of-00002.gguf", &shard(1, 2, 2).write());
        let second = dir.file("m-00002-of-00002.gguf", &shard(2, 2, 2).write());
        let gguf = Gguf::open(&first).unwrap();
        std::fs::File::options().write(true).open(&second).unwrap().set_len(5).unwrap();
        assert!(gguf.check_unchanged().unwrap_err().to_string().contains("m-00002-of-00002.gguf changed"));
    }

    #[test]
    fn a_missing_shard_is_named() {
        let dir = TempDir::new();
        let first = dir.file("m-00001-of-00002.gguf", &shard(1, 2, 2).write());
        let message = error(&first);
        assert!(message.contains("m-00002-of-00002.gguf: shard 2 of 2 of this model is missing"), "{message}");
    }

    #[test]
    fn a_later_shard_points_to_the_first() {
        let dir = TempDir::new();
        let second = dir.file("m-00002-of-00002.gguf", &shard(2, 2, 2).write());
        let message = error(&second);
        assert!(message.starts_with("this is shard 2 of 2; open the first, "), "{message}");
        assert!(message.contains("m-00001-of-00002.gguf (at byte "), "{message}");
    }

    #[test]
    fn other_names_hide_the_other_shards() {
        let dir = TempDir::new();
        let message = error(&dir.file("model.gguf", &shard(1, 2, 2).write()));
        assert!(message.starts_with("this is shard 1 of 2; open the model through"), "{message}");
        assert!(message.contains("'-00001-of-00002.gguf'"), "{message}");
        let message = Gguf::from_bytes(shard(2, 3, 3).write()).unwrap_err().to_string();
        assert!(message.starts_with("this is shard 2 of 3; open the model through"), "{message}");
    }

    #[test]
    fn names_and_contents_must_agree() {
        let dir = TempDir::new();
        let message = error(&dir.file("a-00001-of-00003.gguf", &shard(1, 2, 2).write()));
        assert!(
            message.starts_with("the file's name says that the model has 3 shards but its split.count is 2"),
            "{message}"
        );
        let message = error(&dir.file("b-00001-of-00002.gguf", &shard(2, 2, 2).write()));
        assert!(
            message.starts_with("the file's name says that it is shard 1 of 2 but its split.no says 2"),
            "{message}"
        );

        let first = dir.file("c-00001-of-00002.gguf", &shard(1, 2, 2).write());
        dir.file("c-00002-of-00002.gguf", &shard(3, 4, 2).write());
        let message = error(&first);
        assert!(
            message.starts_with("this should be shard 2 of 2 but its split.no and split.count say 3 of 4"),
            "{message}"
        );
        assert!(message.contains("c-00002-of-00002.gguf"), "{message}");

        dir.file("c-00002-of-00002.gguf", &shard(2, 2, 2).tensor("1", TensorType::I8, &[1]).write());
        assert!(error(&first).starts_with("tensor '1' occurs twice"));
    }

    #[test]
    fn tensors_must_be_as_many_as_stated() {
        let dir = TempDir::new();
        let first = dir.file("m-00001-of-00002.gguf", &shard(1, 2, 3).write());
        dir.file("m-00002-of-00002.gguf", &shard(2, 2, 3).write());
        assert!(error(&first).starts_with("split.tensors.count is 3 but there are 2 tensors in all shards"));
    }

    #[test]
    fn a_single_file_may_be_named_like_one_of_one() {
        let dir = TempDir::new();
        let bytes = Writer::default().tensor("t", TensorType::I8, &[1]).write();
        Gguf::open(&dir.file("m-00001-of-00001.gguf", &bytes)).unwrap();
    }
}
