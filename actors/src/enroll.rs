//! EnrollActor: makes an unenrolled node a member. Shows the registration code on port 9999, keeps a WebSocket to
//! the gateway, checks the configuration that comes down, and drives provisioning. Owns neither volume nor
//! interface: it asks their actors.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use actix_web::dev::ServerHandle;
use jiff::{SignedDuration, Timestamp};
use orama_mesh::{Ipv4Prefix, OVERLAY, PrivateKey, WgConfig};
use orama_protocol::Redacted;
use orama_protocol::enroll::{ENROLL_PROTOCOL, GatewayMessage, NodeConfig, NodeMessage, RegistrationCode};
use orama_protocol::recovery::RecoveryRequest;
use orama_volume::vault::AgentToken;
use orama_wallet::Address;
use orama_wallet::statement::OneTimeKey;
use tokio::sync::{mpsc, oneshot};

use crate::describe;
use crate::ports::Console;
use crate::registry::Registry;
use crate::unlock::Keeper;

mod check;
pub mod code;
mod genesis;
mod genesis_check;
pub mod machine;
mod page;
pub mod pinned_tls;
mod provisioning;
mod push;
mod recovery;
pub mod sealed_push;
mod socket;

pub use check::ConfigProblem;
pub use genesis::{EnrollGenesis, GenesisRefused};
pub use genesis_check::GenesisProblem;
pub use pinned_tls::Pin;
pub use push::{PushRefused, SealedPush};
pub use recovery::RecoveryProblem;

use machine::{Action, Event, State};

/// Frames to the gateway that may wait: hello, acceptance and a dozen provisioning steps.
const OUTGOING: usize = 32;
/// Pause before port 9999 is bound again when it could not be.
const BIND_AGAIN: Duration = Duration::from_secs(2);

/// How long the code waits for the node's first address, and how often that is looked for. A node without a network
/// shows its code all the same.
const ADDRESS_WAIT: Duration = Duration::from_secs(3);
const ADDRESS_LOOK: Duration = Duration::from_millis(100);

pub struct EnrollActor {
    registry: Registry,
    settings: Arc<EnrollSettings>,
    console: Arc<dyn Console>,
    overlay: Ipv4Prefix,
    state: State,
    code: Option<RegistrationCode>,
    shown: page::Shown,
    server: Option<ServerHandle>,
    expiry: Option<SpawnHandle>,
    socket: Option<SpawnHandle>,
    outgoing: Option<mpsc::Sender<NodeMessage>>,
    /// Made for the first hello; its private half leaves the actor only into the volume.
    own_key: Option<PrivateKey>,
    /// An accepted configuration that waits for the gateway's word.
    agreed: Option<Agreed>,
    /// What the owner has to sign over, until it was used.
    one_time_key: Option<OneTimeKey>,
    progress: genesis::Progress,
    /// Hears that the gateway keeps the recovery key; gone with the socket.
    recovery_kept: Option<oneshot::Sender<()>>,
    /// Why the gateway was not reached, as last logged.
    last_trouble: String,
}

/// What a provisioning starts from.
struct Agreed {
    node_id: String,
    address: Ipv4Prefix,
    /// With the private key.
    wireguard: WgConfig,
    keeper: Keeper,
    cluster_secret: Redacted,
    agent_token: AgentToken,
    recovery: Option<recovery::Wish>,
}

