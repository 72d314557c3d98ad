//! Judges what the guardians answer and says when there are enough good shares. Pure: it asks nobody, reads
//! no clock and waits for nothing.

use std::fmt;

use orama_protocol::agent::{GuardianStatus, UnlockStatus};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::envelope::{KeptEnvelope, OpenError, digest};
use crate::holders::{Holder, ShareSet};
use crate::key::VolumeKey;
use crate::seal::ShareSeal;
use crate::shamir::{CombineError, Share, combine};
use crate::text::printable;

/// Most guardians that a sentence for people names; the rest is counted.
const NAMED_MAX: usize = 8;

/// Why a guardian gave no bytes. Texts may come from the guardian: they are made printable here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It answered that it has no such secret.
    NoShare,
    /// It answered with an error.
    Refused(String),
    /// It holds the share down for so long, and says why.
    HeldDown {
        seconds: u64,
        text: String,
    },
    /// No connection.
    Unreachable(String),
    TimedOut,
    /// It answered something that is not the guardian's protocol.
    Malformed(String),
}

/// `refused: revoked`, `timed out`: what follows a guardian's name in a sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoShare => f.write_str("says it has no such secret"),
            Refusal::Refused(text) => write!(f, "refused: {}", printable(text)),
            Refusal::HeldDown { text, .. } => write!(f, "holds shares down until {}", printable(text)),
            Refusal::Unreachable(text) => write!(f, "unreachable: {}", printable(text)),
            Refusal::TimedOut => f.write_str("timed out"),
            Refusal::Malformed(text) => write!(f, "gave a malformed answer: {}", printable(text)),
        }
    }
}

/// What is known of one guardian in this unlock. `Good` is final; all others may change with the next answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Asked,
    Good,
    NoShare,
    Refused(String),
    HeldDown {
        seconds: u64,
        text: String,
    },
    Unreachable(String),
    TimedOut,
    /// A share of another split than the one in the header.
    WrongGeneration {
        found: u64,
    },
    /// Not the bytes that this guardian was given.
    WrongDigest,
    Malformed(String),
}

impl Verdict {
    /// The word for it in the agent's status.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Asked => "asked",
            Verdict::Good => "good",
            Verdict::NoShare => "no-share",
            Verdict::Refused(_) => "refused",
            Verdict::HeldDown { .. } => "held-down",
            Verdict::Unreachable(_) => "unreachable",
            Verdict::TimedOut => "timed-out",
            Verdict::WrongGeneration { .. } => "wrong-generation",
            Verdict::WrongDigest => "wrong-digest",
            Verdict::Malformed(_) => "malformed",
        }
    }

    /// What the word does not say; empty when it says it all.
    pub fn detail(&self) -> String {
        match self {
            Verdict::Refused(text)
            | Verdict::HeldDown { text, .. }
            | Verdict::Unreachable(text)
            | Verdict::Malformed(text) => text.clone(),
            Verdict::WrongGeneration { found } => format!("its share is of generation {found}"),
            Verdict::WrongDigest => "not the share that it was given".into(),
            Verdict::Asked | Verdict::Good | Verdict::NoShare | Verdict::TimedOut => String::new(),
        }
    }
}

/// `refused: revoked`, `timed out`: what follows a guardian's name in a sentence.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Asked => f.write_str("has not answered yet"),
            Verdict::Good => f.write_str("gave its share"),
            Verdict::NoShare => f.write_str("has no share"),
            Verdict::Refused(text) => write!(f, "refused: {text}"),
            Verdict::HeldDown { text, .. } => write!(f, "holds its share down until {text}"),
            Verdict::Unreachable(text) => write!(f, "unreachable: {text}"),
            Verdict::TimedOut => f.write_str("timed out"),
            Verdict::WrongGeneration { found } => write!(f, "gave a share of generation {found}"),
            Verdict::WrongDigest => f.write_str("gave a share that is not the one it was given"),
            Verdict::Malformed(text) => write!(f, "gave a malformed answer: {text}"),
        }
    }
}

/// An answer for a holder that the share set does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("holder {index} is none of the {n} holders")]
pub struct NoSuchHolder {
    pub index: usize,
    pub n: u8,
}

/// The answers so far for one volume and one split. Holds shares: no Debug, no Clone.
pub struct Collector {
    set: ShareSet,
    volume: [u8; 16],
    node_id: String,
    seal: Option<ShareSeal>,
    verdicts: Vec<Verdict>,
    shares: Vec<Share>,
}

impl Collector {
    /// Every holder starts as asked.
    pub fn new(set: ShareSet, volume: [u8; 16], node_id: String) -> Self {
        let verdicts = vec![Verdict::Asked; set.holders().len()];
        Self { set, volume, node_id, seal: None, verdicts, shares: Vec::new() }
    }

    /// The same, for shares that are sealed to their owner; older ones are taken as before.
    pub fn sealed_to(self, seal: ShareSeal) -> Self {
        Self { seal: Some(seal), ..self }
    }

    pub fn set(&self) -> &ShareSet {
        &self.set
    }

    /// Starts another round: holders without a good share count as asked again. Gives their indices.
    /// Good shares are kept, so that guardians need not be up at the same time.
    pub fn ask_again(&mut self) -> Vec<usize> {
        let mut open = Vec::new();
        for (index, verdict) in self.verdicts.iter_mut().enumerate() {
            if *verdict != Verdict::Good {
                *verdict = Verdict::Asked;
                open.push(index);
            }
        }
        open
    }

