//! The web UI of `go tool trace`: started on a trace, every kind of page fetched, and what is wrong with them.

use super::go::Toolchain;
use super::timeline::Timeline;
use super::{http, page, process};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, mpsc};

/// How many pages of one kind (same path, same parameter names) are fetched: ten thousand goroutines have ten thousand pages.
const MOST_OF_A_KIND: usize = 10;
/// The same for timelines, each of which takes a walk over the whole trace.
const MOST_TIMELINES_OF_A_KIND: usize = 4;
/// How many profiles are fetched as a drawing.
const MOST_GRAPHS: usize = 4;
/// How many processors a trace may have for the MMU page's per-goroutine view. The tool's time for it grows with the square
/// of that number: 23 s with some hundreds.
const MOST_PROCS_PER_GOROUTINE: u64 = 32;

/// How many bytes of JSON are read besides the two main timelines' first parts; of the rest only the end is looked at. A test
/// without optimization reads some 10 MB of it a second.
const JSON_BUDGET: usize = 16 << 20;

/// The parameters of the MMU page's boxes: its default choice, each box alone, and all of them in both views.
const MMU_FLAGS: [&str; 7] = [
    "system|stw|background|assist",
    "system|stw",
    "system|background",
    "system|assist",
    "system|sweep",
    "system|stw|background|assist|sweep|mut",
    "perProc|stw|background|assist|sweep",
];

/// A running server. It ends when this is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

/// What a crawl of all pages found.
#[derive(Default)]
pub struct Crawl {
    /// Each page fetched, with its size in bytes.
    pub pages: BTreeMap<String, usize>,
    /// Pages that were left out, and why, with how many.
    pub left_out: BTreeMap<String, usize>,
    /// The timeline by processor.
    pub by_proc: Timeline,
    /// The timeline by thread.
    pub by_thread: Timeline,
    /// The MMU page's curve for its default choice: window in nanoseconds, utilization.
    pub mmu: Vec<(f64, f64)>,
    /// What was wrong.
    pub complaints: Vec<String>,
    json_read: usize,
}

impl Crawl {
    /// A crawl that came to nothing.
    pub fn failed(complaint: String) -> Crawl {
        Crawl { complaints: vec![complaint], ..Crawl::default() }
    }
}

