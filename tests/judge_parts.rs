//! The parts that the judge of the other tests is made of, each against answers that are known.

mod support;

use exectrace::format::Version;
use std::path::Path;
use std::time::Duration;
use support::batch::{Depth, Item, judge_by};
use support::pprof::Profile;
use support::timeline::Timeline;
use support::window::Split;
use support::{good, http, page};

#[test]
fn answers_of_servers_are_taken_apart() {
    let r = http::parse(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi").expect("a whole answer");
    assert_eq!((r.status, r.text().as_str()), (200, "hi"));
    assert!(http::parse(b"").is_err(), "nothing");
    assert!(http::parse(b"HTTP/1.0 200 OK\r\n").is_err(), "a cut header");
    assert!(http::parse(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi").is_err(), "a cut body");
}

#[test]
fn links_are_found() {
    let html = r##"<a href="/trace?view=proc&amp;start=1">a</a> <a href='/x?a=b&#43;c&raw=1#3:4'>b</a>
        <a href="https://elsewhere/">c</a> <a href="#here">d</a> <a href="/g?name=&lt;x y&gt;">e</a>"##;
    assert_eq!(page::links(html), ["/trace?view=proc&start=1", "/x?a=b+c&raw=1", "/g?name=<x%20y>"]);
}

#[test]
fn the_table_of_a_profile_is_read() {
    let text = "Type: delay\nShowing nodes accounting for 15680ns, 100% of 15680ns total\n\
                \x20     flat  flat%   sum%        cum   cum%\n\
                \x20  14720ns 93.88% 93.88%    15680ns   100%  <alloc::vec::Vec<T> as Drop>::drop\n\
                \x20        0     0%   100%      960ns  6.12%  main (inline)\n";
    let p = Profile::parse(text).expect("a table");
    assert_eq!((p.total_ns, p.rows.len()), (14720.0, 2));
    assert_eq!(p.function("Drop").map(|r| r.cum_ns), Some(15680.0));
    assert_eq!(p.rows[1].function, "main (inline)");
    assert!(Profile::parse("profile is broken").is_err());
}

#[test]
fn a_timeline_is_checked_and_counted() {
    let check = |events: &str| {
        Timeline::parse(format!(r#"{{"traceEvents":[{events}],"stackFrames":{{"1":{{}}}}}}"#).as_bytes())
    };
    let ok = check(
        r#"{"name":"G1 x","ph":"X","ts":1,"dur":2,"pid":0,"tid":7,"sf":1},{"name":"go","ph":"s","pid":0,"tid":7,"id":5},
           {"name":"go","ph":"t","pid":0,"tid":8,"id":5},{"name":"go","ph":"t","pid":0,"tid":8,"id":6},
           {"name":"thread_name","ph":"M","pid":0,"tid":7,"args":{"name":"Proc 7"}},
           {"name":"Heap","ph":"C","ts":3,"pid":1,"tid":0,"args":{"Allocated":9}}"#,
    )
    .expect("a timeline");
    assert_eq!((ok.slices_with("x"), ok.arrows["go"], ok.has_lane("Proc 7")), (1, 1, true));
    assert_eq!(ok.counters["Heap"][0].values["Allocated"], 9.0);
    assert!(
        check(r#"{"ph":"X","pid":0,"tid":0,"sf":2}"#)
            .expect_err("a frame that is not there")
            .contains("no stack frame 2")
    );
    assert!(check(r#"{"ph":"X","pid":0,"tid":0,"dur":-1}"#).is_err(), "time that runs backwards");
    assert!(Timeline::parse(b"").is_err(), "the tool's answer to what it can't serve");
}

#[test]
fn a_trace_is_cut_at_its_generations() {
    for version in Version::ALL {
        let trace = good::trace(version);
        let split = Split::new(&trace).expect("whole batches");
        assert_eq!(split.generations.len(), good::GENERATIONS);
        let bytes: usize = split.generations.iter().map(|g| g.len()).sum();
        assert_eq!(bytes + 16, trace.len(), "nothing is left out");
        assert!(Split::new(&trace[..trace.len() - 2]).is_err(), "a batch is cut");
    }
    assert!(Split::new(b"go 1.26 trace\0\0\0\x34").is_err(), "the end of nothing");
}

/// A judge that dies, babbles or falls silent is a verdict on the trace that it had, and not the end of the test run.
#[test]
fn a_judge_that_fails_is_a_verdict() {
    let items = [Item::file(Path::new("a")), Item::file(Path::new("b"))];
    let check = |program: &str, words: &str| {
        let verdicts = judge_by(Path::new(program), Duration::from_millis(200), &items, Depth::Order, false);
        for v in &verdicts {
            assert!(!v.accepted() && v.panic && v.error.contains(words), "{program}: {v:?}");
        }
        assert_eq!(verdicts.len(), items.len());
    };
    check("/bin/false", "the judge died");
    // It hands the request back, which is no verdict.
    check("/bin/cat", "no verdict: ");
    // It answers something else, for ever.
    check("/usr/bin/yes", "no verdict: ");
}
