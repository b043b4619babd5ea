use memmap2::MmapMut;

/// A growing buffer of plain numbers, aligned to a page. It comes from the operating system directly and goes back there
/// at once: the heap would keep what a long prompt needed once.
#[derive(Default)]
pub struct Aligned {
    map: Option<MmapMut>,
}

impl Aligned {
    /// Room for `len` elements; the content is unspecified (what the last user left, or zeros). Panics where the system
    /// has no memory.
    pub fn get<T: bytemuck::Pod>(&mut self, len: usize) -> &mut [T] {
        let bytes = len * size_of::<T>();
        if bytes == 0 {
            return &mut [];
        }
        let map = match self.map.take() {
            Some(map) if map.len() >= bytes => map,
            // What is not touched takes no memory, so there is room for the next ones.
            _ => MmapMut::map_anon(2 * bytes).expect("memory to compute in"),
        };
        bytemuck::cast_slice_mut(&mut self.map.insert(map)[..bytes])
    }
}

/// What one worker has for itself while it runs chunks: scratch memory that is kept from chunk to chunk.
#[derive(Default)]
pub struct Lane {
    pub panel: Aligned,
    pub partial: Aligned,
    pub rows: Aligned,
    pub extra: Aligned,
}
