//! The peak of a CPU: multiply-adds on numbers that stay in registers, with every instruction set that it has. No product can be
//! faster; measured before and after a benchmark, it shows whether the machine itself has drifted.
//!
//! Every chain waits for its own last result, and there are enough chains to keep all units busy. The loops are assembly,
//! because a compiler that runs out of registers would put some of the sums into memory. The numbers are as random as those of
//! a network, because some CPUs clock down for them but not for zeros.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::time::{Duration, Instant};

/// Instructions that multiply and add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Instructions {
    /// 16 multiply-adds of float32.
    Avx512,
    /// 8 multiply-adds of float32.
    Avx2,
    /// 4 multiply-adds of float32.
    Neon,
    /// 32 multiply-adds of bfloat16, summed in float32.
    Avx512Bf16,
    /// 8,192 multiply-adds of bfloat16, summed in float32: a product of two tiles.
    Amx,
}

/// How often a loop turns between two looks at the clock: some ten microseconds, and a hundred of AMX.
const TURNS: usize = 4096;

impl Instructions {
    /// Those that this CPU has, and that the system lets this process use.
    pub fn available() -> Vec<Self> {
        [Self::Avx512, Self::Avx2, Self::Neon, Self::Avx512Bf16, Self::Amx]
            .into_iter()
            .filter(|i| i.is_available())
            .collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Neon => false,
            Self::Avx512Bf16 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"),
            Self::Amx => crate::matmul::amx::amx_is_allowed(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        cfg!(target_arch = "aarch64") && self == Self::Neon
    }

    /// What they are called: `avx512`, `avx2`, `neon`, `avx512_bf16`, `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Avx512Bf16 => "avx512_bf16",
            Self::Amx => "amx",
        }
    }

    /// The numbers that are multiplied: `f32` or `bf16`.
    pub fn dtype(self) -> &'static str {
        match self {
            Self::Avx512 | Self::Avx2 | Self::Neon => "f32",
            Self::Avx512Bf16 | Self::Amx => "bf16",
        }
    }

    /// Floating-point operations of one instruction: two for each multiply-add.
    pub fn operations(self) -> usize {
        match self {
            Self::Avx512 => 2 * 16,
            Self::Avx2 => 2 * 8,
            Self::Neon => 2 * 4,
            Self::Avx512Bf16 => 2 * 32,
            Self::Amx => 2 * 16 * 16 * 32,
        }
    }

    /// Chains of one turn of the loop.
    fn chains(self) -> usize {
        match self {
            Self::Avx512 | Self::Neon | Self::Avx512Bf16 => 24,
            Self::Avx2 => 12,
            Self::Amx => 6,
        }
    }
}

/// Floating-point operations per second of the calling thread: the median of pieces, of which there are as many as `time` has
/// room for. 0 if the CPU does not have the instructions.
pub fn of_this_thread(instructions: Instructions, time: Duration) -> f64 {
    if !instructions.is_available() {
        return 0.;
    }
    let numbers = Numbers::random(instructions);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: they are available.
    let _tiles = (instructions == Instructions::Amx).then(|| unsafe { crate::matmul::amx::Tiles::configure() });
    let start = Instant::now();
    let mut pieces = Vec::new();
    while pieces.is_empty() || start.elapsed() < time {
        let piece = Instant::now();
        // SAFETY: they are available, and tiles are set up where they are needed.
        unsafe { multiply_and_add(instructions, &numbers) };
        pieces.push(piece.elapsed());
    }
    pieces.sort_unstable();
    let operations = TURNS * instructions.chains() * instructions.operations();
    operations as f64 / pieces[pieces.len() / 2].as_secs_f64().max(1e-9)
}

/// As [`of_this_thread`], the sum over all threads of the pool at once.
pub fn of_all_threads(instructions: Instructions, time: Duration) -> f64 {
    rayon::broadcast(|_| of_this_thread(instructions, time)).into_iter().sum()
}

/// What registers are filled with: 1,024 bytes, the size of a tile.
#[repr(align(64))]
struct Numbers([u8; 1024]);

impl Numbers {
    /// Between -1 and 1, of the type that the instructions multiply.
    fn random(instructions: Instructions) -> Self {
        let mut bytes = [0; 1024];
        let mut state = 0x9e37_79b9_u32;
        let width = if instructions.dtype() == "bf16" { 2 } else { 4 };
        for number in bytes.chunks_exact_mut(width) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = (f64::from(state) / f64::from(1u32 << 31) - 1.) as f32;
            // The upper half of a float32 is the bfloat16.
            number.copy_from_slice(&value.to_le_bytes()[4 - width..]);
        }
        Self(bytes)
    }
}

/// One line of assembly for each register of a list.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! each {
    ($before:literal, $after:literal, $($register:literal)*) => { concat!($($before, $register, $after, "\n"),*) };
}

