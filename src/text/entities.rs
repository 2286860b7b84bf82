//! HTML's entities in a text, as Python's `html.unescape` and ftfy read them.

/// A text without entities: `caf&eacute;` is `café`. As in Python, a semicolon may be missing where HTML allows it.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = reference(rest);
        let (found, behind) = rest.split_at(length.max(1));
        match number(found) {
            Some(character) => out.push_str(&character),
            None if length > 0 && !found.starts_with("&#") => out.push_str(&htmlize::unescape(found)),
            None => out.push_str(found),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// A text without the entities that surely are some: those that end in a semicolon, and those of Latin letters that were put in upper case.
pub(super) fn unescape_sure(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let name = rest[1..].strip_prefix('#').unwrap_or(&rest[1..]);
        let letters = name.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let end = rest.len() - name.len() + letters;
        let is_one = (1..=24).contains(&letters) && rest[end..].starts_with(';');
        let (found, behind) = rest.split_at(if is_one { end + 1 } else { 1 });
        match is_one.then(|| sure(found)).flatten() {
            Some(character) => out.push_str(&character),
            None => out.push_str(found),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// What an entity with its semicolon stands for.
fn sure(entity: &str) -> Option<String> {
    if entity.starts_with("&#") {
        let text = unescape(entity);
        return (!text.contains(';')).then_some(text);
    }
    if let Some(known) = named(entity) {
        return Some(known);
    }
    let lower = entity.to_lowercase();
    let shouted = entity == entity.to_uppercase() && lower != entity && unescape(entity) == entity;
    named(&lower).filter(|_| shouted).map(|text| text.to_uppercase())
}

/// What a name with its semicolon stands for, if it is one of HTML's.
fn named(entity: &str) -> Option<String> {
    let text = htmlize::unescape(entity);
    let whole = text != entity && (!text.ends_with(';') || entity == "&semi;");
    whole.then(|| text.into_owned())
}

/// Bytes of what may be a reference at the beginning of a text that begins with `&`; 0 if nothing.
fn reference(text: &str) -> usize {
    let inner = &text[1..];
    if let Some(number) = inner.strip_prefix('#') {
        let (digits, sign) = match number.strip_prefix(['x', 'X']) {
            Some(hex) => (hex.bytes().take_while(u8::is_ascii_hexdigit).count(), 1),
            None => (number.bytes().take_while(u8::is_ascii_digit).count(), 0),
        };
        if digits > 0 {
            let end = 2 + sign + digits;
            return end + usize::from(text[end..].starts_with(';'));
        }
    }
    let stops = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let name: usize = inner.chars().take(32).take_while(|&c| !stops(c)).map(char::len_utf8).sum();
    match name {
        0 => 0,
        _ => 1 + name + usize::from(inner[name..].starts_with(';')),
    }
}

/// The character of a reference by number, or nothing for one that Python leaves out; none where it is no number.
fn number(reference: &str) -> Option<String> {
    let digits = reference.strip_prefix("&#")?.trim_end_matches(';');
    let parsed = match digits.strip_prefix(['x', 'X']) {
        Some(hex) if !hex.is_empty() => u32::from_str_radix(hex, 16),
        Some(_) => return None,
        None if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse(),
        None => return None,
    };
    // So many digits that they are no number of a character.
    let code = parsed.unwrap_or(u32::MAX);
    Some(match code {
        0 => '\u{fffd}'.into(),
        // As browsers read them: in Windows-1252, where that has a character.
        0x0d => '\r'.into(),
        0x80..=0x9f => super::repair::windows_1252(code as u8).into(),
        0xd800..=0xdfff | 0x11_0000.. => '\u{fffd}'.into(),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        _ if code & 0xfffe == 0xfffe => String::new(),
        _ => char::from_u32(code).map(String::from).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("AT&amp;T &lt;b&gt; caf&eacute;", "AT&T <b> café"),
            ("a & b &c &", "a & b &c &"),
            ("this&not that &notit; &copy2026", "this¬ that ¬it; ©2026"),
            ("&#x2019;&#233;&#233 &#xZ; &#; &#128;&#x9f;", "’éé &#xZ; &#; €Ÿ"),
            ("&#0;&#xD800;&#99999999999;&#x1;&#xFFFE;|", "\u{fffd}\u{fffd}\u{fffd}|"),
            ("&é&amp;", "&é&"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn only_entities_that_surely_are_some_are_read_in_text_of_unknown_kind() {
        for (text, expected) in [
            ("this&not that &amp &amp;", "this&not that &amp &"),
            ("P&EACUTE;REZ &nTILDE; &NTILDE;", "PÉREZ &nTILDE; Ñ"),
            ("&notit; &#233; &#233", "&notit; é &#233"),
        ] {
            assert_eq!(unescape_sure(text), expected, "{text}");
        }
    }
}
