//! What stands around a ViT in a checkpoint: its classifier under whatever name, projection heads, decoders, losses, counters.

use std::collections::BTreeMap;

use crate::format::TensorInfo;
use crate::naming::{Naming, words};

/// Words that tell what a tensor outside of the ViT is for.
const ROLES: [(&str, &str); 9] = [
    ("scheduler schedulers scaler lr", "state of the training loop"),
    ("rng random generator", "a state of random numbers"),
    ("text txt textual lm tokenizer", "the text tower, which images do not need"),
    ("decoder decode mask reconstruction pixel", "the decoder of masked pre-training"),
    (
        "proj projection projector projectors predictor predictors prediction pred dino ibot contrastive prototype prototypes \
         simclr moco byol ssl embedder rotation jigsaw",
        "a projection head or predictor of pre-training",
    ),
    (
        "loss losses criterion criteria objective center centers centre queue bank memory logit temperature temp tau margin arc \
         arcface cosface sphereface koleo sinkhorn",
        "what a loss keeps",
    ),
    ("metric metrics acc acc1 acc5 accuracy best top1 top5 auroc f1 confmat score scores", "what a metric keeps"),
    (
        "averaged decay epoch epochs step steps iter iteration counter num updates version args config hparams hyper settings aux \
         auxiliary",
        "what training keeps beside the model",
    ),
    ("teacher student momentum online target", "a part of another network of the file"),
];

/// Words of names that classifiers have.
const CLASSIFIERS: &str = "head heads fc classifier classifiers cls clf linear lin logits output out probe classification last \
                           final dense lp softmax top";

/// Words of names that could be a part of a ViT that this crate does not know: leaving them out would change what it computes.
const VIT: &str = "pos position positions rel relative rope rotary token tokens prompt prompts block blocks layer layers attn \
                   attention patch embed embedding embeddings norm norms ln layernorm stem temporal adapter adapters lora stage \
                   stages gamma";

/// Whether a name has one of these words.
fn has(name: &str, list: &str) -> bool {
    let words = words(name);
    list.split_whitespace().any(|word| words.contains(word))
}

/// Whether a name is that of something of an optimiser's.
pub(crate) fn is_of_an_optimiser(name: &str) -> bool {
    has(name, "optimizer optimizers optimiser optim opt grad grads gradients fisher")
}

/// Why the tensors of another network are left out.
pub(crate) fn another(called: &str) -> String {
    format!("another network of the file, {called:?}")
}

/// Why a tensor outside of the ViT is left out.
pub(crate) fn reason(path: &str, info: &TensorInfo) -> String {
    let role = role(path);
    match role {
        Some(why) => why.into(),
        None if is_count(info) => "a counter or a measured value".into(),
        None => "it lies outside of the ViT".into(),
    }
}

/// What a name says of what it is for, if it is for something else than a ViT or its classifier.
fn role(path: &str) -> Option<&'static str> {
    if is_of_an_optimiser(path) {
        return Some("state of the optimiser");
    }
    ROLES.iter().find(|(list, _)| has(path, list)).map(|(_, why)| *why)
}

/// Whether a tensor is a single value or of whole numbers.
fn is_count(info: &TensorInfo) -> bool {
    info.is_one_value() || info.dtype.starts_with(['I', 'U', 'B']) && !info.dtype.starts_with("BF")
}

/// Whether an unknown name directly in the ViT could be a part of it.
pub(crate) fn could_be_of_the_vit(name: &str, info: &TensorInfo) -> bool {
    has(name, VIT) && role(name).is_none() && !is_count(info)
}

/// Whether a module of this name may be taken for a classifier without another sign.
pub(crate) fn names_a_classifier(name: &str) -> bool {
    has(name, CLASSIFIERS) && role(name).is_none()
}

/// Rows and width of a module that is a single linear layer: one matrix, and a bias of as many values as that has rows.
pub(crate) fn linear(members: &[(&str, &[usize])]) -> Option<(usize, usize)> {
    let stem = |name: &str, kind: &str| {
        name.strip_suffix(kind).filter(|stem| stem.is_empty() || stem.ends_with('.')).map(str::to_owned)
    };
    let mut weights = members.iter().filter_map(|(name, shape)| Some((stem(name, "weight")?, shape)));
    let (Some((layer, &&[rows, width])), None) = (weights.next(), weights.next()) else { return None };
    let rest = members.iter().filter(|(name, _)| stem(name, "weight").is_none());
    let fits = rest.clone().all(|(name, shape)| stem(name, "bias").as_ref() == Some(&layer) && **shape == [rows]);
    (fits && rest.count() < 2).then_some((rows, width))
}

