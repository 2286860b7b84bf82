//! The table of architectures: a name, one line of numbers; wildcard search.
