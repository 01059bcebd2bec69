//! The C library's allocator: what heaptrack and dhat are compared with, and run on.
fn main() {
    heap_peers::run(|_| (), |()| ());
}
