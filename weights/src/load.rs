//! Filling a model's parameters from a checkpoint, with an account of everything.

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Device, Storage, Tensor};
use serde::{Deserialize, Serialize};
use tallow_models::vit::{GlobalPool, PosEmbed, RopeType};
use tallow_models::{Architecture, ModelConfig, ParamSpec, Params, VitConfig};

use crate::account::{Account, Parameter, ParameterFate, Tensor as Fate, TensorFate};
use crate::adapt::{
    Resampling, adapt_channels, resample_patches_by, resample_positions_by, resample_relative,
    resample_relative_plainly,
};
use crate::head::HeadDecision;
use crate::naming::{self, Mapped, Naming, Translation};
use crate::{Checkpoint, Error, Result};

/// What to do with the classification head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Head {
    /// Keep what belongs to the model's classes: by name where the names are known on both sides, else all of it where the
    /// number of classes agrees; the rest is new. The account says which.
    #[default]
    Auto,
    /// Keep it; a class of the model that it does not have, or another number of classes without names, is an error.
    Keep,
    /// A new one.
    New,
}

/// Options of a load.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// What to do with the classification head.
    pub head: Head,
    /// The names of the model's classes, in the order of its logits: rows of the checkpoint's head go to the classes of their
    /// names. Default: none, the checkpoint's own classes.
    pub labels: Option<Vec<String>>,
    /// Leave out tensors that could be a part of the model but have no place in it, where that is an error otherwise. Parameters
    /// without a tensor stay an error.
    pub ignore_unknown: bool,
    /// Where the model is in the program's own: `vit` for one that is built over `builder.pp("vit")`. The account has the names
    /// without it. Default: none.
    pub prefix: Option<String>,
}

impl LoadOptions {
    /// The same after `change`, in one expression: `LoadOptions::default().with(|c| c.head = Head::Keep)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The name under which `params` know a parameter of the model.
    fn placed(&self, name: &str) -> String {
        match self.prefix.as_deref() {
            None | Some("") => name.into(),
            Some(prefix) => format!("{prefix}.{name}"),
        }
    }
}

/// Adapts the tensors of `checkpoint` to `architecture` and provides them to `params`, before the model is built; parameters that
/// are there already are overwritten. Nothing is provided unless all of it fits.
///
/// Build the model afterwards, for training (`params.builder()`) or for evaluation alone (`params.eval_builder()`), under
/// [`LoadOptions::prefix`] where there is one. A model that is built elsewhere is refused
/// ([`tallow_models::Error::Misplaced`]), and so is a training step while a loaded value has not been asked for
/// ([`tallow_models::Error::LeftOver`]; [`Params::check_taken`] asks it at any time).
///
/// # Errors
/// If a tensor has no place in the model, a parameter gets no value (the head aside), a shape cannot be adapted, or a value is
/// NaN or infinite.
pub fn load(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    options: &LoadOptions,
    params: &Params,
) -> Result<Account> {
    let plan = Plan::new(checkpoint, architecture, options)?;
    plan.check_placed(options, params)?;
    let values = plan.make(checkpoint)?;
    for (filling, value) in plan.fillings.iter().zip(values) {
        let name = options.placed(&filling.name);
        match (params.get(&name), &filling.rows) {
            (Some(_), None) => params.set(&name, &value)?,
            (Some(_), Some(rows)) => params.set_rows(&name, rows, &value)?,
            (None, None) => params.provide(name, value),
            (None, Some(rows)) => params.provide_rows(name, rows.clone(), value),
        }
    }
    for (name, shape) in plan.zeros {
        let (name, value) = (options.placed(&name), Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        match params.get(&name) {
            Some(_) => params.set(&name, &value)?,
            None => params.provide(name, value),
        }
    }
    for parameter in &plan.account.parameters {
        let name = options.placed(&parameter.name);
        if matches!(parameter.fate, Parameter::Initialised { .. }) && params.get(&name).is_none() {
            params.provide_drawn(name);
        }
    }
    Ok(plan.account)
}

/// What fills a parameter.
struct Filling {
    name: String,
    mapped: Mapped,
    changes: Vec<Change>,
    /// The parameter's rows that are filled; none where all are.
    rows: Option<Vec<usize>>,
}

/// A change to a tensor on its way into a parameter.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// To this shape; the values stay.
    Reshape(Vec<usize>),
    Patches {
        new: usize,
        law: Resampling,
    },
    Channels {
        old: usize,
        new: usize,
    },
    /// From one grid of patches (rows and columns) to another.
    Positions {
        prefix: usize,
        old: [usize; 2],
        new: [usize; 2],
        law: Resampling,
    },
    /// A table of relative positions from one grid of patches to another.
    Relative {
        old: [usize; 2],
        new: [usize; 2],
        /// Bilinearly between the distances as they are.
        plain: bool,
    },
    /// Positions of zero for this many prefix tokens in front.
    ZeroPrefix(usize),
    /// The first position away: it was added to the class token.
    DropFirst,
    /// The first position of the tensor of this name added (to the class token).
    AddFirstOf(Mapped),
    /// These rows alone, in this order.
    Rows {
        from: Vec<u32>,
        how: String,
    },
}