    /// Takes the answer of the holder at `index` of the share set. A second answer of a holder whose share
    /// is good changes nothing.
    pub fn answer(
        &mut self,
        index: usize,
        answer: Result<Zeroizing<Vec<u8>>, Refusal>,
    ) -> Result<&Verdict, NoSuchHolder> {
        let n = self.set.n();
        let Some(holder) = self.set.holders().get(index) else {
            return Err(NoSuchHolder { index, n });
        };
        if self.verdicts[index] != Verdict::Good {
            self.verdicts[index] = match answer {
                Ok(bytes) => match self.judge(holder, &bytes) {
                    Ok(share) => {
                        self.shares.push(share);
                        Verdict::Good
                    }
                    Err(verdict) => verdict,
                },
                Err(Refusal::NoShare) => Verdict::NoShare,
                Err(Refusal::TimedOut) => Verdict::TimedOut,
                Err(Refusal::Refused(text)) => Verdict::Refused(printable(&text)),
                Err(Refusal::HeldDown { seconds, text }) => {
                    Verdict::HeldDown { seconds, text: printable(&text) }
                }
                Err(Refusal::Unreachable(text)) => Verdict::Unreachable(printable(&text)),
                Err(Refusal::Malformed(text)) => Verdict::Malformed(printable(&text)),
            };
        }
        Ok(&self.verdicts[index])
    }

    /// The share in these bytes, or what is wrong with them. The digest alone decides whether they are good;
    /// the rest finds the most telling reason, and guards against a header that contradicts itself.
    fn judge(&self, holder: &Holder, bytes: &[u8]) -> Result<Share, Verdict> {
        let envelope =
            KeptEnvelope::decode(bytes).map_err(|error| Verdict::Malformed(printable(&error.to_string())))?;
        if envelope.generation() != self.set.generation() {
            return Err(Verdict::WrongGeneration { found: envelope.generation() });
        }
        if !bool::from(digest(bytes).ct_eq(&holder.digest.0)) {
            return Err(Verdict::WrongDigest);
        }
        let contradiction = if envelope.volume() != self.volume {
            "its share is of another volume"
        } else if envelope.node_id() != self.node_id {
            "its share is of another node"
        } else if envelope.x() != holder.x {
            "its share has another point"
        } else if envelope.threshold() != self.set.threshold() {
            "its share has another threshold"
        } else {
            match envelope.open(self.seal.as_ref()) {
                Ok(envelope) => return Ok(envelope.share),
                Err(OpenError::OtherKey) => "its share is sealed to another key",
                Err(OpenError::Sealed) => "its share is sealed and there is no key to open it",
            }
        };
        Err(Verdict::Malformed(contradiction.into()))
    }

    /// One verdict per holder, in the order of the share set.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The shortest time, seconds, for which a guardian holds its share down.
    pub fn held_down(&self) -> Option<u64> {
        let held = self.verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::HeldDown { seconds, .. } => Some(*seconds),
            Verdict::Asked
            | Verdict::Good
            | Verdict::NoShare
            | Verdict::Refused(_)
            | Verdict::Unreachable(_)
            | Verdict::TimedOut
            | Verdict::WrongGeneration { .. }
            | Verdict::WrongDigest
            | Verdict::Malformed(_) => None,
        });
        held.min()
    }

    /// Number of good shares.
    pub fn good(&self) -> u8 {
        self.shares.len() as u8
    }

    /// Whether there are enough good shares.
    pub fn enough(&self) -> bool {
        self.good() >= self.set.k()
    }

    /// Whether no answer is outstanding.
    pub fn all_answered(&self) -> bool {
        !self.verdicts.contains(&Verdict::Asked)
    }

    /// The volume key, as soon as there are enough good shares.
    pub fn key(&self) -> Option<Result<VolumeKey, CombineError>> {
        self.enough().then(|| combine(&self.shares, self.set.k()))
    }

    /// `2 of 3 shares: node-10.0.0.4 refused: revoked; node-10.0.0.6 timed out`.
    pub fn describe(&self) -> String {
        let mut sentence = format!("{} of {} shares", self.good(), self.set.k());
        let others: Vec<_> =
            self.set.holders().iter().zip(&self.verdicts).filter(|(_, v)| **v != Verdict::Good).collect();
        for (index, (holder, verdict)) in others.iter().take(NAMED_MAX).enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            sentence.push_str(&format!("{separator}{} {verdict}", holder.node_id));
        }
        if others.len() > NAMED_MAX {
            sentence.push_str(&format!("; and {} more", others.len() - NAMED_MAX));
        }
        sentence
    }

    /// The same for the agent's status. Attempts and the next one are the caller's to know.
    pub fn status(&self, attempts: u32, next_try_seconds: Option<u64>) -> UnlockStatus {
        UnlockStatus {
            generation: self.set.generation(),
            needed: self.set.k(),
            holders: self.set.n(),
            good: self.good(),
            guardians: self
                .set
                .holders()
                .iter()
                .zip(&self.verdicts)
                .map(|(holder, verdict)| GuardianStatus {
                    node_id: holder.node_id.clone(),
                    wg_ip: holder.wg_ip.to_string(),
                    answer: verdict.word().into(),
                    detail: verdict.detail(),
                })
                .collect(),
            next_try_seconds,
            attempts,
        }
    }
}
