//! Pictures of models: position encodings, filters, attention.

use crate::sandbox::Sandbox;

/// The start of every SVG that is a figure of Tallow's.
const FIGURE: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tallow-figure\"";

fn check(tallow: &Sandbox, stem: &str, words: &[&str]) {
    let svg = String::from_utf8(tallow.read(&format!("{stem}.svg"))).unwrap();
    assert!(svg.starts_with(FIGURE), "{stem}: {}", &svg[..100]);
    words.iter().for_each(|word| assert!(svg.contains(word), "{stem}: {word}"));
    let png = image::load_from_memory(&tallow.read(&format!("{stem}.png"))).unwrap().to_rgb8();
    let coloured = png.pixels().filter(|pixel| pixel.0.iter().max() != pixel.0.iter().min()).count();
    assert!(coloured > 10_000, "{stem}: the images inside are drawn");
}

#[test]
fn position_encodings_are_drawn_by_formula_and_from_a_model() {
    let tallow = Sandbox::new();
    let drawn = tallow.json("draw positions --len 100 --dim 16 --out encodings");
    assert_eq!((&drawn["what"], &drawn["out"]), (&"positions".into(), &"encodings".into()));
    check(&tallow, "encodings", &["100 positions, 16 dimensions", ">80<"]);
    tallow.ok("draw positions vit_small_patch14_dinov2.saliency --img-size 56 --out learned");
    check(&tallow, "learned", &["Learned positions", "cosine", "4×4"]);
    tallow.ok("draw positions vit_mnist --set pos_embed=sinusoidal --out fixed");
    check(&tallow, "fixed", &["Sinusoidal positions"]);
}

#[test]
fn filters_and_attention_of_a_small_vit_with_both_parts_for_small_data() {
    let tallow = Sandbox::new();
    let train = "train vit_mnist --data mnist --limit 64 --test-limit 32 --epochs 1 --batch-size 16 --threads 1";
    let summary = tallow.json(&format!("{train} --spt --lsa --drop-path-rate 0.1 --set depth=2 --out runs/a"));
    assert_eq!(tallow.json("eval runs/a")["accuracy"], summary["test_accuracy"], "the options are read again");
    check(&tallow, "runs/a/figures/filters", &["64 filters", "<title>Filters of the patch embedding</title>"]);
    let report = String::from_utf8(tallow.read("runs/a/report.html")).unwrap();
    assert!(report.contains("<strong>Filters of the patch embedding</strong>. Each is"), "the figure has a caption");
    let measured = tallow.ok("eval runs/a").stdout;
    assert!(measured.contains("top 5 "), "of ten classes: {measured}");
    tallow.ok("draw filters runs/a --out filters");
    check(&tallow, "filters", &["64 filters"]);

    tallow.digit(0, "digits/seven.png");
    tallow.digit(1, "digits/more/seven.png");
    let plain = tallow.json("predict runs/a digits");
    let predicted = tallow.json("predict runs/a digits --attention attention/of");
    let pictures: Vec<_> =
        predicted["predictions"].as_array().unwrap().iter().map(|p| p["attention"].as_str().unwrap()).collect();
    assert_eq!(pictures, ["attention/of/seven.svg", "attention/of/seven-2.svg"], "each image has its own");
    check(&tallow, "attention/of/seven-2", &["class token", "4×4 patches", "rollout of 2 blocks", "head 4 of block 2"]);
    assert_eq!(plain["predictions"][0]["top"], predicted["predictions"][0]["top"], "pictures change nothing");

    let refused = tallow.run("export runs/a --format timm --out exported");
    assert!(refused.code == Some(1) && refused.stderr.contains("shifted patch"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--force") && !tallow.path("exported").exists(), "{}", refused.stderr);
    let exported = tallow.ok("export runs/a --format timm --out exported --force");
    assert!(
        exported.stderr.contains("timm cannot: ") && exported.stderr.contains("shifted patch"),
        "{}",
        exported.stderr
    );
}

#[test]
fn attention_needs_no_head_but_a_vit() {
    let tallow = Sandbox::new();
    tallow.digit(0, "d.png");
    let predicted = tallow.json("predict vit_small_patch14_dinov2.saliency d.png --img-size 28 --attention a");
    assert_eq!(predicted["predictions"][0]["top"], serde_json::json!([]));
    check(&tallow, "a/d", &["2×2 patches", "all heads of block 12"]);
    tallow.ok(
        "train cnn_cifar10 --data mnist --limit 32 --test-limit 16 --epochs 1 --set in_chans=1 --img-size 28 --out cnn",
    );
    check(&tallow, "cnn/figures/filters", &["32 filters", "5×5", "<title>Filters of the first convolution</title>"]);
    let refused = tallow.run("predict cnn d.png --attention b");
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("expected a ViT, got cnn") && !tallow.path("b").exists(), "{}", refused.stderr);
}
