//! Goal: logins: passwords by SCRAM, and TLS with an authority of one's own. What is wrong is said at once, and is not tried
//! again; messages are without the password. Method: a server with certificates that the test makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use differential_upsert::source::OnPositionLost;

use crate::postgres::client::{Client, How, Place};
use crate::postgres::server::Server;

const PASSWORD: &str = "s3cret of theirs";

/// An authority, and a certificate for a host that it has signed.
struct Signed {
    directory: tempfile::TempDir,
}

fn openssl(directory: &Path, args: &[&str]) {
    let ran = Command::new("openssl").current_dir(directory).args(args).output();
    let ran = ran.expect("openssl is here: apt-get install openssl");
    assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

impl Signed {
    fn of(host: &str) -> Signed {
        let directory = tempfile::tempdir().expect("a directory");
        let openssl = |args: &[&str]| openssl(directory.path(), args);
        let key =
            ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"];
        let authority = ["ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=an authority"];
        openssl(&[&["req", "-x509"], &key[..], &authority].concat());
        let name = format!("/CN={host}");
        openssl(
            &[&["req"], &key[..], &["server.key", "-out", "server.csr", "-subj", &name]].concat(),
        );
        std::fs::write(directory.path().join("names"), format!("subjectAltName=DNS:{host}"))
            .expect("to write");
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
        let out = ["-CAcreateserial", "-days", "30", "-extfile", "names", "-out", "server.crt"];
        openssl(&[&sign[..], &out].concat());
        Signed { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ca(&self) -> String {
        self.file("ca.pem").display().to_string()
    }
}

/// A server with one row and two users that want a password: `guest` with TLS alone, and `plain`.
fn server(signed: &Signed) -> Server {
    let mut server = Server::start();
    server.ask(
        "CREATE TABLE t (id int PRIMARY KEY, doc text); INSERT INTO t VALUES (1, 'x'); \
         CREATE PUBLICATION p FOR TABLE t",
    );
    for user in ["guest", "plain"] {
        // As the documentation asks for, and no more.
        server.ask(&format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE {user} LOGIN REPLICATION PASSWORD '{PASSWORD}'; \
             GRANT SELECT ON t TO {user}"
        ));
    }
    server.change(
        &[&signed.file("server.crt"), &signed.file("server.key")],
        "ssl = on\n",
        "hostssl all guest 127.0.0.1/32 scram-sha-256\nhost all plain 127.0.0.1/32 scram-sha-256\n",
    );
    server
}

fn url(server: &Server, user: &str, host: &str, more: &str) -> String {
    let port = server.port;
    format!("postgres://{user}@{host}:{port}/postgres?table=t&slot={user}&publication=p&{more}")
}

/// Copies the table, and follows it.
fn works(server: &Server, url: &str) {
    let place = Place::new();
    let how = How { password: Some(PASSWORD), ..How::default() };
    let mut client = Client::with(&place, url, OnPositionLost::Fail, how);
    client.until(&place, "the copy", |contents| contents.len() == 1);
    server.ask("INSERT INTO t VALUES (2, 'y')");
    client.until(&place, "the stream", |contents| contents.len() == 2);
    client.stop();
    server.ask("DELETE FROM t WHERE id = 2");
}

/// It fails, and says these words.
fn fails(url: &str, password: Option<&str>, words: &[&str]) {
    let how = How { password, ..How::default() };
    let error = Client::with(&Place::new(), url, OnPositionLost::Fail, how).fails();
    assert!(words.iter().all(|word| error.contains(word)), "{url}: {words:?}: {error}");
    assert!(password.is_none_or(|password| !error.contains(password)), "{error}");
}

#[test]
fn a_password_by_scram() {
    let server = server(&Signed::of("localhost"));
    let plain = url(&server, "plain", "127.0.0.1", "tls=off");
    works(&server, &plain);
    fails(&plain, Some("another"), &["password authentication failed", "PGPASSWORD"]);
    fails(&plain, None, &["PGPASSWORD"]);
    fails(&url(&server, "nobody", "127.0.0.1", "tls=off"), Some(PASSWORD), &["pg_hba.conf"]);
}

#[test]
fn tls_with_an_authority_of_ones_own() {
    let (signed, other) = (Signed::of("localhost"), Signed::of("localhost"));
    let server = server(&signed);
    let with = |host: &str, more: &str| url(&server, "guest", host, more);
    let ca = format!("ca={}", signed.ca());
    works(&server, &with("localhost", &ca));
    works(&server, &url(&server, "plain", "localhost", &ca));
    let right = Some(PASSWORD);
    fails(&with("localhost", &ca), Some("another"), &["password authentication failed"]);
    fails(&with("localhost", &format!("ca={}", other.ca())), right, &["certificate", "ca=FILE"]);
    fails(&with("localhost", "tls=on"), right, &["certificate", "ca=FILE"]);
    fails(&with("127.0.0.1", &ca), right, &["IP address", "as its certificate does"]);
    fails(&with("localhost", "ca=/nowhere.pem"), right, &["/nowhere.pem", "ca=FILE"]);
    let key = format!("ca={}", signed.file("ca.key").display());
    fails(&with("localhost", &key), right, &["ca.key", "ca=FILE"]);
    fails(&with("127.0.0.1", "tls=off"), right, &["no encryption", "pg_hba.conf"]);
}

#[test]
fn a_certificate_of_another_host_and_none_at_all() {
    let signed = Signed::of("db.example");
    let ca = format!("ca={}", signed.ca());
    let has_another = server(&signed);
    let names = ["certificate", "as its certificate does"];
    fails(&url(&has_another, "guest", "localhost", &ca), Some(PASSWORD), &names);
    let has_none = Server::start();
    let words = ["does not support TLS", "tls=off"];
    fails(&url(&has_none, "me", "localhost", &ca), None, &words);
}
