//! The page of an `ingest` says what it is, moves in place with it, and says what failed.

use std::io::Write;

use crate::browser::Page;
use crate::client::Server;

#[test]
fn the_page_moves_with_the_feed() {
    let dir = tempfile::tempdir().expect("a directory");
    let row = |key: u64, ts: u64| format!("{{\"key\":{key},\"value\":\"{key}\",\"ts\":{ts}}}\n");
    let rows: String = (0..200).map(|key| row(key, key / 100)).collect();
    std::fs::write(dir.path().join("feed"), rows).expect("a feed");
    let server =
        Server::start(dir.path(), &["feed", "--shard", "s", "--follow", "--name", "lines"]);
    let mut page = Page::open(&format!("http://{}/", server.address));
    page.until("document.querySelector('li.shard .at')?.textContent === '1'");
    page.until("document.querySelector('.why').textContent === 'rows of time 1 wait for the source to close it'");
    let head = page.text("document.querySelector('h1').innerText");
    assert!(head.starts_with("running lines: feed \u{2192} file:"), "{head}");
    let who = page.text("document.querySelector('.role').textContent");
    let version = format!("version {}", env!("CARGO_PKG_VERSION"));
    assert!(
        who.starts_with("writer \u{b7} ") && who.contains(&version) && who.contains("up "),
        "{who}"
    );
    assert_eq!(page.ask("document.querySelector('.promote').hidden"), true);
    let fact = |name: &str| {
        format!(
            "[...document.querySelectorAll('.facts div')].find((row) => !row.hidden && \
                 row.firstChild.textContent === '{name}')?.lastChild.textContent"
        )
    };
    for (name, value) in [
        ("Above (waited)", "200"),
        ("Equal (emitted)", "100"),
        ("Below (already there)", "0"),
        ("Appends won", "1"),
        ("Keys in error", "0"),
        ("Writers", "1"),
    ] {
        page.until(&format!("{} === '{value}'", fact(name)));
    }
    // What is not known is left out: there is no cold state, and no append whose outcome is unknown.
    for name in ["Rows on disk alone", "Appends, outcome unknown"] {
        assert!(page.ask(&fact(name)).is_null(), "{name}");
    }
    // The same page, not another one.
    page.ask("window.same = true");
    let mut feed =
        std::fs::OpenOptions::new().append(true).open(dir.path().join("feed")).expect("it");
    for ts in 2..40 {
        feed.write_all((0..50).map(|key| row(key, ts)).collect::<String>().as_bytes())
            .expect("rows");
    }
    page.until("document.querySelector('li.shard .at').textContent === '39'");
    let most = "document.querySelector('figure.rows .most').textContent";
    page.until(&format!("{most}.startsWith('at most ') && {most} !== 'at most 0'"));
    page.until("document.querySelector('figure.commits .line').getAttribute('d').length > 10");
    let words = "[count(1, 'unit'), count(2, 'unit'), bytes(1), short.format(100.4)].join()";
    assert_eq!(page.text(words), "1 unit,2 units,1 byte,100");
    assert_eq!(page.ask("window.same"), true);
    page.picture("running");
    // Between two commits it is not idle, and after the last one it is.
    feed.write_all(b"{\"closed\":40}\n").expect("a line");
    let state = |state: &str| format!("document.querySelector('.state').textContent === '{state}'");
    let all_in = ["input", "shard"]
        .map(|place| format!("document.querySelector('li.{place} .at').textContent === '40'"));
    page.until(&format!("{} && {}", all_in.join(" && "), state("running")));
    page.until(&state("idle"));
    page.is_well();
    server.stop();
}

#[test]
fn a_failure_is_still_to_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let feed = "{\"key\":1,\"value\":1,\"ts\":0}\n<b>bad</b>\n";
    std::fs::write(dir.path().join("feed"), feed).expect("a feed");
    let server = Server::start(dir.path(), &["feed", "--shard", "s", "--linger", "3600"]);
    let mut page = Page::open(&format!("http://{}/", server.address));
    page.until("document.querySelector('.state').textContent === 'failed'");
    page.until("document.querySelector('.why').textContent.includes('feed:2')");
    page.until("document.title.startsWith('failed ')");
    page.picture("failed");
    page.is_well();
}
