//! A hash that stays the same across compilers and releases, unlike the standard library's.

/// The FNV-1a hash of 64 bits of `bytes`: small, quick on short texts, and no protection against anyone.
///
/// ```
/// assert_eq!(tallow_models::fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
/// ```
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
