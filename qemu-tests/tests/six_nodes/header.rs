//! The key that is sealed to the wallet, looked for byte by byte in the LUKS2 header of a machine's disk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qemu_tests::disk::Header;
use qemu_tests::fleet::Fleet;
use qemu_tests::outcome::OrFail;

/// The middle of the sealed key, as the header's token has it: base64 in base64's own steps of four characters.
pub struct SealedKey(String);

impl SealedKey {
    /// The header has it twice: it is kept in two copies.
    pub fn in_header_of(fleet: &mut Fleet, machine: usize) -> Self {
        let header = cut_out(fleet, machine);
        let state = header.early_state().or_fail();
        let sealed = state["sealed_key"].as_str().expect("a sealed key");
        let token = header.token().or_fail().expect("a token");
        let payload = token["payload"].as_str().expect("a payload");
        let plain = STANDARD.decode(payload).or_fail();
        let at = plain.windows(sealed.len()).position(|part| part == sealed.as_bytes()).expect("it is in it");
        let (first, last) = (at.div_ceil(3), (at + sealed.len()) / 3);
        let key = Self(payload[4 * first..4 * last].to_owned());
        assert_eq!(key.count(&header), 2, "in both copies");
        key
    }

    pub fn is_gone(&self, fleet: &mut Fleet, machine: usize) {
        assert_eq!(self.count(&cut_out(fleet, machine)), 0, "the sealed key is still in the header");
    }

    fn count(&self, header: &Header) -> usize {
        let bytes = std::fs::read(header.path()).or_fail();
        let wanted = self.0.as_bytes();
        bytes.windows(wanted.len()).filter(|part| part[0] == wanted[0] && *part == wanted).count()
    }
}

fn cut_out(fleet: &mut Fleet, machine: usize) -> Header {
    let path = fleet.folder().join("header");
    Header::cut_out(&fleet.machine(machine).disk(), &path).or_fail()
}
