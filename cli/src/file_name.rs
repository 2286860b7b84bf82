//! Names of files and folders made of names of runs, models and data sets.

/// What a text is called as a file: letters, digits, dots, dashes and underscores.
pub fn file_name(text: &str) -> String {
    let kept: String =
        text.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect();
    kept.trim_matches(['-', '.']).to_string()
}
