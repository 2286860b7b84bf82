//! `tallow data`: what a data set holds, and how its images look to a model in training.

use std::sync::Arc;

use anyhow::bail;
use rayon::prelude::*;
use serde::Serialize;
use tallow_weights::{Preprocessing, save};

use crate::error::{Result, Told, usage};
use crate::file_name::check_written;
use crate::flags::DataArgs;
use crate::images::tell_bad;
use crate::output::{Align, Table, thousands};
use crate::progress;
use crate::session::Session;
use crate::wording::with_flags;
use tallow::data::whitening::{self, Whiteness};
use tallow::data::{
    self, Alpha, Augment, Checked, DataOptions, Dataset, Draw, Exif, OnBadImage, Part, Samples, Statistics, Subset,
    Transform,
};
use tallow::report::{SheetRow, contact_sheet};
use tallow::train::TrainConfig;

/// Columns of the sheet with an image as training sees it, an epoch each.
const EPOCHS: u64 = 7;
/// The side of the images where the data set's have no common size and no other is asked for.
const SIDE: usize = 224;

#[derive(Serialize)]
struct Facts<'a> {
    data: &'a str,
    train: usize,
    val: usize,
    test: usize,
    /// Images that cannot be read, which the numbers leave out.
    bad: Vec<Bad>,
    /// Images whose files have an orientation other than upright noted in them.
    orientation_noted: usize,
    /// What becomes of that.
    exif: Exif,
    classes: Vec<Class<'a>>,
    /// Which folder or file became which part, and why.
    parts: &'a [Part],
    /// None for points.
    images: Option<Images>,
    augment: Vec<Augment>,
    /// With `--normalize zca`.
    whitened: Option<Whiteness>,
    sheet: Option<&'a std::path::Path>,
}

#[derive(Serialize)]
struct Bad {
    part: &'static str,
    name: String,
    error: String,
}

#[derive(Serialize)]
struct Class<'a> {
    name: &'a str,
    train: usize,
    val: usize,
    test: usize,
}

/// Of the training part.
#[derive(Serialize)]
struct Images {
    channels: usize,
    /// The smallest and the largest.
    width: [usize; 2],
    height: [usize; 2],
    /// Of pixels in [0, 1], per channel.
    mean: Vec<f64>,
    std: Vec<f64>,
}

pub fn run(args: &DataArgs, session: &Session) -> Result {
    let listed = args.augment.as_deref().filter(|list| list.trim() != "auto").map(Augment::parse_list).transpose()?;
    args.sheet.as_ref().map_or(Ok(()), |path| check_written("--sheet", path, "png"))?;
    if args.zca_eps.is_some() && args.normalize != "zca" {
        return Err(usage("--zca-eps: expected --normalize zca beside it, which alone reads it"));
    }
    let options = DataOptions::default().with(|o| {
        o.limit = args.limit;
        o.train_split = args.parts.train_split.clone();
        o.test_split = args.parts.test_split.clone();
        o.exif = args.exif.exif.unwrap_or_default();
    });
    let mut dataset = data::open_with(&args.data, &options, &session.open_options())?;
    dataset.parts.iter_mut().for_each(|part| part.why = with_flags(&part.why).into_owned());
    let (bad, orientation_noted) = without_bad(args, &mut dataset, session)?;
    dataset.notes.iter().for_each(|note| session.warn(note));
    let augment = listed.unwrap_or_else(|| dataset.augment.clone());
    let points = dataset.train.coordinates();
    let images = if points.is_none() { Some(images(&dataset)?) } else { None };
    let zca = args.normalize == "zca";
    let mut whitened = None;
    if args.sheet.is_some() || zca {
        let Some(images) = &images else {
            let flag = if zca { "--normalize zca" } else { "--sheet" };
            return Err(usage(format!("{flag}: expected a data set of images, got {}, which holds points", args.data)));
        };
        let transforms = transforms(args, &dataset, images, &augment, session)?;
        if zca {
            whitened = Some(Whiteness::of(&dataset.train, &transforms.0)?);
        }
        if let Some(path) = &args.sheet {
            let (columns, rows) = sheet(args, &dataset, &transforms, session)?;
            save::write_bytes(path, &contact_sheet(&columns, &rows)?)?;
        }
    }
    let counts = [
        count(&*dataset.train, &dataset)?,
        match &dataset.val {
            Some(val) => count(&**val, &dataset)?,
            None => vec![0; dataset.classes.len()],
        },
        count(&*dataset.test, &dataset)?,
    ];
    let class = |(label, name)| Class { name, train: counts[0][label], val: counts[1][label], test: counts[2][label] };
    let facts = Facts {
        data: &args.data,
        train: dataset.train.len(),
        val: dataset.val.as_ref().map_or(0, |val| val.len()),
        test: dataset.test.len(),
        bad,
        orientation_noted,
        exif: options.exif,
        classes: dataset.classes.iter().map(String::as_str).enumerate().map(class).collect(),
        parts: &dataset.parts,
        images,
        augment,
        whitened,
        sheet: args.sheet.as_deref(),
    };
    session.result(&facts, || text(&facts, points))?;
    if facts.bad.is_empty() || args.bad.on_bad_image.unwrap_or_default() == OnBadImage::Skip {
        Ok(())
    } else {
        Err(Told.into())
    }
}

