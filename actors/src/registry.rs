//! The addresses of all actors and the facts they share, in one cloneable handle. The agent's wiring makes one and
//! hands it to every constructor; nobody stores an `Addr`. Starts nothing.

use crate::boot::BootActor;
use crate::custody::CustodyActor;
use crate::enroll::EnrollActor;
use crate::facts::Facts;
use crate::health::HealthActor;
use crate::services::ServicesActor;
use crate::supervise::{Link, RestartBook};
use crate::unlock::UnlockActor;
use crate::update::UpdateActor;
use crate::wg::WgActor;

#[derive(Clone, Default)]
pub struct Registry {
    pub boot: Link<BootActor>,
    pub enroll: Link<EnrollActor>,
    pub wg: Link<WgActor>,
    pub unlock: Link<UnlockActor>,
    pub custody: Link<CustodyActor>,
    pub services: Link<ServicesActor>,
    pub update: Link<UpdateActor>,
    pub health: Link<HealthActor>,
    pub facts: Facts,
    pub restarts: RestartBook,
}
