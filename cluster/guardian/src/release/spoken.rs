//! The words for what the machine decides, as requesters and operators read them. A requester is not told which
//! address is the usual one: it may be a thief.

use std::fmt;

use super::machine::Why;
use super::owner::HoldState;

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Absent => "its owner was absent without having announced a reboot",
            Why::OtherAddress => "it is asked for from another public address than usual",
            Why::OtherNode => "it is asked for from another overlay address than its owner's",
            Why::AddressUnknown => "the public address of who asks is not known",
            Why::TooManyPlaces => "it is asked for from too many addresses at a time",
        })
    }
}

pub(super) fn state(state: HoldState) -> &'static str {
    match state {
        HoldState::Held => "held",
        HoldState::Released => "released",
        HoldState::Approved => "approved",
    }
}

/// UTC, whole seconds, rounded up: who comes back then is not early.
pub(super) fn rfc3339(wall_ns: i128) -> String {
    let seconds = wall_ns.div_euclid(1_000_000_000) + i128::from(wall_ns.rem_euclid(1_000_000_000) > 0);
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_rounded_up_to_seconds() {
        assert_eq!(rfc3339(1_763_800_000_000_000_000), "2025-11-22T08:26:40Z");
        assert_eq!(rfc3339(1_763_800_000_000_000_001), "2025-11-22T08:26:41Z");
        assert_eq!(rfc3339(-1), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i128::MAX), "");
    }
}
