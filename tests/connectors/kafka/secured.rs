//! Goal: TLS and SASL are librdkafka's own settings: with the right ones a topic is read, with a wrong one a client
//! says what is wrong and what to look at, within its patience, and never a secret. Method: a fake broker that wants a
//! password, behind a relay that ends TLS.

use std::sync::Arc;
use std::time::Duration;

use differential_upsert::ErrorKind;
use differential_upsert::connect::kafka::Kafka;
use differential_upsert::store::{Access, Root};
use krafka::testing::{ApiKey, RecordedRequest};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::kafka::client::{Client, Setting, contents, table};
use crate::kafka::cluster::{Cluster, TOPIC};
use crate::tls::{pem, tls};

/// A variable that is there, whatever it holds: the secret of these tests.
const SECRET: &str = "PATH";

fn secret() -> String {
    std::env::var(SECRET).expect("a path")
}

/// A broker with a row that is reached over TLS alone, and its address.
fn over_tls() -> (Cluster, String) {
    let cluster = Cluster::start(1, 1);
    cluster.write(&[(0, "a", Some("1"))]);
    let to = cluster.broker.broker_addr(0).expect("a port");
    let port = cluster.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let acceptor = TlsAcceptor::from(Arc::new(tls(false)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(stream).await?;
                    let mut broker = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut client, &mut broker).await
                });
            }
        });
        port
    });
    // It says of itself that it is there, so that every connection is made over TLS.
    cluster.broker.with_state(|state| {
        state.brokers[0].host = "localhost".to_string();
        state.brokers[0].port = i32::from(port);
    });
    (cluster, format!("kafka://localhost:{port}/{TOPIC}?key=string&value=string"))
}

/// Runs a client that fails, and returns how. It may need its patience to, which is short.
fn failure(url: &str) -> (ErrorKind, String) {
    let root = Root::open("mem:", Access::Write).expect("memory");
    let outage_max = Duration::from_secs(1);
    let error = Client::start(&root, &Setting { outage_max, ..Setting::new(url.into()) }).failure();
    let text = format!("{error} {error:?}");
    assert!(!text.contains(&secret()), "{text}");
    (error.kind(), text)
}

#[track_caller]
fn fails(url: &str, kind: ErrorKind, words: &[&str]) {
    let (is, text) = failure(url);
    assert_eq!(is, kind, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "no {word:?} in {text}"));
}

const PLAIN: &str = "rdkafka.sasl.mechanism=PLAIN&rdkafka.sasl.username=alice";

#[test]
fn a_topic_is_read_over_tls_with_a_password_and_without() {
    let (cluster, url) = over_tls();
    let reads = |url: String| {
        let root = Root::open("mem:", Access::Write).expect("memory");
        Client::start(&root, &Setting::up_to_now(url)).end();
        assert_eq!(contents(&root), table(&[("a", "1")]));
    };
    let (url, ca) = (format!("{url}&rdkafka.client.id=it-gets-there"), pem("ca.pem"));
    reads(format!("{url}&rdkafka.security.protocol=ssl&rdkafka.ssl.ca.location={ca}"));
    let named = |request: &RecordedRequest| {
        request.api_key == ApiKey::Fetch && request.client_id.as_deref() == Some("it-gets-there")
    };
    assert!(cluster.broker.requests().iter().any(named), "a setting gets to librdkafka");
    cluster.broker.require_sasl_plain("alice", &secret());
    reads(format!(
        "{url}&rdkafka.security.protocol=sasl_ssl&rdkafka.ssl.ca.location={ca}&{PLAIN}\
         &rdkafka.sasl.password=env:{SECRET}"
    ));
}

#[test]
fn a_broker_that_nobody_known_vouches_for_is_refused() {
    let (_cluster, url) = over_tls();
    // A certificate that has signed nothing.
    for ca in ["", &format!("&rdkafka.ssl.ca.location={}", pem("client.pem"))] {
        let url = format!("{url}&rdkafka.security.protocol=ssl{ca}");
        fails(&url, ErrorKind::Invalid, &["certificate verify failed", "ssl.ca.location"]);
    }
    let url = format!("{url}&rdkafka.security.protocol=ssl&rdkafka.ssl.ca.location=/no/such.pem");
    fails(&url, ErrorKind::Invalid, &["ssl.ca.location", "correct the settings"]);
}

#[test]
fn a_broker_without_tls_and_one_with_say_so() {
    let (cluster, url) = over_tls();
    let asks_for_it = cluster.url("rdkafka.security.protocol=ssl");
    fails(&asks_for_it, ErrorKind::Unavailable, &["SSL_HANDSHAKE", "rdkafka.security.protocol"]);
    fails(&url, ErrorKind::Unavailable, &["APIVERSION_QUERY", "rdkafka.security.protocol"]);
}

#[test]
fn a_wrong_password_and_an_unknown_mechanism_are_refused() {
    let cluster = Cluster::start(1, 1);
    cluster.broker.require_sasl_plain("alice", "hunter2");
    let url = cluster.url(&format!(
        "rdkafka.security.protocol=sasl_plaintext&rdkafka.sasl.password=env:{SECRET}"
    ));
    fails(&format!("{url}&{PLAIN}"), ErrorKind::Refused, &["uthentication", "sasl.password"]);
    let scram = "rdkafka.sasl.mechanism=SCRAM-SHA-512&rdkafka.sasl.username=alice";
    fails(
        &format!("{url}&{scram}"),
        ErrorKind::Refused,
        &["SCRAM-SHA-512", "rdkafka.sasl.mechanism"],
    );
}

#[test]
fn what_cannot_be_set_is_said_and_secrets_are_not() {
    let cluster = Cluster::start(1, 1);
    for (query, words) in [
        (format!("rdkafka.no.such.setting=env:{SECRET}"), &["no.such.setting"][..]),
        (format!("rdkafka.security.protocol=env:{SECRET}"), &["security.protocol", "***"]),
        (format!("rdkafka.security.protocol=ssl&rdkafka.ssl.ca.pem=env:{SECRET}"), &["ssl.ca.pem"]),
        ("rdkafka.security.protocol=sasl_plaintext&rdkafka.sasl.mechanism=PLAIN".into(), &["sasl"]),
    ] {
        let url = cluster.url(&query);
        let shown = format!("{:?}", Kafka::open(&url).expect("an address"));
        assert!(!shown.contains(&secret()), "{shown}");
        fails(&url, ErrorKind::Invalid, words);
    }
}
