//! What the demo prints: one line per step with the time since its start, and indented detail below.

use std::cell::Cell;
use std::sync::Mutex;
use std::time::Instant;

use super::story::Failure;

pub struct Narrator {
    started: Instant,
    /// What is being waited for, for the case that it does not come.
    step: Mutex<Cell<&'static str>>,
}

impl Narrator {
    pub fn start() -> Self {
        Self { started: Instant::now(), step: Mutex::new(Cell::new("start")) }
    }

    /// Names the step that begins now.
    pub fn begin(&self, step: &'static str) {
        self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner).set(step);
    }

    /// A step is done.
    pub fn say(&self, text: &str) {
        println!("{:>7.1} s  {text}", self.started.elapsed().as_secs_f64());
    }

    /// What the operator types.
    pub fn types(&self, command: &str) {
        println!("{:>9}  $ {command}", "");
    }

    /// What came of it.
    pub fn shows(&self, text: &str) {
        for line in text.lines() {
            println!("{:>9}  | {line}", "");
        }
    }

    pub fn failed(&self, failure: &Failure) {
        let step = self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get();
        println!("\nFAILED at {:.1} s in step: {step}", self.started.elapsed().as_secs_f64());
        println!("reason: {}", crate::chain(failure.reason.as_ref()));
        match &failure.serial_log {
            Some(path) => println!("serial log: {}", path.display()),
            None => println!("serial log: none, the machine was not started"),
        }
    }
}
