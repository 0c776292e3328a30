//! Owns a process of an example binary: how it is started, awaited and ended, and what it said. It does not
//! own what it is told.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A guard against hanging, not a measurement: nothing here takes this long.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Returns the path of an example binary, which cargo builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let shown = path.display();
    assert!(path.is_file(), "no {shown}: run `cargo build --examples` with this profile first");
    path
}

/// A process that is killed when the test is done with it.
pub struct Running {
    pub child: Child,
    pub what: String,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub what: String,
}

pub fn command(name: &str, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(example(name));
    command.args(args).current_dir(dir);
    command
}

/// Starts a process with nothing on its input.
pub fn start(mut command: Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::of(command)
}

impl Running {
    /// Starts a command as it is.
    pub fn of(mut command: Command) -> Running {
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|e| panic!("{what}: {e}"));
        Running { child, what }
    }

    /// Waits for the end, by blocking; panics past the bound.
    pub fn end(mut self, bound: Duration) -> Ran {
        fn drain(pipe: Option<impl Read + Send + 'static>) -> std::sync::mpsc::Receiver<String> {
            let (sender, receiver) = channel();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
                }
                let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
            });
            receiver
        }
        // The pipes close when the process ends.
        let stdout = drain(self.child.stdout.take());
        let stderr = drain(self.child.stderr.take());
        let what = std::mem::take(&mut self.what);
        let mut read = |pipe: std::sync::mpsc::Receiver<String>| {
            pipe.recv_timeout(bound).unwrap_or_else(|_| {
                let _ = self.child.kill();
                panic!("{what}: still running after {bound:?}");
            })
        };
        let (stderr, stdout) = (read(stderr), read(stdout));
        let code = self.child.wait().expect("a child can be waited for").code();
        Ran { code, stdout, stderr, what }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// Checks that it ended with exit 0 and complained of nothing.
    #[track_caller]
    pub fn good(self) -> Ran {
        assert_eq!(self.code, Some(0), "{}: {}", self.what, self.stderr);
        assert!(!self.stderr.contains("error:"), "{}: {}", self.what, self.stderr);
        self
    }

    pub fn lines(&self) -> Vec<String> {
        self.stdout.lines().map(str::to_string).collect()
    }
}
