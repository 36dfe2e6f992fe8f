//! Both ends against each other over an in-memory transport.

use bytes::Bytes;
use kybern_stream::forward::Forwarder;
use kybern_stream::negotiate::Framing;
use kybern_stream::session::{Channel, Item, Session, Wanted};
use kybern_stream::spdy::{Connection, Headers, Limits};
use kybern_stream::websocket::channels::Subprotocol;
use kybern_stream::{Error, Role};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const FRAMINGS: [Framing; 6] = [
    Framing::Spdy,
    Framing::SpdyInWebSocket,
    Framing::Channels(Subprotocol::V5),
    Framing::Channels(Subprotocol::V4),
    Framing::Channels(Subprotocol::V4Base64),
    Framing::Channels(Subprotocol::V1),
];

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
const TTY: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: true };

async fn sessions(framing: Framing, wanted: Wanted) -> (Session, Session) {
    let (client, server) = duplex(4096);
    let (client, server) =
        tokio::join!(Session::open(client, framing, wanted), Session::accept(server, framing, wanted));
    (client.expect("client"), server.expect("server"))
}

/// A process that copies its input to its output, then reports an error and a status.
async fn echo(mut session: Session) {
    let mut size = Bytes::new();
    while let Some(item) = session.receiver.next().await.expect("item") {
        match item {
            Item::Data(Channel::Stdin, bytes) if bytes.ends_with(b"exit\n") => break,
            Item::Data(Channel::Stdin, bytes) => session.sender.send(Channel::Stdout, bytes).await.expect("echo"),
            Item::Data(Channel::Resize, bytes) => size = bytes,
            Item::End(Channel::Stdin) => break,
            other => panic!("{other:?}"),
        }
    }
    session.sender.send(Channel::Stderr, Bytes::from("bye")).await.expect("stderr");
    session
        .sender
        .send(Channel::Error, Bytes::from(format!("done{}", String::from_utf8_lossy(&size))))
        .await
        .expect("status");
    session.close().await;
}

async fn collect(session: &mut Session) -> [Vec<u8>; 5] {
    let mut all: [Vec<u8>; 5] = Default::default();
    while let Some(item) = session.receiver.next().await.expect("item") {
        if let Item::Data(channel, bytes) = item {
            all[usize::from(channel.number())].extend_from_slice(&bytes);
        }
    }
    all
}

#[tokio::test]
async fn a_command_runs_over_every_framing() {
    for framing in FRAMINGS {
        let (mut client, server) = sessions(framing, ALL).await;
        let server = tokio::spawn(echo(server));
        client.sender.send(Channel::Stdin, Bytes::from("hello\n")).await.expect("send");
        if matches!(framing, Framing::Channels(p) if p != Subprotocol::V5) {
            client.sender.send(Channel::Stdin, Bytes::from("exit\n")).await.expect("send");
        } else {
            client.sender.end(Channel::Stdin).await.expect("half-close");
        }
        let all = collect(&mut client).await;
        assert_eq!(all.map(|b| String::from_utf8(b).expect("text")), ["", "hello\n", "bye", "done", ""], "{framing:?}");
        client.close().await;
        server.await.expect("server");
    }
}

#[tokio::test]
async fn a_terminal_has_sizes_and_no_stderr() {
    for framing in [Framing::Spdy, Framing::Channels(Subprotocol::V5)] {
        let (mut client, server) = sessions(framing, TTY).await;
        let server = tokio::spawn(echo(server));
        client.sender.send(Channel::Resize, Bytes::from("80x24")).await.expect("resize");
        // Streams have no order among each other: the echo proves nothing about the size, so give it its turn.
        tokio::task::yield_now().await;
        client.sender.send(Channel::Stdin, Bytes::from("exit\n")).await.expect("send");
        let all = collect(&mut client).await;
        assert!(all[3].starts_with(b"done"), "{framing:?}");
        if framing == Framing::Spdy {
            assert!(all[2].is_empty(), "no stderr stream with a terminal");
        }
        client.close().await;
        server.await.expect("server");
    }
}

/// More than all buffers together goes through, and arrives whole although the reader starts late.
#[tokio::test]
async fn a_megabyte_arrives_whole() {
    for framing in FRAMINGS {
        let (mut client, mut server) = sessions(framing, ALL).await;
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let sent = Bytes::from(data.clone());
        let server = tokio::spawn(async move {
            for chunk in sent.chunks(30_000) {
                server.sender.send(Channel::Stdout, Bytes::copy_from_slice(chunk)).await.expect("send");
            }
            server.close().await;
        });
        let all = collect(&mut client).await;
        assert!(all[1] == data, "{framing:?}: {} bytes", all[1].len());
        client.close().await;
        server.await.expect("server");
    }
}

#[tokio::test]
async fn a_vanished_client_ends_the_session() {
    for framing in FRAMINGS {
        let (client, mut server) = sessions(framing, Wanted { stdout: true, ..Wanted::default() }).await;
        drop(client);
        assert_eq!(server.receiver.next().await.ok().flatten(), None, "{framing:?}");
        let mut sends = 0;
        while server.sender.send(Channel::Stdout, Bytes::from("x")).await.is_ok() {
            sends += 1;
            assert!(sends < 100_000, "{framing:?}: sending must fail in the end");
            tokio::task::yield_now().await;
        }
    }
}

