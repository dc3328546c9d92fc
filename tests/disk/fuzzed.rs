//! The functions of `untrusted`, over the corpus of `fuzz/` and over inputs drawn from it.

use std::fs;
use std::path::Path;

use super::untrusted;

/// Shows the input, should it be the last.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: b\"{}\"", self.0.escape_ascii());
        }
    }
}

/// What `fuzz/` has kept: valid samples, and what once led somewhere.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .collect()
}

fn drawn(rng: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let sample = &corpus[rng.usize(..corpus.len())];
    let mut data = sample.clone();
    if rng.u8(..8) == 0 {
        // The first byte says what the rest is.
        data.truncate(1);
        data.extend((0..rng.usize(..256)).map(|_| rng.u8(..)));
        return data;
    }
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=data.len());
        let end = rng.usize(at..=data.len().min(at + 16));
        match rng.u8(..6) {
            0 => data.insert(at, rng.u8(..)),
            1 => drop(data.drain(at..end)),
            2 => data.truncate(at),
            3 => data[at..end]
                .iter_mut()
                .for_each(|byte| *byte ^= 1 << rng.u8(..8)),
            4 => drop(data.splice(
                at..end,
                sample[sample.len().min(at)..].iter().copied().take(16),
            )),
            _ => {
                let other = &corpus[rng.usize(..corpus.len())];
                let from = rng.usize(..=other.len());
                drop(data.splice(at..at, other[from..].iter().copied().take(64)));
            }
        }
    }
    data
}

/// The kept inputs and that number of others. Too few of either kind would prove nothing.
fn survives(target: &str, rounds: usize, run: fn(&[u8]) -> bool) {
    let run = |data: &[u8]| {
        let _shown = Shown(data);
        run(data)
    };
    let mut corpus = corpus(target);
    let kept = corpus.iter().filter(|data| run(data)).count();
    assert!(
        kept > 2,
        "{target}: only {kept} of the kept inputs are of use"
    );
    // Long messages take long.
    corpus.retain(|data| !data.starts_with(b"!"));
    let mut rng = fastrand::Rng::with_seed(11);
    let of_use = (0..rounds)
        .filter(|_| run(&drawn(&mut rng, &corpus)))
        .count();
    assert!(
        (rounds / 10..rounds * 9 / 10).contains(&of_use),
        "{target}: {of_use} of {rounds} were of use"
    );
}

/// No frame breaks the daemon, and no message breaks the protocol.
#[test]
fn frames() {
    survives("frames", 3000, untrusted::frames);
}

/// No settings and no template break the daemon, and no error shows the token.
#[test]
fn settings() {
    survives("settings", 5000, untrusted::settings);
}

/// No file of the state folder breaks the daemon or is lost, and a stored run is found again.
#[test]
fn state() {
    survives("state", 3000, untrusted::state);
}
