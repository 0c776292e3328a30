//! Owns whether a request that changes something comes from this site: from its own page or from a program, and not from
//! a page of another site that a browser here has open. It does not own what is asked, nor what may reach the address.
//!
//! A page of another site can send requests to any address that its browser reaches. It says so in `Origin`; and if its
//! own name is made to mean this address (DNS rebinding), that name is in `Host`. Of names a page cannot have an address,
//! nor `localhost`, and the program tells those of a proxy in front.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};

/// Returns why a request is not taken, or `None` if it is. `names` are those that the program has told.
pub(super) fn foreign(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let host = match said(headers, header::HOST) {
        Said::Once(host) => host,
        // A browser always says one.
        Said::Not => "localhost",
        Said::Unclear => return Some("it does not say one Host".to_string()),
    };
    let is_told = |of: &str| names.iter().any(|name| name.eq_ignore_ascii_case(of));
    let name = name_of(host);
    let is_ours = is_address(name) || name.eq_ignore_ascii_case("localhost") || is_told(name);
    if !is_ours {
        return Some(format!("its Host, {name:?}, is not a name of this program"));
    }
    match said(headers, header::ORIGIN) {
        Said::Not => None,
        Said::Once(origin) => {
            let at = origin.split_once("://").map(|(_, at)| at);
            let agrees = at.is_some_and(|at| at.eq_ignore_ascii_case(host) || is_told(name_of(at)));
            (!agrees).then(|| format!("it comes from another site, {origin:?}"))
        }
        Said::Unclear => Some("it does not say one Origin".to_string()),
    }
}

/// What a request says in a header.
enum Said<'a> {
    Not,
    Once(&'a str),
    /// Twice, or in no text.
    Unclear,
}

fn said(headers: &HeaderMap, name: HeaderName) -> Said<'_> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (None, _) => Said::Not,
        (Some(Ok(text)), None) => Said::Once(text),
        _ => Said::Unclear,
    }
}

/// Returns the name or the address in `NAME:PORT`.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns whether a name is an address, of version 6 in brackets.
fn is_address(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match inside {
        Some(inside) => inside.parse().is_ok_and(|address: IpAddr| address.is_ipv6()),
        None => name.parse().is_ok_and(|address: IpAddr| address.is_ipv4()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_foreign(host: &[&str], origin: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, values) in [(header::HOST, host), (header::ORIGIN, origin)] {
            for value in values {
                headers.append(name.clone(), value.parse().unwrap());
            }
        }
        foreign(&headers, &["orders.example".to_string()]).is_some()
    }

    #[test]
    fn what_comes_from_here_is_taken() {
        assert!(!is_foreign(&[], &[]), "a program that says none");
        for host in [
            "127.0.0.1:9000",
            "10.1.2.3",
            "[::1]:9000",
            "[fe80::1]",
            "localhost:9000",
            "LOCALHOST",
            "orders.example",
            "Orders.Example:8443",
        ] {
            assert!(!is_foreign(&[host], &[]), "{host} by a program");
            assert!(!is_foreign(&[host], &[&format!("http://{host}")]), "{host} by its page");
            // A proxy in front, which passes its own name on or does not.
            assert!(!is_foreign(&[host], &["https://orders.example"]), "{host} by a proxy's page");
        }
    }

    #[test]
    fn what_comes_from_elsewhere_is_not() {
        let ours = "127.0.0.1:9000";
        for host in ["rebound.example:9000", "127.0.0.1.example", "", "localhost.example", "1"] {
            assert!(is_foreign(&[host], &[]), "{host}");
            assert!(is_foreign(&[host], &[&format!("http://{host}")]), "{host} by its page");
        }
        for origin in [
            "http://rebound.example:9000",
            "https://sub.orders.example",
            // Another program of this machine.
            "http://127.0.0.1:3000",
            "http://localhost:9000",
            "http://127.0.0.1",
            "null",
            "",
            "127.0.0.1:9000",
        ] {
            assert!(is_foreign(&[ours], &[origin]), "{origin}");
        }
        assert!(is_foreign(&[ours, ours], &[]) && is_foreign(&[], &["http://127.0.0.1:9000"]));
        assert!(is_foreign(&[ours], &["http://127.0.0.1:9000", "http://127.0.0.1:9000"]));
    }
}
