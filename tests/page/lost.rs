//! A process that does not answer is told from one that stands still, and the page comes back by itself; a store that does
//! not answer is seen before it is a stall; and a process of a cluster says which one it is.

use std::time::Duration;

use crate::browser::Page;
use crate::client::Server;
use crate::pipelines::{Kind, Pipelines};
use crate::process::{start_cluster, start_ingest};

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

/// As many pages are open as may be: one more says that it connects, until one goes.
#[test]
fn a_page_that_has_heard_nothing_connects() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("feed"), "").expect("it");
    let server = Server::start(dir.path(), &["feed", "--shard", "s", "--follow"]);
    let open: Vec<_> = (0..32).map(|_| server.events()).collect();
    let mut page = Page::at(&format!("http://{}/", server.address));
    page.until("document.querySelector('#connecting')?.innerText === 'connecting\u{2026}'");
    drop(open);
    page.until("document.querySelector('#connecting').hidden && document.querySelector('.state')");
    page.is_well();
    server.stop();
}

#[test]
fn a_store_that_does_not_answer_is_amber_before_it_is_a_stall() {
    let kind = Kind { standby: false, stall_after: Duration::from_secs(30), first: 3, hangs: true };
    let pipelines = Pipelines::run(&["orders"], kind);
    let mut page = Page::open(&pipelines.url());
    page.until("document.querySelector('.state').textContent === 'running'");
    page.until("document.querySelector('.state.waits')?.textContent === 'running'");
    let why = page.text("document.querySelector('.why').textContent");
    assert!(why.starts_with("the store does not answer for "), "{why}");
    page.is_well();
}

#[test]
fn a_process_of_a_cluster_says_which_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("feed"), "{\"key\":1,\"value\":1,\"ts\":0}\n").expect("it");
    let args = ["feed", "--shard", "s", "--follow", "-w", "2", "--http", "127.0.0.1:0"];
    let cluster = start_cluster(dir.path(), &args).map(Server::of);
    for (at, server) in cluster.iter().enumerate() {
        let mut page = Page::open(&format!("http://{}/", server.address));
        page.until(&format!(
            "document.querySelector('.role').textContent.includes(' process {at} of 2 ')"
        ));
        page.is_well();
    }
}
