//! Takes a list of peers: to the disk first, then to WireGuard, then to the machine of the key's life.

use std::collections::BTreeSet;
use std::sync::Arc;

use actix::{ActorFutureExt, Handler, ResponseActFuture, WrapFuture};
use orama_mesh::{PeerConfig, PublicKey};
use orama_volume::{EarlyState, PeerState};

use super::presence::{self, Candidates};
use super::{CustodyActor, PeersProblem, SetPeers};
use crate::boot::mesh_state;
use crate::describe;
use crate::registry::Registry;
use crate::wg::{GetWireguard, RemovePeer, SetPeer};

impl Handler<SetPeers> for CustodyActor {
    type Result = ResponseActFuture<Self, Result<u64, PeersProblem>>;

    fn handle(&mut self, SetPeers(list): SetPeers, _: &mut Self::Context) -> Self::Result {
        let revision = list.revision;
        let registry = self.registry.clone();
        let open = self.open.as_ref().map(|open| (open.record.clone(), Arc::clone(&open.peers_turn)));
        let taken = async move {
            let (record, turn) = open.ok_or(PeersProblem::NotOpen)?;
            let mut behind = turn.lock().await;
            match record.write_peers(list).await? {
                Some(change) if !*behind => {
                    *behind = true;
                    apply(&registry, &change.before, &change.after).await?;
                }
                Some(change) => apply_all(&registry, &change.after).await?,
                None if *behind => {
                    let peers = record.look(|state| state.wireguard.peers.clone()).await;
                    apply_all(&registry, &peers.map_err(PeersProblem::Record)?).await?;
                }
                None => {}
            }
            *behind = false;
            record.look(told).await.map_err(PeersProblem::Record)
        };
        Box::pin(taken.into_actor(self).map(move |result, actor, context| {
            let (candidates, known) = result?;
            if let Some(open) = actor.open.as_mut() {
                (open.candidates, open.peers_revision) = (candidates, known);
                actor.publish(actor.now());
                actor.look(context);
            }
            Ok(revision)
        }))
    }
}

fn told(state: &EarlyState) -> (Candidates, u64) {
    (presence::candidates(state), state.peers_revision)
}

/// Brings WireGuard from one set of peers to another. Those that are the same in both are not touched.
async fn apply(registry: &Registry, before: &[PeerState], after: &[PeerState]) -> Result<(), PeersProblem> {
    let configs = |peers| mesh_state::peer_configs(peers).map_err(PeersProblem::WireGuard);
    let (before, after) = (configs(before)?, configs(after)?);
    let stays: BTreeSet<_> = after.iter().map(|peer| peer.public_key).collect();
    let gone = before.iter().map(|peer| peer.public_key).filter(|key| !stays.contains(key));
    let changed = after.iter().filter(|peer| !before.contains(peer)).cloned();
    change_interface(registry, gone.collect(), changed.collect()).await
}

/// Brings WireGuard to this set of peers, whatever it has.
async fn apply_all(registry: &Registry, after: &[PeerState]) -> Result<(), PeersProblem> {
    let after = mesh_state::peer_configs(after).map_err(PeersProblem::WireGuard)?;
    let status = registry.wg.ask(GetWireguard).await.map_err(|error| wireguard(&error))?;
    let status = status.map_err(|error| wireguard(&error))?;
    let found: Vec<PublicKey> = status.peers.iter().filter_map(|peer| peer.public_key.parse().ok()).collect();
    let gone = found.into_iter().filter(|key| after.iter().all(|peer| peer.public_key != *key));
    change_interface(registry, gone.collect(), after.clone()).await
}

async fn change_interface(
    registry: &Registry,
    gone: Vec<PublicKey>,
    set: Vec<PeerConfig>,
) -> Result<(), PeersProblem> {
    for key in gone {
        let removed = registry.wg.ask(RemovePeer(key)).await.map_err(|error| wireguard(&error))?;
        removed.map_err(|error| wireguard(&error))?;
    }
    for peer in set {
        let done = registry.wg.ask(SetPeer(peer)).await.map_err(|error| wireguard(&error))?;
        done.map_err(|error| wireguard(&error))?;
    }
    Ok(())
}

fn wireguard(error: &dyn std::error::Error) -> PeersProblem {
    PeersProblem::WireGuard(describe(error))
}
