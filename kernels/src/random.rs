//! Numbers for tests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values between -2 and 2, the same ones for the same count and seed.
pub fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-2f32..2.)).collect()
}
