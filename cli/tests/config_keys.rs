//! The custom resources judge `spec.config` without linking a broker; here their tables are held against the programs'
//! own, and what the operator writes is read by those who must read it.

use std::{fs, path::Path};

use crds::{Allowed, ConfigKey};

#[test]
fn the_resources_know_the_keys_that_the_programs_have() {
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(sorted(&crds::BROKER_CONFIG_KEYS), sorted(&broker::config::KNOBS));
    assert_eq!(sorted(&crds::NAME_SERVER_CONFIG_KEYS), sorted(&namesrv::config::KNOBS));
}

#[test]
fn the_resources_accept_what_a_broker_accepts() {
    for ConfigKey { name, allowed } in crds::BROKER_CONFIG {
        let values: Vec<String> = match allowed {
            Allowed::Whole { min, max } => {
                let values = [Some(min), Some(max), min.checked_sub(1), max.checked_add(1)];
                values.iter().flatten().map(u64::to_string).collect()
            }
            Allowed::OneOf(words) => {
                words.iter().chain(&["another"]).map(|word| (*word).to_owned()).collect()
            }
        };
        for value in values {
            let file = format!("dataDir: /x\nconfig: {{{name}: \"{value}\"}}");
            let broker = broker::Config::parse("broker.yaml", &file).is_ok();
            let resource = allowed.check(&value).is_ok();
            assert_eq!(resource, broker, "{name}: {value}");
        }
    }
}

#[test]
fn a_broker_reads_what_the_operator_writes_for_it() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/tests/golden");
    let mut read = 0;
    for case in fs::read_dir(golden).expect("the operator's golden files") {
        let out = fs::read_to_string(case.expect("an entry").path().join("out.yaml")).expect("out.yaml");
        for object in out.split("---\n") {
            let object: serde_yaml::Value = serde_yaml::from_str(object).expect("YAML");
            if let Some(file) = object["data"]["broker.yaml"].as_str() {
                broker::Config::parse("broker.yaml", file).unwrap_or_else(|error| panic!("{error}\n{file}"));
                read += 1;
            }
        }
    }
    assert!(read >= 5, "only {read} files were found");
}
