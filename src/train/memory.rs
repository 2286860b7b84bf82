//! The machine's memory, and the peak of what the process takes of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Error, Result};

/// When a program's allocator is to give free memory back to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveBack {
    /// At once: a run would rather take less memory than less time.
    AtOnce,
    /// Late: the process is a small one, and clearing new pages takes up to a quarter of its time.
    Late,
}

static ON_GIVE_BACK: OnceLock<fn(GiveBack)> = OnceLock::new();
static SPARES: AtomicBool = AtomicBool::new(false);
/// Up to this peak, in bytes, a process is a small one.
const SMALL: u64 = 3_000_000_000;

/// Has `give_back` called when a run turns out to be short of memory, or to have plenty. Of several calls the first counts.
pub fn on_give_back(give_back: fn(GiveBack)) {
    let _ = ON_GIVE_BACK.set(give_back);
}

/// Tells what [`on_give_back`] was given that memory is short.
pub fn spare() {
    SPARES.store(true, Ordering::Relaxed);
    if let Some(give_back) = ON_GIVE_BACK.get() {
        give_back(GiveBack::AtOnce);
    }
}

/// Tells what [`on_give_back`] was given if there is plenty of memory: to be called when a step has shown what is needed.
pub fn settle() {
    if let Some(give_back) = ON_GIVE_BACK.get()
        && !SPARES.load(Ordering::Relaxed)
        && peak().is_some_and(|peak| peak <= SMALL)
    {
        give_back(GiveBack::Late);
    }
}

/// The machine's memory in bytes, where the system tells.
pub fn total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// What of the machine's memory is free, or can be freed, in bytes, where the system tells.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Checks that `what`, which needs `bytes`, fits the machine's memory: an allocation that fails would end the process.
///
/// # Errors
/// If it does not, [`Error::Invalid`] says what there is.
pub fn check(what: &str, bytes: u128) -> Result<()> {
    let gigabytes = |bytes: u128| format!("{:.1} GB", bytes as f64 / 1e9);
    match total() {
        Some(total) if bytes > u128::from(total) => {
            let expected = format!("something that fits this machine's memory of {}", gigabytes(total.into()));
            Err(Error::invalid(what, expected, format!("a need of {}", gigabytes(bytes))))
        }
        _ => Ok(()),
    }
}

/// Starts a new measurement of the peak, where the system can; tells whether it could. Without it the peak is that of the whole
/// process.
pub fn reset_peak() -> bool {
    // Writing 5 resets the high-water mark (proc(5)). Nothing depends on it, so a refusal is no error.
    cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// The peak in bytes, where the system tells.
pub fn peak() -> Option<u64> {
    if cfg!(target_os = "linux") { from_status(&std::fs::read_to_string("/proc/self/status").ok()?) } else { usage() }
}

fn from_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(unix)]
fn usage() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: getrusage fills the struct that it is given; all-zero is a valid value of it.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    // macOS counts in bytes, the other systems in kibibytes.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).ok().map(|value| value * unit)
}

#[cfg(not(unix))]
fn usage() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::{check, from_status};

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(check("a thing", 1).is_ok());
        let refused = check("a thing", 1 << 80);
        assert!(cfg!(not(target_os = "linux")) || refused.unwrap_err().to_string().contains("a thing"));
    }

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(from_status("Name:\ttallow\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2048 * 1024));
        assert_eq!(from_status("Name:\ttallow\n"), None);
    }
}
