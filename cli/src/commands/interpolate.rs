//! `tallow interpolate`: between a base and what was fine-tuned from it.

use std::path::Path;

use serde::Serialize;
use tallow_weights::save;

use crate::error::{Result, usage};
use crate::flags::InterpolateArgs;
use crate::output::{Align, Table};
use crate::progress::Progress;
use crate::session::Session;
use tallow::report::{interpolation, write_figure};
use tallow::train::interpolate::{AtAlpha, Interpolate, Interpolated};
use tallow::train::{RunFolder, Start};

#[derive(Serialize)]
struct Told<'a> {
    base: &'a str,
    run: &'a Path,
    data: &'a str,
    other_data: Option<&'a str>,
    alphas: &'a [AtAlpha],
    /// What was chosen; none where the run has no validation part that chooses.
    chosen: Option<&'a AtAlpha>,
    /// `val_accuracy`, or `given` where there is one value alone.
    chosen_by: Option<&'static str>,
    /// The folder; the chosen model lies in it, if one was chosen.
    out: &'a Path,
}

pub fn run(args: &InterpolateArgs, session: &Session) -> Result {
    if !args.run.join("config.toml").is_file() {
        return Err(usage(format!(
            "{}: expected the folder of a run, got none (no config.toml there)",
            args.run.display()
        )));
    }
    let out = args.out.clone().unwrap_or_else(|| args.run.join("interpolated"));
    // A folder that is empty, as that of a run has to be.
    RunFolder::new(&out).check_start(Start::New)?;
    let interpolate = Interpolate::new(&args.base, args.alpha.0.clone()).with(|c| {
        c.data = args.data.clone();
        c.device = session.flags().device.clone();
        c.hub = session.open_options();
    });
    let measured = interpolate.run(&RunFolder::new(&args.run), &mut Progress::new(session))?;
    if measured.chosen.is_some() {
        measured.write(&out)?;
    } else {
        session.warn(
            "the run has no validation part, and the test part chooses nothing: no model is written; train with --val-fraction, or give one value (--alpha 0.5)",
        );
        std::fs::create_dir_all(&out)?;
    }
    let title = format!("Between {} and {}", args.base, args.run.display());
    write_figure(&out.join("alpha"), &interpolation(&title, &measured))?;
    let (data, other_data) = (measured.data.0.as_str(), measured.data.1.as_deref());
    let chosen = measured.chosen.map(|(at, _)| &measured.points[at]);
    let told = Told {
        base: &args.base,
        run: &args.run,
        data,
        other_data,
        alphas: &measured.points,
        chosen,
        chosen_by: measured.chosen.map(|(_, by)| by),
        out: &out,
    };
    save::write_text(&out.join("interpolation.json"), &serde_json::to_string_pretty(&told)?)?;
    session.result(&told, || text(&measured, &out))
}

fn text(measured: &Interpolated, out: &Path) -> String {
    let other = measured.data.1.as_deref().unwrap_or("other data");
    let mut table = Table::new([
        ("alpha", Align::Right),
        ("validation", Align::Right),
        ("test", Align::Right),
        (other, Align::Right),
        ("", Align::Left),
    ]);
    let percent = |value: Option<f64>| value.map_or("–".into(), |value| format!("{:.2} %", 100. * value));
    for (at, point) in measured.points.iter().enumerate() {
        let chosen = if measured.chosen.is_some_and(|(chosen, _)| chosen == at) { "chosen" } else { "" };
        table.row([
            format!("{:.2}", point.alpha),
            percent(point.val_accuracy),
            percent(Some(point.test_accuracy)),
            percent(point.other_accuracy),
            chosen.into(),
        ]);
    }
    format!("{table}\n{}  {}", if measured.chosen.is_some() { "model  " } else { "picture" }, out.display())
}
