//! Memory that only the start needed.
//!
//! The kernel maps a program's code in windows around whatever runs, and keeps them mapped. A start runs
//! through most of this program: two thirds of what a process holds is then code that it will never run
//! again. Given back once, only what goes on running is mapped anew, from the page cache.

use nix::sys::mman::{MmapAdvise, madvise};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// By then a process that starts has started.
const SETTLED: Duration = Duration::from_secs(5);

/// Gives the code of the start back when it is over.
pub fn shrink_when_started(stop: CancellationToken) {
    tokio::spawn(async move {
        if stop.run_until_cancelled(tokio::time::sleep(SETTLED)).await.is_some() {
            tokio::task::spawn_blocking(give_code_back).await.ok();
        }
    });
}

fn give_code_back() {
    // Without it everything works as well: it only takes more memory.
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(code) {
        unmap(start, length);
    }
}

/// Start and length of a mapping that is code of a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_whitespace();
    let (range, rights, inode) = (words.next()?, words.next()?, words.nth(2)?);
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (rights == "r-xp" && inode != "0").then(|| (start, end.saturating_sub(start)))
}

#[expect(unsafe_code, reason = "nothing else takes mapped pages back from a process")]
fn unmap(start: usize, length: usize) {
    let Some(address) = NonNull::new(start as *mut c_void) else { return };
    // SAFETY: the pages belong to a file and were never written to (they are not writable): the next access,
    // also of a thread that is executing there, reads the same bytes from the file again.
    if let Err(error) = unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) } {
        tracing::debug!(%error, "mapped code was not given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let line = "55d0c0000000-55d0c0003000 r-xp 00002000 fe:00 1234   /usr/bin/kybern";
        assert_eq!(code(line), Some((0x55d0_c000_0000, 0x3000)));
        for other in [
            "55d0c0000000-55d0c0003000 r--p 00002000 fe:00 1234   /usr/bin/kybern",
            "7ffe0c5f2000-7ffe0c5f4000 r-xp 00000000 00:00 0      [vdso]",
            "55d0c0000000-55d0c0003000 rw-p 00000000 00:00 0      [heap]",
            "",
        ] {
            assert_eq!(code(other), None, "{other}");
        }
    }

    #[test]
    fn a_program_runs_on_without_its_code() {
        give_code_back();
        assert_eq!("still here".len(), 10);
    }
}
