//! Moving cached keys to other positions.
use super::{CHUNK, KvFormat, Page, attention::Layout, scalar::Rotation, tier::Tier};
use crate::compute::{Lane, Phase};

/// Phase: keys that were rotated for their positions are rotated for positions a fixed number before them: rotations add up
/// (Su et al. 2021, arXiv 2104.09864), so the angle of the difference is all that is needed. Values do not depend on
/// positions. What is stored is rounded once more.
pub struct Rerotate<'a> {
    pub tier: &'static Tier,
    pub pages: &'a [Page],
    pub layout: Layout,
    /// Layer within the page.
    pub layer: usize,
    pub rotation: Rotation,
    /// Of the difference, for each pair.
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl Phase for Rerotate<'_> {
    fn chunks(&self) -> usize {
        self.pages.len() * self.layout.kv_heads
    }

    fn run(&self, chunk: usize, lane: &mut Lane) {
        let (page, head) = (self.pages[chunk / self.layout.kv_heads], chunk % self.layout.kv_heads);
        let (format, d) = (self.layout.format, self.layout.head_dim);
        let head_bytes = format.head_bytes(d);
        let key = lane.partial.get::<f32>(d);
        // `append` writes a value too; this one goes nowhere.
        let unused = lane.extra.get::<u8>(head_bytes).as_mut_ptr();
        for slot in 0..CHUNK {
            // SAFETY: the page has room for the layout, and these keys are this chunk's.
            unsafe {
                let keys = page.0.add(self.layout.keys_at(self.layer, head));
                read(format, keys, slot, key);
                (self.tier.rotate)(self.rotation, key, self.cos, self.sin);
                (self.tier.append)(format, d, key.as_ptr(), key.as_ptr(), slot, keys, unused);
            }
        }
    }
}

/// One key out of a chunk's, see [`KvFormat`].
///
/// # Safety
/// `keys` has the keys of a chunk, which nobody writes now.
unsafe fn read(format: KvFormat, keys: *const u8, slot: usize, key: &mut [f32]) {
    let (d, tile, lane) = (key.len(), slot / 16, slot % 16);
    for (i, x) in key.iter_mut().enumerate() {
        let at = (tile * d + i) * 16 + lane;
        // SAFETY: the caller's promise.
        *x = unsafe {
            match format {
                KvFormat::F32 => *keys.cast::<f32>().add(at),
                KvFormat::F16 => half::f16::from_bits(*keys.cast::<u16>().add(at)).to_f32(),
                KvFormat::Q8_0 => {
                    let scales = keys.add(CHUNK * d).cast::<f32>();
                    f32::from(*keys.cast::<i8>().add(at)) * *scales.add((tile * d.div_ceil(32) + i / 32) * 16 + lane)
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compute::Team,
        kernels::{scalar::rotate, tier},
    };

    /// Keys of a page, as they are for a position and a rotation.
    fn keys(format: KvFormat, rotation: Rotation, first: usize) -> Vec<u8> {
        let layout = Layout { format, head_dim: 40, kv_heads: 2, layers: 2, state_bytes: 0 };
        let mut page = vec![0u8; layout.page_bytes()];
        for slot in 0..CHUNK {
            for head in 0..layout.kv_heads {
                let mut key: Vec<f32> = (0..40).map(|i| ((slot * 7 + head * 3 + i) % 11) as f32 - 5.0).collect();
                let (cos, sin) = table((first + slot) as f64);
                rotate(rotation, &mut key, &cos, &sin);
                let at = layout.keys_at(1, head);
                let keys = page[at..].as_mut_ptr();
                // SAFETY: the page has room for the layout.
                unsafe {
                    let values = keys.add(format.head_bytes(40));
                    (tier().append)(format, 40, key.as_ptr(), [0.5; 40].as_ptr(), slot, keys, values);
                }
            }
        }
        page
    }

    /// Sixteen pairs of forty elements are rotated.
    fn table(angle: f64) -> (Vec<f32>, Vec<f32>) {
        let angles: Vec<f64> = (0..16).map(|i| angle * 10000f64.powf(-f64::from(i) / 16.0)).collect();
        (angles.iter().map(|a| a.cos() as f32).collect(), angles.iter().map(|a| a.sin() as f32).collect())
    }

    #[test]
    fn keys_are_those_of_the_earlier_positions() {
        for rotation in [Rotation::Interleaved, Rotation::Halves] {
            for (format, most) in [(KvFormat::F32, 1e-5), (KvFormat::F16, 0.01), (KvFormat::Q8_0, 0.1)] {
                let mut moved = keys(format, rotation, 1024);
                let before = moved.clone();
                let expected = keys(format, rotation, 64);
                let layout = Layout { format, head_dim: 40, kv_heads: 2, layers: 2, state_bytes: 0 };
                let (cos, sin) = table(-960.0);
                let pages = [Page(moved.as_mut_ptr())];
                let phase = Rerotate { tier: tier(), pages: &pages, layout, layer: 1, rotation, cos: &cos, sin: &sin };
                Team::new(2).run(&[&phase]).unwrap();
                let (mut found, mut right) = ([0.0; 40], [0.0; 40]);
                for head in 0..2 {
                    let at = layout.keys_at(1, head);
                    for slot in 0..CHUNK {
                        // SAFETY: both are pages of the layout.
                        unsafe {
                            read(format, moved[at..].as_ptr(), slot, &mut found);
                            read(format, expected[at..].as_ptr(), slot, &mut right);
                        }
                        let worst = found.iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        assert!(worst < most, "{rotation:?} {format:?}: {worst}");
                    }
                    // Values and the other layer are as they were.
                    let values = at + format.head_bytes(40)..at + 2 * format.head_bytes(40);
                    assert_eq!(moved[values.clone()], before[values]);
                }
                assert_eq!(moved[..layout.keys_at(1, 0)], before[..layout.keys_at(1, 0)]);
            }
        }
    }
}
