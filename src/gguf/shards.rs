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