pub struct EnrollSettings {
    pub mode: EnrollMode,
    /// `https://host[:port]`.
    pub gateway_url: String,
    pub pin: Pin,
    /// Address of the wallet that may enrol the node without a gateway.
    pub owner: Option<Address>,
    /// Where the registration code is shown; `0.0.0.0:9999` on a node.
    pub listen: SocketAddr,
    pub wireguard_port: u16,
    /// Version of the image.
    pub version: String,
    /// `amd64`.
    pub arch: String,
    /// The node's public addresses, for the console line.
    pub addresses: Arc<dyn Fn() -> Vec<Ipv4Addr> + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrollMode {
    Websocket,
    SealedPush,
}

/// Shows a code and waits for a configuration; when enrollment mode is on already, nothing happens.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct OpenEnrollment;

#[derive(Message)]
#[rtype(result = "()")]
struct Happened(Event);

#[derive(Message)]
#[rtype(result = "()")]
struct Spoke(GatewayMessage);

#[derive(Message)]
#[rtype(result = "()")]
struct BindPage;

impl EnrollActor {
    pub fn new(registry: Registry, settings: Arc<EnrollSettings>, console: Arc<dyn Console>) -> Self {
        let push_only = settings.mode == EnrollMode::SealedPush;
        Self {
            registry,
            settings,
            console,
            overlay: OVERLAY,
            state: State::new(push_only),
            code: None,
            shown: page::Shown::default(),
            server: None,
            expiry: None,
            socket: None,
            outgoing: None,
            own_key: None,
            agreed: None,
            one_time_key: None,
            progress: genesis::Progress::default(),
            recovery_kept: None,
            last_trouble: String::new(),
        }
    }

    /// Another overlay than 10.0.0.0/24, for clusters that live on one machine.
    #[must_use]
    pub fn in_overlay(self, overlay: Ipv4Prefix) -> Self {
        Self { overlay, ..self }
    }

    fn apply(&mut self, event: Event, context: &mut Context<Self>) {
        let before = self.state.phase;
        let jitter = getrandom::u32().unwrap_or(0);
        let (state, actions) = machine::step(self.state, event, jitter);
        self.state = state;
        if before != state.phase {
            tracing::info!("enrollment: {before:?} -> {:?}", state.phase);
        }
        for action in actions {
            self.execute(action, context);
        }
    }

    fn execute(&mut self, action: Action, context: &mut Context<Self>) {
        match action {
            Action::NewCode => self.new_code(context),
            Action::Connect => self.connect(context),
            // Dropping our end ends the conversation, and its end is told as lost.
            Action::HangUp => self.outgoing = None,
            Action::ReconnectAfter(pause) => {
                context.notify_later(Happened(Event::ReconnectDue), pause);
            }
            Action::Hello => self.hello(),
            Action::Accept => self.accept(),
            Action::Refuse(reason) => self.say(NodeMessage::Refused { reason }),
            Action::Provision => self.provision(context),
            Action::SayProvisioned => self.say(NodeMessage::Provisioned),
            Action::SayFailed(reason) => self.say(NodeMessage::Failed { reason }),
            Action::CloseForGood => self.close_for_good(context),
        }
    }

    /// Gives the network a moment, so that the console can say where the code is shown.
    fn open(&mut self, asked: Instant, context: &mut Context<Self>) {
        if (self.settings.addresses)().is_empty() && asked.elapsed() < ADDRESS_WAIT {
            context.run_later(ADDRESS_LOOK, move |actor, context| actor.open(asked, context));
        } else {
            self.apply(Event::Open, context);
        }
    }

    fn new_code(&mut self, context: &mut Context<Self>) {
        let push_only = self.state.push_only;
        let made = if push_only { code::sealed_push_code() } else { code::registration_code() };
        let code = match made {
            Ok(code) => code,
            Err(error) => {
                self.registry
                    .facts
                    .raise_alarm(&format!("no random numbers for a registration code: {error}"));
                return;
            }
        };
        let until = Timestamp::now()
            + SignedDuration::try_from(code::LIFETIME).unwrap_or(SignedDuration::from_hours(1));
        let shown = RegistrationCode {
            code,
            expires: until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            wireguard_public_key: (!push_only)
                .then(|| self.own_key.get_or_insert_with(PrivateKey::generate).public().to_string()),
            genesis: if push_only { None } else { self.offer() },
        };
        *crate::supervise::lock(&self.shown) = (!push_only).then(|| shown.clone());
        self.code = Some(shown);
        if let Some(timer) = self.expiry.take() {
            context.cancel_future(timer);
        }
        self.expiry = Some(context.notify_later(Happened(Event::CodeExpired), code::LIFETIME));
        // Who reads the line goes to the port next: it must be open by then.
        self.bind_page(context);
        self.announce();
    }