/// The tensors around a ViT, by the module that they belong to.
pub(crate) struct Around<'a> {
    infos: &'a [TensorInfo],
    naming: Naming,
    /// What stands before the ViT's names, then what stands before that, and so on.
    levels: Vec<&'a str>,
    /// By level and name: the tensors, each with what it is called inside of the module.
    modules: BTreeMap<(usize, &'a str), Vec<(usize, &'a str)>>,
}

/// What became of them.
#[derive(Default)]
pub(crate) struct Settled {
    /// The classifier's tensors: the name in timm's naming, and the position in the checkpoint.
    pub(crate) heads: Vec<(String, usize)>,
    /// What is left out, and why.
    pub(crate) out: Vec<(usize, String)>,
    /// Whether the head is a projection into a space that images share with texts.
    pub(crate) projects: bool,
    pub(crate) notes: Vec<String>,
}

/// A module that is a single linear layer.
struct Linear<'a> {
    at: (usize, &'a str),
    rows: usize,
    width: usize,
    path: String,
}

impl<'a> Around<'a> {
    pub(crate) fn new(infos: &'a [TensorInfo], naming: Naming, prefix: &'a str) -> Self {
        let mut levels = vec![prefix];
        let mut level = prefix;
        while let Some(shorter) = level.strip_suffix('.') {
            level = &shorter[..shorter.rfind('.').map_or(0, |dot| dot + 1)];
            levels.push(level);
        }
        Self { infos, naming, levels, modules: BTreeMap::new() }
    }

    /// Adds a tensor by its name in the checkpoint.
    pub(crate) fn add(&mut self, index: usize, name: &'a str) {
        let inner = self.levels.iter().enumerate().find_map(|(at, level)| Some((at, name.strip_prefix(*level)?)));
        let (level, rest) = inner.unwrap_or((self.levels.len(), name));
        let (module, within) = self.naming.module_of(rest);
        self.modules.entry((level, module)).or_default().push((index, within));
    }

    /// Finds the classifier of a ViT whose tokens are `width` wide, and says why the rest is left out. `classes` is what the
    /// config says; `projected` that the ViT itself has a head already.
    pub(crate) fn settle(self, width: usize, classes: Option<usize>, projected: bool) -> Settled {
        let mut settled = Settled::default();
        let mut taken = if projected { Vec::new() } else { self.own_heads(width, &mut settled) };
        settled.projects = taken.iter().any(|at| self.naming.projects(at.1) || self.is_behind_a_trunk(*at));
        if taken.is_empty() && !projected {
            taken.extend(self.other_head(width, classes, &mut settled));
        }
        for (at, members) in &self.modules {
            if taken.contains(at) {
                continue;
            }
            let own = self.naming.head(at.1).is_some() && role(at.1).is_none();
            for (index, within) in members {
                // What stands before the module says what the whole network is for.
                let name = format!("{}.{within}", at.1);
                let why = match role(&name) {
                    // Before what its own parts are called: `in_proj` is no projection head.
                    _ if self.is_of_the_text(*at) => "the text tower, which images do not need".into(),
                    None if own => "a head that is not, or not surely, a single linear layer over the features".into(),
                    _ => reason(&name, &self.infos[*index]),
                };
                settled.out.push((*index, why));
            }
        }
        settled
    }

    fn path(&self, (level, module): (usize, &str)) -> String {
        format!("{}{module}", self.levels.get(level).copied().unwrap_or_default())
    }

