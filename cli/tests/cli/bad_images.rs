//! Images that cannot be read, folders full of other things, rectangles, and pictures with an alpha channel.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// The lines of stderr that begin with `prefix`.
fn lines<'a>(stderr: &'a str, prefix: &str) -> Vec<&'a str> {
    stderr.lines().filter(|line| line.starts_with(prefix)).collect()
}

/// `photos/{train,test}/{a,b}` with four digits each, of which one in every part and one more in `test/b` are bad.
fn photos(tallow: &Sandbox) {
    for (part, first) in [("train", 0), ("test", 20)] {
        for (class, offset) in [("a", 0), ("b", 4)] {
            for i in 0..4 {
                tallow.digit(first + offset + i, &format!("photos/{part}/{class}/{i}.png"));
            }
        }
    }
    let whole = tallow.read("photos/train/a/0.png");
    tallow.write("photos/train/a/cut.png", &whole[..whole.len() / 2]);
    tallow.write("photos/test/a/empty.jpg", "");
    tallow.write("photos/test/b/page.jpg", "<!DOCTYPE html><html></html>");
}

const TRAIN: &str = "train mlp_mnist --data folder:photos --img-size 8 --epochs 1 --batch-size 4 --device cpu";

#[test]
fn data_names_every_bad_image_of_every_part_and_fails_unless_they_are_to_be_skipped() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let ended = tallow.run("data folder:photos --json");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told = lines(&ended.stderr, "error: ");
    assert_eq!(told.len(), 3, "{}", ended.stderr);
    for (line, name) in told.iter().zip(["train/a/cut.png", "test/a/empty.jpg", "test/b/page.jpg"]) {
        assert!(line.contains(name), "{line}");
    }
    let facts: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&facts["train"], &facts["test"]), (&8.into(), &8.into()));
    let bad: Vec<_> = facts["bad"].as_array().unwrap().iter().map(|bad| (&bad["part"], &bad["name"])).collect();
    assert_eq!(bad[0], (&"train".into(), &"train/a/cut.png".into()));
    assert_eq!((bad.len(), bad[2]), (3, (&"test".into(), &"test/b/page.jpg".into())));

    let facts = tallow.json("data folder:photos --on-bad-image skip");
    assert_eq!(facts["bad"].as_array().unwrap().len(), 3);
    let ended = tallow.ok("data folder:photos --on-bad-image skip");
    assert_eq!(lines(&ended.stderr, "warning: skipped: ").len(), 3, "{}", ended.stderr);
    assert!(ended.stdout.contains("bad images       3, not counted above"), "{}", ended.stdout);
}

#[test]
fn a_bad_test_image_is_found_before_the_first_epoch_and_skipped_on_request() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let ended = tallow.run(&format!("{TRAIN} --out run"));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let errors = lines(&ended.stderr, "error: ");
    assert_eq!(errors.len(), 1, "{}", ended.stderr);
    for part in ["2 of 10 images cannot be read: test/a/empty.jpg, test/b/page.jpg", "--on-bad-image skip"] {
        assert!(errors[0].contains(part), "{errors:?}");
    }
    assert!(!ended.stderr.contains("epoch 1"), "{}", ended.stderr);

    let ended = tallow.ok(&format!("{TRAIN} --out run --on-bad-image skip --json"));
    let summary: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&summary["train_samples"], &summary["test_samples"]), (&8.into(), &8.into()));
    assert_eq!(lines(&ended.stderr, "warning: skipped: ").len(), 2, "a line a part: {}", ended.stderr);
    let config = String::from_utf8(tallow.read("run/config.toml")).unwrap();
    assert!(config.contains("on_bad_image = \"skip\""), "{config}");

    // The run's own data is what it recorded, which the bad ones are no part of; of other data eval does as it is told.
    assert_eq!(tallow.json("eval run")["samples"], 8);
    assert_eq!(tallow.json("eval run --on-bad-image error")["samples"], 8);
    assert_eq!(tallow.json("eval run --data folder:photos --on-bad-image error")["samples"], 8);
    std::fs::rename(tallow.path("photos"), tallow.path("others")).unwrap();
    let ended = tallow.run("eval run --data folder:others --on-bad-image error");
    assert!(ended.code == Some(1) && ended.stderr.contains("test/a/empty.jpg"), "{ended:?}");
}