/// All that is decided before any value is read.
struct Plan {
    fillings: Vec<Filling>,
    /// Biases that a head does without.
    zeros: Vec<(String, Vec<usize>)>,
    account: Account,
}

impl Plan {
    fn new(checkpoint: &Checkpoint, architecture: &Architecture, options: &LoadOptions) -> Result<Self> {
        let origin = checkpoint.origin();
        let mut translation = with_projection(checkpoint, architecture, checkpoint.translation()?)?;
        if translation.naming == Naming::Plain && matches!(architecture, Architecture::Vit(_)) {
            return Err(naming::unknown(origin, checkpoint.tensors()));
        }
        for part in translation.mapped.iter().flat_map(|mapped| &mapped.parts) {
            checkpoint.check(part.index)?;
        }
        if let Architecture::Vit(vit) = architecture {
            check_periods(checkpoint, &translation, vit)?;
        }
        let specs = architecture.parameters()?;
        translation = translation.fitted(&specs);
        let head = HeadDecision::decide(checkpoint, &translation, architecture, &specs, options)?;
        let mut planner = Planner {
            origin,
            translation: &translation,
            vit: match architecture {
                Architecture::Vit(vit) => Some(vit),
                _ => None,
            },
            grid: checkpoint.stored_grid(),
            fold_first_position: false,
            law: law(checkpoint, translation.naming),
        };
        planner.fold_first_position = planner.class_position_goes_into_class_token();

        let Filled { fillings, zeros, parameters, missing } = planner.fill(checkpoint, &specs, &head)?;
        let mut fates: Vec<Option<Fate>> = vec![None; checkpoint.tensors().len()];
        for (index, why) in &translation.left_out {
            fates[*index] = Some(Fate::LeftOut { why: why.clone() });
        }
        for filling in &fillings {
            let how = filling.changes.iter().map(Change::in_words).collect::<Vec<_>>().join(", then ");
            for part in &filling.mapped.parts {
                let fate = if how.is_empty() { Fate::Used } else { Fate::Adapted { how: how.clone() } };
                fates[part.index] = Some(fate);
            }
        }
        let names: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let filled: HashSet<&str> = fillings.iter().map(|filling| filling.mapped.name.as_str()).collect();
        let mut unused = Vec::new();
        for mapped in &translation.mapped {
            let why = if let Some(why) = head.left_out(&mapped.name) {
                why.clone()
            } else if names.contains(mapped.name.as_str()) || filled.contains(mapped.name.as_str()) {
                continue;
            } else if let Some(why) = planner.no_place(&mapped.name, &head) {
                why
            } else {
                unused.extend(mapped.parts.iter().map(|part| checkpoint.tensors()[part.index].name.clone()));
                continue;
            };
            for part in &mapped.parts {
                fates[part.index] = Some(Fate::LeftOut { why: why.clone() });
            }
        }
        let mut ignored = None;
        if options.ignore_unknown && missing.is_empty() && !unused.is_empty() {
            ignored = Some(format!(
                "left out as was asked, though they could be a part of the model: {}",
                unused.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ")
                    + if unused.len() > 6 { ", …" } else { "" }
            ));
            let why = || Fate::LeftOut { why: "unknown, and left out as was asked".into() };
            for (fate, info) in fates.iter_mut().zip(checkpoint.tensors()) {
                if unused.contains(&info.name) {
                    *fate = Some(why());
                }
            }
            unused.clear();
        }
        if !unused.is_empty() || !missing.is_empty() {
            if !missing.is_empty() {
                // What is only known to lie outside of the ViT may be what it lacks.
                unused.extend(translation.outside.iter().map(|&index| checkpoint.tensors()[index].name.clone()));
            }
            let remedy = planner.remedy(&unused, &missing);
            return Err(Error::Unaccounted { origin: origin.into(), unused, missing, remedy });
        }
        // Every tensor is mapped or left out; mapped ones are used, left out or in the error above.
        let held = checkpoint.tensors().iter().zip(fates).map(|(info, fate)| (info, fate.unwrap_or(Fate::Used)));
        let beside = checkpoint.beside().iter().map(|(info, why)| (info, Fate::LeftOut { why: why.clone() }));
        let tensors = held
            .chain(beside)
            .map(|(info, fate)| TensorFate { name: info.name.clone(), shape: info.shape.clone(), fate })
            .collect();
        let mut notes = checkpoint.notes().to_vec();
        notes.extend(translation.notes.iter().cloned().chain(ignored));
        notes.extend(planner.notes(&fillings));
        notes.extend(zeros.iter().map(|(name, _)| match name.strip_prefix("head") {
            Some(_) => format!("the head has no bias: {name} is zero"),
            None => format!("the patch embedding has no bias: {name} is zero"),
        }));
        notes.extend(head.notes);
        let account =
            Account { source: origin.into(), naming: translation.naming.to_string(), tensors, parameters, notes };
        Ok(Self { fillings, zeros, account })
    }

