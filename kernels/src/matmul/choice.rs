//! Which kernel serves which class of product: forced, measured, or fixed by what the CPU has.
//!
//! What is fastest does not follow from the instruction sets alone: tiles of AMX take 5 nanoseconds on one machine and 30 on another,
//! which is more than the same work takes in AVX-512. The choice decides how sums are rounded, so it holds for the whole process,
//! and who wants the same digits again sets it again.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::{MatmulPrecision, Matrix, Output, Start, multiply_on, service};

/// What a product can run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernel {
    /// The crate `gemm`, with the widest vectors of the CPU.
    Gemm,
    /// Packed panels, vectors of 8.
    Avx2,
    /// Packed panels, vectors of 16.
    Avx512,
    /// Dot products of pairs of bfloat16.
    Avx512Bf16,
    /// Tiles of bfloat16.
    Amx,
}

impl Kernel {
    const ALL: [Self; 5] = [Self::Gemm, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// Its name: `gemm`, `avx2`, `avx512`, `avx512-bf16`, `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether this CPU has it.
    pub fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Gemm => true,
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            Self::Avx512 => pulp::x86::V4::try_new().is_some(),
            Self::Avx512Bf16 => super::bfloat16::unit().is_some(),
            Self::Amx => super::bfloat16::unit() == Some(super::bfloat16::Unit::Amx),
        };
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Gemm)
    }
}

/// What serves each class of product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kernels {
    /// Products of float32 whose sides are all long enough for packing both operands in tiles.
    pub large: Kernel,
    /// Other products of float32 that are worth packing, such as those of attention heads; convolutions.
    pub small: Kernel,
    /// Products of bfloat16, where they are asked for; none where float32 takes their place.
    pub bfloat16: Option<Kernel>,
}

/// What [`Kernels`] are called that are the best of what one instruction set and those below it have.
const NAMED: [Kernel; 4] = [Kernel::Amx, Kernel::Avx512, Kernel::Avx2, Kernel::Gemm];

impl Kernels {
    /// What this CPU has up to `most`.
    fn up_to(most: Kernel) -> Self {
        let best =
            |among: &[Kernel]| among.iter().copied().find(|&kernel| kernel as u8 <= most as u8 && kernel.is_here());
        let vectors = best(&[Kernel::Avx512, Kernel::Avx2]).unwrap_or(Kernel::Gemm);
        // The dot products are AVX-512's, whichever way they are ordered here.
        let pairs = (most as u8 >= Kernel::Avx512 as u8 && Kernel::Avx512Bf16.is_here()).then_some(Kernel::Avx512Bf16);
        Self {
            large: best(&[Kernel::Amx]).unwrap_or(vectors),
            small: vectors,
            bfloat16: best(&[Kernel::Amx]).or(pairs),
        }
    }

    /// What is taken where nothing was measured: by the instruction sets of the CPU alone.
    pub fn fixed() -> Self {
        Self::up_to(Kernel::Amx)
    }

    /// The names by which kernels can be forced on this CPU.
    pub fn names() -> Vec<&'static str> {
        NAMED.into_iter().filter(|kernel| kernel.is_here()).map(Kernel::name).collect()
    }

    /// Times what this CPU has for each class, in some ten milliseconds on this thread. Another kernel than the fixed one is
    /// taken if it is clearly faster, so that noise decides nothing.
    pub fn measured() -> Self {
        let fixed = Self::fixed();
        let float32 = MatmulPrecision::Float32;
        Self {
            large: fastest(fixed.large, &[Kernel::Amx, Kernel::Avx512, Kernel::Avx2], (4, [256, 384, 384]), |large| {
                (Self { large, ..fixed }, float32)
            }),
            small: fastest(fixed.small, &[Kernel::Avx512, Kernel::Avx2, Kernel::Gemm], (12, [197, 197, 64]), |small| {
                (Self { small, ..fixed }, float32)
            }),
            bfloat16: fixed.bfloat16.map(|bfloat16| {
                fastest(bfloat16, &[Kernel::Amx, Kernel::Avx512Bf16], (4, [256, 384, 384]), |bfloat16| {
                    (Self { bfloat16: Some(bfloat16), ..fixed }, MatmulPrecision::BFloat16)
                })
            }),
        }
    }

    /// Whether this CPU has all of them.
    pub fn are_here(self) -> bool {
        self.large.is_here() && self.small.is_here() && self.bfloat16.is_none_or(Kernel::is_here)
    }

    /// Whether every kernel is one for its class.
    fn fit(self) -> bool {
        let of_bfloat16 = |kernel: Kernel| matches!(kernel, Kernel::Amx | Kernel::Avx512Bf16);
        self.large != Kernel::Avx512Bf16 && !of_bfloat16(self.small) && self.bfloat16.is_none_or(of_bfloat16)
    }
}

/// A kernel has to take less than so much of the fixed one's time to be taken in its place.
const CLEARLY: f64 = 0.9;

