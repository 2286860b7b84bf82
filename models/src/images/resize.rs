//! Images of 8-bit levels, resized as Pillow does it and brought to the range that a model reads: in one go on CUDA, so that only
//! levels have to be uploaded.
//!
//! Across first, then down; every pixel is a sum of source pixels times integers with [`PRECISION`] bits after the point, rounded
//! to a level after each of the two (`Resample.c` of Pillow 13).

use candle_core::{DType, Result, Tensor, bail};

/// Bits after the point of the weights: 32, less 8 for a level, less 2 for sign and overshoot.
pub const PRECISION: u32 = 32 - 8 - 2;

/// What every pixel of a resized line is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taps {
    starts: Vec<u32>,
    counts: Vec<u32>,
    weights: Vec<i32>,
}

impl Taps {
    /// For every pixel the first source pixel, how many there are, and the weights, in rows of equal length, one a pixel.
    ///
    /// # Errors
    /// If the rows are not one a pixel, a pixel has more source pixels than its row has weights, or none.
    pub fn new(starts: Vec<u32>, counts: Vec<u32>, weights: Vec<i32>) -> Result<Self> {
        let taps = Self { starts, counts, weights };
        let rows = taps.weights.len().checked_rem(taps.len()) == Some(0) && taps.counts.len() == taps.len();
        if !rows || taps.counts.iter().any(|&count| count == 0 || count as usize > taps.width()) {
            bail!(
                "resize: expected a start, a count and a row of as many weights for every pixel, got {}, {} and {}",
                taps.starts.len(),
                taps.counts.len(),
                taps.weights.len()
            )
        }
        Ok(taps)
    }

    /// Of a line that stays as it is: `len` pixels from pixel `first` on.
    ///
    /// # Errors
    /// If there are none, or more than a u32 can number.
    pub fn identity(first: usize, len: usize) -> Result<Self> {
        let Ok(end) = u32::try_from(first + len) else { bail!("resize: expected a line of fewer pixels, got {len}") };
        Self::new((end - len as u32..end).collect(), vec![1; len], vec![1 << PRECISION; len])
    }

    /// Pixels of a line.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Weights of a row.
    pub(crate) fn width(&self) -> usize {
        self.weights.len() / self.len().max(1)
    }

    /// Starts, counts and weights.
    #[cfg(feature = "cuda")]
    pub(crate) fn parts(&self) -> (&[u32], &[u32], &[i32]) {
        (&self.starts, &self.counts, &self.weights)
    }

    /// Source pixels that are read: the end of the last.
    fn reach(&self) -> usize {
        let ends = self.starts.iter().zip(&self.counts).map(|(&start, &count)| start as usize + count as usize);
        ends.max().unwrap_or(0)
    }

    /// Pixel `at` of a line of which `source` gives the pixels.
    fn pixel(&self, at: usize, source: impl Fn(usize) -> u8) -> u8 {
        let start = self.starts[at] as usize;
        let weights = &self.weights[at * self.width()..][..self.counts[at] as usize];
        let products = weights.iter().enumerate().map(|(i, weight)| i32::from(source(start + i)) * weight);
        ((products.sum::<i32>() + (1 << (PRECISION - 1))) >> PRECISION).clamp(0, 255) as u8
    }
}

/// `images [batch, height, width, channels]` (u8) to `[batch, channels, down, across]` of type `dtype`, every level times the
/// channel's `scale` plus its `shift`. Images of one channel become as many as there are scales.
///
/// # Errors
/// If the images are not u8, the taps reach out of them, or there is not one scale and shift a channel.
pub fn resize(
    images: &Tensor,
    (across, down): (&Taps, &Taps),
    (scale, shift): (&[f32], &[f32]),
    dtype: DType,
) -> Result<Tensor> {
    let (_, height, width, channels) = images.dims4()?;
    if images.dtype() != DType::U8 || channels != 1 && scale.len() != channels || shift.len() != scale.len() {
        bail!(
            "resize: expected u8 images [batch, height, width, channels] with a scale and a shift a channel, got {:?} {:?}, {} \
             scales and {} shifts",
            images.dtype(),
            images.dims(),
            scale.len(),
            shift.len()
        )
    }
    if across.reach() > width || down.reach() > height {
        bail!(
            "resize: expected taps within {height}x{width} pixels, got some that reach to {}x{}",
            down.reach(),
            across.reach()
        )
    }
    #[cfg(feature = "cuda")]
    if let Some(out) = super::on_cuda::resize(images, (across, down), (scale, shift), dtype, composed)? {
        return Ok(out);
    }
    composed(images, (across, down), (scale, shift), dtype)
}

