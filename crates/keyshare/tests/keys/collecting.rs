//! The collector: lying, dead, late and confused guardians.

use orama_keyshare::collector::{Collector, NoSuchHolder, Refusal, Verdict};
use orama_keyshare::{Digest, Envelope, Holder, ShareSet, VolumeKey, digest};
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::{NODE, VOLUME, envelopes, share_set};

struct Cluster {
    key: VolumeKey,
    stored: Vec<Zeroizing<Vec<u8>>>,
    collector: Collector,
}

fn cluster(guardians: usize) -> Cluster {
    let key = VolumeKey::generate().unwrap();
    let stored = envelopes(&key, guardians, 2);
    let collector = Collector::new(share_set(&stored, 2), VOLUME, NODE.into());
    Cluster { key, stored, collector }
}

impl Cluster {
    fn good(&mut self, index: usize) -> Verdict {
        self.answer(index, Ok(self.stored[index].clone()))
    }

    fn answer(&mut self, index: usize, answer: Result<Zeroizing<Vec<u8>>, Refusal>) -> Verdict {
        self.collector.answer(index, answer).unwrap().clone()
    }

    fn unlocks(&self) -> bool {
        self.collector.key().is_some_and(|key| key.unwrap().matches(&self.key))
    }
}

#[test]
fn three_good_shares_unlock_and_two_do_not() {
    let mut cluster = cluster(5);
    assert_eq!(cluster.good(4), Verdict::Good);
    assert_eq!(cluster.good(1), Verdict::Good);
    assert!(cluster.collector.key().is_none() && !cluster.collector.enough());
    assert_eq!(cluster.good(2), Verdict::Good);
    assert!(cluster.collector.enough() && cluster.unlocks());
    assert_eq!(cluster.good(0), Verdict::Good);
    assert!(cluster.unlocks());
}

#[test]
fn the_same_guardian_counts_once() {
    let mut cluster = cluster(5);
    for _ in 0..3 {
        cluster.good(0);
    }
    assert_eq!(cluster.collector.good(), 1);
    // A good share stays good, whatever comes later.
    assert_eq!(cluster.answer(0, Err(Refusal::TimedOut)), Verdict::Good);
    // Another guardian's share is not the one that this guardian was given.
    let copied = cluster.stored[0].clone();
    assert_eq!(cluster.answer(1, Ok(copied)), Verdict::WrongDigest);
    assert_eq!(cluster.collector.good(), 1);
}

#[test]
fn bad_guardians_are_named_and_the_rest_still_unlock() {
    let mut cluster = cluster(10);
    let other_generation = envelopes(&cluster.key, 10, 1);
    let mut lie = cluster.stored[1].clone();
    *lie.last_mut().unwrap() ^= 1;
    let cut = Zeroizing::new(cluster.stored[3][..20].to_vec());
    assert_eq!(cluster.answer(1, Ok(lie)), Verdict::WrongDigest);
    let old = other_generation[2].clone();
    assert_eq!(cluster.answer(2, Ok(old)), Verdict::WrongGeneration { found: 1 });
    assert!(matches!(cluster.answer(3, Ok(cut)), Verdict::Malformed(_)));
    assert_eq!(cluster.answer(4, Err(Refusal::NoShare)), Verdict::NoShare);
    let unreachable = Refusal::Unreachable("connection refused".into());
    assert_eq!(cluster.answer(5, Err(unreachable)), Verdict::Unreachable("connection refused".into()));
    assert!(!cluster.unlocks());
    for index in [0, 6, 7, 8] {
        assert_eq!(cluster.good(index), Verdict::Good);
    }
    assert!(cluster.unlocks());
    let words: Vec<_> = cluster.collector.verdicts().iter().map(Verdict::word).collect();
    assert_eq!(
        words,
        [
            "good",
            "wrong-digest",
            "wrong-generation",
            "malformed",
            "no-share",
            "unreachable",
            "good",
            "good",
            "good",
            "asked"
        ]
    );
}

#[test]
fn a_header_that_contradicts_itself_is_not_believed() {
    let key = VolumeKey::generate().unwrap();
    let stored = envelopes(&key, 5, 2);
    let judge = |set: ShareSet, volume, node: &str| {
        let mut collector = Collector::new(set, volume, node.into());
        collector.answer(0, Ok(stored[0].clone())).unwrap().detail()
    };
    let set = share_set(&stored, 2);
    assert_eq!(judge(set.clone(), VOLUME, NODE), "");
    assert_eq!(judge(set.clone(), [0; 16], NODE), "its share is of another volume");
    assert_eq!(judge(set.clone(), VOLUME, "node-10.0.0.9"), "its share is of another node");
    let mut holders = set.holders().to_vec();
    (holders[0].x, holders[1].x) = (2, 1);
    let swapped = ShareSet::new(2, set.threshold(), holders.clone()).unwrap();
    assert_eq!(judge(swapped, VOLUME, NODE), "its share has another point");
    let sixth = Holder {
        node_id: "node-10.0.0.16".into(),
        wg_ip: [10, 0, 0, 16].into(),
        x: 6,
        digest: Digest(digest(b"")),
    };
    let mut six = set.holders().to_vec();
    six.push(sixth);
    let wider = ShareSet::new(2, orama_keyshare::Threshold::for_guardians(6).unwrap(), six).unwrap();
    assert_eq!(judge(wider, VOLUME, NODE), "its share has another threshold");
}

