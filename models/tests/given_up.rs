//! A ViT gives up the values of tokens that only its history holds. Its gradients are those of the blocks one by one, which keep them:
//! exactly in float32, nearly in bfloat16, where normalised rows stand in their place. A test binary of its own, since the precision is
//! one for the whole process.

use candle_core::{DType, Device, Result, Tensor};
use tallow_models::ops::{MatmulPrecision, matmul_kernel, set_matmul_precision};
use tallow_models::{Gradients, ImgSize, Mode, Model, Params, Vit, VitConfig, ops};

/// All gradients by one pass: the first backward uses up what the forward kept, the second computes it again.
fn gradients(params: &Params, loss: &Tensor) -> Result<[Vec<Tensor>; 2]> {
    let all = || params.backward(loss).map(Gradients::into_tensors).map_err(candle_core::Error::wrap);
    Ok([all()?, all()?])
}

fn error(of: &Tensor, expected: &Tensor) -> Result<f32> {
    let size = |t: &Tensor| -> Result<f32> { Ok(t.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()) };
    Ok(size(&(of - expected)?)? / size(expected)?)
}

#[test]
fn gradients_are_those_of_blocks_that_keep_their_tokens() -> Result<()> {
    let mut config = VitConfig::default();
    (config.img_size, config.embed_dim, config.depth, config.num_heads, config.num_classes) =
        (ImgSize::square(64), 96, 3, 2, 5);
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let vit = Vit::new(&config, params.builder())?;
    let images = Tensor::arange(0f32, 6. * 3. * 64. * 64., &Device::Cpu)?.reshape((6, 3, 64, 64))?.sin()?;
    let labels = Tensor::new(&[0u32, 1, 2, 3, 4, 0], &Device::Cpu)?;
    let loss_of = |logits: &Tensor| ops::cross_entropy(logits, &labels, 0.);
    for (precision, most) in [(MatmulPrecision::Float32, 0.), (MatmulPrecision::BFloat16, 0.02)] {
        set_matmul_precision(precision);
        let loss = loss_of(&vit.forward(&images, Mode::Eval)?)?;
        let mut x = vit.embed(&images, Mode::Eval)?;
        for block in vit.blocks() {
            x = block.forward(&x, Mode::Eval)?;
        }
        let kept = loss_of(&vit.forward_head(&vit.final_norm(&x)?, false, Mode::Eval)?)?;
        assert_eq!(loss.to_scalar::<f32>()?, kept.to_scalar::<f32>()?, "{precision:?}");
        let ([expected, _], given_up) = (gradients(&params, &kept)?, gradients(&params, &loss)?);
        for (time, found) in given_up.iter().enumerate() {
            let errors = found.iter().zip(&expected).map(|(found, expected)| error(found, expected));
            let errors = errors.collect::<Result<Vec<_>>>()?;
            let largest = errors.iter().copied().fold(0., f32::max);
            assert!(largest <= most, "{precision:?}, backward {time}: {largest}");
            let narrow = matmul_kernel(precision).is_some() && most > 0.;
            assert!(!narrow || largest > 0., "the tokens were kept");
        }
    }
    Ok(())
}