/// The kernel that multiplies matrices of a size in the least time: medians of so many turns in alternation, after one that
/// warms up.
fn fastest(
    fixed: Kernel,
    candidates: &[Kernel],
    (turns, [rows, columns, depth]): (usize, [usize; 3]),
    with: impl Fn(Kernel) -> (Kernels, MatmulPrecision),
) -> Kernel {
    let here: Vec<Kernel> = candidates.iter().copied().filter(|kernel| kernel.is_here()).collect();
    if here.len() < 2 {
        return fixed;
    }
    let values = |count: usize| (0..count).map(|i| (i * 7919 % 997) as f32 / 997.).collect::<Vec<_>>();
    let (a, b, mut out) = (values(rows * depth), values(columns * depth), vec![0f32; rows * columns]);
    let mut times = vec![Vec::with_capacity(turns); here.len()];
    for turn in 0..=turns {
        for (&kernel, times) in here.iter().zip(&mut times) {
            let (kernels, precision) = with(kernel);
            let to = Output { to: out.as_mut_ptr(), row_stride: columns, start: Start::Zero, scale: 1. };
            let (a, b) = (Matrix::new(&a, rows, depth), Matrix::new(&b, columns, depth).t());
            let start = Instant::now();
            // SAFETY: the output is the product's.
            unsafe { multiply_on(service(kernels, precision, (rows, columns, depth)), to, a, b, 1) };
            if turn > 0 {
                times.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let medians = times.into_iter().map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let timed: Vec<(Kernel, f64)> = here.into_iter().zip(medians).collect();
    let of_fixed = timed.iter().find(|(kernel, _)| *kernel == fixed).map_or(f64::INFINITY, |(_, time)| *time);
    let best = timed.into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
    best.filter(|(_, time)| *time < CLEARLY * of_fixed).map_or(fixed, |(kernel, _)| kernel)
}

/// `amx`, `avx512`, `avx2` or `gemm` if they are what the name gives on this CPU, else the kernels of the three classes:
/// `amx,gemm,none`.
impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let named = NAMED.into_iter().find(|&kernel| kernel.is_here() && Self::up_to(kernel) == *self);
        match named {
            Some(kernel) => f.write_str(kernel.name()),
            None => {
                let bfloat16 = self.bfloat16.map_or("none", Kernel::name);
                write!(f, "{},{},{bfloat16}", self.large.name(), self.small.name())
            }
        }
    }
}

/// Why a text names no kernels of this CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelsError {
    /// No kernels are called so.
    Unknown,
    /// This CPU lacks what is asked for.
    NotHere,
}

impl FromStr for Kernels {
    type Err = KernelsError;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, KernelsError> {
        let kernel =
            |name: &str| Kernel::ALL.into_iter().find(|kernel| kernel.name() == name).ok_or(KernelsError::Unknown);
        let kernels = match text.split(',').collect::<Vec<_>>()[..] {
            [name] => {
                let most = kernel(name)?;
                if !NAMED.contains(&most) {
                    return Err(KernelsError::Unknown);
                }
                if !most.is_here() {
                    return Err(KernelsError::NotHere);
                }
                Self::up_to(most)
            }
            [large, small, bfloat16] => Self {
                large: kernel(large)?,
                small: kernel(small)?,
                bfloat16: if bfloat16 == "none" { None } else { Some(kernel(bfloat16)?) },
            },
            _ => return Err(KernelsError::Unknown),
        };
        match (kernels.fit(), kernels.are_here()) {
            (false, _) => Err(KernelsError::Unknown),
            (true, false) => Err(KernelsError::NotHere),
            (true, true) => Ok(kernels),
        }
    }
}

/// The kernels in force, four bits each with a bit above them; 0 before anyone asked.
static CHOSEN: AtomicU32 = AtomicU32::new(0);

/// Sets what all products run on from here on, in the whole process.
///
/// # Panics
/// If this CPU lacks one of them, or one is none for its class.
pub fn set_kernels(kernels: Kernels) {
    assert!(kernels.fit() && kernels.are_here(), "kernels that this CPU lacks, or that are none for their class");
    let bfloat16 = kernels.bfloat16.map_or(15, |kernel| kernel as u32);
    CHOSEN.store(1 << 12 | bfloat16 << 8 | (kernels.small as u32) << 4 | kernels.large as u32, Ordering::Relaxed);
}

/// What products run on: what was set, else [`Kernels::fixed`].
pub fn kernels() -> Kernels {
    let chosen = CHOSEN.load(Ordering::Relaxed);
    if chosen == 0 {
        set_kernels(Kernels::fixed());
        return kernels();
    }
    let kernel = |shift: u32| Kernel::ALL.get((chosen >> shift & 15) as usize).copied();
    Kernels { large: kernel(0).unwrap_or(Kernel::Gemm), small: kernel(4).unwrap_or(Kernel::Gemm), bfloat16: kernel(8) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_read_as_they_are_written() {
        for name in Kernels::names() {
            let kernels: Kernels = name.parse().unwrap();
            assert!(kernels.are_here(), "{name}");
            assert_eq!(kernels.to_string().parse(), Ok(kernels), "{name}");
        }
        assert_eq!(Kernels::fixed().to_string(), Kernels::names()[0]);
        let mixed = Kernels { small: Kernel::Gemm, bfloat16: None, ..Kernels::fixed() };
        assert_eq!(mixed.to_string().parse(), Ok(mixed));
    }

    #[test]
    fn what_is_no_kernel_or_not_for_its_class_is_refused() {
        for text in
            ["", "sse", "AMX", "avx512-bf16", "gemm,gemm", "gemm,amx,none", "avx512-bf16,gemm,none", "gemm,gemm,gemm"]
        {
            assert_eq!(text.parse::<Kernels>(), Err(KernelsError::Unknown), "{text:?}");
        }
        for kernel in [Kernel::Amx, Kernel::Avx512, Kernel::Avx2] {
            if !kernel.is_here() {
                assert_eq!(kernel.name().parse::<Kernels>(), Err(KernelsError::NotHere), "{kernel:?}");
            }
        }
    }

    #[test]
    fn what_was_measured_is_here() {
        let measured = Kernels::measured();
        assert!(measured.are_here(), "{measured:?}");
        assert_eq!(measured.bfloat16.is_some(), Kernels::fixed().bfloat16.is_some());
        assert_eq!(measured.to_string().parse(), Ok(measured));
    }
}
