//! What a test needs of the machine it runs on: files, ports, a page over plain HTTP.

use crate::ensure;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// A directory that goes away with this value.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a directory whose name tells `name`.
    ///
    /// # Panics
    /// When it can't be created.
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("kybern-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        Self(dir)
    }

    /// The path of a file in it.
    ///
    /// # Panics
    /// When the temporary directory's path is not UTF-8.
    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A port of the loopback address that nobody uses now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// What a server said to a plain request.
#[derive(Debug)]
pub struct Answer {
    /// The address the request was sent from.
    pub source: IpAddr,
    /// Head and body.
    pub text: String,
}

/// The answer to `GET PATH`, whatever its status.
///
/// # Errors
/// When nobody answers within seconds.
pub fn ask(host: &str, port: u16, path: &str) -> Result<Answer> {
    let address = format!("{host}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(Answer { source: stream.local_addr()?.ip(), text })
}

/// The answer to `GET /`, head and body.
///
/// # Errors
/// When nobody answers within seconds, or not with 200.
pub fn fetch(host: &str, port: u16) -> Result<String> {
    let text = ask(host, port, "/")?.text;
    ensure(text.contains("200 OK"), || text.clone())?;
    Ok(text)
}
