//! placeholder
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub func: Box<str>,
    pub file: Box<str>,
    pub line: u32,
}
#[derive(Debug, Default)]
pub(crate) struct Symbolizer {
    cache: std::collections::HashMap<usize, Vec<Frame>>,
}
impl Symbolizer {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn frames(&mut self, pc: usize) -> &[Frame] {
        self.cache.entry(pc).or_insert_with(|| {
            let mut v = vec![];
            backtrace::resolve((pc - 1) as *mut _, |s| {
                v.push(Frame {
                    func: s.name().map_or("?".into(), |n| format!("{n:#}").into()),
                    file: s.filename().map_or("".into(), |f| f.display().to_string().into()),
                    line: s.lineno().unwrap_or(0),
                })
            });
            v
        })
    }
    pub(crate) fn clear(&mut self) {
        self.cache.clear();
        backtrace::clear_symbol_cache();
    }
}
pub(crate) fn trim_internal(f: &[Frame]) -> &[Frame] {
    let n = f.iter().take_while(|f| f.func.starts_with("exectrace::")).count();
    &f[n..]
}
pub(crate) fn classify_block(_: &[Frame]) -> &'static str {
    "sync"
}
