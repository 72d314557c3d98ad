//! Whether the time of split, combine and the multiplication below them depends on secrets: dudect's method
//! (Reparaz, Balasch, Verbauwhede 2017). Two classes of secrets in random order, times cropped at several
//! percentiles, Welch's t-test. A product that leaks on purpose must be caught in the same run.

// The multiplication is not part of the crate's interface; here it is compiled as it is there.
#[allow(dead_code)]
#[path = "../src/field.rs"]
mod field;
#[path = "../src/weighted.rs"]
mod weighted;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use field::Point;
use orama_keyshare::{Share, Threshold, VolumeKey, combine, split_with};
use rand_core::{TryCryptoRng, TryRng};
use weighted::WeightedSum;

/// |t| up to which two classes count as the same: dudect's own limit. Chance alone gives less than 5 in all but
/// one of a million comparisons.
const T_LIMIT: f64 = 10.0;
/// Measurements of one round, both classes together.
const SAMPLES: usize = 40_000;
/// The first ones, with cold caches and an untrained branch predictor, do not count.
const WARM_UP: usize = 2_000;
/// Rounds until one is quiet. Taking the best is honest: a leak shows in every round alike, as its size times
/// the root of the number of samples, while another program on the machine disturbs one round and not the next.
/// The control is judged by the best of all its rounds, and must be caught all the same.
const ROUNDS: usize = 10;
/// Parts of the measurements that are compared, the shortest times first: interrupts make the longest.
const KEPT: [f64; 8] = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// Products in one measurement: one alone is shorter than reading the clock.
const PRODUCTS: u8 = 64;

type Secret = [u8; 32];

/// What the times of two classes of secrets are compared for.
const CLASSES: [(&str, [Class; 2]); 2] = [
    ("fixed or random", [Class::Always([0x2a; 32]), Class::Random]),
    ("zeros or ones", [Class::Always([0x00; 32]), Class::Always([0xff; 32])]),
];

#[derive(Clone, Copy)]
enum Class {
    Always(Secret),
    Random,
}

/// Chooses classes and secrets: xorshift64*, the same in every run, so that only the machine differs.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn secret(&mut self, class: Class) -> Secret {
        let mut random = [0; 32];
        random.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&self.next().to_le_bytes()));
        match class {
            Class::Always(secret) => secret,
            Class::Random => random,
        }
    }
}

/// Coefficients that are the secret over and over: all that split works on differs between the classes.
struct Repeated(Secret);

impl TryRng for Repeated {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unimplemented!("split fills bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unimplemented!("split fills bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.chunks_mut(32).for_each(|chunk| chunk.copy_from_slice(&self.0[..chunk.len()]));
        Ok(())
    }
}

impl TryCryptoRng for Repeated {}

/// Welch's t over the shortest times, the largest of all crops.
fn welch(times: &[(usize, f64)]) -> f64 {
    let mut sorted: Vec<f64> = times.iter().map(|(_, time)| *time).collect();
    sorted.sort_by(f64::total_cmp);
    let crops = KEPT.iter().map(|kept| sorted[((sorted.len() - 1) as f64 * kept) as usize]);
    crops.map(|longest| welch_cropped(times, longest)).fold(0.0, f64::max)
}

fn welch_cropped(times: &[(usize, f64)], longest: f64) -> f64 {
    let of_class = |wanted| {
        let kept = times.iter().filter(move |(class, time)| *class == wanted && *time <= longest);
        let (count, sum) = kept.clone().fold((0.0, 0.0), |(count, sum), (_, time)| (count + 1.0, sum + time));
        let mean = sum / count;
        let squares: f64 = kept.map(|(_, time)| (time - mean) * (time - mean)).sum();
        (mean, squares / (count - 1.0) / count)
    };
    let ((one, one_error), (two, two_error)) = (of_class(0), of_class(1));
    let t = (one - two).abs() / (one_error + two_error).sqrt();
    // One class only, or no spread at all: the clock is too coarse to see anything in this crop.
    if t.is_nan() { 0.0 } else { t }
}

/// One round: `prepare` is not measured, nor is the end of what `run` returns.
fn round<I, O>(
    choice: &mut Xorshift,
    classes: &[Class; 2],
    prepare: &dyn Fn(Secret) -> I,
    run: &dyn Fn(&I) -> O,
) -> f64 {
    let secrets: Vec<(usize, Secret)> = (0..SAMPLES + WARM_UP)
        .map(|_| {
            let class = (choice.next() >> 63) as usize;
            (class, choice.secret(classes[class]))
        })
        .collect();
    let times = secrets.into_iter().map(|(class, secret)| {
        let input = black_box(prepare(secret));
        let started = Instant::now();
        let output = black_box(run(black_box(&input)));
        let time = started.elapsed();
        drop(output);
        (class, time.as_nanos() as f64)
    });
    welch(&times.skip(WARM_UP).collect::<Vec<_>>())
}

