//! A standby that stalls names what holds it, on the page and in its picture; it is promoted from there, by keyboard and
//! not by accident, and moves.

use std::time::Duration;

use serde_json::json;

use crate::browser::Page;
use crate::pipelines::{Kind, Pipelines};

/// Milliseconds since 1970.
const CLOCK: u64 = 1_790_000_000_000;

#[test]
fn a_stall_is_shown_and_a_promotion_ends_it() {
    let kind =
        Kind { standby: true, stall_after: Duration::from_millis(300), first: CLOCK, hangs: false };
    let pipelines = Pipelines::run(&[""], kind);
    let mut page = Page::open(&pipelines.url());
    page.until("document.querySelector('.state').textContent === 'stalled'");
    page.until(
        "document.querySelector('.why').textContent.includes('no writer: this is a standby')",
    );
    page.until(
        "document.querySelector('li.shard.pinned .badge')?.textContent.startsWith('pinned since ')",
    );
    // What holds it is the loop of another process, whose boxes are on its page.
    let badge = page.text("document.querySelector('li.shard .badge').textContent");
    assert!(badge.ends_with(", by the output of a writer"), "{badge}");
    assert_eq!(page.ask("document.querySelectorAll('.pinned, .holds').length"), 1);
    // Times that are those of a clock are shown as such.
    let at = page.text("document.querySelector('li.input .at').textContent");
    assert_eq!(at, "2026-09-21 14:13:20.003Z");
    let lag = page.text("document.querySelector('li.input').innerText");
    assert!(lag.contains("behind the clock"), "{lag}");
    page.picture("stalled");
    page.colours("dark");
    page.picture("stalled-dark");
    page.colours("light");

    // By keyboard: the button is the first thing that has the focus, and asks.
    page.press("Tab");
    assert_eq!(page.ask("document.activeElement.textContent"), "Promote\u{2026}");
    page.press("Enter");
    page.until("document.querySelector('#ask').open");
    assert_eq!(page.ask("document.activeElement.textContent"), "Cancel", "no is the first answer");
    assert_eq!(page.ask("document.querySelector('#asked').textContent"), "mem:");
    page.picture("asks");
    page.press("Enter");
    page.until("!document.querySelector('#ask').open");
    page.press("Enter");
    page.until("document.querySelector('#ask').open");
    page.press("Escape");
    page.until("!document.querySelector('#ask').open");
    two_documents(&mut page);
    assert_eq!(page.ask("document.querySelector('.role').textContent.split(' ')[0]"), "standby");
    page.press("Enter");
    page.until("document.querySelector('#ask').open");
    page.press("Tab");
    assert_eq!(page.ask("document.activeElement.id"), "promote");
    page.press("Enter");
    page.until("document.querySelector('.role').textContent.startsWith('writer')");
    page.until("document.querySelector('.state').textContent === 'running'");
    page.until("!document.querySelector('.pinned, .holds')");
    // In words too, and other numbers as they are.
    page.until(
        "document.querySelector('.why').textContent === \
                'rows of time 2026-09-21 14:13:20.003Z wait for the source to close it'",
    );
    let append = "held by the sink (append of [1790000000003, 1790000000004)); 1790000000003 bytes";
    let words = page.text(&format!(
        "words({{ metrics: {{}}, input: {{ at: '{CLOCK}' }}, upper: {{ at: '0' }}, why: '{append}' }})"
    ));
    assert_eq!(
        words,
        "held by the sink (append of [2026-09-21 14:13:20.003Z, 2026-09-21 14:13:20.004Z)); \
         1790000000003 bytes"
    );
    page.until("document.querySelector('.promote').hidden && !document.querySelector('#ask').open");
    page.until("document.querySelector('li.shard .at').textContent === '2026-09-21 14:13:20.003Z'");
    page.is_well();
}

/// What is selected stays selected, and as it was read, while what stands about it goes on.
#[test]
fn a_selection_survives_what_is_new() {
    let kind =
        Kind { standby: true, stall_after: Duration::from_millis(300), first: 7, hangs: false };
    let pipelines = Pipelines::run(&[""], kind);
    let mut page = Page::open(&pipelines.url());
    page.until("document.querySelector('.why').textContent.includes('no writer')");
    let select = "(() => { const why = document.querySelector('.why'); \
                  getSelection().selectAllChildren(why); return getSelection().toString() })()";
    let selected = page.text(select);
    assert!(selected.contains("the shard's upper stands at 0"), "{selected}");
    // The text itself has another number of seconds in each.
    two_documents(&mut page);
    two_documents(&mut page);
    assert_eq!(page.ask("getSelection().toString()"), json!(selected));
    page.ask("getSelection().removeAllRanges()");
    page.until(&format!("document.querySelector('.why').textContent !== {}", json!(selected)));
    page.is_well();
}

/// Waits until the page has been drawn anew twice.
fn two_documents(page: &mut Page) {
    page.ask("window.ticks = [...sections.values()][0].tick");
    page.until("[...sections.values()][0].tick >= window.ticks + 2");
}