/// A sender fills the receiver's window and no more while nobody reads.
#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_stops_the_sender() {
    let (client, server) = duplex(4096);
    let limits = Limits { window: 10_000, ..Limits::default() };
    let client = Connection::new(client, Role::Client, limits).expect("client");
    let mut server = Connection::new(server, Role::Server, limits).expect("server");
    let (mut ours, theirs) =
        tokio::join!(async { client.open(Headers::default()).await.expect("open") }, server.accept());
    let mut theirs = theirs.expect("accept").expect("stream");
    let sending = tokio::time::timeout(Duration::from_secs(1), ours.send.send(vec![1; 1_000_000].into())).await;
    assert!(sending.is_err(), "the window must bind");
    let mut received = 0;
    while let Ok(chunk) = tokio::time::timeout(Duration::from_secs(1), theirs.recv.recv()).await {
        received += chunk.expect("recv").map_or(0, |b| b.len());
    }
    assert_eq!(received, 10_000);
}

#[tokio::test]
async fn streams_end_in_halves_and_by_reset() {
    let (client, server) = duplex(4096);
    let client = Connection::new(client, Role::Client, Limits::default()).expect("client");
    let mut server = Connection::new(server, Role::Server, Limits::default()).expect("server");
    let (mut ours, theirs) =
        tokio::join!(async { client.open(Headers::default()).await.expect("open") }, server.accept());
    let mut theirs = theirs.expect("accept").expect("stream");
    ours.send.end().await.expect("end");
    assert!(matches!(ours.send.send(Bytes::from("late")).await, Err(Error::Closed)));
    assert_eq!(theirs.recv.recv().await.expect("end"), None);
    theirs.send.send(Bytes::from("still here")).await.expect("send");
    assert_eq!(ours.recv.recv().await.expect("data"), Some(Bytes::from("still here")));
    drop(theirs);
    assert!(matches!(ours.recv.recv().await, Err(Error::Reset(5))));
}

#[tokio::test]
async fn too_many_streams_are_refused() {
    let (client, server) = duplex(4096);
    let client = Connection::new(client, Role::Client, Limits::default()).expect("client");
    let mut server = Connection::new(server, Role::Server, Limits { streams: 2, ..Limits::default() }).expect("server");
    let serve = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok(Some(s)) = server.accept().await {
            held.push(s);
        }
        held.len()
    });
    let first = client.open(Headers::default()).await.expect("first");
    let second = client.open(Headers::default()).await.expect("second");
    assert!(client.open(Headers::default()).await.is_err());
    drop((first, second));
    client.close().await;
    assert_eq!(serve.await.expect("server"), 2);
}

#[tokio::test]
async fn forwards_are_pairs() {
    for framing in [Framing::Spdy, Framing::SpdyInWebSocket] {
        let (client, server) = duplex(4096);
        let (client, server) =
            tokio::join!(Forwarder::new(client, framing, Role::Client), Forwarder::new(server, framing, Role::Server));
        let (mut client, mut server) = (client.expect("client"), server.expect("server"));
        let server = tokio::spawn(async move {
            let mut ports = Vec::new();
            while let Some(mut f) = server.accept().await.expect("accept") {
                ports.push(f.port);
                if f.port == 81 {
                    f.error.send.send(Bytes::from("connection refused")).await.expect("error");
                }
                while let Some(bytes) = f.data.recv.recv().await.expect("data") {
                    f.data.send.send(bytes).await.expect("echo");
                }
                f.data.send.end().await.expect("end");
                f.error.send.end().await.expect("end");
            }
            ports
        });
        for port in [80, 81, 80] {
            let mut f = client.open(port).await.expect("open");
            f.data.send.send(Bytes::from("ping")).await.expect("send");
            f.data.send.end().await.expect("end");
            assert_eq!(f.data.recv.recv().await.expect("recv"), Some(Bytes::from("ping")));
            assert_eq!(f.data.recv.recv().await.expect("recv"), None);
            let error = f.error.recv.recv().await.expect("error");
            assert_eq!(error.is_some(), port == 81);
        }
        client.close().await;
        assert_eq!(server.await.expect("server"), [80, 81, 80]);
    }
}

/// Streams of a wrong kind are reset; a half pair is given up after its deadline.
#[tokio::test(start_paused = true)]
async fn half_pairs_expire() {
    let (client, server) = duplex(4096);
    let client = Connection::new(client, Role::Client, Limits::default()).expect("client");
    let mut server = Forwarder::new(server, Framing::Spdy, Role::Server).await.expect("server");
    let server = tokio::spawn(async move { server.accept().await });
    // The reset may overtake the acceptance.
    if let Ok(mut wrong) = client.open(Headers::new([("streamtype", "data"), ("port", "http")])).await {
        assert!(matches!(wrong.recv.recv().await, Err(Error::Reset(_))));
    }
    let mut half =
        client.open(Headers::new([("streamtype", "data"), ("port", "80"), ("requestid", "1")])).await.expect("open");
    assert!(matches!(half.recv.recv().await, Err(Error::Reset(_))));
    drop(client);
    assert!(matches!(server.await.expect("server"), Ok(None)));
}

async fn drain(mut io: DuplexStream) {
    let mut sink = Vec::new();
    io.read_to_end(&mut sink).await.ok();
}

/// Garbage ends every server end with an error or an orderly end, promptly.
#[tokio::test(start_paused = true)]
async fn garbage_ends_the_connection() {
    for framing in FRAMINGS {
        for garbage in
            [&b"\x80\x03\x00\x01\x00\xff\xff\xff"[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 300], &[0x80; 300], b""]
        {
            let (mut client, server) = duplex(1 << 16);
            client.write_all(garbage).await.expect("write");
            client.shutdown().await.expect("shutdown");
            let drained = tokio::spawn(drain(client));
            let served = async {
                let mut session = Session::accept(server, framing, ALL).await?;
                while session.receiver.next().await?.is_some() {}
                Ok::<_, Error>(())
            };
            let result = tokio::time::timeout(Duration::from_secs(31), served).await;
            assert!(result.is_ok(), "{framing:?} hangs on {garbage:?}");
            drained.await.expect("drain");
        }
    }
}
