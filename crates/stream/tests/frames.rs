//! SPDY frames against bytes that other implementations make, and against bytes that nobody should make.

use bytes::{Bytes, BytesMut};
use kybern_stream::spdy::Headers;
use kybern_stream::spdy::frame::{Decoder, Encoder, Frame, MAX_DATA};
use tokio_util::codec::{Decoder as _, Encoder as _};

fn decode_all(bytes: &[u8]) -> Result<Vec<Frame>, kybern_stream::Error> {
    let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::from(bytes), Vec::new());
    while let Some(frame) = decoder.decode(&mut buffer)? {
        frames.push(frame);
    }
    Ok(frames)
}

fn encode_all(frames: impl IntoIterator<Item = Frame>) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::new().expect("encoder"), BytesMut::new());
    for frame in frames {
        encoder.encode(frame, &mut out).expect("encode");
    }
    out.to_vec()
}

/// Frames without headers have one form: what we write is what we read.
#[test]
fn plain_frames_have_these_bytes() {
    let cases: &[(Frame, &str)] = &[
        (Frame::RstStream { id: 5, status: 3 }, "80030003000000080000000500000003"),
        (Frame::Ping(7), "800300060000000400000007"),
        (Frame::GoAway { last: 9, status: 0 }, "80030007000000080000000900000000"),
        (Frame::WindowUpdate { id: 1, delta: 65536 }, "80030009000000080000000100010000"),
        (Frame::Settings(vec![(7, 262_144)]), "800300040000000c000000010000000700040000"),
        (Frame::Data { id: 3, fin: false, bytes: Bytes::from("hi") }, "00000003000000026869"),
        (Frame::Data { id: 3, fin: true, bytes: Bytes::new() }, "0000000301000000"),
    ];
    for (frame, bytes) in cases {
        assert_eq!(hex::encode(encode_all([frame.clone()])), *bytes, "{frame:?}");
        let raw = hex::decode(bytes).expect("hex");
        assert_eq!(decode_all(&raw).expect("decode"), std::slice::from_ref(frame));
    }
}

/// Two SYN_STREAMs and a SYN_REPLY whose blocks another zlib compressed, as one zlib stream.
#[test]
fn header_frames_of_another_zlib_are_read() {
    let bytes = concat!(
        "80030001000000280000000100000000000078f9e3c6a7c202a62346703a2b294a4dcc851625aca9a08006000000ffff",
        "800300010000001700000003000000000000c22e555c02cc2e00000000ffff",
        "800300020000000d0000000202321800000000ffff",
    );
    let syn = |id, kind| Frame::SynStream {
        id,
        fin: false,
        unidirectional: false,
        headers: Headers::new([("streamtype", kind)]),
    };
    let expected =
        vec![syn(1, "error"), syn(3, "stdin"), Frame::SynReply { id: 2, fin: false, headers: Headers::default() }];
    assert_eq!(decode_all(&hex::decode(bytes).expect("hex")).expect("decode"), expected);
    assert_eq!(decode_all(&encode_all(expected.clone())).expect("decode"), expected);
}

#[test]
fn frames_may_arrive_in_any_pieces() {
    let frames = [
        Frame::SynStream { id: 1, fin: true, unidirectional: true, headers: Headers::new([("a", "b"), ("c", "")]) },
        Frame::Headers { id: 1, fin: false, headers: Headers::new([("late", "1")]) },
        Frame::Ping(1),
    ];
    let bytes = encode_all(frames.clone());
    let (mut decoder, mut buffer, mut seen) = (Decoder::default(), BytesMut::new(), Vec::new());
    for byte in bytes {
        buffer.extend_from_slice(&[byte]);
        seen.extend(decoder.decode(&mut buffer).expect("decode"));
    }
    assert_eq!(seen, frames);
}

/// A data frame may announce 16 MiB; we pass on what is there and hold no more.
#[test]
fn long_data_comes_in_pieces() {
    let mut bytes = hex::decode("0000000101020000").expect("hex");
    bytes.extend(vec![b'x'; 0x020000]);
    let frames = decode_all(&bytes).expect("decode");
    let sizes: Vec<_> = frames
        .iter()
        .map(|f| match f {
            Frame::Data { id: 1, fin, bytes } => (bytes.len(), *fin),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sizes, [(MAX_DATA, false), (MAX_DATA, true)]);
}

#[test]
fn broken_frames_are_errors() {
    let cases = [
        ("another version", "800200060000000400000007"),
        ("control frame too long", "8003000100ffffff"),
        ("short PING", "80030006000000020000"),
        ("short RST_STREAM", "800300030000000400000005"),
        ("SETTINGS count beyond the frame", "800300040000000400000009"),
        ("SYN_STREAM without its fields", "800300010000000400000001"),
        ("header block that is no zlib", "800300010000000e00000001000000000000deadbeef"),
        ("HTTP instead of SPDY", &hex::encode("HTTP/1.1 400 Bad")),
    ];
    for (name, bytes) in cases {
        let raw = hex::decode(bytes).expect("hex");
        // ASCII looks like a data frame of a long length: never an error by itself, but never more than data.
        let ok = decode_all(&raw).map(|f| f.iter().all(|f| matches!(f, Frame::Data { .. })));
        assert!(name.starts_with("HTTP") == ok.is_ok(), "{name}: {ok:?}");
    }
}

/// Whatever arrives, the decoder answers with frames or an error and stays within its input.
#[test]
fn random_and_mutated_bytes_never_panic() {
    let valid = encode_all([
        Frame::Settings(vec![(7, 1)]),
        Frame::SynStream { id: 1, fin: false, unidirectional: false, headers: Headers::new([("streamtype", "data")]) },
        Frame::Data { id: 1, fin: true, bytes: Bytes::from("payload") },
        Frame::GoAway { last: 0, status: 1 },
    ]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut errors = 0;
    for _ in 0..20_000 {
        let mut bytes = valid.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % bytes.len();
            bytes[at] = next() as u8;
        }
        bytes.truncate(next() % (bytes.len() + 1));
        match decode_all(&bytes) {
            Ok(frames) => assert!(frames.len() <= bytes.len()),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 1000, "mutations must reach the error paths: {errors}");
}
