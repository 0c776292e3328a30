//! Owns a process of this program that goes on until it is told otherwise: the lines that the two say to each other. It
//! does not own what they mean.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

/// A process that says lines of a word and what belongs to it.
pub struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    /// Starts this program with `arguments` and `--directory`.
    pub fn start(arguments: &[String], directory: &Path) -> Running {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(arguments)
            .arg("--directory")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Running { child, said }
    }

    /// Waits for the line of a word, and returns its number.
    pub fn until(&mut self, word: &str) -> f64 {
        self.line(word).parse().expect("a number")
    }

    /// Waits for the line of a word, and returns the rest of it.
    pub fn line(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.said.read_line(&mut line).expect("text") > 0,
                "it has ended before {word}"
            );
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_string();
            }
        }
    }

    pub fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{word}")
            .expect("a process that reads");
    }

    pub fn kill(mut self) {
        self.child.kill().expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }

    /// Waits for the end that it comes to by itself.
    pub fn end(mut self) {
        // A wait closes it, which would end the process at once.
        let _open = self.child.stdin.take();
        assert!(self.child.wait().expect("a process of ours").success());
    }
}

/// Returns when each line of the standard input has come. At its end nobody is there to end us.
pub fn heard(mut then: impl FnMut() + Send + 'static) -> Receiver<Instant> {
    let (says, hears) = channel();
    thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            then();
            let _ = says.send(Instant::now());
        }
        std::process::exit(1);
    });
    hears
}

/// Says a word, and how many milliseconds have passed.
pub fn say(word: &str, from: Instant) {
    println!("{word} {}", from.elapsed().as_secs_f64() * 1e3);
}
