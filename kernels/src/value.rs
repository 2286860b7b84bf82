//! What values can be in memory: float32, or bfloat16 where memory counts more than digits. Kernels compute in float32 either way.

use half::bf16;

mod sealed {
    /// What only this crate can implement.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

/// A number as it lies in memory. Kernels read memory by what it says, so nobody else can implement it.
pub trait Value: sealed::Sealed + Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// Whether it is bfloat16.
    const NARROW: bool;

    /// As float32.
    fn wide(self) -> f32;

    /// The nearest to a float32.
    fn of(value: f32) -> Self;

    /// Slices of float32 as they are; none of bfloat16.
    fn as_wide(values: &[Self]) -> Option<&[f32]>;
}

impl Value for f32 {
    const NARROW: bool = false;

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn as_wide(values: &[Self]) -> Option<&[f32]> {
        Some(values)
    }
}

impl Value for bf16 {
    const NARROW: bool = true;

    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    // Without branches, so that it becomes vector code.
    #[inline(always)]
    fn of(value: f32) -> Self {
        let bits = value.to_bits();
        let to_even = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let bits = if value.is_nan() { bits | 1 << 22 } else { to_even };
        Self::from_bits((bits >> 16) as u16)
    }

    #[inline(always)]
    fn as_wide(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_the_nearest_and_goes_back_as_it_is() {
        let near = [0.1f32, -3.7e20, 1. + 1. / 256., 1. + 3. / 256., f32::MAX, f32::INFINITY, 1e-40, -0.];
        for value in near {
            let expected = bf16::from_f32(value);
            assert_eq!(<bf16 as Value>::of(value).to_bits(), expected.to_bits(), "{value}");
            assert_eq!(expected.wide(), expected.to_f32());
        }
        let odd_nan = f32::from_bits(0x7fff_ffff);
        assert!(<bf16 as Value>::of(f32::NAN).is_nan() && <bf16 as Value>::of(odd_nan).is_nan());
    }
}
