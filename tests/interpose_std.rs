//! What std does is seen.
mod interpose;
use interpose::record;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

exectrace::interpose!();

fn main() {
    let (_, s) = record(|| {
        let p = std::env::temp_dir().join("exectrace-x");
        std::fs::write(&p, b"hello").unwrap();
        std::fs::read(&p).unwrap();
        std::fs::remove_file(&p).unwrap();
    });
    println!("{s:?}");
    let (_, s) = record(|| {
        let l = TcpListener::bind("127.0.0.1:0").unwrap();
        let a = l.local_addr().unwrap();
        let t = std::thread::Builder::new()
            .name("srv".into())
            .spawn(move || {
                let (mut c, _) = l.accept().unwrap();
                let mut b = [0; 4];
                c.read_exact(&mut b).unwrap();
                c.write_all(&b).unwrap();
            })
            .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let mut c = TcpStream::connect(a).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        c.write_all(b"abcd").unwrap();
        let mut b = [0; 4];
        c.read_exact(&mut b).unwrap();
        t.join().unwrap();
    });
    println!("{s:?}");
}
