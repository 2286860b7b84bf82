//! The loader: batches in order, the same whatever the threads, errors and panics that arrive, an end that comes quickly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tallow::data::{
    Augment, Batch, DataOptions, Draw, Image, Loader, LoaderOptions, Result, Samples, Transform, decode, epoch_order,
    open,
};
use tallow::weights::{Interpolation, Preprocessing};

fn preprocessing(side: usize, channels: usize) -> Preprocessing {
    Preprocessing::new([channels, side, side], vec![0.5; channels], vec![0.25; channels])
        .with(|c| c.interpolation = Interpolation::Bilinear)
}

fn training(augment: &[Augment]) -> Arc<Transform> {
    Arc::new(Transform::training(&preprocessing(12, 3), augment).unwrap())
}

/// Sample i is an image of 8x8 pixels of level i; what happens at some indices can be chosen.
#[derive(Default)]
struct Levels {
    bad: Option<usize>,
    panics: Option<usize>,
    wait: Duration,
    read: AtomicUsize,
}

impl Samples for Levels {
    fn len(&self) -> usize {
        100
    }
    fn label(&self, index: usize) -> u32 {
        index as u32 % 7
    }
    fn image(&self, index: usize) -> Result<Image> {
        self.read.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(self.wait);
        assert_ne!(Some(index), self.panics, "a decoder that panics");
        if Some(index) == self.bad {
            return decode(b"", "bad.png");
        }
        Ok(Image { width: 8, height: 8, channels: 1, pixels: vec![index as u8; 64] })
    }
    fn name(&self, index: usize) -> String {
        format!("level/{index}")
    }
}

fn values(batch: &Batch) -> Vec<f32> {
    batch.images.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn batches_are_the_same_bit_for_bit_with_any_number_of_threads() {
    let data = open("mnist", &DataOptions::default().with(|o| o.limit = Some(100))).unwrap();
    let load = |threads, epoch| -> Vec<(Vec<usize>, Vec<u32>, Vec<f32>)> {
        let options = LoaderOptions::default().with(|o| {
            o.batch_size = 19;
            o.threads = threads;
            o.seed = 5;
            o.epoch = epoch;
        });
        let order = epoch_order(100, 5, epoch, true);
        let loader = Loader::new(data.train.clone(), order, training(&[Augment::ResizedCrop, Augment::Flip]), options);
        let batches = loader.unwrap().map(|batch| batch.unwrap());
        batches.map(|b| (b.indices.clone(), b.labels.to_vec1().unwrap(), values(&b))).collect()
    };
    let alone = load(0, 0);
    assert_eq!(alone.iter().map(|b| b.0.len()).collect::<Vec<_>>(), [19, 19, 19, 19, 19, 5]);
    for threads in [1, 2, 5] {
        assert!(alone == load(threads, 0), "{threads} threads");
    }
    assert!(alone != load(0, 1), "another epoch draws anew");
    for (indices, labels, _) in &alone {
        assert_eq!(*labels, indices.iter().map(|&i| data.train.label(i)).collect::<Vec<_>>());
    }
}

#[test]
fn the_rest_of_an_order_gives_the_rest_of_the_batches() {
    let order = epoch_order(100, 1, 2, true);
    let options = LoaderOptions::default().with(|o| {
        o.batch_size = 16;
        o.seed = 1;
        o.epoch = 2;
    });
    let load = |order: Vec<usize>| -> Vec<Vec<f32>> {
        let loader =
            Loader::new(Arc::new(Levels::default()), order, training(&[Augment::Crop, Augment::Flip]), options);
        loader.unwrap().map(|batch| values(&batch.unwrap())).collect()
    };
    assert_eq!(load(order.clone())[3..], load(order[48..].to_vec()));
}

#[test]
fn an_order_is_a_permutation_that_seed_and_epoch_decide() {
    assert_eq!(epoch_order(5, 1, 1, false), [0, 1, 2, 3, 4]);
    let order = epoch_order(1000, 1, 1, true);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    assert_eq!(order, epoch_order(1000, 1, 1, true));
    assert_ne!(order, epoch_order(1000, 1, 2, true));
    assert_ne!(order, epoch_order(1000, 2, 1, true));
}

#[test]
fn batches_have_the_shapes_that_models_read_and_the_last_can_be_dropped() {
    let options = LoaderOptions::default().with(|o| {
        o.batch_size = 30;
        o.drop_last = true;
    });
    let loader = Loader::new(Arc::new(Levels::default()), (0..100).collect(), training(&[]), options).unwrap();
    assert_eq!(loader.batches(), 3);
    let batches: Vec<Batch> = loader.map(|batch| batch.unwrap()).collect();
    assert_eq!(batches.len(), 3);
    assert_eq!(batches[2].images.dims(), [30, 3, 12, 12]);
    assert_eq!(batches[2].labels.dims(), [30]);
    // level 60 is (60 / 255 - 0.5) / 0.25
    assert_eq!(values(&batches[2])[..3], [(60.0 / 255.0 - 0.5) / 0.25; 3]);
}

#[test]
fn a_bad_sample_ends_the_iteration_with_its_error_after_the_good_batches() {
    for threads in [0, 2] {
        for (bad, panics) in [(Some(45), None), (None, Some(45))] {
            let samples = Arc::new(Levels { bad, panics, ..Default::default() });
            let options = LoaderOptions::default().with(|o| {
                o.batch_size = 10;
                o.threads = threads;
            });
            let loader = Loader::new(samples, (0..100).collect(), training(&[]), options).unwrap();
            let results: Vec<Result<Batch>> = loader.collect();
            assert_eq!(results.len(), 5, "four batches and an error");
            let text = results[4].as_ref().err().unwrap().to_string();
            let expected = if bad.is_some() { "bad.png" } else { "level/45: expected a sample that can be read" };
            assert!(text.contains(expected), "{text}");
            assert!(results[..4].iter().all(|result| result.is_ok()));
        }
    }
}

#[test]
fn a_loader_that_is_dropped_stops_soon_and_one_that_waits_does_not_run_ahead() {
    let samples = Arc::new(Levels { wait: Duration::from_millis(5), ..Default::default() });
    let options = LoaderOptions::default().with(|o| {
        o.batch_size = 10;
        o.threads = 2;
        o.prefetch = 1;
    });
    let mut loader = Loader::new(samples.clone(), (0..100).collect(), training(&[]), options).unwrap();
    loader.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(400)); // time enough for everything
    assert_eq!(samples.read.load(Ordering::SeqCst), 30, "the batch that was given, the next, and one ahead");
    drop(loader);
    assert_eq!(samples.read.load(Ordering::SeqCst), 30, "nothing was begun after that");
    let slow = Arc::new(Levels { wait: Duration::from_millis(100), ..Default::default() });
    let loader = Loader::new(slow.clone(), (0..100).collect(), training(&[]), options).unwrap();
    drop(loader);
    let read = slow.read.load(Ordering::SeqCst);
    assert!(read <= 4, "no more than the samples that were begun, got {read}");
}