/// [`TURNS`] turns of a loop that has one instruction for every chain.
///
/// # Safety
/// The CPU must have the instructions; for AMX, tiles must be set up.
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_and_add(instructions: Instructions, numbers: &Numbers) {
    /// A loop over vector registers, of which the last two are the factors.
    macro_rules! on_vectors {
        ($instruction:literal, $factors:literal, $load:literal, [$($chain:literal)*], [$($factor:literal)*], [$($written:tt)*]) => {
            asm!(
                each!($load, ", [{numbers}]", $($chain)*),
                each!($load, ", [{numbers} + 64]", $($factor)*),
                "2:",
                each!($instruction, $factors, $($chain)*),
                "dec {turns}", "jnz 2b",
                numbers = in(reg) numbers.0.as_ptr(), turns = inout(reg) TURNS => _, $(out($written) _,)*
                options(nostack, readonly)
            )
        };
    }
    // SAFETY: the caller's; all registers that are written are declared, and only `numbers` is read.
    unsafe {
        match instructions {
            Instructions::Avx512 => on_vectors!(
                "vfmadd231ps zmm", ", zmm24, zmm25", "vmovups zmm",
                [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23], [24 25],
                ["zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7" "zmm8" "zmm9" "zmm10" "zmm11" "zmm12" "zmm13"
                 "zmm14" "zmm15" "zmm16" "zmm17" "zmm18" "zmm19" "zmm20" "zmm21" "zmm22" "zmm23" "zmm24" "zmm25"]
            ),
            Instructions::Avx512Bf16 => on_vectors!(
                "vdpbf16ps zmm", ", zmm24, zmm25", "vmovups zmm",
                [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23], [24 25],
                ["zmm0" "zmm1" "zmm2" "zmm3" "zmm4" "zmm5" "zmm6" "zmm7" "zmm8" "zmm9" "zmm10" "zmm11" "zmm12" "zmm13"
                 "zmm14" "zmm15" "zmm16" "zmm17" "zmm18" "zmm19" "zmm20" "zmm21" "zmm22" "zmm23" "zmm24" "zmm25"]
            ),
            Instructions::Avx2 => on_vectors!(
                "vfmadd231ps ymm", ", ymm12, ymm13", "vmovups ymm", [0 1 2 3 4 5 6 7 8 9 10 11], [12 13],
                ["ymm0" "ymm1" "ymm2" "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11" "ymm12" "ymm13"]
            ),
            Instructions::Amx => asm!(
                each!("tileloadd tmm", ", [{numbers} + {row}]", 0 1 2 3 4 5 6 7),
                "2:",
                each!("tdpbf16ps tmm", ", tmm6, tmm7", 0 1 2 3 4 5),
                "dec {turns}", "jnz 2b",
                numbers = in(reg) numbers.0.as_ptr(), row = in(reg) 64_usize, turns = inout(reg) TURNS => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                out("tmm7") _, options(nostack, readonly)
            ),
            Instructions::Neon => {}
        }
    }
}

/// [`TURNS`] turns of a loop that has one instruction for every chain.
///
/// # Safety
/// The CPU must have the instructions.
#[cfg(target_arch = "aarch64")]
unsafe fn multiply_and_add(_: Instructions, numbers: &Numbers) {
    // SAFETY: the caller's; all registers that are written are declared, and only `numbers` is read.
    unsafe {
        asm!(
            each!("ldr q", ", [{numbers}]", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23),
            each!("ldr q", ", [{numbers}, #64]", 24 25),
            "2:",
            each!("fmla v", ".4s, v24.4s, v25.4s", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23),
            "subs {turns}, {turns}, #1", "b.ne 2b",
            numbers = in(reg) numbers.0.as_ptr(), turns = inout(reg) TURNS => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, options(nostack, readonly)
        );
    }
}

/// There are no instructions to run.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn multiply_and_add(_: Instructions, _: &Numbers) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_has_a_rate_that_a_cpu_can_have() {
        for instructions in Instructions::available() {
            let rate = of_this_thread(instructions, Duration::from_millis(5));
            // Between one instruction in a hundred cycles of a slow clock and sixteen in one of a fast clock.
            let each_second = rate / instructions.operations() as f64;
            assert!(each_second > 1e7 && each_second < 1e11, "{instructions:?}: {each_second:e} instructions a second");
        }
    }

    #[test]
    fn numbers_are_spread_between_minus_one_and_one() {
        for instructions in [Instructions::Avx512, Instructions::Amx] {
            let Numbers(bytes) = Numbers::random(instructions);
            let values: Vec<f32> = match instructions.dtype() {
                "bf16" => bytes.chunks_exact(2).map(|b| f32::from_le_bytes([0, 0, b[0], b[1]])).collect(),
                _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            };
            let mean = |f: fn(f32) -> f32| values.iter().map(|&value| f(value)).sum::<f32>() / values.len() as f32;
            assert!(values.iter().all(|value| value.abs() <= 1.), "{instructions:?}: {values:?}");
            // Of uniform numbers they are 0 and 1/3.
            let (mean, mean_square) = (mean(|value| value), mean(|value| value * value));
            assert!(
                mean.abs() < 0.1 && (mean_square - 1. / 3.).abs() < 0.05,
                "{instructions:?}: {mean}, {mean_square}"
            );
        }
    }
}