    /// Refuses to load for a model that nobody has built, where one stands there already under a prefix that was not given: it
    /// would keep its random values.
    fn check_placed(&self, options: &LoadOptions, params: &Params) -> Result<()> {
        let names: Vec<String> = self.fillings.iter().map(|filling| options.placed(&filling.name)).collect();
        if names.iter().any(|name| params.get(name).is_some()) {
            return Ok(());
        }
        let built = params.names();
        for provided in names {
            let under = built.iter().find_map(|name| Some((name, name.strip_suffix(&provided)?.strip_suffix('.')?)));
            if let Some((name, prefix)) = under {
                let (name, prefix) = (name.clone(), Some(prefix.to_string()));
                return Err(tallow_models::Error::Misplaced { name, provided, prefix }.into());
            }
        }
        Ok(())
    }

    /// Reads, changes and checks the values of the fillings, on as many threads as there are cores.
    fn make(&self, checkpoint: &Checkpoint) -> Result<Vec<Tensor>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(self.fillings.len()).max(1);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Tensor)>> {
            let mut made = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(filling) = self.fillings.get(at) else { return Ok(made) };
                made.push((at, filling.make(checkpoint)?));
            }
        };
        let results = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>()
        });
        let mut made = Vec::with_capacity(self.fillings.len());
        for result in results {
            match result {
                Ok(part) => made.extend(part?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made.sort_by_key(|(at, _)| *at);
        Ok(made.into_iter().map(|(_, value)| value).collect())
    }
}

/// Decides on one tensor at a time.
struct Planner<'a> {
    origin: &'a str,
    translation: &'a Translation,
    vit: Option<&'a VitConfig>,
    /// The checkpoint's own rows and columns of patches, where its config says so.
    grid: Option<[usize; 2]>,
    /// The checkpoint has a position for its class token, the model has none: it goes into the class token.
    fold_first_position: bool,
    /// How positions are resampled, and kernels of patches.
    law: Resampling,
}

/// What is decided of the model's parameters.
struct Filled {
    fillings: Vec<Filling>,
    zeros: Vec<(String, Vec<usize>)>,
    parameters: Vec<ParameterFate>,
    /// Those that nothing fills, though something has to.
    missing: Vec<String>,
}

