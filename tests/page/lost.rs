//! A process that does not answer is told from one that stands still, and the page comes back by itself.

use crate::browser::Page;
use crate::client::Server;
use crate::process::start_ingest;

const LOST: &str = "!document.querySelector('#lost').hidden && \
    /^no answer since \\d\\d:\\d\\d:\\d\\dZ, .* trying again$/.test(document.querySelector('#lost').textContent)";
const BACK: &str =
    "document.querySelector('#lost').hidden && !document.body.classList.contains('lost')";

#[test]
fn a_lost_process_is_said_and_found_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    std::fs::write(dir.join("feed"), "{\"key\":1,\"value\":1,\"ts\":0}\n{\"closed\":1}\n")
        .expect("it");
    let args = ["feed", "--shard", "s", "--follow"];
    let server = Server::start(dir, &args);
    let mut page = Page::open(&format!("http://{}/", server.address));
    page.until("document.querySelector('li.shard .at')?.textContent === '1'");
    page.ask("window.same = true");
    // One that hangs: the connection stays.
    server.running.signal("STOP");
    page.until(LOST);
    page.picture("lost");
    server.running.signal("CONT");
    page.until(BACK);
    // One that is gone, and comes back where it was.
    server.running.signal("KILL");
    page.until(LOST);
    let address = server.address.clone();
    drop(server);
    let again = start_ingest(dir, &[&args[..], &["--http", &address]].concat());
    page.until(BACK);
    page.until("document.querySelector('li.shard .at').textContent === '1'");
    assert_eq!(page.ask("window.same"), true, "it is the same page");
    page.is_well();
    drop(again);
}
