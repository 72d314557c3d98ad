//! `--genesis`: the first node of a cluster, which no gateway enrols or reaches. Owns the flags of that way; enrollment
//! and unlocking have their own files.

use clap::Args;
use orama_mesh::Ipv4Prefix;

use super::agent::TunnelMode;
use crate::failure::{Exit, Failure};
use crate::wallet::WalletArgs;

mod enroll;
mod unlock;

pub use enroll::run as enroll;
pub use unlock::{UnlockArgs, run as unlock};

/// What the help calls these flags.
const HEADING: &str = "First node of a cluster";

#[derive(Args)]
#[command(next_help_heading = HEADING)]
pub struct GenesisArgs {
    /// Enrol the first node of a new cluster: the owner's wallet does it, there is no gateway yet.
    #[arg(long, conflicts_with_all = ["token", "token_file", "code"])]
    pub genesis: bool,
    /// Overlay address of the node.
    #[arg(long, value_name = "IP/PREFIX", default_value = "10.0.0.1/24", requires = "genesis")]
    address: Ipv4Prefix,
    /// Overlay address of this machine [default: the last one of the node's network].
    #[arg(long, value_name = "IP", requires = "genesis")]
    operator_address: Option<std::net::Ipv4Addr>,
    /// Who carries packets to the node's overlay address.
    #[arg(long, value_enum, default_value_t = TunnelMode::Auto, requires = "genesis")]
    tunnel: TunnelMode,
    #[command(flatten)]
    wallet: WalletArgs,
}

impl GenesisArgs {
    pub fn wallet(&self) -> &WalletArgs {
        &self.wallet
    }

    /// Our own address in the network of the node's.
    fn operator(&self) -> Result<Ipv4Prefix, Failure> {
        let wrong = |what: String| {
            Err(Failure::new(Exit::Usage, what).next("give addresses such as --address 10.0.0.1/24"))
        };
        let length = self.address.length();
        if !(8..=30).contains(&length) {
            return wrong(format!("--address {}: the prefix must be 8 to 30", self.address));
        }
        let last = (self.address.network().address().to_bits() | (u32::MAX >> length)) - 1;
        let address = self.operator_address.unwrap_or(last.into());
        let own = Ipv4Prefix::new(address, length).unwrap_or(self.address);
        if own.network() != self.address.network() || address == self.address.address() {
            return wrong(format!("{address} is no other address of the network of {}", self.address));
        }
        Ok(own)
    }
}
