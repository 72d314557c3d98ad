//! How many requests one client address may make. Pure: the clock is the caller's; memory is bounded.

use std::collections::HashMap;
use std::net::IpAddr;

/// Most addresses remembered. An overlay is a /24, so a full table is an attack; then the oldest window is
/// forgotten, because locking out a node that must unlock is worse than a generous limit.
const ADDRESSES_MAX: usize = 4096;

struct Window {
    start_ns: i128,
    requests: u32,
}

/// Fixed windows, one per address, each starting with the first request in it.
pub(crate) struct RateLimiter {
    limit: u32,
    window_ns: i128,
    windows: HashMap<IpAddr, Window>,
}

impl RateLimiter {
    pub(crate) fn new(limit: u32, window_ns: i128) -> Self {
        Self { limit, window_ns, windows: HashMap::new() }
    }

    /// Counts a request. Refused: nanoseconds until the address may try again.
    pub(crate) fn admit(&mut self, address: IpAddr, now_ns: i128) -> Result<(), i128> {
        let window_ns = self.window_ns;
        let over = |window: &Window| !(0..window_ns).contains(&(now_ns - window.start_ns));
        if !self.windows.contains_key(&address) && self.windows.len() >= ADDRESSES_MAX {
            self.windows.retain(|_, window| !over(window));
            if self.windows.len() >= ADDRESSES_MAX
                && let Some(oldest) = self.windows.iter().min_by_key(|(_, window)| window.start_ns)
            {
                let oldest = *oldest.0;
                self.windows.remove(&oldest);
            }
        }
        let window = self.windows.entry(address).or_insert(Window { start_ns: now_ns, requests: 0 });
        if over(window) {
            *window = Window { start_ns: now_ns, requests: 0 };
        }
        if window.requests >= self.limit {
            return Err(window.start_ns + window_ns - now_ns);
        }
        window.requests += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i128 = 1_000_000_000;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn the_121st_request_in_60_seconds_waits() {
        let mut limiter = RateLimiter::new(120, 60 * SECOND);
        for request in 0..120 {
            assert_eq!(limiter.admit(address(1), request * SECOND / 4), Ok(()));
        }
        assert_eq!(limiter.admit(address(1), 50 * SECOND), Err(10 * SECOND));
        assert_eq!(limiter.admit(address(2), 50 * SECOND), Ok(()));
        assert_eq!(limiter.admit(address(1), 60 * SECOND - 1), Err(1));
        assert_eq!(limiter.admit(address(1), 60 * SECOND), Ok(()));
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let mut limiter = RateLimiter::new(1, 60 * SECOND);
        assert_eq!(limiter.admit(address(1), 1000 * SECOND), Ok(()));
        assert!(limiter.admit(address(1), 1001 * SECOND).is_err());
        assert_eq!(limiter.admit(address(1), 0), Ok(()));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let mut limiter = RateLimiter::new(1, 60 * SECOND);
        for number in 0..2 * ADDRESSES_MAX as u32 {
            assert_eq!(limiter.admit(address(number), i128::from(number)), Ok(()));
            assert!(limiter.windows.len() <= ADDRESSES_MAX);
        }
        assert!(limiter.admit(address(2 * ADDRESSES_MAX as u32 - 1), 9999).is_err());
        assert_eq!(limiter.admit(address(0), 9999), Ok(()));
        // When all are over, they make room.
        assert_eq!(limiter.admit(address(u32::MAX), 200 * SECOND), Ok(()));
        assert_eq!(limiter.windows.len(), 1);
    }
}
