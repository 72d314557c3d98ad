//! Splitting a 32-byte key and putting it together again, against vsss-rs (Gf256) on the same key, turn about.
//! Ours also puts the key into a locked page. vsss-rs asks its generator for every coefficient by itself, which
//! with the kernel's is a system call each: it is measured with a generator that asks for many at once, too.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

use orama_keyshare::{CombineError, KeyError, Share, SplitError, Threshold, ThresholdError, VolumeKey};
use orama_keyshare::{combine, split};
use rand_core::{TryCryptoRng, TryRng, UnwrapErr};
use vsss_rs::Gf256;

use crate::bench::samples::{aim, line, median};

/// K, N and how many times faster than vsss-rs issue 4 wants both halves.
const SIZES: [(u8, u8, Option<f64>); 3] = [(3, 5, Some(1.0)), (84, 250, None), (128, 255, Some(10.0))];
/// Time of one contestant in one round, at least, ns: the clock is read every so often only.
const ROUND_NS: f64 = 200_000.0;

#[derive(Debug, thiserror::Error)]
pub enum SharingError {
    #[error("choosing a threshold")]
    Threshold(#[from] ThresholdError),
    #[error("making a key")]
    Key(#[from] KeyError),
    #[error("splitting")]
    Split(#[from] SplitError),
    #[error("combining")]
    Combine(#[from] CombineError),
    #[error("vsss-rs: {0}")]
    Vsss(vsss_rs::Error),
    #[error("{0} put together another key")]
    WrongKey(&'static str),
}

/// Gives the aims that were missed.
pub fn run(rounds: u32) -> Result<Vec<String>, SharingError> {
    let mut missed = Vec::new();
    for (k, n, limit) in SIZES {
        println!("{:<58} {:>8} {:>8} {:>8}", format!("{k} of {n}, µs"), "least", "median", "most");
        let [ours, theirs, buffered] = splits(rounds, k, n)?;
        println!("{}", line("split", &ours));
        rival(&mut missed, &format!("split {k} of {n}"), "vsss-rs", limit, &ours, &theirs);
        let name = "vsss-rs with random bytes in stock";
        rival(&mut missed, &format!("split {k} of {n}"), name, limit, &ours, &buffered);
        let [ours, theirs] = combinations(rounds, k, n)?;
        println!("{}", line("combine", &ours));
        rival(&mut missed, &format!("combine {k} of {n}"), "vsss-rs", limit, &ours, &theirs);
        println!();
    }
    Ok(missed)
}

/// Prints the other's times and how they compare; a miss joins the others.
fn rival(missed: &mut Vec<String>, what: &str, name: &str, limit: Option<f64>, ours: &[f64], theirs: &[f64]) {
    println!("{}", line(&format!("  {name}"), theirs));
    let ratios: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
    println!("{}", line("  … to ours, round by round", &ratios));
    if let Some(limit) = limit {
        let ratio = median(&ratios);
        let words = format!("{what} is {ratio:.1} times as fast as {name}, aim at least {limit:.0}");
        aim(missed, words, ratio >= limit);
    }
}

/// What is measured: one call, and what became of it is thrown away.
type Call<'a> = &'a dyn Fn() -> Result<(), SharingError>;

/// Ours, vsss-rs as it comes, vsss-rs with a stock of random bytes.
fn splits(rounds: u32, k: u8, n: u8) -> Result<[Vec<f64>; 3], SharingError> {
    let threshold = Threshold::from_parts(k, n)?;
    let key = VolumeKey::generate()?;
    let ours: Call = &|| {
        black_box(split(black_box(&key), threshold)?);
        Ok(())
    };
    let theirs: Call = &|| {
        black_box(vsss_split(black_box(&key), k, n, UnwrapErr(getrandom::SysRng))?);
        Ok(())
    };
    let stock = RefCell::new(Stock::default());
    let buffered: Call = &|| {
        black_box(vsss_split(black_box(&key), k, n, UnwrapErr(&mut *stock.borrow_mut()))?);
        Ok(())
    };
    turn_about(rounds, [ours, theirs, buffered])
}

fn combinations(rounds: u32, k: u8, n: u8) -> Result<[Vec<f64>; 2], SharingError> {
    let key = VolumeKey::generate()?;
    let ours = split(&key, Threshold::from_parts(k, n)?)?;
    let theirs = vsss_split(&key, k, n, UnwrapErr(getrandom::SysRng))?;
    // The last K: the first has a point that makes products trivial.
    let ours: Vec<&Share> = ours.iter().skip(usize::from(n - k)).collect();
    let theirs = theirs[usize::from(n - k)..].to_vec();
    if !combine(ours.iter().copied(), k)?.matches(&key) {
        return Err(SharingError::WrongKey("combine"));
    }
    if Gf256::combine_bytes(&theirs).map_err(SharingError::Vsss)? != key.expose() {
        return Err(SharingError::WrongKey("vsss-rs"));
    }
    let ours: Call = &|| {
        black_box(combine(black_box(&ours).iter().copied(), k)?);
        Ok(())
    };
    let theirs: Call = &|| {
        black_box(Gf256::combine_bytes(black_box(&theirs)).map_err(SharingError::Vsss)?);
        Ok(())
    };
    turn_about(rounds, [ours, theirs])
}

/// The time of one call in each round, µs.
fn turn_about<const N: usize>(rounds: u32, calls: [Call; N]) -> Result<[Vec<f64>; N], SharingError> {
    let mut counts = [1; N];
    for (count, call) in counts.iter_mut().zip(calls) {
        *count = (ROUND_NS / timed(call, 20)?).ceil().max(1.0) as u32;
    }
    let mut times = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for ((times, call), count) in times.iter_mut().zip(calls).zip(counts) {
            times.push(timed(call, count)? / 1000.0);
        }
    }
    Ok(times)
}

fn vsss_split(
    key: &VolumeKey,
    k: u8,
    n: u8,
    random: impl rand_core::CryptoRng,
) -> Result<Vec<Vec<u8>>, SharingError> {
    Gf256::split_bytes(k.into(), n.into(), key.expose(), random).map_err(SharingError::Vsss)
}

/// The kernel's random bytes, 4096 at a time.
struct Stock {
    bytes: [u8; 4096],
    used: usize,
}

impl Default for Stock {
    fn default() -> Self {
        Self { bytes: [0; 4096], used: 4096 }
    }
}

impl TryRng for Stock {
    type Error = getrandom::Error;

    fn try_next_u32(&mut self) -> Result<u32, getrandom::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, getrandom::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, wanted: &mut [u8]) -> Result<(), getrandom::Error> {
        for byte in wanted {
            if self.used == self.bytes.len() {
                getrandom::fill(&mut self.bytes)?;
                self.used = 0;
            }
            *byte = self.bytes[self.used];
            self.used += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for Stock {}

/// Nanoseconds of one call.
fn timed(call: Call, calls: u32) -> Result<f64, SharingError> {
    let started = Instant::now();
    for _ in 0..calls {
        call()?;
    }
    Ok(started.elapsed().as_nanos() as f64 / f64::from(calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two implementations that share no code read each other's shares.
    #[test]
    fn shares_of_either_are_shares_of_the_other() {
        let key = VolumeKey::generate().unwrap();
        let threshold = Threshold::from_parts(4, 9).unwrap();
        let ours = split(&key, threshold).unwrap();
        let for_them: Vec<Vec<u8>> =
            ours[3..7].iter().map(|share| [&[share.x()], share.bytes().as_slice()].concat()).collect();
        assert_eq!(Gf256::combine_bytes(&for_them).unwrap(), key.expose());
        let theirs = vsss_split(&key, 4, 9, UnwrapErr(Stock::default())).unwrap();
        let for_us: Vec<Share> = theirs
            .iter()
            .map(|share| Share::new(share[0], share[1..].try_into().unwrap()).unwrap())
            .collect();
        assert!(combine(&for_us, 4).unwrap().matches(&key));
    }

    #[test]
    fn every_contestant_is_measured_in_every_round() {
        let splits = splits(5, 3, 5).unwrap();
        let combinations = combinations(5, 3, 5).unwrap();
        for times in splits.iter().chain(&combinations) {
            assert!(times.len() == 5 && times.iter().all(|time| *time > 0.0), "{times:?}");
        }
    }
}
