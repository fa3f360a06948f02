//! A real browser, Chromium without a window, driven through pipes by its DevTools protocol: one JSON object and a NUL a message.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::lab::{Host, Lab};

/// Longest time for any step.
const PATIENCE: Duration = Duration::from_secs(20);

/// A browser with one page. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    next: u64,
}

impl Browser {
    /// Starts it on a host of the lab, with an empty profile.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(lab: &Lab, host: Host) -> anyhow::Result<Self> {
        let profile = lab.state().join("browser");
        // The protocol's descriptors are 3 and 4. As root there is no sandbox; it sees pages of the lab alone.
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions \
                      --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
                      --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<&0 4>&1 1>&2 0</dev/null";
        let mut command = lab.command(host, "sh");
        command.args(["-c", script, "sh"]).arg(&profile).env("HOME", lab.state());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("chromium")?;
        let commands = child.stdin.take().context("no stdin")?;
        let output = child.stdout.take().context("no stdout")?;
        let (sender, messages) = sync_channel(1_024);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                if let Ok(message) = serde_json::from_slice(&message)
                    && sender.send(message).is_err()
                {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            session: None,
            next: 0,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }))?;
        browser.session = Some(attached["sessionId"].as_str().context("no session")?.to_owned());
        Ok(browser)
    }

    /// One command of the protocol.
    fn call(&mut self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes())?;
        self.commands.flush()?;
        let begin = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            let mut answer = self
                .messages
                .recv_timeout(left)
                .with_context(|| format!("{method}: no answer of the browser"))?;
            if answer["id"] == json!(self.next) {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
        }
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn open(&mut self, url: &str) -> anyhow::Result<()> {
        let result = self.call("Page.navigate", &json!({ "url": url }))?;
        ensure!(result["errorText"].is_null(), "{url}: {}", result["errorText"]);
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")
    }

    /// The value of an expression on the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> anyhow::Result<Value> {
        let mut result = self.call("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }))?;
        ensure!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        Ok(result["result"]["value"].take())
    }

    /// Waits until an expression is true on the page, also across a change of pages.
    ///
    /// # Errors
    /// When it never is; the error has the page's text.
    pub fn wait_for(&mut self, expression: &str) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            // While a page gives way to another one there is nothing to ask.
            if self.evaluate(expression).is_ok_and(|value| value == json!(true)) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let text = self.evaluate("location.href + '\\n' + document.body.innerText").unwrap_or_default();
                bail!("{expression} is never true on the page\n{}", text.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Fills in a field, by its selector, and sends its form.
    ///
    /// # Errors
    /// When there is no such field.
    pub fn submit(&mut self, field: &str, text: &str) -> anyhow::Result<()> {
        let (field, text) = (json!(field), json!(text));
        self.evaluate(&format!(
            "(() => {{ const field = document.querySelector({field}); field.value = {text}; document.body.dataset.left = 1; \
             field.form.requestSubmit(); }})()"
        ))?;
        self.wait_for("document.readyState === 'complete' && !document.body.dataset.left")
    }

    /// Gives the page a size, and the light or dark scheme.
    ///
    /// # Errors
    /// Those of the browser.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) -> anyhow::Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        self.call("Emulation.setEmulatedMedia", &json!({ "features": [scheme] })).map(drop)
    }

    /// Writes what is seen to a PNG file.
    ///
    /// # Errors
    /// Those of the browser, and of the file.
    pub fn screenshot(&mut self, file: &Path) -> anyhow::Result<()> {
        let shot = self.call("Page.captureScreenshot", &json!({ "format": "png" }))?;
        let data = STANDARD.decode(shot["data"].as_str().context("no picture")?)?;
        std::fs::write(file, data).with_context(|| file.display().to_string())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