#[test]
fn the_sentence_and_the_status_say_who_is_missing() {
    let mut cluster = cluster(4);
    assert_eq!(
        cluster.collector.describe(),
        "0 of 3 shares: node-10.0.0.11 has not answered yet; node-10.0.0.12 has not answered yet; \
         node-10.0.0.13 has not answered yet; node-10.0.0.14 has not answered yet"
    );
    cluster.good(0);
    cluster.good(2);
    cluster.answer(1, Err(Refusal::Refused("revoked\x1b[31m\n".into())));
    assert!(!cluster.collector.all_answered());
    cluster.answer(3, Err(Refusal::TimedOut));
    assert!(cluster.collector.all_answered());
    let sentence = cluster.collector.describe();
    assert_eq!(sentence, "2 of 3 shares: node-10.0.0.12 refused: revoked?[31m?; node-10.0.0.14 timed out");
    let status = cluster.collector.status(4, Some(8));
    assert_eq!((status.generation, status.needed, status.holders, status.good), (2, 3, 4, 2));
    assert_eq!((status.attempts, status.next_try_seconds), (4, Some(8)));
    let refused = &status.guardians[1];
    assert_eq!((refused.node_id.as_str(), refused.wg_ip.as_str()), ("node-10.0.0.12", "10.0.0.12"));
    assert_eq!((refused.answer.as_str(), refused.detail.as_str()), ("refused", "revoked?[31m?"));
    assert_eq!(status.guardians[3].answer, "timed-out");

    let again = cluster.collector.ask_again();
    assert_eq!(again, [1, 3]);
    assert_eq!(cluster.collector.verdicts()[1], Verdict::Asked);
    cluster.good(3);
    assert_eq!(cluster.collector.describe(), "3 of 3 shares: node-10.0.0.12 has not answered yet");
    assert!(cluster.unlocks());
}

#[test]
fn a_sentence_about_many_guardians_stays_short() {
    let mut cluster = cluster(200);
    for index in 0..200 {
        cluster.answer(index, Err(Refusal::Refused("x".repeat(100_000))));
    }
    let sentence = cluster.collector.describe();
    assert!(sentence.starts_with("0 of 67 shares: node-10.0.0.11 refused: xxx"));
    assert!(sentence.ends_with("...; and 192 more"), "{sentence}");
    assert!(sentence.len() < 2000, "{} characters", sentence.len());
}

#[test]
fn an_answer_of_nobody_is_an_error() {
    let mut cluster = cluster(3);
    let answer = cluster.collector.answer(3, Err(Refusal::NoShare));
    assert_eq!(answer, Err(NoSuchHolder { index: 3, n: 3 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever an unlucky or hostile cluster answers: a key appears exactly when K guardians were honest,
    /// and then it is the right one.
    #[test]
    fn never_a_wrong_key(behaviours in prop::collection::vec((0u8..6, any::<u8>(), any::<u8>()), 5)) {
        let mut cluster = cluster(5);
        let mut honest = 0;
        for (index, (behaviour, at, flip)) in behaviours.into_iter().enumerate() {
            let mut bytes = cluster.stored[index].clone();
            let at = usize::from(at) % bytes.len();
            let answer = match behaviour {
                0 => Err(Refusal::TimedOut),
                1 => Err(Refusal::Refused(String::new())),
                2 => { bytes[at] ^= flip | 1; Ok(bytes) }
                3 => { bytes.truncate(at); Ok(bytes) }
                _ => { honest += 1; Ok(bytes) }
            };
            cluster.answer(index, answer);
        }
        prop_assert_eq!(usize::from(cluster.collector.good()), honest);
        prop_assert_eq!(cluster.collector.key().is_some(), honest >= 3);
        prop_assert_eq!(cluster.unlocks(), honest >= 3);
    }
}

#[test]
fn a_decoded_share_knows_its_point() {
    let stored = envelopes(&VolumeKey::generate().unwrap(), 3, 1);
    let points: Vec<u8> = stored.iter().map(|bytes| Envelope::decode(bytes).unwrap().share.x()).collect();
    assert_eq!(points, [1, 2, 3]);
}
