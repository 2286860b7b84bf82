//! Text from files of others, as it may stand in a message or a report.

/// Text from a file on one line, without what could command a terminal or turn the text around it.
pub fn one_line(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    // The last two are not allowed in XML.
    let bad = |c: char| c.is_control() || turns(c) || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}

/// The same, cut where it is longer than anybody reads.
pub fn quoted(text: impl ToString) -> String {
    const LONGEST: usize = 1000;
    let text = text.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} bytes)", one_line(&text[..end]), text.len()),
        None => one_line(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_but_for_what_commands_a_terminal_or_turns_text_around() {
        assert_eq!(one_line("größe 3 µm, 猫 & <b>"), "größe 3 µm, 猫 & <b>");
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{202e}d"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(quoted("ä".repeat(1000)), "ä".repeat(1000));
        assert_eq!(quoted("ä".repeat(1001)), format!("{}… (2002 bytes)", "ä".repeat(1000)));
    }
}
