//! What this machine can do at best, measured in the same run: disk sync, memory copy, TLS, loopback.

use super::row;
use anyhow::{Result, bail};
use rustls::crypto::cipher::{
    InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const LENGTH: Duration = Duration::from_millis(600);

/// All limits.
pub(crate) async fn run() -> Result<()> {
    tokio::task::spawn_blocking(|| -> Result<()> {
        sync()?;
        copy();
        round_trip()?;
        encrypt()
    })
    .await?
}

/// Appends of 1 KB with fdatasync, in a file whose blocks are there already.
fn sync() -> Result<()> {
    let path = std::path::Path::new("/var/lib/kybern/bench-sync");
    std::fs::create_dir_all("/var/lib/kybern")?;
    let file = std::fs::File::create(path)?;
    file.write_all_at(&vec![0; 16 << 20], 0)?;
    file.sync_all()?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < LENGTH {
        let at = Instant::now();
        file.write_all_at(&[1; 1024], (times.len() as u64 % 16_000) * 1024)?;
        file.sync_data()?;
        times.push(at.elapsed());
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    let us = |q: f64| times[(times.len() as f64 * q) as usize].as_micros();
    row("fdatasync of 1 KB", format!("p50 {} us", us(0.5)), &format!("p99 {} us", us(0.99)));
    Ok(())
}

/// Copies larger than any cache.
fn copy() {
    let (from, mut to) = (vec![1u8; 64 << 20], vec![0u8; 64 << 20]);
    let (begun, mut bytes) = (Instant::now(), 0usize);
    while begun.elapsed() < LENGTH {
        to.copy_from_slice(std::hint::black_box(&from));
        bytes += std::hint::black_box(&to).len();
    }
    row("memory copy", format!("{:.1} GB/s", bytes as f64 / begun.elapsed().as_secs_f64() / 1e9), "");
}

/// A byte there and back over loopback TCP.
fn round_trip() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut s, _) = listener.accept()?;
        s.set_nodelay(true)?;
        let mut b = [0];
        while s.read(&mut b)? == 1 {
            s.write_all(&b)?;
        }
        Ok(())
    });
    let mut s = TcpStream::connect(address)?;
    s.set_nodelay(true)?;
    let (begun, mut n, mut b) = (Instant::now(), 0u32, [0]);
    while begun.elapsed() < LENGTH {
        s.write_all(&b)?;
        s.read_exact(&mut b)?;
        n += 1;
    }
    drop(s);
    echo.join().map_err(|_| anyhow::anyhow!("echo thread"))??;
    row("loopback round trip", format!("{:.0} us", begun.elapsed().as_micros() as f64 / f64::from(n)), "");
    Ok(())
}

/// A cipher of TLS with a fixed key: what it costs, without handshakes.
struct Cipher(&'static rustls::Tls13CipherSuite);

impl Cipher {
    fn new() -> Result<Self> {
        match rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384 {
            rustls::SupportedCipherSuite::Tls13(suite) => Ok(Self(suite)),
            _ => bail!("the cipher suite is not one of TLS 1.3"),
        }
    }
    fn key() -> rustls::crypto::cipher::AeadKey {
        rustls::crypto::cipher::AeadKey::from([7u8; 32])
    }
    fn sealer(&self) -> Box<dyn MessageEncrypter> {
        self.0.aead_alg.encrypter(Self::key(), Iv::copy(&[0; 12]))
    }
    fn opener(&self) -> Box<dyn MessageDecrypter> {
        self.0.aead_alg.decrypter(Self::key(), Iv::copy(&[0; 12]))
    }
}

fn sealed(sealer: &mut dyn MessageEncrypter, plain: &[u8], sequence: u64) -> Result<Vec<u8>> {
    let message = OutboundPlainMessage {
        typ: rustls::ContentType::ApplicationData,
        version: rustls::ProtocolVersion::TLSv1_3,
        payload: OutboundChunks::Single(plain),
    };
    Ok(sealer.encrypt(message, sequence)?.encode())
}

/// AES-256-GCM, as TLS uses it, on 16 KB records.
fn encrypt() -> Result<()> {
    let mut sealer = Cipher::new()?.sealer();
    let plain = vec![0u8; RECORD];
    let (begun, mut bytes, mut sequence) = (Instant::now(), 0usize, 0);
    while begun.elapsed() < LENGTH {
        std::hint::black_box(sealed(sealer.as_mut(), &plain, sequence)?);
        sequence += 1;
        bytes += plain.len();
    }
    let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e9;
    row("TLS record encryption (AES-256-GCM)", format!("{rate:.2} GB/s"), "");
    Ok(())
}

/// Plain bytes of a TLS record.
const RECORD: usize = 16 << 10;

/// Watch events a second that this machine could carry, if all there was to do for each were to copy its
/// frame, encrypt it, send it over loopback, receive and decrypt it: with `events` frames of `frame` bytes
/// in one write, at least one.
pub(crate) fn deliveries(frame: usize, events: usize) -> Result<f64> {
    let (size, cipher) = (frame * events, Cipher::new()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut out = TcpStream::connect(listener.local_addr()?)?;
    out.set_nodelay(true)?;
    let (mut incoming, _) = listener.accept()?;
    let mut opener = cipher.opener();
    let received = std::thread::spawn(move || -> Result<usize> {
        let (mut buffer, mut filled, mut sequence, mut bytes) = (vec![0u8; 256 << 10], 0, 0, 0);
        loop {
            let read = incoming.read(&mut buffer[filled..])?;
            if read == 0 {
                return Ok(bytes);
            }
            filled += read;
            let mut at = 0;
            while let Some(length) = record(&buffer[at..filled]) {
                let (typ, version) = (rustls::ContentType::ApplicationData, rustls::ProtocolVersion::TLSv1_2);
                let payload = &mut buffer[at + HEADER..at + length];
                let plain = opener.decrypt(InboundOpaqueMessage::new(typ, version, payload), sequence)?;
                bytes += plain.payload.len();
                sequence += 1;
                at += length;
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
        }
    });
    let (shared, mut sealer) = (vec![b'x'; size], cipher.sealer());
    let (begun, mut sequence) = (Instant::now(), 0);
    while begun.elapsed() < LENGTH {
        let copy = std::hint::black_box(shared.clone());
        let mut write = Vec::with_capacity(size + 256);
        for plain in copy.chunks(RECORD) {
            write.extend_from_slice(&sealed(sealer.as_mut(), plain, sequence)?);
            sequence += 1;
        }
        out.write_all(&write)?;
    }
    drop(out);
    let bytes = received.join().map_err(|_| anyhow::anyhow!("receiving thread"))??;
    Ok(bytes as f64 / frame as f64 / begun.elapsed().as_secs_f64())
}

/// Bytes before a record's payload.
const HEADER: usize = 5;

/// Length of the record at the beginning, if all of it is there.
fn record(bytes: &[u8]) -> Option<usize> {
    let length = HEADER + usize::from(u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]));
    (bytes.len() >= length).then_some(length)
}
