//! Text of an SVG as outlines of DejaVu Sans, so that a picture's pixels need no fonts of the machine and no text engine: names,
//! numbers and labels run from left to right, one character after the other.

use std::fmt::Write;

use resvg::usvg::roxmltree::{Document, Node};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// Where a piece of text has its `x`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// The two faces that there are.
struct Faces {
    regular: Face<'static>,
    bold: Face<'static>,
}

/// `svg` with every `text` element as a `path`. Of a text's attributes those are read that the pictures of this crate have: `x`,
/// `y`, `transform`, `fill`, `font-size`, `font-weight`, `text-anchor` and `textLength`.
///
/// # Errors
/// What is wrong with `svg`.
pub(super) fn outlined(svg: &str) -> Result<String, String> {
    let document = Document::parse(svg).map_err(|error| error.to_string())?;
    let face = |data: &'static [u8]| Face::parse(data, 0).map_err(|error| format!("a damaged font ({error})"));
    let faces = Faces { regular: face(dejavu::sans::regular())?, bold: face(dejavu::sans::bold())? };
    let mut outlined = String::with_capacity(2 * svg.len());
    let mut done = 0;
    for text in document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text"))) {
        let range = text.range();
        outlined.push_str(&svg[done..range.start]);
        path(text, &faces, &mut outlined);
        done = range.end;
    }
    outlined.push_str(&svg[done..]);
    Ok(outlined)
}

/// Writes the outlines of a `text` element.
fn path(text: Node, faces: &Faces, into: &mut String) {
    let letters: String = text.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect();
    let letters = letters.split_whitespace().collect::<Vec<_>>().join(" ");
    let number = |name: &str| text.attribute(name).and_then(|value| value.parse::<f64>().ok());
    let size = inherited(text, "font-size").and_then(|value| value.trim_end_matches("px").parse().ok());
    let bold = inherited(text, "font-weight")
        .is_some_and(|weight| weight == "bold" || weight.parse::<u16>().is_ok_and(|weight| weight >= 600));
    let anchor = match inherited(text, "text-anchor") {
        Some("middle") => Anchor::Middle,
        Some("end") => Anchor::End,
        _ => Anchor::Start,
    };
    let face = if bold { &faces.bold } else { &faces.regular };
    let scale = size.unwrap_or(16.) / f64::from(face.units_per_em());

    let glyph = |letter| face.glyph_index(letter).unwrap_or(GlyphId(0));
    let advance = |glyph| f64::from(face.glyph_hor_advance(glyph).unwrap_or(0));
    let natural = scale * letters.chars().map(|letter| advance(glyph(letter))).sum::<f64>();
    let width = number("textLength").filter(|_| natural > 0.).unwrap_or(natural);
    let stretch = if natural > 0. { width / natural } else { 1. };
    let start = number("x").unwrap_or(0.)
        - match anchor {
            Anchor::Start => 0.,
            Anchor::Middle => width / 2.,
            Anchor::End => width,
        };
    let scale = [scale * stretch, -scale];
    let mut outline = Outline { d: String::new(), at: [start, number("y").unwrap_or(0.)], scale };
    for letter in letters.chars() {
        let glyph = glyph(letter);
        face.outline_glyph(glyph, &mut outline);
        outline.at[0] += advance(glyph) * scale[0];
    }
    let kept = ["transform", "fill", "fill-opacity", "opacity"];
    let attributes = kept.into_iter().filter_map(|name| Some(format!(" {name}=\"{}\"", text.attribute(name)?)));
    // Writing into a string does not fail.
    let _ = write!(into, "<path d=\"{}\"{}/>", outline.d, attributes.collect::<String>());
}

/// An attribute of an element or of the nearest one around it.
fn inherited<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.ancestors().find_map(|node| node.attribute(name))
}

/// The commands of an SVG path, from a font's units.
struct Outline {
    d: String,
    /// Where the glyph's origin lies.
    at: [f64; 2],
    scale: [f64; 2],
}

impl Outline {
    fn command(&mut self, letter: char, points: &[[f32; 2]]) {
        self.d.push(letter);
        for &[x, y] in points {
            let [x, y] = [self.at[0] + self.scale[0] * f64::from(x), self.at[1] + self.scale[1] * f64::from(y)];
            let _ = write!(self.d, "{x:.3} {y:.3} ");
        }
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        self.command('M', &[[x, y]]);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.command('L', &[[x, y]]);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.command('Q', &[[x1, y1], [x, y]]);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.command('C', &[[x1, y1], [x2, y2], [x, y]]);
    }

    fn close(&mut self) {
        self.d.push('Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENING: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" width="90" height="20" font-size="10">"##;

    /// The numbers of the first path, x and y in turn.
    fn numbers(svg: &str) -> Vec<f64> {
        let outlined = outlined(svg).unwrap();
        let d = outlined.split("d=\"").nth(1).unwrap().split('"').next().unwrap();
        d.split(|c: char| c.is_ascii_alphabetic() || c == ' ').filter_map(|number| number.parse().ok()).collect()
    }

    fn span(svg: &str) -> [f64; 2] {
        let xs: Vec<f64> = numbers(svg).into_iter().step_by(2).collect();
        [xs.iter().copied().fold(f64::MAX, f64::min), xs.iter().copied().fold(f64::MIN, f64::max)]
    }

    #[test]
    fn text_stands_where_its_anchor_and_size_say() {
        // An H of DejaVu Sans is 1540 of 2048 units wide, its stems reach from 201 to 1339.
        let text = |attributes: &str| format!(r#"{OPENING}<text x="50" y="15" {attributes}>H</text></svg>"#);
        let near = |got: [f64; 2], expected: [f64; 2]| {
            assert!((got[0] - expected[0]).abs() < 0.01 && (got[1] - expected[1]).abs() < 0.01, "{got:?} {expected:?}");
        };
        let at = |units: f64, size: f64| size * units / 2048.;
        near(span(&text("")), [50. + at(201., 10.), 50. + at(1339., 10.)]);
        near(span(&text(r#"font-size="20""#)), [50. + at(201., 20.), 50. + at(1339., 20.)]);
        near(span(&text(r#"text-anchor="end""#)), [50. - at(1540. - 201., 10.), 50. - at(1540. - 1339., 10.)]);
        near(span(&text(r#"text-anchor="middle""#)), [50. - at(770. - 201., 10.), 50. + at(1339. - 770., 10.)]);
        near(span(&text(r#"textLength="20""#)), [50. + 20. * 201. / 1540., 50. + 20. * 1339. / 1540.]);
        let ys: Vec<f64> = numbers(&text("")).into_iter().skip(1).step_by(2).collect();
        assert!(ys.iter().all(|&y| (7. ..=15.).contains(&y)), "{ys:?}");
    }

    #[test]
    fn the_rest_of_a_picture_stays_as_it_is() {
        let svg = format!(r##"{OPENING}<g fill="#123456"><text fill="#ff0000">a &lt; b</text><rect/></g></svg>"##);
        let outlined = outlined(&svg).unwrap();
        assert!(outlined.starts_with(&format!("{OPENING}<g fill=\"#123456\"><path d=\"M")), "{outlined}");
        assert!(outlined.ends_with("\" fill=\"#ff0000\"/><rect/></g></svg>"), "{outlined}");
        assert!(super::outlined("<svg").is_err());
    }
}
