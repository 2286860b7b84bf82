//! Bad input: exit status 1 or 2, one message, no panic, in time.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{Ended, Sandbox};

/// Runs a command that has to be refused with this exit status, within seconds, and gives the message.
pub fn refused(tallow: &Sandbox, line: &str, code: i32) -> String {
    let mut child = tallow.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tallow starts");
    let since = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if since.elapsed() > Duration::from_secs(30) {
            child.kill().expect("SIGKILL");
            panic!("tallow {line}: no end after 30 s");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = Ended::from(child.wait_with_output().expect("a child"));
    assert_eq!(ended.code, Some(code), "tallow {line}: {ended:?}");
    assert_eq!(ended.stdout, "", "tallow {line}: results only on success");
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "tallow {line}: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "tallow {line}: {}", ended.stderr);
    errors[0].to_string()
}

#[test]
fn what_the_command_line_gets_wrong_is_told_with_status_2() {
    let tallow = Sandbox::new();
    for (line, what) in [
        ("", "subcommand"),
        ("nonsense", "unrecognized subcommand 'nonsense'"),
        ("train mlp_mnist", "--data"),
        ("train mlp_mnist --data mnist --lr fast", "--lr"),
        ("train mlp_mnist --data mnist --lr -1", "lr: expected a number above 0, got -1"),
        ("train mlp_mnist --data mnist --lr nan", "lr: expected a number above 0, got NaN"),
        ("train mlp_mnist --data mnist --epochs 0", "--epochs"),
        ("train mlp_mnist --data mnist --batch-size -4", "--batch-size"),
        ("train mlp_mnist --data mnist --optimizer magic", "possible values"),
        ("train vit_mnist --data mnist --freeze blocks.2-9", "freeze: expected blocks.A-B"),
        ("finetune vit_small_patch14_dinov2.saliency --data mnist --freeze *", "leaves a parameter to train"),
        ("train mlp_mnist --data mnist --limit 18446744073709551615", "at most 9223372036854775807"),
        ("train mlp_mnist --data mnist --epochs 9223372036854775807", "epochs: expected at most 4294967295"),
        ("train mlp_mnist --data mnist --normalize white", "possible values: auto, standard, zca, none"),
        ("train mlp_mnist --data mnist --normalize zca --zca-eps 0", "zca_eps: expected a number of at least 1e-8"),
        ("train mlp_mnist --data mnist --mixup 1000", "mixup: expected 0 for none, or a number from 0.01 to 100"),
        ("train mlp_mnist --data mnist --cutmix -1", "cutmix: expected 0 for none"),
        ("train mlp_mnist --data mnist --ema 1", "ema: expected a number in [0, 1)"),
        ("train mlp_mnist --data mnist --val-fraction 1", "val_fraction: expected"),
        ("train mlp_mnist --data mnist --betas 0.9", "--betas"),
        ("train mlp_mnist --data mnist --set depth", "KEY=VALUE"),
        ("train mlp_mnist --data mnist --seed 18446744073709551615", "--seed"),
        ("train --resume", "--out"),
        ("train --resume --out nowhere", "no run to go on with"),
        ("doctor --threads 0", "--threads"),
        ("doctor --threads 100000", "--threads"),
        ("doctor --device tpu", "--device"),
        ("doctor --kernels sse", "--kernels: expected auto, fixed, or what this CPU has ("),
        ("train mlp_mnist --data mnist --kernels avx512-bf16", "gemm), got avx512-bf16"),
        ("bench mlp_mnist --device cuda:x", "--device"),
        ("train mlp_mnist --data mnist --dtype int8", "dtype: expected f32"),
        ("bench mlp_mnist --dtype int8", "int8"),
        ("bench mlp_mnist --mode infer --dtype int8", "int8"),
        ("embed vit_small_patch14_dinov2.saliency --out f.safetensors", "required arguments"),
        ("predict vit_small_patch14_dinov2.saliency d.png", "classification head"),
        ("predict vit_small_patch14_dinov2.saliency d.png --num-classes 3 --img-size 28", "leave out the options"),
        (
            "predict vit_small_patch14_dinov2.saliency d.png --img-size 28 --attention d.png",
            "expected a folder, got a file",
        ),
        ("export vit_small_patch14_dinov2.saliency --num-classes 0 --out w.gguf", "add --format gguf"),
        (
            "train mlp_mnist --data mnist --num-classes 11 --out r",
            "num_classes: expected 10, as many classes as mnist has",
        ),
        (
            "train mlp_mnist --data mnist --num-classes 9 --out r",
            "num_classes: expected 10, as many classes as mnist has",
        ),
        ("train mlp_mnist --data mnist --set num_classes=0 --out r", "num_classes: expected 10"),
        ("draw positions", "--out"),
        ("draw positions --len 0 --out p", "from 1 to 4096"),
        ("draw positions --dim 5000 --out p", "from 1 to 4096"),
        ("draw positions cnn_cifar10 --out p", "expected a ViT"),
        ("draw positions vit_mnist --set pos_embed=none --out p", "expected position embeddings, got none"),
        ("draw positions vit_small_patch14_dinov2.saliency --len 10 --out p", "--len"),
        ("draw filters --out p", "required arguments"),
    ] {
        if line.contains("d.png") {
            tallow.digit(0, "d.png");
        }
        let mut message = String::new();
        if line.is_empty() {
            // Without a command, help is what is needed.
            assert_eq!(tallow.run(line).code, Some(2));
        } else {
            message = refused(&tallow, line, 2);
        }
        assert!(line.is_empty() || message.contains(what), "tallow {line}: {message}");
    }
}

#[test]
fn what_is_not_there_or_not_what_it_should_be_is_told_with_status_1() {
    let tallow = Sandbox::new();
    tallow.digit(0, "digit.png");
    let whole = tallow.read("digit.png");
    tallow.write("cut.png", &whole[..whole.len() / 2]);
    tallow.write("text.png", "no image");
    tallow.write("empty.png", "");
    tallow.write("weights/model.safetensors", [255; 64]);
    tallow.write("weights/config.json", "{}");
    tallow.write("huge.safetensors", [&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    tallow.write("photos/train/a/x.png", "no image");
    tallow.write("photos/train/b/x.png", "no image");
    tallow.write("idx/train-images-idx3-ubyte", [0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 0, 28, 0, 0, 0, 28]);
    tallow.write(
        "alike/train-images-idx3-ubyte",
        [&[0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1][..], &[7; 9]].concat(),
    );
    tallow.write("alike/train-labels-idx1-ubyte", [&[0, 0, 8, 1, 0, 0, 0, 9][..], &[0; 9]].concat());
    tallow.write("recipe.toml", "[[run]]\nname = 3");
    let run = "command = 'train'\nmodel = 'mlp_mnist'\ndata = 'mnist'\n";
    tallow.write("typo.toml", format!("[[run]]\nname = 'a'\n{run}[[run]]\nname = 'b'\n{run}set.depht = 3\n"));
    tallow.write("not-utf8.toml", [0xff, 0xfe]);
    tallow.write("run/config.toml", "model = 3");
    let run = "train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 --out trained";
    tallow.ok(run);
    for (line, what) in [
        (run, "--resume"),
        // Before anything is fetched or loaded.
        ("train vit_mnist --data no-such-data --weights nowhere --out trained", "the folder is not empty"),
        ("finetune hf-hub:no/model --data mnist --out trained", "the folder is not empty"),
        ("list no-such-model", "tallow list"),
        ("train no-such-model --data mnist", "tallow list"),
        ("train mlp_mnist --data no-such-data", "folder:DIR"),
        ("train mlp_mnist --data folder:nowhere", "nowhere"),
        ("train mlp_mnist --data folder:photos", "photos"),
        ("train mlp_mnist --data circles --out points", "--in-chans 2 --img-size 1"),
        ("train mlp_mnist --data idx:alike", "at least two classes"),
        ("train mlp_mnist --data parquet:photos", "end in .parquet"),
        ("train mlp_mnist --data idx:idx", "idx"),
        ("train mlp_mnist --data mnist --set no_such_option=1", "no_such_option"),
        ("train vit_mnist --data mnist --patch-size 5", "patch_size"),
        ("train vit_mnist --data mnist --set depth=1000000000", "depth"),
        ("train vit_mnist --data mnist --weights nowhere", "nowhere"),
        ("train mlp_mnist --data mnist --augment magic", "augment"),
        ("train vit_small_patch16_224 --data mnist --normalize zca", "inputs of at most 4096 values"),
        ("train mlp_mnist --data circles --in-chans 2 --img-size 1 --normalize zca", "images for --normalize zca"),
        ("train mlp_mnist --data circles --in-chans 2 --img-size 1 --mixup 1", "images for --mixup"),
        ("train mlp_mnist --data mnist --limit 20 --out digit.png", "digit.png"),
        ("finetune vit_mnist --data mnist", "vit_mnist"),
        ("train --resume --out trained --lr 3", "lr"),
        ("train --resume --out run", "config.toml"),
        ("eval nowhere", "nowhere"),
        ("eval trained --data folder:photos", "photos"),
        ("eval trained --data circles", "samples of the model's 10 classes (\"0\", \"1\""),
        ("predict trained nowhere.png", "nowhere.png"),
        ("predict trained cut.png", "cut.png"),
        ("predict trained text.png", "text.png"),
        ("predict trained empty.png", "empty.png"),
        ("predict weights digit.png", "weights"),
        ("predict huge.safetensors digit.png", "huge.safetensors"),
        ("predict hf-hub:owner digit.png", "hf-hub:OWNER/REPO"),
        ("embed trained digit.png --out nowhere/f.safetensors", "nowhere"),
        ("export trained --out digit.png/x", "digit.png"),
        ("compare nowhere", "nowhere"),
        ("info nowhere/model.safetensors", "nowhere"),
        ("fetch no-such-model", "no-such-model"),
        ("run nowhere.toml", "nowhere.toml"),
        ("run recipe.toml", "recipe.toml: run 1: name"),
        ("run typo.toml", "typo.toml: run \"b\": no option is called \"depht\""),
        ("run not-utf8.toml", "not-utf8.toml"),
    ] {
        let message = refused(&tallow, line, 1);
        assert!(message.contains(what), "tallow {line}: {message}");
    }
}

#[cfg(feature = "hub")]
#[test]
fn without_a_network_a_model_of_the_hub_is_refused_with_a_remedy() {
    let tallow = Sandbox::new();
    let message = refused(&tallow, "info vit_small_patch16_224.augreg_in1k", 1);
    assert!(message.contains("vit_small_patch14_dinov2.saliency"), "names the bundled model: {message}");
}

#[cfg(unix)]
#[test]
fn what_has_no_end_is_no_image() {
    let tallow = Sandbox::new();
    tallow.ok("train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 --out trained");
    let message = refused(&tallow, "predict trained /dev/zero", 1);
    assert!(message.contains("/dev/zero: expected an image of at most"), "{message}");
}

#[test]
fn a_run_that_diverges_stops_with_what_to_change() {
    let tallow = Sandbox::new();
    let line =
        "train mlp_mnist --data mnist --limit 200 --test-limit 10 --epochs 2 --batch-size 20 --lr 1e30 --clip-grad 0";
    let message = refused(&tallow, &format!("{line} --out diverged"), 1);
    assert!(message.contains("--lr") && message.contains("no checkpoint had been written yet"), "{message}");
    let message = refused(&tallow, "eval diverged", 1);
    assert!(message.contains("got none yet") && message.contains("--resume"), "{message}");
    // Also where only what is measured after the last step shows it.
    for method in ["mae", "dino --local-crops 0"] {
        let line = format!("pretrain vit_mnist --data mnist --limit 20 --test-limit 10 --method {method}");
        let message = refused(&tallow, &format!("{line} --epochs 1 --batch-size 20 --lr 1e30"), 1);
        assert!(message.contains("--lr"), "{message}");
    }
}
