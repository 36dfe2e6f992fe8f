//! What this machine can do at best, measured in the same run: disk sync, memory copy, TLS, loopback.

use super::row;
use anyhow::Result;
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

/// AES-256-GCM, as TLS uses it, on 16 KB records.
fn encrypt() -> Result<()> {
    let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
    let (begun, mut bytes) = (Instant::now(), 0usize);
    let rustls::SupportedCipherSuite::Tls13(suite) = suite else { return Ok(()) };
    let key = rustls::crypto::cipher::AeadKey::from([7u8; 32]);
    let mut sealer = suite.aead_alg.encrypter(key, rustls::crypto::cipher::Iv::copy(&[0; 12]));
    let plain = vec![0u8; 16 << 10];
    let mut sequence = 0;
    while begun.elapsed() < LENGTH {
        let message = rustls::crypto::cipher::OutboundPlainMessage {
            typ: rustls::ContentType::ApplicationData,
            version: rustls::ProtocolVersion::TLSv1_3,
            payload: rustls::crypto::cipher::OutboundChunks::Single(&plain),
        };
        std::hint::black_box(sealer.encrypt(message, sequence)?);
        sequence += 1;
        bytes += plain.len();
    }
    row(
        "TLS record encryption (AES-256-GCM)",
        format!("{:.2} GB/s", bytes as f64 / begun.elapsed().as_secs_f64() / 1e9),
        "",
    );
    Ok(())
}