#[test]
fn points_go_to_the_model_as_they_are() {
    let data = open("circles", &DataOptions::default()).unwrap();
    let transform = Arc::new(Transform::evaluation(&preprocessing(1, 2).with(|c| c.input_size = [2, 1, 1])).unwrap());
    let options = LoaderOptions::default().with(|o| o.batch_size = 50);
    let mut loader = Loader::new(data.train.clone(), (0..200).collect(), transform, options).unwrap();
    let batch = loader.next().unwrap().unwrap();
    assert_eq!(batch.images.dims(), [50, 2, 1, 1]);
    assert_eq!(values(&batch)[..2], *data.train.point(0).unwrap());
    let mut wrong = Loader::new(data.train, vec![0], training(&[]), options).unwrap();
    assert!(wrong.next().unwrap().err().unwrap().to_string().contains("coordinates"));
}

#[test]
fn orders_and_sizes_that_make_no_sense_are_refused() {
    let new = |order, batch_size| {
        let options = LoaderOptions::default().with(|o| o.batch_size = batch_size);
        Loader::new(Arc::new(Levels::default()), order, training(&[]), options).err().map(|e| e.to_string())
    };
    assert!(new(vec![0, 100], 4).unwrap().contains("indices below 100"));
    assert!(new(vec![0], 0).unwrap().contains("batch size"));
    assert!(new(vec![], 4).is_none());
}

/// Where the pixels of a transformed ramp come from: its rows all hold 0, 1, 2, … from left to right.
fn ramp(side: usize) -> Image {
    let pixels = (0..side * side).map(|at| (at % side + 1) as u8).collect();
    Image { width: side, height: side, channels: 1, pixels }
}

#[test]
fn crops_of_28_from_images_of_32_are_windows_of_the_pixels_as_they_are() {
    // Every pixel says where it is.
    let pixels = (0..32 * 32).flat_map(|at| [at % 32, at / 32, at % 251].map(|level| level as u8)).collect();
    let image = Image { width: 32, height: 32, channels: 3, pixels };
    let crop_pct = 28.0 / 32.0;
    let raw = preprocessing(28, 3).with(|c| {
        c.crop_pct = crop_pct;
        c.mean = vec![0.0];
        c.std = vec![1.0];
    });
    for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
        let raw = raw.clone().with(|c| c.interpolation = interpolation);
        let window = |augment: &[Augment], epoch: u64| -> (usize, usize) {
            let transform = Transform::training(&raw, augment).unwrap();
            let tensor = transform.tensor(&image, Draw { epoch, ..Draw::default() }).unwrap();
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let levels: Vec<usize> = values.iter().map(|value| (value * 255.0).round() as usize).collect();
            let (left, top) = (levels[0], levels[28 * 28]);
            for at in 0..28 * 28 {
                let (x, y) = (left + at % 28, top + at / 28);
                let expected = [x, y, (y * 32 + x) % 251];
                assert_eq!([0, 1, 2].map(|channel| levels[channel * 28 * 28 + at]), expected);
            }
            (left, top)
        };
        assert_eq!(window(&[], 0), (2, 2), "the test sees the centre");
        let windows: std::collections::BTreeSet<_> = (0..400).map(|epoch| window(&[Augment::Crop], epoch)).collect();
        assert_eq!(windows.len(), 25, "training sees all that there are");
        assert!(windows.iter().all(|&(left, top)| left <= 4 && top <= 4));
    }
}

