//! The guardian's two clocks: wall time for the records, steady time for everything that expires. Tests
//! bring their own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from. Both are nanoseconds since the epoch; cheap to clone.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn Fn() -> i128 + Send + Sync>,
    steady: Arc<dyn Fn() -> i128 + Send + Sync>,
}

impl Clock {
    /// The machine's clocks. Steady time is the wall time at this call plus what the monotonic clock counts
    /// from here on: a machine that sets its clock does not make challenges and sessions live longer.
    pub fn system() -> Self {
        let (start, base) = (Instant::now(), wall_ns());
        Self {
            wall: Arc::new(wall_ns),
            steady: Arc::new(move || base.saturating_add(nanoseconds(start.elapsed()))),
        }
    }

    /// One function for both clocks: tests make an hour pass at once.
    pub fn from_fn(now_ns: impl Fn() -> i128 + Send + Sync + 'static) -> Self {
        let now: Arc<dyn Fn() -> i128 + Send + Sync> = Arc::new(now_ns);
        Self { wall: now.clone(), steady: now }
    }

    /// Time for records. May jump.
    pub(crate) fn wall_ns(&self) -> i128 {
        (self.wall)()
    }

    /// Time for what expires. Never steps.
    pub(crate) fn steady_ns(&self) -> i128 {
        (self.steady)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Nanoseconds in a duration; 2^127 of them are longer than any clock counts.
pub(crate) fn nanoseconds(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// A clock before 1970 counts as 1970.
fn wall_ns() -> i128 {
    nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_and_is_after_2020() {
        let clock = Clock::system();
        let before = clock.steady_ns();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.steady_ns() > before);
        assert!(clock.wall_ns() > 1_577_836_800_000_000_000);
    }
}
