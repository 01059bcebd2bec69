//! Live bytes and blocks are exact, to the byte, whatever the program does: over mimalloc.

mod guest;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

exectrace::interpose!();

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = guest::heap::before_main;

fn main() {
    guest::heap::all();
}
