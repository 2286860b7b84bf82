//! What the CPU's matrix products run on: forced, kept from an earlier measurement, measured now, or fixed by the CPU's instructions.
//!
//! Digits follow the kernels, so a measurement is kept, by processor and version, and a run records what it computed with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

use tallow_models::ops::{Kernels, KernelsError, kernels, set_kernels};

use super::config::TrainConfig;
use super::error::{Error, Result};

/// Who said which kernels serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelsFrom {
    /// The user.
    Forced,
    /// A measurement of this process.
    Measured,
    /// An earlier measurement on this machine.
    Kept,
    /// Nobody: the CPU's instructions alone.
    Default,
}

impl KernelsFrom {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Measured => "measured",
            Self::Kept => "kept",
            Self::Default => "default",
        }
    }
}

/// What this process computes with where a run says nothing else; none before it was chosen.
static OWN: Mutex<Option<(Kernels, KernelsFrom)>> = Mutex::new(None);

fn choose(kernels: Kernels, from: KernelsFrom) -> (Kernels, KernelsFrom) {
    set_kernels(kernels);
    *OWN.lock().unwrap_or_else(PoisonError::into_inner) = Some((kernels, from));
    (kernels, from)
}

/// Has this process compute with the kernels that `text` names: `amx`, `avx512`, `avx2`, `gemm`, or `fixed` for the best by the CPU's
/// instructions alone.
///
/// # Errors
/// If this CPU has no kernels of that name.
pub fn force_kernels(text: &str) -> Result<Kernels> {
    let kernels = if text == FIXED { Kernels::fixed() } else { text.parse().map_err(|error| refused(text, error))? };
    Ok(choose(kernels, KernelsFrom::Forced).0)
}

const FIXED: &str = "fixed";

fn refused(text: &str, error: KernelsError) -> Error {
    let got = if error == KernelsError::NotHere { format!("{text}, which it lacks") } else { text.into() };
    Error::config("kernels", format!("auto, {FIXED}, or what this CPU has ({})", Kernels::names().join(", ")), got)
}

/// Takes the kernels that a measurement on this machine chose earlier, else those that the CPU's instructions say.
pub fn recall_kernels() -> (Kernels, KernelsFrom) {
    let known = || kept().get(&processor()?)?.parse().ok();
    match known() {
        Some(kernels) => choose(kernels, KernelsFrom::Kept),
        None => choose(Kernels::fixed(), KernelsFrom::Default),
    }
}

/// Measures which kernels are fastest, in some ten milliseconds, and keeps the result in the cache, unless they were forced or
/// measured before. What cannot be told apart from other machines, or not be kept, would change from day to day, and is not measured.
pub fn settle_kernels() -> (Kernels, KernelsFrom) {
    let chosen = chosen_kernels();
    let (KernelsFrom::Default, Some(processor), Some(path)) = (chosen.1, processor(), path()) else { return chosen };
    let measured = Kernels::measured();
    let mut kept = kept();
    kept.insert(processor, measured.to_string());
    let write = || {
        fs::create_dir_all(path.parent()?).ok()?;
        tallow_weights::save::write_text(&path, &serde_json::to_string_pretty(&kept).ok()?).ok()
    };
    if write().is_some() { choose(measured, KernelsFrom::Measured) } else { chosen }
}

/// What this process computes with, and who said so.
pub fn chosen_kernels() -> (Kernels, KernelsFrom) {
    let own = *OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.unwrap_or_else(|| (kernels(), KernelsFrom::Default))
}

/// Takes up the kernels of a run's settings, or the process's own where they leave that open, and writes down which these are.
/// Gives a warning if the run was begun with kernels that this CPU lacks.
pub(super) fn take_up(config: &mut TrainConfig) -> Option<String> {
    let own = *OWN.lock().unwrap_or_else(PoisonError::into_inner);
    own.into_iter().for_each(|(own, _)| set_kernels(own));
    let mut warning = None;
    match config.compute.kernels.as_deref().map(str::parse) {
        Some(Ok(recorded)) => set_kernels(recorded),
        Some(Err(_)) => {
            warning = config.compute.kernels.as_deref().map(|recorded| {
                format!(
                    "the run was begun with the kernels {recorded}, which this CPU lacks: it goes on with {}, and its digits differ",
                    kernels()
                )
            });
        }
        None => {}
    }
    config.compute.kernels = Some(kernels().to_string());
    warning
}

/// Checks a setting: it may name kernels of another CPU, but must name some.
pub(super) fn check(text: &str) -> Result<()> {
    match text.parse::<Kernels>() {
        Err(KernelsError::Unknown) => Err(refused(text, KernelsError::Unknown)),
        _ => Ok(()),
    }
}

/// The processor as Linux tells it, with Tallow's version; none where nothing tells it.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        Some(line?.split_once(':')?.1.trim())
    };
    let numbers = ["cpu family", "model", "stepping", "microcode"].map(|name| Some(format!("{name} {}", value(name)?)));
    let numbers: Option<Vec<String>> = numbers.into_iter().collect();
    Some(format!("{}, {}, tallow {}", value("model name")?, numbers?.join(", "), env!("CARGO_PKG_VERSION")))
}

/// The kernels of the processors that were measured.
fn kept() -> BTreeMap<String, String> {
    let read = || serde_json::from_str(&fs::read_to_string(path()?).ok()?).ok();
    read().unwrap_or_default()
}

/// Where measurements are kept, among the user's caches; none where no such place is known.
fn path() -> Option<PathBuf> {
    let variable = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    Some(variable.or_else(|| Some(env::home_dir()?.join(".cache")))?.join("tallow/kernels.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_no_cpu_has_are_refused_and_those_of_others_are_not() {
        let error = check("sse").unwrap_err().to_string();
        assert!(error.contains("kernels") && error.contains("gemm") && error.contains("sse"), "{error}");
        for name in ["amx", "avx512", "avx2", "gemm", "amx,gemm,none"] {
            check(name).unwrap();
        }
        assert!(force_kernels("sse").is_err());
    }

    #[test]
    fn a_run_of_kernels_that_this_cpu_lacks_goes_on_with_its_own_and_says_so() {
        let mut config = TrainConfig::default();
        assert_eq!(take_up(&mut config), None);
        let own = config.compute.kernels.clone().unwrap();
        assert_eq!(own.parse(), Ok(kernels()));
        assert_eq!(take_up(&mut config), None);
        config.compute.kernels = Some("neither".into());
        let warning = take_up(&mut config).unwrap();
        assert!(warning.contains("neither") && warning.contains(&own), "{warning}");
        assert_eq!(config.compute.kernels, Some(own));
    }
}