/// Reads every image of every part once and names those that cannot be read; what follows is about the others. With the number of
/// those that are to be turned.
fn without_bad(args: &DataArgs, dataset: &mut Dataset, session: &Session) -> Result<(Vec<Bad>, usize)> {
    let (mut found, mut orientation_noted) = (Vec::new(), 0);
    let parts = [("train", Some(&mut dataset.train)), ("val", dataset.val.as_mut()), ("test", Some(&mut dataset.test))];
    for (name, part) in parts {
        let Some(part) = part else { continue };
        let bar = progress::count(session, part.len(), "images read");
        let checked = Checked::of(&**part, Alpha::Dropped, &|| bar.inc(1));
        bar.finish_and_clear();
        dataset.notes.extend(checked.notes(name));
        orientation_noted += checked.orientation_noted;
        if checked.bad.is_empty() {
            continue;
        }
        tell_bad(&checked.bad, args.bad.on_bad_image.unwrap_or_default(), session);
        let good = checked.good();
        if good.is_empty() {
            return Err(Told.into());
        }
        *part = Arc::new(Subset::new(part.clone(), good)?);
        found.extend(checked.bad.into_iter().map(|bad| Bad {
            part: name,
            name: bad.name,
            error: bad.error.to_string(),
        }));
    }
    Ok((found, orientation_noted))
}

/// Sizes and levels of the training images.
fn images(dataset: &Dataset) -> Result<Images> {
    let channels = dataset.shape.map_or(3, |[channels, ..]| channels);
    let Statistics { mean, std, width, height } = Statistics::of(&*dataset.train, channels, Alpha::Dropped)?;
    Ok(Images { channels, width, height, mean, std })
}

/// Samples of every class.
fn count(samples: &dyn Samples, dataset: &Dataset) -> Result<Vec<usize>> {
    let mut counts = vec![0; dataset.classes.len()];
    for index in 0..samples.len() {
        let label = samples.label(index) as usize;
        match counts.get_mut(label) {
            Some(count) => *count += 1,
            None => bail!("{}: expected a label below {}, got {label}", samples.name(index), counts.len()),
        }
    }
    Ok(counts)
}

/// How images become inputs in evaluation, and in training.
fn transforms(
    args: &DataArgs,
    dataset: &Dataset,
    images: &Images,
    augment: &[Augment],
    session: &Session,
) -> Result<(Arc<Transform>, Transform)> {
    let (width, height) = match args.img_size {
        Some(size) => (size.width, size.height),
        None if images.width[0] == images.width[1] && images.height[0] == images.height[1] => {
            (images.width[0], images.height[0])
        }
        None => (SIDE, SIDE),
    };
    let (mean, std) = match args.normalize.as_str() {
        "none" => (vec![0.; images.channels], vec![1.; images.channels]),
        "zca" => (images.mean.clone(), vec![1.; images.channels]),
        _ => (images.mean.clone(), images.std.clone()),
    };
    let preprocessing = Preprocessing::new([images.channels, height, width], mean, std);
    let mut whitening = None;
    if args.normalize == "zca" {
        let eps = args.zca_eps.unwrap_or(TrainConfig::default().data.zca_eps);
        TrainConfig::check_zca_eps(eps)?;
        whitening::check_size(preprocessing.input_size)?;
        session.note(format!("fitting ZCA whitening to {} images", thousands(dataset.train.len())));
        whitening = whitening::fit(&*dataset.train, &preprocessing, eps, &|| false)?;
    }
    let evaluation = Transform::evaluation(&preprocessing)?.whitened(whitening.clone())?;
    Ok((Arc::new(evaluation), Transform::training(&preprocessing, augment)?.whitened(whitening)?))
}

