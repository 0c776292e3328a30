//! Goal: imports go one way. Method: reads every file of `src/`, resolves each path of its `use` lines and of
//! its code to the file that owns the name, and looks for circles among files and folders, and for a room
//! that imports what it may not. Unit tests do not count: they may look anywhere. What the chapters of `guide` name
//! has to be there.
//!
//! A `pub use` alone is a name for the outside and no import; it is one if the file uses the name itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each room may import, from the bottom up: a room names rooms that stand above its own line in this
/// list, so that no circle can be written down. `lib.rs` may import all, and all may import [`EVERYWHERE`].
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("mutant", &[]),
    ("error", &[]),
    ("login", &[]),
    ("io", &[]),
    ("backoff", &[]),
    ("pace", &[]),
    ("scratch", &[]),
    ("counter", &[]),
    ("command", &[]),
    ("codec", &[]),
    ("control", &[]),
    // The core: each can be used alone.
    ("store", &["backoff", "io", "login"]),
    ("shard", &["codec", "counter", "io", "scratch", "store"]),
    ("source", &["backoff", "codec", "command", "counter", "scratch"]),
    ("logging", &["command"]),
    ("upsert", &["codec", "command", "control", "counter", "io", "logging", "scratch"]),
    // What all operators of a pipeline report to, so it sees what is reported.
    ("health", &["codec", "command", "control", "io", "shard", "source", "store", "upsert"]),
    ("input", &["codec", "command", "control", "health", "io", "source", "upsert"]),
    ("connect", &["codec", "command", "input", "login", "pace", "source"]),
    ("reclock", &["codec", "command", "control", "health", "input", "io", "shard", "source"]),
    ("definite", &["codec", "command", "control", "health", "input", "shard", "upsert"]),
    (
        "sink",
        &[
            "codec", "command", "control", "definite", "health", "io", "logging", "reclock",
            "shard", "upsert",
        ],
    ),
    ("feedback", &["codec", "control", "health", "io", "pace", "shard", "upsert"]),
    ("output", &["codec", "control", "health"]),
    (
        "pipeline",
        &[
            "backoff", "codec", "command", "control", "definite", "feedback", "health", "input",
            "io", "output", "pace", "reclock", "shard", "sink", "source", "store", "upsert",
        ],
    ),
    ("face", &["control", "health", "io", "pipeline", "source", "upsert"]),
    ("testing", &["codec", "io", "shard", "store"]),
    ("unstable", &["definite", "shard", "source", "upsert"]),
];

/// Errors are everyone's, and so are the switches of faults.
const EVERYWHERE: &[&str] = &["error", "mutant"];

/// The path of a module, from the crate's root.
type Module = Vec<String>;

/// One name that a file takes from somewhere.
#[derive(Clone, Debug)]
struct Import {
    /// The path as written, from `crate`, `self`, `super` or a name.
    path: Vec<String>,
    /// The name it has here; `*` for all.
    name: String,
    /// It is handed on under this name.
    is_public: bool,
    /// It stands in a module inside the file, whose names are its own.
    is_inner: bool,
}

/// Returns what a path is outside of the modules inside its file that it stands in.
fn out_of(mut path: Vec<String>, depth: usize) -> Vec<String> {
    let up = path.iter().take_while(|name| *name == "super").count();
    path.drain(..up.min(depth));
    if 0 < up && up <= depth {
        path.insert(0, "self".to_string());
    }
    path
}

/// A file of the crate.
#[derive(Debug)]
struct Source {
    /// Where it is, from `src/`.
    file: String,
    imports: Vec<Import>,
    /// The paths that stand in its code.
    paths: Vec<Vec<String>>,
    /// Its code without comments, texts, unit tests and `use` lines.
    code: String,
}

#[derive(Debug, Default)]
struct House {
    files: BTreeMap<Module, Source>,
}

