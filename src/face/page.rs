//! Owns the page for people, as HTML, and what a browser may do with it. It does not own what the page shows: that comes
//! as documents, by `/events`.

use crate::io::{RandomTokens, Tokens};

/// Returns the page and its policy: nothing is loaded but its own style and script, and it asks this server alone.
pub(super) fn page() -> (String, String) {
    let nonce = format!("{:032x}", RandomTokens.token());
    let html = include_str!("page.html")
        .replace("NONCE", &nonce)
        .replace("/* STYLE */", include_str!("page.css"))
        .replace("/* SCRIPT */", include_str!("page.js"));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    (html, policy)
}
