//! Sliding windows over an image as a composition of Candle's differentiable ops: what the compositions of the convolution
//! and of the pools are made of. Candle's own pools and convolution have gradients that are wrong or missing.

use candle_core::{Result, Tensor, bail};

/// Where square windows lie over an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
    /// Height and width of the image.
    pub image: (usize, usize),
    /// Height and width of a window.
    pub kernel: (usize, usize),
    /// The distance between two windows.
    pub stride: usize,
    /// The margin on every side of the image.
    pub padding: usize,
    /// Windows down and across.
    pub out: (usize, usize),
}

impl Windows {
    /// Counts the windows as PyTorch does. With `ceil_mode` a last window may hang over the far edge, if it starts inside the
    /// image or its near margin.
    pub fn new(
        op: &str,
        image: (usize, usize),
        kernel: (usize, usize),
        stride: usize,
        padding: usize,
        ceil_mode: bool,
    ) -> Result<Self> {
        if stride == 0 || kernel.0 == 0 || kernel.1 == 0 {
            bail!("{op}: expected a kernel and a stride of 1 or more, got kernel {kernel:?}, stride {stride}")
        }
        let count = |size: usize, kernel: usize| {
            let room = (size + 2 * padding).checked_sub(kernel)?;
            let floor = room / stride + 1;
            let hangs_over = ceil_mode && room % stride != 0 && floor * stride < size + padding;
            Some(floor + usize::from(hangs_over))
        };
        match (count(image.0, kernel.0), count(image.1, kernel.1)) {
            (Some(h), Some(w)) => Ok(Self { image, kernel, stride, padding, out: (h, w) }),
            _ => bail!("{op}: expected an image of at least {kernel:?} with padding {padding}, got {image:?}"),
        }
    }

    /// `x [batch, channels, height, width]` to `[batch, channels, windows, pixels of a window]`; pixels outside the image are
    /// `fill`.
    pub fn unfold(&self, x: &Tensor, fill: f64) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let outside = Tensor::full(fill, (batch, channels, 1), x.device())?.to_dtype(x.dtype())?;
        let pixels = Tensor::cat(&[&x.reshape((batch, channels, height * width))?, &outside], 2)?;
        let mut index = Vec::with_capacity(self.out.0 * self.out.1 * self.kernel.0 * self.kernel.1);
        for (oy, ox) in grid(self.out) {
            for (ky, kx) in grid(self.kernel) {
                let y = (oy * self.stride + ky).checked_sub(self.padding).filter(|&y| y < height);
                let x = (ox * self.stride + kx).checked_sub(self.padding).filter(|&x| x < width);
                index.push(y.zip(x).map_or(height * width, |(y, x)| y * width + x) as u32);
            }
        }
        let index = Tensor::new(index, x.device())?;
        pixels.index_select(&index, 2)?.reshape((batch, channels, self.out.0 * self.out.1, ()))
    }
}

fn grid((height, width): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}
