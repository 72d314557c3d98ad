//! Nodes that are enrolled already, made through the unlock actor alone.

use std::sync::Arc;
use std::time::Duration;

use orama_actors::boot::machine::Phase;
use orama_actors::unlock::{Guardian, Keeper, NodeSetup, Provision, ProvisionError};
use orama_mesh::PrivateKey;
use orama_protocol::Redacted;
use orama_volume::vault::AgentToken;
use orama_volume::{CrashPoint, DirectoryVolume, PeerState};
use tokio::sync::mpsc;

use super::guardians::{self, Guardians};
use super::{Options, power_on_with};

pub fn setup() -> NodeSetup {
    let indices = 0..usize::from(guardians::COUNT);
    NodeSetup {
        node_id: "node-127.0.0.4".into(),
        private_key: PrivateKey::generate(),
        address: "127.0.0.4/24".parse().unwrap(),
        listen_port: 51820,
        peers: vec![PeerState {
            public_key: PrivateKey::generate().public().to_string(),
            endpoint: Some("192.0.2.1:51820".into()),
            allowed_ips: indices.clone().map(|index| format!("{}/32", guardians::ip(index))).collect(),
            keepalive_seconds: 25,
            node_id: None,
            guardian: false,
            leaving: false,
        }],
        gateway_url: "https://127.0.0.1:1".into(),
        agent_token: AgentToken::generate().unwrap(),
        cluster_secret: Redacted::new("the cluster's secret".into()),
        recovery: None,
        keeper: Keeper::Guardians(
            indices
                .map(|index| Guardian { node_id: guardians::node_id(index), wg_ip: guardians::ip(index) })
                .collect(),
        ),
    }
}

/// Provisions the volume at `base`; the power may go at `crash`.
pub async fn provision(
    base: &std::path::Path,
    guardians: &Guardians,
    crash: Option<CrashPoint>,
) -> Result<(), ProvisionError> {
    let volume = DirectoryVolume::power_on(base).unwrap();
    if let Some(point) = crash {
        volume.crash_at(point);
    }
    let node = power_on_with(Arc::new(volume), Options::without_gateway(guardians.port));
    node.wait_for(Phase::Enrolling, Duration::from_secs(5)).await;
    let (progress, mut steps) = mpsc::channel(1);
    actix_rt::spawn(async move { while steps.recv().await.is_some() {} });
    node.registry.unlock.ask(Provision { setup: setup(), progress }).await.unwrap()
}

/// A folder with the volume of an enrolled node, as it is when its power was cut.
pub async fn enrolled(guardians: &Guardians) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    provision(base.path(), guardians, None)
        .await
        .unwrap_or_else(|error| panic!("{}", orama_actors::describe(&error)));
    base
}
