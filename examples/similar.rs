//! Finds the image that is most like the first one: `cargo run --release --example similar -- IMAGE IMAGE…`

use tallow::Embedder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let images: Vec<String> = std::env::args().skip(1).collect();
    if images.len() < 2 {
        return Err("usage: similar IMAGE IMAGE…".into());
    }
    // The weights are bundled. They were trained at 518 pixels; at 224 it is five times as fast.
    let embedder = Embedder::builder("vit_small_patch14_dinov2.saliency").img_size(224).embedder()?;
    let vectors = embedder.normalised(true).embed(&images)?; // [images, 384], each of length 1
    // The product of two such vectors is the cosine of the angle between them.
    let cosines = vectors.matmul(&vectors.get(0)?.unsqueeze(1)?)?.flatten_all()?.to_vec1::<f32>()?;
    for (image, cosine) in images.iter().zip(&cosines).skip(1) {
        println!("{cosine:.3}  {image}");
    }
    let others = images.iter().zip(&cosines).skip(1);
    if let Some((image, _)) = others.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
        println!("most like {}: {image}", images[0]);
    }
    Ok(())
}