impl House {
    fn read(root: &Path) -> House {
        let mut house = House::default();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if is_test(&path) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    house.add(path.strip_prefix(root).unwrap(), &text);
                }
            }
        }
        house
    }

    fn add(&mut self, file: &Path, text: &str) {
        let mut module: Module =
            file.with_extension("").iter().map(|part| part.to_str().unwrap().to_string()).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let (mut imports, mut paths, mut code) = (Vec::new(), Vec::new(), String::new());
        let whole = without_places(&without_tests(&without_texts(text)));
        for (depth, part) in inner_modules(&whole) {
            let (found, rest) = take_imports(&part);
            imports.extend(found.into_iter().map(|import| Import {
                path: out_of(import.path, depth),
                is_inner: depth > 0,
                ..import
            }));
            paths.extend(inline(&rest).into_iter().map(|path| out_of(path, depth)));
            code.push_str(&rest);
        }
        let file = file.to_str().unwrap().to_string();
        self.files.insert(module, Source { file, imports, paths, code });
    }

    /// Returns the file that owns what a path names, as seen from a module; `None` if it is not ours.
    fn owner(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 32, "names go round: {path:?} in {from:?}");
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.walk(Module::new(), rest, depth),
            "self" => self.walk(from.clone(), rest, depth),
            "super" => {
                let parent = from.split_last().map(|(_, parent)| parent.to_vec())?;
                match rest.first().map(String::as_str) {
                    Some("super") => self.owner(&parent, rest, depth),
                    _ => self.walk(parent, rest, depth),
                }
            }
            child if self.has(from, child) => self.walk(from.clone(), path, depth),
            _ => None,
        }
    }

    /// Follows a path down from a module, through modules and names handed on.
    fn walk(&self, mut at: Module, path: &[String], depth: usize) -> Option<Module> {
        for (index, name) in path.iter().enumerate() {
            if self.has(&at, name) {
                at.push(name.clone());
                continue;
            }
            // A file below may take what the one above has taken.
            let taken = self.files[&at].imports.iter().find(|i| !i.is_inner && i.name == *name);
            if let Some(import) = taken {
                let whole: Vec<String> =
                    import.path.iter().chain(&path[index + 1..]).cloned().collect();
                return self.owner(&at, &whole, depth + 1);
            }
            return Some(at);
        }
        Some(at)
    }

    fn has(&self, module: &Module, child: &str) -> bool {
        let path: Module = module.iter().cloned().chain([child.to_string()]).collect();
        self.files.contains_key(&path)
    }

    /// Returns which file imports which, with the names.
    fn arrows(&self) -> BTreeMap<(&str, &str), BTreeSet<String>> {
        let mut arrows: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
        for (module, source) in &self.files {
            let written = source
                .imports
                .iter()
                .filter(|import| !import.is_public || uses(&source.code, &import.name));
            let mut paths: Vec<Vec<String>> = written.map(|import| import.path.clone()).collect();
            paths.extend(source.paths.iter().cloned());
            for path in paths {
                let Some(owner) = self.owner(module, &path, 0) else { continue };
                let to = &self.files[&owner].file;
                if *to != source.file {
                    let name = path.last().cloned().unwrap_or_default();
                    arrows.entry((&source.file, to)).or_default().insert(name);
                }
            }
        }
        arrows
    }
}

/// Whether a file or a folder is of unit tests.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name == "tests" || name.ends_with("_tests")
}

/// Returns a text with spaces in place of comments and of what stands between quotes.
fn without_texts(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    let starts = |at: usize, word: &str| {
        word.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c))
    };
    while let Some(&c) = chars.get(at) {
        let end = if starts(at, "//") {
            (at..).find(|&i| chars.get(i).is_none_or(|c| *c == '\n')).unwrap()
        } else if starts(at, "/*") {
            (at + 2..).find(|&i| i >= chars.len() || starts(i, "*/")).unwrap() + 2
        } else if c == 'r' && (starts(at + 1, "\"") || starts(at + 1, "#\"")) {
            let end = if starts(at + 1, "#") { "\"#" } else { "\"" };
            let from = at + 1 + end.len();
            (from..).find(|&i| i >= chars.len() || starts(i, end)).unwrap() + end.len()
        } else if c == '"' {
            let mut i = at + 1;
            while chars.get(i).is_some_and(|c| *c != '"') {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i + 1
        } else if c == '\'' && (starts(at + 1, "\\") || chars.get(at + 2) == Some(&'\'')) {
            // A character, and no lifetime.
            (at + 2..).find(|&i| i >= chars.len() || (chars[i] == '\'' && i > at + 1)).unwrap() + 1
        } else {
            out.push(c);
            at += 1;
            continue;
        };
        out.push(' ');
        at = end.min(chars.len());
    }
    out
}