#[test]
fn augmentation_moves_and_flips_as_its_names_say() {
    let levels = |augment: &[Augment], crop_pct: f64, epoch: u64| -> Vec<i32> {
        let raw = preprocessing(16, 1).with(|c| {
            c.crop_pct = crop_pct;
            c.mean = vec![0.0];
            c.std = vec![1.0];
        });
        let transform = Transform::training(&raw, augment).unwrap();
        let image = if crop_pct < 1.0 { ramp(32) } else { ramp(16) };
        let tensor = transform.tensor(&image, Draw { seed: 3, epoch, index: 9 }).unwrap();
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter().map(|value| (value * 255.0).round() as i32).collect()
    };
    // flips: both directions, about equally often
    let flipped = (0..200).filter(|&epoch| levels(&[Augment::Flip], 1.0, epoch)[0] == 16).count();
    assert!((70..130).contains(&flipped), "{flipped} of 200");
    // a crop of an image that just fits: shifted by up to an eighth, black around
    let mut shifts = std::collections::BTreeSet::new();
    for epoch in 0..200 {
        let rows = levels(&[Augment::Crop], 1.0, epoch);
        let row = rows.chunks(16).max_by_key(|row| row.iter().sum::<i32>()).unwrap();
        let first = row.iter().position(|&level| level > 0).unwrap();
        shifts.insert(row[first] - 1 - first as i32);
        assert!(row[first..].windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 0), "{row:?}");
        assert!(rows.chunks(16).all(|other| other == row || other.iter().all(|&level| level == 0)));
    }
    assert_eq!(shifts.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
    // a crop of a larger image: a window of it, without a border
    let mut lefts = std::collections::BTreeSet::new();
    for epoch in 0..300 {
        let row = levels(&[Augment::Crop], 0.5, epoch)[..16].to_vec();
        assert!(row.windows(2).all(|pair| pair[1] == pair[0] + 1), "{row:?}");
        lefts.insert(row[0]);
    }
    assert_eq!(lefts.into_iter().collect::<Vec<_>>(), (1..=17).collect::<Vec<_>>());
    // a resized crop: magnified, so that the ramp is less steep, and at all places
    let spans: Vec<i32> =
        (0..300).map(|epoch| levels(&[Augment::ResizedCrop], 1.0, epoch)).map(|row| row[15] - row[0]).collect();
    assert!(spans.iter().all(|span| (1..=15).contains(span)), "{spans:?}");
    assert!(spans.contains(&4) && spans.contains(&12), "{spans:?}");
}

#[test]
fn names_of_augmentations_are_read_back_and_checked() {
    assert_eq!(Augment::parse_list("crop, flip").unwrap(), [Augment::Crop, Augment::Flip]);
    assert!(Augment::parse_list("none").unwrap().is_empty());
    let message = |text: &str| Augment::parse_list(text).unwrap_err().to_string();
    assert!(message("crop,resized-crop").contains("one kind of crop"));
    assert!(message("flip,flip").contains("twice"));
    assert!(message("cropp").contains("resized-crop"));
    let json = serde_json::to_string(&Augment::ResizedCrop).unwrap();
    assert_eq!(json, "\"resized-crop\"");
    assert_eq!(serde_json::from_str::<Augment>(&json).unwrap(), Augment::ResizedCrop);
}

#[test]
fn preprocessing_that_makes_no_sense_is_refused() {
    let refused = |change: &dyn Fn(&mut Preprocessing)| {
        let mut preprocessing = preprocessing(8, 3);
        change(&mut preprocessing);
        Transform::evaluation(&preprocessing).unwrap_err().to_string()
    };
    assert!(refused(&|p| p.crop_pct = f64::NAN).contains("crop_pct"));
    assert!(refused(&|p| p.crop_pct = 0.0).contains("crop_pct"));
    assert!(refused(&|p| p.input_size = [3, 0, 8]).contains("input size"));
    assert!(refused(&|p| p.input_size = [3, 8, usize::MAX]).contains("input size"));
    assert!(refused(&|p| p.std = vec![0.0; 3]).contains("std"));
    assert!(refused(&|p| p.mean = vec![0.5; 2]).contains("mean: expected 3 values"));
    assert!(refused(&|p| p.mean = vec![f64::INFINITY; 3]).contains("mean"));
}
