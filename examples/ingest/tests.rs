//! Goal: what `ingest` itself owns is what DESIGN's outside face says: its command line, its cluster, its
//! summary, its progress, and a repository's history commit by commit. Method: the program's own modules, without a
//! pipeline. What it reads of lines is the library's, and tested there.
#![allow(dead_code)]

mod args;
mod choose;
mod cluster;
mod feed_name;
mod git;
mod git_command;
mod pace;
mod progress;
mod stop;
mod summary;
#[cfg(any(feature = "planetscale", feature = "postgres-source"))]
mod table;
mod values;

mod command_line_tests;

mod git_tests;
