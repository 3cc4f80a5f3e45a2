//! Where CPU tensors get their memory (`ops/pool.cpp`).

unsafe extern "C" {
    fn medst_pool_install(slack: u64);
}

/// Bytes that blocks in use and blocks that wait for their next use may hold together beyond what
/// was once in use.
const SLACK: u64 = 64 << 20;

/// Puts a pool of large blocks in front of libtorch's allocator, for the whole process. It is as
/// fast as the heap, but avoids the half gibibyte of holes that a training step leaves there. A
/// second call does nothing.
pub fn install_pool() {
    // SAFETY: the function may be called at any time, from any thread; earlier blocks keep their
    // deleter.
    unsafe { medst_pool_install(SLACK) }
}
