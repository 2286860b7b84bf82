//! Reports of made-up runs: what is in them, and what becomes of runs that are unfinished, damaged or hostile.
//!
//! What is written stays under `target/tmp/report` to be looked at in a browser.

mod fake_run;

use std::fs;
use std::path::{Path, PathBuf};

use fake_run::FakeRun;
use tallow::report::{self, Comparison, Figure, GroupOutcome, Outcome};
use tallow::train::RunFolder;
use tallow::train::run_folder::{Predictions, Summary};
use tallow::weights::account::{Account, Tensor, TensorFate};

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

/// The names of the files in a folder.
fn files(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
    sorted(fs::read_dir(folder).unwrap().map(name).collect())
}

/// Changes a file of a run.
fn edit(run: &RunFolder, file: &str, change: impl Fn(String) -> String) {
    let path = run.root().join(file);
    fs::write(&path, change(read(&path))).unwrap();
}

/// The message of a comparison that must fail.
fn failure(runs: &[RunFolder], out: &Path) -> String {
    report::compare(runs, out).expect_err("an error").to_string()
}

/// A run whose answers are given: `true` where it was right.
fn run_with_answers(root: &Path, name: &str, right: &[bool]) -> RunFolder {
    answering(FakeRun { name: name.into(), ..FakeRun::default() }, root, right)
}

/// A run with the answers that are given.
fn answering(run: FakeRun, root: &Path, right: &[bool]) -> RunFolder {
    let samples = right.len();
    let run = FakeRun { test_samples: samples, ..run }.write(root);
    let accuracy = right.iter().filter(|right| **right).count() as f64 / samples as f64;
    edit(&run, "summary.json", |text| {
        let mut summary: Summary = serde_json::from_str(&text).unwrap();
        (summary.test_accuracy, summary.final_test_accuracy) = (accuracy, accuracy);
        serde_json::to_string(&summary).unwrap()
    });
    let predictions = Predictions {
        labels: vec![3; samples],
        predicted: right.iter().map(|right| if *right { 3 } else { 5 }).collect(),
        confidence: vec![0.9; samples],
        mistakes: vec![],
        right: vec![],
    };
    fs::write(run.predictions_path(), serde_json::to_string(&predictions).unwrap()).unwrap();
    run
}

