//! Goal: the page is what an operator needs, in a real browser, and what stands beside it (the metrics of several
//! pipelines, the dashboard, the alerts) names what there is. Method: a headless Chromium, driven over its own protocol,
//! on real processes and on pipelines of the test's own; one look a file.
//!
//! `.ci/needs` installs Chromium; without it these tests fail.

mod browser;
#[allow(dead_code, reason = "the tests of processes ask more of it")]
#[path = "../processes/client.rs"]
mod client;
mod kept_up;
mod looks;
mod lost;
mod pipelines;
#[allow(dead_code, unused_imports, reason = "the tests of processes ask more of it")]
#[path = "../processes/process.rs"]
mod process;
mod promoted;
#[allow(dead_code, reason = "the tests of processes ask more of it")]
#[path = "../common/running.rs"]
mod running;
mod several;
