//! Flags that would have no effect: one error says beside what they have one, and nothing is written.

use crate::bad_input::refused;
use crate::sandbox::Sandbox;

#[test]
fn a_flag_without_effect_is_refused_before_anything_is_written() {
    let tallow = Sandbox::new();
    tallow.digit(0, "digit.png");
    for (line, what) in [
        (
            "pretrain vit_mnist --data mnist --method mae --out-dim 64",
            "out_dim: expected nothing with the method mae: it belongs to dino",
        ),
        (
            "pretrain vit_mnist --data mnist --method mae --local-crops 2",
            "local_crops: expected nothing with the method mae",
        ),
        ("pretrain vit_mnist --data mnist --method mae --teacher-momentum 0.9", "teacher_momentum"),
        ("pretrain vit_mnist --data mnist --method mae --koleo 0", "koleo"),
        (
            "pretrain vit_mnist --data mnist --method dino --mask-ratio 0.5",
            "mask_ratio: expected nothing with the method dino: it belongs to mae",
        ),
        ("pretrain vit_mnist --data mnist --method dino --decoder-depth 1", "decoder_depth"),
        ("pretrain vit_mnist --data mnist --method dino --norm-pix=false", "norm_pix"),
        ("pretrain vit_mnist --data mnist --method dino --local-crops 0 --local-crops-size 14", "--local-crops 0"),
        ("pretrain vit_mnist --data mnist --method dino --warmup-teacher-temperature 0.02", "--warmup-teacher-epochs"),
        ("pretrain vit_mnist --data mnist --method mae --templates openai-7", "--head zero-shot"),
        ("pretrain vit_mnist --data mnist --method mae --global-pool none", "global_pool"),
        ("train vit_mnist --data mnist --templates openai-7", "templates: expected --head zero-shot beside it"),
        ("train vit_mnist --data mnist --classes a,b", "classes: expected --head zero-shot beside it"),
        ("train vit_mnist --data mnist --head keep", "no weights are loaded"),
        ("train vit_mnist --data mnist --ignore-unknown", "no weights are loaded"),
        ("train vit_mnist --data mnist --checkpoint-key teacher", "no weights are loaded"),
        ("train vit_mnist --data mnist --head-first-steps 10", "no weights are loaded"),
        ("train vit_mnist --data mnist --zca-eps 0.1", "--normalize zca"),
        ("train vit_mnist --data mnist --momentum 0.9", "--optimizer sgd"),
        ("train cnn_cifar10 --data mnist --betas 0.9,0.99", "--optimizer adam or --optimizer adamw"),
        ("train vit_mnist --data mnist --gamma 0.9", "--schedule exponential or --schedule step"),
        ("train vit_mnist --data mnist --step-size 3", "--schedule step"),
        ("train vit_mnist --data mnist --schedule step --min-lr 1e-5", "--schedule cosine"),
        ("train cnn_cifar10 --data mnist --grad-checkpointing", "no ViT"),
        ("embed vit_small_patch14_dinov2.saliency --text a --features logits", "--features"),
        ("embed vit_small_patch14_dinov2.saliency --text a --limit 3", "--limit"),
        ("embed vit_small_patch14_dinov2.saliency --text a --exif ignore", "expected images beside them"),
        ("embed vit_small_patch14_dinov2.saliency digit.png --out f.npz", "expected a name that ends in .safetensors"),
        ("data mnist --sheet sheet.jpg", "expected a name that ends in .png, got .jpg"),
        ("data mnist --count 3", "--sheet"),
        ("data mnist --zca-eps 0.1", "--normalize zca"),
        ("search f.safetensors digit.png --sheet sheet.JPG", "expected a name that ends in .png"),
        ("draw positions --len 5 --dim 4 --img-size 56 --out positions", "expected a MODEL"),
        ("export vit_small_patch14_dinov2.saliency --out x --quantisation f16", "--format gguf"),
        ("export vit_small_patch14_dinov2.saliency --out x.gguf --format gguf --force", "--format timm"),
        ("export vit_small_patch14_dinov2.saliency --out x.bin --format gguf", "expected a name that ends in .gguf"),
        ("bench vit_mnist --mode infer --data mnist", "--data: expected --mode load"),
        ("bench vit_mnist --mode infer --method mae", "--method: expected --mode train"),
        ("bench vit_mnist --mode infer --grad-checkpointing", "--grad-checkpointing: expected --mode train"),
        ("bench --mode peak --steps 3", "--steps: expected --mode"),
        ("bench vit_mnist --mode peak", "MODEL: expected --mode"),
    ] {
        let line = if line.contains("--out") || !(line.starts_with("pretrain") || line.starts_with("train")) {
            line.to_owned()
        } else {
            format!("{line} --limit 20 --epochs 1 --out written")
        };
        let message = refused(&tallow, &line, 2);
        assert!(message.contains(what), "{line}: {message}");
        for name in ["written", "runs", "sheet.jpg", "f.npz", "x", "x.gguf", "x.bin", "positions.svg"] {
            assert!(!tallow.path(name).exists(), "{line}: {name}");
        }
    }
}

