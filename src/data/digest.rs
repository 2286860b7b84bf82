//! What a sample holds, as a hash: two samples with the same digest are the same image, wherever they lie and whatever they
//! are called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::{Alpha, Error, Image, Look, Result, Samples};

/// Samples whose contents are read between two reports of progress.
const AT_A_TIME: usize = 1024;

/// The content of a sample: XXH3 (64 bits) of the bytes that stand for it, written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(u64);

impl Digest {
    /// Of bytes: an encoded image.
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_64::oneshot(bytes))
    }

    /// Of a decoded image: its size, then its pixels.
    pub fn of_image(image: &Image) -> Self {
        let sizes = [image.width, image.height, image.channels].map(|size| (size as u64).to_le_bytes());
        Self::of(&[sizes.as_flattened(), &image.pixels].concat())
    }

    /// Of a point's coordinates.
    pub fn of_point(point: &[f32]) -> Self {
        let bytes: Vec<u8> = point.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::of(&bytes)
    }

    /// The digest as a number in [0, 1) that follows from `seed` and `purpose` too. Numbers of different purposes have nothing
    /// to do with each other.
    pub(super) fn place(self, seed: u64, purpose: &str) -> f64 {
        place(&[&self.0.to_le_bytes(), purpose.as_bytes()].concat(), seed)
    }
}

/// A number in [0, 1) that follows from `bytes` and `seed`.
pub(super) fn place(bytes: &[u8], seed: u64) -> f64 {
    // 53 bits, as many as a float64 holds.
    (XxHash3_64::oneshot_with_seed(seed, bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let whole = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if whole { u64::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| Error::invalid("hash", "16 hexadecimal digits", format!("{text:?}")))
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The digests of the samples at `indices`, read in parallel; none where `go_on`, which is told how many are done, says so. What
/// cannot be read has the digest of its name: that it is a bad image is told, or passed over, where images are checked.
pub fn digests(samples: &dyn Samples, indices: &[usize], go_on: &mut dyn FnMut(usize) -> bool) -> Option<Vec<Digest>> {
    let digest = |&index: &usize| samples.digest(index).unwrap_or_else(|_| Digest::of(samples.name(index).as_bytes()));
    let mut digests = Vec::with_capacity(indices.len());
    for indices in indices.chunks(AT_A_TIME) {
        digests.par_extend(indices.par_iter().map(digest));
        if !go_on(digests.len()) {
            return None;
        }
    }
    Some(digests)
}

/// Samples whose digests are known.
pub struct Digested {
    samples: Arc<dyn Samples>,
    digests: Vec<Digest>,
}

impl Digested {
    /// Reads the contents of all samples, as [`digests`].
    pub fn new(samples: Arc<dyn Samples>, go_on: &mut dyn FnMut(usize) -> bool) -> Option<Self> {
        let all: Vec<usize> = (0..samples.len()).collect();
        digests(&*samples, &all, go_on).map(|digests| Self { samples, digests })
    }

    /// The digests, in the order of the samples.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }
}

impl Samples for Digested {
    fn len(&self) -> usize {
        self.samples.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.samples.label(index)
    }
    fn image(&self, index: usize) -> Result<Image> {
        self.samples.image(index)
    }
    fn image_as(&self, index: usize, alpha: Alpha) -> Result<Image> {
        self.samples.image_as(index, alpha)
    }
    fn look(&self, index: usize, alpha: Alpha) -> Result<Look> {
        self.samples.look(index, alpha)
    }
    fn name(&self, index: usize) -> String {
        self.samples.name(index)
    }
    fn point(&self, index: usize) -> Option<&[f32]> {
        self.samples.point(index)
    }
    fn image_size(&self) -> Option<[usize; 3]> {
        self.samples.image_size()
    }
    fn digest(&self, index: usize) -> Result<Digest> {
        Ok(self.digests[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_xxh3_and_reads_back_what_it_writes() {
        // XXH3_64bits of no bytes, seed 0, in the sanity checks of xxHash itself.
        assert_eq!(Digest::of(b"").to_string(), "2d06800538d394c2");
        let digest = Digest::of(b"tallow");
        assert_eq!(digest.to_string().parse::<Digest>().expect("a digest"), digest);
        for wrong in ["", "2d06800538d394c", "2d06800538d394c2a", "+d06800538d394c2", "zd06800538d394c2"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_same_bytes_in_another_shape_are_another_image() {
        let image = |width, height, channels| Image { width, height, channels, pixels: vec![7; 12] };
        assert_eq!(Digest::of_image(&image(4, 3, 1)), Digest::of_image(&image(4, 3, 1)));
        assert_ne!(Digest::of_image(&image(4, 3, 1)), Digest::of_image(&image(3, 4, 1)));
        assert_ne!(Digest::of_image(&image(4, 1, 3)), Digest::of_image(&image(4, 3, 1)));
    }

    #[test]
    fn places_of_two_purposes_or_seeds_have_nothing_to_do_with_each_other() {
        let digests: Vec<Digest> = (0..2000_u32).map(|number| Digest::of(&number.to_le_bytes())).collect();
        let below = |seed, purpose| digests.iter().map(move |digest| digest.place(seed, purpose) < 0.2);
        let count = |places: &mut dyn Iterator<Item = bool>| places.filter(|&below| below).count();
        // 400 expected, deviation 18.
        assert!((310..490).contains(&count(&mut below(0, "test"))));
        // 80 expected, deviation 9.
        for other in [below(0, "val"), below(1, "test")] {
            let both = count(&mut below(0, "test").zip(other).map(|(a, b)| a && b));
            assert!((40..125).contains(&both), "{both} of 2,000");
        }
    }
}
