//! Names that people gave, as a page and a picture show them: whole, and broken only where their parts meet.

use maud::{Markup, PreEscaped, html};

/// A value behind `=` that is no longer than this stays whole, whatever stands in it.
const WHOLE_VALUE: usize = 16;

/// The pieces of a name: it may go on in the next line after `_`, `/`, `=` and `@`, and where letters follow, after `-`, `.`, `,`
/// and `:`, which stand inside of numbers too; in a short value of a setting (`augment=resized-crop`) nowhere.
fn pieces(name: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut start = 0;
    let mut value_ends = 0;
    let mut letters = name.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let Some(&(next, following)) = letters.peek() else { break };
        let joint = match letter {
            ' ' => following != ' ',
            _ if at < value_ends => false,
            '_' | '/' | '=' | '@' => !following.is_whitespace(),
            '-' | '.' | ',' | ':' => following.is_alphabetic() && at > start,
            _ => false,
        };
        if letter == '=' {
            let value = name[next..].split([' ', ',']).next().unwrap_or_default();
            value_ends = if value.chars().count() <= WHOLE_VALUE { next + value.len() } else { next };
        }
        if joint {
            pieces.push(&name[start..next]);
            start = next;
        }
    }
    pieces.push(&name[start..]);
    pieces
}

/// A name for a page, which may break at its joints and nowhere inside of a word. A browser breaks after any hyphen, unless it is
/// told not to.
pub(super) fn breakable(name: &str) -> Markup {
    html! {
        @let pieces = pieces(name);
        @for (i, piece) in pieces.iter().enumerate() {
            @let word = piece.trim_end_matches(' ');
            @if word.trim_end_matches('-').contains('-') {
                span class="whole" { (word) } (&piece[word.len()..])
            } @else {
                (piece)
            }
            @if i + 1 < pieces.len() && !piece.ends_with(' ') { (PreEscaped("<wbr>")) }
        }
    }
}

/// A name in lines of at most `width` characters, broken at spaces and joints; a word that is longer is broken where the line
/// ends. Nothing is left out but the spaces at the breaks.
pub(super) fn wrapped(name: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    let mut line = String::new();
    for piece in pieces(name) {
        let length = piece.trim_end().chars().count();
        if !line.is_empty() && line.chars().count() + length > width {
            lines.push(std::mem::take(&mut line).trim_end().to_string());
        }
        for c in piece.chars() {
            if line.chars().count() >= width && c != ' ' {
                lines.push(std::mem::take(&mut line).trim_end().to_string());
            }
            line.push(c);
        }
    }
    let last = line.trim_end();
    if !last.is_empty() || lines.is_empty() {
        lines.push(last.to_string());
    }
    lines
}

/// At most `length` characters of a text that stands in a picture's title, where what is left out is said elsewhere.
pub(super) fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.into();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_breaks_at_its_joints_and_stays_whole() {
        assert_eq!(wrapped("probe lr=0.001 weight_decay=0.05", 24), ["probe lr=0.001 weight_", "decay=0.05"]);
        assert_eq!(wrapped("pretrained", 24), ["pretrained"]);
        assert_eq!(wrapped("", 24), [""]);
        assert_eq!(wrapped("aaaaaaaaaa", 4), ["aaaa", "aaaa", "aa"]);
        let name = "vit_small_patch14_dinov2.saliency, 8 epochs at 98 px";
        assert_eq!(wrapped(name, 20).join("").replace(' ', ""), name.replace(' ', ""));
        assert!(wrapped(name, 20).iter().all(|line| line.chars().count() <= 20));
    }

    #[test]
    fn a_page_may_break_a_name_at_its_joints_alone() {
        assert_eq!(breakable("a_b<c").into_string(), "a_<wbr>b&lt;c");
        assert_eq!(breakable("74.1 % at lr=3e-4").into_string(), "74.1 % at lr=<wbr><span class=\"whole\">3e-4</span>");
        assert_eq!(
            breakable("augment=resized-crop seed=0").into_string(),
            "augment=<wbr><span class=\"whole\">resized-crop</span> seed=<wbr>0",
            "a space after it may break"
        );
        assert_eq!(breakable("pre-trained").into_string(), "pre-<wbr>trained", "a word of its own");
        assert_eq!(breakable("plain").into_string(), "plain");
    }
}
