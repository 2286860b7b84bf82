//! The library's words in those of the command line: a setting that a message names is a flag here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use clap::CommandFactory;

use crate::flags::Cli;

/// The flags of all commands, as the library names them.
static SETTINGS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let command = Cli::command();
    let commands = command.get_subcommands().chain([&command]);
    let flags = commands.flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long);
    flags.map(|flag| flag.replace('-', "_")).collect()
});

/// A message of the library, whose settings stand between backticks as in a recipe, with flags in their place: `` `img_size = 224` ``
/// becomes `--img-size 224`.
pub fn with_flags(message: &str) -> Cow<'_, str> {
    let mut pieces = message.split('`');
    let Some(first) = pieces.next().filter(|first| first.len() < message.len()) else {
        return Cow::Borrowed(message);
    };
    let mut text = first.to_string();
    let mut quoted = true;
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        // The last one has no backtick behind it.
        match flag(piece).filter(|_| quoted && pieces.peek().is_some()) {
            Some(flag) => {
                text.push_str(&flag);
                text.push_str(pieces.next().unwrap_or_default());
            }
            None => {
                text.push('`');
                text.push_str(piece);
                quoted = !quoted;
            }
        }
    }
    Cow::Owned(text)
}

/// What stands between backticks as a flag, if it is a setting.
fn flag(quoted: &str) -> Option<String> {
    let (name, value) = quoted.split_once(' ').unwrap_or((quoted, ""));
    let name = SETTINGS.get(name)?.replace('_', "-");
    let value = value.trim_start_matches("= ");
    Some(if value.is_empty() { format!("--{name}") } else { format!("--{name} {value}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_flags_and_all_else_stays() {
        let cases = [
            ("choose it with `train_split = NAME`, or rename it", "choose it with --train-split NAME, or rename it"),
            ("data: `train_split` and `test_split`: different", "data: --train-split and --test-split: different"),
            ("`set num_heads=N` or `arch = NAME`", "--set num_heads=N or --arch NAME"),
            ("choose with `train_split = a` `test_split = b`", "choose with --train-split a --test-split b"),
            ("build with the feature `hub`, or `resume`", "build with the feature `hub`, or --resume"),
            ("`tallow list` shows them; `lr = 1e-4`", "`tallow list` shows them; --lr 1e-4"),
            ("a`b.png: `lr", "a`b.png: `lr"),
            ("nothing to change", "nothing to change"),
        ];
        for (message, expected) in cases {
            assert_eq!(with_flags(message), expected);
        }
    }
}