/// The best |t| of the rounds; `all` goes on when a round was quiet.
fn best<I, O>(
    what: &str,
    all: bool,
    prepare: impl Fn(Secret) -> I,
    run: impl Fn(&I) -> O,
) -> Vec<(String, f64)> {
    let mut choice = Xorshift(0x6f72_616d_6120_6b65);
    let of_pair = |(pair, classes): &(&str, [Class; 2])| {
        let mut rounds: Vec<f64> = Vec::new();
        while rounds.len() < ROUNDS && (all || rounds.iter().all(|t| *t > T_LIMIT)) {
            rounds.push(round(&mut choice, classes, &prepare, &run));
        }
        let best = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let shown: Vec<String> = rounds.iter().map(|t| format!("{t:.1}")).collect();
        println!("{what:<32} {pair:<16} best |t| {best:>7.1}  rounds {}", shown.join(" "));
        (format!("{what}, {pair}"), best)
    };
    CLASSES.iter().map(of_pair).collect()
}

/// The obvious product: as long as the secret has bits, and a table at each. Must be caught.
fn leaking_product(weight: u8, mut secret: u8, doubled: &[u8; 256]) -> u8 {
    let (mut term, mut product) = (weight, 0);
    while secret != 0 {
        if secret & 1 == 1 {
            product ^= term;
        }
        term = doubled[usize::from(term)];
        secret >>= 1;
    }
    product
}

fn sharing(secret: Secret) -> (VolumeKey, Repeated) {
    (VolumeKey::from_slice(&secret).unwrap(), Repeated(secret))
}

#[test]
fn time_says_nothing_about_secrets() {
    let doubled: [u8; 256] = std::array::from_fn(|element| Point(element as u8).times(Point(2)).0);
    let control = best(
        "control, which leaks",
        true,
        |secret| secret,
        |secret| {
            let weights = 1..=PRODUCTS / 8;
            weights.fold(0, |sum, weight| {
                secret.iter().fold(sum, |sum, byte| sum ^ leaking_product(weight, *byte, &doubled))
            })
        },
    );
    for (what, t) in &control {
        assert!(
            *t > T_LIMIT,
            "inconclusive: {what} was not caught, |t| {t:.1}: measure on a quieter machine"
        );
    }

    let three_of_five = Threshold::from_parts(3, 5).unwrap();
    let eight_of_twenty = Threshold::from_parts(8, 20).unwrap();
    let mut found = best(
        "64 products of 32 bytes",
        false,
        |secret| secret,
        |secret| {
            let (mut sum, mut product) = (WeightedSum::new(), [0; 32]);
            for weight in 1..=PRODUCTS {
                sum.add(Point(weight.wrapping_mul(151)), black_box(secret));
                sum.take(&mut product);
            }
            product
        },
    );
    for (what, threshold) in [("split 3 of 5", three_of_five), ("split 8 of 20", eight_of_twenty)] {
        found.extend(best(what, false, sharing, |(key, coefficients)| {
            split_with(key, threshold, &mut Repeated(coefficients.0)).unwrap()
        }));
    }
    let shares = |threshold| {
        move |secret| -> Vec<Share> {
            let (key, mut coefficients) = sharing(secret);
            split_with(&key, threshold, &mut coefficients).unwrap()
        }
    };
    found.extend(best("combine 3 of 5", false, shares(three_of_five), |shares| {
        combine(&shares[1..4], 3).unwrap()
    }));
    found.extend(best("combine 3 of 5, 2 more checked", false, shares(three_of_five), |shares| {
        combine(shares, 3).unwrap()
    }));
    found.extend(best("combine 8 of 20", false, shares(eight_of_twenty), |shares| {
        combine(&shares[7..15], 8).unwrap()
    }));
    for (what, t) in found {
        assert!(
            t <= T_LIMIT,
            "{what}: |t| is {t:.1} in the best of {ROUNDS} rounds, at most {T_LIMIT} is noise"
        );
    }
}

/// The statistics alone, on made-up times.
#[test]
fn a_difference_below_the_spread_is_found_and_none_is_not() {
    let mut choice = Xorshift(7);
    let mut times = |difference: f64| -> Vec<(usize, f64)> {
        (0..20_000)
            .map(|_| {
                let class = (choice.next() >> 63) as usize;
                let spread = (choice.next() >> 54) as f64 / 10.0;
                let interrupt = if choice.next() >> 57 == 0 { 1e6 } else { 0.0 };
                (class, 1000.0 + spread + interrupt + difference * class as f64)
            })
            .collect()
    };
    assert!(welch(&times(0.0)) < 5.0);
    assert!(welch(&times(10.0)) > T_LIMIT);
}
