//! The allocator and its settings: memory goes back to the system half a second after it was freed, and
//! few arenas keep little to themselves. (A burst of 40 MB of objects left 650 MB behind without this.)

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by jemalloc before `main`; it must be a C string under this very name.
#[expect(unsafe_code, reason = "jemalloc finds its settings by symbol; nothing else can reach it before main")]
#[unsafe(export_name = "malloc_conf")]
pub static SETTINGS: &[u8; 86] =
    b"background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0,narenas:2,tcache_max:16384\0";