/// Returns code without what is compiled for unit tests alone.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let (mut depth, mut end) = (0, item.len());
        for (i, c) in item.char_indices().skip("#[cfg(test)]".len()) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (c == '}' || c == ';') && depth == 0 {
                end = i + 1;
                break;
            }
        }
        rest = &item[end..];
    }
    out + rest
}

/// Returns code with `pub` in place of `pub(in a::b)`, which says where a name is seen and imports nothing.
fn without_places(code: &str) -> String {
    let mut parts = code.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |out, part| out + "pub" + part.split_once(')').map_or("", |(_, rest)| rest))
}

/// Returns the code of a file, and of each module that is written inside it with how deep that lies.
fn inner_modules(code: &str) -> Vec<(usize, String)> {
    let (mut parts, mut own, mut rest) = (Vec::new(), String::new(), code);
    while let Some(at) = word_at(rest, "mod") {
        let end = at + rest[at..].find([';', '{']).expect("a module ends");
        if rest[end..].starts_with(';') {
            own.push_str(&rest[..=end]);
            rest = &rest[end + 1..];
            continue;
        }
        let mut depth = 0;
        let close = rest[end..].char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0
        });
        let close = end + close.expect("a module closes").0;
        own.push_str(&rest[..at]);
        let inner = inner_modules(&rest[end + 1..close]);
        parts.extend(inner.into_iter().map(|(depth, code)| (depth + 1, code)));
        rest = &rest[close + 1..];
    }
    parts.push((0, own + rest));
    parts
}

/// Takes the `use` lines out of code.
fn take_imports(code: &str) -> (Vec<Import>, String) {
    let (mut found, mut out) = (Vec::new(), String::new());
    // `use<'a>` names lifetimes, and imports nothing.
    let rest_of = code.replace("use<", "<");
    let mut rest = &*rest_of;
    while let Some(at) = word_at(rest, "use") {
        let end = at + rest[at..].find(';').expect("a use line ends");
        let before = rest[..at].trim_end();
        let is_public = before.ends_with("pub") || before.ends_with(')');
        out.push_str(&rest[..at]);
        tree(&rest[at + "use".len()..end], &[], is_public, &mut found);
        rest = &rest[end + 1..];
    }
    (found, out + rest)
}

/// Reads a tree of a `use` line: `a::{b, c as d, e::*}`.
fn tree(text: &str, before: &[String], is_public: bool, found: &mut Vec<Import>) {
    let text = text.trim();
    if let Some(open) = text.find('{') {
        let close = text.rfind('}').expect("a group closes");
        let path: Vec<String> = before.iter().cloned().chain(segments(&text[..open])).collect();
        let (mut depth, mut from) = (0, open + 1);
        for (i, c) in text[..=close].char_indices().skip(open + 1) {
            match c {
                '{' => depth += 1,
                '}' if i < close => depth -= 1,
                _ => {}
            }
            if depth == 0 && (c == ',' || i == close) {
                let part = text[from..i].trim();
                if !part.is_empty() {
                    tree(part, &path, is_public, found);
                }
                from = i + 1;
            }
        }
        return;
    }
    let (path, alias) = match text.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_string())),
        None => (text, None),
    };
    let mut path: Vec<String> = before.iter().cloned().chain(segments(path)).collect();
    let last = path.last().cloned().unwrap_or_default();
    if last == "self" || last == "*" {
        path.pop();
    }
    let name = alias.unwrap_or_else(|| match last.as_str() {
        "self" => path.last().cloned().unwrap_or_default(),
        _ => last,
    });
    found.push(Import { path, name, is_public, is_inner: false });
}

