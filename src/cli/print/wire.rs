//! The format of `go tool trace -d=wire`, byte for byte that of Go 1.27.

use crate::fmt::{push_quoted, push_u64};
use crate::input::Input;
use crate::outcome::{Failure, Outcome};
use crate::output::Output;
use exectrace::format::Kind;
use exectrace::read::wire::{WireEvent, WireReader};

pub fn print(input: &Input) -> Result<Outcome, Failure> {
    let mut reader = WireReader::new(input.bytes()?).map_err(|e| Failure::unreadable(&input.name(), &e))?;
    let mut out = Output::stdout();
    loop {
        match reader.next_event() {
            Ok(Some(ev)) => event(&mut out.buf, &ev),
            Ok(None) => break,
            Err(e) => {
                out.flush()?;
                return Err(Failure::Broken(format!("{}: {e}", input.name())));
            }
        }
        out.poll()?;
    }
    out.flush()?;
    Ok(Outcome::Done)
}

fn event(out: &mut Vec<u8>, ev: &WireEvent<'_>) {
    let Some(kind) = ev.kind else {
        // Go's table has empty rows between the last event and the experimental ones.
        out.push(b'\n');
        return;
    };
    let spec = kind.spec();
    out.extend_from_slice(spec.name.as_bytes());
    for (name, v) in spec.args.iter().zip(ev.args) {
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        push_u64(out, *v);
    }
    for frame in ev.frames {
        for (name, v) in [&b"\n\tpc="[..], b" func=", b" file=", b" line="].iter().zip(frame) {
            out.extend_from_slice(name);
            push_u64(out, *v);
        }
    }
    if matches!(kind, Kind::String | Kind::ExperimentalBatch) && !ev.data.is_empty() {
        out.extend_from_slice(b"\n\tdata=");
        push_quoted(out, ev.data);
    }
    out.push(b'\n');
}
