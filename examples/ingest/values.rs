//! Owns the values of options: their names on the command line, and what each is to the library. It does
//! not own the options.

use clap::ValueEnum;
use differential_upsert::connect::lines;

/// Where times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TimesFrom {
    /// Every row has a `ts`.
    Given,
    /// The order of the lines is the order of the changes; writers agree on times.
    Mint,
}

/// Whether to do a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// Do it.
    On,
    /// Do not.
    Off,
}

/// What happens when a feed does not have the shard's place any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PositionLost {
    /// Exit 1.
    Fail,
    /// Copy everything anew.
    Copy,
}

/// What the value of a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The key's value, or null for a delete.
    Json,
    /// A Debezium envelope, or null for a delete; times are minted.
    Debezium,
}

/// What happens at a bad line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// The run ends with exit 1.
    Stop,
    /// The line becomes an error value in the shard.
    Keep,
}

/// What an update comes to that lacks columns which did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnUnavailable {
    /// A bad line.
    Error,
    /// Its row keeps them.
    Keep,
}

/// What a second snapshot does to rows that it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resnapshot {
    /// They stay, with a warning.
    Keep,
    /// They go.
    Replace,
}

impl From<Format> for lines::Format {
    fn from(format: Format) -> lines::Format {
        match format {
            Format::Json => lines::Format::Json,
            Format::Debezium => lines::Format::Debezium,
        }
    }
}

impl From<OnError> for lines::OnError {
    fn from(on_error: OnError) -> lines::OnError {
        match on_error {
            OnError::Stop => lines::OnError::Stop,
            OnError::Keep => lines::OnError::Keep,
        }
    }
}

impl From<OnUnavailable> for lines::OnUnavailable {
    fn from(on_unavailable: OnUnavailable) -> lines::OnUnavailable {
        match on_unavailable {
            OnUnavailable::Error => lines::OnUnavailable::Error,
            OnUnavailable::Keep => lines::OnUnavailable::Keep,
        }
    }
}

impl From<Resnapshot> for lines::Resnapshot {
    fn from(resnapshot: Resnapshot) -> lines::Resnapshot {
        match resnapshot {
            Resnapshot::Keep => lines::Resnapshot::Keep,
            Resnapshot::Replace => lines::Resnapshot::Replace,
        }
    }
}
