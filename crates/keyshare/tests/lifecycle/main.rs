//! The life of a key in a simulated cluster, over thousands of seeds, and under a model checker.
//! `LIFECYCLE_SEED=N cargo test -p orama-keyshare --test lifecycle` replays one seed.

mod model;
mod node;
mod random;
mod runs;
mod world;
