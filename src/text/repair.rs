//! Text as open_clip and transformers tidy it before they cut it into tokens: what ftfy's `fix_text` repairs, white space, punctuation.
//!
//! One thing of ftfy's is left out: text that was decoded in a wrong encoding (`cafÃ©`) stays as it is.

use tallow_weights::text::Cleaning;
use tokenizers::normalizers::{NFC, NFKC};
use tokenizers::{NormalizedString, Normalizer};

use super::entities::{unescape, unescape_sure};

/// ASCII's punctuation, which Python calls `string.punctuation`.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
}

/// What Python calls white space: Unicode's, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// open_clip's `get_clean_fn`.
pub(super) fn clean(text: &str, cleaning: Cleaning) -> String {
    let basic = unescape(&unescape(&fix(text)));
    match cleaning {
        Cleaning::Lower => even(&basic).to_lowercase(),
        Cleaning::Canonicalize => {
            let words: String = basic.replace('_', " ").chars().filter(|&c| !is_punctuation(c)).collect();
            even(&words.to_lowercase())
        }
        // White space is made even in every other way too.
        _ => even(&basic),
    }
}

/// What transformers' SigLIP tokenizer makes of a text: in lower case, without punctuation, with even white space. It puts the mark of a
/// word's beginning in front before all that, so that white space at the beginning becomes a word of its own.
pub(super) fn canonicalize_siglip(text: &str) -> String {
    let words = siglip_words(text);
    let text = even(&words);
    if text.is_empty() || !words.starts_with(is_space) { text } else { format!("\u{2581} {text}") }
}

/// The same of what follows a mark such as `</s>` in a text.
pub(super) fn canonicalize_siglip_behind_mark(text: &str) -> String {
    even(&siglip_words(text))
}

fn siglip_words(text: &str) -> String {
    text.replace('\u{2581}', " ").to_lowercase().chars().filter(|&c| !is_punctuation(c)).collect()
}

/// One space between words and none around them.
fn even(text: &str) -> String {
    text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// ftfy's `fix_text`, line by line.
fn fix(text: &str) -> String {
    // Where a line has a tag, what looks like an entity may be meant; so it is then for the rest of the text.
    let mut entities = true;
    let lines = text.split_inclusive('\n').map(|line| {
        entities &= !line.contains('<');
        fix_line(line, entities)
    });
    lines.collect()
}

fn fix_line(line: &str, entities: bool) -> String {
    let mut text = line.to_owned();
    loop {
        let mut fixed = if entities { unescape_sure(&text) } else { text.clone() };
        fixed = fixed.chars().map(of_windows).collect();
        fixed = without_ligatures(&fixed);
        fixed = with_usual_widths(&fixed);
        fixed = fixed.chars().map(straight).collect();
        fixed = fixed.replace("\r\n", "\n").replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        fixed = without_terminal_escapes(&fixed);
        fixed.retain(|c| !is_unwanted(c));
        fixed = normalised(&NFC, &fixed);
        if fixed == text {
            return fixed;
        }
        text = fixed;
    }
}

/// A control character that nobody means, as Windows-1252 has it in its place.
fn of_windows(c: char) -> char {
    match u32::from(c) {
        code @ 0x80..=0x9f => windows_1252(code as u8),
        _ => c,
    }
}

/// A byte from 0x80 to 0x9f in Windows-1252; those without a character stand for themselves.
pub(super) fn windows_1252(byte: u8) -> char {
    const CHARACTERS: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    CHARACTERS.get(usize::from(byte.wrapping_sub(0x80))).copied().unwrap_or(char::from(byte))
}

fn without_ligatures(text: &str) -> String {
    const LIGATURES: [(char, &str); 22] = [
        ('Ĳ', "IJ"),
        ('ĳ', "ij"),
        ('ŉ', "ʼn"),
        ('Ǳ', "DZ"),
        ('ǲ', "Dz"),
        ('ǳ', "dz"),
        ('Ǆ', "DŽ"),
        ('ǅ', "Dž"),
        ('ǆ', "dž"),
        ('Ǉ', "LJ"),
        ('ǈ', "Lj"),
        ('ǉ', "lj"),
        ('Ǌ', "NJ"),
        ('ǋ', "Nj"),
        ('ǌ', "nj"),
        ('ﬀ', "ff"),
        ('ﬁ', "fi"),
        ('ﬂ', "fl"),
        ('ﬃ', "ffi"),
        ('ﬄ', "ffl"),
        ('ﬅ', "ſt"),
        ('ﬆ', "st"),
    ];
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match LIGATURES.iter().find(|(ligature, _)| *ligature == c) {
            Some((_, letters)) => out.push_str(letters),
            None => out.push(c),
        }
    }
    out
}

/// Half and full width forms as the usual characters, and the ideographic space as a space.
fn with_usual_widths(text: &str) -> String {
    let has_width = |c: char| matches!(c, '\u{ff01}'..='\u{ffef}' | '\u{3000}');
    if !text.contains(has_width) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.push_str(&normalised(&NFKC, c.encode_utf8(&mut [0; 4]))),
            _ => out.push(c),
        }
    }
    out
}

fn straight(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => c,
    }
}

/// Without the sequences that give terminals colours: escape, a bracket, numbers, a letter.
fn without_terminal_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let inner = &rest[at + 2..];
        let numbers = inner.trim_start_matches(|c: char| c.is_numeric() || c == ';');
        out.push_str(&rest[..at]);
        rest = match numbers.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(behind) => behind,
            None => {
                out.push_str("\u{1b}[");
                inner
            }
        };
    }
    out.push_str(rest);
    out
}

/// Control characters that are no white space, deprecated ones, and marks of the order of bytes.
fn is_unwanted(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
    )
}

fn normalised(form: &impl Normalizer, text: &str) -> String {
    let mut normalised = NormalizedString::from(text);
    match form.normalize(&mut normalised) {
        Ok(()) => normalised.get().to_owned(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_repaired_as_ftfy_repairs_it() {
        for (text, expected) in [
            ("Broken text&hellip; it&#x2019;s ﬂubberiﬁc!", "Broken text… it's flubberific!"),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ", "LOUD NOISES"),
            ("<b>&amp;</b> “x”", "<b>&amp;</b> \"x\""),
            ("\u{1b}[36;44mblue\u{1b}[0m\u{feff}", "blue"),
            ("e\u{301}\u{85}x", "é…x"),
        ] {
            assert_eq!(fix(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_cleaned_as_open_clip_cleans_them() {
        let text = "  A_Cat's &amp;amp; DOG’s\t\n café. ";
        assert_eq!(clean(text, Cleaning::Lower), "a_cat's & dog's café.");
        assert_eq!(clean(text, Cleaning::Canonicalize), "a cats dogs café");
        assert_eq!(clean(text, Cleaning::Whitespace), "A_Cat's & DOG's café.");
        assert_eq!(canonicalize_siglip("A_Cat's\u{2581}DOG. "), "acats dog");
        assert_eq!(canonicalize_siglip(". A  Cat"), "\u{2581} a cat");
        assert_eq!(canonicalize_siglip(" ... "), "");
    }
}
