//! A picture in its two files: `NAME.svg` as it was drawn, and, with the feature `png`, `NAME.png` of the same; and the
//! pictures that a run keeps in its folder's `figures/`, which its report shows.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

use super::error::{Error, Result};

/// Pixels of a PNG for each of the SVG's own units: sharp on a dense screen and in print.
#[cfg(feature = "png")]
const SCALE: f32 = 2.;

/// Wider or higher than this is no picture for a report.
#[cfg(feature = "png")]
const LARGEST: u32 = 16_384;

/// How the SVG of a run's figure starts; a report shows no other.
const OPENING: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure""#;

/// What a page adds to a figure: on a dark page the paper and what is written on it take the page's colours. What is drawn in the
/// plot itself stays, and the files, which have white paper.
const DARK: &str = "<style>@media (prefers-color-scheme: dark) { svg > rect:first-of-type { fill: #16181b } text { fill: #e8e6e3 } \
                    svg > :is(path, circle):is([stroke='#222222'], [stroke='#000000']) { stroke: #e8e6e3 } }</style>";

/// A figure in a run's folder that is larger than this is not shown, and of more figures than [`SHOWN`] only the first.
const LARGEST_SHOWN: u64 = 2 << 20;

/// How many figures of a run a report shows.
const SHOWN: usize = 12;

/// A picture of a run that a report shows beside the curves: a decision boundary, a model's filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// The name of its files in the run's `figures/`, without an ending.
    pub stem: String,
    /// What it shows, in a few words.
    pub title: String,
    /// What a reader should know of it: how to read it, how it was made.
    pub caption: String,
    /// The picture. It starts with `<svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure"`.
    pub svg: String,
}

impl Figure {
    /// Writes the picture to `figures/` of a run's folder, as SVG with its title and caption inside and as PNG.
    ///
    /// # Errors
    /// If a file cannot be written, or the picture is not one that starts as it should.
    pub fn write(&self, run: &Path) -> Result<()> {
        let folder = run.join("figures");
        let stem = folder.join(&self.stem);
        let inside = self.svg.strip_prefix(OPENING).and_then(|rest| rest.split_once('>'));
        let (attributes, content) = inside.ok_or_else(|| Error::Damaged {
            path: stem.clone(),
            expected: format!("a picture that starts with {OPENING}"),
            got: "another".into(),
        })?;
        fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder, source })?;
        let words = html! { title { (self.title) } desc { (self.caption) } }.into_string();
        write_figure(&stem, &format!("{OPENING}{attributes}>{words}{content}"))
    }

    /// The figures of a run's folder by name. What is in `figures/` and is none of Tallow's own is passed over.
    pub(super) fn read_all(run: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(run.join("figures")) else { return vec![] };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        paths.iter().filter_map(|path| Self::read(path)).take(SHOWN).collect()
    }

    fn read(path: &Path) -> Option<Self> {
        let is_svg = path.extension().is_some_and(|ending| ending == "svg");
        if !is_svg || !fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LARGEST_SHOWN) {
            return None;
        }
        let svg = fs::read_to_string(path).ok().filter(|text| text.starts_with(OPENING))?;
        let stem = path.file_stem()?.to_string_lossy().into_owned();
        let title = words(&svg, "title").filter(|title| !title.is_empty()).unwrap_or_else(|| stem.clone());
        Some(Self { title, caption: words(&svg, "desc").unwrap_or_default(), stem, svg })
    }

    /// The picture for a page. As an image it can neither run a script nor load anything, whatever is in the file.
    pub(super) fn inline(&self) -> Markup {
        let svg = match self.svg.split_once('>') {
            Some((opening, content)) => format!("{opening}>{DARK}{content}"),
            None => self.svg.clone(),
        };
        html! {
            figure class="drawn" {
                img src={ "data:image/svg+xml;base64," (STANDARD.encode(svg)) } alt=(self.title);
                figcaption {
                    strong { (self.title) } "." @if !self.caption.is_empty() { " " (self.caption) }
                }
            }
        }
    }
}