/// The titles of the columns, and the first images of every class in turn: in evaluation, then in training epoch by epoch.
fn sheet(
    args: &DataArgs,
    dataset: &Dataset,
    (evaluation, training): &(Arc<Transform>, Transform),
    session: &Session,
) -> Result<(Vec<String>, Vec<SheetRow>)> {
    let row = |&index: &usize| -> Result<SheetRow> {
        let image = dataset.train.image(index)?;
        let draw = |epoch| Draw { seed: session.seed(), epoch, index: index as u64 };
        let mut inputs = vec![evaluation.tensor(&image, draw(0))?];
        for epoch in 0..EPOCHS {
            inputs.push(training.tensor(&image, draw(epoch))?);
        }
        let images = inputs.iter().map(|input| training.picture(input)).collect::<data::Result<_>>()?;
        Ok(SheetRow { label: dataset.classes[dataset.train.label(index) as usize].clone(), images })
    };
    let rows =
        in_turn(&*dataset.train, dataset.classes.len(), args.count).par_iter().map(row).collect::<Result<_>>()?;
    let columns = std::iter::once("test".into()).chain((1..=EPOCHS).map(|epoch| format!("epoch {epoch}"))).collect();
    Ok((columns, rows))
}

/// At most `count` samples: the first of every class, then the second of every class, and so on.
fn in_turn(samples: &dyn Samples, classes: usize, count: usize) -> Vec<usize> {
    let mut rounds = vec![0; classes];
    let mut order: Vec<(usize, u32, usize)> = (0..samples.len())
        .filter_map(|index| {
            let label = samples.label(index);
            let round = rounds.get_mut(label as usize)?;
            *round += 1;
            Some((*round, label, index))
        })
        .collect();
    order.sort_unstable();
    order.into_iter().take(count).map(|(.., index)| index).collect()
}

fn text(facts: &Facts, points: Option<usize>) -> String {
    let mut table = Table::new([
        ("class", Align::Left),
        ("training", Align::Right),
        ("validation", Align::Right),
        ("test", Align::Right),
    ]);
    let mut row = |name: &str, counts: [usize; 3]| {
        let [train, val, test] = counts.map(thousands);
        table.row([name.into(), train, val, test]);
    };
    facts.classes.iter().for_each(|class| row(class.name, [class.train, class.val, class.test]));
    row("all", [facts.train, facts.val, facts.test]);
    let mut text = table.to_string();
    for Part { name, role, source, why, samples } in facts.parts {
        let samples = samples.map_or("not counted".into(), |samples| format!("{} samples", thousands(samples)));
        text.push_str(&format!("\n{name}: {} ({source}, {samples}): {why}", role.name()));
    }
    if !facts.bad.is_empty() {
        text.push_str(&format!("\nbad images       {}, not counted above", thousands(facts.bad.len())));
    }
    if facts.orientation_noted > 0 {
        let count = thousands(facts.orientation_noted);
        text.push_str(&if facts.exif == Exif::Apply {
            format!("\nturned images    {count}, as their cameras noted (--exif ignore reads them as they lie in their files)")
        } else {
            format!("\nunturned images  {count}, although their cameras noted how they lie (--exif apply turns them)")
        });
    }
    if let Some(coordinates) = points {
        text.push_str(&format!("\npoints of {coordinates} coordinates"));
    }
    if let Some(Images { channels, width, height, mean, std }) = &facts.images {
        let range = |[least, most]: [usize; 2]| {
            if least == most { least.to_string() } else { format!("{least} to {most}") }
        };
        let list = |values: &[f64]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
        text.push_str(&format!(
            "\ntraining images  {} wide, {} high, {channels} {}\nmean             {}\ndeviation        {}",
            range(*width),
            range(*height),
            if *channels == 1 { "channel" } else { "channels" },
            list(mean),
            list(std)
        ));
    }
    if let Some(Whiteness { samples, mean, variance, covariance }) = &facts.whitened {
        text.push_str(&format!(
            "\nwhitened         {} images: means of values up to {mean:.1e}, their variance {variance:.3} on average, \
             covariance between two {covariance:.1e} (root mean square)",
            thousands(*samples)
        ));
    }
    if let Some(sheet) = facts.sheet {
        let names: Vec<&str> = facts.augment.iter().map(|augment| augment.name()).collect();
        let names = if names.is_empty() { "none".into() } else { names.join(",") };
        let shown = if facts.whitened.is_some() { ", whitened, 0 in grey" } else { "" };
        text.push_str(&format!("\nsheet            {} (--augment {names}{shown})", sheet.display()));
    }
    text
}
