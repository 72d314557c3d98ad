//! System calls that profiles did not allow: from the watcher's thread into the ledger, into the logs once per kind,
//! and out again as wire types with the profile's line and a ready patch. Facts, not an actor: what was refused
//! stays known when actors are made anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use nix::errno::Errno;
use orama_policy::{Call, Consequence, Observed, Policy, patch};
use orama_protocol::refusals::{Refusal, Refusals};
use tokio::sync::mpsc;

use crate::service::log::Logs;
use crate::service::reasons::Kill;
use crate::supervise::lock;

pub mod ledger;

use ledger::{Kind, Ledger, News, Page};

/// A cloneable handle; all clones see the same ledger.
#[derive(Clone, Default)]
pub struct RefusalBook(Arc<Inner>);

#[derive(Default)]
struct Inner {
    ledger: Mutex<Ledger>,
    policies: OnceLock<BTreeMap<String, Arc<Policy>>>,
    news: OnceLock<mpsc::UnboundedSender<Line>>,
}

/// A line for the logs. There is one per kind and one when a page is full, so what waits in the queue is bounded by
/// the ledger.
struct Line {
    service: String,
    text: String,
    harmless: bool,
}

/// One sample of `orama_service_refusals_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    pub service: String,
    pub syscall: String,
    pub action: &'static str,
    pub count: u64,
}

impl RefusalBook {
    /// Names the profiles by which calls are explained, once, and starts the task that writes the log lines.
    pub fn open(&self, policies: &[Arc<Policy>], logs: Logs) {
        let by_name = policies.iter().map(|policy| (policy.name.clone(), Arc::clone(policy))).collect();
        let (sender, news) = mpsc::unbounded_channel();
        if self.0.policies.set(by_name).is_ok() && self.0.news.set(sender).is_ok() {
            actix_rt::spawn(announce(news, logs));
        }
    }

    /// Called on the watcher's thread for every refused call, before the caller is answered or killed. Never waits.
    pub fn record(&self, service: &str, call: Call, action: Consequence) {
        let mut ledger = lock(&self.0.ledger);
        let news = ledger.record(service, call, action, Timestamp::now());
        let text = match (news, ledger.page(service)) {
            (News::NewKind, Some(page)) => page.kinds().last().map(|kind| self.describe(service, kind)),
            (News::Full, _) => Some(
                "more kinds of system calls were refused than are listed; further ones are only counted"
                    .into(),
            ),
            (News::NewKind | News::Known | News::Unlisted, _) => None,
        };
        drop(ledger);
        if let (Some(text), Some(sender)) = (text, self.0.news.get()) {
            let harmless = action == Consequence::Runs;
            // Without the task nobody reads the logs either: the agent is ending.
            let _ = sender.send(Line { service: service.to_owned(), text, harmless });
        }
    }

    fn describe(&self, service: &str, kind: &Kind) -> String {
        let why = match self.policy(service) {
            Some(policy) => policy.seccomp.judge(&kind.call).to_string(),
            None => "it has no profile".into(),
        };
        format!("refused system call {}: {}; {why}", kind.call.describe(), action(kind.action))
    }

    fn policy(&self, service: &str) -> Option<&Arc<Policy>> {
        self.0.policies.get()?.get(service)
    }

    /// Before a start: see [`RefusalBook::last_kill`].
    pub fn forget_kill(&self, service: &str) {
        lock(&self.0.ledger).forget_kill(service);
    }

    /// The last process of the service that was killed for a call since [`RefusalBook::forget_kill`].
    pub fn last_kill(&self, service: &str) -> Option<Kill> {
        let ledger = lock(&self.0.ledger);
        let call = ledger.page(service)?.last_kill()?;
        let by = match self.rule(service, call) {
            Some(line) => format!("refused by {line}"),
            None => "which no line of its profile allows".into(),
        };
        Some(Kill { text: format!("{}, {by}", call.describe()) })
    }

    fn rule(&self, service: &str, call: &Call) -> Option<String> {
        self.policy(service)?.seccomp.judge(call).line()
    }

    /// All refused calls of a service.
    pub fn total(&self, service: &str) -> u64 {
        lock(&self.0.ledger).page(service).map_or(0, Page::total)
    }

    pub fn counters(&self) -> Vec<Counter> {
        let ledger = lock(&self.0.ledger);
        let of_page = |service: &str, page: &Page| {
            let counter = |(syscall, action, count): (&str, &'static str, u64)| Counter {
                service: service.to_owned(),
                syscall: syscall.to_owned(),
                action,
                count,
            };
            page.counters().map(counter).collect::<Vec<_>>()
        };
        ledger.pages().flat_map(|(service, page)| of_page(service, page)).collect()
    }

    /// What the API answers, for one service or for all. Takes milliseconds when the lists are full.
    pub fn read(&self, service: Option<&str>) -> Refusals {
        let mut pages: Vec<(String, Vec<Kind>)> = Vec::new();
        let mut answer = Refusals::default();
        // Copied, so that the watcher never waits for the patches.
        for (name, page) in
            lock(&self.0.ledger).pages().filter(|(name, _)| service.is_none_or(|s| s == *name))
        {
            pages.push((name.to_owned(), page.kinds().to_vec()));
            if page.unlisted() > 0 {
                answer.unlisted.insert(name.to_owned(), page.unlisted());
            }
        }
        for (name, kinds) in pages {
            let seen: Vec<Observed> =
                kinds.iter().map(|kind| Observed { call: kind.call.clone(), count: kind.count }).collect();
            if let Some(policy) = self.policy(&name) {
                let text = patch(policy, &seen);
                if !text.is_empty() {
                    answer.patches.insert(name.clone(), text);
                }
            }
            answer
                .refusals
                .extend(kinds.iter().zip(&seen).map(|(kind, seen)| self.to_wire(&name, kind, seen)));
        }
        answer
    }

    fn to_wire(&self, service: &str, kind: &Kind, seen: &Observed) -> Refusal {
        Refusal {
            service: service.to_owned(),
            syscall: kind.call.name(),
            number: kind.call.number,
            args: kind.call.args,
            call: kind.call.describe(),
            action: action(kind.action),
            count: kind.count,
            first_seen: kind.first_seen.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            last_seen: kind.last_seen.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            rule: self.rule(service, &kind.call),
            patch: self
                .policy(service)
                .map(|policy| patch(policy, std::slice::from_ref(seen)))
                .unwrap_or_default(),
        }
    }
}

/// `ran`, `killed`, `errno EPERM`.
fn action(action: Consequence) -> String {
    match action {
        Consequence::Errno(number) => {
            format!("errno {:?}", Errno::from_raw(i32::try_from(number).unwrap_or(0)))
        }
        Consequence::Runs | Consequence::Killed => ledger::action_word(action).to_owned(),
    }
}

async fn announce(mut news: mpsc::UnboundedReceiver<Line>, logs: Logs) {
    while let Some(Line { service, text, harmless }) = news.recv().await {
        if harmless {
            tracing::info!(service, "{text}");
        } else {
            tracing::warn!(service, "{text}");
        }
        let (logs, name) = (logs.clone(), service.clone());
        match tokio::task::spawn_blocking(move || logs.note(&name, &text)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(service, "its log does not take the line: {error}"),
            Err(error) => tracing::warn!(service, "its log does not take the line: {error}"),
        }
    }
}
