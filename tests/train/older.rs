//! Runs that older versions began: they have no `data.json`, and split by the places of the samples.

use std::fs;
use std::sync::atomic::AtomicBool;

use tallow::data::{DataOptions, SplitBy, open};
use tallow::train::config::Normalize;
use tallow::train::{Outcome, RunEvaluation, Setup, Start, evaluate_run, fit};

use crate::run::folder;
use crate::{Heard, finish, small};

#[test]
fn they_are_measured_and_go_on_with_the_split_of_then() {
    let photos = tempfile::tempdir().unwrap();
    let mnist = open("mnist", &DataOptions::default().with(|o| o.test_limit = Some(80))).unwrap();
    for index in 0..mnist.test.len() {
        let class = photos.path().join((mnist.test.label(index) % 2).to_string());
        fs::create_dir_all(&class).unwrap();
        let image = mnist.test.image(index).unwrap();
        let file = class.join(format!("{index:03}.png"));
        image::save_buffer(file, &image.pixels, 28, 28, image::ColorType::L8).unwrap();
    }
    let mut config = small().with(|c| {
        c.data.data = format!("folder:{}", photos.path().display());
        c.data.limit = None;
        c.data.test_limit = None;
        c.data.val_fraction = 0.2;
        // So that nothing follows from what is trained on before the run begins.
        c.data.normalize = Normalize::None;
    });
    config.model.set.insert("in_chans".into(), "1".into());
    let by_position = DataOptions::default().with(|o| {
        o.val_fraction = 0.2;
        o.split_by = SplitBy::Position;
    });
    let mut setup = Setup::new(&config).unwrap();
    setup.dataset = open(&config.data.data, &by_position).unwrap();
    let (_directory, folder) = folder();
    let stop = AtomicBool::new(false);
    let outcome = fit(setup, &folder, Start::New, &mut Heard::default(), &stop).unwrap();
    let Outcome::Finished(summary) = outcome else { panic!("nobody stopped it") };
    fs::remove_file(folder.data_path()).unwrap();

    let mut heard = Heard::default();
    let measured = evaluate_run(&folder, &RunEvaluation::default(), &mut heard).unwrap();
    assert_eq!(measured.evaluation.accuracy, summary.test_accuracy);
    assert_eq!(measured.evaluation.loss, summary.test_loss);
    assert!(heard.notes().iter().any(|note| note.contains("cannot be checked")), "{:?}", heard.notes());
    assert!(heard.warnings().is_empty(), "{:?}", heard.warnings());
    let again = finish(&folder.config().unwrap(), &folder, Start::Resume).unwrap();
    assert_eq!((again.test_set, again.test_loss), (summary.test_set, summary.test_loss));
}
