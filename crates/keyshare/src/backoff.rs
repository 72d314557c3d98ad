//! When to ask the guardians again: 1, 2, 4, 8, 16 s, then a new cycle, without end. Reads no clock and no
//! randomness.

use std::time::Duration;

/// Waits of one cycle, seconds (deployment guide, "Normal Reboot").
pub const CYCLE_SECONDS: [u64; 5] = [1, 2, 4, 8, 16];
/// Largest part of a wait that jitter may add or take.
pub const JITTER_MAX: f64 = 0.5;

/// The wait after failed attempt `attempt`, counted from 0 since boot, changed by the fraction `jitter`:
/// 0.1 makes it a tenth longer, -0.1 a tenth shorter. Beyond ±[`JITTER_MAX`] is cut, not a number is 0.
pub fn delay(attempt: u32, jitter: f64) -> Duration {
    let seconds = CYCLE_SECONDS[attempt as usize % CYCLE_SECONDS.len()];
    let jitter = if jitter.is_nan() { 0.0 } else { jitter.clamp(-JITTER_MAX, JITTER_MAX) };
    Duration::from_secs(seconds).mul_f64(1.0 + jitter)
}

/// The cycle that attempt `attempt`, counted from 0, belongs to, counted from 1.
pub fn cycle(attempt: u32) -> u32 {
    attempt / CYCLE_SECONDS.len() as u32 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_never_end() {
        let waits: Vec<u64> = (0..11).map(|attempt| delay(attempt, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 1, 2, 4, 8, 16, 1]);
        assert_eq!([0, 4, 5, 9, 10].map(cycle), [1, 1, 2, 2, 3]);
        assert!(delay(u32::MAX, 0.0) >= Duration::from_secs(1));
    }

    #[test]
    fn jitter_is_a_bounded_fraction() {
        assert_eq!(delay(2, 0.25), Duration::from_secs(5));
        assert_eq!(delay(2, -0.25), Duration::from_secs(3));
        assert_eq!(delay(2, 100.0), Duration::from_secs(6));
        assert_eq!(delay(2, f64::NEG_INFINITY), Duration::from_secs(2));
        assert_eq!(delay(2, f64::NAN), Duration::from_secs(4));
    }
}
