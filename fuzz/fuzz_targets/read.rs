//! Any bytes as a trace: no panic, no hang, no overflow, whatever is asked of the events.
//!
//! ```sh
//! cargo +nightly fuzz run read fuzz/corpus/read tests/data -- -max_len=65536            # until it finds something
//! cargo +nightly fuzz run read fuzz/corpus/read tests/data -- -max_total_time=60        # the short form
//! ```
//! `tests/data` gives it real traces to begin with. Leave away the header and the fuzzer spends its life looking for one: so
//! an input without a header gets one here, of the version that its first byte chooses.
#![no_main]

use exectrace::format::Version;
use exectrace::read::wire::WireReader;
use exectrace::read::{Interner, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"go ") {
        read(data);
    } else if let Some((&first, rest)) = data.split_first() {
        let version = Version::ALL[first as usize % Version::ALL.len()];
        let mut trace = version.header().to_vec();
        trace.extend_from_slice(rest);
        read(&trace);
    }
});

fn read(trace: &[u8]) {
    let Ok(mut reader) = Reader::new(trace) else { return };
    let mut interner = Interner::new();
    let mut last = i64::MIN;
    loop {
        match reader.next_event() {
            Ok(Some(ev)) => {
                // Times rise strictly, unless the last was the largest there is.
                assert!(ev.time.0 > last || last == i64::MAX);
                last = ev.time.0;
                let _ = (ev.details(), ev.sync(), ev.leaf());
                for id in ev.args {
                    let _ = ev.string(exectrace::read::StringId(id));
                    interner.string(ev.generation(), exectrace::read::StringId(id));
                    interner.stack(ev.generation(), exectrace::read::StackId(id));
                }
                ev.stack().frames().for_each(|f| assert!(f.func.len() <= 3 << 10));
                if ev.sync().is_some() {
                    ev.generation().sections().for_each(drop);
                }
            }
            Ok(None) => break,
            Err(e) => {
                assert!(e.whole_bytes() <= trace.len() as u64);
                assert!(!e.to_string().is_empty());
                break;
            }
        }
    }
    let Ok(mut wire) = WireReader::new(trace) else { return };
    while let Ok(Some(ev)) = wire.next_event() {
        assert!(ev.offset < trace.len() as u64);
    }
}
