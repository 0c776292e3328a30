//! Owns how the text of a shape is cut into words. What they say is for those that read them.

/// Cuts a shape into names, brackets and separators.
pub(super) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => quoted(rest),
            '{' | '}' | '(' | ')' | '[' | ']' | '<' | '>' | ':' | ',' | ';' | '?' => 1,
            _ => rest.find(|c: char| "{}()[]<>:,;?\" ".contains(c)).unwrap_or(rest.len()),
        };
        let (word, more) = rest.split_at(length);
        words.push(word);
        rest = more.trim_start();
    }
    words
}

/// Returns the length of a name in quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}
