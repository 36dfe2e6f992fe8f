//! The pause program, which holds a sandbox's namespaces open, and its image.
//!
//! It sleeps for ever and lets the kernel reap children it inherits (shared process namespaces). It
//! is 150 bytes of machine code and header, so it is written here instead of being shipped.

use crate::images::archive::{Blob, Bundle};

/// The image's name; containerd's configuration and the import must agree on it.
pub const IMAGE: &str = "kybern.local/pause:1";

/// Where the program is loaded.
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: u64 = 64 + 56;

/// `rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8)`, then `pause()` for ever.
#[rustfmt::skip]
const CODE: [u8; 33] = [
    0xb8, 13, 0, 0, 0,                 // mov eax, 13 (rt_sigaction)
    0xbf, 17, 0, 0, 0,                 // mov edi, 17 (SIGCHLD)
    0xbe, 0x9a, 0x00, 0x40, 0x00,      // mov esi, BASE + HEADERS + 34: the action below
    0x31, 0xd2,                        // xor edx, edx
    0x41, 0xba, 8, 0, 0, 0,            // mov r10d, 8: bytes of a signal set
    0x0f, 0x05,                        // syscall
    0xb8, 34, 0, 0, 0,                 // mov eax, 34 (pause)
    0x0f, 0x05,                        // syscall
    0xeb, // jmp; the distance follows
];
/// Back over the jump itself, the syscall and the mov.
const JUMP: u8 = 0xf7;
/// `struct sigaction`: handler SIG_IGN (1), no flags, no restorer, empty mask.
const ACTION: [u64; 4] = [1, 0, 0, 0];

/// The program as a static ELF file for x86-64.
pub fn program() -> Vec<u8> {
    let mut body = CODE.to_vec();
    body.push(JUMP);
    body.extend(ACTION.iter().flat_map(|w| w.to_le_bytes()));
    let size = HEADERS + body.len() as u64;

    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    elf.extend([0; 8]);
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
    elf.extend((BASE + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers
    elf.extend(0u64.to_le_bytes()); // no sections
    elf.extend(0u32.to_le_bytes()); // flags
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes()); // header sizes and counts
    }
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, read and execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    elf.extend(body);
    elf
}

/// The image, ready to import.
pub fn image() -> Bundle {
    let mut bundle = Bundle::default();
    let layer = bundle.add(Blob::memory(crate::images::archive::layer(&[("pause", 0o755, &program())])));
    bundle.compose(IMAGE, vec![layer], serde_json::json!({ "Entrypoint": ["/pause"], "WorkingDir": "/" }));
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_addresses_agree() {
        let elf = program();
        assert_eq!(&elf[..4], b"\x7fELF");
        let action = BASE + HEADERS + CODE.len() as u64 + 1;
        let in_code = u32::from_le_bytes([CODE[11], CODE[12], CODE[13], CODE[14]]);
        assert_eq!(u64::from(in_code), action, "the code points at its sigaction");
        let mov_pause = 25;
        assert_eq!(CODE[mov_pause], 0xb8);
        let after_jump = CODE.len() + 1;
        assert_eq!(after_jump as i64 + i64::from(JUMP as i8), mov_pause as i64, "the jump leads to the second mov");
    }

    #[test]
    fn runs_until_killed() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("kybern-pause-{}", std::process::id()));
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it must not end by itself");
        child.kill().unwrap();
        let status = child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "ended by the kill and no crash");
    }
}