fn segments(path: &str) -> impl Iterator<Item = String> {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_string)
}

/// Returns where a word begins.
fn word_at(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part))
}

/// Whether code has a name in it, but as that of a module that it declares.
fn uses(code: &str, name: &str) -> bool {
    let tight = code.replace(&format!("mod {name};"), "");
    word_at(&format!("{tight} "), name).is_some()
}

/// Returns the paths of two names or more that stand in code.
fn inline(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let tight: String = code.replace(":: ", "::").replace(" ::", "::");
    for part in tight.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        let path: Vec<String> = segments(part).collect();
        if part.contains("::") && path.len() > 1 && !part.starts_with("::") {
            paths.push(path);
        }
    }
    paths
}

/// Returns the groups of nodes that reach each other.
fn circles<'a>(arrows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Vec<&'a str>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    arrows.into_iter().for_each(|(from, to)| {
        next.entry(from).or_default().insert(to);
    });
    let reach = |from: &'a str| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(node) = todo.pop() {
            for &to in next.get(node).into_iter().flatten() {
                if seen.insert(to) {
                    todo.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|&n| (n, reach(n))).collect();
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (&node, seen) in &reached {
        if seen.contains(node) {
            let both = |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(node));
            circles.insert(seen.iter().filter(both).copied().collect());
        }
    }
    circles.into_iter().collect()
}