/// On the host.
fn composed(
    images: &Tensor,
    (across, down): (&Taps, &Taps),
    (scale, shift): (&[f32], &[f32]),
    dtype: DType,
) -> Result<Tensor> {
    let (batch, height, width, channels) = images.dims4()?;
    let pixels = images.flatten_all()?.to_vec1::<u8>()?;
    let mut out = Vec::with_capacity(batch * scale.len() * across.len() * down.len());
    for image in pixels.chunks_exact((height * width * channels).max(1)) {
        for (channel, (scale, shift)) in scale.iter().zip(shift).enumerate() {
            let source = channel % channels;
            let line = |y: usize| {
                let row = &image[y * width * channels..][..width * channels];
                (0..across.len()).map(move |x| across.pixel(x, |from| row[from * channels + source]))
            };
            let lines: Vec<u8> = (0..height).flat_map(line).collect();
            for y in 0..down.len() {
                out.extend((0..across.len()).map(|x| {
                    let level = down.pixel(y, |from| lines[from * across.len() + x]);
                    f32::from(level) * scale + shift
                }));
            }
        }
    }
    let shape = (batch, scale.len(), down.len(), across.len());
    Tensor::from_vec(out, shape, images.device())?.to_dtype(dtype)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Two pixels to four, bilinearly, with Pillow's weights.
    fn doubled() -> Result<Taps> {
        let one = 1 << PRECISION;
        let (quarter, most) = (one / 4, one / 4 * 3);
        Taps::new(vec![0, 0, 0, 1], vec![1, 2, 2, 1], vec![one, 0, most, quarter, quarter, most, one, 0])
    }

    #[test]
    fn levels_are_pillows() -> Result<()> {
        // list(Image.fromarray(numpy.array([[0, 100], [255, 7]], 'uint8')).resize((4, 4), Image.BILINEAR).getdata())
        let expected = [0., 25., 75., 100., 64., 67., 74., 77., 191., 151., 71., 30., 255., 193., 69., 7.];
        let images = Tensor::new(vec![0u8, 100, 255, 7], &Device::Cpu)?.reshape((1, 2, 2, 1))?;
        let taps = doubled()?;
        let got = resize(&images, (&taps, &taps), (&[1.], &[0.]), DType::F32)?;
        assert_eq!(got.dims(), [1, 1, 4, 4]);
        assert_eq!(got.flatten_all()?.to_vec1::<f32>()?, expected);
        let got = resize(&images, (&taps, &taps), (&[2.], &[-1.]), DType::F32)?;
        assert_eq!(got.flatten_all()?.to_vec1::<f32>()?, expected.map(|level| 2. * level - 1.));
        Ok(())
    }

    #[test]
    fn a_grey_image_becomes_as_many_channels_as_there_are_scales() -> Result<()> {
        let images = Tensor::new(vec![0u8, 1, 2, 3, 4, 5], &Device::Cpu)?.reshape((1, 2, 3, 1))?;
        let taps = (&Taps::identity(1, 2)?, &Taps::identity(0, 2)?);
        let got = resize(&images, taps, (&[1., 2.], &[0., -1.]), DType::F32)?;
        assert_eq!(got.dims(), [1, 2, 2, 2]);
        assert_eq!(got.flatten_all()?.to_vec1::<f32>()?, [1., 2., 4., 5., 1., 3., 7., 9.]);
        Ok(())
    }

    #[test]
    fn taps_outside_of_the_image_are_an_error() -> Result<()> {
        let images = Tensor::zeros((1, 2, 1, 1), DType::U8, &Device::Cpu)?;
        let taps = doubled()?;
        let message = resize(&images, (&taps, &taps), (&[1.], &[0.]), DType::F32).unwrap_err().to_string();
        assert!(message.contains("taps within 2x1") && message.contains("2x2"), "{message}");
        assert!(Taps::new(vec![0, 0], vec![1, 3], vec![1; 4]).is_err());
        assert!(Taps::new(vec![], vec![], vec![]).is_err());
        Ok(())
    }
}
