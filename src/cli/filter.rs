//! Which events a command looks at: a window of time, threads, goroutines, kinds.

use crate::outcome::Failure;
use clap::Args;
use exectrace::analyze::ns_of_unit;
use exectrace::format::Kind;
use exectrace::read::{Event, EventKind, StateTransition, Time};

/// The filters. All that are given must hold; of several values of one filter, any.
#[derive(Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Leave out events before this time since the start of the trace, such as 1.5s, 20ms, 300us
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    from: Option<i64>,
    /// Leave out events after this time since the start of the trace
    #[arg(long, value_name = "TIME", value_parser = parse_ns)]
    to: Option<i64>,
    /// Only events on these threads
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    thread: Vec<u64>,
    /// Only events on these goroutines, or that change their state
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    goroutine: Vec<u64>,
    /// Only events of these kinds: StateTransition, Metric, Log ..., or GoBlock, HeapAlloc ...
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = parse_kind)]
    kind: Vec<KindFilter>,
}

/// A kind by either of its two names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KindFilter {
    Event(EventKind),
    Wire(Kind),
}

/// The filters, ready to be asked.
pub struct Filter<'a> {
    args: &'a FilterArgs,
    start: Option<Time>,
    all: bool,
}

impl FilterArgs {
    /// Whether any filter was given.
    pub fn any(&self) -> bool {
        self.from.is_some()
            || self.to.is_some()
            || !self.thread.is_empty()
            || !self.goroutine.is_empty()
            || !self.kind.is_empty()
    }

    pub fn filter(&self) -> Result<Filter<'_>, Failure> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(Failure::usage("--from is later than --to", "nothing lies between them"));
        }
        Ok(Filter { args: self, start: None, all: !self.any() })
    }
}

impl Filter<'_> {
    /// Whether an event passes. The first event asked for marks the start of the trace.
    #[inline]
    pub fn passes(&mut self, ev: &Event) -> bool {
        self.all || self.check(ev)
    }

    /// Whether no event from this time on can pass.
    pub fn is_past(&self, time: Time) -> bool {
        matches!((self.start, self.args.to), (Some(start), Some(to)) if time.since(start) > to)
    }

    fn check(&mut self, ev: &Event) -> bool {
        let at = ev.time.since(*self.start.get_or_insert(ev.time));
        let args = self.args;
        if args.from.is_some_and(|from| at < from) || args.to.is_some_and(|to| at > to) {
            return false;
        }
        if !args.thread.is_empty() && !args.thread.contains(&ev.thread.0) {
            return false;
        }
        if !args.goroutine.is_empty() && !args.goroutine.contains(&ev.goroutine.0) {
            let about = match ev.transition() {
                Some(StateTransition::Goroutine { id, .. }) => args.goroutine.contains(&id.0),
                _ => false,
            };
            if !about {
                return false;
            }
        }
        args.kind.is_empty()
            || args.kind.contains(&KindFilter::Event(ev.kind()))
            || args.kind.contains(&KindFilter::Wire(ev.wire))
    }
}

fn parse_kind(text: &str) -> Result<KindFilter, String> {
    let same = |name: &str| name.eq_ignore_ascii_case(text);
    if let Some(k) = EventKind::ALL.into_iter().find(|k| same(k.name())) {
        return Ok(KindFilter::Event(k));
    }
    let timed = |k: &&Kind| k.spec().timed || **k == Kind::CPUSample;
    if let Some(&k) = Kind::ALL.iter().filter(timed).find(|k| same(k.spec().name)) {
        return Ok(KindFilter::Wire(k));
    }
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|k| k.name()).collect();
    Err(format!(
        "not a kind of event; there are {}, and the names of events on the wire such as GoBlock",
        kinds.join(", ")
    ))
}

/// A span of time with a unit, in nanoseconds; without a unit it is seconds.
pub fn parse_ns(text: &str) -> Result<i64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == 'µ');
    let unit = &text[number.len()..];
    let Some(ns_per_unit) = ns_of_unit(if unit.is_empty() { "s" } else { unit }) else {
        return Err(format!("unit {unit:?}: expected ns, us, ms, s, m or h"));
    };
    match number.parse::<f64>() {
        Ok(v) if v.is_finite() && v >= 0.0 && v * ns_per_unit < 9e18 => Ok((v * ns_per_unit).round() as i64),
        _ => Err(String::from("expected a time such as 1.5s or 20ms")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ns) in [
            ("0", 0),
            ("1.5", 1_500_000_000),
            ("20ms", 20_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("7ns", 7),
            ("2m", 120_000_000_000),
        ] {
            assert_eq!(parse_ns(text), Ok(ns), "{text}");
        }
        for text in ["", "ms", "-1s", "1 day", "nan", "inf", "1e30h"] {
            assert!(parse_ns(text).is_err(), "{text}");
        }
    }

    #[test]
    fn kinds_have_two_names() {
        assert!(parse_kind("gounblock") == Ok(KindFilter::Wire(Kind::GoUnblock)));
        assert!(parse_kind("StateTransition") == Ok(KindFilter::Event(EventKind::StateTransition)));
        assert!(parse_kind("CPUSample") == Ok(KindFilter::Wire(Kind::CPUSample)));
        assert!(parse_kind("EventBatch").is_err());
        assert!(parse_kind("Sync") == Ok(KindFilter::Event(EventKind::Sync)));
    }
}
