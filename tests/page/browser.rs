//! Owns a headless Chromium and one page in it: what it shows, what is pressed, what it looks like. It does not own what
//! should be there. It speaks the DevTools protocol over a pipe: JSON, each message ended by a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::running::PATIENCE;

/// A browser with one page open; both go when this is dropped.
pub struct Page {
    browser: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: String,
    calls: u64,
    /// What went wrong on the page, in its own words.
    wrong: Vec<String>,
    _profile: tempfile::TempDir,
}

/// Returns what Chromium is called here.
fn chromium() -> &'static str {
    let is_there = |name: &&str| {
        let asked = Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    let found = ["chromium", "chromium-browser"].into_iter().find(is_there);
    found.expect("no chromium: `bash .ci/needs` installs it")
}

impl Page {
    /// Opens a page, and waits until it shows a pipeline.
    pub fn open(url: &str) -> Page {
        let mut page = Page::at(url);
        page.until("document.querySelector('.state')?.textContent");
        page
    }

    /// Opens a page, of a desktop's width and in light colours.
    pub fn at(url: &str) -> Page {
        let profile = tempfile::tempdir().expect("a directory");
        // The protocol is spoken on descriptors 3 and 4.
        let script = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
        let mut browser = Command::new("sh")
            .args(["-c", script, chromium(), "--headless=new", "--remote-debugging-pipe"])
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = browser.stdin.take().expect("a pipe");
        let mut pipe = BufReader::new(browser.stdout.take().expect("a pipe"));
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|bytes| bytes > 0) {
                message.pop();
                let read = serde_json::from_slice(&message);
                if read.is_err() || sender.send(read.expect("JSON")).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let (session, wrong) = (String::new(), Vec::new());
        let mut page = Page { browser, to, from, session, calls: 0, wrong, _profile: profile };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = page.call("Target.attachToTarget", attach);
        page.session = attached["sessionId"].as_str().expect("a session").to_string();
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.resize(1280, 900, false);
        page.colours("light");
        page.call("Page.navigate", json!({ "url": url }));
        page
    }

    /// Calls a method of the protocol, and returns its result.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let bytes = message.to_string() + "\0";
        self.to.write_all(bytes.as_bytes()).expect("the browser listens");
        loop {
            let answer = self.from.recv_timeout(PATIENCE);
            let answer =
                answer.unwrap_or_else(|e| panic!("{method}: the browser says nothing: {e}"));
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.hear(&answer);
        }
    }

    /// Keeps what the page complains of, but for a server that does not answer.
    fn hear(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.wrong.push(params["exceptionDetails"].to_string())
            }
            Some("Log.entryAdded") if params["entry"]["source"] != "network" => {
                self.wrong.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// Returns what an expression of JavaScript comes to.
    pub fn ask(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Returns a text that an expression comes to.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.ask(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression}: {value}")).to_string()
    }

    /// Waits until an expression is so.
    #[track_caller]
    pub fn until(&mut self, holds: &str) {
        let patience = PATIENCE.as_millis() / 4;
        let wait = format!(
            "new Promise((done) => {{ const began = Date.now(); const at = setInterval(() => {{ \
             const holds = !!({holds}); if (holds || Date.now() - began > {patience}) {{ \
             clearInterval(at); done(holds) }} }}, 50) }})"
        );
        if self.ask(&wait) != json!(true) {
            let shown = self.ask("document.body.innerText");
            panic!("{holds}: it never was; the page says {shown}");
        }
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            key => panic!("{key}: which key?"),
        };
        for kind in ["keyDown", "keyUp"] {
            let params = json!({ "type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    pub fn resize(&mut self, width: u32, height: u32, mobile: bool) {
        let scale = if mobile { 2 } else { 1 };
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": scale,
            "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", params);
    }

    /// Prefers `light` or `dark`.
    pub fn colours(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// Writes what is shown, the whole page, to a picture beside the build.
    pub fn picture(&mut self, name: &str) -> PathBuf {
        let params = json!({ "format": "png", "captureBeyondViewport": true });
        let taken = self.call("Page.captureScreenshot", params);
        let bytes = STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64");
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"));
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// Checks that nothing went wrong on the page: no exception, nothing that its policy forbids.
    pub fn is_well(&mut self) {
        self.ask("1");
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