/// The text of the first element `name`, which stands before anything is drawn.
fn words(svg: &str, name: &str) -> Option<String> {
    let (_, rest) = svg.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")]
        .into_iter()
        .fold(text.to_string(), |text, (escaped, plain)| text.replace(escaped, plain));
    Some(super::run::clean(&plain))
}

/// Writes a picture as `stem.svg` and, with the feature `png`, as `stem.png`; each as a whole.
///
/// # Errors
/// If a file cannot be written, or `svg` is none.
pub fn write_figure(stem: &Path, svg: &str) -> Result<()> {
    super::write(&with_ending(stem, ".svg"), svg)?;
    #[cfg(feature = "png")]
    {
        let path = with_ending(stem, ".png");
        let png = png(svg).map_err(|got| Error::Damaged { path: path.clone(), expected: "a picture".into(), got })?;
        super::write(&path, png)?;
    }
    Ok(())
}

/// Whatever dots there are in the name, they are part of it.
fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// The picture as a PNG on white, its text in DejaVu Sans: the same on every machine, whatever fonts it has.
#[cfg(feature = "png")]
fn png(svg: &str) -> std::result::Result<Vec<u8>, String> {
    use resvg::{tiny_skia, usvg};

    let svg = super::lettering::outlined(svg)?;
    let tree = usvg::Tree::from_str(&svg, &usvg::Options::default()).map_err(|error| error.to_string())?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("an empty one")?;
    let (width, height) = (size.width(), size.height());
    let mut pixels = (width.max(height) <= LARGEST).then(|| tiny_skia::Pixmap::new(width, height)).flatten();
    let pixels = pixels.as_mut().ok_or_else(|| format!("one of {width}x{height} pixels"))?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_figures_with_their_words_and_shows_no_foreign_ones() {
        let folder = tempfile::tempdir().unwrap();
        let figure = Figure {
            stem: "boundary".into(),
            title: "Classes & <borders>".into(),
            caption: "Points are \"test\" points.".into(),
            svg: format!(r#"{OPENING} width="40" height="20"><rect width="20" height="20"/></svg>"#),
        };
        figure.write(folder.path()).unwrap();
        let figures = folder.path().join("figures");
        fs::write(figures.join("a.svg"), "<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>")
            .unwrap();
        fs::write(figures.join("b.svg"), [0xff, 0xfe]).unwrap();
        fs::write(figures.join("c.svg"), format!("{OPENING}><script>alert(1)</script></svg>")).unwrap();
        let read = Figure::read_all(folder.path());
        assert_eq!(read.iter().map(|figure| figure.stem.as_str()).collect::<Vec<_>>(), ["boundary", "c"]);
        assert_eq!((&read[0].title, &read[0].caption), (&figure.title, &figure.caption));
        assert_eq!(read[1].title, "c");
        let shown = read[1].inline().into_string();
        assert!(shown.contains("<img src=\"data:image/svg+xml;base64,") && !shown.contains("<script"), "{shown}");
        assert!(Figure { svg: "<svg></svg>".into(), ..figure }.write(folder.path()).is_err());
        assert!(Figure::read_all(&folder.path().join("nowhere")).is_empty());
    }

    #[cfg(feature = "png")]
    #[test]
    fn a_png_shows_what_the_svg_draws_text_included() {
        let picture = |inside: &str| {
            let svg = format!(
                r##"<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20" font-family="system-ui, sans-serif">{inside}</svg>"##
            );
            let decoded = image::load_from_memory(&png(&svg).unwrap()).unwrap().to_rgb8();
            assert_eq!(decoded.dimensions(), (80, 40));
            decoded
        };
        let red = picture(r##"<rect x="0" y="0" width="20" height="20" fill="#ff0000"/>"##);
        assert_eq!((red.get_pixel(10, 10).0, red.get_pixel(60, 10).0), ([255, 0, 0], [255; 3]));
        let text = picture(r##"<text x="2" y="15" font-size="14">W</text>"##);
        assert!(text.pixels().any(|pixel| pixel.0[0] < 50), "no text was drawn");
        assert!(png("<svg").is_err());
    }
}
