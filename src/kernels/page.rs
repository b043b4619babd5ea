use super::Page;
use memmap2::MmapMut;

/// The memory of one page of the cache. It comes from the operating system directly and goes back there, so that freed
/// pages do not stay with the process.
///
/// Whoever holds a page alone may let phases write to it; a page that is shared is only read.
pub struct PageMemory {
    start: Page,
    len: usize,
    /// Keeps `start` valid; not touched otherwise.
    _map: MmapMut,
}

impl PageMemory {
    /// `len` zero bytes.
    pub fn new(len: usize) -> std::io::Result<Self> {
        let mut map = MmapMut::map_anon(len)?;
        Ok(Self { start: Page(map.as_mut_ptr()), len, _map: map })
    }

    pub fn address(&self) -> Page {
        self.start
    }

    pub fn byte_len(&self) -> usize {
        self.len
    }

    /// The content. Not while a phase writes to it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes, valid as long as `_map` is; nobody writes to them now.
        unsafe { std::slice::from_raw_parts(self.start.0, self.len) }
    }

    /// The content, of a page that no phase uses.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and whoever has `&mut self` holds the page alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.0, self.len) }
    }

    /// A page of its own with the same content. Not while a phase writes to this one.
    pub fn duplicate(&self) -> std::io::Result<Self> {
        let copy = Self::new(self.len)?;
        // SAFETY: both are `len` bytes, the copy is new, and nobody writes to this page now.
        unsafe { std::ptr::copy_nonoverlapping(self.start.0, copy.start.0, self.len) };
        Ok(copy)
    }
}
