/// 64 bytes with the alignment of a cache line and of the widest vector register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A growing buffer of plain numbers, aligned to 64 bytes.
#[derive(Default)]
pub struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    /// Room for `len` elements; the content is unspecified (whatever the last user left).
    pub fn get<T: bytemuck::Pod>(&mut self, len: usize) -> &mut [T] {
        const { assert!(align_of::<T>() <= 64) };
        let bytes = len * size_of::<T>();
        let lines = bytes.div_ceil(64);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; 64]));
        }
        // SAFETY: the lines hold at least `bytes` initialised bytes, aligned to 64, and `T` accepts any bytes.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
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