#[test]
fn two_runs_are_compared_on_one_small_page_that_needs_nothing_else() {
    let root = folder("two");
    let runs = [FakeRun::default().write(&root.join("a")), FakeRun::scratch().write(&root.join("b"))];
    let comparison = report::compare(&runs, &root.join("out")).unwrap();
    assert_eq!(
        comparison.headline,
        "pretrained 95.4 % against scratch 74.1 % after 3 epochs: the difference of 21.3 points is more than noise \
         (McNemar's exact test, p < 0.001)."
    );
    let html = read(&comparison.report);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    for part in [
        "<title>pretrained against scratch – Tallow</title>",
        "Loss over optimiser steps",
        "Accuracy over epochs",
        "93.9 to 96.5",
        "71.3 to 76.7",
        "epoch 3, the last",
        "21.6 M",
        "812 MB",
        "1 min 25 s",
        "from scratch",
        "0.0005",
        "src=\"data:image/png;base64,",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    for foreign in ["<script", "<link", "@import", "url(", "src=\"http", "href"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    for svg in ["loss.svg", "accuracy.svg"] {
        let svg = read(root.join("out").join(svg));
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        assert!(svg.contains(">pretrained</text>") && svg.contains(">scratch</text>"), "a legend");
        assert!(svg.contains("#0072b2") && !svg.contains("var("), "explicit colours");
    }
    let written = read(root.join("out/comparison.json"));
    assert_eq!(written, serde_json::to_string_pretty(&comparison).unwrap() + "\n");
}

#[test]
fn the_table_for_a_terminal_has_a_line_a_run_and_the_result() {
    let root = folder("terminal");
    let runs = [FakeRun::default().write(&root.join("a")), FakeRun::scratch().write(&root.join("b"))];
    let text = report::compare(&runs, &root.join("out")).unwrap().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "run         accuracy  95 % interval   final  epochs        time  images/s");
    assert_eq!(lines[1], "pretrained    95.4 %   93.9 to 96.5  95.4 %       3  1 min 25 s      83.1");
    assert_eq!(lines[2], "scratch       74.1 %   71.3 to 76.7  74.1 %       3  1 min 25 s      83.1");
    assert!(lines[4].ends_with("p < 0.001)."), "{}", lines[4]);
}

#[test]
fn the_same_runs_give_the_same_page() {
    let root = folder("same");
    let runs = [FakeRun::default().write(&root.join("a")), FakeRun::scratch().write(&root.join("b"))];
    report::compare(&runs, &root.join("out")).unwrap();
    let first = read(root.join("out/report.html"));
    report::compare(&runs, &root.join("out")).unwrap();
    assert_eq!(first, read(root.join("out/report.html")));
    let pictures =
        ["accuracy", "gradient-norm", "learning-rate", "loss", "learning-speed-by-images", "learning-speed-by-seconds"];
    let png = if cfg!(feature = "png") { Some("png") } else { None };
    let mut expected: Vec<String> = pictures
        .iter()
        .flat_map(|name| ["svg"].into_iter().chain(png).map(move |kind| format!("{name}.{kind}")))
        .collect();
    expected.extend(["comparison.json", "report.html"].map(String::from));
    assert_eq!(files(&root.join("out")), sorted(expected), "no temporary files are left");
}

// Reference: scipy 1.17.1, `binomtest(2, 11, 0.5).pvalue`.
#[test]
fn the_test_counts_the_samples_that_only_one_run_got_right() {
    let root = folder("mcnemar");
    let answers = |only_a: bool| -> Vec<bool> {
        let case = |i| match i {
            0..60 => true,
            60..62 => only_a,
            62..71 => !only_a,
            _ => false,
        };
        (0..100).map(case).collect()
    };
    let runs = [
        run_with_answers(&root.join("a"), "a", &answers(true)),
        run_with_answers(&root.join("b"), "b", &answers(false)),
    ];
    let comparison = report::compare(&runs, &root.join("out")).unwrap();
    let Outcome::Tested { both, only_a, only_b, neither, difference, p, p_corrected } = comparison.tests[0].outcome
    else {
        panic!("not tested");
    };
    assert_eq!((both, only_a, only_b, neither), (60, 2, 9, 29));
    assert!((difference + 0.07).abs() < 1e-12);
    assert!((p - 0.0654296875).abs() < 1e-12 && p_corrected == p);
    assert_eq!(
        comparison.headline,
        "b 69.0 % against a 62.0 % after 3 epochs: the difference of 7.0 points is within what chance alone gives \
         (McNemar's exact test, p = 0.065)."
    );
}

#[test]
fn many_runs_are_tested_in_pairs_with_holms_correction() {
    let root = folder("many");
    let run = |i: usize| FakeRun {
        name: format!("embed_dim {}", 16 << i),
        accuracy: 0.9 + 0.008 * i as f64,
        loss: 0.5 - 0.05 * i as f64,
        epochs: 4 + i,
        seed: i as u64,
        validation: i.is_multiple_of(3),
        ..FakeRun::default()
    };
    let runs: Vec<RunFolder> = (0..9).map(|i| run(i).write(&root.join(i.to_string()))).collect();
    let comparison = report::compare(&runs, &root.join("out")).unwrap();
    assert_eq!(comparison.tests.len(), 36);
    let p_values: Vec<(f64, f64)> = comparison
        .tests
        .iter()
        .filter_map(|test| match test.outcome {
            Outcome::Tested { p, p_corrected, .. } => Some((p, p_corrected)),
            _ => None,
        })
        .collect();
    let smallest = p_values.iter().map(|(p, _)| *p).fold(1., f64::min);
    assert!(
        p_values.contains(&(smallest, (36. * smallest).min(1.))),
        "the smallest is taken times the number of tests"
    );
    assert!(p_values.iter().all(|(p, corrected)| corrected >= p && *corrected <= 1.));
    assert!(
        comparison.headline.starts_with("embed_dim 4096 is the best of 9 runs with 96.4 %"),
        "{}",
        comparison.headline
    );
    assert!(comparison.headline.contains("Holm-corrected"), "{}", comparison.headline);
    let html = read(&comparison.report);
    assert!(html.contains("The same in every run: "));
    assert_eq!(html.matches("class=\"matrix\"").count(), 9);
}

/// Three widths with three seeds each, a hundred test samples, and so many right.
const RIGHT: [(usize, [usize; 3]); 3] = [(16, [80, 85, 84]), (32, [90, 92, 91]), (64, [91, 93, 93])];

/// Welch's test between every two of them: t, degrees of freedom, p, and p after Holm's correction.
const WELCH: [(f64, f64, f64, f64); 3] = [
    (-4.898979485566366, 2.5600000000000023, 0.023339160452827336, 0.04667832090565467),
    (-5.6000000000000085, 2.7352297592997843, 0.014335656668940511, 0.043006970006821535),
    (-1.5118578920369046, 3.92, 0.2065258321579979, 0.2065258321579979),
];

fn sweep(root: &Path, seeds: usize) -> Vec<RunFolder> {
    let of_width = |(width, right): (usize, [usize; 3])| {
        (0..seeds).map(move |seed| {
            let run = FakeRun {
                name: format!("embed_dim={width} seed {seed}"),
                set: format!("embed_dim = \"{width}\""),
                trained_with: seed as u64,
                seed: (width + seed) as u64,
                accuracy: right[seed] as f64 / 100.,
                ..FakeRun::default()
            };
            let answers: Vec<bool> = (0..100).map(|i| i < right[seed]).collect();
            answering(run, &root.join(format!("{width}-{seed}")), &answers)
        })
    };
    RIGHT.into_iter().flat_map(of_width).collect()
}

// References: numpy's mean and std(ddof=1); scipy 1.17.1, `ttest_ind(a, b, equal_var=False)`; the correction is tested against
// statsmodels where it is.
#[test]
fn runs_that_differ_in_their_seed_are_compared_in_groups_by_mean_deviation_and_welchs_test() {
    let root = folder("seeds");
    let comparison = report::compare(&sweep(&root, 3), &root.join("out")).unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} is not {b}");
    let expected =
        [(0.83, 0.02645751311064586), (0.91, 0.010000000000000009), (0.9233333333333333, 0.011547005383792525)];
    for ((group, (mean, deviation)), width) in comparison.groups.iter().zip(expected).zip([16, 32, 64]) {
        assert_eq!((group.name.clone(), group.runs.len()), (format!("embed_dim={width}"), 3));
        let spread = group.test_accuracy.unwrap();
        near(spread.mean, mean);
        near(spread.deviation.unwrap(), deviation);
    }
    assert_eq!(comparison.group_tests.len(), 3);
    for (test, (t, degrees, p, p_corrected)) in comparison.group_tests.iter().zip(WELCH) {
        let GroupOutcome::Tested { t: found_t, degrees: found_degrees, p: found_p, p_corrected: corrected, .. } =
            test.outcome
        else {
            panic!("not tested");
        };
        near(found_t, t);
        near(found_degrees, degrees);
        near(found_p, p);
        near(corrected, p_corrected);
    }
    assert_eq!(
        comparison.headline,
        "embed_dim=64 is the best of 3 settings with 92.3 ± 1.2 % (3 seeds), ahead of embed_dim=32 with 91.0 ± 1.0 % \
         (3 seeds): the difference of 1.3 points is within what chance alone gives (Welch's t-test over seeds, p = 0.21, \
         Holm-corrected)."
    );
    let text = comparison.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "runs          seeds      accuracy        test loss        time");
    assert_eq!(lines[1], "embed_dim=16      3  83.0 ± 2.6 %  0.1560 ± 0.0000  1 min 25 s");
    let html = read(&comparison.report);
    for part in [
        "Accuracy over embed_dim",
        "More than the seed?",
        "Bars reach one standard deviation over the seeds",
        "embed_dim 16",
        "class=\"multiples\"",
        "Lines are means over the seeds.",
        "Which learns quicker",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(!html.contains("Seeds were not varied"));
}

