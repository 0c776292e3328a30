//! Owns the URL of a topic: what it may say, and how it is read. It does not own what the settings of
//! librdkafka mean, but which of them are ours and which are secret.

use super::rows::{KeyFormat, ValueFormat};
use crate::connect::address::{self, check_server, parameters};
use crate::error::{Error, ErrorKind};

/// What a URL looks like.
const FORM: &str = "write kafka://HOST:PORT[,HOST:PORT]/TOPIC";

/// What may be said after `?`.
const KNOWN: &str =
    "use key=json|string|bytes, value=json|string|bytes|debezium, rdkafka.NAME=VALUE";

/// What a value begins with that names a variable of the environment.
const ENVIRONMENT: &str = "env:";

/// Settings that the promises of a cursor rest on, and what goes with each.
const OURS: [(&str, &str); 11] = [
    ("bootstrap.servers", "name the brokers before the topic"),
    ("metadata.broker.list", "name the brokers before the topic"),
    ("enable.auto.commit", "places are committed once they are durable"),
    ("auto.commit.enable", "places are committed once they are durable"),
    ("enable.auto.offset.store", "places are committed once they are durable"),
    ("auto.offset.reset", "a place that is lost is never skipped"),
    ("topic.auto.offset.reset", "a place that is lost is never skipped"),
    ("isolation.level", "only what is committed is read"),
    ("enable.partition.eof", "it says where control records end"),
    ("allow.auto.create.topics", "a topic is not made by reading it"),
    ("plugin.library.paths", "a plug-in could change all of them"),
];

/// What the name of a setting with a secret has in it.
const SECRET: [&str; 6] = ["pass", "secret", "token", "credential", ".pem", "oauthbearer.config"];

/// A topic, and how it is read.
#[derive(Clone)]
pub(super) struct Address {
    /// The brokers to ask first, with commas between.
    pub(super) brokers: String,
    pub(super) topic: String,
    pub(super) key: KeyFormat,
    pub(super) value: ValueFormat,
    /// The settings of librdkafka, their values as they are.
    pub(super) settings: Vec<(String, String)>,
    /// Values that came from the environment: to be shown nowhere.
    secrets: Vec<String>,
}

/// Without the settings, which have secrets.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kafka://{}/{}", self.brokers, self.topic)
    }
}

impl Address {
    /// Reads a URL. `variable` looks a variable of the environment up.
    pub(super) fn parse(
        url: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Address, Error> {
        let rest = url.strip_prefix("kafka://").ok_or_else(|| wrong("no kafka://", FORM))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (brokers, topic) = place.split_once('/').ok_or_else(|| wrong("no topic", FORM))?;
        if brokers.contains('@') {
            let hint = "take it out, and name variables: rdkafka.sasl.password=env:KAFKA_PASSWORD";
            return Err(wrong("a user or a password", hint));
        }
        for broker in brokers.split(',') {
            check_server(broker).map_err(|what| wrong(what, FORM))?;
        }
        let topic = decode(topic)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if topic.is_empty() || topic.len() > 249 || !topic.bytes().all(allowed) {
            let what = "no topic, or one that no topic can be called";
            return Err(wrong(what, FORM));
        }
        let (key, value) = (KeyFormat::default(), ValueFormat::default());
        let brokers = brokers.to_string();
        let mut address =
            Address { brokers, topic, key, value, settings: Vec::new(), secrets: Vec::new() };
        for (name, value) in parameters(query).map_err(|what| wrong(&what, "say it once"))? {
            address.set(name, value, &variable)?;
        }
        // One that is a part of another is looked for after it.
        address.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Ok(address)
    }

    fn set(
        &mut self,
        name: &str,
        value: &str,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), Error> {
        match (name, value) {
            ("key", "json") => self.key = KeyFormat::Json,
            ("key", "string") => self.key = KeyFormat::String,
            ("key", "bytes") => self.key = KeyFormat::Bytes,
            ("value", "json") => self.value = ValueFormat::Json,
            ("value", "string") => self.value = ValueFormat::String,
            ("value", "bytes") => self.value = ValueFormat::Bytes,
            ("value", "debezium") => self.value = ValueFormat::Debezium,
            ("key" | "value", other) => return Err(wrong(&format!("{name}={other}"), KNOWN)),
            (name, value) => match name.strip_prefix("rdkafka.") {
                Some(setting) => self.set_rdkafka(setting, value, variable)?,
                None => return Err(wrong(&format!("an unknown parameter {name:?}"), KNOWN)),
            },
        }
        Ok(())
    }

    fn set_rdkafka(
        &mut self,
        name: &str,
        value: &str,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), Error> {
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
            return Err(wrong(&format!("rdkafka.{name}="), &format!("leave it out: {why}")));
        }
        let value = decode(value)?;
        let value = match value.strip_prefix(ENVIRONMENT) {
            Some(named) => {
                let found = variable(named).filter(|value| !value.is_empty()).ok_or_else(|| {
                    let what = format!("rdkafka.{name}=env:{named}, and {named} is not set");
                    wrong(&what, "set it in the environment")
                })?;
                self.secrets.push(found.clone());
                found
            }
            None if SECRET.iter().any(|part| name.contains(part)) && !is_file(name) => {
                let what = format!("a secret as rdkafka.{name}=");
                let hint = format!("name a variable of the environment: rdkafka.{name}=env:NAME");
                return Err(wrong(&what, &hint));
            }
            None => value,
        };
        self.settings.push((name.to_string(), value));
        Ok(())
    }