impl Planner<'_> {
    /// What fills each of the model's parameters, or why it is new.
    fn fill(&self, checkpoint: &Checkpoint, specs: &[ParamSpec], head: &HeadDecision) -> Result<Filled> {
        let by_name: HashMap<&str, &Mapped> =
            self.translation.mapped.iter().map(|mapped| (mapped.name.as_str(), mapped)).collect();
        let (mut fillings, mut zeros, mut parameters, mut missing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for spec in specs {
            let fate = if let Some(why) = head.new.get(&spec.name) {
                Parameter::Initialised { why: why.clone() }
            } else if let Some(mapped) = self.source_of(&spec.name, &by_name) {
                fillings.push(self.filling(spec, mapped, head)?);
                let from = mapped.parts.iter().map(|part| checkpoint.tensors()[part.index].name.clone()).collect();
                match head.rows(&spec.name).and_then(|rows| rows.others.clone()) {
                    Some(why) => Parameter::PartlyFilled { from, why },
                    None => Parameter::Filled { from },
                }
            } else if let Some(why) = self.norm_moved(&spec.name, head) {
                Parameter::Initialised { why }
            } else if let Some(weight) = spec.name.strip_suffix("bias").and_then(|layer| {
                let without =
                    layer.starts_with("head") || (self.patches_have_no_bias() && layer == "patch_embed.proj.");
                by_name.get(format!("{layer}weight").as_str()).filter(|_| without)
            }) {
                // A linear layer without a bias is one whose bias is zero.
                zeros.push((spec.name.clone(), spec.shape.clone()));
                Parameter::Filled {
                    from: weight.parts.iter().map(|part| checkpoint.tensors()[part.index].name.clone()).collect(),
                }
            } else {
                missing.push(spec.name.clone());
                continue;
            };
            parameters.push(ParameterFate { name: spec.name.clone(), shape: spec.shape.clone(), fate });
        }
        Ok(Filled { fillings, zeros, parameters, missing })
    }

    /// The tensor that fills a parameter. Where names do not tell whether the norm after the blocks comes before the pool or after it,
    /// it is the one that the model has.
    fn source_of<'m>(&self, name: &str, by_name: &HashMap<&str, &'m Mapped>) -> Option<&'m Mapped> {
        let other = || name.strip_prefix("fc_norm.").filter(|_| self.translation.naming.has_one_norm());
        let found = by_name.get(name).copied();
        found.or_else(|| by_name.get(format!("norm.{}", other()?).as_str()).copied())
    }

    /// open_clip's towers have none, whether a norm follows or not.
    fn patches_have_no_bias(&self) -> bool {
        self.translation.naming == Naming::OpenClip
    }

    fn filling(&self, spec: &ParamSpec, mapped: &Mapped, head: &HeadDecision) -> Result<Filling> {
        let (name, taken) = (spec.name.clone(), mapped.clone());
        let Some(rows) = head.rows(&spec.name) else {
            let changes = self.changes(spec, mapped)?;
            return Ok(Filling { name, mapped: taken, changes, rows: None });
        };
        let mut whole = spec.clone();
        whole.shape[0] = rows.theirs;
        let mut changes = self.changes(&whole, mapped)?;
        changes.push(Change::Rows { from: rows.from(), how: rows.how.clone() });
        Ok(Filling { name, mapped: taken, changes, rows: rows.into() })
    }

    fn changes(&self, spec: &ParamSpec, mapped: &Mapped) -> Result<Vec<Change>> {
        let misfit = |remedy: &str| Error::Shape {
            place: format!("{}: {}", self.origin, spec.name),
            expected: spec.shape.clone(),
            got: mapped.shape.clone(),
            remedy: remedy.into(),
        };
        match (spec.name.as_str(), self.vit) {
            ("pos_embed", Some(vit)) => self.position_changes(vit, &mapped.shape).ok_or_else(|| {
                misfit("position embeddings are resampled from the grid that the checkpoint's config says, or a square, and only where the width agrees")
            }),
            (name, Some(vit)) if name.ends_with("relative_position_bias_table") => {
                self.relative_changes(vit, &spec.shape, &mapped.shape).ok_or_else(|| {
                    misfit("tables of relative positions are resampled from the grid that the checkpoint's config says, or a square, and only where the heads agree")
                })
            }
            ("cls_token", Some(_)) if self.fold_first_position => match self.translation.get("pos_embed") {
                Some(positions) if mapped.shape == spec.shape => Ok(vec![Change::AddFirstOf(positions.clone())]),
                _ => Err(misfit("the model's embed_dim must be the checkpoint's")),
            },
            ("patch_embed.proj.weight", Some(vit)) => {
                let changes = patch_changes(&spec.shape, &mapped.shape, self.law.of_kernels());
                // Of a stem's maps channels are no colours.
                let of_maps = |change: &Change| vit.stem_layers.is_some() && matches!(change, Change::Channels { .. });
                changes
                    .filter(|changes| !changes.iter().any(of_maps))
                    .ok_or_else(|| misfit("patch kernels are adapted in size and channels only, and behind a stem in size"))
            }
            (name, Some(vit)) if vit.stem_layers.is_some() && vit.filters().is_some_and(|(first, _)| first == name) => {
                let changes = patch_changes(&spec.shape, &mapped.shape, self.law.of_kernels());
                let of_size = |change: &Change| matches!(change, Change::Patches { .. });
                changes
                    .filter(|changes| !changes.iter().any(of_size))
                    .ok_or_else(|| misfit("the stem's first convolution is adapted in channels only"))
            }
            _ if mapped.shape == spec.shape => Ok(Vec::new()),
            // Biases and tokens that JAX or an exporter stored with dimensions of one around them.
            _ if squeezed(&mapped.shape) == squeezed(&spec.shape) => Ok(vec![Change::Reshape(spec.shape.clone())]),
            (name, _) if name.starts_with("patch_embed.patch_norm") => Err(misfit(
                "shifted patches are normalised value by value, which fits one patch size and number of channels: keep the \
                 checkpoint's patch_size and in_chans",
            )),
            (name, _) if name.starts_with("head") => Err(misfit(
                "the pool or the width of the head differs: choose the checkpoint's global_pool, or a new head",
            )),
            _ => Err(misfit("the model's sizes (embed_dim, mlp_ratio, num_heads, …) must be the checkpoint's")),
        }
    }

    /// The rows and columns of so many patches: as the checkpoint's config says, else a square.
    fn grid_of(&self, patches: usize) -> Option<[usize; 2]> {
        let own = self.grid.filter(|grid| grid.iter().product::<usize>() == patches);
        own.or_else(|| square_root(patches).map(|side| [side; 2]))
    }

    /// How positions `[1, count, dim]` become the model's.
    fn position_changes(&self, vit: &VitConfig, shape: &[usize]) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        let (count, dim) = match *shape {
            [1, count, dim] => (count, dim),
            // Big Vision may leave out the first dimension.
            [count, dim] => {
                changes.push(Change::Reshape(vec![1, count, dim]));
                (count, dim)
            }
            _ => return None,
        };
        if dim != vit.embed_dim {
            return None;
        }
        let (prefix, new) = (if vit.no_embed_class { 0 } else { vit.num_prefix_tokens() }, vit.grid_size());
        let law = self.law;
        let resample =
            |prefix: usize, old: [usize; 2]| (old != new).then_some(Change::Positions { prefix, old, new, law });
        let grid = |patches: usize| self.grid_of(patches);
        if self.fold_first_position {
            changes.push(Change::DropFirst);
            changes.extend(resample(0, grid(count - 1)?));
        } else if let Some(old) = count.checked_sub(prefix).and_then(grid) {
            changes.extend(resample(prefix, old));
        } else if let Some(old) = grid(count) {
            // The checkpoint has no positions for prefix tokens, which is to have zeros.
            changes.extend(resample(0, old));
            changes.push(Change::ZeroPrefix(prefix));
        } else {
            return None;
        }
        Some(changes)
    }

    /// How a table `[distances + 3, heads]` becomes the model's.
    fn relative_changes(&self, vit: &VitConfig, expected: &[usize], shape: &[usize]) -> Option<Vec<Change>> {
        let (&[_, heads], &[rows, their_heads]) = (expected, shape) else { return None };
        let distances = |[rows, columns]: [usize; 2]| (2 * rows - 1) * (2 * columns - 1) + 3;
        let square =
            rows.checked_sub(3).and_then(square_root).filter(|side| side % 2 == 1).map(|side| [side.div_ceil(2); 2]);
        let old = self.grid.filter(|grid| !grid.contains(&0) && distances(*grid) == rows).or(square)?;
        let new = vit.grid_size();
        let plain = self.translation.naming == Naming::HuggingFace;
        (heads == their_heads).then(|| if old == new { vec![] } else { vec![Change::Relative { old, new, plain }] })
    }

    /// Whether the checkpoint's positions begin with the class token's and the model's do not. Constant positions can be added
    /// to the token itself.
    fn class_position_goes_into_class_token(&self) -> bool {
        let Some(vit) = self.vit.filter(|vit| vit.no_embed_class && vit.class_token) else { return false };
        let count = self.translation.get("pos_embed").and_then(|mapped| mapped.shape.get(1).copied());
        vit.pos_embed == PosEmbed::Learned
            && self.translation.get("cls_token").is_some()
            && count.is_some_and(|count| square_root(count).is_none())
            && count.and_then(|count| square_root(count.checked_sub(1)?)).is_some()
    }

    /// A final norm before the pool does not fit after it: where the pool was changed for a new head, timm starts a new norm.
    fn norm_moved(&self, name: &str, head: &HeadDecision) -> Option<String> {
        let other = match name.split_once('.')? {
            ("fc_norm", kind) => format!("norm.{kind}"),
            ("norm", kind) => format!("fc_norm.{kind}"),
            _ => return None,
        };
        let moved = head.is_new() && self.translation.get(&other).is_some();
        moved.then(|| format!("another pool than the checkpoint's: its {other} sits elsewhere"))
    }

    /// Why a tensor of the checkpoint may have no place in the model, if it may.
    fn no_place(&self, name: &str, head: &HeadDecision) -> Option<String> {
        let vit = self.vit?;
        if name == "pos_embed" && vit.pos_embed != PosEmbed::Learned {
            return Some("the model's positions are not learned".into());
        }
        if self.translation.naming == Naming::Clip {
            // transformers' classifiers take the mean of what the blocks give.
            if name.starts_with("attn_pool.") && vit.global_pool != GlobalPool::Map {
                return Some("the attention pool, which the model's pool does without".into());
            }
            if name.starts_with("norm.") && !vit.final_norm {
                return Some("the norm before the projection, which the classifier does without".into());
            }
        }
        let norm = match name.split_once('.')? {
            ("norm", kind) => format!("fc_norm.{kind}"),
            ("fc_norm", kind) => format!("norm.{kind}"),
            _ => return None,
        };
        (head.is_new() && self.translation.get(&norm).is_none())
            .then(|| format!("the model's pool wants {norm} instead"))
    }

    fn remedy(&self, unused: &[String], missing: &[String]) -> String {
        let any = |names: &[String], word: &str| names.iter().any(|name| name.contains(word));
        let hint = if any(missing, ".ls1.") {
            "the checkpoint has no LayerScale: use an architecture without init_values"
        } else if any(unused, ".ls1.") || any(unused, "lambda1") || any(unused, "gamma_1") {
            "the checkpoint has LayerScale: set init_values"
        } else if any(unused, "fc_norm.") || any(missing, "fc_norm.") {
            "the pools differ: choose the checkpoint's global_pool"
        } else if any(missing, "patch_norm.") {
            "the checkpoint was trained without shifted patch tokenisation: leave out spt"
        } else if any(unused, "patch_norm.") {
            "the checkpoint was trained with shifted patch tokenisation: set spt"
        } else if any(missing, ".attn.scale") {
            "the checkpoint was trained without locality self-attention: leave out lsa"
        } else if any(unused, ".attn.scale") {
            "the checkpoint was trained with locality self-attention: set lsa"
        } else if any(unused, "relative_position_bias_table") || any(missing, "relative_position_bias_table") {
            "relative positions differ: choose the checkpoint's use_rel_pos_bias and use_shared_rel_pos_bias"
        } else if any(unused, "q_bias") || any(missing, "q_bias") || any(unused, "qkv.bias") || any(missing, "qkv.bias")
        {
            "the biases of queries, keys and values differ: choose the checkpoint's qkv_bias and k_bias"
        } else if any(unused, "reg") || any(missing, "reg_token") {
            "the register tokens differ: choose the checkpoint's reg_tokens"
        } else if any(unused, "blocks.") || any(missing, "blocks.") {
            "the depths or blocks differ, or tensors were renamed: choose the architecture that the checkpoint belongs to"
        } else {
            "choose the architecture that the checkpoint belongs to"
        };
        let ignore = if missing.is_empty() { ", or leave them out with `ignore_unknown`" } else { "" };
        format!("{hint}{ignore} (its names are {})", self.translation.naming)
    }

    fn notes(&self, fillings: &[Filling]) -> Vec<String> {
        let changes = fillings.iter().flat_map(|filling| &filling.changes);
        let mut notes: Vec<String> = changes
            .filter_map(|change| match change {
                Change::Positions { old, new, .. } | Change::Relative { old, new, .. }
                    if (0..2).any(|axis| 2 * new[axis] <= old[axis]) =>
                {
                    Some(format!(
                        "positions went from {} far down to {}: without fine-tuning this costs accuracy",
                        grid_in_words(*old),
                        grid_in_words(*new)
                    ))
                }
                _ => None,
            })
            .collect();
        // Every block may have its own.
        notes.dedup();
        notes
    }
}

