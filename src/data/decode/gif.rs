//! The first frame of a GIF as Pillow shows it: on the whole screen, of which it may cover a part.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

/// A decoded screen.
pub(super) struct Screen {
    pub width: usize,
    pub height: usize,
    /// Red, green, blue and alpha, interleaved.
    pub pixels: Vec<u8>,
}

/// Decodes the first frame. What it does not cover is of its transparent colour, or else of the first one of its palette.
///
/// The transparent colour has alpha 0.
pub(super) fn decode(bytes: &[u8], max_bytes: u64) -> Result<Screen, String> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Some(limit) = std::num::NonZeroU64::new(max_bytes) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    let screen = (usize::from(decoder.width()), usize::from(decoder.height()));
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(|e| e.to_string())?.ok_or("no frame")?;
    let palette = frame.palette.as_ref().or(global.as_ref());
    let [left, top, w, h] = [frame.left, frame.top, frame.width, frame.height].map(usize::from);
    let (width, height) = (screen.0.max(left + w), screen.1.max(top + h));
    if 5 * width as u64 * height as u64 > max_bytes {
        return Err(format!("{width}x{height} pixels"));
    }
    let mut indices = vec![frame.transparent.unwrap_or(0); width * height];
    for (row, line) in frame.buffer.chunks_exact(w.max(1)).zip(indices.chunks_exact_mut(width.max(1)).skip(top)) {
        line[left..left + w].copy_from_slice(row);
    }
    let colour = |&index: &u8| {
        let at = usize::from(index) * 3;
        let [red, green, blue] = match palette {
            // Without a palette, Pillow takes indices for greys.
            None => [index; 3],
            Some(palette) => palette.get(at..at + 3).map_or([0; 3], |c| [c[0], c[1], c[2]]),
        };
        [red, green, blue, if frame.transparent == Some(index) { 0 } else { 255 }]
    };
    let pixels = indices.iter().flat_map(colour).collect();
    Ok(Screen { width, height, pixels })
}