#[test]
fn a_sweep_is_drawn_over_its_values_with_bars_that_reach_the_deviation() {
    let root = folder("sweep");
    report::compare(&sweep(&root, 3), &root.join("out")).unwrap();
    let svg = read(root.join("out/results.svg"));
    assert!(svg.contains(">embed_dim (logarithmic)</text>"), "doublings");
    for width in [16, 32, 64] {
        assert!(svg.contains(&format!(">{width}</text>")), "a tick at {width}");
    }
    assert!(svg.contains("embed_dim=32: test accuracy 91.0 ± 1.0 %, mean of 3 seeds"));
    assert_eq!(svg.matches(" bar\"").count(), 2, "bars of test and training accuracy");
    let multiples = read(root.join("out/multiples.svg"));
    assert_eq!(multiples.matches("<svg").count(), 1 + 6, "loss and accuracy of each");

    // With one seed for each the bars are Wilson's, and the page says so.
    let comparison = report::compare(&sweep(&folder("sweep-one-seed"), 1), &root.join("one")).unwrap();
    assert!(comparison.group_tests.is_empty());
    let html = read(&comparison.report);
    assert!(html.contains("Bars are the 95 % interval (Wilson)") && html.contains("Seeds were not varied"));

    // Pictures of an earlier comparison do not stay beside another one's report.
    report::compare(&sweep(&folder("sweep-one-run"), 1)[..1], &root.join("one")).unwrap();
    assert!(files(&root.join("one")).iter().all(|name| !name.starts_with("results") && !name.starts_with("multiples")));
}