#[test]
fn predict_answers_for_the_good_ones_and_embed_leaves_the_bad_ones_out_on_request() {
    let tallow = Sandbox::new();
    photos(&tallow);
    tallow.ok("train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 --out trained");
    let ended = tallow.run("predict trained photos/test --json --batch-size 2");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let told = lines(&ended.stderr, "error: ");
    assert!(told.len() == 2 && told[1].contains("page.jpg"), "{}", ended.stderr);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 10);
    for prediction in predictions {
        let image = prediction["image"].as_str().unwrap();
        let bad = image.ends_with("empty.jpg") || image.ends_with("page.jpg");
        assert_eq!(prediction["error"].is_string(), bad, "{prediction}");
        assert_eq!(prediction["top"].as_array().unwrap().is_empty(), bad, "{prediction}");
    }
    let names: Vec<&str> = predictions.iter().map(|prediction| prediction["image"].as_str().unwrap()).collect();
    assert!(names.is_sorted(), "{names:?}");

    let ended = tallow.ok("predict trained photos/test --on-bad-image skip");
    assert_eq!(lines(&ended.stderr, "warning: skipped: ").len(), 2, "{}", ended.stderr);
    assert!(!ended.stdout.contains("empty.jpg"), "{}", ended.stdout);

    let ended = tallow.run("embed trained photos/test --out f.safetensors");
    assert_eq!((ended.code, lines(&ended.stderr, "error: ").len()), (Some(1), 2), "{ended:?}");
    assert!(!tallow.path("f.safetensors").exists());
    assert_eq!(tallow.json("embed trained photos/test --on-bad-image skip --out f.safetensors")["images"], 8);
    let file = String::from_utf8_lossy(&tallow.read("f.safetensors")).into_owned();
    assert!(file.contains("photos/test/a/3.png") && !file.contains("empty.jpg"));
}

#[test]
fn a_folder_is_listed_alike_for_all_and_what_is_left_out_is_told_by_kind() {
    let tallow = Sandbox::new();
    photos(&tallow);
    for name in ["train/a/cut.png", "test/a/empty.jpg", "test/b/page.jpg"] {
        std::fs::remove_file(tallow.path(&format!("photos/{name}"))).unwrap();
    }
    let digit = tallow.read("photos/test/a/0.png");
    for name in ["a/shouted.PNG", "a/really.jpe", "b/also.JFIF"] {
        tallow.write(&format!("photos/test/{name}"), &digit);
    }
    for name in ["a/._0.png", ".DS_Store", "a/Thumbs.db", "b/@eaDir/x.png", "b/.ipynb_checkpoints/1-checkpoint.png"] {
        tallow.write(&format!("photos/test/{name}"), "clutter");
    }
    tallow.write("photos/test/__MACOSX/a/._0.png", "clutter");
    for name in ["a/1.avif", "a/2.AVIF", "b/3.heic", "b/notes.txt"] {
        tallow.write(&format!("photos/test/{name}"), "other");
    }
    let left_out = "2 .avif files, which this build does not read; 1 .heic file, which this build does not read; \
                    1 file that is no image: notes.txt";
    let ended = tallow.ok("data folder:photos --json");
    assert!(ended.stderr.contains(left_out), "{}", ended.stderr);
    let facts: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(facts["test"], 11);
    tallow.ok("train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 --out trained");
    let ended = tallow.ok("predict trained photos/test --json");
    assert!(ended.stderr.contains(left_out), "{}", ended.stderr);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["predictions"].as_array().unwrap().len(), 11);

    tallow.write("none/1.avif", "other");
    let ended = tallow.run("predict trained none");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("found none, but 1 .avif file, which this build does not read"), "{}", ended.stderr);
}

