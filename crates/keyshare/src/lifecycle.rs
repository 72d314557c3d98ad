//! The life of a volume key after it was made: who keeps it, how it passes from the owner's wallet to guardians and
//! from guardians to others, and how nothing of a former split is left behind. A pure machine; the agent's
//! actor carries out what it asks for, a simulated cluster and a model checker run the same code.

mod custody;
pub mod guard;
mod machine;
mod members;
mod note;
mod round;
mod transitions;

pub use custody::{Custody, CustodyError, Guardian};
pub use machine::{ATTEMPT_PAUSE_MAX, Action, Event, Lifecycle, RECORD_PAUSE, SWEEP_LIMIT, SWEEP_PAUSE};
pub use members::{BLAMED_MAX, DEAD_AFTER, GENESIS_GUARDIANS, Members, Presence};
pub use note::{Failure, Note};
pub use round::{ASK_AGAIN, Answer, ROUND_LIMIT};
