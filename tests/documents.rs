//! Goal: what README and `docs/` link is there, and so also on a registry's page: in the package. Method: reads every
//! link of these texts, and looks for its file in what `cargo package` lists, and for its heading in that file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the package.
fn packaged() -> BTreeSet<String> {
    let listed = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo");
    let (names, said) = (listed.stdout, String::from_utf8_lossy(&listed.stderr));
    assert!(listed.status.success(), "cargo package --list: {said}");
    String::from_utf8(names).expect("UTF-8").lines().map(str::to_string).collect()
}

/// The texts: README, and each of `docs/`.
fn texts() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs/");
    let docs = docs.map(|entry| PathBuf::from("docs").join(entry.expect("an entry").file_name()));
    let is_text = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    docs.filter(is_text).chain([PathBuf::from("README.md")]).collect()
}

/// Returns a text without its blocks of code.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Returns where the links of a text go, outside of its blocks of code.
fn links(text: &str) -> Vec<String> {
    let ends = |rest: &str| rest.split_once(')').map(|(link, _)| link.to_string());
    prose(text).split("](").skip(1).filter_map(ends).collect()
}

/// Returns the names by which the headings of a text are linked.
fn headings(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    prose(text).lines().filter(|line| line.starts_with('#')).map(name).collect()
}

/// Returns what is wrong with a link of a text.
fn wrong(of: &Path, link: &str, packaged: &BTreeSet<String>) -> Option<String> {
    if link.starts_with("https://") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let mut path = PathBuf::new();
    let target = match file {
        "" => of.to_path_buf(),
        file => of.parent().expect("a folder").join(file),
    };
    for part in target.components() {
        match part.as_os_str().to_str().expect("UTF-8") {
            ".." if !path.pop() => return Some(format!("{link} is outside of the package")),
            ".." => {}
            name => path.push(name),
        }
    }
    if !packaged.contains(path.to_str().expect("UTF-8")) {
        return Some(format!("{link} is not in the package"));
    }
    if heading.is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(root().join(&path)).expect("a text");
    let is_there = headings(&text).iter().any(|name| name == heading);
    (!is_there).then(|| format!("{link}: {} has no such heading", path.display()))
}

#[test]
fn what_is_linked_is_in_the_package() {
    let packaged = packaged();
    let (mut seen, mut found) = (0, Vec::new());
    for path in texts() {
        let text = std::fs::read_to_string(root().join(&path)).expect("a text");
        let links = links(&text);
        seen += links.len();
        let told = links.iter().filter_map(|link| wrong(&path, link, &packaged));
        found.extend(told.map(|what| format!("{}: {what}", path.display())));
    }
    assert!(seen > 40, "{seen} links");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_planted_link_is_found() {
    let packaged = BTreeSet::from(["README.md".to_string(), "docs/feeds.md".to_string()]);
    let found = |of, link| wrong(Path::new(of), link, &packaged);
    assert_eq!(found("docs/feeds.md", "../README.md#run"), None);
    assert_eq!(found("README.md", "docs/feeds.md"), None);
    assert_eq!(found("README.md", "#install"), None);
    assert_eq!(found("README.md", "https://docs.rs"), None);
    for (of, link) in [
        ("docs/feeds.md", "feeds"),
        ("docs/feeds.md", "../../README.md"),
        ("docs/feeds.md", "../README.md#walk"),
        ("README.md", "#walk"),
        ("README.md", "feeds.md"),
    ] {
        assert!(found(of, link).is_some(), "{link} of {of}");
    }
}

#[test]
fn readme_is_short() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("README");
    assert!(text.lines().count() < 200, "{} lines: put the rest into docs/", text.lines().count());
}

#[test]
fn each_document_is_compiled() {
    let library = std::fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    for path in texts() {
        let include = format!("include_str!(\"../{}\")", path.display());
        assert!(library.contains(&include), "src/lib.rs has no {include}");
    }
}
