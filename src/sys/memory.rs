//! What the system says of the process's memory: resident sets, page faults, the control group, and stalls for want of memory.
//!
//! For the tracer's own thread: it reads small files and may allocate. Each function says what it costs; what the system does not tell
//! is `None` or left out. The parsers take text, so that tests need no particular system.

use std::path::PathBuf;

/// Sizes from `/proc/self/status`, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) anonymous: u64,
    pub(crate) files: u64,
    pub(crate) shared: u64,
    pub(crate) swapped: u64,
}

impl Resident {
    /// Some 20 µs.
    pub(crate) fn read() -> Option<Resident> {
        parse_status(&std::fs::read_to_string("/proc/self/status").ok()?)
    }
}

fn parse_status(text: &str) -> Option<Resident> {
    let mut r = Resident::default();
    let mut found = false;
    for line in text.lines() {
        let to = match line.split(':').next()? {
            "RssAnon" => &mut r.anonymous,
            "RssFile" => &mut r.files,
            "RssShmem" => &mut r.shared,
            "VmSwap" => &mut r.swapped,
            _ => continue,
        };
        *to = kilobytes(line)?;
        found = true;
    }
    found.then_some(r)
}

/// The number of a line such as `RssAnon:  1234 kB`, in bytes.
fn kilobytes(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|k| k << 10)
}

/// Resident bytes by what they are mapped from, from `/proc/self/smaps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mappings {
    /// Anonymous memory that is none of the following.
    pub(crate) anonymous: u64,
    /// Pages of files, also those that were written to and so are the process's own.
    pub(crate) files: u64,
    /// Stacks of threads.
    pub(crate) stacks: u64,
    /// The C library's first heap.
    pub(crate) brk: u64,
    /// Shared memory.
    pub(crate) shared: u64,
    /// All of it, with each page divided by the number of processes that share it.
    pub(crate) proportional: u64,
    /// Given back to the system, which has not taken it yet.
    pub(crate) lazily_free: u64,
    /// In huge pages.
    pub(crate) huge: u64,
    /// How many mappings there are.
    pub(crate) count: u64,
}

impl Mappings {
    /// `stacks` are the bounds of threads' stacks. The kernel walks all of the process's page tables: some milliseconds for a GiB.
    pub(crate) fn read(stacks: &[(u64, u64)]) -> Option<Mappings> {
        parse_smaps(&std::fs::read_to_string("/proc/self/smaps").ok()?, stacks)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MappedFrom {
    Anonymous,
    File,
    Stack,
    Brk,
    Shared,
}

fn parse_smaps(text: &str, stacks: &[(u64, u64)]) -> Option<Mappings> {
    let mut m = Mappings::default();
    let mut from = MappedFrom::Anonymous;
    for line in text.lines() {
        let first = line.split_ascii_whitespace().next()?;
        if !first.ends_with(':') {
            from = mapped_from(line, stacks)?;
            m.count += 1;
            continue;
        }
        let to = match first {
            "Rss:" => match from {
                MappedFrom::Anonymous => &mut m.anonymous,
                MappedFrom::File => &mut m.files,
                MappedFrom::Stack => &mut m.stacks,
                MappedFrom::Brk => &mut m.brk,
                MappedFrom::Shared => &mut m.shared,
            },
            "Pss:" => &mut m.proportional,
            "LazyFree:" => &mut m.lazily_free,
            "AnonHugePages:" => &mut m.huge,
            _ => continue,
        };
        *to += kilobytes(line)?;
    }
    (m.count > 0).then_some(m)
}

/// A mapping's first line: `start-end access offset device inode [path]`.
fn mapped_from(line: &str, stacks: &[(u64, u64)]) -> Option<MappedFrom> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    Some(match fields.nth(4) {
        Some("[heap]") => MappedFrom::Brk,
        Some(path) if path.starts_with("[stack") => MappedFrom::Stack,
        Some(path) if path.starts_with("/dev/shm/") || path.starts_with("/memfd:") || path.starts_with("/SYSV") => {
            MappedFrom::Shared
        }
        Some("/dev/zero") => MappedFrom::Shared,
        Some(path) if path.starts_with('/') => MappedFrom::File,
        _ if stacks.iter().any(|&(low, high)| low < end && start < high) => MappedFrom::Stack,
        _ => MappedFrom::Anonymous,
    })
}

/// Page faults so far: those that needed no reading, and those that did. Under a microsecond.
pub(crate) fn faults() -> (u64, u64) {
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: `usage` may be written to.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) } != 0 {
        return (0, 0);
    }
    (usage.ru_minflt.max(0) as u64, usage.ru_majflt.max(0) as u64)
}