#[test]
fn a_ladder_is_drawn_as_a_row_for_each_rung_in_the_order_given() {
    let root = folder("ladder");
    let rungs = ["nothing", "+ standardisation", "+ crop and flip", "+ a rung whose name is a good deal too long"];
    let run = |(i, name): (usize, &&str)| {
        let set = format!("rung = \"{name}\"");
        FakeRun { name: name.to_string(), set, seed: i as u64, accuracy: 0.7 + 0.04 * i as f64, ..FakeRun::default() }
            .write(&root.join(i.to_string()))
    };
    let runs: Vec<RunFolder> = rungs.iter().enumerate().map(run).collect();
    let comparison = report::compare(&runs, &root.join("out")).unwrap();
    assert!(comparison.group_tests.is_empty() && comparison.groups.len() == 4);
    let svg = read(root.join("out/results.svg"));
    let lines = ["nothing", "+ standardisation", "+ crop and flip", "+ a rung whose name is a", "good deal too long"];
    let places: Vec<usize> = lines
        .iter()
        .map(|line| svg.find(&format!(">{line}</text>")).expect("a line of a name, which is not cut"))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(!root.join("out/multiples.svg").exists());
    assert!(read(&comparison.report).contains("What each reached"));
}

#[test]
fn groups_whose_seeds_all_gave_the_same_or_of_one_seed_are_not_tested() {
    let root = folder("same-seeds");
    let run = |name: &str, lr: f64, seed: u64, right: usize| {
        let run = FakeRun { name: format!("{name} seed {seed}"), lr, trained_with: seed, ..FakeRun::default() };
        let answers: Vec<bool> = (0..100).map(|i| i < right).collect();
        answering(run, &root.join(format!("{name}{seed}")), &answers)
    };
    let runs =
        [run("a", 0.1, 0, 90), run("a", 0.1, 1, 90), run("b", 0.2, 0, 80), run("b", 0.2, 1, 80), run("c", 0.3, 0, 70)];
    let comparison = report::compare(&runs, &root.join("out")).unwrap();
    let reasons: Vec<&str> = comparison
        .group_tests
        .iter()
        .map(|test| match &test.outcome {
            GroupOutcome::NotTested { reason } => reason.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(reasons[0], "every seed gave the same accuracy, so there is no deviation to test against");
    assert_eq!(reasons[1], "c seed 0 has one finished run, a test needs two with different seeds");
}

#[test]
fn the_pictures_of_a_run_are_files_of_its_folder_and_its_own_figures_stand_in_the_report() {
    let root = folder("figures");
    let run = FakeRun::default().write(&root);
    let figure = Figure {
        stem: "boundary".into(),
        title: "Where the classes meet".into(),
        caption: "Points are test points.".into(),
        svg: "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tallow-figure\" width=\"9\" height=\"9\"></svg>".into(),
    };
    figure.write(&root).unwrap();
    fs::write(root.join("figures/foreign.svg"), "<svg onload=\"alert(1)\"></svg>").unwrap();
    let html = read(report::single(&run).unwrap().report);
    assert!(html.contains("Where the classes meet") && html.contains("Points are test points."));
    assert!(!html.contains("onload") && html.matches("data:image/svg+xml").count() == 1);
    for name in ["loss.svg", "accuracy.svg"] {
        assert!(root.join(name).is_file(), "{name}");
    }
    assert!(!root.join("results.svg").exists() && !root.join("learning-speed-by-images.svg").exists());
}

#[test]
fn runs_on_other_test_sets_are_shown_but_not_tested() {
    let root = folder("other-test-set");
    let cifar = FakeRun { name: "cifar".into(), test_set: "another".into(), ..FakeRun::scratch() };
    let runs = [FakeRun::default().write(&root.join("a")), cifar.write(&root.join("b"))];
    let comparison = report::compare(&runs, &root.join("out")).unwrap();
    let reason = "their test sets are not the same".to_string();
    assert_eq!(comparison.tests[0].outcome, Outcome::NotTested { reason });
    assert!(
        comparison.headline.ends_with("(not tested: their test sets are not the same)."),
        "{}",
        comparison.headline
    );
    assert!(read(&comparison.report).contains("Not tested: their test sets are not the same."));
}

#[test]
fn an_unfinished_run_is_shown_with_what_is_there() {
    let root = folder("unfinished");
    let scratch = FakeRun::scratch().write_unfinished(&root.join("b"), 2);
    let comparison =
        report::compare(&[FakeRun::default().write(&root.join("a")), scratch.clone()], &root.join("out")).unwrap();
    let row = &comparison.runs[1];
    assert_eq!((row.name.as_str(), row.finished, row.epochs, row.steps), ("scratch", false, 2, 124));
    assert_eq!((row.test_accuracy, row.interval), (None, None));
    assert!(row.final_test_accuracy.is_some());
    assert_eq!(comparison.headline, "pretrained: 95.4 % after 3 epochs. One run has not finished.");
    let html = read(&comparison.report);
    assert!(html.contains("scratch (unfinished)") && html.contains("Not tested: scratch has not finished."));

    let alone = report::single(&scratch).unwrap();
    assert_eq!(alone.headline, "No final result yet: scratch is at 70.9 % after epoch 2.");
    // A run that has only just begun.
    fs::write(scratch.metrics_path(), "").unwrap();
    assert_eq!(report::single(&scratch).unwrap().headline, "No test results yet. The run has not finished.");
}

#[test]
fn the_account_of_a_load_is_told_in_short() {
    let root = folder("load");
    let run = FakeRun::default().write(&root);
    let tensor = |name: &str, fate| TensorFate { name: name.into(), shape: vec![10, 384], fate };
    let left_out = Tensor::LeftOut { why: "the <head> has other classes".into() };
    let account = Account {
        source: "weights.gguf".into(),
        naming: "timm".into(),
        tensors: vec![tensor("norm.weight", Tensor::Used), tensor("head.weight", left_out)],
        ..Account::default()
    };
    fs::write(run.load_path(), serde_json::to_string(&account).unwrap()).unwrap();
    let html = read(report::single(&run).unwrap().report);
    assert!(
        html.contains("Loaded weights") && html.contains("left out: head.weight: the &lt;head&gt; has other classes")
    );
}

#[test]
fn a_run_by_itself_gets_a_report_in_its_folder() {
    let root = folder("single");
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    let run =
        FakeRun { classes: classes.map(String::from).to_vec(), validation: true, ..FakeRun::default() }.write(&root);
    let comparison = report::single(&run).unwrap();
    assert_eq!(comparison.headline, "95.4 % of 1,000 test images right (95 % interval 93.9 to 96.5) after 3 epochs.");
    let html = read(root.join("report.html"));
    assert!(html.contains("epoch 2, best on validation") && html.contains("automobile taken for "));
    assert!(!html.contains("More than chance?"));
}

#[test]
fn of_many_classes_the_most_confused_are_listed_instead_of_a_matrix() {
    let root = folder("classes");
    let many = FakeRun {
        classes: (0..1000).map(|i| format!("n{i:04} with quite a long name")).collect(),
        test_samples: 5000,
        accuracy: 0.8,
        picture: 96,
        epochs: 60,
        steps_per_epoch: 391,
        ..FakeRun::default()
    };
    let long =
        "a_very_long_name_that_somebody_made_up_from_all_settings_lr=3e-4_wd=0.05_bs=64_sched=cosine".to_string();
    let runs =
        [many.write(&root.join("a")), FakeRun { name: long, seed: 3, epochs: 30, ..many }.write(&root.join("b"))];
    let html = read(report::compare(&runs, &root.join("out")).unwrap().report);
    assert!(html.contains("Most confused of ") && html.contains("Weakest classes"));
    assert!(!html.contains("class=\"matrix\"") && html.len() < 1_000_000, "{} bytes", html.len());
}

#[test]
fn text_from_outside_cannot_become_markup_or_command_a_terminal() {
    let root = folder("hostile");
    let evil = "<script>alert('1')</script>\"&\u{1b}[2J\n\u{202e}".to_string();
    let run = FakeRun {
        name: evil.clone(),
        weights: Some(evil.clone()),
        classes: vec![evil.clone(); 3],
        ..FakeRun::default()
    };
    let run = run.write(&root.join("a"));
    edit(&run, "predictions.json", |text| {
        let mut predictions: Predictions = serde_json::from_str(&text).unwrap();
        predictions.mistakes[0].name = evil.clone();
        predictions.mistakes[1].picture = "\"><script>alert(2)</script>".into();
        serde_json::to_string(&predictions).unwrap()
    });
    let comparison = report::compare(&[run.clone(), run], &root.join("out")).unwrap();
    for file in ["report.html", "loss.svg", "accuracy.svg"] {
        let text = read(root.join("out").join(file));
        assert!(!text.contains("<script"), "{file}");
        assert!(text.contains("&lt;script&gt;"), "{file}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{file}");
    }
    assert!(!comparison.to_string().contains(['\u{1b}', '\u{202e}']));
    assert_eq!(comparison.to_string().lines().count(), 6, "a name with a line break still takes one line");
}

#[test]
fn runs_of_one_name_are_told_apart() {
    let root = folder("names");
    let run = FakeRun::default().write(&root.join("a"));
    let comparison = report::compare(&[run.clone(), run.clone(), run], &root.join("out")).unwrap();
    let names: Vec<&str> = comparison.runs.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["pretrained", "pretrained (2)", "pretrained (3)"]);
    assert!(comparison.headline.ends_with("with 95.4 %: no difference."), "{}", comparison.headline);
}

#[test]
fn losses_that_are_no_numbers_leave_gaps() {
    let root = folder("nan");
    let run = FakeRun::default().write(&root.join("a"));
    edit(&run, "metrics.jsonl", |text| {
        let lines = text.lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            if line["step"] == 40 {
                line["loss"] = serde_json::Value::Null;
            }
            if line["kind"] == "epoch" && line["epoch"] == 1 {
                line["test_loss"] = serde_json::Value::Null;
            }
            line.to_string() + "\n"
        });
        lines.collect()
    });
    edit(&run, "summary.json", |text| {
        let mut summary: serde_json::Value = serde_json::from_str(&text).unwrap();
        (summary["test_loss"], summary["images_per_second"]) = (serde_json::Value::Null, serde_json::Value::Null);
        summary.to_string()
    });
    assert!(run.summary().unwrap().test_loss.is_nan());
    assert!(run.metrics().unwrap().epochs[0].test_loss.is_finite());
    let html = read(report::single(&run).unwrap().report);
    assert!(!html.contains("NaN") && !html.contains("inf"));
    assert!(html.contains("not a number"), "the test loss in the table");
}

