//! Owns a PostgreSQL server: made in a scratch directory, started on loopback, killed and started again, ended. It does not
//! own what is asked of it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// A server, which ends with this.
pub struct Server {
    directory: tempfile::TempDir,
    pub port: u16,
    postmaster: Option<Child>,
    /// Whom it runs as: PostgreSQL refuses to run as root.
    user: Option<u32>,
}

/// Returns where a program of PostgreSQL is.
fn program(name: &str) -> PathBuf {
    let found = std::env::var_os("PATH").into_iter().flat_map(|path| {
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect::<Vec<_>>()
    });
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut debian: Vec<PathBuf> =
        debian.map(|entry| entry.path().join("bin").join(name)).collect();
    debian.sort();
    let all = debian.into_iter().rev().chain(found);
    let found = all.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not here: install PostgreSQL (apt-get install postgresql)")
    })
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

impl Server {
    pub fn start() -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let user = is_root().then_some(65_534);
        if let Some(user) = user {
            chown(directory.path(), Some(user), Some(user)).expect("to give it away");
        }
        let data = directory.path().join("data");
        let mut init = Command::new(program("initdb"));
        init.args(["--no-sync", "-A", "trust", "-U", "me", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data);
        run_as(&mut init, user, directory.path());
        let made = init.output().expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("a port").port();
        let settings = "\nwal_level = logical\nmax_wal_senders = 20\nmax_replication_slots = 10\nfsync = off\n\
                        wal_sender_timeout = 5s\nlisten_addresses = '127.0.0.1'\nmax_connections = 60\n";
        let sockets = format!("unix_socket_directories = '{}'\n", directory.path().display());
        let mut config = std::fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .expect("its configuration");
        config
            .write_all(format!("{settings}port = {port}\n{sockets}").as_bytes())
            .expect("to write");
        let mut server = Server { directory, port, postmaster: None, user };
        drop(free);
        server.run();
        server
    }

    /// Puts files beside its data, says more in its configuration and who may log in, and starts it again. `me` may,
    /// without TLS.
    pub fn change(&mut self, files: &[&Path], settings: &str, who: &str) {
        self.end("fast");
        let data = self.directory.path().join("data");
        for file in files {
            let copy = data.join(file.file_name().expect("a file"));
            std::fs::copy(file, &copy).expect("to copy");
            std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o600))
                .expect("its mode");
            if let Some(user) = self.user {
                chown(&copy, Some(user), Some(user)).expect("to give it away");
            }
        }
        let config = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"));
        config.and_then(|mut file| file.write_all(settings.as_bytes())).expect("to write");
        let who = format!("host all me 127.0.0.1/32 trust\n{who}");
        std::fs::write(data.join("pg_hba.conf"), who).expect("to write");
        self.run();
    }

    fn run(&mut self) {
        let mut postgres = Command::new(program("postgres"));
        postgres.arg("-D").arg(self.directory.path().join("data"));
        postgres.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
        run_as(&mut postgres, self.user, self.directory.path());
        self.postmaster = Some(postgres.spawn().expect("postgres runs"));
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let mut psql = self.psql();
        psql.args(["-c", "SELECT 1"]).stdout(Stdio::null()).stderr(Stdio::null());
        psql.status().is_ok_and(|status| status.success())
    }

    /// Ends it as a crash does, and starts it again.
    pub fn crash(&mut self) {
        self.end("immediate");
        self.run();
    }

    fn end(&mut self, mode: &str) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let mut stop = Command::new(program("pg_ctl"));
        stop.arg("-D").arg(self.directory.path().join("data")).args(["stop", "-w", "-m", mode]);
        stop.stdout(Stdio::null()).stderr(Stdio::null());
        run_as(&mut stop, self.user, self.directory.path());
        let _ = stop.status();
        let _ = postmaster.wait();
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new(program("psql"));
        let port = self.port.to_string();
        psql.args(["-XqAt", "-h", "127.0.0.1", "-U", "me", "-d", "postgres", "-p", &port]);
        psql.env("PGCONNECT_TIMEOUT", "10");
        psql
    }

    /// Runs statements, each of which must work, and returns the rows of the last ones.
    pub fn ask(&self, sql: &str) -> Vec<String> {
        let mut psql = self.psql();
        psql.args(["-v", "ON_ERROR_STOP=1", "-c", sql]);
        let ran = psql.output().expect("psql runs");
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).lines().map(str::to_string).collect()
    }

    /// Ends what still follows a slot: the server notices late that a client has gone, and a slot that is followed cannot be
    /// changed.
    pub fn free_slots(&self) {
        let begun = Instant::now();
        let active = "FROM pg_replication_slots WHERE active";
        while !self.ask(&format!("SELECT pg_terminate_backend(active_pid) {active}")).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "a slot stays active");
        }
    }

    pub fn drop_slots(&self) {
        self.free_slots();
        self.ask("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    }

    /// Opens a session.
    pub fn session(&self) -> Session {
        let mut psql = self.psql();
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = psql.spawn().expect("psql runs");
        let (stdin, stdout) =
            (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Session { child, stdin, stdout: BufReader::new(stdout) }
    }

    pub fn url(&self, table: &str) -> String {
        let port = self.port;
        format!(
            "postgres://me@127.0.0.1:{port}/postgres?table={table}&slot=s&publication=p&tls=off"
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("immediate");
    }
}

fn run_as(command: &mut Command, user: Option<u32>, directory: &Path) {
    command.current_dir(directory);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
}

/// A session of a client.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Sends statements, and waits until they are done, or the session is lost: then `None`. Statements may fail.
    pub fn tell(&mut self, sql: &str) -> Option<Vec<String>> {
        const DONE: &str = "=done=";
        writeln!(self.stdin, "{sql}\n\\echo {DONE}").ok()?;
        self.stdin.flush().ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end_matches('\n') {
                DONE => return Some(lines),
                line => lines.push(line.to_string()),
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
