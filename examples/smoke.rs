#[global_allocator]
static A: exectrace::Alloc = exectrace::Alloc::new();
exectrace::interpose!();
fn main() {
    let secs: f64 = std::env::args().nth(1).unwrap_or("0.5".into()).parse().unwrap();
    let ms: u64 = std::env::args().nth(2).unwrap_or("100000".into()).parse().unwrap();
    let workers: usize = std::env::args().nth(3).unwrap_or("4".into()).parse().unwrap();
    let path = std::env::args().nth(4).unwrap_or("/tmp/smoke.trace".into());
    let v: u32 = std::env::args().nth(5).unwrap_or("23".into()).parse().unwrap();
    exectrace::Tracer::new()
        .version(exectrace::format::Version::from_minor(v).unwrap())
        .generation_period(std::time::Duration::from_micros(ms))
        .start(std::fs::File::create(&path).unwrap())
        .unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs_f64(secs);
    let gc = exectrace::hooks::gc::GcHeap::new();
    gc.set_goal(10 << 20);
    let m = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|s| {
        let gc = &gc;
        let m = &m;
        for w in 0..workers {
            s.spawn(move || {
                let mut n = 0u64;
                while std::time::Instant::now() < end {
                    n += 1;
                    let t = exectrace::Task::new("job");
                    let r = t.region("work");
                    let inner = exectrace::with_region("inner", || {
                        exectrace::log!("cat", "n={}", n % 100);
                        vec![0u8; 100_000]
                    });
                    drop(t);

                    m.lock().unwrap().push(n);
                    {
                        let mut g = m.lock().unwrap();
                        if g.len() > 10 {
                            g.clear();
                            std::thread::yield_now();
                        }
                    }
                    std::fs::read("/proc/self/stat").unwrap();
                    if n % 7 == 0 {
                        std::thread::spawn(move || {
                            exectrace::log("child", "hello");
                        })
                        .join()
                        .unwrap();
                    }
                    if w == 0 && n % 5 == 0 {
                        gc.cycle_begin();
                        gc.stw_begin(exectrace::hooks::gc::Stw::SweepTermination);
                        gc.stw_end();
                        gc.assist_begin();
                        gc.assist_end();
                        gc.stw_begin(exectrace::hooks::gc::Stw::MarkTermination);
                        gc.stw_end();
                        gc.cycle_end();
                        gc.sweep_begin();
                        gc.set_live(5 << 20);
                        gc.sweep_end(1000, 500);
                    }
                    drop(r);
                    drop(inner);
                }
            });
        }
    });
    println!("{:?}", exectrace::heap::stats());
    println!("{:?}", exectrace::stop());
    println!("{:?}", exectrace::heap::stats());
}