    /// Returns the value of a setting, if the URL has it.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        let mut settings = self.settings.iter();
        settings.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns a text of librdkafka without what came from the environment.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret, "***"))
    }
}

/// Whether a setting names a file, which may be called anything.
fn is_file(name: &str) -> bool {
    name.ends_with(".location") || name.ends_with(".url")
}

fn decode(text: &str) -> Result<String, Error> {
    address::decode(text).map_err(|what| wrong(what, FORM))
}

/// The URL itself is not repeated: what is wrong with it may be a secret in the wrong place.
fn wrong(what: &str, hint: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{what} in the address of the topic")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, Error> {
        Address::parse(url, |name| (name == "SECRET_OF_MINE").then(|| "pa%ss".to_string()))
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let address = parse("kafka://a:9092,[::1]:9093/orders").unwrap();
        assert_eq!((&*address.brokers, &*address.topic), ("a:9092,[::1]:9093", "orders"));
        assert_eq!((address.key, address.value), (KeyFormat::Json, ValueFormat::Json));
        assert!(address.settings.is_empty());
    }

    #[test]
    fn everything_can_be_said() {
        let url = "kafka://a:1/o.r-d_2?key=string&value=debezium&rdkafka.security.protocol=sasl_ssl\
                   &rdkafka.ssl.ca.location=/etc/my%20ca.pem&rdkafka.sasl.password=env:SECRET_OF_MINE";
        let address = parse(url).unwrap();
        assert_eq!((address.key, address.value), (KeyFormat::String, ValueFormat::Debezium));
        assert_eq!(address.setting("ssl.ca.location"), Some("/etc/my ca.pem"));
        assert_eq!(address.setting("sasl.password"), Some("pa%ss"));
        assert_eq!(address.setting("group.id"), None);
        assert_eq!(address.without_secrets("no such pa%ss"), "no such ***");
        assert!(!format!("{address:?}").contains("pa%ss"));
    }

    #[test]
    fn what_is_wrong_is_said_and_a_secret_is_not() {
        for (url, says) in [
            ("kafka:a:1/t", "no kafka://"),
            ("kafka://a:1", "no topic"),
            ("kafka://a:1/", "no topic"),
            ("kafka://a:1/t/u", "that no topic"),
            ("kafka://a/t", "no port"),
            ("kafka://a:1,/t", "no host"),
            ("kafka://a:0/t", "no port"),
            ("kafka://:1/t", "no host"),
            ("kafka://me:hush@a:1/t", "a user or a password"),
            ("kafka://a:1/t?key=avro", "key=avro"),
            ("kafka://a:1/t?value=avro", "value=json|string|bytes|debezium"),
            ("kafka://a:1/t?keys=json", "unknown parameter \"keys\""),
            ("kafka://a:1/t?key=json&key=json", "more than once"),
            ("kafka://a:1/t?rdkafka.enable.auto.commit=true", "leave it out"),
            ("kafka://a:1/t?rdkafka.auto.offset.reset=earliest", "never skipped"),
            ("kafka://a:1/t?rdkafka.isolation.level=read_uncommitted", "committed"),
            ("kafka://a:1/t?rdkafka.sasl.password=hush", "env:NAME"),
            ("kafka://a:1/t?rdkafka.ssl.key.pem=hush", "env:NAME"),
            ("kafka://a:1/t?rdkafka.sasl.oauthbearer.config=hush", "env:NAME"),
            ("kafka://a:1/t?rdkafka.sasl.password=env:NO_SUCH", "NO_SUCH is not set"),
            ("kafka://a:1/t?rdkafka.client.id=%zz", "two hexadecimal"),
        ] {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
