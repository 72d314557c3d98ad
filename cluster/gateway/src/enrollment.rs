//! Enrollment: nodes wait on their sockets, an operator brings an invite and a code, and the two meet here.

pub mod attempt;
pub mod code;
pub mod machine;
pub mod socket;
pub mod waiting;