#[test]
fn a_damaged_run_is_named_with_file_line_and_reason() {
    let root = folder("damaged");
    let out = root.join("out");
    let run = |name: &str| FakeRun::default().write(&root.join(name));

    let bad_line = run("bad-line");
    edit(&bad_line, "metrics.jsonl", |text| {
        text.replacen("{\"kind\":\"step\",\"epoch\":0,\"step\":2", "{\"kind\":\"stop\",\"step\":2", 1)
    });
    let message = failure(&[bad_line], &out);
    assert!(message.contains("metrics.jsonl: expected a step or an epoch in line 3, got "), "{message}");

    let cut = run("cut");
    edit(&cut, "summary.json", |text| text[..text.len() / 2].into());
    let message = failure(&[cut], &out);
    assert!(message.contains("summary.json: expected a run's summary, got "), "{message}");

    let lengths = run("lengths");
    edit(&lengths, "predictions.json", |text| text.replacen("\"predicted\":[", "\"predicted\":[0,", 1));
    let message = failure(&[lengths], &out);
    assert!(
        message.contains("expected 1000 predictions and confidences for 1000 labels, got 1001 and 1000"),
        "{message}"
    );

    let accuracy = run("accuracy");
    edit(&accuracy, "summary.json", |text| text.replace("\"test_accuracy\": 0.954", "\"test_accuracy\": 0.99"));
    let message = failure(&[accuracy], &out);
    assert!(
        message.contains("expected a test accuracy of 0.99, as summary.json says, got 954 of 1000 right"),
        "{message}"
    );

    let config = run("config");
    edit(&config, "config.toml", |text| text + "= 3\n");
    let message = failure(&[config], &out);
    assert!(message.contains("config.toml: expected a run's configuration in TOML, got "), "{message}");
    assert!(!out.exists(), "nothing is written when a run cannot be read");
}

