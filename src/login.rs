//! Owns noticing a user, a password or a token in a URL. It does not own what a URL must be.
//!
//! What has one is refused where URLs come in, before anything can repeat it: so no error, log line,
//! health report, summary or stored byte has a secret to show, and nothing has to hide one. Logins come
//! from the environment.

/// Schemes that are remote, whatever stands behind their colon.
const REMOTE: [&str; 9] =
    ["planetscale", "kafka", "postgres", "postgresql", "mysql", "s3", "s3a", "gs", "az"];

/// What the name of a parameter with a secret has in it.
const SECRET: [&str; 8] =
    ["pass", "pwd", "secret", "token", "credential", "signature", ".pem", "oauthbearer.config"];

/// How the name of one ends that only says where a secret is.
const PLACE: [&str; 2] = [".url", ".location"];

/// Returns the scheme of a URL in a text, an argument say, that carries a login. O(bytes).
///
/// A program asks this of its arguments before a parser can repeat them.
///
/// ```
/// use differential_upsert::login::login;
///
/// assert_eq!(login("--shard=s3://id:secret@bucket/x"), Some("s3"));
/// assert_eq!(login("planetscale://h:443/k/t?password=p"), Some("planetscale"));
/// assert_eq!(login("file:/home/me/a:b@c"), None);
/// ```
pub fn login(text: &str) -> Option<&str> {
    let word = |char: char| char.is_ascii_alphanumeric() || "+-.".contains(char);
    text.match_indices(':').find_map(|(at, _)| {
        let before = &text[..at];
        let scheme = &before[before.trim_end_matches(word).len()..];
        let remote = REMOTE.iter().any(|known| known.eq_ignore_ascii_case(scheme));
        let rest = &text[at + 1..];
        // A path may have any character in it.
        let is_url = !scheme.is_empty() && !scheme.eq_ignore_ascii_case("file");
        let is_url = is_url && (remote || rest.starts_with("//"));
        (is_url && has_login(scheme, rest.trim_start_matches('/'))).then_some(scheme)
    })
}

fn has_login(scheme: &str, rest: &str) -> bool {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = place.split(['/', '#']).next().unwrap_or_default();
    let in_place = match authority.rsplit_once('@') {
        // `abfss://CONTAINER@ACCOUNT..` is an address, and so is `postgres://USER@HOST`.
        Some((user, _)) => user.contains(':') || !is_named(scheme),
        // A password may have a `/` or a `?` in it: then the rest of it is taken for a path.
        None => {
            rest.contains('@') && authority.rsplit_once(':').is_some_and(|(_, port)| !is_port(port))
        }
    };
    let secret = |parameter: &str| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = name.to_ascii_lowercase();
        // A variable of the environment may be named: that is where secrets belong.
        let is_said = !value.is_empty() && !value.starts_with("env:");
        let is_place = PLACE.iter().any(|end| name.ends_with(end));
        is_said && !is_place && SECRET.iter().any(|part| name.contains(part))
    };
    in_place || query.split('&').any(secret)
}

/// Whether what stands before the `@` is part of the place: a container, or a user without a password.
fn is_named(scheme: &str) -> bool {
    let scheme = scheme.to_ascii_lowercase();
    scheme.starts_with("abfs") || matches!(&*scheme, "postgres" | "postgresql")
}

fn is_port(text: &str) -> bool {
    // `]` ends an address of IPv6.
    text.bytes().all(|byte| byte.is_ascii_digit()) || text.ends_with(']')
}

/// Returns what to do with the login that a URL of this scheme has, as the hint of an error.
pub fn hint(scheme: &str) -> &'static str {
    match scheme.to_ascii_lowercase().as_str() {
        "postgres" | "postgresql" => "take it out, and set PGPASSWORD",
        "planetscale" => "take it out, and set PLANETSCALE_USER and PLANETSCALE_PASSWORD",
        "kafka" => "name a variable of the environment: rdkafka.sasl.password=env:KAFKA_PASSWORD",
        "s3" | "s3a" | "gs" | "az" | "abfs" | "abfss" => {
            "take it out, and set the cloud's environment variables"
        }
        _ => "take it out",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_seen_wherever_it_stands() {
        for (text, scheme) in [
            ("planetscale://u:p@h:443/k/t", "planetscale"),
            ("planetscale://u@h:443/k/t", "planetscale"),
            ("planetscale://u:p/w@h:443/k/t", "planetscale"),
            ("planetscale://u:p?w@h:443/k/t", "planetscale"),
            ("planetscale://u:p w\"'@h:443/k/t", "planetscale"),
            ("planetscale:/u:p@h", "planetscale"),
            ("PlanetScale:u:p@h", "PlanetScale"),
            ("planetscale://h:443/k/t?password=p", "planetscale"),
            ("planetscale://h:443/k/t?key=a&API_TOKEN=p", "planetscale"),
            ("s3://id:secret@bucket/x", "s3"),
            ("s3://id:se/cret@bucket/x", "s3"),
            ("--shard=s3://id:secret@bucket/x", "s3"),
            ("abfss://c:p@account.dfs.core.windows.net/x", "abfss"),
            ("postgres://u:p@h/d?slot=s&table=t", "postgres"),
            ("git:https://u:p@example.org/x", "https"),
            ("kafka://u:p@h:1/t", "kafka"),
            ("kafka://h:1,i:2/t?rdkafka.sasl.password=hush", "kafka"),
            ("kafka://h:1/t?rdkafka.ssl.key.pem=hush", "kafka"),
        ] {
            assert_eq!(login(text), Some(scheme), "{text}");
        }
        for text in [
            "planetscale://h:443/k/t?key=a@b",
            "planetscale://[::1]:443/k/t@x",
            "planetscale://[::1]/k/t@x",
            "kafka://h:1,i:2/t?rdkafka.sasl.password=env:KAFKA_PASSWORD",
            "kafka://h:1/t?rdkafka.sasl.oauthbearer.token.endpoint.url=https://h/x",
            "planetscale://h/k",
            "s3://bucket/pre@fix",
            "s3://bucket",
            "abfss://container@account.dfs.core.windows.net/x",
            "postgres://u@h/d?slot=s&table=t",
            "file:/home/me/a:b@c",
            "file:///a:b@c",
            "./a:b@c",
            "C:/a@b",
            "git:/a@b",
            "127.0.0.1:0",
            "",
            ":",
        ] {
            assert_eq!(login(text), None, "{text}");
        }
    }
}
