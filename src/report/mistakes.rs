//! The most confident mistakes, as pictures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::numbers;
use super::run::Run;

/// How many pictures a run shows.
const SHOWN: usize = 12;

/// How many bytes of pictures (in base64) a report may hold, all runs together.
const BUDGET: usize = 600_000;

/// Up to this many pixels wide, an image's pixels are shown as squares.
const PIXELATED: u32 = 64;

/// A run's most confident mistakes, or nothing if there are none. `runs` share the report.
pub(super) fn mistakes(run: &Run, runs: usize) -> Option<Markup> {
    let mistakes = &run.predictions.as_ref()?.mistakes;
    if mistakes.is_empty() {
        return None;
    }
    let mut left = BUDGET / runs.max(1);
    let shown = mistakes.iter().take(SHOWN).map(|mistake| (mistake, picture(&mistake.png, &mut left)));
    Some(html! {
        ul class="mistakes" {
            @for (mistake, picture) in shown {
                li {
                    figure {
                        @match picture {
                            Ok(pixelated) => img src={ "data:image/png;base64," (mistake.png) } width="96" height="96"
                                class=[pixelated.then_some("pixelated")]
                                alt={ "Test image " (mistake.name) } title=(mistake.name);,
                            Err(why) => div class="missing" title=(mistake.name) { (why) },
                        }
                        figcaption {
                            span { "taken for " strong { (run.class(mistake.predicted as usize)) } }
                            span { "is " strong { (run.class(mistake.label as usize)) } }
                            span { (numbers::percent(f64::from(mistake.confidence), 0)) " sure" }
                        }
                    }
                }
            }
        }
    })
}
/// Whether a picture's pixels are few enough to be seen, or why it is not shown. What it needs is taken from `left`.
fn picture(png: &str, left: &mut usize) -> Result<bool, &'static str> {
    let bytes = STANDARD.decode(png).map_err(|_| "no picture")?;
    // Signature, then the chunk IHDR, which opens with width and height.
    let header = bytes.get(..24).filter(|header| header.starts_with(b"\x89PNG\r\n\x1a\n")).ok_or("no picture")?;
    *left = left.checked_sub(png.len()).ok_or("too large for this page")?;
    Ok(u32::from_be_bytes([header[16], header[17], header[18], header[19]]) <= PIXELATED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, bytes: usize) -> String {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.resize(24 + bytes, 0);
        STANDARD.encode(file)
    }

    #[test]
    fn only_pngs_in_base64_are_shown_and_only_as_many_as_the_page_holds() {
        let mut left = 1000;
        assert_eq!(picture(&png(28, 0), &mut left), Ok(true));
        assert_eq!(picture(&png(224, 0), &mut left), Ok(false));
        assert_eq!(picture(&png(224, 2000), &mut left), Err("too large for this page"));
        assert_eq!(picture("\" onerror=\"alert(1)", &mut left), Err("no picture"));
        assert_eq!(picture(&STANDARD.encode("<svg/>"), &mut left), Err("no picture"));
        assert_eq!(left, 1000 - 2 * 32);
    }
}
