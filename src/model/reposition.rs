//! Moving what is cached to other positions.
use super::Network;
use crate::{
    compute::{Phase, Stopped, Team},
    kernels::{Page, Rerotate, attention::Layout, tier},
};

impl Network {
    /// Moves the keys in whole pages `by` positions towards the beginning.
    pub fn move_back(&self, team: &Team, pages: &[Page], layout: Layout, by: usize) -> Result<(), Stopped> {
        let context = self.params.context_length;
        let tables: Vec<(Vec<f32>, Vec<f32>)> =
            self.ropes.kinds.iter().map(|rope| turn(rope.frequencies(context), -(by as f64))).collect();
        let rotation = self.family.rotation;
        let phases: Vec<Rerotate> = (0..layout.layers)
            .filter_map(|layer| {
                let (cos, sin) = &tables[self.ropes.of(layer, &self.params)?];
                Some(Rerotate { tier: tier(), pages, layout, layer, rotation, cos, sin })
            })
            .collect();
        let phases: Vec<&dyn Phase> = phases.iter().map(|phase| phase as &dyn Phase).collect();
        team.run(&phases)
    }
}

/// Cosine and sine of each pair's angle after `positions`.
fn turn(frequencies: &[f64], positions: f64) -> (Vec<f32>, Vec<f32>) {
    // libm is the same on every platform.
    frequencies.iter().map(|f| positions * f).map(|a| (libm::cos(a) as f32, libm::sin(a) as f32)).unzip()
}
