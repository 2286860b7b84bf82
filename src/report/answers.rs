//! Answers as pictures: the most confident mistakes, and some that were right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::numbers;
use super::run::Run;
use super::text::breakable;
use crate::train::run_folder::Answer;

/// How many pictures a run shows of either kind, and the least where there are very many runs.
const SHOWN: usize = 12;
const FEWEST: usize = 4;

/// How many pictures of either kind all runs of a page show together: some 4 kB each.
const ON_A_PAGE: usize = 400;

/// Up to this many pixels wide, an image's pixels are shown as squares.
const PIXELATED: u32 = 64;

/// A run's most confident mistakes, and below them some answers that were right; nothing if there are no mistakes, or no
/// pictures of them. `runs` share the report.
pub(super) fn answers(run: &Run, runs: usize) -> Option<Markup> {
    let predictions = run.predictions.as_ref()?;
    // Points in the plane have no pictures; their boundary is drawn.
    if predictions.mistakes.iter().all(|mistake| mistake.picture.is_empty()) {
        return None;
    }
    let shown = (ON_A_PAGE / runs.max(1)).clamp(FEWEST, SHOWN);
    Some(html! {
        (gallery(predictions.mistakes.iter().take(shown), |mistake| html! {
            span { "taken for " strong { (breakable(&run.class(mistake.predicted as usize))) } }
            span { "is " strong { (breakable(&run.class(mistake.label as usize))) } }
        }))
        @if !predictions.right.is_empty() {
            p class="note" { "Beside them, some that it got right: of every class in turn those it was most sure of." }
            (gallery(predictions.right.iter().take(shown), |answer| html! {
                span { "is " strong { (breakable(&run.class(answer.label as usize))) } }
            }))
        }
    })
}

/// Pictures in rows, each over what `words` say of it and the name of its file.
fn gallery<'a>(answers: impl Iterator<Item = &'a Answer>, words: impl Fn(&Answer) -> Markup) -> Markup {
    html! {
        ul class="answers" {
            @for answer in answers {
                li {
                    figure {
                        @match picture(&answer.picture) {
                            Some((kind, pixelated)) => img src={ "data:image/" (kind) ";base64," (answer.picture) }
                                width="96" height="96" class=[pixelated.then_some("pixelated")]
                                alt={ "Test image " (answer.name) };,
                            None => div class="missing" { "no picture" },
                        }
                        figcaption {
                            (words(answer))
                            span { (numbers::percent(f64::from(answer.confidence), 0)) " sure" }
                            span class="name" { (breakable(&answer.name)) }
                        }
                    }
                }
            }
        }
    }
}

/// The kind of a picture in base64, and whether its pixels are few enough to be seen; none if it is no PNG or JPEG.
fn picture(base64: &str) -> Option<(&'static str, bool)> {
    let bytes = STANDARD.decode(base64).ok()?;
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Some(("jpeg", false));
    }
    // Signature, then the chunk IHDR, which opens with width and height.
    let header = bytes.get(..24).filter(|header| header.starts_with(b"\x89PNG\r\n\x1a\n"))?;
    Some(("png", u32::from_be_bytes([header[16], header[17], header[18], header[19]]) <= PIXELATED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32) -> String {
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        file.extend(width.to_be_bytes());
        file.resize(24, 0);
        STANDARD.encode(file)
    }

    #[test]
    fn only_pngs_and_jpegs_in_base64_are_shown() {
        assert_eq!(picture(&png(28)), Some(("png", true)));
        assert_eq!(picture(&png(96)), Some(("png", false)));
        assert_eq!(picture(&STANDARD.encode([0xff, 0xd8, 0xff, 0xe0])), Some(("jpeg", false)));
        assert_eq!(picture("\" onerror=\"alert(1)"), None);
        assert_eq!(picture(&STANDARD.encode("<svg/>")), None);
        assert_eq!(picture(""), None);
    }
}
