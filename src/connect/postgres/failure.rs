//! Owns what an error of the server or of the connection means for the next attempt: may it work later, is the place
//! gone, or will it never work. It does not own our own cancellations.

use pgwire_replication::PgWireError;

use crate::error::{Error, ErrorKind};
use crate::source::Failure;

/// SQLSTATEs, or their first letters, of what will not work however often it is tried, and what to do.
const DEFINITE: [(&str, &str); 8] = [
    ("28", "check the user, PGPASSWORD and pg_hba.conf"),
    ("3D", "check the database's name"),
    ("42501", "grant the user REPLICATION, and SELECT on the table"),
    ("42704", "check the names of the table, the slot and the publication"),
    ("42", "check the table, the slot and the publication"),
    ("25006", "name the primary: a standby cannot be asked for marks"),
    ("22", "check the table's key"),
    ("55000", "set wal_level = logical, and start the server again"),
];

/// Words of errors of TLS that stay, in lower case, and what to do.
const OF_TLS: [(&str, &str); 4] = [
    ("does not support tls", "set ssl = on at the server, or say tls=off"),
    ("is an ip address", "name the server as its certificate does, or say tls=off"),
    ("ca pem", "name a PEM file with certificates by ca=FILE"),
    (
        "certificate",
        "name the server as its certificate does, and the CA that signed it by ca=FILE; or say tls=off",
    ),
];

/// Tells what an error of the connection means.
pub(super) fn of(error: PgWireError, place: &str) -> Failure {
    let text = error.to_string();
    let code = text.split("SQLSTATE ").nth(1).and_then(|rest| rest.get(..5)).unwrap_or("");
    let what = || Error::new(ErrorKind::Unavailable, text.clone()).at(place);
    if error.is_auth() {
        return definite(&text, place, "check the user, PGPASSWORD and pg_hba.conf");
    }
    // A connection that ends in a handshake is an error of TLS to the transport, too: any other may work again.
    let words = text.to_ascii_lowercase();
    if error.is_tls()
        && let Some((_, hint)) = OF_TLS.iter().find(|(known, _)| words.contains(known))
    {
        return definite(&text, place, hint);
    }
    if error.is_message_too_large() {
        return definite(&text, place, "a row is larger than this program takes");
    }
    // The log was removed, or the slot invalidated: "can no longer get changes from replication slot".
    let is_lost = code == "58P01" || code == "55000" && text.contains("slot");
    if error.is_server() && is_lost {
        return lost(&text, place);
    }
    // A column or the table itself is gone since we looked: the next connection says so, or finds it.
    if matches!(code, "42703" | "42P01") {
        return Failure::Transient(what());
    }
    match DEFINITE.iter().find(|(known, _)| code.starts_with(known)) {
        Some((_, hint)) if error.is_server() => definite(&text, place, hint),
        _ => Failure::Transient(what()),
    }
}

pub(super) fn definite(what: &str, place: &str, hint: &str) -> Failure {
    Failure::Definite(Error::new(ErrorKind::Invalid, what).at(place).hint(hint))
}

pub(super) fn transient(what: &str, place: &str) -> Failure {
    Failure::Transient(Error::new(ErrorKind::Unavailable, what).at(place))
}

/// The server does not have what comes after our place.
pub(super) fn lost(what: &str, place: &str) -> Failure {
    let hint = "what came in between is lost to us: copy the table anew";
    Failure::PositionLost(Error::new(ErrorKind::Missing, what).at(place).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whether_it_may_work_again() {
        let kind = |error| match of(error, "db/public.t") {
            Failure::Transient(_) => "transient",
            Failure::PositionLost(_) => "lost",
            Failure::Definite(_) => "definite",
        };
        let server = |code: &str| PgWireError::Server(format!("FATAL: no (SQLSTATE {code})"));
        for (error, expected) in [
            (server("57P01"), "transient"), // shut down by the administrator
            (server("57P03"), "transient"), // starting up
            (server("53300"), "transient"), // too many connections
            (server("55006"), "transient"), // the slot is another's, yet
            (server("58P01"), "lost"),      // the log was removed
            (
                PgWireError::Server(
                    "can no longer get changes from replication slot \"s\" (SQLSTATE 55000)".into(),
                ),
                "lost",
            ),
            (server("55000"), "definite"), // wal_level
            (server("28P01"), "definite"),
            (server("3D000"), "definite"),
            (server("42P01"), "transient"), // since we looked
            (server("42501"), "definite"),
            (PgWireError::Auth("no".into()), "definite"),
            (PgWireError::Tls("invalid peer certificate: UnknownIssuer".into()), "definite"),
            (PgWireError::Tls("received fatal alert: CertificateRequired".into()), "definite"),
            (PgWireError::Tls("unexpected end of file".into()), "transient"),
            (PgWireError::Tls("server does not support TLS".into()), "definite"),
            (std::io::Error::other("reset").into(), "transient"),
            (PgWireError::Task("gone".into()), "transient"),
        ] {
            let text = error.to_string();
            assert_eq!(kind(error), expected, "{text}");
        }
    }
}