    /// The module as a single linear layer, if it is one whose name does not say that it is for something else.
    fn linear(&self, at: (usize, &'a str)) -> Option<Linear<'a>> {
        let members = self.modules.get(&at)?;
        let shapes: Vec<(&str, &[usize])> =
            members.iter().map(|(index, within)| (*within, self.infos[*index].shape.as_slice())).collect();
        let (rows, width) = linear(&shapes)?;
        let layer = shapes.iter().find_map(|(name, _)| name.strip_suffix("weight"))?;
        let path = format!("{}.{layer}", self.path(at)).trim_end_matches('.').to_owned();
        let own = self.naming.projects(at.1) || self.is_behind_a_trunk(at);
        (own || role(&format!("{}.{layer}", at.1)).is_none()).then_some(Linear { at, rows, width, path })
    }

    /// Whether a module is one of CLIP's text tower, which stands beside `visual` under names that say nothing.
    fn is_of_the_text(&self, (level, module): (usize, &str)) -> bool {
        const TEXT: [&str; 4] = ["transformer", "positional_embedding", "token_embedding", "ln_final"];
        let visual = self.levels.get(level.wrapping_sub(1)).is_some_and(|level| level.ends_with("visual."));
        level < self.levels.len() && visual && TEXT.contains(&module)
    }

    /// Whether a module is the `head` that open_clip puts beside a tower of timm's, its `trunk`: the projection.
    fn is_behind_a_trunk(&self, (level, module): (usize, &str)) -> bool {
        level == 1 && module == "head" && self.levels[0].ends_with("trunk.")
    }

    /// The heads that the naming itself has, the nearest of each.
    fn own_heads(&self, width: usize, settled: &mut Settled) -> Vec<(usize, &'a str)> {
        let mut taken: Vec<(&str, Linear)> = Vec::new();
        for &at in self.modules.keys() {
            let Some(name) = self.naming.head(at.1) else { continue };
            let Some(layer) = self.linear(at) else { continue };
            // Inside of the ViT another width is an error of its own, which says what to do.
            let fits = at.0 == 0 || layer.width == width || layer.width == 2 * width;
            let first = taken.iter().all(|(other, _)| *other != name);
            if fits && first && (at.0 == 0 || self.nothing_between(&layer, width, settled)) {
                taken.push((name, layer));
            }
        }
        for (name, layer) in &taken {
            self.take(name, layer, settled);
        }
        taken.into_iter().map(|(_, layer)| layer.at).collect()
    }

    /// The classifier under another name, if there is exactly one module that can be it.
    fn other_head(&self, width: usize, classes: Option<usize>, settled: &mut Settled) -> Option<(usize, &'a str)> {
        let stated = classes.filter(|&classes| classes > 0);
        let layers = self.modules.keys().filter(|at| at.0 < self.levels.len() && self.naming.head(at.1).is_none());
        let mut layers: Vec<Linear> = layers
            .filter_map(|&at| self.linear(at))
            .filter(|layer| layer.width == width)
            .filter(|layer| names_a_classifier(layer.at.1) || stated.is_none_or(|classes| layer.rows == classes))
            .collect();
        if layers.len() > 1 && layers.iter().filter(|layer| stated == Some(layer.rows)).count() == 1 {
            layers.retain(|layer| stated == Some(layer.rows));
        }
        let [layer] = layers.as_slice() else {
            if layers.len() > 1 {
                let names: Vec<String> =
                    layers.iter().map(|layer| format!("{:?} ({} classes)", layer.path, layer.rows)).collect();
                settled
                    .notes
                    .push(format!("which of {} is the classifier is unclear: none was taken", names.join(", ")));
            }
            return None;
        };
        if !self.nothing_between(layer, width, settled) {
            return None;
        }
        settled.notes.push(format!("{:?} was taken for the classifier ({} classes)", layer.path, layer.rows));
        self.take("head", layer, settled);
        Some(layer.at)
    }

    /// Whether no other module of an unknown purpose works on features, as a norm before the classifier does.
    fn nothing_between(&self, layer: &Linear, width: usize, settled: &mut Settled) -> bool {
        let features = |info: &TensorInfo| info.shape == [width];
        let between = self.modules.iter().find(|(at, members)| {
            **at != layer.at
                && at.0 <= layer.at.0
                && self.naming.head(at.1).is_none()
                && role(at.1).is_none()
                && members.iter().any(|(index, _)| features(&self.infos[*index]))
        });
        if let Some((at, _)) = between {
            settled.notes.push(format!(
                "{:?} was not taken for the classifier: {:?} may stand between it and the features",
                layer.path,
                self.path(*at)
            ));
        }
        between.is_none()
    }

    fn take(&self, name: &str, layer: &Linear, settled: &mut Settled) {
        let members = self.modules.get(&layer.at).into_iter().flatten();
        for (index, within) in members {
            let kind = if within.ends_with("bias") { "bias" } else { "weight" };
            settled.heads.push((format!("{name}.{kind}"), *index));
        }
        // `nn.Sequential(nn.Dropout(), nn.Linear())` and the like.
        if layer.path.rsplit('.').next().is_some_and(|part| part.parse::<usize>().is_ok_and(|number| number > 0)) {
            settled.notes.push(format!(
                "{:?} is not the first of its sequence: what stands before it has no weights and was taken for dropout",
                layer.path
            ));
        }
    }
}
