//! Circles: points in the plane, inside and outside of a circle, for models so small that one can look at what they learn.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::dataset::Parts;
use super::{Error, Image, Result, Samples};

/// Points of each part.
const POINTS: usize = 200;

struct Points {
    part: &'static str,
    points: Vec<([f32; 2], u32)>,
}

impl Samples for Points {
    fn len(&self) -> usize {
        self.points.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.points[index].1
    }
    fn image(&self, index: usize) -> Result<Image> {
        Err(Error::invalid(self.name(index), "an image", "a point in the plane"))
    }
    fn name(&self, index: usize) -> String {
        format!("{}/{index}", self.part)
    }
    fn point(&self, index: usize) -> Option<&[f32]> {
        Some(&self.points[index].0)
    }
}

/// 200 points for training and 200 for testing, always the same. A point is uniform in [-2, 2]², its class is whether it is
/// inside of the circle around the origin that has half of the square's area; noise then moves it a little.
pub(super) fn circles() -> Parts {
    Parts {
        classes: vec!["outside".to_string(), "inside".to_string()],
        train: Arc::new(points("train", 1)),
        val: None,
        test: Some(Arc::new(points("test", 2))),
        shape: Some([2, 1, 1]),
        notes: Vec::new(),
        parts: Vec::new(),
        augment: Vec::new(),
        sorted: false,
    }
}

fn points(part: &'static str, seed: u64) -> Points {
    const SIDE: f32 = 2.0;
    const RADIUS_SQUARED: f32 = 8.0 / std::f32::consts::PI;
    const NOISE: f32 = 0.05;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let noise = |rng: &mut ChaCha8Rng| NOISE * rng.sample::<f32, _>(StandardNormal);
    let point = |rng: &mut ChaCha8Rng| {
        let [x, y] = [(); 2].map(|()| rng.random_range(-SIDE..=SIDE));
        let label = u32::from(x * x + y * y < RADIUS_SQUARED);
        ([x, y].map(|v| (v + noise(rng)).clamp(-SIDE, SIDE)), label)
    };
    Points { part, points: (0..POINTS).map(|_| point(&mut rng)).collect() }
}
