//! Owns running git so that its answers depend on the repository and on nothing else: not on the
//! user's configuration, replacements, grafts or environment. It does not own what they mean.

use std::io::Read;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use differential_upsert::{Error, ErrorKind};

/// Variables that would make git look at another repository, or at this one differently.
const MISLEADING: [&str; 11] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_DIFF_OPTS",
];

/// Bytes kept of what git says on stderr.
const STDERR_BYTES_MAX: u64 = 4 << 10;

/// A complete repository and the commit its HEAD named when it was opened.
#[derive(Debug)]
pub(crate) struct Repository {
    path: String,
    head: String,
}

impl Repository {
    /// Opens the repository that `path` is, or is in.
    pub(crate) fn open(path: &str) -> Result<Repository, Error> {
        let mut repository = Repository { path: path.to_string(), head: String::new() };
        let shallow = repository.ask(&["rev-parse", "--is-shallow-repository"])?;
        let shallow = shallow.map_err(|said| {
            Error::new(ErrorKind::Invalid, format!("not a git repository: {said}"))
                .at(repository.place())
                .hint("name a directory of one, as in git:.; part files are fed without git:")
        })?;
        if shallow != "false" {
            let error = Error::new(ErrorKind::Invalid, "a shallow clone: its history is cut off");
            return Err(error
                .at(repository.place())
                .hint("run git fetch --unshallow in it and rerun"));
        }
        let head =
            repository.ask(&["rev-parse", "--verify", "--end-of-options", "HEAD^{commit}"])?;
        repository.head = head.map_err(|_| {
            Error::new(ErrorKind::Invalid, "HEAD names no commit")
                .at(repository.place())
                .hint("check out a branch that has commits")
        })?;
        Ok(repository)
    }

    /// Returns the number of commits in the first-parent history.
    pub(crate) fn count(&self) -> Result<u64, Error> {
        let args = ["rev-list", "--first-parent", "--count", &self.head];
        let count = self.ask(&args)?.and_then(|count| {
            let number = count.parse();
            number.map_err(|_| format!("unexpected output of git rev-list: {count}"))
        });
        count.map_err(|said| self.wrong(ErrorKind::Unavailable, &said))
    }

    /// Starts naming the commits on stdout, oldest first.
    pub(crate) fn list(&self) -> Result<Running, Error> {
        self.start(&["rev-list", "--first-parent", "--reverse", &self.head])
    }

    /// Starts telling the changes of each `commit parent` line it gets on stdin.
    pub(crate) fn diff(&self) -> Result<Running, Error> {
        self.start(&[
            "diff-tree",
            "--stdin",
            "-r",
            "-z",
            "--raw",
            "--root",
            "--always",
            "--no-renames",
            "--no-abbrev",
            "--no-relative",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
        ])
    }

    /// Returns an error about this repository.
    pub(crate) fn wrong(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(kind, what).at(self.place()).hint("check the repository with git fsck and rerun")
    }

    fn place(&self) -> String {
        format!("git:{}", self.path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        for name in MISLEADING {
            command.env_remove(name);
        }
        command
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_GRAFT_FILE", "/dev/null")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C")
            .args(["--no-pager", "--literal-pathspecs", "-C", &self.path])
            .args(["-c", "core.quotePath=false", "-c", "diff.orderFile="])
            .args(["-c", "diff.ignoreSubmodules=none"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs git to its end: its first line of output, or what it said on stderr.
    fn ask(&self, args: &[&str]) -> Result<Result<String, String>, Error> {
        let output = self.command(args).output();
        let output = output.map_err(|e| self.missing(e))?;
        if !output.status.success() {
            return Ok(Err(last_line(&String::from_utf8_lossy(&output.stderr))));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Ok(text.trim_end().to_string()))
    }

    fn start(&self, args: &[&str]) -> Result<Running, Error> {
        let mut command = self.command(args);
        let child = command.stdin(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| self.missing(e))?;
        let stderr = child.stderr.take().map(keep_stderr);
        let place = self.place();
        let name = format!("git {}", args[0]);
        Ok(Running { child, stderr, name, place })
    }

    fn missing(&self, e: std::io::Error) -> Error {
        Error::new(ErrorKind::Unavailable, format!("cannot run git: {e}"))
            .at(self.place())
            .hint("install git or put it on the PATH")
            .because(e)
    }
}

/// A running git; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stderr: Option<JoinHandle<String>>,
    name: String,
    place: String,
}

impl Running {
    /// Returns where its answers come. At most once.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is taken once")
    }

    /// Returns where its questions go. At most once.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is taken once")
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let status = self.child.wait();
        let said = self.stderr.take().and_then(|said| said.join().ok());
        match status {
            Ok(status) if status.success() => Ok(()),
            status => {
                let how = status.map_or_else(|e| e.to_string(), |status| status.to_string());
                let said = last_line(&said.unwrap_or_default());
                let what = format!("{} failed ({how}): {said}", self.name);
                Err(Error::new(ErrorKind::Unavailable, what)
                    .at(&self.place)
                    .hint("check the repository with git fsck and rerun"))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already, which is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads stderr to its end, so that git never waits for it, and keeps its beginning.
fn keep_stderr(mut stderr: ChildStderr) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let _ = (&mut stderr).take(STDERR_BYTES_MAX).read_to_end(&mut kept);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    })
}

fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("it said nothing").to_string()
}
