//! The record of holders and its JSON.

use orama_keyshare::{Digest, Holder, ShareSet, ShareSetError, Threshold, VolumeKey};
use serde_json::{Value, json};

use crate::{envelopes, share_set};

fn set() -> ShareSet {
    share_set(&envelopes(&VolumeKey::generate().unwrap(), 5, 7), 7)
}

#[test]
fn json_round_trip() {
    let set = set();
    let text = serde_json::to_string(&set).unwrap();
    assert_eq!(serde_json::from_str::<ShareSet>(&text).unwrap(), set);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["generation"], &value["k"], &value["n"]), (&json!(7), &json!(3), &json!(5)));
    let holder = &value["holders"][4];
    assert_eq!((&holder["node_id"], &holder["wg_ip"]), (&json!("node-10.0.0.15"), &json!("10.0.0.15")));
    assert_eq!(holder["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn json_that_cannot_be_right_is_refused() {
    let good = serde_json::to_value(set()).unwrap();
    let refuse = |edit: fn(&mut Value), reason: &str| {
        let mut value = good.clone();
        edit(&mut value);
        let error = serde_json::from_value::<ShareSet>(value).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error} does not say {reason}");
    };
    refuse(|v| v["generation"] = json!(0), "generation 0");
    refuse(|v| v["k"] = json!(2), "threshold");
    refuse(|v| v["k"] = json!(5), "threshold");
    refuse(|v| v["k"] = json!(256), "256");
    refuse(|v| v["n"] = json!(6), "5 holders");
    refuse(|v| v["more"] = json!(1), "unknown field");
    refuse(|v| v["holders"] = json!([]), "0 holders");
    refuse(|v| v["holders"][1]["x"] = json!(0), "point 0");
    refuse(|v| v["holders"][1]["x"] = json!(6), "point 6");
    refuse(|v| v["holders"][1]["x"] = json!(1), "holder 1 repeats");
    refuse(|v| v["holders"][2]["node_id"] = json!("node-10.0.0.11"), "holder 2 repeats");
    refuse(|v| v["holders"][2]["node_id"] = json!("a\nb"), "holder 2 has a node id");
    refuse(|v| v["holders"][3]["wg_ip"] = json!("10.0.0.11"), "holder 3 repeats");
    refuse(|v| v["holders"][3]["wg_ip"] = json!("localhost"), "invalid IPv4");
    refuse(|v| v["holders"][4]["digest"] = json!("00"), "64 lowercase hex");
    refuse(|v| v["holders"][4]["digest"] = json!("A".repeat(64)), "64 lowercase hex");
    refuse(|v| v["holders"][4]["digest"] = json!("é".repeat(32)), "64 lowercase hex");
}

#[test]
fn a_set_has_as_many_holders_as_its_threshold_says() {
    let holder = Holder {
        node_id: "node-10.0.0.11".into(),
        wg_ip: [10, 0, 0, 11].into(),
        x: 1,
        digest: Digest([0; 32]),
    };
    let threshold = Threshold::for_guardians(3).unwrap();
    let error = ShareSet::new(1, threshold, vec![holder; 2]).unwrap_err();
    assert_eq!(error, ShareSetError::Count { found: 2, n: 3 });
}