/// The room of a file: its first folder, or the file itself where it stands alone.
fn room(file: &str) -> &str {
    file.split_once('/').map_or(file.trim_end_matches(".rs"), |(room, _)| room)
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns the circles among what `of` makes of the files, in words, each with the arrows that tie it.
fn told<'a>(house: &'a House, of: impl Fn(&'a str) -> Option<&'a str>) -> Vec<String> {
    let arrows = house.arrows();
    let between: BTreeMap<_, _> = arrows
        .iter()
        .filter_map(|((from, to), names)| Some(((from, to), (of(from)?, of(to)?, names))))
        .filter(|(_, (from, to, _))| from != to)
        .collect();
    let tell = |circle: Vec<&str>| {
        let ties = between
            .iter()
            .filter(|(_, (from, to, _))| circle.contains(from) && circle.contains(to));
        let ties = ties.map(|((from, to), (.., names))| format!("  {from} -> {to}: {names:?}"));
        format!("{circle:?}\n{}", ties.collect::<Vec<_>>().join("\n"))
    };
    circles(between.values().map(|(from, to, _)| (*from, *to))).into_iter().map(tell).collect()
}

/// Returns the circles among what stands in each folder side by side: files, and folders as a whole.
fn told_by_level(house: &House) -> Vec<String> {
    let files = house.files.values().map(|source| &*source.file);
    let folders: BTreeSet<&str> =
        files.flat_map(|file| file.match_indices('/').map(|(at, _)| &file[..=at])).collect();
    let level = |folder: &&str| {
        let folder = folder.to_string();
        told(house, move |file| file.strip_prefix(&*folder)?.split('/').next())
    };
    [""].iter().chain(&folders).flat_map(level).collect()
}

#[test]
fn no_circle_among_files() {
    let found = told(&House::read(&src()), Some);
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_circle_among_folders() {
    let found = told_by_level(&House::read(&src()));
    assert!(found.is_empty(), "{} circles:\n{}", found.len(), found.join("\n"));
}

#[test]
fn rooms_import_what_they_may() {
    for (index, (name, may)) in MAY_IMPORT.iter().enumerate() {
        let below = |other: &&str| MAY_IMPORT[..index].iter().any(|(room, _)| room == other);
        assert!(may.iter().all(below), "{name} names a room that is not below it");
    }
    let house = House::read(&src());
    let mut wrong = Vec::new();
    for ((from, to), names) in house.arrows() {
        let (room_from, room_to) = (room(from), room(to));
        if room_from == room_to || from == "lib.rs" || EVERYWHERE.contains(&room_to) {
            continue;
        }
        let may = MAY_IMPORT.iter().find(|(room, _)| *room == room_from);
        let Some((_, may)) = may else {
            wrong.push(format!("the room {room_from} is not in the list"));
            continue;
        };
        if !may.contains(&room_to) {
            wrong.push(format!("{from} -> {to}: {names:?}"));
        }
    }
    wrong.dedup();
    // What is not seen cannot be wrong: a command's way is.
    let arrows = house.arrows();
    for (from, to) in
        [("pipeline/mod.rs", "input/encode.rs"), ("upsert/steps.rs", "upsert/stash.rs")]
    {
        assert!(arrows.contains_key(&(from, to)), "{from} -> {to} is not seen");
    }
    assert!(wrong.is_empty(), "a room imports what it may not:\n{}", wrong.join("\n"));
}

/// A house of these files.
fn house(files: &[(&str, &str)]) -> House {
    let mut house = House::default();
    files.iter().for_each(|(file, text)| house.add(Path::new(file), text));
    house
}

#[test]
fn a_planted_circle_is_found() {
    // Each arrow is written in another way: a group, a name handed on, a path in code, an alias.
    let planted = [
        ("lib.rs", "mod a; mod b; mod c; pub use a::Alpha;"),
        ("a/mod.rs", "mod deep; pub use deep::{Alpha, other as renamed}; //! crate::b::Beta"),
        ("a/deep.rs", "use crate::{c::{self, Gamma}}; pub struct Alpha; pub fn other() {}"),
        ("b.rs", "fn beta() -> &'static str { crate::a::renamed(); \"use crate::c::Text;\" }"),
        (
            "c.rs",
            "pub(crate) use crate::b::beta as gamma; fn c() { gamma() } mod inner { use super::*; }",
        ),
    ];
    assert_eq!(told(&house(&planted), Some).len(), 1, "{:?}", house(&planted).arrows());
    assert_eq!(circles(house(&planted).arrows().keys().copied()), [["a/deep.rs", "b.rs", "c.rs"]]);
    assert_eq!(told_by_level(&house(&planted)).len(), 1);
    // Handed on and not used, it is a name for others; a unit test may look anywhere.
    let mut opened = planted;
    opened[4].1 =
        "pub(crate) use crate::b::beta as gamma; #[cfg(test)] mod tests { use crate::b::beta; }";
    assert!(told(&house(&opened), Some).is_empty(), "{:?}", house(&opened).arrows());
    // Two folders may tie each other by files that are in no circle.
    let folders = [
        ("a/one.rs", "use crate::b::two::Two;"),
        ("b/two.rs", "pub struct Two;"),
        ("b/three.rs", "use crate::a::four::Four;"),
        ("a/four.rs", "pub struct Four;"),
        ("lib.rs", ""),
        ("a/mod.rs", ""),
        ("b/mod.rs", ""),
    ];
    assert!(told(&house(&folders), Some).is_empty());
    assert_eq!(told_by_level(&house(&folders)).len(), 1);
}

/// Every file of a folder, in one text.
fn all_of(folder: &Path) -> String {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = paths.map(|path| match path.is_dir() {
        true => all_of(&path),
        false => std::fs::read_to_string(&path).unwrap_or_default(),
    });
    texts.collect()
}

#[test]
fn what_the_book_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code: String = ["src", "tests"].map(|folder| all_of(&root.join(folder))).concat();
    // The book itself proves nothing.
    let guide = all_of(&root.join("src/guide"));
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let (mut seen, mut lacking) = (0, Vec::new());
    let outside_of_blocks = guide.split("```").step_by(2);
    for name in outside_of_blocks.flat_map(|text| text.split('`').skip(1).step_by(2)) {
        let is_there = if name.starts_with("tests/") || name.starts_with("src/") {
            root.join(name).exists()
        } else if name.contains('_') && !name.ends_with('_') && is_name(name) {
            code.matches(name).count() > guide.matches(name).count()
        } else {
            continue;
        };
        seen += 1;
        if !is_there {
            lacking.push(name);
        }
    }
    assert!(seen > 100, "{seen} names");
    assert!(lacking.is_empty(), "the book names what is not there: {lacking:?}");
}