    fn announce(&self) {
        if let Some(shown) = &self.code {
            self.console.line(&self.console_line(shown));
            if let (Some(genesis), Some(key)) = (&shown.genesis, &shown.wireguard_public_key) {
                self.console.line(&format!(
                    "or, without a gateway, by the wallet {}: orama node enroll --genesis (WireGuard key {key})",
                    genesis.owner
                ));
            }
        }
    }

    /// Opens the port; when something else holds it still, again later, and then the code is announced once more.
    fn bind_page(&mut self, context: &mut Context<Self>) {
        if self.server.is_some() {
            return;
        }
        let push = self.state.push_only.then(|| self.registry.enroll.clone());
        let genesis = (!self.state.push_only && self.settings.owner.is_some())
            .then(|| (self.registry.enroll.clone(), self.progress.clone()));
        let page = page::Page { shown: Arc::clone(&self.shown), push, genesis };
        match page::serve(self.settings.listen, page) {
            Ok((_, handle, server)) => {
                self.server = Some(handle);
                actix_rt::spawn(server);
            }
            Err(error) => {
                tracing::warn!("cannot listen on {}: {error}", self.settings.listen);
                context.notify_later(BindPage, BIND_AGAIN);
            }
        }
    }

    fn console_line(&self, shown: &RegistrationCode) -> String {
        let RegistrationCode { code, expires, wireguard_public_key: _, genesis: _ } = shown;
        let port = self.settings.listen.port();
        match (self.settings.mode, (self.settings.addresses)().first()) {
            (EnrollMode::SealedPush, _) => format!("registration code {code}, expires {expires}"),
            (EnrollMode::Websocket, _) if self.server.is_none() => {
                format!("registration code {code} (port {port} is not open yet), expires {expires}")
            }
            (EnrollMode::Websocket, Some(ip)) => {
                format!("registration code {code} (also at http://{ip}:{port}/), expires {expires}")
            }
            (EnrollMode::Websocket, None) => {
                format!("registration code {code} (also at port {port}, no address yet), expires {expires}")
            }
        }
    }

    fn connect(&mut self, context: &mut Context<Self>) {
        if let Some(previous) = self.socket.take() {
            context.cancel_future(previous);
        }
        let (outgoing, mut frames) = mpsc::channel(OUTGOING);
        self.outgoing = Some(outgoing);
        let (settings, address) = (Arc::clone(&self.settings), context.address());
        let conversation = async move {
            let client = match socket::client(&settings.pin) {
                Ok(client) => client,
                Err(error) => return describe(&error),
            };
            socket::converse(&client, &settings.gateway_url, &mut frames, |heard| {
                // The mailbox bounds what a gateway can queue up here; a message beyond it is lost, and with it the
                // enrollment, which the operator repeats.
                let told = match heard {
                    socket::Heard::Connected => address.try_send(Happened(Event::Connected)).is_ok(),
                    socket::Heard::Message(message) => address.try_send(Spoke(message)).is_ok(),
                };
                if !told {
                    tracing::warn!("the gateway talks faster than this node listens");
                }
            })
            .await
        };
        self.socket = Some(context.spawn(conversation.into_actor(self).map(|why, actor, context| {
            if actor.last_trouble != why {
                tracing::info!("enrollment socket: {why}");
                actor.last_trouble = why;
            }
            actor.outgoing = None;
            actor.socket = None;
            actor.recovery_kept = None;
            actor.apply(Event::Lost, context);
        })));
    }

    fn hello(&mut self) {
        let Some(code) = self.code.as_ref().map(|shown| shown.code.clone()) else { return };
        let key = self.own_key.get_or_insert_with(PrivateKey::generate);
        let hello = NodeMessage::Hello {
            protocol: ENROLL_PROTOCOL,
            code,
            wireguard_public_key: key.public().to_string(),
            wireguard_port: self.settings.wireguard_port,
            version: self.settings.version.clone(),
            arch: self.settings.arch.clone(),
        };
        self.say(hello);
    }