/// CLIP's projection is what checkpoints of the vision tower have for a head: where the model has a head behind it, that is `head_proj`.
fn with_projection(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    mut translation: Translation,
) -> Result<Translation> {
    let Architecture::Vit(vit @ VitConfig { head_proj: Some(width), head_proj_bias, .. }) = architecture else {
        return Ok(translation);
    };
    if translation.get("head_proj.weight").is_some() {
        return Ok(translation);
    }
    let shape = [*width, vit.pool_width()];
    let Some(weight) =
        translation.mapped.iter_mut().find(|mapped| mapped.name == "head.weight" && mapped.shape == shape)
    else {
        return Ok(translation);
    };
    weight.name = "head_proj.weight".into();
    let Some(at) = translation.mapped.iter().position(|mapped| mapped.name == "head.bias") else {
        return Ok(translation);
    };
    if *head_proj_bias {
        translation.mapped[at].name = "head_proj.bias".into();
        return Ok(translation);
    }
    let bias = translation.mapped.remove(at);
    let values = bias.make(|at| finite(checkpoint, at))?.flatten_all()?.to_vec1::<f32>()?;
    if values.iter().any(|&value| value != 0.) {
        let what = "a projection with a bias before a classifier";
        return Err(Error::unsupported(checkpoint.origin(), what, "use the model with a new head"));
    }
    let indices = bias.parts.iter().map(|part| (part.index, "a projection's bias, which is zero".to_owned()));
    translation.left_out.extend(indices);
    Ok(translation)
}

