//! The page is readable on a phone and in the dark, and asks nothing of other hosts.

use std::time::Duration;

use crate::browser::Page;
use crate::pipelines::{Kind, Pipelines};

const MINUTE: Duration = Duration::from_secs(60);

/// Milliseconds since 1970.
const CLOCK: u64 = 1_790_000_000_000;

#[test]
fn it_fits_a_phone_and_the_night() {
    let kind = Kind { standby: false, stall_after: MINUTE, first: CLOCK, hangs: false };
    let pipelines = Pipelines::run(&["orders", "customers"], kind);
    let mut page = Page::open(&pipelines.url());
    page.until("document.querySelectorAll('section').length === 2");
    page.until("document.querySelectorAll('li.shard .at')[1]?.textContent.startsWith('2026-')");
    // Each has a feed of its own.
    for (at, name) in ["orders", "customers"].into_iter().enumerate() {
        let feed = page.text(&format!("document.querySelectorAll('.feed')[{at}].textContent"));
        assert_eq!(feed, format!("{name}: the feed of {name}"));
    }
    page.picture("several");
    for width in [320, 390, 768] {
        page.resize(width, 844, width < 768);
        let wide = page.ask("document.documentElement.scrollWidth");
        assert!(wide.as_u64().is_some_and(|wide| wide <= u64::from(width)), "{wide} in {width}");
        let least = page.ask("Math.min(...[...document.querySelectorAll('main *')].filter((one) => \
                              one.innerText).map((one) => parseFloat(getComputedStyle(one).fontSize)))");
        assert!(least.as_f64().is_some_and(|size| size >= 12.0), "{least}");
        page.picture(&format!("phone-{width}"));
    }
    let back = "getComputedStyle(document.body).backgroundColor";
    let light = page.text(back);
    page.colours("dark");
    assert_ne!(page.text(back), light);
    // Text on its ground, as the guidelines for accessibility count it: 4.5 to 1.
    for scheme in ["light", "dark"] {
        page.colours(scheme);
        let least = page.ask(CONTRAST);
        assert!(least["ratio"].as_f64().is_some_and(|ratio| ratio >= 4.5), "{scheme}: {least}");
    }
    page.picture("phone-dark");
    assert_eq!(
        page.ask(
            "performance.getEntriesByType('resource').filter((one) => \
                         !one.name.startsWith(location.origin)).length"
        ),
        0
    );
    page.is_well();
}

/// The least contrast of a text with the nearest ground behind it.
const CONTRAST: &str = "(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  let least = { ratio: 99 };
  for (const one of document.querySelectorAll('main *, footer *')) {
    if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    if (!one.getClientRects().length) continue;
    let ground = one;
    while (ground && parts(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const pair = [getComputedStyle(one).color, getComputedStyle(ground ?? document.body).backgroundColor];
    const [a, b] = pair.map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < least.ratio) least = { ratio, text: one.textContent, pair };
  }
  return least;
})()";
