//! The memory limit of the process's control group.

/// The limit in bytes that the control group (version 2, else version 1) sets, `None` if it sets none. Reads a few small files.
#[cfg(target_os = "linux")]
pub(crate) fn memory_limit() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().filter_map(limit_of_line).min()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn memory_limit() -> Option<u64> {
    None
}

/// Above this a limit is none: version 1 says "no limit" by a number near the address space's size.
#[cfg(target_os = "linux")]
const NO_LIMIT: u64 = 1 << 60;

/// One line of `/proc/self/cgroup`: `hierarchy:controllers:path`. The limits of the groups above count too.
#[cfg(target_os = "linux")]
fn limit_of_line(line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        c if c.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return None,
    };
    let mut limits = Vec::new();
    let mut path = path.trim_end_matches('/');
    loop {
        let text = std::fs::read_to_string(format!("{root}{path}/{file}")).unwrap_or_default();
        limits.extend(text.trim().parse::<u64>().ok().filter(|&v| v < NO_LIMIT));
        match path.rfind('/') {
            Some(i) => path = &path[..i],
            None => break,
        }
    }
    limits.into_iter().min()
}
