//! Text traces of our own with one bug each, and valid ones at the edges of the format: the verdict, the kind of the error,
//! what it says and where. Where a Go 1.27 is at hand it must judge alike and print the same.
//!
//! A golden tells its story on top. Its expectation is `SUCCESS`, or `FAILURE Kind: part of the text`, or `SILENT Kind: ...`
//! for the damage that Go takes for the end of the file.
#![cfg(feature = "cli")]

mod read_support;

use exectrace::read::{Error, ErrorKind, Private, Reader};
use read_support::go::{self, Verdict};
use read_support::{data_file, exectrace, first_difference, read, read_threaded, scratch, text};

fn goldens() -> Vec<(String, text::TestFile)> {
    let mut all: Vec<(String, text::TestFile)> = std::fs::read_dir(data_file(""))
        .expect("data")
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "test"))
        .map(|e| {
            let text = std::fs::read_to_string(e.path()).expect("a text");
            (e.path().file_stem().unwrap_or_default().to_string_lossy().into_owned(), text::parse_test(&text))
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(all.len() >= 50, "{} goldens", all.len());
    all
}

#[test]
fn each_bug_is_told_for_what_it_is() {
    for (name, test) in goldens() {
        let (events, error) = read(&test.wire);
        let (threaded, again) = read_threaded(&test.wire);
        assert_eq!(events, threaded, "{name}");
        assert_eq!(error.as_ref().map(ToString::to_string), again.map(|e| e.to_string()), "{name}");
        match (test.expect.split_once(' '), error) {
            (None, None) => assert_eq!(test.expect, "SUCCESS", "{name}"),
            (Some((how, expected)), Some(error)) => {
                let (kind, words) = expected.split_once(": ").expect("Kind: words");
                assert_eq!(format!("{:?}", error.kind()), kind, "{name}: {error}");
                assert!(error.detail().contains(words), "{name}: {error}: expected {words}");
                assert_eq!(error.go_is_silent(), how == "SILENT", "{name}: {error}");
                assert!(error.offset().is_some_and(|o| o >= 16 && o <= test.wire.len() as u64), "{name}: {error}");
                assert!(error.generation().is_some() || error.kind() == ErrorKind::Batch, "{name}: {error}");
            }
            (_, error) => panic!("{name}: expected {}, found {error:?}", test.expect),
        }
    }
}

#[test]
fn go_judges_alike() {
    let Some(go) = go::model() else { return };
    let dir = scratch("goldens");
    for (name, test) in goldens() {
        let file = dir.join(format!("{name}.trace"));
        std::fs::write(&file, &test.wire).expect("write");
        let (want, verdict) = go.parse(&file);
        match verdict {
            Verdict::Accepts => assert!(!test.expect.starts_with("FAILURE"), "{name}: Go accepts it"),
            Verdict::Rejects(words) => assert!(test.expect.starts_with("FAILURE"), "{name}: Go says {words}"),
            Verdict::Panics(words) => panic!("{name}: Go panics: {words}"),
        }
        for (ours, theirs, mode) in [("go", want, "parsed"), ("wire", go.trace("wire", &file).stdout, "wire")] {
            let ours = exectrace(&["print", "--format", ours], &file).stdout;
            assert!(ours == theirs, "{name}, {mode}: {}", first_difference(&ours, &theirs));
        }
    }
}

/// A whole generation in front of a broken one is delivered, and the error says up to where the trace is whole.
#[test]
fn whole_generations_come_before_an_error() {
    let (_, test) = goldens().into_iter().find(|g| g.0 == "state-status-disagrees").expect("the golden");
    let second = test.wire.windows(4).position(|w| w == [1, 2, 1, 10]).expect("the second generation") as u64;
    let (events, error) = read(&test.wire);
    let error = error.expect("an error");
    assert_eq!((error.generation(), error.thread().map(|t| t.0)), (Some(2), Some(1)), "{error}");
    assert_eq!(error.whole_bytes(), second, "{error}");
    // Both `Sync`s, the first generation's two events, and the one event of the second that fits.
    assert_eq!(events.len(), 5);
}

#[test]
fn private_sections_are_given_with_their_generation() {
    let (_, test) = goldens().into_iter().find(|g| g.0 == "ok-private").expect("the golden");
    let mut reader = Reader::new(&test.wire[..]).expect("a header");
    let block = reader.next_block().expect("no error").expect("a block");
    let sections: Result<Vec<_>, Error> = block.generation().sections().collect();
    let sections = sections.expect("sections");
    assert_eq!(sections.len(), 1);
    assert_eq!(sections[0].content, Private::Meta(vec![("writer", "exectrace")]));
    assert_eq!(block.generation().experimental_batches().len(), 1);
}