/// A control group's directory, of version 2 or 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    directory: PathBuf,
    is_v2: bool,
}

/// Limits are there only if they are set.
const NO_LIMIT: u64 = 1 << 60;

impl Group {
    /// The process's own, if the system has one that counts memory.
    pub(crate) fn own() -> Option<Group> {
        Group::find(&std::fs::read_to_string("/proc/self/cgroup").ok()?, "/sys/fs/cgroup")
    }

    /// `own` is the text of `/proc/self/cgroup`, `root` where groups are mounted.
    fn find(own: &str, root: &str) -> Option<Group> {
        let groups = own.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let is_v2 = controllers.is_empty();
            if !is_v2 && !controllers.split(',').any(|c| c == "memory") {
                return None;
            }
            let (root, file) = if is_v2 {
                (root.to_owned(), "memory.current")
            } else {
                (format!("{root}/memory"), "memory.usage_in_bytes")
            };
            // Inside a container the path is often one of the host's: then the group is mounted as the root.
            let directories = [format!("{root}{path}"), root];
            directories.into_iter().map(PathBuf::from).find(|d| d.join(file).exists()).map(|d| (is_v2, d))
        });
        // That of version 2 has everything, where it counts memory.
        groups.max_by_key(|(is_v2, _)| *is_v2).map(|(is_v2, directory)| Group { directory, is_v2 })
    }

    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join(file)).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// Tells of the group's size and limits, by the names of version 2. A few microseconds each.
    pub(crate) fn sizes(&self, mut each: impl FnMut(&'static str, u64)) {
        let files = if self.is_v2 {
            [
                ("current", "memory.current"),
                ("high", "memory.high"),
                ("max", "memory.max"),
                ("swap_current", "memory.swap.current"),
            ]
        } else {
            [
                ("current", "memory.usage_in_bytes"),
                ("high", "memory.soft_limit_in_bytes"),
                ("max", "memory.limit_in_bytes"),
                ("swap_current", ""),
            ]
        };
        for (name, file) in files.into_iter().filter(|(_, file)| !file.is_empty()) {
            if let Some(bytes) = self.number(file).filter(|&bytes| bytes < NO_LIMIT) {
                each(name, bytes);
            }
        }
    }

    /// How often the group met its limits: `high`, `max`, `oom`, `oom_kill`. A few microseconds.
    pub(crate) fn events(&self, mut each: impl FnMut(&'static str, u64)) {
        if !self.is_v2 {
            if let Some(n) = self.number("memory.failcnt") {
                each("max", n);
            }
            return;
        }
        let text = self.text("memory.events").unwrap_or_default();
        for_keys(&text, &["high", "max", "oom", "oom_kill"].map(|k| (k, k)), each);
    }

    /// What the group's memory is. The kernel adds up its counters for that: up to a millisecond on large machines.
    pub(crate) fn stat(&self, each: impl FnMut(&'static str, u64)) {
        const V2: [(&str, &str); 7] = [
            ("anon", "anon"),
            ("file", "file"),
            ("kernel", "kernel"),
            ("slab", "slab"),
            ("sock", "sock"),
            ("shmem", "shmem"),
            ("file_dirty", "file_dirty"),
        ];
        const V1: [(&str, &str); 4] =
            [("total_rss", "anon"), ("total_cache", "file"), ("total_shmem", "shmem"), ("total_dirty", "file_dirty")];
        let text = self.text("memory.stat").unwrap_or_default();
        for_keys(&text, if self.is_v2 { &V2[..] } else { &V1[..] }, each);
    }

    /// For how long some and all of the group's tasks have waited for memory, in microseconds; without a group's own figure the whole
    /// system's. A few microseconds.
    pub(crate) fn pressure(group: Option<&Group>) -> Option<(u64, u64)> {
        let own = group.filter(|g| g.is_v2).and_then(|g| g.text("memory.pressure"));
        parse_pressure(&own.or_else(|| std::fs::read_to_string("/proc/pressure/memory").ok())?)
    }
}

/// Tells of the lines `key number` whose keys are wanted, by the names they are wanted under.
fn for_keys(text: &str, wanted: &[(&str, &'static str)], mut each: impl FnMut(&'static str, u64)) {
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let name = wanted.iter().find(|(k, _)| *k == key).map(|(_, name)| *name);
        if let (Some(name), Ok(value)) = (name, value.trim().parse()) {
            each(name, value);
        }
    }
}

fn parse_pressure(text: &str) -> Option<(u64, u64)> {
    let total = |who: &str| {
        let line = text.lines().find(|l| l.split(' ').next() == Some(who))?;
        line.rsplit_once("total=")?.1.trim().parse().ok()
    };
    Some((total("some")?, total("full").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_told_apart() {
        let text = "\
55d0c0000000-55d0c0021000 r-xp 00000000 fe:00 1234                       /usr/bin/app\n\
Rss:                 132 kB\nPss:                  40 kB\nLazyFree:              0 kB\n\
55d0c1000000-55d0c1021000 rw-p 00000000 00:00 0                          [heap]\n\
Rss:                  64 kB\nPss:                  64 kB\n\
7f0000000000-7f0000800000 rw-p 00000000 00:00 0 \n\
Rss:                  20 kB\nPss:                  20 kB\n\
7f0001000000-7f0005000000 rw-p 00000000 00:00 0 \n\
Rss:               40000 kB\nPss:               40000 kB\nLazyFree:            100 kB\nAnonHugePages:      2048 kB\n\
7f0006000000-7f0006001000 rw-s 00000000 00:01 7                          /dev/shm/x (deleted)\n\
Rss:                   4 kB\nPss:                   2 kB\n\
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n\
Rss:                  24 kB\nPss:                  24 kB\nVmFlags: rd wr\n";
        let m = parse_smaps(text, &[(0x7f00_0000_1000, 0x7f00_0080_0000)]).expect("mappings");
        let kib = |n: u64| n << 10;
        assert_eq!((m.anonymous, m.files, m.stacks), (kib(40_000), kib(132), kib(44)));
        assert_eq!((m.brk, m.shared, m.proportional), (kib(64), kib(4), kib(40_150)));
        assert_eq!((m.lazily_free, m.huge, m.count), (kib(100), kib(2048), 6));
        assert_eq!(parse_smaps("", &[]), None);
        assert_eq!(parse_smaps("nonsense", &[]), None);
    }

    #[test]
    fn groups_of_both_versions() {
        let root = std::env::temp_dir().join(format!("exectrace-group-{}", std::process::id()));
        let at = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        };
        at("memory/a/b/memory.usage_in_bytes", "1000\n");
        at("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        at("memory/a/b/memory.failcnt", "3\n");
        at("memory/a/b/memory.stat", "cache 1\ntotal_cache 5\ntotal_rss 7\n");
        let root_text = root.to_str().expect("a path");
        let seen = |g: &Group| {
            let mut all = Vec::new();
            g.sizes(|k, v| all.push((k, v)));
            g.events(|k, v| all.push((k, v)));
            g.stat(|k, v| all.push((k, v)));
            all
        };
        let v1 = Group::find("8:pids:/\n4:cpu,memory:/a/b\n0::/", root_text).expect("version 1");
        assert_eq!(seen(&v1), [("current", 1000), ("max", 3), ("file", 5), ("anon", 7)]);
        at("c/memory.current", "2000\n");
        at("c/memory.high", "max\n");
        at("c/memory.max", "4096\n");
        at("c/memory.events", "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\n");
        at("c/memory.stat", "anon 10\nfile 20\nanon_thp 5\n");
        at("c/memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 total=9\n");
        let v2 = Group::find("4:memory:/a/b\n0::/c", root_text).expect("version 2");
        let expected = [("current", 2000), ("max", 4096), ("high", 2), ("max", 3), ("oom", 4), ("oom_kill", 5)];
        assert_eq!(seen(&v2), [&expected[..], &[("anon", 10), ("file", 20)]].concat());
        assert_eq!(Group::pressure(Some(&v2)), Some((12, 9)));
        assert_eq!(Group::find("0::/nowhere", root_text), None);
        std::fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    #[cfg(all(target_os = "linux", not(miri)))]
    fn this_process_is_somewhere() {
        let (r, m) = (Resident::read().expect("status"), Mappings::read(&[]).expect("smaps"));
        let (of_status, of_smaps) = (r.anonymous + r.files, m.anonymous + m.files + m.stacks + m.brk);
        assert!(of_smaps > of_status / 2 && of_status > of_smaps / 2, "{r:?} {m:?}");
        assert!(faults().0 > 0);
    }
}
