//! The beginning of a run: its model, objective and optimiser are made, and its folder is made ready or read.

use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use tallow_models::Architecture;

use super::{Inputs, Run, Session};
use crate::data::{Augment, Samples, Transform};
use crate::train::averages::Averages;
use crate::train::config::Method;
use crate::train::data_record::{self, DataRecord};
use crate::train::error::{Error, Result};
use crate::train::event::{Event, Listener};
use crate::train::features::{FixedFeatures, ModelInput};
use crate::train::metrics_log::MetricsLog;
use crate::train::objectives::dino::Dino;
use crate::train::objectives::mae::Mae;
use crate::train::objectives::supervised::Supervised;
use crate::train::objectives::{self, Objective};
use crate::train::optimizer::Optimizer;
use crate::train::outcome::{Outcome, Start};
use crate::train::pretraining::{DinoSettings, MaeSettings};
use crate::train::run_folder::write_json;
use crate::train::schedule::Schedule;
use crate::train::setup::Setup;
use crate::train::state::State;
use crate::train::study::perceptron::ByHand;
use crate::train::watch::Watch;
use crate::train::whitening::{Whitened, whitened};
use crate::train::{checkpoint, extension, memory};

impl<'a> Run<'a> {
    /// Begins a run, or goes on with it: weights, averages, optimiser, objective and place are then taken back from its last
    /// checkpoint. Breaks off if it was stopped meanwhile.
    pub fn begin(
        session: Session<'a>,
        mut setup: Setup,
        mut listener: Watch<'a>,
    ) -> Result<ControlFlow<Outcome, Self>> {
        let Session { folder, start, stop, .. } = session;
        if start == Start::Resume {
            extension::apply(&mut setup, folder, &mut listener)?;
        }
        let Setup { config, checkpoint: described, params, .. } = &setup;
        let architecture = &described.architecture;
        let mut model = architecture.build(params.builder())?;
        model.set_grad_checkpointing(config.compute.grad_checkpointing);
        if config.compute.grad_checkpointing {
            memory::spare();
        }
        let (averages, mut eval_model) = match config.regularization.ema {
            None => (None, architecture.build(params.eval_builder())?),
            Some(decay) => {
                let (averages, model) = Averages::new(decay, architecture, params)?;
                (Some(averages), model)
            }
        };
        let augment = Augment::parse_list(&config.data.augment)?;
        let train_transform = Transform::training(&described.preprocessing, &augment)?;
        let mut objective = objective(&setup)?;
        if let Some((_, chosen)) = objective.chosen() {
            eval_model = chosen.clone();
        }
        // Without what the objective has declared for itself.
        let encoder = if config.trains_head() { params.clone() } else { objectives::encoder(params, architecture)? };
        let mut optimizer = Optimizer::new(config, architecture, params)?;

        let (mut log, saved) = open(&session, &setup, &mut listener)?;
        if saved.is_some() {
            checkpoint::read_weights(&folder.last_path(), &encoder)?;
            checkpoint::read_optimizer(folder, &mut optimizer)?;
            averages.iter().try_for_each(|averages| averages.read(&folder.last_path()))?;
            objective.set_state(checkpoint::read_objective(folder)?)?;
        }
        let state = saved.unwrap_or_default();
        log.cut(state.metrics_bytes)?;

        setup.checkpoint.whitening = match whitened(&setup, folder, start, &mut listener, stop)? {
            Whitened::As(whitening) => whitening,
            Whitened::Stopped => {
                listener.on(&Event::Interrupted { step: state.step });
                return Ok(ControlFlow::Break(Outcome::Interrupted { step: state.step }));
            }
        };
        let fixed = FixedFeatures::of(&setup.checkpoint.architecture, &setup.params, &augment, &setup.config.mix());
        let train_transform = Arc::new(train_transform.whitened(setup.checkpoint.whitening.clone())?);
        let now = Instant::now();
        Ok(ControlFlow::Continue(Self {
            inputs: inputs(&setup, fixed, &train_transform)?,
            schedule: Schedule::new(&setup.config, setup.steps_per_epoch()),
            seconds_before: state.seconds,
            session,
            setup,
            listener,
            log,
            state,
            model,
            encoder,
            eval_model,
            averages,
            objective,
            optimizer,
            last_checkpoint: now,
            last_told: now,
            under_way: None,
            learning: None,
            through_backbone: true,
            features_rate: None,
            best_evaluation: None,
        }))
    }
}

/// What a step minimises.
pub(super) fn objective(setup: &Setup) -> Result<Box<dyn Objective>> {
    let Setup { config, checkpoint, params, .. } = setup;
    let (architecture, own) = (&checkpoint.architecture, &config.pretraining);
    Ok(match (own.method, architecture) {
        (Some(Method::Mae), Architecture::Vit(vit)) => {
            Box::new(Mae::new(&MaeSettings::of(own, vit), vit, params, config.compute.seed)?)
        }
        (Some(Method::Dino), Architecture::Vit(vit)) => {
            let settings = DinoSettings::of(own, vit);
            let augment = Augment::parse_list(&config.data.augment)?;
            let images = (&checkpoint.preprocessing, &augment[..]);
            Box::new(Dino::new(&settings, config, architecture, params, images, setup.steps_per_epoch())?)
        }
        _ => match ByHand::of(config, architecture, params)? {
            Some(by_hand) => Box::new(by_hand),
            None => Box::new(Supervised::new(config)),
        },
    })
}

/// The parts of the data set as the model reads them.
fn inputs(setup: &Setup, fixed: FixedFeatures, train_transform: &Arc<Transform>) -> Result<Inputs> {
    let Setup { config, checkpoint, dataset, .. } = setup;
    let transform = Arc::new(Transform::of(checkpoint)?);
    let evaluated = |samples: &Arc<dyn Samples>| match fixed.evaluated {
        // Always in the same order, and so in the same batches.
        true => ModelInput::frozen(samples, &transform, 0),
        false => ModelInput::images(samples, &transform),
    };
    let train = match fixed.train {
        true => ModelInput::frozen(&dataset.train, train_transform, config.batch_size()),
        false => ModelInput::images(&dataset.train, train_transform),
    };
    Ok(Inputs { train, val: dataset.val.as_ref().map(evaluated), test: evaluated(&dataset.test) })
}

/// Makes the folder ready for a new run; or checks that the run in it is the one that goes on, and reads where it is.
fn open(session: &Session, setup: &Setup, listener: &mut dyn Listener) -> Result<(MetricsLog, Option<State>)> {
    let &Session { folder, start, .. } = session;
    let config_path = folder.config_path();
    let begun = start == Start::Resume && config_path.exists();
    folder.check_start(start)?;
    fs::create_dir_all(folder.root()).map_err(Error::io(folder.root()))?;
    let log = MetricsLog::open(folder)?;
    let record = data_record::of(&setup.config, &setup.dataset)?;
    if begun {
        extension::check_same(folder, &setup.config)?;
        if let Some(then) = DataRecord::read(folder)? {
            data_record::check(folder, &then, &record)?;
        }
        extension::begin(folder, &setup.config)?;
        checkpoint::recover(folder)?;
        return Ok((log, checkpoint::read_state(folder)?));
    }
    if let Some(account) = &setup.account {
        write_json(&folder.load_path(), account)?;
    }
    data_record::overlap_warning(&record).into_iter().for_each(|warning| listener.on(&Event::Warning(warning)));
    record.write(folder)?;
    tallow_weights::save::write_text(&config_path, &setup.config.to_toml()?)?;
    Ok((log, None))
}