    /// Judges a configuration; a good one is kept for the gateway's word.
    fn consider(&mut self, config: NodeConfig, recovery: Option<&RecoveryRequest>) -> Result<(), String> {
        let port = self.settings.wireguard_port;
        let key = self.own_key.get_or_insert_with(PrivateKey::generate);
        let own = check::Own { key, port, overlay: self.overlay, owner: self.settings.owner };
        let mut checked = check::check(&config, own).map_err(|error| describe(&error))?;
        let expected = recovery::Expected::now(self.settings.owner, self.overlay);
        let recovery = recovery.map(|request| recovery::judge(request, &expected, &mut checked)).transpose();
        let recovery = recovery.map_err(|error| describe(&error))?;
        let agent_token = AgentToken::generate().map_err(|error| describe(&error))?;
        self.agreed = Some(Agreed {
            node_id: checked.node_id,
            address: checked.address,
            wireguard: checked.wireguard,
            keeper: checked.keeper,
            cluster_secret: config.cluster_secret,
            agent_token,
            recovery,
        });
        Ok(())
    }

    fn accept(&mut self) {
        let Some(agreed) = &self.agreed else { return };
        let agent_token = Redacted::new(agreed.agent_token.expose().to_owned());
        self.say(NodeMessage::Accepted { agent_token });
    }

    fn say(&mut self, message: NodeMessage) {
        let full = self.outgoing.as_ref().is_some_and(|outgoing| outgoing.try_send(message).is_err());
        if full {
            tracing::warn!("the gateway does not take what this node says");
            self.outgoing = None;
        }
    }

    fn close_for_good(&mut self, context: &mut Context<Self>) {
        // Our end is dropped only after what was said last is on its way: the channel is drained first.
        self.outgoing = None;
        self.own_key = None;
        self.code = None;
        *crate::supervise::lock(&self.shown) = None;
        if let Some(timer) = self.expiry.take() {
            context.cancel_future(timer);
        }
        if let Some(server) = self.server.take() {
            let stop = async move { server.stop(true).await };
            context.spawn(stop.into_actor(self).map(|(), _, _| tracing::info!("port 9999 is closed")));
        }
    }
}

impl Actor for EnrollActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.resume(context);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(server) = self.server.take() {
            // A panic ends here: the next generation must be able to bind the port.
            actix_rt::spawn(async move { server.stop(false).await });
        }
    }
}

impl Handler<OpenEnrollment> for EnrollActor {
    type Result = ();

    fn handle(&mut self, _: OpenEnrollment, context: &mut Self::Context) {
        self.open(Instant::now(), context);
    }
}

impl Handler<Happened> for EnrollActor {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, context: &mut Self::Context) {
        self.apply(event, context);
    }
}

impl Handler<Spoke> for EnrollActor {
    type Result = ();

    fn handle(&mut self, Spoke(message): Spoke, context: &mut Self::Context) {
        let event = match message {
            GatewayMessage::Waiting => Event::Acknowledged,
            GatewayMessage::Rejected { .. } => Event::Rejected,
            GatewayMessage::Registered => Event::Registered,
            GatewayMessage::RecoveryKept => {
                if let Some(kept) = self.recovery_kept.take() {
                    let _ = kept.send(());
                }
                return;
            }
            GatewayMessage::Aborted { reason } => {
                tracing::info!("enrollment aborted by the gateway: {}", orama_keyshare::printable(&reason));
                Event::Aborted
            }
            // A second configuration must not replace the one that was answered.
            GatewayMessage::Configure { .. } if self.state.phase != machine::Phase::Waiting => {
                Event::ConfigGood
            }
            GatewayMessage::Configure { config, recovery } => {
                match self.consider(config, recovery.as_ref()) {
                    Ok(()) => Event::ConfigGood,
                    Err(why) => {
                        tracing::warn!("configuration refused: {why}");
                        Event::ConfigBad(why)
                    }
                }
            }
        };
        self.apply(event, context);
    }
}

impl Handler<BindPage> for EnrollActor {
    type Result = ();

    fn handle(&mut self, _: BindPage, context: &mut Self::Context) {
        let open = !matches!(self.state.phase, machine::Phase::Closed | machine::Phase::Done);
        if open && self.server.is_none() {
            self.bind_page(context);
            if self.server.is_some() {
                self.announce();
            }
        }
    }
}
