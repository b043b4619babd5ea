//! Moving what is cached to other positions.
use super::{Network, Stopped};
use crate::{
    compute::{Phase, Team},
    kernels::{Page, Rerotate, attention::Layout, tier},
};

impl Network {
    /// Moves the keys in whole pages `by` positions towards the beginning.
    pub fn move_back(&self, team: &Team, pages: &[Page], layout: Layout, by: usize) -> Result<(), Stopped> {
        // libm is the same on every platform.
        let angles = self.rope.frequencies.iter().map(|frequency| -(by as f64) * frequency);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (libm::cos(a) as f32, libm::sin(a) as f32)).unzip();
        let rotation = self.rotation();
        let (cos, sin) = (&cos[..], &sin[..]);
        let phases: Vec<Rerotate> = (0..layout.layers)
            .map(|layer| Rerotate { tier: tier(), pages, layout, layer, rotation, cos, sin })
            .collect();
        let phases: Vec<&dyn Phase> = phases.iter().map(|phase| phase as &dyn Phase).collect();
        team.run(&phases)?;
        Ok(())
    }
}
