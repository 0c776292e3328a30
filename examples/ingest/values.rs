//! Owns the values of options: their names on the command line, and what each is to the library. It does
//! not own the options.

use std::path::PathBuf;

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

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A row: its value is the key's, or null for a delete.
    Json,
    /// A row whose value is a Debezium envelope, or null for a delete; times are minted.
    Debezium,
    /// A message, as `kcat -J` prints it.
    Kcat,
    /// `KEY<TAB>VALUE`, as the console consumer prints a message.
    Console,
    /// A row of a table, as Maxwell's daemon prints it.
    Maxwell,
    /// Rows of a table, as a flat message of Canal has them.
    Canal,
    /// The value, whose key is some of its members.
    Bare,
}

/// What happens at a bad line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The run ends with exit 1.
    Stop,
    /// The line becomes an error value in the shard.
    Keep,
    /// It is written away to a file.
    Quarantine(PathBuf),
}

impl OnError {
    /// Reads what happens.
    pub(crate) fn parse(text: &str) -> Result<OnError, String> {
        match (text, text.strip_prefix("quarantine:")) {
            ("stop", _) => Ok(OnError::Stop),
            ("keep", _) => Ok(OnError::Keep),
            (_, Some(file)) if !file.is_empty() => Ok(OnError::Quarantine(file.into())),
            _ => Err("use stop, keep or quarantine:FILE".to_string()),
        }
    }

    /// Returns the file that bad lines are written away to, if they are.
    pub(crate) fn quarantine(&self) -> Option<PathBuf> {
        match self {
            OnError::Quarantine(file) => Some(file.clone()),
            OnError::Stop | OnError::Keep => None,
        }
    }
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
            Format::Kcat => lines::Format::Kcat,
            Format::Console => lines::Format::Console,
            Format::Maxwell => lines::Format::Maxwell,
            Format::Canal => lines::Format::Canal,
            Format::Bare => lines::Format::Bare,
        }
    }
}

impl From<&OnError> for lines::OnError {
    fn from(on_error: &OnError) -> lines::OnError {
        match on_error {
            OnError::Stop | OnError::Quarantine(_) => lines::OnError::Stop,
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