/// Refuses periods of rotary positions in the file that are not those that the model computes. Meta's own files of DINOv3 have them in
/// bfloat16.
fn check_periods(checkpoint: &Checkpoint, translation: &Translation, vit: &VitConfig) -> Result<()> {
    let Some((index, count)) = translation.periods.filter(|_| vit.rope_type == RopeType::DinoV3) else { return Ok(()) };
    let periods = finite(checkpoint, index)?.to_vec1::<f32>()?;
    let follow = |base: f64| {
        let usual = (0..count).map(|at| base.powf(at as f64 / count as f64));
        periods.iter().zip(usual).all(|(&period, usual)| (f64::from(period) / usual - 1.).abs() < 0.01)
    };
    if follow(vit.rope_temperature) {
        return Ok(());
    }
    let name = &checkpoint.tensors()[index].name;
    let last = periods.last().map_or(1., |&period| f64::from(period));
    let base = last.powf(count as f64 / count.saturating_sub(1).max(1) as f64);
    let expected = format!("{name} of the base {} (`rope_temperature`)", vit.rope_temperature);
    let got = if follow(base) {
        format!("the base {base:.4}; `set rope_temperature=VALUE` states the base")
    } else {
        format!("{periods:?}, which are the powers of no base")
    };
    Err(Error::format(checkpoint.origin(), expected, got))
}