#[test]
fn a_setting_that_means_nothing_to_a_run_of_a_recipe_is_refused_and_one_that_runs_share_is_for_those_that_have_it() {
    let tallow = Sandbox::new();
    let run = |name: &str, rest: &str| {
        format!("[[run]]\nname = \"{name}\"\ncommand = \"pretrain\"\nmodel = \"vit_mnist\"\n{rest}\n")
    };
    let shared = "[shared]\ndata = \"mnist\"\nlimit = 20\nepochs = 1\n";
    for (recipe, what) in [
        (format!("{shared}{}", run("a", "method = \"mae\"\nout_dim = 32")), "out_dim"),
        (
            format!(
                "{shared}{}{}",
                run("a", "method = \"mae\"\nout_dim = 32"),
                run("b", "method = \"dino\"\nout_dim = 32")
            ),
            "out_dim",
        ),
        (format!("{shared}mask_ratio = 0.5\n{}", run("a", "method = \"dino\"")), "mask_ratio"),
        ("[[run]]\nname = \"k\"\ncommand = \"knn\"\nmodel = \"vit_mnist\"\ndata = \"mnist\"\nlr = 0.1\n".into(), "lr"),
    ] {
        tallow.write("recipe.toml", &recipe);
        let message = refused(&tallow, "run recipe.toml --dry-run", 2);
        assert!(message.contains(what) && message.contains("expected nothing"), "{recipe}: {message}");
    }
    let both = [
        run("a", "method = \"mae\""),
        run("b", "method = \"dino\""),
        run("c", "method = \"mae\"").replace("pretrain", "knn"),
    ];
    let recipe = format!(
        "{shared}mask_ratio = 0.5\nout_dim = 32\n{}{}{}",
        both[0],
        both[1],
        both[2].replace("method = \"mae\"\n", "")
    );
    tallow.write("recipe.toml", recipe);
    tallow.ok("run recipe.toml --dry-run");
}

#[test]
fn what_has_no_classes_says_so() {
    let tallow = Sandbox::new();
    for index in 0..12 {
        tallow.digit(index, &format!("photos/{}/{index}.png", "more/".repeat(index % 3)));
    }
    tallow.ok("pretrain vit_mnist --set embed_dim=16 --set depth=1 --set num_heads=2 --method mae --data folder:photos --epochs 1 --out mae");
    for (line, code, what) in [
        ("eval mae", 1, "expected a run that learned classes, got one by the method mae"),
        (
            "finetune vit_mnist --weights mae --data mnist --limit 20 --head zero-shot --classes ,",
            1,
            "classes: expected names separated by commas",
        ),
    ] {
        let message = refused(&tallow, line, code);
        assert!(message.contains(what), "{line}: {message}");
    }
    tallow.ok("knn mae --data mnist --limit 30 --test-limit 10 --batch-size 7 --out knn");
    assert!(refused(&tallow, "eval knn", 1).contains("by the method knn"));
}
