//! Checks in the XML form that JUnit began and CI systems read: one test suite, a test case for each check.

use exectrace::analyze::limits::Check;
use std::fmt::Write;

/// The file.
pub fn xml(trace: &str, checks: &[Check]) -> String {
    let failures = checks.iter().filter(|c| !c.held).count();
    let mut s = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        s,
        "<testsuite name=\"exectrace check {}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\">",
        escape(trace),
        checks.len()
    );
    for c in checks {
        let _ = write!(s, "  <testcase classname=\"exectrace\" name=\"{}\"", escape(&c.name));
        if c.held {
            s.push_str("/>\n");
        } else {
            let _ = writeln!(s, ">\n    <failure message=\"{}\"/>\n  </testcase>", escape(&c.to_string()));
        }
    }
    s.push_str("</testsuite>\n");
    s
}

/// The file for a trace of which nothing could be checked, and why.
pub fn broken(trace: &str, why: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"exectrace check {}\" tests=\"1\" failures=\"0\" errors=\"1\">\n\
         \x20 <testcase classname=\"exectrace\" name=\"trace\">\n\
         \x20   <error message=\"{}\"/>\n\
         \x20 </testcase>\n\
         </testsuite>\n",
        escape(trace),
        escape(why)
    )
}

/// A text as it may stand in an attribute. Characters that XML cannot hold become U+FFFD.
fn escape(text: &str) -> String {
    let mut s = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => s.push_str("&amp;"),
            '<' => s.push_str("&lt;"),
            '>' => s.push_str("&gt;"),
            '"' => s.push_str("&quot;"),
            '\t' | '\n' | '\r' => s.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => s.push('\u{fffd}'),
            c => s.push(c),
        }
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use exectrace::analyze::Summary;
    use exectrace::analyze::limits::{Direction, Limit};

    #[test]
    fn one_case_for_each_check() {
        let check = |t| Limit::parse(t, Direction::Max).expect("a limit").check(&Summary::default());
        let checks = [check("lost=0"), check("task.<a&b>.p99=1us")];
        assert_eq!(
            xml("a \"b\"\u{1}.trace", &checks),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuite name=\"exectrace check a &quot;b&quot;\u{fffd}.trace\" tests=\"2\" failures=\"1\" errors=\"0\">\n\
             \x20 <testcase classname=\"exectrace\" name=\"lost\"/>\n\
             \x20 <testcase classname=\"exectrace\" name=\"task.&lt;a&amp;b&gt;.p99\">\n\
             \x20   <failure message=\"task.&lt;a&amp;b&gt;.p99 is not told by the trace, at most 1.00 us\"/>\n\
             \x20 </testcase>\n\
             </testsuite>\n"
        );
    }
}