#[cfg(unix)]
#[test]
fn a_tilde_is_the_home_folder_in_data_models_images_and_places_to_write() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let home = tallow.path("");
    let at_home = |line: &str| {
        let ended = tallow.command(line).env("HOME", &home).current_dir("/").output().expect("tallow starts");
        assert!(ended.status.success(), "tallow {line}: {}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    };
    at_home("data folder:~/photos --on-bad-image skip");
    at_home(&format!("{} --on-bad-image skip --out ~/run", TRAIN.replace("folder:photos", "folder:~/photos")));
    assert!(tallow.path("run/summary.json").exists());
    at_home("eval ~/run");
    assert!(at_home("predict ~/run ~/photos/test/a/1.png").contains("photos/test/a/1.png"));
    at_home("export ~/run/checkpoints/best --format gguf --out=~/model.gguf");
    at_home("embed ~/model.gguf ~/photos/test/a/1.png --out=~/f.safetensors");
    assert!(tallow.path("f.safetensors").exists());
}

#[test]
fn a_model_is_trained_on_rectangles_and_says_so_wherever_it_goes() {
    let tallow = Sandbox::new();
    photos(&tallow);
    let line = "train vit_mnist --data folder:photos --on-bad-image skip --epochs 1 --batch-size 4 --device cpu \
                --img-size 28x21 --out run";
    tallow.ok(line);
    let config: Value = serde_json::from_slice(&tallow.read("run/checkpoints/best/config.json")).unwrap();
    assert_eq!(config["model_args"]["img_size"], serde_json::json!([28, 21]));
    assert_eq!(config["pretrained_cfg"]["input_size"], serde_json::json!([1, 28, 21]));
    assert_eq!(config["pretrained_cfg"]["mean"].as_array().unwrap().len(), 1);
    let settings = String::from_utf8(tallow.read("run/config.toml")).unwrap();
    assert!(settings.contains("img_size = \"28x21\""), "{settings}");
    tallow.ok("eval run --on-bad-image skip");
    tallow.ok("predict run photos/test/a/1.png --attention attention");
    let mut pictures = std::fs::read_dir(tallow.path("attention")).unwrap().map(|entry| entry.unwrap().path());
    let svg = pictures.find(|path| path.extension().is_some_and(|ending| ending == "svg")).unwrap();
    assert!(std::fs::read_to_string(svg).unwrap().contains("4×3 patches"));
    tallow.ok("draw positions run --out positions");
    tallow.ok("export run --format gguf --quantisation f32 --out model.gguf");
    let [timm, gguf] = ["run", "model.gguf"].map(|model| tallow.json(&format!("predict {model} photos/test/a/1.png")));
    assert_eq!(timm["predictions"][0]["top"], gguf["predictions"][0]["top"]);
    assert!(tallow.ok("info run").stdout.contains("input 1x28x21"));
    tallow.ok("data folder:photos --on-bad-image skip --img-size 28x21 --sheet sheet.png");
    tallow.ok("bench run --mode infer --steps 1 --batch-size 2 --device cpu");
    for model in ["cnn_cifar10", "mlp_mnist"] {
        let line = "--data folder:photos --on-bad-image skip --epochs 1 --batch-size 4 --device cpu --img-size 12x20";
        tallow.ok(&format!("train {model} {line} --out {model}"));
        tallow.ok(&format!("predict ./{model} photos/test/a/1.png"));
    }
    let ended = tallow.run("train vit_mnist --data mnist --img-size 28x20");
    assert!(ended.stderr.contains("a divisor of img_size 28x20"), "{}", ended.stderr);
    let ended = tallow.run("train vit_mnist --data mnist --img-size wide");
    assert!(ended.code == Some(2) && ended.stderr.contains("HEIGHTxWIDTH"), "{}", ended.stderr);
}

#[test]
fn a_model_of_four_channels_learns_what_only_alpha_tells() {
    let tallow = Sandbox::new();
    for part in ["train", "test"] {
        for (class, alpha) in [("clear", 0), ("solid", 255)] {
            for i in 0..8u8 {
                let pixels: Vec<u8> = (0..64u8).flat_map(|at| [at * 3 + i, 255 - at, i * 20, alpha]).collect();
                let path = tallow.path(&format!("signs/{part}/{class}/{i}.png"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                image::save_buffer(path, &pixels, 8, 8, image::ColorType::Rgba8).unwrap();
            }
        }
    }
    let line =
        "train mlp_mnist --data folder:signs --img-size 8 --epochs 20 --batch-size 8 --lr 0.01 --device cpu --seed 1";
    let four = tallow.json(&format!("{line} --in-chans 4 --augment none --out four"));
    assert_eq!(four["test_accuracy"], 1.0, "{four}");
    let three = tallow.json(&format!("{line} --in-chans 3 --augment none --out three"));
    assert_eq!(three["test_accuracy"], 0.5, "without alpha they are alike: {three}");
    tallow.ok(&format!("{line} --in-chans 4 --augment flip,jitter,rotate,randaugment,blur,erase --out augmented"));
    tallow.digit(0, "digit.png");
    let ended = tallow.ok("predict ./four digit.png");
    assert!(ended.stderr.contains("1 of 1 images without an alpha channel, read as opaque"), "{}", ended.stderr);
    // A model of colours alone, from the one that reads alpha too.
    let vit = "--img-size 8 --patch-size 4 --epochs 1 --device cpu --set embed_dim=16 --set depth=1 --set num_heads=2";
    tallow.ok(&format!("train vit_mnist --data folder:signs {vit} --in-chans 4 --out patches"));
    let ended = tallow.ok("finetune patches --data folder:signs --in-chans 3 --epochs 1 --device cpu --out colours");
    assert!(ended.stderr.contains("alpha left out"), "{}", ended.stderr);
    let ended = tallow.run("train mlp_mnist --data folder:signs --in-chans 5 --out five");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("in_chans: expected 1 (grey), 3 (RGB) or 4 (RGB and alpha)"), "{}", ended.stderr);
}

#[test]
fn an_alpha_channel_that_is_the_same_everywhere_is_no_reason_not_to_train() {
    let tallow = Sandbox::new();
    for part in ["train", "test"] {
        for class in 0..2 {
            (0..4).for_each(|i| tallow.digit(class * 4 + i, &format!("photos/{part}/{class}/{i}.png")));
        }
    }
    let ended = tallow.ok(&format!("{TRAIN} --in-chans 4 --normalize standard --out run"));
    assert!(ended.stderr.contains("8 of 8 images without an alpha channel, read as opaque"), "{}", ended.stderr);
    let config: Value = serde_json::from_slice(&tallow.read("run/checkpoints/best/config.json")).unwrap();
    let of_alpha = ["mean", "std"].map(|key| config["pretrained_cfg"][key][3].as_f64());
    assert_eq!(of_alpha, [Some(0.5); 2], "{config}");
    let ended = tallow.ok("eval run --data folder:photos");
    assert!(ended.stderr.contains("8 of 8 images without an alpha channel, read as opaque"), "{}", ended.stderr);
}

#[test]
fn eval_and_predict_tell_what_is_odd_about_images_as_train_does() {
    let tallow = Sandbox::new();
    photos(&tallow);
    for bad in ["train/a/cut.png", "test/a/empty.jpg", "test/b/page.jpg"] {
        std::fs::remove_file(tallow.path(&format!("photos/{bad}"))).unwrap();
    }
    let whole = tallow.read("photos/test/a/0.png");
    tallow.write("photos/test/a/0.png", &whole[..whole.len() - 12]);
    let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(8, 8, vec![30000; 64]).unwrap();
    deep.save(tallow.path("photos/test/b/deep.png")).unwrap();
    for line in
        [&format!("{TRAIN} --out run"), "eval run", "eval run --data folder:photos", "predict ./run photos/test"]
    {
        let ended = tallow.ok(line);
        for odd in ["1 of 9 images without an end marker, but whole", "1 of 9 images with 16 bits of grey"] {
            assert!(ended.stderr.contains(odd), "{line}: {}", ended.stderr);
        }
    }
}
