//! kubectl as a program: run to its end, or beside the test.

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The client program.
pub fn kubectl_program() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into())
}

/// Runs kubectl; its standard output.
///
/// # Errors
/// With kubectl's standard error when it fails.
pub fn run(args: &[&str], input: Option<&str>) -> Result<String> {
    Kubectl::new().run(args, input)
}

/// Runs kubectl; everything it gave.
///
/// # Errors
/// When it can't be started.
pub fn output(args: &[&str], input: Option<&str>) -> Result<Output> {
    Kubectl::new().output(args, input)
}

/// A way to call kubectl: which program, with which arguments and variables each time.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: String,
    leading: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Default for Kubectl {
    fn default() -> Self {
        Self::new()
    }
}

impl Kubectl {
    /// [`kubectl_program`] on the cluster of `KUBECONFIG`.
    pub fn new() -> Self {
        Self { program: kubectl_program(), leading: Vec::new(), variables: Vec::new() }
    }

    /// The same calls by another program.
    #[must_use]
    pub fn by(mut self, program: &str) -> Self {
        program.clone_into(&mut self.program);
        self
    }

    /// The same with arguments that come first in every call.
    #[must_use]
    pub fn with(mut self, leading: &[&str]) -> Self {
        self.leading.extend(leading.iter().map(|a| (*a).to_owned()));
        self
    }

    /// The same with a variable of the environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.leading).args(args).envs(self.variables.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it; everything it gave.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn output(&self, args: &[&str], input: Option<&str>) -> Result<Output> {
        finish(self.command(args), input)
    }

    /// Runs it; its standard output.
    ///
    /// # Errors
    /// With kubectl's standard error when it fails.
    pub fn run(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let output = self.output(args, input)?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it on a terminal of `columns` by `rows`, typing `input`; what the terminal showed, and the exit code.
    ///
    /// # Errors
    /// When `script` (of util-linux) can't be started.
    pub fn on_terminal(&self, (columns, rows): (u16, u16), args: &[&str], input: &str) -> Result<(String, i32)> {
        let mut words = vec![self.program.as_str()];
        words.extend(self.leading.iter().map(String::as_str));
        words.extend(args);
        let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
        let line = format!("stty cols {columns} rows {rows}; exec {}", quoted.join(" "));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command, Some(input))?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap_or(-1)))
    }

    /// Starts it in the background (a watch, a port-forward); it ends with the returned value.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn background(&self, args: &[&str]) -> Background {
        self.background_with(args, "")
    }

    /// Like [`Kubectl::background`], with `input` on a standard input that stays open.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn background_with(&self, args: &[&str], input: &str) -> Background {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl");
        let mut stdin = child.stdin.take().expect("its standard input");
        stdin.write_all(input.as_bytes()).expect("kubectl reads its input");
        let text = Arc::new(Mutex::new(Vec::new()));
        let (mut pipe, sink) = (child.stdout.take().expect("its standard output"), text.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                sink.lock().expect("what was read").extend_from_slice(&buffer[..n]);
            }
        });
        Background { child, text, reader: Some(reader), _stdin: stdin }
    }
}

fn finish(mut command: Command, input: Option<&str>) -> Result<Output> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
        pipe.write_all(text.as_bytes())?;
    }
    Ok(child.wait_with_output()?)
}

/// A kubectl that runs beside the test.
#[derive(Debug)]
pub struct Background {
    child: Child,
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// Held open: its end would end an attached session.
    _stdin: ChildStdin,
}

impl Background {
    /// What it has printed so far.
    ///
    /// # Panics
    /// When its reader panicked.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("what was read")).into_owned()
    }

    /// Ends it and returns what it printed.
    pub fn finish(mut self) -> String {
        self.end();
        self.so_far()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}