#[test]
fn a_last_line_that_is_being_written_is_left_out() {
    let root = folder("last-line");
    let run = FakeRun::scratch().write_unfinished(&root, 1);
    edit(&run, "metrics.jsonl", |text| text + "{\"kind\":\"step\",\"epoch\":1,\"st");
    assert_eq!(report::single(&run).unwrap().runs[0].steps, 62);
}

#[test]
fn what_is_no_run_is_refused() {
    let root = folder("no-run");
    let out = root.join("out");
    assert_eq!(failure(&[], &out), "no runs: expected at least one run's folder, got none");
    let message = failure(&[RunFolder::new(root.join("absent"))], &out);
    assert!(message.contains("absent: expected a run's folder") && message.contains("got nothing there"), "{message}");
    fs::write(root.join("file"), "").unwrap();
    assert!(failure(&[RunFolder::new(root.join("file"))], &out).contains("got a file"));
    assert!(failure(&[RunFolder::new(&root)], &out).contains("got a folder without any of them"));
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_and_leaves_what_was_there() {
    let root = folder("unwritable");
    let run = FakeRun::default().write(&root.join("a"));
    fs::write(root.join("file"), "precious").unwrap();
    let message = failure(std::slice::from_ref(&run), &root.join("file"));
    assert!(message.contains("file: the report cannot be written: ") && message.contains("`out`"), "{message}");
    assert_eq!(read(root.join("file")), "precious");
    // A folder where the page belongs.
    fs::create_dir_all(root.join("out/report.html")).unwrap();
    let message = failure(&[run], &root.join("out"));
    assert!(message.contains("report.html: the report cannot be written: "), "{message}");
    let left = fs::read_dir(root.join("out")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".tmp")));
}

/// The numbers of a comparison reach other programs by names that do not change.
#[test]
fn the_json_has_the_names_that_programs_rely_on() {
    let root = folder("json");
    let runs = [FakeRun::default().write(&root.join("a")), FakeRun::scratch().write(&root.join("b"))];
    let comparison: Comparison = report::compare(&runs, &root.join("out")).unwrap();
    let json = serde_json::to_value(comparison).unwrap();
    assert_eq!(json["runs"][0]["test_accuracy"], 0.954);
    assert_eq!(json["runs"][1]["weights"], serde_json::Value::Null);
    assert_eq!((&json["tests"][0]["a"], &json["tests"][0]["outcome"]), (&0.into(), &"tested".into()));
    assert_eq!(json["tests"][0]["only_a"], 213);
}
