//! Seeded chance. Draws hang on what they are for (request, offer, attempt), not on the order of events, so that every
//! policy meets the same luck.

#[derive(Clone, Copy)]
pub struct Chance(u64);

pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Chance {
    pub fn of(parts: &[u64]) -> Chance {
        Chance(parts.iter().fold(0x5EED, |state, part| mix(state ^ part)))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = mix(self.0);
        self.0
    }

    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    pub fn normal(&mut self) -> f64 {
        let (a, b) = (self.unit().max(1e-12), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    pub fn exponential(&mut self) -> f64 {
        -self.unit().max(1e-12).ln()
    }
}