/// How positions are resampled, as the library does it that the weights are of.
fn law(checkpoint: &Checkpoint, naming: Naming) -> Resampling {
    // timm goes by this part of an architecture's name.
    let is_flexi = || {
        checkpoint.config_or_inferred().is_ok_and(|(config, _)| config.name.is_some_and(|name| name.contains("flexi")))
    };
    match naming {
        // timm's reader of JAX's files.
        Naming::Jax => Resampling::BilinearPlain,
        // transformers' DINOv2 with registers does it as its authors do, and its other ViTs without antialias.
        Naming::HuggingFace if checkpoint.names().any(|name| name.ends_with("embeddings.register_tokens")) => {
            Resampling::Bicubic
        }
        _ if !naming.antialiases() => Resampling::BicubicPlain,
        _ if is_flexi() => Resampling::BilinearPlain,
        _ => Resampling::Bicubic,
    }
}

/// How kernels `[dim, channels, size, size]`, or `[dim, channels * size * size]` from linear layers, become the model's.
fn patch_changes(expected: &[usize], got: &[usize], law: Resampling) -> Option<Vec<Change>> {
    let &[dim, channels, size, _] = expected else { return None };
    let mut changes = Vec::new();
    let (their_dim, their_channels, height, width) = match *got {
        [d, c, h, w] => (d, c, h, w),
        [d, flat] if size > 0 && flat % (size * size) == 0 => {
            changes.push(Change::Reshape(vec![d, flat / (size * size), size, size]));
            (d, flat / (size * size), size, size)
        }
        _ => return None,
    };
    if their_dim != dim || height != width || height == 0 || their_channels == 0 {
        return None;
    }
    if height != size {
        changes.push(Change::Patches { new: size, law });
    }
    if their_channels != channels {
        changes.push(Change::Channels { old: their_channels, new: channels });
    }
    Some(changes)
}

fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&dim| dim != 1).collect()
}

fn square_root(count: usize) -> Option<usize> {
    let root = count.isqrt();
    (root > 0 && root * root == count).then_some(root)
}

