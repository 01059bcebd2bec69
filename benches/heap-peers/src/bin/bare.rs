//! mimalloc and nothing else: what our own modes and wrappers over it are compared with.
#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    heap_peers::run(|_| (), |()| ());
}
