//! Owns the comparison of two shapes: whether they agree, and where they do not. It knows the text of
//! shapes, and not the types that they came from: one of the two was stored by another program.

use super::words::words;

/// The first place where two shapes do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The fields and variants that lead there, with a dot before each; empty at the top.
    pub path: String,
    /// What the one has there, cut to a line.
    pub left: String,
    /// What the other has there.
    pub right: String,
}

/// The longest piece of a shape that is shown, in characters.
const SHOWN_MAX: usize = 80;

/// Compares two shapes, and returns the first place where they do not agree. `?` agrees with anything.
///
/// ```
/// use differential_upsert::codec::shape::difference;
/// let found = difference("struct{at: {u8: [u32]}, n: u8}", "struct{at: {u8: [u64]}, n: u8}").unwrap();
/// assert_eq!((&*found.path, &*found.left, &*found.right), (".at", "u32", "u64"));
/// assert_eq!(difference("struct{at: ?, n: u8}", "struct{at: {u8: [u64]}, n: u8}"), None);
/// ```
pub fn difference(left: &str, right: &str) -> Option<Difference> {
    let (a, b) = (words(left), words(right));
    let (mut i, mut j) = (0, 0);
    // The member that is being read, for each bracket that is open.
    let mut path: Vec<Option<&str>> = vec![None];
    loop {
        match (a.get(i), b.get(j)) {
            (None, None) => return None,
            (Some(&"?"), Some(_)) => (i, j) = (i + 1, skip(&b, j)),
            (Some(_), Some(&"?")) => (i, j) = (skip(&a, i), j + 1),
            (Some(one), Some(other)) if one == other => {
                match *one {
                    "{" | "(" | "[" | "<" => path.push(None),
                    "}" | ")" | "]" | ">" => drop(path.pop()),
                    word => {
                        let names = matches!(a.get(i + 1), Some(&(":" | "(" | "{")));
                        let first = i > 0 && matches!(a[i - 1], "{" | ",");
                        if names && first && !is_key(&a, i) && !matches!(word, "struct" | "enum") {
                            if let Some(member) = path.last_mut() {
                                *member = Some(word);
                            }
                        } else if word == ","
                            && let Some(member) = path.last_mut()
                        {
                            *member = None;
                        }
                    }
                }
                (i, j) = (i + 1, j + 1);
            }
            (one, other) => {
                // One ends where the other has a member more.
                if (one == Some(&",") || other == Some(&","))
                    && let Some(member) = path.last_mut()
                {
                    *member = None;
                }
                let path = path.into_iter().flatten().map(|name| format!(".{name}")).collect();
                return Some(Difference { path, left: shown(&a, i), right: shown(&b, j) });
            }
        }
    }
}

/// Whether a word is the type of a map's keys, and not the name of a member: no name stands before the
/// bracket that it follows.
fn is_key(words: &[&str], at: usize) -> bool {
    let named = |word: &&str| !matches!(*word, "{" | "(" | "[" | "<" | ":" | "," | ";");
    words[at - 1] == "{" && !(at > 1 && named(&words[at - 2]))
}

/// Returns the place after the type that begins at `at`.
fn skip(words: &[&str], at: usize) -> usize {
    let mut depth = 0usize;
    for (place, word) in words.iter().enumerate().skip(at) {
        match *word {
            "{" | "(" | "[" | "<" => depth += 1,
            // What is not there ends where its surroundings do.
            "}" | ")" | "]" | ">" | "," | ":" if depth == 0 => return place,
            "}" | ")" | "]" | ">" => depth -= 1,
            _ => {}
        }
        let goes_on = matches!(words.get(place + 1), Some(&("{" | "(" | "[" | "<")));
        if depth == 0 && !goes_on {
            return place + 1;
        }
    }
    words.len()
}

/// Returns the rest of the member that a place is in.
fn shown(words: &[&str], at: usize) -> String {
    let mut depth = 0usize;
    let mut text = String::new();
    // One has come to its end: the other goes on with this.
    let at = at + usize::from(words.get(at) == Some(&","));
    for word in words.iter().skip(at) {
        match *word {
            "{" | "(" | "[" | "<" => depth += 1,
            "}" | ")" | "]" | ">" if depth == 0 => break,
            "}" | ")" | "]" | ">" => depth -= 1,
            "," if depth == 0 => break,
            _ => {}
        }
        text.push_str(word);
        if matches!(*word, "," | ":" | ";") {
            text.push(' ');
        }
        if text.chars().count() > SHOWN_MAX {
            return text.chars().take(SHOWN_MAX).chain("..".chars()).collect();
        }
    }
    if text.is_empty() { "nothing".to_string() } else { text }
}