impl Filling {
    fn make(&self, checkpoint: &Checkpoint) -> Result<Tensor> {
        let read = |at: usize| finite(checkpoint, at);
        let mut value = self.mapped.make(read)?;
        for change in &self.changes {
            value = match change {
                Change::Reshape(shape) => value.reshape(shape.as_slice())?,
                Change::Patches { new, law } => resample_patches_by(&value, (*new, *new), *law)?,
                Change::Channels { new, .. } => adapt_channels(&value, *new)?,
                Change::Positions { prefix, old, new, law } => {
                    let [old, new] = [*old, *new].map(|[rows, columns]| (rows, columns));
                    resample_positions_by(&value, *prefix, old, new, *law)?
                }
                Change::Relative { old, new, plain } => {
                    let [old, new] = [*old, *new].map(|[rows, columns]| (rows, columns));
                    match plain {
                        true => resample_relative_plainly(&value, old, new)?,
                        false => resample_relative(&value, old, new)?,
                    }
                }
                Change::ZeroPrefix(prefix) => value.pad_with_zeros(1, *prefix, 0)?,
                Change::DropFirst => value.narrow(1, 1, value.dim(1)? - 1)?.contiguous()?,
                Change::AddFirstOf(positions) => (value + positions.make(read)?.narrow(1, 0, 1)?)?,
                Change::Rows { from, .. } => value.index_select(&Tensor::new(from.as_slice(), value.device())?, 0)?,
            };
        }
        // What was computed from a variable has a history, which keeps that alive.
        Ok(if value.is_variable() { value } else { value.detach() })
    }
}

/// Reads a tensor as float32 and refuses NaN and infinity.
fn finite(checkpoint: &Checkpoint, at: usize) -> Result<Tensor> {
    let tensor = checkpoint.read(at)?.to_dtype(DType::F32)?.contiguous()?;
    let bad = {
        let (storage, layout) = tensor.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (Storage::Cpu(storage), Some((start, end))) => {
                let values = &storage.as_slice::<f32>()?[start..end];
                // Without a way out after every value, so that many are looked at at once.
                let finite = |part: &[f32]| part.iter().fold(true, |finite, value| finite & value.is_finite());
                if values.chunks(4096).all(finite) { None } else { values.iter().copied().find(|v| !v.is_finite()) }
            }
            _ => None,
        }
    };
    match bad {
        None => Ok(tensor),
        Some(value) => Err(Error::NotFinite {
            origin: checkpoint.origin().into(),
            name: checkpoint.tensors()[at].name.clone(),
            got: value.to_string(),
        }),
    }
}

fn grid_in_words([rows, columns]: [usize; 2]) -> String {
    format!("{rows}×{columns}")
}

impl Change {
    fn in_words(&self) -> String {
        match self {
            Self::Reshape(shape) => format!("reshaped to {shape:?}"),
            Self::Patches { new, law: Resampling::BilinearPlain } => {
                format!("patches resized to {new}×{new} pixels (pseudo-inverse, bilinear)")
            }
            Self::Patches { new, .. } => format!("patches resized to {new}×{new} pixels (pseudo-inverse)"),
            Self::Channels { old: 4, new: 3 } => "the input channel alpha left out".into(),
            Self::Channels { old: 4, new: 1 } => "input channels summed to 1, without alpha".into(),
            Self::Channels { new: 1, .. } => "input channels summed to 1".into(),
            Self::Channels { new, .. } => format!("input channels repeated to {new} and rescaled"),
            Self::Positions { old, new, law, .. } => {
                let how = match law {
                    Resampling::Bicubic => "bicubic, antialias",
                    Resampling::BicubicPlain => "bicubic, as transformers",
                    Resampling::BilinearPlain => "bilinear, as timm",
                };
                format!("positions resampled from {} to {} ({how})", grid_in_words(*old), grid_in_words(*new))
            }
            Self::Relative { old, new, plain } => {
                let how = if *plain { " (bilinear, as transformers)" } else { "" };
                let [old, new] = [*old, *new].map(grid_in_words);
                format!("relative positions resampled from {old} to {new} patches{how}")
            }
            Self::ZeroPrefix(prefix) => format!("{prefix} zero positions put before the patches'"),
            Self::DropFirst => "the class token's position moved into the class token".into(),
            Self::AddFirstOf(_) => "its position added".into(),
            Self::Rows { how, .. } => how.clone(),
        }
    }
}