impl Server {
    /// Starts the tool on a trace and waits until it listens.
    ///
    /// # Errors
    /// In the tool's words, if it ends instead.
    pub fn start(go: &Toolchain, trace: &Path) -> Result<Server, String> {
        let mut child = go
            .tool_command("trace")
            .arg("-http=127.0.0.1:0")
            .arg(trace)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("can't be started: {e}"))?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let (tell, told) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listening on http://") {
                    let _ = tell.send(address.trim().parse::<SocketAddr>());
                }
                kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
            }
            // The end of stderr is the end of the tool; the receiver sees that nobody will tell it anything.
        });
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        match told.recv_timeout(process::LIMIT) {
            Ok(Ok(address)) => server.address = address,
            _ => return Err(format!("does not listen: {}", server.log_text())),
        }
        Ok(server)
    }

    /// Fetches a page.
    ///
    /// # Errors
    /// In words, if there is no answer, or not a whole one.
    pub fn get(&self, target: &str) -> Result<http::Response, String> {
        http::get(self.address, target, process::LIMIT)
    }

    /// All that the server has said.
    pub fn log_text(&self) -> String {
        self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).join("\n")
    }

    /// Fetches the pages, beginning at `/`, and follows their links. `procs` is how many processors the trace has.
    pub fn crawl(&self, procs: u64) -> Crawl {
        let mut crawl = Crawl::default();
        let mut seen = BTreeSet::new();
        let mut of_a_kind: BTreeMap<String, usize> = BTreeMap::new();
        let mut queue: VecDeque<String> =
            ["/", "/static/trace_viewer_full.html", "/static/webcomponents.min.js", "/mmu", "/usertask?logtext=x"]
                .map(str::to_owned)
                .into();
        queue.push_back("/mmu?mode=details&window=1000000&flags=system%7Cstw%7Cbackground%7Cassist".to_owned());
        queue.extend(MMU_FLAGS.map(|flags| format!("/mmu?mode=plot&flags={}", flags.replace('|', "%7C"))));
        // The tool has graphviz draw them, which takes long and shows nothing that the raw profile doesn't: a few will do.
        let mut graphs = if can_draw_graphs() { MOST_GRAPHS } else { 0 };
        while let Some(target) = queue.pop_front() {
            if !seen.insert(target.clone()) {
                continue;
            }
            if is_graph(&target) && graphs == 0 {
                queue.push_back(format!("{target}{}raw=1", if target.contains('?') { '&' } else { '?' }));
                *crawl.left_out.entry("graph".into()).or_default() += 1;
                continue;
            }
            graphs -= usize::from(is_graph(&target));
            let count = of_a_kind.entry(kind(&target)).or_default();
            *count += 1;
            let timeline = target.starts_with("/jsontrace") && !target.contains("view=");
            let slow = target.contains("flags=perProc") && procs > MOST_PROCS_PER_GOROUTINE;
            if slow || *count > if timeline { MOST_TIMELINES_OF_A_KIND } else { MOST_OF_A_KIND } {
                *crawl.left_out.entry(format!("more of {}", kind(&target))).or_default() += 1;
                continue;
            }
            match self.page(&target, &mut crawl) {
                Ok(links) => queue.extend(links),
                Err(e) => crawl.complaints.push(format!("{target}: {e}")),
            }
        }
        let said = self.log_text();
        let bad = |l: &&str| ["panic", "rror", "ailed", "Lost "].iter().any(|w| l.contains(w));
        crawl.complaints.extend(said.lines().filter(bad).map(|l| format!("the server says: {l}")));
        crawl
    }

    fn page(&self, target: &str, crawl: &mut Crawl) -> Result<Vec<String>, String> {
        let response = self.get(target)?;
        crawl.pages.insert(target.to_owned(), response.body.len());
        if response.status != 200 {
            return Err(format!("status {}: {:.300}", response.status, response.text()));
        }
        let path = target.split('?').next().unwrap_or_default();
        match path {
            "/jsontrace" => {
                let view = ["view=proc", "view=thread"].into_iter().find(|v| target.contains(v));
                let first = view.is_some_and(|v| {
                    !crawl.pages.keys().any(|p| p != target && p.starts_with("/json") && p.contains(v))
                });
                if !first && crawl.json_read + response.body.len() > JSON_BUDGET {
                    *crawl.left_out.entry("JSON fetched and not read".into()).or_default() += 1;
                    // The tool answers with nothing at all where it fails.
                    return response
                        .body
                        .trim_ascii_end()
                        .ends_with(b"}")
                        .then(Vec::new)
                        .ok_or("the timeline breaks off".into());
                }
                let timeline = Timeline::parse(&response.body)?;
                match view {
                    Some("view=proc") => crawl.by_proc.merge(timeline),
                    Some(_) => crawl.by_thread.merge(timeline),
                    None => crawl.json_read += response.body.len(),
                }
                Ok(Vec::new())
            }
            "/mmu" if target.contains("mode=plot") => {
                let curve = mmu_curve(&response.body)?;
                if target.contains(&MMU_FLAGS[0].replace('|', "%7C")) {
                    crawl.mmu = curve;
                }
                Ok(Vec::new())
            }
            "/mmu" if target.contains("mode=") => {
                serde_json::from_slice::<serde::de::IgnoredAny>(&response.body).map_err(|e| e.to_string())?;
                Ok(Vec::new())
            }
            // The page that draws, and the data that it fetches.
            "/trace" => Ok(vec![target.replacen("/trace", "/jsontrace", 1)]),
            _ if path.starts_with("/static/") || target.contains("raw=1") || is_graph(target) => {
                (!response.body.is_empty()).then(Vec::new).ok_or("nothing".into())
            }
            _ => {
                let html = response.text();
                // A template that fails half-way leaves a page without an end. Two of the tool's pages end with their table.
                if !["</html>", "</table>"].iter().any(|end| html.trim_end().ends_with(end)) {
                    let tail: Vec<_> = html.lines().rev().take(3).collect();
                    return Err(format!("the page breaks off: {tail:?}"));
                }
                Ok(page::links(&html))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Timeline {
    /// Adds the next part of a timeline that the tool has split.
    fn merge(&mut self, other: Timeline) {
        self.lanes.extend(other.lanes);
        for (mine, theirs) in
            [(&mut self.slices, other.slices), (&mut self.instants, other.instants), (&mut self.arrows, other.arrows)]
        {
            for (name, n) in theirs {
                *mine.entry(name).or_default() += n;
            }
        }
        for (name, points) in other.counters {
            self.counters.entry(name).or_default().extend(points);
        }
    }
}

fn mmu_curve(json: &[u8]) -> Result<Vec<(f64, f64)>, String> {
    #[derive(serde::Deserialize)]
    struct Plot {
        curve: Vec<Vec<f64>>,
    }
    let plot: Plot = serde_json::from_slice(json).map_err(|e| format!("not a plot: {e}"))?;
    let points: Option<Vec<_>> = plot.curve.iter().map(|p| Some((*p.first()?, *p.get(1)?))).collect();
    let points = points.ok_or("a point without a value")?;
    match points.iter().find(|p| !(0.0..=1.0 + 1e-9).contains(&p.1)) {
        Some(p) => Err(format!("utilization {} in windows of {} ns", p.1, p.0)),
        None => Ok(points),
    }
}

/// Whether the page is a picture that the tool has graphviz draw.
fn is_graph(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let profile = path.trim_start_matches('/').trim_start_matches("region");
    ["io", "block", "syscall", "sched"].contains(&profile) && !target.contains("raw=1")
}

fn can_draw_graphs() -> bool {
    std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join("dot").is_file()))
}

/// The path and the names of the parameters.
fn kind(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let names: Vec<_> = query.split('&').filter_map(|p| p.split('=').next()).collect();
    format!("{path} {}", names.join(" "))
}
